"""`faultkit.serve`: a fault on a port, for any client, in sync tests, in asyncio and in Trio."""

from __future__ import annotations

import contextlib
import errno
import ipaddress
import os
import socket
import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from types import TracebackType
from typing import Any, Generic, TypeVar

import trio

from faultkit import keywords
from faultkit.errors import Misuse, Unable, exhausted
from faultkit.serving import answers, bridge, datagrams, udp, waiting, which
from faultkit.serving import plan as plans
from faultkit.serving import unix as unix_sockets
from faultkit.serving.answers import Answer
from faultkit.serving.datagrams import UdpAnswer
from faultkit.serving.door import Door
from faultkit.serving.engine import SHARED, Engine
from faultkit.serving.gate import Gate
from faultkit.serving.http2 import Http2
from faultkit.serving.record import Connection
from faultkit.serving.server import Server
from faultkit.serving.tls import Tls
from faultkit.serving.udp import Datagram, UdpServer
from faultkit.serving.which import Which
from faultkit.trigger import At
from faultkit.trigger import chosen as trigger

S = TypeVar("S", Server, UdpServer)


class AnyServing(Generic[S]):
    """A server that is opened by `with`, in a thread of its own, or by `async with`, in Trio's own loop or asyncio's."""

    def __init__(self, server: S) -> None:
        self._server: S = server
        self._here: contextlib.AsyncExitStack | None = None

    def open(self, engine: Engine) -> S:
        """Serve with that engine. Who calls this checks and closes it too."""
        self._server.open(engine)
        return self._server

    def __enter__(self) -> S:
        engine = SHARED.hold()
        try:
            return self.open(engine)
        except BaseException:
            SHARED.release()
            raise

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._server.elsewhere:
            return  # a forked child leaves the `with`: the server is its parent's
        all_is_well = kind is None and not unittest_failed()
        try:
            if all_is_well:
                self._server.check()
        finally:
            try:
                self._server.close()
            finally:
                SHARED.release()
        if all_is_well:
            self._server.check_crash()

    async def __aenter__(self) -> S:
        if waiting.running_loop() != "trio":
            return self.__enter__()
        engine = Engine()
        async with contextlib.AsyncExitStack() as stack:
            nursery = await stack.enter_async_context(trio.open_nursery())
            await nursery.start(engine.run)
            stack.callback(nursery.cancel_scope.cancel)
            self._server.open(engine)
            stack.push_async_callback(self._server.aclose)
            self._here = stack.pop_all()
        return self._server

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._here is None:
            self.__exit__(kind, error, trace)
            return
        all_is_well = kind is None and not unittest_failed()
        try:
            if all_is_well:
                await self._server.acheck()
        finally:
            await self._here.aclose()
        if all_is_well:
            self._server.check_crash()


class Serving(AnyServing[Server]):
    """What `faultkit.serve` gives."""


class ServingUdp(AnyServing[UdpServer]):
    """What `faultkit.serve_udp` gives."""


def unittest_failed() -> bool:
    """Is this the clean-up of a unittest test that has failed by itself? `enterContext` says nothing of that to the context
    manager, whose own complaint would come on top."""
    case, frame = sys.modules.get("unittest.case"), sys._getframe()
    while case and (frame := frame.f_back):  # type: ignore[assignment]  # None above the first
        if frame.f_code is case.TestCase.run.__code__:
            return _told_of(frame.f_locals["self"], frame.f_locals["result"])
    return False


def _told_of(test: object, result: object) -> bool:
    """Has that test's failure, or why it was skipped, been told to the result? pytest is its own, and keeps it so."""
    told = [getattr(result, kind, ()) for kind in ("failures", "errors", "skipped", "expectedFailures")]
    ours = any(getattr(case, "test_case", case) is test for kind in told for case, _ in kind)  # a subTest's has that
    return ours or bool(getattr(result, "_excinfo", None))


