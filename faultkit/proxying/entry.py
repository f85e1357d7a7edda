"""`faultkit.proxy`: a fault between any client and a real service, in sync tests, in asyncio and in Trio."""

from __future__ import annotations

import contextlib
import errno
import functools
from collections.abc import Callable, Sequence
from types import TracebackType

import trio

from faultkit import keywords
from faultkit.errors import Misuse, Unable, exhausted
from faultkit.proxying import resolving, toxics
from faultkit.proxying.down import UpstreamDown
from faultkit.proxying.loop import Loop
from faultkit.proxying.proxy import Proxy, Towards
from faultkit.proxying.thread import SHARED
from faultkit.proxying.toxics import Toxic
from faultkit.serving import plan as plans
from faultkit.serving import waiting, which
from faultkit.serving.entry import unittest_failed, where
from faultkit.serving.which import Which
from faultkit.trigger import At
from faultkit.trigger import chosen as trigger


class Proxying:
    """What `faultkit.proxy` gives: `with` in a thread of its own, `async with` in Trio's own loop, or in asyncio."""

    def __init__(self, made: functools.partial[Proxy], wanted: Sequence[Toxic]) -> None:
        self._made: functools.partial[Proxy] | None = made
        self._wanted = wanted
        self._proxy: Proxy | None = None
        self._here: contextlib.AsyncExitStack | None = None

    @property
    def keeps_out(self) -> bool:
        """Does its fault let no connection in?"""
        return self._made is not None and self._made.keywords["plan"].door is not None

    def open(self, loop: Loop, setup: Callable[[Proxy], None] = lambda proxy: None) -> Proxy:
        """Let it run in that loop. Who calls this checks and closes it too. Setup comes before anybody can connect."""
        if self._made is None:
            raise Misuse("this proxy has been opened before: each faultkit.proxy(...) gives one, for one `with`")
        made, self._made = self._made, None
        proxy = self._proxy = made(loop)
        for toxic in self._wanted:
            proxy.add(toxic)
        setup(proxy)
        try:
            proxy.start()
        except OSError as error:
            raise refused(error, proxy) from error
        return proxy

    def __enter__(self) -> Proxy:
        loop = SHARED.hold()
        try:
            return self.open(loop)
        except BaseException:
            SHARED.release()
            raise

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._proxy
        if self._proxy.loop.elsewhere:
            return  # a forked child leaves the `with`: the proxy is its parent's
        all_is_well = kind is None and not unittest_failed()
        try:
            if all_is_well:
                self._proxy.check()
        finally:
            try:
                self._proxy.close()
            finally:
                SHARED.release()

    async def __aenter__(self) -> Proxy:
        if waiting.running_loop() != "trio":
            return self.__enter__()
        loop = Loop()
        async with contextlib.AsyncExitStack() as stack:
            nursery = await stack.enter_async_context(trio.open_nursery())
            await nursery.start(loop.host)
            stack.callback(nursery.cancel_scope.cancel)
            proxy = self.open(loop)
            stack.callback(proxy.close)
            self._here = stack.pop_all()
        return proxy

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._here is None:
            self.__exit__(kind, error, trace)
            return
        assert self._proxy
        try:
            if kind is None and not unittest_failed():
                self._proxy.check()
        finally:
            await self._here.aclose()


def refused(error: OSError, proxy: Proxy) -> Misuse | Unable:
    """Why it cannot listen, in a sentence."""
    host, port = proxy.address
    if lacking := exhausted(error):
        return lacking
    if error.errno == errno.EADDRINUSE:
        return Misuse(f"port {port} is in use on {host}: take another, or 0 for a free one")
    return Unable(f"port {port} on {host} is refused ({error.strerror}): take 0, a free one, on loopback")


