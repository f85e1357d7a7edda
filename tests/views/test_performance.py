"""Which connection's packets a stack's run shows."""

from __future__ import annotations

from dataclasses import replace

from faultkit.evidence.transcript import Address, Exchange, Transcript
from faultkit.views.performance import failed
from tests.made import BEGAN, CLIENT, SERVER, linger, packet

REQUEST = Exchange("client", "GET /", "502", BEGAN, BEGAN + 100_000)
CHECK = Address("127.0.0.5", 40009)  # of a health check, which is reset at another time
LATER = replace(packet(900, SERVER, "RST,ACK", 1, 1), destination=CHECK)
ENDS, OTHERS = frozenset({CLIENT, SERVER}), frozenset({CHECK, SERVER})


def seen(*exchanges: Exchange, ended_with: str) -> Transcript:
    transcript = linger()
    transcript.captured[-1] = packet(10, SERVER, ended_with, 5001, 1002)
    transcript.captured.append(LATER)
    transcript.exchanges = list(exchanges)
    return transcript


def test_what_ended_while_a_request_failed_goes_before_what_was_reset_at_another_time() -> None:
    assert failed(seen(REQUEST, ended_with="RST,ACK")) == ENDS
    assert failed(seen(REQUEST, ended_with="FIN,ACK")) == ENDS


def test_where_no_request_failed_it_is_one_that_was_reset() -> None:
    assert failed(seen(replace(REQUEST, outcome="200"), ended_with="FIN,ACK")) == OTHERS
