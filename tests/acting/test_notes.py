"""What a play notes of a duration that was predicted."""

from __future__ import annotations

from faultkit.acting.notes import Notes
from faultkit.evidence.timers import Expiry
from faultkit.evidence.transcript import SLACK, Transcript
from faultkit.witness.calls import Calls


def test_an_expiry_is_due_at_its_earliest_and_brings_its_slack() -> None:
    transcript = Transcript(0)
    notes = Notes(transcript, Calls(transcript))
    notes.measure("by a number", predicted=2.0, began_ns=0, ended_ns=10**9, slack=0.5)
    notes.measure("by an expiry", predicted=Expiry(2.0, 4.0), began_ns=0, ended_ns=10**9, slack=0.5)
    assert [(m.predicted, m.slack) for m in notes.transcript.measurements] == [
        (2.0, SLACK + 0.5),
        (2.0, SLACK + 0.5 + Expiry(2.0, 4.0).slack),
    ]
