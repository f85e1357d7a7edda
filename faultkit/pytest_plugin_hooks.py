"""What makes the fixtures loud: a fault that nobody met and a handler that crashed fail the test, and its report tells of them.

A module of its own because an older pytest refuses it when it is imported.
"""

from __future__ import annotations

import sys
from collections.abc import Generator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from faultkit.pytest_plugin import fail
from faultkit.serving import tracebacks

if TYPE_CHECKING:
    from faultkit.serving.fixture import Opener

PROGRAMS = tuple(Path(__file__).parent / name for name in ("recipes", "clients/asking"))
OPENED: pytest.StashKey[list[Opener]] = pytest.StashKey()
"""Of an item: what its fixtures gave it. Of the session: what lives as long as that."""
WHOLE_SESSION = "fault_server_session"


def pytest_ignore_collect(collection_path: Path) -> bool | None:
    """Programs are no modules, and some of them serve for ever: `--pyargs faultkit` collects nothing there."""
    return True if collection_path in PROGRAMS else None


def _of(item: pytest.Item) -> list[Opener]:
    """What this test has servers of."""
    wider = item.session.stash.get(OPENED, []) if WHOLE_SESSION in getattr(item, "fixturenames", ()) else []
    return [*wider, *item.stash.get(OPENED, [])]


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    item.stash[OPENED] = []
    for servers in _of(item):
        servers.begin_again()


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_call(item: pytest.Item) -> Generator[None, None, None]:
    __tracebackhide__ = True
    try:
        yield
    finally:
        for servers in _of(item):
            servers.check()
    # Only where the test did not fail by itself.
    fail([complaint for servers in _of(item) for complaint in servers.complaints])


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_teardown(item: pytest.Item) -> Generator[None, None, None]:
    __tracebackhide__ = True
    left: list[str] = []
    try:
        yield
    finally:
        if supervised := sys.modules.get("faultkit.serving.supervised"):
            left, supervised.LEFT[:] = [*supervised.LEFT], []
    fail(left)  # where a server has not told of it


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    if call.excinfo:
        tracebacks.shorten(call.excinfo.value)
    report = yield
    if report.failed:
        report.sections += [("faultkit", told) for servers in _of(item) if (told := str(servers))]
    return report