def proxy(
    upstream: str | tuple[str, int],
    fault: str | None = None,
    *,
    plan: Sequence[str] | None = None,
    when: str | Which | None = None,
    random: float | None = None,
    seed: int | None = None,
    at: At | None = None,
    after_bytes: int | None = None,
    after_sent: int | None = None,
    after_read_bytes: int | None = None,
    after_requests: int | None = None,
    after_answers: int | None = None,
    after_idle_seconds: float | None = None,
    towards: Towards = "client",
    latency_seconds: float = 0.0,
    jitter_seconds: float = 0.0,
    rate: float | None = None,
    upstream_down: UpstreamDown = "reset",
    host: str | None = None,
    port: int = 0,
    ipv6: bool = False,
    beyond_loopback: bool = False,
    must_be_met: bool = True,
    keep: bool = True,
) -> Proxying:
    """A proxy in front of a real service: `with faultkit.proxy(("localhost", 6379), "linger") as proxy:`, or `async with`.

    upstream          the service: "localhost:6379", or host and port; its name is looked up anew for each connection
    fault, plan, random, at, after_...   as `faultkit.serve` takes them; what is counted is what goes through
    when              which connections they are for, as there
    seed              repeats the faults of `random`, and the lots, jitter and slices of toxics
    towards           whose connection has the fault: the "client"'s, the one to the "upstream", or "both"
    latency_seconds   a round trip takes that much longer, give or take jitter_seconds, uniformly; order is kept
    rate              bytes per second that a connection takes in each direction
    upstream_down     what the client meets where the service takes no connection: "reset", "close", "hang", or "refuse"
    host, port, ipv6  where it listens: loopback and a free port; another host only with beyond_loopback
    must_be_met       a fault that nobody met is an error at the end of the `with`: `FaultNotMet`
    keep              connections that have ended stay in `proxy.connections`

    Raises `Misuse` for what cannot mean anything, and `Unable` where this machine cannot.
    """
    given = locals()
    set_off = trigger(
        at=at,
        after_bytes=after_bytes,
        after_sent=after_sent,
        after_read_bytes=after_read_bytes,
        after_requests=after_requests,
        after_answers=after_answers,
        after_idle_seconds=after_idle_seconds,
    )
    if set_off and set_off.kind in ("client-hello", "handshake"):
        raise Misuse(f"at={set_off.kind!r} never comes: what goes through is not decrypted; take after_bytes")
    chosen = plans.chosen(fault, plan, random, seed if random is not None else None, set_off)
    if chosen.gated:
        raise Misuse("a plan of a proxy begins when a connection is there: serve what keeps clients out alone")
    choice = which.chosen(when)
    if choice:
        which.check(chosen, tls=False)
    keywords.check(proxy, given)  # what none of those has looked at
    if rate == 0:
        raise Misuse("rate=0 lets nothing pass: leave it out, or name the fault stall if that is meant")
    _, address = where(host, ipv6, beyond_loopback)
    which.check_spoken(when, "", address)
    if isinstance(port, bool) or not isinstance(port, int) or not 0 <= port <= 65535:
        raise Misuse(f"port={port!r} is no port: it is 0 to 65535, 0 for a free one")
    there = resolving.endpoint(upstream)
    if not there.port:
        raise Misuse(f"{there} names port 0, where nobody listens: take the service's own")
    if not beyond_loopback and not resolving.is_near(resolving.literal(there) or []):
        raise Misuse(f"{there} is outside the own network: beyond_loopback allows any service")
    made = functools.partial(
        Proxy,
        listen=(address, port),
        upstream=upstream,
        seed=seed,
        plan=chosen,
        which=choice,
        towards=towards,
        upstream_down=upstream_down,
        beyond_loopback=beyond_loopback,
        must_be_met=must_be_met,
        keep=keep,
    )
    wanted = []
    if latency_seconds or jitter_seconds:
        wanted.append(toxics.latency(latency_seconds, jitter_seconds=jitter_seconds, name="latency"))
    if rate is not None:
        wanted.append(toxics.bandwidth(rate, name="rate").towards("both"))
    return Proxying(made, wanted)
