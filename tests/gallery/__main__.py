"""Plays the gallery: `.ci/bugs`. Each bug so often on the version that has it and on the one that has it no more."""

from __future__ import annotations

import re
import subprocess
import sys
import tempfile
import xml.etree.ElementTree as ElementTree
from collections import Counter
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path

import click
from rich.console import Console
from rich.table import Table

from tests.gallery.bug import BUGS, ROOT, Bug, known
from tests.gallery.environments import Environment, Environments, Failed

ENOUGH = 3000  # seconds; arbitrary: what has not ended by then will not


def rounds(bug: Bug, where: Environment, times: int, report: Path) -> tuple[Counter[str], str]:
    """How often its tests failed as the head says, all of them, and how often all passed; and what was said else."""
    node = ["--node", str(where.node)] if where.node else []
    command = [str(where.python), "-m", "pytest", "-c", str(BUGS / "pytest.ini"), "-q", "-p", "no:cacheprovider"]
    command += ["--times", str(times), *node, f"--junit-xml={report}", str(bug.file)]
    try:
        ended = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=ENOUGH)
    except subprocess.TimeoutExpired:
        return Counter(), f"it did not end within {ENOUGH} s"
    if not report.exists():
        told = (ended.stderr + ended.stdout).strip().splitlines()
        return Counter(), told[-1] if told else f"exit {ended.returncode}"
    played: dict[str, list[str]] = {}
    else_said = ""
    for case in ElementTree.parse(report).iter("testcase"):
        failures = [one.attrib.get("message", "") for one in case.iter("failure")]
        errors = [one.attrib.get("message", "") for one in case.iter("error")]
        ended_so = "passes"
        if errors or failures:
            ended_so = "fails" if not errors and all(bug.seen in text for text in failures) else "says something else"
        if ended_so == "says something else":
            else_said = else_said or (errors or failures)[0].splitlines()[0]
        turn = re.search(r"time \d+", case.attrib["name"])
        played.setdefault(turn[0] if turn else "", []).append(ended_so)
    return Counter(ways[0] for ways in played.values() if len({*ways}) == 1), else_said


def play(bug: Bug, environments: Environments, times: int) -> tuple[int, int, str]:
    """How often it failed on the version that has it, and how often it passed on the other; and what went wrong."""
    counted, wrong = {}, []
    for version, wanted in ((bug.buggy, "fails"), (bug.fixed, "passes")):
        with tempfile.TemporaryDirectory() as directory:
            try:
                ways, told = rounds(bug, environments.of(bug, version), times, Path(directory) / "report.xml")
            except Failed as error:
                ways, told = Counter(), str(error)
        counted[wanted] = ways[wanted]
        if ways[wanted] != times:
            wrong.append(f"{version}: {dict(ways)} {told}".rstrip())
    return counted["fails"], counted["passes"], "; ".join(wrong)


@click.command()
@click.argument("names", nargs=-1)
@click.option(
    "--environments", type=click.Path(path_type=Path, file_okay=False), help="Keep them there, for another run."
)
@click.option("--times", default=20, show_default=True, type=click.IntRange(1))
@click.option("--jobs", default=2, show_default=True, type=click.IntRange(1), help="So many bugs at once.")
def main(names: tuple[str, ...], environments: Path | None, times: int, jobs: int) -> None:
    """Play the bugs of those NAMES, or all of them."""
    bugs = known()
    strange = {*names} - {bug.name for bug in bugs}
    if strange:
        raise click.UsageError(f"{min(strange)} is no bug of the gallery: tests/bugs/ has them")
    bugs = [bug for bug in bugs if not names or bug.name in names]
    shown = Table("bug", "buggy", f"fails, of {times}", "fixed", f"passes, of {times}", title="Bugs of real libraries")
    results: dict[str, tuple[int, int, str]] = {}
    with tempfile.TemporaryDirectory() as own, ThreadPoolExecutor(jobs) as pool:
        made = Environments((environments or Path(own)).absolute())
        playing = {pool.submit(play, bug, made, times): bug for bug in bugs}
        for done in as_completed(playing):
            bug = playing[done]
            fails, passes, wrong = results[bug.name] = done.result()
            told = f"{bug.name}: {bug.buggy} fails {fails}, {bug.fixed} passes {passes}, of {times}"
            print(f"{told}{'; ' if wrong else ''}{wrong}", file=sys.stderr, flush=True)
    for bug in bugs:
        fails, passes, _ = results[bug.name]
        shown.add_row(bug.name, f"{bug.library} {bug.buggy}", str(fails), bug.fixed, str(passes))
    Console().print(shown)
    whole = sum(result[:2] == (times, times) for result in results.values())
    print(f"{whole} of {len(bugs)} bugs: {times} of {times} fail and {times} of {times} pass.")
    sys.exit(whole != len(bugs))


if __name__ == "__main__":
    main()
