"""The whole catalogue passes its conformance check: variants × IPv4/IPv6 × root/ordinary user × namespace/host.

The cells run in processes of their own, several at once, because most of them wait for a clock of the kernel.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from concurrent.futures import Future
from dataclasses import dataclass, fields, replace
from typing import Any

import pytest

from faultkit import causes
from faultkit.cause import FAMILIES, checked
from faultkit.evidence.hidden import explained, wrong
from tests.cells import cells

ROOT = os.geteuid() == 0


@dataclass(frozen=True)
class Cell:
    cause: str
    variant: int
    ipv6: bool
    on: str
    root: bool

    def __str__(self) -> str:
        user, family = "root" if self.root else "nobody", "IPv6" if self.ipv6 else "IPv4"
        return f"{self.cause}-{self.variant}-{family}-{self.on}-{user}"

    @property
    def options(self) -> dict[str, Any]:
        """On the host, where other cells play at the same time, a fixed port is moved to one that is this cell's alone."""
        cause = causes.load(self.cause)
        chosen = dict(cause.variants[self.variant])
        port: Any = next((field.default for field in fields(cause.options) if field.name == "port"), 0)
        return chosen | ({"port": port + CELLS.index(self)} if self.on == "host" and port else {})

    @property
    def asked(self) -> dict[str, Any]:
        return {"cause": self.cause, "times": times(self), "ipv6": self.ipv6, "on": self.on, "options": self.options}


# How often each cell plays its variant: the first of a cause most often, and what waits for a clock of the kernel less
# often, to end in time.
TIMES, TIMES_FURTHER, TIMES_WAITING = 20, 5, 2
WAITING = {
    "backlog-full",
    "connect-timeout",
    "crash",
    "fin-wait-timeout",
    "firewall-reset",
    "idle-firewall",
    "keepalive-timeout",
    "load-balancer-idle",
    "nat-expiry",
    "reject",
    "retransmit-timeout",
    "zero-window",
}


def times(cell: Cell) -> int:
    if "sweep" in cell.options:
        return 1
    if cell.cause in WAITING:
        return TIMES_WAITING
    return TIMES_FURTHER if cell.variant else TIMES


CELLS = [
    Cell(name, variant, ipv6, on, root)
    for name in causes.names()
    for variant in range(len(causes.load(name).variants))
    for ipv6 in (False, True)
    for on in ("namespace", "host")
    for root in ([True, False] if ROOT else [False])
]


@pytest.fixture(scope="session")
def conformance(request: pytest.FixtureRequest) -> Iterator[dict[Cell, Future[dict[str, Any]]]]:
    """Every selected cell, started at once, six at a time; those that wait for a clock first."""
    calls = [item.callspec for item in request.session.items if hasattr(item, "callspec")]
    chosen = [cell for call in calls if isinstance(cell := call.params.get("cell"), Cell)]  # not those of the stacks
    with cells("tests.conform", at_once=6) as submit:
        yield {
            cell: submit(cell.asked, not cell.root)
            for cell in sorted(chosen, key=lambda cell: cell.cause not in WAITING)
        }


@pytest.mark.parametrize("cell", CELLS, ids=str)
def test_the_cause_is_produced_as_promised(cell: Cell, conformance: dict[Cell, Future[dict[str, Any]]]) -> None:
    told = conformance[cell].result()
    if "unable" in told:
        # Only what needs a namespace, and only where there is none.
        assert cell.on == "host", told["unable"]
        assert "private namespace only" in told["unable"]
        return
    assert "otherwise" not in told, told["otherwise"]
    report = told["report"]
    assert report["runs"] == report["produced"] == times(cell)
    absent = set(report["not_seen"])
    if cell.on == "namespace":
        assert absent == (set() if cell.root else {"reasons"})
    else:
        # Beside heavy traffic of others, which is on the host's loopback too, a capture may lose packets.
        lost = {witness for witness, why in report["not_seen"].items() if "lost" in why}
        assert absent - lost <= ({"reasons"} if cell.root else {"wire", "reasons"})


@pytest.mark.parametrize("cell", CELLS, ids=str)
def test_no_reset_is_attributed_wrongly(cell: Cell, conformance: dict[Cell, Future[dict[str, Any]]]) -> None:
    """Without the kernel's reasons: against them in the same run where they were seen, else in a run that root has seen.

    On the host they are not seen, and what is played differs from the namespace: there it is held against the promise.
    What one sweep meets another may not: each RST of it is one of what the cause's other variants force.
    """
    told = conformance[cell].result()
    if "report" not in told:
        return  # judged above
    variants = range(len(causes.load(cell.cause).variants)) if "sweep" in cell.options else [cell.variant]
    on_host = cell.on == "host"
    alike = [conformance.get(replace(cell, variant=number, root=cell.root or not on_host)) for number in variants]
    runs = [run for other in alike if other for run in other.result()["report"]["attributed"]]
    known = [run["promised" if on_host else "known"] for run in runs]
    for run in told["report"]["attributed"]:
        inferred, own = _pairs(run["inferred"]), run["known"]
        truths = [own] if own is not None else [one for one in known if one is not None] or [run["promised"]]
        if "sweep" in cell.options and own is None:
            truths = [[pair for truth in truths for pair in truth]]
        found = [wrong(inferred, [tuple(pair) for pair in truth]) for truth in truths]
        assert "" in found, found[0]
        unexplained = [one for one in inferred if not explained(one, alone=cell.on == "namespace")]
        assert not unexplained


def _pairs(inferred: list[list[list[str]]]) -> list[list[tuple[str, str]]]:
    return [[(by, reason) for by, reason in one_of] for one_of in inferred]


@pytest.mark.parametrize("name", causes.names())
def test_what_a_cause_says_about_itself(name: str) -> None:
    cause = causes.load(name)
    assert cause.family in FAMILIES
    assert len(cause.summary) <= 58  # one line of 80 columns in the list
    assert cause.story
    assert cause.met
    assert cause.remedy
    assert cause.remedy == causes.remedy(name)
    assert {*cause.lookalikes} <= {*causes.names()} - {name}
    for variant in cause.variants:
        options = checked(cause, dict(variant))
        assert cause.doing(options).endswith(".")
