"""docs/debugging.md: every command runs, on every case, and shows what the guide says."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from faultkit import causes
from faultkit.acting.play import rehearsal
from faultkit.cause import checked
from faultkit.evidence import timers
from faultkit.nesting import chain
from faultkit.serving import faults
from tests import guide
from tests.ordinary import CHECKOUT, command
from tests.shell import ENVIRONMENT, USERS, everybodys_directory

GUIDE = CHECKOUT / "docs/debugging.md"
TEXT = GUIDE.read_text()

# The guide's minutes and its patience, as long as a test may take.
SCALED = {"rate": "1/s", "limit": "6", "probe": "1"}


@dataclass(frozen=True, slots=True)
class Case:
    """One line below a block: what the commands show, and in which case."""

    heading: str
    script: str
    shows: tuple[str, ...]
    play: str

    @property
    def as_root(self) -> bool:
        return self.script.startswith("# as root\n")


def parts() -> Iterator[tuple[str, str]]:
    """The guide's headings, sh blocks and bullets, in order. A bullet is on one line."""
    found = re.finditer(
        r"^(?:## (?P<heading>.+)|```sh\n(?P<sh>(?s:.*?))^```|- (?P<bullet>`.+(?:\n  .+)*))$", TEXT, re.MULTILINE
    )
    for part in found:
        kind = str(part.lastgroup)
        yield kind, re.sub(r"\n +", " ", part[kind]) if kind == "bullet" else part[kind]


def cases() -> list[Case]:
    heading, script, found = "", "", []
    for kind, text in parts():
        if kind == "heading":
            heading, script = text, ""
        elif kind == "sh":
            script = text
        elif script:
            said = re.match(r"((?:`[^`]+`(?:, )?)+):", text)
            assert said, text
            play = re.search(r"Play: (.+?)\.$", text)
            found.append(Case(heading, script, tuple(re.findall("`([^`]+)`", said[1])), play[1] if play else ""))
    return found


PREAMBLE = next(text for kind, text in parts() if kind == "sh")
CASES = [case for case in cases() if case.script != PREAMBLE]


def pattern(shown: str) -> str:
    """A line of the guide as a regular expression: … is anything, and white space is white space."""
    return r"\s+".join(re.escape(word).replace("…", ".*") for word in shown.split())


def scaled(preamble: str) -> str:
    for name, value in SCALED.items():
        preamble, times = re.subn(rf"\b{name}=\S+", f"{name}={value}", preamble)
        assert times == 1
    return preamble


def played(case: Case, user: str) -> dict[str, Any]:
    job = {"case": case.play, "script": scaled(PREAMBLE) + case.script, "wanted": [*map(pattern, case.shows)]}
    with everybodys_directory() as directory:
        wrapper = directory / "faultkit"
        wrapper.write_text(f'#!/bin/sh\nexec {sys.executable} -m faultkit "$@"\n')
        wrapper.chmod(0o755)
        path = os.pathsep.join((str(directory), os.environ["PATH"], "/usr/sbin", "/sbin"))
        ended = subprocess.run(
            command(sys.executable, "-m", "tests.guide", ordinary=user == "nobody"),
            input=json.dumps(job),
            capture_output=True,
            text=True,
            cwd=CHECKOUT,
            env=ENVIRONMENT | {"PATH": path, "COLUMNS": "200", "PYTHONPATH": str(CHECKOUT)},
            timeout=90,
        )
    assert (ended.returncode, ended.stderr) == (0, ""), ended.stderr
    report: dict[str, Any] = json.loads(ended.stdout)
    return report


TRIED = [(case, user) for case in CASES for user in USERS if user == "root" or not case.as_root]


@pytest.fixture(scope="module")
def reports() -> Iterator[dict[tuple[Case, str], Future[dict[str, Any]]]]:
    """All cases, four at a time: most of them do nothing but wait for a timer."""
    with ThreadPoolExecutor(4) as pool:
        yield {(case, user): pool.submit(played, case, user) for case, user in TRIED}


@pytest.mark.parametrize(
    ("case", "user"),
    TRIED,
    ids=[f"{case.heading.partition('.')[0]} {case.play or case.shows[0]} {user}" for case, user in TRIED],
)
def test_it_shows_what_the_guide_says(
    case: Case, user: str, reports: dict[tuple[Case, str], Future[dict[str, Any]]]
) -> None:
    report = reports[case, user].result()
    if "unable" in report:
        assert "gives no reason" in report["unable"]  # Linux before 6.10, as the guide says
        return
    assert report["met"] == len(case.shows), f"missing: {case.shows[report['met']]}\n{report['told']}"


def test_every_block_has_cases() -> None:
    blocks = [text for kind, text in parts() if kind == "sh"]
    assert blocks == [PREAMBLE, *dict.fromkeys(case.script for case in CASES)]
    assert len(re.findall("^```", TEXT, re.MULTILINE)) == 2 * len(blocks)
    assert len(CASES) == len(re.findall("^- `", TEXT, re.MULTILINE))
    assert len(re.findall(r"Play:\s", TEXT)) == sum(bool(case.play) for case in CASES)


def test_it_is_short_enough_to_read() -> None:
    lines = TEXT.splitlines()
    assert len(lines) <= 225
    assert all(len(line) <= 130 for line in lines)


def test_what_it_refers_to_is_there() -> None:
    sections = {int(number) for number in re.findall(r"^## (\d+)\.", TEXT, re.MULTILINE)}
    assert sections == set(range(1, len(sections) + 1))
    referred = [
        int(number)
        for text in re.findall(r"\((\d(?:, \d)*)\)|\| (\d(?:, \d)*) \|$", TEXT, re.MULTILINE)
        for part in text
        for number in part.split(", ")
        if number
    ]
    assert len(referred) > 10 and set(referred) <= sections
    words = set(re.findall(r"`([a-z]+(?:-[a-z]+)+)`", TEXT))
    assert words - set(chain.KEYS) <= {*causes.names(), *faults.names()}


def test_a_counter_moves_in_the_cause_that_it_names() -> None:
    rows = re.findall(r"^\| `(Tcp\w+)` \| .+ \| `(.+)` \|$", TEXT, re.MULTILINE)
    assert len(rows) == 10
    for counter, name in rows:
        cause = causes.load(name)
        promised = [
            cause.promise(options, rehearsal(cause.name, options)).counters or {}
            for options in (checked(cause, dict(variant)) for variant in cause.variants)
        ]
        assert any(counter in counters for counters in promised), (counter, name)


def test_the_kernels_round_numbers() -> None:
    assert timers.syn_expiry(6, 4) == 131
    assert timers.syn_expiry(6, 0) == 127
    assert int(timers.data_expiry(15).earliest) == 924
    proc = Path("/proc/sys/net/ipv4")
    time, interval, probes = (int((proc / f"tcp_keepalive_{name}").read_text()) for name in ("time", "intvl", "probes"))
    if (time, interval, probes) == (7200, 75, 9):  # nobody has set them on this machine
        assert time + interval * probes == 7875
    for shown in ("| 131 (127 before Linux 6.5) |", "| 924 and more |", "| 7200, 7875 |"):
        assert shown in TEXT


def test_the_clients_that_it_names_are_all_used() -> None:
    used = {case.play.partition("`, ")[2] for case in CASES}
    assert used - {""} == set(guide.CLIENTS)
