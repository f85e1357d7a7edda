from __future__ import annotations

from dataclasses import replace

import pytest

from faultkit.evidence.segments import read
from faultkit.evidence.transcript import Call, Step, Transcript
from faultkit.views import ladder
from tests.made import BEGAN, call, linger


def drawn(transcript: Transcript, width: int = 80) -> list[str]:
    return [line.plain for line in ladder.lines(transcript, width)]


def test_linger_as_a_ladder() -> None:
    assert drawn(linger()) == [
        "        ms  client                                             server",
        "     0.001                    ─ SYN seq=0 ───────────────────▶",
        "     0.002                    ◀───────── SYN,ACK seq=0 ack=1 ─",
        "     0.003                    ─ ACK seq=1 ack=1 ─────────────▶",
        "     0.004  connect → ok",
        "     0.005  send → 1",
        "     0.005                    ─ PSH,ACK seq=1 ack=1 len=1 ───▶",
        "     0.006                                                     accept → ok",
        "     0.007                    ◀───────────── ACK seq=1 ack=2 ─",
        "     0.008                                                     recv → 1",
        "     0.009                                                     close → ok",
        "     0.010                    ◀───────── RST,ACK seq=1 ack=2 ─",
        "     0.011  recv → ECONNRESET",
        "     0.012  recv → EOF",
        "     0.013  send → EPIPE",
    ]


@pytest.mark.parametrize("width", [20, 80, 100, 120, 200])
def test_no_line_is_wider_than_the_terminal(width: int) -> None:
    seen = linger()
    seen.steps.append(Step(BEGAN + 9_500, "firewall", "iptables -I INPUT " + "--option value " * 20))
    seen.calls.append(Call("client", 1, "setsockopt", "TCP_USER_TIMEOUT 2147483647", "ok", BEGAN, BEGAN))
    lines = drawn(seen, width)
    assert max(map(len, lines)) <= max(width, 80)
    assert all(line == line.rstrip() for line in lines)
    assert "TCP_USER_TIMEOUT" in "".join(lines)


def test_a_step_goes_across_and_is_folded() -> None:
    seen = Transcript(BEGAN, steps=[Step(BEGAN + 1_000_000, "server", "deaf " * 20 + "now")])
    first, second = drawn(seen)[1:]
    assert first.startswith("     1.000  ┄ server: deaf")
    assert second.startswith(" " * 14 + "deaf")


def test_where_a_call_stands_is_its_end_if_it_waits() -> None:
    waits = Call("client", 1, "recv", "", "ETIMEDOUT", BEGAN, BEGAN + 2_000_000_000)
    sends = Call("client", 1, "send", "", "1", BEGAN + 1_000_000_000, BEGAN + 3_000_000_000)
    assert [line.split() for line in drawn(Transcript(BEGAN, calls=[waits, sends]))[1:]] == [
        ["1000.000", "send", "→", "1"],
        ["2000.000", "recv", "→", "ETIMEDOUT"],
    ]


@pytest.mark.parametrize(
    ("name", "argument", "outcome", "text"),
    [
        ("connect", "127.0.0.1:80", "ok", "connect → ok"),
        ("recv", "MSG_PEEK", "5", "recv MSG_PEEK → 5"),
        ("setsockopt", "SO_LINGER {1, 0}", "ok", "setsockopt SO_LINGER {1, 0}"),
        ("setsockopt", "SO_LINGER {1, 0}", "EINVAL", "setsockopt SO_LINGER {1, 0} → EINVAL"),
        ("ioctl", "SIOCINQ", "5 bytes", "ioctl SIOCINQ → 5 bytes"),
        ("bind", "127.0.0.1:80", "EADDRINUSE", "bind → EADDRINUSE"),
        ("listen", "128", "ok", "listen"),
    ],
)
def test_a_call_in_words(name: str, argument: str, outcome: str, text: str) -> None:
    assert ladder.call_text(Call("client", 1, name, argument, outcome, 0, 0)) == text


def test_a_packet_in_words() -> None:
    texts = [ladder.packet_text(segment) for segment in read(linger().captured)]
    assert texts[0] == "SYN seq=0"
    assert texts[3] == "PSH,ACK seq=1 ack=1 len=1"
    again = linger().captured[:5]
    again.append(replace(again[3], time_ns=again[3].time_ns + 300_000_000))
    assert ladder.packet_text(read(again)[-1]) == "keep-alive seq=1 ack=1 len=1"  # one byte again: so says Wireshark


def test_errors_and_resets_are_red() -> None:
    styles = {line.plain[12:].strip(): {str(span.style) for span in line.spans} for line in ladder.lines(linger(), 80)}
    assert "red" in styles["recv → ECONNRESET"]
    assert "bold red" in styles["◀───────── RST,ACK seq=1 ack=2 ─"]
    assert styles["recv → EOF"] == {"dim"}


def test_the_sides() -> None:
    assert ladder.sides(linger()) == (["client"], ["server"])
    assert ladder.sides(Transcript(0)) == (["client"], ["server"])
    assert ladder.sides(Transcript(0, calls=[call(1, "proxy", "accept", "ok")])) == (["client"], ["proxy"])
