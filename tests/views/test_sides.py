"""Who stands where on the ladder, drawn from transcripts made by hand."""

from __future__ import annotations

from faultkit.evidence.transcript import Call, Transcript
from faultkit.views import ladder


def _transcript(*calls: tuple[str, str]) -> Transcript:
    return Transcript(
        0, calls=[Call(role, 1, name, "", "ok", number, number) for number, (role, name) in enumerate(calls)]
    )


def test_who_connects_stands_on_the_left_whoever_calls_first() -> None:
    transcript = _transcript(("server", "listen"), ("uploader", "connect"), ("server", "accept"))
    assert ladder.sides(transcript) == (["uploader"], ["server"])


def test_there_are_two_sides_even_where_one_or_both_call_nothing() -> None:
    assert ladder.sides(_transcript(("server", "listen"))) == (["client"], ["server"])
    assert ladder.sides(_transcript()) == (["client"], ["server"])


def test_several_clients_share_the_left_side_and_each_is_named_when_it_begins_to_call() -> None:
    transcript = _transcript(
        ("server", "listen"), ("first", "connect"), ("first", "send"), ("second", "connect"), ("first", "recv")
    )
    assert ladder.sides(transcript) == (["first", "second"], ["server"])
    assert [rung.across or rung.left or rung.right for rung in ladder.rungs(transcript)] == [
        "listen",
        "first",
        "connect → ok",
        "send → ok",
        "second",
        "connect → ok",
        "first",
        "recv → ok",
    ]


def test_one_client_alone_is_not_named_in_between() -> None:
    transcript = _transcript(("server", "listen"), ("client", "connect"), ("client", "send"))
    assert not [rung for rung in ladder.rungs(transcript) if rung.across]
    assert str(next(ladder.lines(transcript, 80))).split() == ["ms", "client", "server"]
