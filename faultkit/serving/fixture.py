"""The servers of one test: what the pytest fixtures give. Knows nothing of pytest."""

from __future__ import annotations

import contextlib
import difflib
import reprlib
import traceback
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from inspect import signature
from typing import Any, Concatenate, ParamSpec, Protocol, TypeVar

from faultkit.errors import Misuse, Unable
from faultkit.serving import tracebacks
from faultkit.serving.engine import Engine
from faultkit.serving.entry import serve, serve_udp
from faultkit.serving.server import FaultNotMet, HandlerCrashed, Server
from faultkit.serving.udp import UdpServer

SHOWN = 50  # connections of one server in a report; arbitrary
SHORT = reprlib.Repr()
SHORT.maxstring = SHORT.maxother = 80  # characters of an answer, of a plan; arbitrary

P = ParamSpec("P")
Self = TypeVar("Self")
One = TypeVar("One")


class Runs(Protocol):
    """What servers run in: an engine."""

    @property
    def elsewhere(self) -> bool: ...


def taking(
    _opens: Callable[P, object], _self: type[Self], _gives: type[One]
) -> Callable[[Callable[..., One]], Callable[Concatenate[Self, P], One]]:
    """Types a method as taking what `faultkit.serve` takes: its keywords are listed there, and nowhere else."""
    return lambda method: method


@dataclass(eq=False)
class _Opened:
    server: Any  # a Server, or a Proxy
    call: str  # as it was written, with the defaults
    complaint: str | None = None

    @contextlib.contextmanager
    def heard(self) -> Iterator[None]:
        """What is wrong is written down, the first that is."""
        try:
            yield
        except (FaultNotMet, HandlerCrashed, Unable, TimeoutError) as error:
            self.complaint = self.complaint or f"{type(error).__name__}: {error}"


class Opener:
    """Opens what a test asks for, any number of times.

    Who made it checks and closes it, and asks for the `complaints`; a test does nothing of that.
    """

    def __init__(
        self, opens: Callable[..., Any], engine: Runs, name: str | None, defaults: Mapping[str, Any], fixture: str
    ) -> None:
        """The name is the one by which a test calls it, for reports."""
        known = tuple(signature(opens).parameters)
        if not isinstance(defaults, Mapping):
            raise Misuse(f"{fixture}_defaults={defaults!r}: it gives a dict of keywords, such as {{'ipv6': True}}")
        for keyword in defaults:
            if keyword not in known:
                near = difflib.get_close_matches(keyword, known, n=1)
                raise Misuse(
                    f"{fixture}_defaults: faultkit.{opens.__name__} takes no {keyword!r}: "
                    + (f"did you mean {near[0]}?" if near else f"it takes {', '.join(known)}")
                )
        self._opens = opens
        self._engine = engine
        self._name = name
        self._defaults = defaults
        self._opened: list[_Opened] = []
        self._closed = False

    def open(self, *given: Any, **keywords: Any) -> Any:
        """One more, with the defaults."""
        __tracebackhide__ = True  # pytest's: a keyword that is not taken is the caller's matter
        if self._closed:
            raise Misuse(f"the test that asked for this {self._name} has ended: ask for the fixture again")
        if self._engine.elsewhere:
            raise Misuse(
                f"this process was forked from the test's, which checks and closes what {self._name} opens: "
                f"open one here by `with faultkit.{self._opens.__name__}(...)`"
            )
        in_place = list(signature(self._opens).parameters)[: len(given)]
        merged = {**{name: value for name, value in self._defaults.items() if name not in in_place}, **keywords}
        server = self._opens(*given, **merged).open(self._engine)
        written = [*map(_written, given), *(f"{name}={_written(value)}" for name, value in merged.items())]
        self._opened.append(_Opened(server, f"{self._name}({', '.join(written)})"))
        return server

    @property
    def complaints(self) -> list[str]:
        """What is known to be wrong: one sentence for each server whose fault nobody met or whose handler crashed."""
        return [opened.complaint for opened in self._opened if opened.complaint]

    def begin_again(self) -> None:
        """Let every server be as it was opened, for another test: nothing was seen, and nothing is wrong."""
        for opened in self._opened:
            opened.complaint = None
            opened.server.rearm()

    def check(self) -> None:
        """Find out what is wrong, from a thread that is not the servers'."""
        for opened in self._opened:
            if not self._closed:
                with opened.heard():
                    opened.server.check()

    def close(self) -> None:
        """Close every server, from a thread that is not theirs. What goes wrong then is in `complaints` too."""
        self._closed = True
        for opened in self._opened:
            with opened.heard():
                opened.server.close()
                opened.server.check_crash()

    async def acheck(self) -> None:
        """`check`, in the loop in which the servers run."""
        for opened in self._opened:
            with opened.heard():
                await opened.server.acheck()

    async def aclose(self) -> None:
        """`close`, in the loop in which the servers run."""
        self._closed = True
        for opened in self._opened:
            with opened.heard():
                await opened.server.aclose()
                opened.server.check_crash()

    def __str__(self) -> str:
        """What each server saw, for the report of a test that failed."""
        return "\n".join(_told(opened) for opened in self._opened)


class FaultServer(Opener):
    """Called as `faultkit.serve` is, any number of times, it gives each `Server` at once."""

    def __init__(self, engine: Engine, name: str | None, defaults: Mapping[str, Any]) -> None:
        super().__init__(serve, engine, name, defaults, "fault_server")

    @taking(serve, Opener, Server)
    def __call__(self, *fault: Any, **keywords: Any) -> Any:
        __tracebackhide__ = True
        return self.open(*fault, **keywords)


class FaultServerUdp(Opener):
    """Called as `faultkit.serve_udp` is, any number of times, it gives each `UdpServer` at once."""

    def __init__(self, engine: Engine, name: str | None) -> None:
        super().__init__(serve_udp, engine, name, {}, "fault_server_udp")

    @taking(serve_udp, Opener, UdpServer)
    def __call__(self, *fault: Any, **keywords: Any) -> Any:
        __tracebackhide__ = True
        return self.open(*fault, **keywords)


def _told(opened: _Opened) -> str:
    server = opened.server
    seen = server.connections
    nobody = ": clients met the closed door" if server.turned_away else ": no connection came"
    lines = [f"{opened.call} {getattr(server, 'place', f'on port {server.port}')}" + ("" if seen else nobody)]
    if server.seed is not None:
        lines.append(f"  seed={server.seed} repeats these faults")
    if len(seen) > SHOWN:
        lines.append(f"  {len(seen) - SHOWN} connections before these")
    lines += [f"  {record!r}" for record in seen[-SHOWN:]]
    try:
        server.check_crash()
    except (HandlerCrashed, Unable) as crash:
        if (error := crash.__cause__) and (trace := tracebacks.behind_us(error)):
            lines += "".join(traceback.format_exception(type(error), error, trace)).splitlines()
    return "\n".join(lines)


def _written(value: object) -> str:
    return getattr(value, "__name__", None) or SHORT.repr(value)
