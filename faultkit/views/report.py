"""What a run prints for a person: the sentence, the ladder, the verdict, the evidence, who sent the RST, what to do."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING

from faultkit.evidence.attribution import attribute
from faultkit.evidence.segments import form
from faultkit.evidence.verdict import Check, told
from faultkit.views import ladder, table
from faultkit.views.console import paragraph
from faultkit.views.table import Column

if TYPE_CHECKING:
    from rich.console import Console

    from faultkit.evidence.transcript import Transcript
    from faultkit.playing.run import Outcome
    from faultkit.stage import Stage


def section(console: Console, title: str, items: Sequence[str], *, bullets: bool = False) -> None:
    if items:
        console.print()
        console.print(title, style="bold")
    for item in items:
        paragraph(console, item, "  - " if bullets else "  ", "    " if bullets else "  ")


def setting(stage: Stage) -> str:
    """Where it is played, and why not in a namespace where one was wanted."""
    place = (
        f"Played on {stage.described}, {stage.host}."
        if not stage.namespace
        else f"Played in {stage.described}, {stage.host}."
    )
    return f"{place} Not in a private namespace: {stage.refused}." if stage.refused else place


def show(console: Console, outcome: Outcome) -> None:
    """One run, whole."""
    heading(console, outcome)
    transcript = outcome.transcript
    if transcript.tallies:
        chart(console, transcript)
    else:
        console.print()
        ladder.show(console, transcript)
        side_by_side(console, transcript)
    verdict(console, outcome)
    evidence(console, transcript)
    resets(console, transcript, outcome.cause.story)
    section(
        console, "Taken for", [f"{cause}: {tell}" for cause, tell in outcome.cause.lookalikes.items()], bullets=True
    )
    section(console, "Met in the wild", outcome.cause.met, bullets=True)
    section(console, "What to do about it", outcome.cause.remedy, bullets=True)


def resets(console: Console, transcript: Transcript, *stories: str) -> None:
    """Whose each RST was and why, as the witnesses tell it."""
    found = [
        text if n == 1 else f"{n} times: {text}" for text, n in _runs(one.sentences for one in attribute(transcript))
    ]
    numbered = [f"{number}. {text}" for number, text in enumerate(found, 1)] if len(found) > 1 else found
    section(console, "Who sent the RST, and why", [*(numbered or ["No RST was seen."]), *stories])


def side_by_side(console: Console, transcript: Transcript) -> None:
    """What each of several clients was told, call by call, where there is more than one."""
    left, _ = ladder.sides(transcript)
    if len(left) < 2:
        return
    from itertools import zip_longest

    columns = [Column(role, prose=True) for role in left]
    rows = zip_longest(*(told(transcript, role) for role in left), fillvalue="")
    console.print()
    table.show(console, columns, rows, header=True)


def heading(console: Console, outcome: Outcome) -> None:
    """The sentence of what is done, and where."""
    paragraph(console, f"{outcome.cause.name}: {outcome.cause.doing(outcome.options)}", style="bold")
    paragraph(console, setting(outcome.stage), style="dim")


def verdict(console: Console, outcome: Outcome) -> None:
    """Produced, or what was expected and what was seen, side by side."""
    console.print()
    if not outcome.verdict.checks:
        console.print("Nothing was promised: this is a search, and it shows what it found.", style="bold")
    elif outcome.verdict.produced:
        console.print("✔ Produced as promised.", style="bold green")
    else:
        console.print("✘ Something else was seen.", style="bold red")
        differences(console, outcome.verdict.differences)


def differences(console: Console, checks: Sequence[Check]) -> None:
    """Expected and seen, side by side."""
    columns = [Column(title, prose=True) for title in ("witness", "what", "expected", "seen")]
    rows = [
        (check.witness, check.name, *("\n".join(side) or "nothing" for side in (check.expected, check.seen)))
        for check in checks
    ]
    table.show(console, columns, rows, header=True, grid=True)


def evidence(console: Console, transcript: Transcript) -> None:
    """What each witness saw, and which was not allowed to look."""
    console.print()
    console.print("Evidence", style="bold")
    for witness, text in _seen(transcript):
        paragraph(console, text, f"  {witness:<8}", " " * 10)


def _seen(transcript: Transcript) -> Iterator[tuple[str, str]]:
    left, right = ladder.sides(transcript)
    recorded = {call.role for call in transcript.calls}
    for role in (*left, *right):
        if role not in recorded and role in transcript.roles.values():
            yield "calls", f"{role}: a real program's, not recorded"
            continue
        yield "calls", f"{role}: {_folded(told(transcript, role)) or 'none that tells'}"
    if (packets := transcript.packets) is not None:
        rsts = [p for p in packets if "RST" in p.flags]
        named = [f"{transcript.role(p.source)} {','.join(p.flags)} ({_FORMS[form(p)]})" for p in rsts]
        yield "wire", f"{len(packets)} packets; RST: {_folded(named) or 'none'}"
    elif transcript.captured:
        yield (
            "wire",
            f"{len(transcript.captured)} packets, from which nothing is concluded: {transcript.absent['wire']}",
        )
    else:
        yield "wire", f"not seen: {transcript.absent['wire']}"
    moved = ", ".join(f"{name} +{n}" for name, n in sorted(transcript.counted.items()) if _tells(name))
    shared = "" if transcript.alone else " (the host's counters, which others move too)"
    yield "kernel", (moved or "no telling counter moved") + shared
    if (resets := transcript.resets) is None:
        yield "kernel", f"reset reasons not seen: {transcript.absent['reasons']}"
    else:
        sent = [f"{transcript.role(r.source)} {r.reason}" for r in resets if r.direction == "sent"]
        yield "kernel", f"reset reasons: {_folded(sent) or 'none'}"
    for one in transcript.measurements:
        yield "clock", f"{one.name}: predicted {one.predicted:.3f} s, measured {one.measured:.3f} s"


_FORMS = {"active": "formed as a socket's own abort", "stack": "formed as an answer of the stack"}


def _tells(name: str) -> bool:
    words = (
        "Abort",
        "Reset",
        "Rsts",
        "Fails",
        "Retrans",
        "KeepAlive",
        "Timeouts",
        "MinTTL",
        "Unreachs",
        "Challenge",
        "Overflow",
        "Drop",
    )
    return any(word in name for word in words)


def _runs(words: Iterable[str]) -> list[tuple[str, int]]:
    """Each word with how often it stands there in a row."""
    return [(word, len(list(same))) for word, same in itertools.groupby(words)]


def _folded(words: Sequence[str]) -> str:
    """ "send 5 ×7, recv EOF" instead of seven times the same; of a long series only how often each came."""
    runs = _runs(words)
    if len(runs) > _MANY:
        runs = list(Counter(words).most_common())
    return ", ".join(word if n == 1 else f"{word} ×{n}" for word, n in runs)


_MANY = 30  # arbitrary: four lines of a terminal


# How an attempt of a search is drawn; what is not here takes the last letter.
_LETTERS = {
    "answered": ".",
    "closed already": "c",
    "ECONNRESET": "R",
    "EOF": "E",
    "EPIPE": "P",
    "ETIMEDOUT": "T",
    "502": "X",
    "": "?",
}


def chart(console: Console, transcript: Transcript) -> None:
    """The attempts of a search, ten to a line, and how often each outcome came."""
    from rich.text import Text

    def letter(outcome: str) -> str:
        return next(sign for words, sign in _LETTERS.items() if outcome.endswith(words))

    console.print()
    for start in range(0, len(transcript.tallies), 10):
        row = transcript.tallies[start : start + 10]
        line = Text(f"{row[0].label:>9} to {row[-1].label:<9}")
        for tally in row:
            sign = letter(tally.outcome)
            line.append(f" {sign}", style="bold red" if sign.isupper() else "green")
        console.print(line)
    console.print()
    for outcome, n in Counter(tally.outcome for tally in transcript.tallies).most_common():
        share = 100 * n / len(transcript.tallies)
        console.print(
            f"  {letter(outcome)}  {outcome}: {n} of {len(transcript.tallies)} ({share:.1f} %)", highlight=False
        )


def packets(console: Console, outcome: Outcome) -> None:
    """The capture as Wireshark's packet list."""
    from faultkit.views import packets as listing

    console.print()
    transcript = outcome.transcript
    if transcript.captured:
        listing.show(console, transcript.captured)
        if transcript.packets is None:
            console.print()
            paragraph(console, f"Not all: {transcript.absent['wire']}.")
    else:
        paragraph(console, f"No packets: {transcript.absent.get('wire', 'none were seen')}.")


def series(console: Console, outcomes: list[Outcome], *, quiet: bool) -> None:
    """How many of a series were as promised, and every odd one."""
    odd = [(number, outcome) for number, outcome in enumerate(outcomes, 1) if not outcome.verdict.produced]
    if not quiet:
        console.print()
        produced = len(outcomes) - len(odd)
        console.print(f"{produced} of {len(outcomes)} as promised", style="bold red" if odd else "bold green")
    for number, outcome in odd:
        console.print()
        console.print(f"Run {number} of {len(outcomes)}", style="bold")
        ladder.show(console, outcome.transcript)
        verdict(console, outcome)
