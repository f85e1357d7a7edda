"""Every fault that can be served: the causes that have a server's half, and what testers ask for beside them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from faultkit import causes
from faultkit.cause import FAMILIES, Served
from faultkit.errors import Misuse, Unable
from faultkit.serving import words
from faultkit.trigger import Trigger

if TYPE_CHECKING:
    from faultkit.served import End
    from faultkit.serving.record import Connection

OK = "ok"  # in a plan: no fault


# No HTTP status line, no RESP, no TLS record, not even text.
NOISE = bytes(range(255, 191, -1))


@dataclass(frozen=True, slots=True)
class Fault:
    """A fault with its trigger, as a connection has it."""

    name: str  # "slow:100"
    served: Served
    when: Trigger
    then: Fault | None = None  # what comes after it on the same connection
    title: str = ""  # as it is written, with what comes after it: "slow:100 + linger@sent=500"

    def reached(self, record: Connection) -> bool:
        """Does it set in as soon as it is armed, by what was counted before?"""
        counted = {
            "bytes": record.received,
            "sent": record.sent,
            "requests": record.requests,
            "answers": record.answers,
        }
        if self.served.unread or self.served.holds_fin:
            return False
        return self.when.kind == "with" or counted.get(self.when.kind, -1) >= self.when.amount

    def meets_next_byte(self, record: Connection, *, begun: bool) -> bool:
        """Does it set in as soon as the next byte is there, that byte unread?"""
        if not self.served.unread or self.when.kind not in ("bytes", "requests"):
            return False
        if self.when.kind == "bytes":
            return record.received + 1 >= self.when.amount
        return record.requests + 1 >= self.when.amount and not begun

    def may_read(self, record: Connection, most: int) -> int:
        """How many bytes may be read, so that the one that sets it off stays unread where it has to."""
        if not self.served.unread or self.when.kind != "bytes":
            return most
        return min(most, int(self.when.amount) - 1 - record.received)


@dataclass(frozen=True, slots=True)
class Tester:
    """A fault that is no cause of a connection's death, but what clients are tested against."""

    summary: str
    served: Served
    unit: str = ""  # of the number behind the colon
    default: int = 0
    act: Callable[[End, int], None] | None = None  # takes that number


AT_LISTEN, AT_ACCEPT, AT_MID_BODY = Trigger("listen"), Trigger("accept"), Trigger("mid-body")

TESTERS: Mapping[str, Tester] = {
    "refuse": Tester(
        "the port is kept and nobody listens: ECONNREFUSED",
        Served(door=lambda door: door.refuse(), when=AT_LISTEN),
    ),
    "connect-hang": Tester(
        "SYNs go unanswered: connect() waits for its timeout",
        Served(door=lambda door: door.hang(), when=AT_LISTEN, hangs=True),
    ),
    "accept-then-close": Tester(
        "FIN at once, never a reset: EOF before any answer",
        Served(lambda conn: conn.finish(), when=AT_ACCEPT, ends_answer=True),
    ),
    "accept-then-reset": Tester(
        "RST at once: told by connect(), send() or recv(), by chance",
        Served(lambda conn: conn.abort(), when=AT_ACCEPT),
    ),
    "stall": Tester(
        "accepts and acknowledges, never answers",
        Served(lambda conn: conn.stall(), hangs=True),
    ),
    "black-hole": Tester(
        "hears and says no more: ETIMEDOUT by the client's own timers",
        Served(lambda conn: conn.black_hole(), hangs=True),
    ),
    "half-close": Tester(
        "FIN, and goes on reading without an answer",
        Served(lambda conn: conn.half_close(), ends_answer=True, goes_on=True),
    ),
    "slow": Tester(
        "answers so many bytes per second",
        Served(hangs=True),
        "bytes per second",
        16,
        lambda conn, number: conn.slow(bytes_per_second=number),
    ),
    "slices": Tester(
        "answers in segments of so many bytes",
        Served(goes_on=True),
        "bytes",
        1,
        lambda conn, number: conn.slices(size=number),
    ),
    "garbage": Tester(
        "answers so many bytes that mean nothing, and closes",
        Served(),
        "bytes",
        len(NOISE),
        lambda conn, number: conn.garbage(NOISE, size=number),
    ),
    "truncate": Tester(
        "closes in the middle of the body, which stays too short",
        Served(lambda conn: conn.finish(), when=AT_MID_BODY),
    ),
}

AT_ANSWER = Trigger("answers", 1)

# What a protocol itself may say, to be served with that `answer`, or with TLS. Numbers: RFC 9113 section 7.
SPOKEN: Mapping[str, Tester] = {
    "close-notify": Tester(
        "TLS's close_notify, and no FIN: the connection stays",
        Served(lambda conn: conn.close_notify(), when=AT_ANSWER, speaks="tls"),
    ),
    "no-close-notify": Tester(
        "FIN without a close_notify before it: TLS may be cut short",
        Served(lambda conn: conn.finish(), when=AT_ANSWER, speaks="tls"),
    ),
    "goaway": Tester(
        "GOAWAY instead of an answer, then FIN",
        Served(when=Trigger("requests", 2), speaks="http2"),
        "code",
        0,
        lambda conn, number: conn.say("goaway", number),
    ),
    "rst-stream": Tester(
        "RST_STREAM instead of an answer",
        Served(when=Trigger("requests", 1), goes_on=True, speaks="http2"),
        "code",
        7,
        lambda conn, number: conn.say("rst-stream", number),
    ),
    "settings": Tester(
        "SETTINGS: so many streams at once",
        Served(when=Trigger("answers", 1), goes_on=True, speaks="http2"),
        "streams",
        1,
        lambda conn, number: conn.say("settings", number),
    ),
}


