"""A pytest plugin (`-p tests.skips`): a test that is skipped or xfails has failed, unless .ci/skips lists it."""

from __future__ import annotations

from collections.abc import Generator, Iterator
from fnmatch import fnmatchcase
from pathlib import Path
from typing import TypeVar

import pytest

LIST = Path(__file__).parents[1] / ".ci/skips"

R = TypeVar("R", pytest.TestReport, pytest.CollectReport)


def listed(text: str) -> Iterator[tuple[str, str]]:
    """Each line's test, without parameters, and its reason, a pattern."""
    for line in text.splitlines():
        if line and not line.startswith("#"):
            test, colon, reason = line.partition(": ")
            if not colon or not reason.strip():
                raise pytest.UsageError(f".ci/skips: {line!r} is not 'path::test: reason'")
            yield test, reason


def reason(report: pytest.TestReport | pytest.CollectReport) -> str:
    """Why it did not run, as it said itself."""
    said = str(report.longrepr[2]) if isinstance(report.longrepr, tuple) else ""
    return str(getattr(report, "wasxfail", said.removeprefix("Skipped: ")))


def judged(report: R) -> R:
    if report.outcome == "skipped":
        test, why = report.nodeid.partition("[")[0], reason(report)
        if not any(test == known and fnmatchcase(why, pattern) for known, pattern in listed(LIST.read_text())):
            report.outcome = "failed"
            report.longrepr = f"did not run, and .ci/skips does not list it: {why or 'no reason given'}"
            vars(report).pop("wasxfail", None)
    return report


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_makereport() -> Generator[None, pytest.TestReport, pytest.TestReport]:
    return judged((yield))


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_make_collect_report() -> Generator[None, pytest.CollectReport, pytest.CollectReport]:
    return judged((yield))


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(session: pytest.Session, items: list[pytest.Item]) -> None:
    """A line about a test that there is no longer is an error, where everything was collected."""
    if session.config.args == session.config.getini("testpaths") and not session.config.getoption("lf", False):
        known = {item.nodeid.partition("[")[0] for item in items}
        for test, _ in listed(LIST.read_text()):
            if test not in known:
                raise pytest.UsageError(f".ci/skips: there is no test {test}")