def serve(
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
    answer: Answer = "echo",
    latency_seconds: float = 0.0,
    rate: float | None = None,
    tls: bool | Tls = False,
    host: str | None = None,
    port: int = 0,
    ipv6: bool = False,
    beyond_loopback: bool = False,
    unix: bool | str | os.PathLike[str] = False,
    must_be_met: bool = True,
) -> Serving:
    """A server with a fault: `with faultkit.serve("linger") as server:`, or `async with`.

    fault             the fault of every connection, by name: `faultkit serve` lists them; None or "ok": a healthy server
    plan              instead: the fault of each connection in turn, "ok" for none; those after the last are healthy
    when              which connections they are for: "path=/upload*", "method=POST", "first=TEXT", "peer=ADDRESS", or a function
                      of `faultkit.Opening`, asked once when the first bytes are there; the others are healthy
    random, seed      each connection has the fault, or one of all, with that probability; the seed repeats it exactly
    at, after_...     when it sets in (`faultkit.trigger.Trigger`); each fault has one of its own where none is named
    answer            what a healthy connection says: "echo", "http", `faultkit.Http(...)` or a list of those, "http2",
                      "websocket", "redis", "smtp", bytes (whenever something comes), or the test's own
                      `async def handler(conn)`, which runs in Trio (`Live`)
    latency_seconds   a round trip takes that much longer: what comes is heard so much later, each byte by itself
    rate              bytes per second that the line takes in each direction
    tls               TLS with a test authority: `server.client_context`, `server.ca_file`; `faultkit.Tls(...)` for ALPN, other
                      names, an expired or untrusted certificate, one of the client's, and for a handler's `start_tls()`
    host, port, ipv6  where it listens: loopback and a free port; another host only with beyond_loopback
    unix              or at this path, or at one in a new directory: `server.path`
    must_be_met       a fault that nobody met is an error at the end of the `with`: `FaultNotMet`

    Raises `Misuse` for what cannot mean anything, and `Unable` where this machine cannot.
    """
    return Serving(
        made(
            fault,
            plan=plan,
            when=when,
            random=random,
            seed=seed,
            at=at,
            after_bytes=after_bytes,
            after_sent=after_sent,
            after_read_bytes=after_read_bytes,
            after_requests=after_requests,
            after_answers=after_answers,
            after_idle_seconds=after_idle_seconds,
            answer=answer,
            latency_seconds=latency_seconds,
            rate=rate,
            tls=tls,
            host=host,
            port=port,
            ipv6=ipv6,
            beyond_loopback=beyond_loopback,
            unix=unix,
            must_be_met=must_be_met,
        )
    )


def serve_udp(
    fault: str | None = None,
    *,
    plan: Sequence[str] | None = None,
    answer: UdpAnswer = "echo",
    host: str | None = None,
    port: int = 0,
    ipv6: bool = False,
    beyond_loopback: bool = False,
    must_be_met: bool = True,
) -> ServingUdp:
    """A UDP server with a fault: `with faultkit.serve_udp("silence") as server:`, or `async with`.

    fault             the fault of every datagram: `faultkit.serving.udp.FAULTS` has them; None or "ok": a healthy server
    plan              instead: the fault of each datagram in turn, "ok" for none; those after the last are answered
    answer            what a datagram is answered with: "echo", "dns" (127.0.0.1 and ::1 for every name), bytes, or a function of
                      its bytes, which gives bytes or None
    host, port, ipv6  where it listens, as `serve`
    must_be_met       a fault that nobody met is an error at the end of the `with`: `FaultNotMet`

    Raises `Misuse` for what cannot mean anything, and `Unable` where this machine cannot.
    """
    return ServingUdp(
        made_udp(
            fault,
            plan=plan,
            answer=answer,
            host=host,
            port=port,
            ipv6=ipv6,
            beyond_loopback=beyond_loopback,
            must_be_met=must_be_met,
        )
    )


def made_udp(
    fault: str | None,
    *,
    plan: Sequence[str] | None = None,
    answer: UdpAnswer = "echo",
    host: str | None = None,
    port: int = 0,
    ipv6: bool = False,
    beyond_loopback: bool = False,
    must_be_met: bool = True,
    each: Callable[[Datagram], None] | None = None,
) -> UdpServer:
    """The server, bound and not yet open. `each` is told of each datagram; they are not kept then."""
    given = locals()
    chosen = udp.chosen(fault, plan)
    answering = datagrams.answering(answer)
    _check_port(port)
    keywords.check(serve_udp, given)
    family, name = where(host, ipv6, beyond_loopback)
    try:
        sock = udp.bound(family, name, port)
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            raise Misuse(f"port {port} is in use on {name}: leave it out to get a free one") from error
        raise exhausted(error) or Unable(
            f"port {port} on {name} is refused ({error.strerror}): leave both out"
        ) from error
    return UdpServer(sock, chosen, answering, must_be_met, each)


