"""A witness that lost something is not asked: for every cause that plays on the host, beside traffic that nobody could keep.

Each cause runs in processes of its own, several at once, because many of them wait for a clock of the kernel.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Any

import pytest

from faultkit import causes
from tests.cells import cells
from tests.test_causes import WAITING

ROOT = os.geteuid() == 0


@dataclass(frozen=True)
class Lossy:
    cause: str
    variant: int
    root: bool

    def __str__(self) -> str:
        return f"{self.cause}-{self.variant}-{'root' if self.root else 'nobody'}"

    @property
    def asked(self) -> dict[str, Any]:
        options = dict(causes.load(self.cause).variants[self.variant])
        return {"cause": self.cause, "options": options, "ipv6": not self.root}


CASES = [
    Lossy(name, variant, root)
    for name in causes.names()
    for variant, options in enumerate(causes.load(name).variants)
    if not variant or not (name in WAITING or "sweep" in options)
    for root in ([True, False] if ROOT else [False])
]


@pytest.fixture(scope="session")
def lossy(request: pytest.FixtureRequest) -> Iterator[dict[Lossy, Future[dict[str, Any]]]]:
    """Every selected case, started at once, six at a time; those that wait for a clock first."""
    calls = [item.callspec for item in request.session.items if hasattr(item, "callspec")]
    cases = [case for call in calls if isinstance(case := call.params.get("case"), Lossy)]
    with cells("tests.losing", at_once=6) as submit:
        yield {
            case: submit(case.asked, not case.root)
            for case in sorted(cases, key=lambda case: case.cause not in WAITING)
        }


@pytest.mark.parametrize("case", CASES, ids=str)
def test_what_was_lost_makes_nothing_wrong(case: Lossy, lossy: dict[Lossy, Future[dict[str, Any]]]) -> None:
    told = lossy[case].result()
    if "unable" in told:
        assert "private namespace only" in told["unable"]
        return
    assert told["wrong"] == []
    assert told["judged"] > 20
    assert "the capture lost" in told["dropped"][-1]
    assert told["not_seen"] == ([] if case.root else ["reasons"])


def test_most_causes_play_on_the_host(lossy: dict[Lossy, Future[dict[str, Any]]]) -> None:
    able = {case.cause for case, told in lossy.items() if "unable" not in told.result()}
    asked = {case.cause for case in lossy}
    assert len(able) > len(asked) / 2 or len(asked) < 5
