"""A run as one JSON document: options, transcript, verdict, evidence. Times are in seconds since the run began; options stand
as they are typed, durations in ms."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields
from typing import TYPE_CHECKING, Any

from faultkit.evidence.attribution import attribute
from faultkit.evidence.segments import read
from faultkit.options import flag, written
from faultkit.playing.stack import Stack
from faultkit.version import VERSION

if TYPE_CHECKING:
    from faultkit.cause import Cause, Options
    from faultkit.evidence.transcript import Transcript
    from faultkit.evidence.verdict import Check
    from faultkit.playing.run import Outcome
    from faultkit.stage import Stage


def options(chosen: Options) -> dict[str, Any]:
    """The options as the command line writes them."""
    return {flag(option).removeprefix("--"): written(option, getattr(chosen, option.name)) for option in fields(chosen)}


def head(cause: Cause, chosen: Options, stage: Stage) -> dict[str, Any]:
    """What is the same for every run of a series."""
    named: dict[str, Any] = {"cause": cause.name}
    if isinstance(cause, Stack):
        named = {
            "stack": cause.name,
            "causes": list(cause.shows(chosen)),
            "programs": cause.versions(chosen),
            "fix": cause.fix(),
        }
    return {
        "faultkit": VERSION,
        **named,
        "family": cause.family,
        "doing": cause.doing(chosen),
        "options": options(chosen),
        "stage": {
            "where": stage.where,
            "described": stage.described,
            "host": stage.host,
            "refused": stage.refused or None,
        },
    }


def transcript(seen: Transcript) -> dict[str, Any]:
    """What the witnesses saw, event by event."""
    return {
        "began": seen.began_ns / 1e9,
        "seconds": seen.duration,
        "roles": {str(address): role for address, role in seen.roles.items()},
        "calls": [
            {
                "began": seen.seconds(call.began_ns),
                "ended": seen.seconds(call.ended_ns),
                "role": call.role,
                "socket": call.socket,
                "call": call.name,
                "argument": call.argument,
                "outcome": call.outcome,
            }
            for call in seen.calls
        ],
        "packets": [
            {
                "time": seen.seconds(segment.packet.time_ns),
                "from": seen.role(segment.packet.source),
                "source": str(segment.packet.source),
                "destination": str(segment.packet.destination),
                "flags": list(segment.packet.flags),
                "seq": segment.seq,
                "ack": segment.ack,
                "window": segment.window,
                "length": segment.packet.payload,
                "ttl": segment.packet.ttl,
                "mark": segment.mark,
            }
            for segment in read(seen.captured)
        ],
        "resets": [
            {
                "time": seen.seconds(reset.time_ns),
                "direction": reset.direction,
                "from": seen.role(reset.source),
                "source": str(reset.source),
                "destination": str(reset.destination),
                "state": reset.state,
                "reason": reset.reason,
            }
            for reset in seen.traced
        ],
        "lines": [
            {"time": seen.seconds(line.time_ns), "program": line.program, "text": line.text} for line in seen.lines
        ],
        "exchanges": [
            {
                "began": seen.seconds(one.began_ns),
                "ended": seen.seconds(one.ended_ns),
                "from": one.client,
                "request": one.request,
                "outcome": one.outcome,
                "note": one.note or None,
            }
            for one in seen.exchanges
        ],
        "steps": [{"time": seen.seconds(step.time_ns), "actor": step.actor, "text": step.text} for step in seen.steps],
        "tallies": [{"label": tally.label, "outcome": tally.outcome} for tally in seen.tallies],
    }


def _check(check: Check) -> dict[str, Any]:
    return {
        "witness": check.witness,
        "name": check.name,
        "expected": list(check.expected),
        "seen": list(check.seen),
        "agrees": check.agrees,
    }


def outcome(run: Outcome) -> dict[str, Any]:
    """Transcript, verdict and evidence of one run."""
    seen = run.transcript
    return {
        "transcript": transcript(seen),
        "verdict": {"produced": run.verdict.produced, "checks": [_check(check) for check in run.verdict.checks]},
        "evidence": {
            "counters": dict(sorted(seen.counted.items())),
            "counters_are_ours_alone": seen.alone,
            "measurements": [
                {
                    "name": one.name,
                    "predicted": one.predicted,
                    "measured": one.measured,
                    "latest": one.latest,
                    "withheld": one.withheld,
                    "agrees": one.agrees,
                }
                for one in seen.measurements
            ],
            "resets": [
                {
                    "by": one.by,
                    "reason": one.reason,
                    "inferred": one.inferred,
                    "one_of": [{"by": by, "reason": reason} for by, reason in one.one_of],
                    "inferred_from": list(one.rests_on),
                    "explained": one.sentences,
                }
                for one in attribute(seen)
            ],
            "not_seen": seen.absent,
        },
    }


def single(run: Outcome) -> dict[str, Any]:
    """The document of one run."""
    return head(run.cause, run.options, run.stage) | outcome(run)


def series(runs: Sequence[Outcome]) -> dict[str, Any]:
    """The document of a series: how many were as promised, the first run whole, and every odd one."""
    first = runs[0]
    odd = [(number, run) for number, run in enumerate(runs, 1) if not run.verdict.produced]
    return head(first.cause, first.options, first.stage) | {
        "repeat": {
            "runs": len(runs),
            "produced": len(runs) - len(odd),
            "seconds": [run.transcript.duration for run in runs],
        },
        "first": outcome(first),
        "odd": [{"run": number} | outcome(run) for number, run in odd],
    }
