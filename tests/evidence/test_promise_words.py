"""The words of a promise against what was seen."""

from __future__ import annotations

import pytest

from faultkit.evidence.transcript import Call, Transcript
from faultkit.evidence.verdict import Promise, judge


def seen(*outcomes: str) -> Transcript:
    calls = [Call("client", 1, "recv", "", outcome, 0, 0) for outcome in outcomes]
    return Transcript(began_ns=0, calls=calls)


@pytest.mark.parametrize(
    ("promised", "outcomes", "agrees"),
    [
        (("recv 1 | recv EOF",), ("1",), True),
        (("recv 1 | recv EOF",), ("EOF",), True),
        (("recv 1 | recv EOF",), ("2",), False),
        (("recv 1 | recv EOF",), ("1", "EOF"), False),
        (("recv n | recv EOF +",), ("17", "EOF", "4"), True),
        (("recv n | recv EOF +",), (), False),
        (("recv n | recv EOF *", "recv ECONNRESET"), ("17", "EOF", "ECONNRESET"), True),
    ],
)
def test_either_of_two(promised: tuple[str, ...], outcomes: tuple[str, ...], agrees: bool) -> None:
    verdict = judge(Promise(calls={"client": promised}), seen(*outcomes))
    assert verdict.produced is agrees
