"""The proxies by their names, and what is asked of them: each request is done whole or not at all."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from faultkit.controlling import addresses, body, refusal
from faultkit.controlling.addresses import NoAddress
from faultkit.controlling.refusal import Refusal
from faultkit.controlling.toxic import Document, attributes_of, of_toxic, read_toxic, toxics_of
from faultkit.errors import Misuse
from faultkit.proxying.down import UpstreamDown
from faultkit.proxying.loop import Loop
from faultkit.proxying.proxy import Event, NoToxic, Proxy, Taken
from faultkit.proxying.resolving import Endpoint
from faultkit.proxying.toxics import Toxic


@dataclass(frozen=True, slots=True)
class Settings:
    """What all proxies of a server have in common."""

    seed: int | None = None
    upstream_down: UpstreamDown = "close"
    beyond_loopback: bool = False  # services may be outside the own network
    everywhere: bool = False  # a proxy without a host listens on all addresses
    tell: Callable[[Event], None] | None = None


class Kept:
    """A proxy, and its address as it was written where it has never listened there."""

    def __init__(self, proxy: Proxy, written: str | None) -> None:
        self.proxy = proxy
        self.written = written

    @property
    def listen(self) -> str:
        """Its address as clients are told it."""
        return self.proxy.listen if self.written is None else self.written

    def document(self) -> Document:
        """As the API answers it."""
        return {
            "name": self.proxy.name,
            "listen": self.listen,
            "upstream": self.proxy.upstream,
            "enabled": self.proxy.enabled,
            "toxics": self.toxics(),
        }

    def toxics(self) -> list[Document]:
        """Its toxics, as the API answers them."""
        return [of_toxic(toxic) for toxic in self.proxy.toxics]


@dataclass(frozen=True, slots=True)
class Wanted:
    """A proxy as a body describes it. What is None was left out."""

    name: str
    listen: str
    upstream: str
    enabled: bool | None
    toxics: list[Toxic] | None


class Proxies:
    """All of a server's. Everything is to be called in the loop's thread."""

    def __init__(self, loop: Loop, settings: Settings) -> None:
        self._loop = loop
        self._settings = settings
        self._kept: dict[str, Kept] = {}
        self._seed = random.SystemRandom().getrandbits(32) if settings.seed is None else settings.seed

    def __iter__(self) -> Iterator[Kept]:
        return iter(list(self._kept.values()))

    def named(self, name: str) -> Kept:
        """The one of that name. Raises `Refusal`."""
        try:
            return self._kept[name]
        except KeyError:
            raise refusal.no_proxy() from None

    async def create(self, given: Any) -> Kept:
        """A new one. Raises `Refusal`."""
        wanted = _wanted(given)
        if wanted.name in self._kept:
            raise refusal.proxy_exists()
        enabled = wanted.enabled is not False
        where = await self._where(wanted.listen) if enabled else None
        if wanted.name in self._kept:  # made while a name was looked up
            raise refusal.proxy_exists()
        return self._make(wanted, where)

    async def populate(self, given: Any, done: list[Kept]) -> None:
        """All of them, in order: `done` has those that are as they were wanted, also where the next one raises `Refusal`."""
        if given is None:
            given = []
        if not isinstance(given, list):
            raise body.mistyped(given, "[]Proxy", "[]Proxy")
        every = [_wanted(one, f" at proxy {number}") for number, one in enumerate(given, 1)]
        for wanted in every:
            done.append(await self._populate(wanted))

    async def _populate(self, wanted: Wanted) -> Kept:
        kept = self._kept.get(wanted.name)
        if kept is None:
            where = await self._where(wanted.listen) if wanted.enabled is not False else None
            kept = self._kept.get(wanted.name)
            if kept is None:
                return self._make(wanted, where)
        before = kept.listen, kept.proxy.upstream
        await self._change(kept, wanted.listen, wanted.upstream, wanted.enabled)
        if wanted.toxics is not None:
            kept.proxy.replace_toxics(wanted.toxics)
        elif before != (kept.listen, kept.proxy.upstream):
            kept.proxy.replace_toxics([])
        return kept

    async def update(self, name: str, given: Any) -> Kept:
        """Change what the body names. Raises `Refusal`."""
        kept = self.named(name)
        told = body.fields(given, "Proxy")
        body.text(told, "name", "Proxy", "")
        listen = body.text(told, "listen", "Proxy", kept.listen)
        upstream = body.text(told, "upstream", "Proxy", kept.proxy.upstream)
        enabled = body.truth(told, "enabled", "Proxy")
        wanted = toxics_of(told) if "toxics" in told else None
        await self._change(kept, listen, upstream, kept.proxy.enabled if enabled is None else enabled)
        if wanted is not None:
            kept.proxy.replace_toxics(wanted)
        return kept

    async def _change(self, kept: Kept, listen: str, upstream: str, enabled: bool | None) -> None:
        """All of it or nothing. Where nothing is said of enabled, one that becomes another is, as a new one would be."""
        try:
            where = await addresses.resolved(listen, everywhere=self._settings.everywhere)
        except NoAddress as error:
            raise Refusal(str(error), 500) from None
        if self._kept.get(kept.proxy.name) is not kept:  # it was deleted while a name was looked up
            raise refusal.no_proxy()
        proxy = kept.proxy
        moved = kept.written is not None or str(where) != proxy.listen
        other = moved or upstream != proxy.upstream
        run = (other or proxy.enabled) if enabled is None else enabled
        try:
            proxy.change(
                listen=where if moved else None,
                upstream=addresses.service(upstream) if upstream != proxy.upstream else None,
                enabled=run,
            )
        except OSError as error:
            raise addresses.cannot_listen(where, error) from None
        if run:
            kept.written = None
        elif moved:
            kept.written = listen

    def delete(self, name: str) -> None:
        """Raises `Refusal`."""
        self.named(name).proxy.close("deleted")
        del self._kept[name]

    async def reset(self) -> None:
        """All of them enabled, none with a toxic. Raises `Refusal`, and nothing has changed then."""
        started: list[tuple[Kept, str | None]] = []
        try:
            for kept in self:
                if not kept.proxy.enabled:
                    before = kept.written
                    await self._change(kept, kept.listen, kept.proxy.upstream, True)
                    started.append((kept, before))
        except Refusal:
            for kept, before in started:
                kept.proxy.stop()
                kept.written = before
            raise
        for kept in self:
            kept.proxy.replace_toxics([])

    def close(self, why: str) -> None:
        """The end of them all."""
        for kept in self:
            kept.proxy.close(why)

    # Toxics.

    def add_toxic(self, name: str, given: Any) -> Document:
        """Raises `Refusal`."""
        kept = self.named(name)
        toxic = read_toxic(given, {one.name for one in kept.proxy.toxics})
        try:
            return of_toxic(kept.proxy.add(toxic))
        except Taken:
            raise refusal.toxic_exists() from None
        except Misuse as error:
            raise refusal.bad_body(str(error)) from None

    def toxic(self, name: str, toxic: str) -> Document:
        """Raises `Refusal`."""
        kept = self.named(name)
        try:
            return of_toxic(kept.proxy.toxic(toxic))
        except NoToxic:
            raise refusal.no_toxic() from None

    def update_toxic(self, name: str, toxic: str, given: Any) -> Document:
        """Merge its attributes in, and set its toxicity. Raises `Refusal`, and nothing has changed then."""
        kept = self.named(name)
        self.toxic(name, toxic)
        told = body.fields(given, "Toxic")
        type = kept.proxy.toxic(toxic).type
        attributes = attributes_of(told, type)
        toxicity = body.single(told, "toxicity", "")
        try:
            return of_toxic(kept.proxy.update(toxic, attributes, toxicity))
        except Misuse as error:
            raise refusal.bad_body(str(error)) from None

    def remove_toxic(self, name: str, toxic: str) -> None:
        """Raises `Refusal`."""
        kept = self.named(name)
        try:
            kept.proxy.remove(toxic)
        except NoToxic:
            raise refusal.no_toxic() from None

    # How they are made.

    async def _where(self, listen: str) -> Endpoint:
        try:
            return await addresses.resolved(listen, everywhere=self._settings.everywhere)
        except NoAddress as error:
            raise Refusal(f"listen tcp: {error}", 500) from None

    def _make(self, wanted: Wanted, where: Endpoint | None) -> Kept:
        proxy = Proxy(
            self._loop,
            where or Endpoint(addresses.LOOPBACK, 0),
            addresses.service(wanted.upstream),
            name=wanted.name,
            seed=random.Random(f"{self._seed} {wanted.name}").getrandbits(32),
            upstream_down=self._settings.upstream_down,
            beyond_loopback=self._settings.beyond_loopback,
            listen_beyond=True,
            keep=False,
        )
        proxy.tell = self._settings.tell
        proxy.replace_toxics(wanted.toxics or [])
        if where:
            try:
                proxy.start()
            except OSError as error:
                raise addresses.cannot_listen(where, error) from None
        kept = self._kept[wanted.name] = Kept(proxy, None if where else wanted.listen)
        return kept


def _wanted(given: Any, where: str = "") -> Wanted:
    told = body.fields(given, "Proxy")
    name, listen, upstream = (body.text(told, field, "Proxy", "") for field in ("name", "listen", "upstream"))
    enabled = body.truth(told, "enabled", "Proxy")
    for field, value in (("name", name), ("upstream", upstream)):
        if not value:
            raise refusal.missing(field + where)
    return Wanted(name, listen, upstream, enabled, toxics_of(told) if "toxics" in told else None)
