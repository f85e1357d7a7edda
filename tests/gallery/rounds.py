"""Plays one version of a library some times, and counts how it went, from pytest's own report."""

from __future__ import annotations

import re
import subprocess
import tempfile
import xml.etree.ElementTree as ElementTree
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from tests.gallery.bug import BUGS, ROOT, Bug
from tests.gallery.environments import Environment

ENOUGH = 3000  # seconds; arbitrary: what has not ended by then will not


@dataclass(frozen=True)
class Count:
    """How often all of a bug's tests passed, and how often all failed as its head says; and what was said else, once."""

    passed: int = 0
    failed: int = 0
    other: str = ""


def counted(report: Path, seen: str) -> Count:
    """From JUnit's XML: a time is counted where all tests of it ended alike. What fails without saying `seen`, and an error
    outside of the test, is no failure of the bug's."""
    rounds: dict[str, set[str]] = {}
    other = ""
    for case in ElementTree.parse(report).iter("testcase"):
        failures, errors = ([one.attrib.get("message", "") for one in case.iter(kind)] for kind in ("failure", "error"))
        if errors or any(seen not in said for said in failures):
            end = "other"
            other = other or (errors or failures)[0].partition("\n")[0]
        else:
            end = "failed" if failures else "passed"
        turn = re.search(r"time \d+", case.attrib["name"])
        rounds.setdefault(turn[0] if turn else "", set()).add(end)
    alike = Counter(end for ends in rounds.values() if len(ends) == 1 for end in ends)
    return Count(alike["passed"], alike["failed"], other)


def play(bug: Bug, where: Environment, times: int) -> Count:
    """Play it so often."""
    with tempfile.TemporaryDirectory() as directory:
        report = Path(directory) / "report.xml"
        command = [str(where.python), "-m", "pytest", "-c", str(BUGS / "pytest.ini"), "-q", "-p", "no:cacheprovider"]
        command += ["--times", str(times), f"--junit-xml={report}", str(bug.file)]
        if where.node:
            command += ["--node", str(where.node)]
        try:
            ended = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=ENOUGH)
        except subprocess.TimeoutExpired:
            return Count(other=f"it did not end within {ENOUGH} s")
        if not report.exists():
            told = (ended.stderr + ended.stdout).strip().splitlines()
            return Count(other=told[-1] if told else f"pytest ended with {ended.returncode}")
        return counted(report, bug.seen)
