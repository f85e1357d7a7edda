"""Plays the gallery: `.ci/bugs`. Each bug so often on the version that has it and on the one that has it no more."""

from __future__ import annotations

import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path

import click
from rich.console import Console
from rich.table import Table

from tests.gallery.bug import Bug, known
from tests.gallery.environments import Environments, Failed
from tests.gallery.rounds import Count, play


def versions(bug: Bug, environments: Environments, times: int) -> tuple[Count, Count]:
    """The buggy version and the fixed one."""

    def one(version: str) -> Count:
        try:
            return play(bug, environments.of(bug, version), times)
        except Failed as error:
            return Count(other=str(error))

    return one(bug.buggy), one(bug.fixed)


@click.command()
@click.argument("names", nargs=-1)
@click.option(
    "--environments", type=click.Path(path_type=Path, file_okay=False), help="Keep them there for the next run."
)
@click.option("--times", default=20, show_default=True, type=click.IntRange(1))
@click.option("--jobs", default=2, show_default=True, type=click.IntRange(1), help="So many bugs at once.")
def main(names: tuple[str, ...], environments: Path | None, times: int, jobs: int) -> None:
    """Play the bugs of those NAMES, or all of them."""
    bugs = known()
    if strange := {*names} - {bug.name for bug in bugs}:
        raise click.UsageError(f"{min(strange)} is no bug of the gallery: tests/bugs/ has them")
    bugs = [bug for bug in bugs if not names or bug.name in names]
    results: dict[str, tuple[Count, Count]] = {}
    with tempfile.TemporaryDirectory() as own, ThreadPoolExecutor(jobs) as pool:
        made = Environments((environments or Path(own)).absolute())
        playing = {pool.submit(versions, bug, made, times): bug for bug in bugs}
        for done in as_completed(playing):
            bug, (buggy, fixed) = playing[done], done.result()
            results[bug.name] = buggy, fixed
            told = f"{bug.name}: {bug.buggy} fails {buggy.failed}, {bug.fixed} passes {fixed.passed}, of {times}"
            print("; ".join(filter(None, [told, buggy.other, fixed.other])), file=sys.stderr, flush=True)
    table = Table("bug", "buggy", f"fails, of {times}", "fixed", f"passes, of {times}")
    for bug in bugs:
        buggy, fixed = results[bug.name]
        table.add_row(bug.name, f"{bug.library} {bug.buggy}", str(buggy.failed), bug.fixed, str(fixed.passed))
    Console().print(table)
    whole = sum((buggy.failed, fixed.passed) == (times, times) for buggy, fixed in results.values())
    print(
        f"{whole} of {len(bugs)} fail {times} of {times} times where they are, and pass {times} of {times} where they are not."
    )
    sys.exit(whole != len(bugs))


if __name__ == "__main__":
    main()