def known() -> Iterator[tuple[str, str, Served]]:
    """Every fault by name, with its summary; causes first, each with its variants."""
    for cause in causes.by_family():
        for variant, served in cause.served.items():
            yield (f"{cause.name}:{variant}" if variant else cause.name), cause.summary, served
    for name, tester in TESTERS.items():
        yield name, tester.summary, tester.served


def names() -> list[str]:
    """Every name that `fault` takes; a cause alone is its first variant."""
    served = [cause.name for cause in causes.by_family() if cause.served]
    return sorted({*served, *TESTERS, *SPOKEN, *(name for name, _, _ in known())})


def fault(name: str, when: Trigger | None = None, *, tls: bool = False) -> Fault:
    """The fault of that name, at its own trigger or at this one, over TLS or not.

    Raises `Misuse` for one that is not known, with the nearest name, and for one that no server can play; `Unable` for one
    that needs a capability.
    """
    if not isinstance(name, str):
        if isinstance(name, list | tuple):
            raise Misuse(f"fault={name!r} is a list: a fault for each connection in turn is plan=[...]")
        raise Misuse(f"fault={name!r} is no name: take one such as 'linger'; faultkit serve lists them all")
    base, colon, variant = name.partition(":")
    served = _tester(name, base, variant if colon else None) or _cause(name, base, variant if colon else None)
    if served.needs_repair and not _may_repair():
        raise Unable(
            f"{name} needs CAP_NET_ADMIN in the network namespace, for TCP_REPAIR: run it inside `faultkit sandbox -- ...`"
        )
    if when is not None:
        _check_trigger(name, served, when)
        if served.speaks == "tls" and when.kind in ("accept", "client-hello"):
            raise Misuse(
                f"{name} `{when}`: it is said in TLS, which the handshake begins: take at='handshake', or later"
            )
    if tls:
        _check_tls(name, served, when or served.when)
        if when and when.kind == "read" and when.amount:
            raise Misuse(f"{name} `{when}` over TLS: what the client reads there is ciphertext; take at='read'")
    return Fault(name, served, when or served.when, title=name)


def _check_tls(name: str, served: Served, when: Trigger) -> None:
    if served.speaks_plain:
        raise Misuse(f"{name} answers in plain HTTP, which means nothing over TLS: leave tls out")
    if served.unread and when.kind == "bytes" and when.amount > 1:
        raise Misuse(
            f"{name} `{when}` over TLS: a record is read whole or not at all; take after_requests, or after_bytes=1"
        )


def _check_trigger(name: str, served: Served, when: Trigger) -> None:
    if served.door and when.kind not in ({"listen", "fire"} if served.when.kind == "listen" else {served.when.kind}):
        raise Misuse(
            f"{name} is done to the listening socket, before there is a connection: leave `{when}` out, or at='fire'"
        )
    if served.holds_fin and when.kind != "answers":
        raise Misuse(f"{name} needs an answer before it, not `{when}`: take after_answers")
    if served.unread and when.kind not in ("bytes", "requests", "client-hello", "fire"):
        raise Misuse(
            f"{name} leaves received bytes unread, and `{when}` there may be none: take after_bytes or after_requests"
        )


def _tester(name: str, base: str, number: str | None) -> Served | None:
    tester = TESTERS.get(base) or SPOKEN.get(base)
    if tester is None:
        return None
    if not tester.act:
        if number is not None:
            raise Misuse(f"{name}: {base} takes nothing behind a colon")
        return tester.served
    least = 0 if base in SPOKEN else 1
    if number is not None and not (number.isdecimal() and least <= int(number) < 2**31):
        raise Misuse(
            f"{name}: {base}:N takes a whole number{'' if tester.unit == 'code' else f' of {tester.unit}'}, {least} or more, "
            f"such as {base}:{tester.default}"
        )
    amount, act = int(number or tester.default), tester.act
    return replace(tester.served, act=lambda conn: act(conn, amount))


def _cause(name: str, base: str, variant: str | None) -> Served:
    if base not in causes.names():
        if name == OK:
            raise Misuse("ok is no fault: it stands in a plan, or alone")
        meant = words.hint(name, [*names(), OK])
        raise Misuse(f"there is no fault {name!r}: {meant or 'faultkit serve names them all'}")
    cause = causes.load(base)
    if not cause.served:
        raise Misuse(
            f"{base} cannot be served to a client ({FAMILIES[cause.family]}): faultkit {base} plays both of its sides"
        )
    if variant is None:
        return next(iter(cause.served.values()))
    if variant not in cause.served or not variant:
        variants = ", ".join(f"{base}:{known}" for known in cause.served if known)
        raise Misuse(
            f"there is no {name}: "
            + (f"it is one of {variants}" if variants else f"{base} takes nothing behind a colon")
        )
    return cause.served[variant]


def _may_repair() -> bool:
    import socket

    from faultkit.sockets import TCP_REPAIR

    with socket.socket() as probe:
        try:
            probe.setsockopt(socket.IPPROTO_TCP, TCP_REPAIR, 1)
        except PermissionError:
            return False
        return True
