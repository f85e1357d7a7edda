"""How often `faultkit explain` agrees with labelled captures and pasted rows: `python benchmarks/agreement.py FOLDER`.

FOLDER holds captures in `files/` with their `labels.tsv` (in FOLDER or beside them), or rows of text in `text/` with
`text/labels.tsv`, or both. The tables have at least the columns file, label and sureness. What is labelled "guess" is printed
and not counted. A label is one or several causes of the catalogue ("closed-port + unread"), "negative" (nothing was reset),
"none" (nothing wrong), "unknown" (it cannot be told), or "no name" with the thing in words; what cannot be decided from the
words is printed for a person to read and not counted either. An answer of several causes agrees if the label is among them and
it says so ("one of these").
"""

from __future__ import annotations

import csv
import re
import sys
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import click
from rich.console import Console
from rich.table import Table

from faultkit import causes
from faultkit.explaining.diagnosis import HARMS, SURE, Diagnosis
from faultkit.explaining.explain import explain

# The words of a label without a name in the catalogue, and those that an answer must have.
_WORDS = {
    r"un(asked|solicited) SYN-ACK": r"unasked SYN,ACK|with its own stack",
    r"SYN scan": r"SYN scan",
    r"SYN and FIN scan": r"SYN scan|FIN scan",
    r"bare ACK": r"bare ACK",
    r"relayed": r"relayed",
    r"bypass": r"bypasses the NAT",
    r"ignored": r"to be ignored|ignored",
}
_WELL = ("closed", "open", "harmless", "no reset")


@dataclass(frozen=True)
class Labelled:
    """One row of a table of labels."""

    path: Path
    label: str
    sureness: str

    @property
    def counts(self) -> bool:
        """Is it more than a guess?"""
        return not self.sureness.startswith("guess")

    @property
    def parts(self) -> list[str]:
        """The things that it says are there."""
        words = re.sub(r" after injected [\w+ ]+", "", self.label)
        return [part.strip() for part in re.split(r" \+ |; ?(?:then )?", words) if part.strip()]


def labels(folder: Path) -> Iterator[Labelled]:
    """Every row of the tables in a folder."""
    for table, beside in ((folder, folder / "files"), (folder / "files",) * 2, (folder / "text",) * 2):
        path = table / "labels.tsv"
        if not path.is_file():
            continue
        with path.open(encoding="utf-8", newline="") as stream:
            for row in csv.DictReader(stream, delimiter="\t"):
                here = beside / row["file"]
                yield Labelled(here if here.exists() else table / row["file"], row["label"], row["sureness"])


def agrees(part: str, found: list[Diagnosis]) -> bool | None:
    """Does what was found agree with a part of a label? None where a person has to decide."""
    sequence = part.split(" then ")
    if len(sequence) > 1:  # one end, of which the first led to the others
        named = [{cause.split()[0] for cause in d.causes} for d in found if d.causes and d.cause in sequence]
        return any(names >= set(sequence) for names in named)
    name, _, rest = part.partition(" ")
    if name in causes.names():
        return any(_named(name, rest.strip("() "), d) for d in found if d.harm not in ("closed",))
    if name == "negative":
        reset = [d for d in found if d.resets]
        return bool(reset) and all(d.harm == "no reset" or d.sure == "cannot be told" for d in reset)
    if name == "none":
        return all(d.harm in _WELL for d in found)
    if name == "unknown":
        worst = min(found, key=lambda d: HARMS.index(d.harm))
        return worst.sure == "cannot be told" or not worst.causes
    for words, answer in _WORDS.items():
        if re.search(words, part):
            return any(re.search(answer, f"{d.end}; {d.plain}; {d.why}") for d in found)
    return None


def _named(name: str, variant: str, d: Diagnosis) -> bool:
    """Is the cause the first, or one of those that the answer leaves open? A variant that it names must be the label's."""
    likely = [cause for cause in (d.causes if d.sure == "one of these" else d.causes[:1]) if cause.split()[0] == name]
    known = {str(value) for chosen in causes.load(name).variants for value in chosen.values()}
    if variant in known:
        likely = [cause for cause in likely if variant in cause.split() or "--" not in cause]
    return bool(likely)


def _answer(found: list[Diagnosis]) -> str:
    counted = Counter(
        f"{d.end}: {' / '.join(d.causes[:3]) or d.plain} ({d.sure})"
        for d in sorted(found, key=lambda d: (HARMS.index(d.harm), SURE.index(d.sure)))
        if d.harm not in ("closed", "open") or len(found) == 1
    )
    return "\n".join(f"{count} x {words}" if count > 1 else words for words, count in list(counted.items())[:4])


@click.command(help=__doc__)
@click.argument("folders", nargs=-1, required=True, type=click.Path(exists=True, file_okay=False, path_type=Path))
def main(folders: tuple[Path, ...]) -> None:
    """Explain every labelled file of the folders and print how often that agrees."""
    console = Console(width=None if sys.stdout.isatty() else 160)
    table = Table("file", "label", "", "explained as", show_lines=True)
    agreed: Counter[str] = Counter()
    counted: Counter[str] = Counter()
    undecided = 0
    for labelled in [row for folder in folders for row in labels(folder)]:
        found: list[Diagnosis] = []
        verdict: bool | None = False
        try:
            found = explain(labelled.path)
        except Exception as error:
            said = f"{type(error).__name__}: {error}"
        else:
            answers = [agrees(part, found) for part in labelled.parts] if found else [False]
            said, verdict = _answer(found), None if None in answers else all(answers)
        kind = labelled.sureness.split()[0]
        if labelled.counts and verdict is None:
            undecided += 1
        elif labelled.counts:
            counted[kind] += 1
            agreed[kind] += bool(verdict)
        mark = {True: "agrees", False: "differs", None: "?"}[verdict]
        table.add_row(labelled.path.name, f"{labelled.label} ({kind})", mark if labelled.counts else f"({mark})", said)
    console.print(table)
    for kind in sorted(counted):
        console.print(f"{kind}: {agreed[kind]} of {counted[kind]}")
    everything = counted.total()
    if everything:
        console.print(f"in all: {agreed.total()} of {everything}, {agreed.total() / everything:.1%}")
    if undecided:
        console.print(f"{undecided} for a person to decide")


if __name__ == "__main__":
    main()
