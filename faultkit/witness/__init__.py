"""The three witnesses: the program's own calls, the packets, the kernel's counters and reset reasons. None of them judges.

The calls witness lives in the sockets of a play (`witness.calls`); the other two are started here, for any number of runs.
"""

from __future__ import annotations

import contextlib
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from faultkit.errors import Exhausted, Unable, exhausted
from faultkit.evidence.transcript import Address, Count, Frame, Packet, Reset, Transcript
from faultkit.stage import Stage, tracing
from faultkit.stage.tracing import Instance
from faultkit.witness import kernel
from faultkit.witness.passing import Passing
from faultkit.witness.wire import Capture, Refused, decode, quoted

if TYPE_CHECKING:
    from faultkit.stage.neighbour import Neighbour


class Witnesses:
    """Those of wire and kernel that this machine allows. `absent` says why one is not there, or not wholly."""

    def __init__(self, stage: Stage, *, wire: bool) -> None:
        self.absent: dict[str, str] = {}
        self._alone = stage.namespace is not None
        self._before: dict[str, int] = {}
        self._reasons: kernel.Reasons | None = None
        self._instance: Instance | None = None
        self._capture: Capture | None = None
        self._passing: Passing | None = None
        try:
            self._instance = tracing.start(stage.namespace)
        except Exhausted:
            raise
        except Unable as error:
            self.absent["reasons"] = stage.advice(str(error))
        if not wire:
            self.absent["wire"] = "left out on request"
            return
        try:
            self._capture = Capture("lo")
            self._passing = Passing(None if self._alone else "lo")
        except Refused as error:
            self.absent["wire"] = stage.no_capture(error)

    def begin(self) -> Transcript:
        """A new transcript. What happened before it is not in it."""
        if self._instance and not self._reasons and "reasons" not in self.absent:
            try:
                self._instance.open()
                self._reasons = kernel.Reasons(self._instance)
            except OSError as error:
                lacking = exhausted(error)
                if lacking:
                    raise lacking from error
                self.absent["reasons"] = (
                    f"tracefs cannot be used here ({error}): the kernel's reset reasons stay unseen"
                )
        if self._capture:
            self._capture.cut()
        if self._reasons:
            self._reasons.cut()
        self._before = kernel.counters()
        transcript = Transcript(began_ns=time.time_ns(), alone=self._alone, absent=dict(self.absent))
        if self._passing:
            self._passing.cut(self._before)
            transcript.counts.append(Count("", 0, transcript.began_ns, {}, self._passing.listening()))
        return transcript

    def look(self) -> None:
        """Read the counters if a RST has passed since the last look: before and after whatever may bring one about."""
        if self._passing:
            self._passing.look()

    async def watch(self) -> None:
        """Look at each RST that comes by itself."""
        if self._passing:
            await self._passing.watch()

    def end(self, transcript: Transcript, neighbours: Sequence[Neighbour] = (), taps: Sequence[Capture] = ()) -> None:
        """Put into the transcript what the wire and the kernel saw of its run, and of nothing else on the machine.

        The counters are those of the stage and of its `neighbours` together; `taps` are captures of other interfaces.
        """
        transcript.ended_ns = time.time_ns()
        cuts = [capture.cut() for capture in (self._capture, *taps)] if self._capture else []
        if self._passing:
            transcript.counts += self._passing.cut(self._before, [frame for cut in cuts for frame in cut[0]])
        self._count("", kernel.moved(self._before, kernel.counters()), transcript)
        for neighbour in neighbours:
            transcript.places[neighbour.host] = neighbour.name
            with neighbour.entered():
                self._count(neighbour.name, kernel.moved({}, kernel.counters()), transcript)
        if self._capture:
            take_wire(transcript, *cuts)
        if self._reasons:
            take_reasons(transcript, *self._reasons.cut())

    def _count(self, place: str, moved: dict[str, int], transcript: Transcript) -> None:
        """Put down what one namespace has counted in all."""
        now = time.time_ns()
        listeners = self._passing.listening() if self._passing and not place else None
        transcript.counts.append(Count(place, now, now, moved, listeners))
        transcript.counted = dict(Counter(transcript.counted) + Counter(moved))

    def stop(self) -> None:
        """See no more. What takes time to be taken down is taken down meanwhile."""
        if self._capture:
            self._capture.close()
        if self._passing:
            self._passing.close()
        if self._instance:
            self._instance.stop()
        self._capture = self._passing = self._reasons = None

    def close(self) -> None:
        """Leave nothing."""
        self.stop()
        if self._instance:
            self._instance.close()
            self._instance = None


