"""The ladder: time, what the left end called and got, the packet as an arrow, what the right end called and got."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from faultkit.evidence.segments import Segment, read
from faultkit.evidence.transcript import Call, Step, Transcript
from faultkit.views.console import folded
from faultkit.views.signs import plain

if TYPE_CHECKING:
    from rich.console import Console
    from rich.text import Text

TIME = 10  # "123456.789"
WIRE = 32  # fits "RST,ACK seq=12345 ack=12345" and its arrow; leaves 17 for "recv → ECONNRESET" on 80 columns
_NARROW = 80
_FAILED = "red"
_ACTIVE = {"setsockopt", "getsockopt", "ioctl", "bind", "listen"}


@dataclass(slots=True)
class Rung:
    """One line of the ladder, or several where a cell is folded."""

    time_ns: int
    left: str = ""
    wire: str = ""
    right: str = ""
    across: str = ""  # instead of all three
    style: str = ""


def call_text(call: Call) -> str:
    """ "recv → ECONNRESET"; what was set stands before the arrow, addresses do not."""
    argument = (
        call.argument if call.name in ("setsockopt", "getsockopt", "ioctl", "shutdown", "recv", "disconnect") else ""
    )
    name = " ".join(filter(None, (call.name, argument)))
    return name if call.outcome == "ok" and call.name in _ACTIVE else f"{name} → {call.outcome}"


def packet_text(segment: Segment) -> str:
    """ "PSH,ACK seq=1 ack=1 len=5", with Wireshark's mark where there is one."""
    packet = segment.packet
    words = [",".join(packet.flags), f"seq={segment.seq}"]
    if "ACK" in packet.flags:
        words.append(f"ack={segment.ack}")
    if packet.payload:
        words.append(f"len={packet.payload}")
    if segment.mark:
        words = [segment.mark, *words[1:]]
    return " ".join(words)


def _arrow(text: str, rightwards: bool, width: int) -> str:
    if rightwards:
        return f"─ {text} ".ljust(width - 1, "─") + "▶"
    return "◀" + f" {text} ─".rjust(width - 1, "─")


def sides(transcript: Transcript) -> tuple[list[str], list[str]]:
    """Who stands on the left and who on the right: those who connect, and those who are connected to."""
    roles = list(dict.fromkeys(call.role for call in transcript.calls))
    accepting = {call.role for call in transcript.calls if call.name in ("listen", "accept")}
    connecting = {call.role for call in transcript.calls if call.name == "connect"} - accepting
    # The calls of a real program are not recorded, but its segments are.
    ends = [(transcript.role(p.source), transcript.role(p.destination)) for p in transcript.captured]
    roles = list(dict.fromkeys((*roles, *(role for pair in ends for role in pair if role != "unknown"))))
    dialling = [transcript.role(p.source) for p in transcript.captured if p.flags == ("SYN",)]
    connecting = connecting or set(dialling) - accepting
    left = [role for role in roles if role in connecting] or ["client"]
    return left, [role for role in roles if role not in left] or ["server"]


def rungs(transcript: Transcript, wire: int = WIRE, encoding: str = "utf-8") -> list[Rung]:
    """All events in order of time."""
    left, right = sides(transcript)
    found: list[Rung] = []
    speaking = {side[0]: side[0] if len(side) == 1 else "" for side in (left, right)}
    for call in sorted(transcript.calls, key=lambda call: call.shown_ns):
        side = left if call.role in left else right
        if speaking[side[0]] != call.role:  # several share this side: say which of them calls from here on
            speaking[side[0]] = call.role
            found.append(Rung(call.shown_ns, across=call.role, style="bold"))
        style = _FAILED if call.outcome.startswith("E") and call.outcome != "EOF" else ""
        text = call_text(call)
        cells = {"left": text} if side is left else {"right": text}
        found.append(Rung(call.shown_ns, **cells, style=style))
    for segment in read(transcript.captured):
        packet = segment.packet
        arrow = _arrow(packet_text(segment), transcript.role(packet.source) in left, wire)
        found.append(Rung(packet.time_ns, wire=arrow, style="bold red" if "RST" in packet.flags else "cyan"))
    found += [Rung(step.time_ns, across=_step_text(step), style="yellow") for step in transcript.steps]
    found += [Rung(line.time_ns, across=f"{line.program}: {line.text}", style="red") for line in transcript.lines]
    for rung in found:
        rung.left, rung.wire, rung.right, rung.across = (
            plain(cell, encoding) for cell in (rung.left, rung.wire, rung.right, rung.across)
        )
    return sorted(found, key=lambda rung: rung.time_ns)


def _step_text(step: Step) -> str:
    return f"{step.actor}: {step.text}"


def show(console: Console, transcript: Transcript) -> None:
    for line in lines(transcript, console.width, console.encoding):
        console.print(line, soft_wrap=True)


def lines(transcript: Transcript, width: int, encoding: str = "utf-8") -> Iterator[Text]:
    """The ladder for a terminal of that many columns; with less than 80 its ends stand in one column."""
    if width < _NARROW:
        yield from _narrow(transcript, width, encoding)
        return
    from rich.text import Text

    # An arrow that is longer where it is spelled takes its room from the wire's.
    wire = min(44, WIRE + (width - _NARROW) // 3) - 2 * (len(plain("→", encoding)) - 1)
    end = (width - TIME - wire - 4) // 2
    left, right = (side[0] if len(side) == 1 else f"{len(side)} ends" for side in sides(transcript))
    yield Text(f"{'ms':>{TIME}}  {left:<{end}} {'':<{wire}} {right}".rstrip(), style="bold")
    for rung in rungs(transcript, wire, encoding):
        at = f"{transcript.seconds(rung.time_ns) * 1000:{TIME}.3f}"
        if rung.across:
            for number, part in enumerate(folded(rung.across, width - TIME - 4)):
                start = (at, plain("┄ ", encoding)) if not number else (" " * TIME, "  ")
                yield Text.assemble((start[0], "dim"), "  ", (start[1] + part, rung.style))
            continue
        cells = [folded(rung.left, end), [rung.wire], folded(rung.right, end)]
        for number in range(max(map(len, cells))):
            parts = [cell[number] if number < len(cell) else "" for cell in cells]
            row = f"{parts[0]:<{end}} {parts[1]:<{wire}} {parts[2]}".rstrip()
            yield Text.assemble((at if not number else " " * TIME, "dim"), "  ", (row, rung.style))


def _narrow(transcript: Transcript, width: int, encoding: str) -> Iterator[Text]:
    """One thing to a line: the call with whose it is, the packet behind its arrow."""
    from rich.text import Text

    sides_of = sides(transcript)
    names = [side[0] if len(side) == 1 else f"{len(side)} ends" for side in sides_of]
    yield Text(f"{'ms':>{TIME}}  {' and '.join(names)}", style="bold")
    for rung in rungs(transcript, 0, encoding):
        at = f"{transcript.seconds(rung.time_ns) * 1000:{TIME}.3f}"
        told = rung.across or rung.wire.strip("─- ")
        for name, call in zip(names, (rung.left, rung.right), strict=True):
            told = f"{name} {call}" if call else told
        for line in folded(told, width, f"{at}  ", " " * (TIME + 4)):
            yield Text.assemble((line[:TIME], "dim"), (line[TIME:], rung.style))
