"""One cause on the host before witnesses that lose something, for `tests.cells`.

The host is a namespace of our own that the cause knows nothing of. The cause is played three times: before whole
witnesses, and twice before a capture whose buffer is so small that the kernel drops packets. What the whole witnesses saw
is then judged again with frames and events taken away, as if they had been lost. Gives what is said wrongly of that.
"""

from __future__ import annotations

import contextlib
import random
import socket
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import Any
from unittest.mock import patch

import trio

from faultkit import Unable, causes
from faultkit.cause import checked
from faultkit.evidence.attribution import attribute
from faultkit.evidence.transcript import Reset, Transcript
from faultkit.evidence.verdict import judge
from faultkit.playing.run import Outcome, once
from faultkit.stage import Stage, namespace, open_stage, tracing
from faultkit.witness import Witnesses, take_reasons, take_wire, watching
from faultkit.witness.wire import decode

Frames = list[tuple[int, bytes]]


@dataclass
class Kept:
    """What the witnesses gave last, before anything was made of it."""

    frames: Frames = field(default_factory=list)
    resets: list[Reset] = field(default_factory=list)


def play(name: str, options: dict[str, Any], stage: Stage, seeing: Witnesses) -> Outcome:
    cause = causes.load(name)
    return trio.run(once, cause, checked(cause, options), stage, seeing)


def whole(name: str, options: dict[str, Any], stage: Stage, seeing: Witnesses) -> tuple[Outcome, Kept]:
    kept = Kept()
    assert seeing._capture is not None
    cut = seeing._capture.cut

    def keep() -> tuple[Frames, int]:
        kept.frames, lost = cut()
        assert lost == 0
        return kept.frames, lost

    def keep_reasons(transcript: Transcript, resets: list[Reset], lost: int) -> None:
        kept.resets = resets
        take_reasons(transcript, resets, lost)

    with patch.object(seeing._capture, "cut", keep), patch("faultkit.witness.take_reasons", keep_reasons):
        return play(name, options, stage, seeing), kept


def starved(name: str, options: dict[str, Any], stage: Stage, seeing: Witnesses, others: int) -> Outcome:
    """Play it before a capture of the kernel's least size, into which `others` have sent that many packets."""
    assert seeing._capture is not None
    seeing._capture._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1)
    begin = seeing.begin
    with socket.create_server(("127.0.0.1", 0)) as listener, socket.create_connection(listener.getsockname()) as near:
        far, _ = listener.accept()

        def begin_late() -> Transcript:
            transcript = begin()
            for _ in range(others):
                near.sendall(b"x")
                assert far.recv(1) == b"x"
            return transcript

        with far, patch.object(seeing, "begin", begin_late):
            return play(name, options, stage, seeing)


def losses(frames: Frames) -> Iterator[tuple[str, Frames]]:
    """What a capture may have kept of them: not all."""

    def is_rst(frame: tuple[int, bytes]) -> bool:
        packet = decode(*frame)
        return packet is not None and "RST" in packet.flags

    half = len(frames) // 2
    yield "nothing", []
    yield "the first half", frames[:half]
    yield "the second half", frames[half:]
    yield "no RST", [frame for frame in frames if not is_rst(frame)]
    yield "RSTs alone", [frame for frame in frames if is_rst(frame)]
    for n in range(len(frames))[:40]:
        yield f"all but packet {n}", frames[:n] + frames[n + 1 :]
    chance = random.Random(1)
    for n in range(20):
        yield f"draw {n}", [frame for frame in frames if chance.random() < 0.5]


@dataclass
class Replay:
    """A run judged again."""

    run: Outcome
    kept: Kept
    absent: dict[str, str]
    wrong: list[str] = field(default_factory=list)
    judged: int = 0

    def transcript(self, frames: Frames, resets: list[Reset]) -> Transcript:
        seen = replace(self.run.transcript, absent=dict(self.absent), captured=[], traced=[])
        take_wire(seen, (frames, len(self.kept.frames) - len(frames)))
        if "reasons" not in self.absent:
            take_reasons(seen, resets, len(self.kept.resets) - len(resets))
        return seen

    def judge(self, what: str, frames: Frames, resets: list[Reset]) -> None:
        seen = self.transcript(frames, resets)
        verdict = judge(self.run.promise, seen)
        self.judged += 1
        self.wrong += [f"{what}: {check.name}: {check.expected}; seen {check.seen}" for check in verdict.differences]
        said = Counter((one.by, one.reason) for one in attribute(seen) if not one.inferred)
        if seen.packets is None and any(check.witness == "wire" for check in verdict.checks):
            self.wrong.append(f"{what}: packets are judged")
        if seen.resets is None and said:
            self.wrong.append(f"{what}: the kernel is said to have said {said}")
        if seen.resets is not None and said != self.reasons:
            self.wrong.append(f"{what}: the kernel said {self.reasons}, and is said to have said {said}")
        if any(one.by == "middlebox" for one in attribute(seen)):
            self.wrong.append(f"{what}: a middlebox")
        if bool(seen.resets is not None and self.reasons) is not self.found_out(seen):
            self.wrong.append(f"{what}: other reasons are {'missed' if self.reasons else 'found'}")

    @property
    def reasons(self) -> Counter[tuple[str, str]]:
        """By the kernel's account, whole."""
        seen = self.run.transcript
        return Counter((seen.role(reset.source), reset.reason) for reset in seen.traced if reset.direction == "sent")

    def found_out(self, seen: Transcript) -> bool:
        """Does the kernel's account speak against another promise, which has none of these reasons?"""
        checks = judge(replace(self.run.promise, resets=()), seen).checks
        return any(check.name == "reset reasons" and not check.agrees for check in checks)


def check(cause: str, options: dict[str, Any], ipv6: bool) -> dict[str, Any]:
    own = namespace.enter()
    with contextlib.suppress(Unable):
        tracing.ready(own)  # mounts what a host has mounted
    stage = open_stage("host", ipv6=ipv6)
    try:
        with watching(stage) as seeing:
            run, kept = whole(cause, options, stage, seeing)
            replay = Replay(run, kept, dict(seeing.absent))
            dropped = []
            for others in (0, 20):
                lossy = starved(cause, options, stage, seeing, others)
                dropped.append(lossy.transcript.absent.get("wire", ""))
                replay.wrong += [f"{others} others: {one}" for one in lossy.verdict.differences]
    except Unable as refusal:
        return {"unable": str(refusal)}
    assert run.verdict.produced, run.verdict.differences
    replay.judge("all", kept.frames, kept.resets)
    ours = [reset for reset in run.transcript.traced if reset.direction == "sent"]
    for what, frames in losses(kept.frames):
        replay.judge(f"wire: {what}", frames, kept.resets)
    for lost in ours:
        left = [reset for reset in kept.resets if reset != lost]
        replay.judge(f"trace: all but {lost.reason}", kept.frames, left)
        replay.judge(f"both: all but {lost.reason}", kept.frames[1:], left)
    return {"wrong": replay.wrong, "judged": replay.judged, "dropped": dropped, "not_seen": sorted(seeing.absent)}