def take_wire(transcript: Transcript, *cuts: tuple[list[tuple[int, bytes]], int]) -> None:
    """Put in what each capture gave (see `Capture.cut`) of this run."""
    frames, dropped = sorted(frame for cut in cuts for frame in cut[0]), sum(cut[1] for cut in cuts)
    packets = [packet for time_ns, frame in frames if (packet := decode(time_ns, frame))]
    transcript.captured = [packet for packet in packets if _ours(packet, transcript)]
    transcript.complaints = [
        Frame(time_ns, frame, len(frame))
        for time_ns, frame in frames
        if (ends := quoted(frame)) and not transcript.roles.keys().isdisjoint(ends)
    ]
    transcript.strangers = sum(not _ours(packet, transcript) for packet in packets if "RST" in packet.flags)
    if dropped:
        transcript.absent["wire"] = f"the capture lost {dropped} packets, so what it saw is not whole"


def take_reasons(transcript: Transcript, resets: Sequence[Reset], lost: int) -> None:
    """Put in what the trace gave (see `Reasons.cut`) of this run. It is told by what wire and counters have put in before."""
    transcript.traced = own(resets, transcript)
    if lost:
        transcript.absent["reasons"] = f"the trace lost {lost} events, so what it saw is not whole"
    elif whose := doubtful(transcript):
        transcript.absent["reasons"] = whose


_MOMENT_NS = 20_000_000  # arbitrary: the trace event comes microseconds before its packet


def _ours(event: Packet | Reset, transcript: Transcript) -> bool:
    """Between two ends of this run.

    A reset for a listening socket names no peer (its destination is port 0), and the trace is the whole machine's, where
    another namespace may listen on the same port: such a one is ours only if its RST was captured at the same moment. Where
    the wire was not seen wholly, it may be: see `doubtful`.
    """
    if event.source not in transcript.roles or event.destination in transcript.roles:
        return event.source in transcript.roles
    packets = transcript.packets
    return event.destination.port == 0 and (packets is None or _captured(event, packets))


def _captured(event: Packet | Reset, packets: Sequence[Packet]) -> bool:
    """Was a RST from there captured at that moment?"""
    return any(
        "RST" in packet.flags
        and packet.source == event.source
        and abs(packet.time_ns - event.time_ns) < _MOMENT_NS
        and event.destination in (packet.destination, Address(event.destination.host, 0))
        for packet in packets
    )


def own(resets: Sequence[Reset], transcript: Transcript) -> list[Reset]:
    """Those of this run, of what the trace saw on the whole machine.

    Another namespace may have the same addresses and ports, as two runs of a stack do: the kernel counts what each has sent
    (TcpOutRsts), and where the trace has more, only those count whose RST was captured.
    """
    found = [reset for reset in resets if _ours(reset, transcript)]
    packets, counters = transcript.packets, transcript.counters
    if counters is None or packets is None or _sent(found) <= counters.get("TcpOutRsts", 0):
        return found
    return [reset for reset in found if reset.direction != "sent" or _captured(reset, packets)]


def doubtful(transcript: Transcript) -> str:
    """Why it cannot be told which of the traced resets are this run's, or "" where it can.

    The kernel's count of all that its namespace has sent is an upper limit on the host, too, where others are counted.
    """
    traced, counted = _sent(transcript.traced), transcript.counted.get("TcpOutRsts", 0)
    if transcript.packets is not None or traced <= counted:
        return ""
    return (
        f"the trace has {traced} resets from these ports, of which this network namespace sent {counted} at most, and there is "
        "no whole capture to tell them by"
    )


def _sent(resets: Sequence[Reset]) -> int:
    return sum(reset.direction == "sent" for reset in resets)


@contextlib.contextmanager
def watching(stage: Stage, *, wire: bool = True) -> Iterator[Witnesses]:
    """Start the witnesses on a stage. Call it before any thread or event loop runs."""
    witnesses = Witnesses(stage, wire=wire)
    try:
        yield witnesses
    finally:
        witnesses.close()
