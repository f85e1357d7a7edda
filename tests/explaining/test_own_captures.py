"""The whole catalogue played and captured, and explained from the bytes of each file alone: is it what the kernel knows?

Then with less in them, in other formats and as rows of text: claims grow weaker, never wrong. One file, because all of it is
played once for a process.
"""

from __future__ import annotations

import pytest

from faultkit.explaining.alike import ALIKE, Alike, fits
from faultkit.explaining.diagnosis import Diagnosis
from faultkit.explaining.explain import explain
from tests.explaining import degraded, rewriting, truth
from tests.explaining.played import Played, play, variants

Told = list[tuple[Played, list[Diagnosis]]]


@pytest.fixture(scope="module")
def catalogue() -> list[Played]:
    return play(variants())


@pytest.fixture(scope="module")
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


# Rewritten


def _compared(found: list[Diagnosis]) -> list[tuple[object, ...]]:
    return [(d.end, d.harm, d.by, d.causes, d.sure, d.why, d.resets) for d in found]


@pytest.mark.parametrize("name", rewriting.SAME)
def test_another_format_changes_nothing(name: str, catalogue: list[Played]) -> None:
    for played in catalogue:
        capture, _ = rewriting.SAME[name](rewriting.frames(played.capture))
        assert _compared(explain(capture)) == _compared(explain(played.capture)), str(played)


@pytest.mark.parametrize("name", rewriting.LESS)
def test_less_makes_a_claim_weaker_and_never_wrong(name: str, catalogue: list[Played]) -> None:
    wrong, tried = [], 0
    for played in catalogue:
        capture, packets = rewriting.LESS[name](rewriting.frames(played.capture))
        if not packets:
            continue
        tried += 1
        senders = truth.senders(played)
        there = {number: senders[p.number] for number, p in enumerate(packets, 1) if p.number in senders}
        wrong += [f"{played}: {said}" for said in truth.wrong_claims(played, explain(capture), there)]
    assert tried > 0.9 * len(catalogue)
    assert not wrong, "\n".join(wrong)


def test_less_by_chance_makes_no_claim_wrong(catalogue: list[Played]) -> None:
    wrong = [said for played in catalogue for said in degraded.wrong(played, 10)]
    assert not wrong, "\n".join(wrong)


def test_every_packet_twice_is_every_packet_once(catalogue: list[Played]) -> None:
    compared = 0
    for played in catalogue:
        packets = rewriting.frames(played.capture)
        if len({packet.data for packet in packets}) < len(packets):
            continue  # IPv6 has no IP ID: two acknowledgements of one number are the same bytes, as a copy is
        compared += 1
        capture, _ = rewriting.LESS["every packet twice"](packets)
        once, twice = explain(played.capture), explain(capture)
        assert [d.causes for d in twice] == [d.causes for d in once], str(played)
        assert [len(d.resets) for d in twice] == [len(d.resets) for d in once], str(played)
    assert compared > 0.8 * len(catalogue)


NO_ANSWER = ("never answered", "gave up", "acknowledges nothing", "answers no", "accepted by nobody", "does not hear")


@pytest.mark.parametrize("name", ["one side, the first to speak", "one side, the other"])
def test_where_one_direction_was_captured_no_answer_is_missed(name: str, catalogue: list[Played]) -> None:
    for played in catalogue:
        packets = rewriting.frames(played.capture)
        if len({packet.ends for packet in packets}) < 2:
            continue  # nobody answers in the whole of it
        capture, _ = rewriting.LESS[name](packets)
        silent = [d for d in explain(capture) if any(word in d.end for word in NO_ANSWER)]
        # A SYN alone is all that there is of one that was answered, and of one that was not.
        if silent and any(len(d.connection.packets) > 1 for d in silent):
            complete = [d.end for d in explain(played.capture)]
            assert any(any(word in end for word in NO_ANSWER) for end in complete), (
                str(played),
                silent[0].end,
                silent[0].why,
            )


@pytest.mark.parametrize("form", rewriting.FORMS)
def test_rows_of_text_make_no_claim_wrong(form: str, catalogue: list[Played]) -> None:
    captures = [rewriting.frames(played.capture) for played in catalogue]
    wrong, offset = [], 0
    for played, packets, rows in zip(catalogue, captures, rewriting.texts(form, captures), strict=True):
        found = explain(rows)
        senders = truth.senders(played)
        first = offset if form in rewriting.TSHARK else 0
        there = {number + first: senders[p.number] for number, p in enumerate(packets, 1) if p.number in senders}
        wrong += [f"{played}: {said}" for said in truth.wrong_claims(played, found, there)]
        read = sum(len(d.connection.packets) + d.connection.omitted for d in found)
        wrong += [f"{played}: {read} of {len(packets)} rows were read"] if read != len(packets) else []
        offset += len(packets)
    assert not wrong, "\n".join(wrong)
