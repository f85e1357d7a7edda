"""The catalogue's own captures with less in them, in other formats and as rows of text: claims grow weaker, never wrong."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from faultkit.explaining.diagnosis import Diagnosis
from faultkit.explaining.explain import explain
from tests.explaining import rewriting, truth
from tests.explaining.played import Played


def _told(found: list[Diagnosis]) -> list[tuple[object, ...]]:
    return [(d.end, d.harm, d.by, d.causes, d.sure, d.why, d.resets) for d in found]


@pytest.mark.parametrize("name", rewriting.SAME)
def test_another_format_changes_nothing(name: str, catalogue: list[Played]) -> None:
    for played in catalogue:
        capture, _ = rewriting.SAME[name](rewriting.frames(played.capture))
        assert _told(explain(capture)) == _told(explain(played.capture)), str(played)


def _wrong(played: Played, found: list[Diagnosis], senders: dict[int, str]) -> Iterator[str]:
    """What is said with certainty and is not so."""
    yield from truth.wrong_senders(played, found, senders)
    chief = truth.chief(found)
    if chief.sure != "shown by the packets":
        return
    said = f"{chief.end}, {chief.harm}, {', '.join(chief.causes) or chief.plain}: {chief.why}"
    if chief.causes and not truth.is_among(played, found):
        yield f"said to be shown: {said}"
    if chief.harm == "failed" and not played.died:
        yield f"nothing died, and said to be shown: {said}"


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
        wrong += [f"{played}: {said}" for said in _wrong(played, explain(capture), there)]
    assert tried > 0.9 * len(catalogue)
    assert not wrong, "\n".join(wrong)


def test_every_packet_twice_is_every_packet_once(catalogue: list[Played]) -> None:
    for played in catalogue:
        capture, _ = rewriting.LESS["every packet twice"](rewriting.frames(played.capture))
        once, twice = explain(played.capture), explain(capture)
        assert [d.causes for d in twice] == [d.causes for d in once], str(played)
        assert [len(d.resets) for d in twice] == [len(d.resets) for d in once], str(played)


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
            assert any(any(word in end for word in NO_ANSWER) for end in complete), (str(played), silent[0].why)


@pytest.mark.parametrize("form", rewriting.FORMS)
def test_rows_of_text_make_no_claim_wrong(form: str, catalogue: list[Played]) -> None:
    captures = [rewriting.frames(played.capture) for played in catalogue]
    wrong, offset = [], 0
    for played, packets, rows in zip(catalogue, captures, rewriting.texts(form, captures), strict=True):
        found = explain(rows)
        senders = truth.senders(played)
        first = offset if form in rewriting.TSHARK else 0
        there = {number + first: senders[p.number] for number, p in enumerate(packets, 1) if p.number in senders}
        wrong += [f"{played}: {said}" for said in _wrong(played, found, there)]
        read = sum(len(d.connection.packets) + d.connection.omitted for d in found)
        wrong += [f"{played}: {read} of {len(packets)} rows were read"] if read != len(packets) else []
        offset += len(packets)
    assert not wrong, "\n".join(wrong)