def made(
    fault: str | None,
    *,
    plan: Sequence[str] | None = None,
    when: str | Which | None = None,
    random: float | None = None,
    seed: int | None = None,
    answer: Answer = "echo",
    latency_seconds: float = 0.0,
    rate: float | None = None,
    tls: bool | Tls = False,
    host: str | None = None,
    port: int = 0,
    ipv6: bool = False,
    beyond_loopback: bool = False,
    unix: bool | str | os.PathLike[str] = False,
    must_be_met: bool = True,
    each: Callable[[Connection], None] | None = None,
    **moment: Any,
) -> Server:
    """The server, bound and not yet open. `each` is told of each connection that has ended; they are not kept then."""
    from faultkit.serving import tls as certificates

    given = {**locals(), **moment}
    spoken = _spoken(tls, answer)
    set_off = trigger(**moment)
    if set_off and set_off.kind in ("client-hello", "handshake") and not spoken:
        raise Misuse(f"at={set_off.kind!r} never comes without TLS: add tls=True")
    chosen = plans.chosen(fault, plan, random, seed, set_off, tls=spoken is not None)
    choice = which.chosen(when)
    if choice:
        which.check(chosen, tls=spoken is not None or unix is not False)
    handler = answers.chosen(answer)
    protocol = answers.protocol(handler)
    plans.check_spoken(chosen, protocol, tls=spoken is not None)
    _check_line(latency_seconds, rate)
    _check_port(port)
    keywords.check(serve, given)  # what none of those has looked at
    if unix is not False:
        if host or port or ipv6 or beyond_loopback or tls or latency_seconds or rate:
            raise Misuse(
                "unix= with host, port, ipv6, beyond_loopback, tls, latency_seconds or rate: these are TCP's; leave them out"
            )
        unix_sockets.check(chosen, set_off)
        which.check_spoken(when, protocol, "")
        door: Door = unix_sockets.UnixDoor(None if unix is True else os.fspath(unix))
        return Server(door, chosen, handler, None, must_be_met, each, choice)
    family, name = where(host, ipv6, beyond_loopback)
    which.check_spoken(when, protocol, name)
    if spoken and spoken.later and answers.is_ours(handler) and protocol != "smtp":
        raise Misuse(
            "Tls(later=True): TLS begins when a handler says await conn.start_tls(), or with answer='smtp': take one of them"
        )
    authority = certificates.authority(name, _named(spoken, name)) if spoken else None
    door = _bound(family, name, port)
    try:
        gate = Gate(door) if chosen.gated else None
    except BaseException:
        door.close()
        raise
    return Server(
        door,
        chosen,
        handler,
        authority,
        must_be_met,
        each,
        choice,
        gate,
        latency_seconds,
        rate or 0.0,
        bool(spoken and spoken.later),
    )


def _spoken(tls: object, answer: Answer) -> Tls | None:
    """How TLS is spoken; None where it is not. HTTP/2 agrees to itself."""
    if not isinstance(tls, bool | Tls):
        raise Misuse(f"tls={tls!r} says nothing of TLS: it is True, or faultkit.Tls(...)")
    asked = tls if isinstance(tls, Tls) else Tls() if tls else None
    if asked and not asked.alpn and (answer == "http2" or isinstance(answer, Http2)):
        return replace(asked, alpn=("h2",))
    return asked


def _named(spoken: Tls, host: str) -> Tls:
    """With the names by which a container asks for it, where it listens on every address."""
    if spoken.names or not ipaddress.ip_address(host).is_unspecified:
        return spoken
    names = ["localhost", "127.0.0.1", "::1", "host.docker.internal"]
    with contextlib.suppress(Unable):  # nobody asks for it then
        names.append(bridge.address(host))
    return replace(spoken, names=names)


def _check_line(latency_seconds: object, rate: object) -> None:
    for name, value, unit in (("latency_seconds", latency_seconds, "seconds"), ("rate", rate, "bytes per second")):
        if isinstance(value, bool) or not isinstance(value, int | float | None):
            raise Misuse(f"{name}={value!r} is not a number of {unit}")
    if not (isinstance(latency_seconds, int | float) and 0 <= latency_seconds < 2**31):
        raise Misuse(f"latency_seconds={latency_seconds}: it is 0 or more, and less than {2**31}")
    if isinstance(rate, int | float) and not 1 <= rate < 2**63:
        raise Misuse(f"rate={rate}: it is 1 or more, or left out")


def where(host: str | None, ipv6: bool, beyond_loopback: bool) -> tuple[socket.AddressFamily, str]:
    if host is None or host == "localhost":
        return (socket.AF_INET6, "::1") if ipv6 else (socket.AF_INET, "127.0.0.1")
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        raise Misuse(f"host={host!r} is not an address: leave it out for loopback") from None
    if ipv6 and address.version == 4:
        raise Misuse(f"host={host!r} is no IPv6 address: leave ipv6 out")
    if not (address.is_loopback or beyond_loopback):
        raise Misuse(
            f"host={host!r} is not loopback, and others could reach what is broken on purpose: "
            "say beyond_loopback if that is meant"
        )
    return (socket.AF_INET6 if address.version == 6 else socket.AF_INET), str(address)


def _check_port(port: object) -> None:
    if isinstance(port, bool) or not isinstance(port, int) or not 0 <= port <= 65535:
        raise Misuse(f"port={port!r} is no port: it is 0 to 65535, 0 for a free one")


def _bound(family: socket.AddressFamily, host: str, port: int) -> Door:
    try:
        return Door(family, host, port)
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            raise Misuse(f"port {port} is in use on {host}: leave it out to get a free one") from error
        if error.errno == errno.EADDRNOTAVAIL and host == "::1":
            raise Unable(
                f"IPv6 loopback is not there ({error.strerror}): sysctl net.ipv6.conf.lo.disable_ipv6=0, or serve over IPv4"
            ) from error
        raise exhausted(error) or Unable(
            f"port {port} on {host} is refused ({error.strerror}): leave both out to get a free port on loopback"
        ) from error
