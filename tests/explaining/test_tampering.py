"""The published signatures of tampering: each is recognised, and nothing else is taken for one."""

from __future__ import annotations

import io

import pytest

from faultkit.explaining.explain import Explaining, explain
from faultkit.explaining.story import Story
from faultkit.explaining.tampering import SIGNATURES, silent
from tests.explaining.made_up import Segment, capture, handshake

BEGINS = {
    "SYN": [Segment(">", "S"), Segment(">", "S", at=1.0), Segment("<", "S.", ack=1)],
    "SYN; ACK": handshake(),
    "PSH+ACK": [*handshake(), Segment(">", "P.", 1, 1, b"GET")],
    "PSH+ACK; Data": [*handshake(), Segment(">", "P.", 1, 1, b"GET"), Segment(">", "P.", 4, 1, b" / ")],
}
# An injected RST is told by its TTL and its IP ID here. The number in the field ACK of one without the flag is what it is.
ENDS = {
    "RST": [("R", 7)],
    "RST+ACK": [("R.", 1)],
    "RST; RST": [("R", 7), ("R", 7)],
    "RST; RST+ACK": [("R", 7), ("R.", 1)],
    "RST+ACK; RST+ACK": [("R.", 1), ("R.", 1)],
    "RST = RST": [("R", 7), ("R", 7)],
    "RST ≠ RST": [("R", 7), ("R", 8)],
    "RST; RST₀": [("R", 7), ("R", 0)],
}
ALL = [(begins, ends) for begins, known in SIGNATURES.items() for ends in known]


def test_they_are_nineteen() -> None:
    assert len(ALL) == 19


def _after(begins: str) -> int:
    return 1 + sum(len(segment.data) for segment in BEGINS[begins])


@pytest.mark.parametrize(("begins", "ends"), [pair for pair in ALL if pair[1] != "∅"])
def test_a_signature_is_named(begins: str, ends: str) -> None:
    rsts = [
        Segment(">", flags, _after(begins), ack, window=0, ttl=110, ip_id=40077 + number)
        for number, (flags, ack) in enumerate(ENDS[ends])
    ]
    (found,) = explain(capture([*BEGINS[begins], *rsts]))
    assert {reset.signature for reset in found.resets} == {f"⟨{begins} → {ends}⟩"}
    assert {reset.by for reset in found.resets} == {"middlebox"}


@pytest.mark.parametrize("begins", ["SYN", "SYN; ACK", "PSH+ACK"])
def test_silence_is_one_where_the_client_owes_an_answer(begins: str) -> None:
    waits = Segment("<", "S.", ack=1, at=2.0) if begins == "SYN" else Segment("<", "P.", 1, _after(begins), b"hello")
    (connection,) = Explaining(io.BytesIO(capture([*BEGINS[begins], waits]))).connections()
    assert silent(Story(connection)) == f"⟨{begins} → ∅⟩"


def test_a_client_that_has_acknowledged_everything_is_not_silent() -> None:
    packets = [*BEGINS["PSH+ACK"], Segment("<", "P.", 1, 4, b"hello"), Segment(">", ".", 4, 6)]
    (connection,) = Explaining(io.BytesIO(capture(packets))).connections()
    assert silent(Story(connection)) == ""


def test_a_rst_after_a_close_has_none() -> None:
    packets = [*BEGINS["PSH+ACK"], Segment(">", "F.", 4, 1), Segment(">", "R", 5, window=0, ttl=110)]
    (found,) = explain(capture(packets))
    assert {reset.signature for reset in found.resets} == {""}
