"""A witness that lost something is not asked: for every cause that plays on the host, beside traffic that nobody could keep.

Each cause runs in processes of its own, several at once, because many of them wait for a clock of the kernel.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import pytest

from faultkit import causes
from tests.ordinary import CHECKOUT, command
from tests.test_causes import WAITING

ROOT = os.geteuid() == 0


@dataclass(frozen=True)
class Lossy:
    cause: str
    variant: int
    root: bool

    def __str__(self) -> str:
        return f"{self.cause}-{self.variant}-{'root' if self.root else 'nobody'}"

    def run(self) -> dict[str, Any]:
        options = dict(causes.load(self.cause).variants[self.variant])
        asked = {"cause": self.cause, "options": options, "ipv6": not self.root}
        argv = command(sys.executable, "-m", "tests.losing", json.dumps(asked), ordinary=not self.root)
        ended = subprocess.run(argv, capture_output=True, text=True, check=False, cwd=CHECKOUT)
        assert ended.returncode == 0, ended.stderr
        told = json.loads(ended.stdout)
        assert isinstance(told, dict)
        return told


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
    with ThreadPoolExecutor(6) as pool:
        yield {case: pool.submit(case.run) for case in sorted(cases, key=lambda case: case.cause not in WAITING)}


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
