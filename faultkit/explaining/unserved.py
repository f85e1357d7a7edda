"""Closed in order, and all the same not served: a request without an answer, a response cut short, a TLS handshake refused."""

from __future__ import annotations

from faultkit.explaining import owed, payload
from faultkit.explaining.diagnosis import Finding
from faultkit.explaining.flows import FIN, RST, SYN, Packet
from faultkit.explaining.story import SIDES, Story
from faultkit.explaining.wording import lasting

_HEADER = 5  # bytes of the header of a TLS record
_PATIENCE = 1.0  # seconds: who leaves later than that has waited for an answer; arbitrary


def explain(story: Story) -> Finding | None:
    """What of a connection that both ends closed was not served; None where nothing shows that."""
    fins = [p for p in story.packets if p.flags & FIN and not p.flags & RST]
    if not fins or story.deaf is not None or story.missing:
        return None
    return refused(story) or _unanswered(story, fins[0]) or _cut_short(story, fins[0])


def refused(story: Story) -> Finding | None:
    """A TLS handshake that one end refused; None where nothing shows that."""
    return _alerted(story) or _no_tls(story) or _alert_instead_of_finished(story)


def _no_tls(story: Story) -> Finding | None:
    """A ClientHello that a server answers with something else than TLS."""
    asked, said = (next((p for p in side.data if p.seq == 1), None) for side in story.sides)
    if (
        asked is None
        or said is None
        or not payload.greeting(asked)
        or len(said.data) < _HEADER
        or said.number < asked.number
    ):
        return None
    if payload.is_record(said):
        return None
    return Finding(
        "the server does not speak TLS",
        "failed",
        (),
        "shown by the packets",
        f"Packet {asked.number} is a TLS ClientHello, and packet {said.number} of the server answers it with what is no TLS: "
        f"{said.data[:24]!r}",
        by="server",
        plain="a TLS handshake that failed",
        tell=f"does port {story.connection.server.port} want TLS? Try it in clear text",
    )


def _alert_instead_of_finished(story: Story) -> Finding | None:
    """TLS 1.3 encrypts what a client says after the ServerHello; its Finished is longer than an alert (RFC 8446)."""
    said = [p for p in story.sides[0].data if not story.repeats(p)]
    server = [p for p in story.sides[1].data if payload.is_record(p) and p.data[:1] == b"\x16"]
    if len(said) < 2 or said[0].seq != 1 or not payload.greeting(said[0]) or not server:
        return None
    more = said[1:]
    if any(p.size != len(p.data) for p in more) or not payload.alert_alone(b"".join(p.data for p in more)):
        return None
    return Finding(
        "the client refused the TLS handshake",
        "failed",
        (),
        "most likely",
        f"After the server's part of the TLS handshake (packet {server[-1].number}) the client sends nothing but an encrypted "
        f"alert (packet {more[-1].number}), where its Finished should be: it refuses what the server sent, most often its "
        "certificate",
        by="client",
        against="no other record is so short",
        plain="a TLS handshake that failed",
        tell="the client's log: does it know who signed the server's certificate, and is that valid for the name?",
    )


def _alerted(story: Story) -> Finding | None:
    """A fatal alert in clear text: so the handshake of TLS failed."""
    alert = next((p for p in story.packets if payload.fatal_alert(p)), None)
    if alert is None:
        return None
    return Finding(
        f"the {SIDES[alert.side]} refused the TLS handshake",
        "failed",
        (),
        "shown by the packets",
        f"Packet {alert.number} of the {SIDES[alert.side]} is the fatal TLS alert {payload.fatal_alert(alert)} (RFC 8446 "
        "section 6): it ends the handshake, and both close",
        by=SIDES[alert.side],
        plain="a TLS handshake that failed",
        tell=f"the log of the {SIDES[alert.side]}; openssl s_client -connect with the same versions and certificates",
    )


def _unanswered(story: Story, fin: Packet) -> Finding | None:
    asked: list[Packet] = []
    for p in reversed(story.packets):
        if p.size == 0 or p.flags & RST or story.is_probe(p):
            continue
        if p.side == 1:
            break
        asked.insert(0, p)
    request = next((p for p in asked if payload.greeting(p) or payload.asks(p)), None)
    if request is None or (fin.side == 1 and fin.number < request.number):
        return None
    # A row of Wireshark tells of a request where its last segment stands, which may be behind the answer to it.
    if story.connection.from_rows and any(
        p.size != 0 and p.side == 1 and not p.flags & SYN for p in story.before(request)
    ):
        return None
    what = (
        f"ClientHello of packet {request.number}"
        if payload.greeting(request)
        else f"request of packet {request.number}"
    )
    waited = story.seconds(asked[-1], fin)
    later = "" if waited is None or waited < 0 else f", {lasting(waited)} after it,"
    if fin.side == 1:
        return Finding(
            "closed by the server without an answer",
            "failed",
            (),
            "shown by the packets",
            f"The {what} was answered with nothing: the server closed (FIN in packet {fin.number}{later} in order)",
            by="server",
            plain="a request without an answer",
            tell="the server's log at that time: was its program ended or restarted, or does it refuse such a request?",
        )
    return Finding(
        "closed by the client before an answer came",
        "failed" if waited is not None and waited >= _PATIENCE else "suspicious",
        (),
        "shown by the packets",
        f"The client closed (FIN in packet {fin.number}{later} in order) before anything had answered the {what}, and nothing "
        "came after that: it gave up waiting, or its program was ended, or it never waits",
        by="client",
        plain="a request without an answer",
        tell="the client's timeout and its log; what the server did with the request meanwhile",
    )


def _cut_short(story: Story, fin: Packet) -> Finding | None:
    lacks = owed.response_lacks(story, story.packets[-1])
    if not lacks:
        return None
    name = SIDES[fin.side]
    fins = [p for p in story.packets if p.flags & FIN and not p.flags & RST]
    return Finding(
        f"closed by the {name} before the response was whole",
        "failed" if fin.side == 1 else "suspicious",
        (),
        "shown by the packets",
        f"The {name} closed first (FIN in packet {fins[0].number}), and {lacks}",
        by=name,
        plain="a response that was cut short",
        tell="the server's log at that time" if fin.side == 1 else "the client's timeout and its log",
    )
