"""The whole catalogue played and captured, and explained from the bytes of each file alone: is it what the kernel knows?"""

from __future__ import annotations

import pytest

from faultkit.explaining.alike import ALIKE, Alike, fits
from faultkit.explaining.diagnosis import Diagnosis
from faultkit.explaining.explain import explain
from tests.explaining import truth
from tests.explaining.played import Played

Told = list[tuple[Played, list[Diagnosis]]]


@pytest.fixture(scope="session")
def told(catalogue: list[Played]) -> Told:
    return [(played, explain(played.capture)) for played in catalogue]


def test_the_sender_of_no_rst_is_said_wrongly(told: Told) -> None:
    told_of = [number for played, found in told for number in truth.resets(found)]
    assert len(told_of) == sum(len(played.resets) for played, _ in told) > 200
    wrong = [
        f"{played}: {said}"
        for played, found in told
        for said in truth.wrong_senders(played, found, truth.senders(played))
    ]
    assert not wrong, "\n".join(wrong)


def test_the_cause_is_named_or_cannot_be_told_from_the_one_that_is(told: Told) -> None:
    wrong = [f"{played}: {_said(found)}" for played, found in told if not truth.is_among(played, found)]
    assert not wrong, "\n".join(wrong)


def test_the_cause_is_the_first_where_it_can_be_told(told: Told, capsys: pytest.CaptureFixture[str]) -> None:
    tellable = [(played, found) for played, found in told if truth.tellable(played.words)]
    missed = [f"{played}: {_said(found)}" for played, found in tellable if not truth.is_first(played, found)]
    first = sum(truth.is_first(played, found) for played, found in told)
    with capsys.disabled():
        print(
            f"\n{len(told)} variants: the cause is first in {first}; of the {len(tellable)} that packets can tell, "
            f"in {len(tellable) - len(missed)}"
        )
    assert len(missed) <= 0.05 * len(tellable), "\n".join(missed)


def test_where_nothing_died_nothing_is_said_to_have_failed(told: Told) -> None:
    wrong = [
        f"{played}: {_said(found)}" for played, found in told if not played.died and truth.chief(found).harm == "failed"
    ]
    assert not wrong, "\n".join(wrong)


def test_what_died_is_not_said_to_have_closed_in_order(told: Told) -> None:
    wrong = [
        f"{played}: {_said(found)}" for played, found in told if played.died and truth.chief(found).harm == "closed"
    ]
    assert not wrong, "\n".join(wrong)


@pytest.mark.parametrize("group", ALIKE, ids=lambda group: str(group.seen).replace(" ", "-"))
def test_the_table_of_what_cannot_be_told_lists_what_can_be_played(group: Alike, told: Told) -> None:
    for cause in group.causes:
        assert any(fits(cause, played.words) for played, _ in told), cause


def _said(found: list[Diagnosis]) -> str:
    chief = truth.chief(found)
    return f"{chief.end}, {chief.harm}, {', '.join(chief.causes) or chief.plain}, {chief.sure}"
