"""Where faultkit is installed beside a pytest that is too old for it, who does not use it does not notice.

`.ci/pytests` tries the real ones.
"""

from __future__ import annotations

import re

import pytest

from faultkit import pytest_plugin
from tests.plugin.project import ROOT, Project

OLDER = """
    import pytest

    hookimpl = pytest.hookimpl

    def older(function=None, hookwrapper=False, optionalhook=False, tryfirst=False, trylast=False):
        return hookimpl(function, hookwrapper, optionalhook, tryfirst, trylast)

    pytest.__version__, pytest.hookimpl = "7.0.1", older
    del pytest.StashKey
"""


@pytest.fixture
def alone(project: Project, monkeypatch: pytest.MonkeyPatch) -> Project:
    """A project without anybody else's plugins."""
    monkeypatch.setenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD", "1")
    return project


def test_it_is_no_matter_of_who_does_not_use_it(alone: Project) -> None:
    tests = """
        def test_of_their_own():
            pass

        def test_a_fault(fault_server):
            fault_server("linger")

        def test_a_firewall(firewall):
            firewall.drop(1)
    """
    ended = alone.run_apart(tests, "-polder", f"-p{pytest_plugin.__name__}", older=OLDER)
    ended.assert_outcomes(passed=1, errors=2)
    ended.stdout.fnmatch_lines(
        [
            f"{name} needs pytest 8 or later, and this is 7.0.1: pip install 'pytest>=8'"
            for name in ("fault_server", "firewall")
        ]
    )


@pytest.mark.parametrize(
    ("name", "green"),
    [
        ("gevent", "import faultkit; faultkit.serve\nfrom gevent import monkey; monkey.patch_all()"),
        ("eventlet", "import eventlet; eventlet.monkey_patch()"),
    ],
)
def test_green_threads_are_refused_in_a_sentence(alone: Project, name: str, green: str) -> None:
    """By the fixture, and by `serve`, whichever was there first."""
    tests = """
        import faultkit, pytest

        def test_of_their_own():
            with pytest.raises(faultkit.Unable, match="has replaced the sockets"):
                with faultkit.serve("linger"):
                    pass

        def test_a_fault(fault_server):
            fault_server("linger")
    """
    ended = alone.run_apart(tests, "-pgreen", f"-p{pytest_plugin.__name__}", "-Wignore", green=green)
    ended.assert_outcomes(passed=1, errors=1)
    ended.stdout.fnmatch_lines([f"{name} has replaced the sockets and threads of this process by its own, *"])


def test_collecting_the_package_ends(alone: Project) -> None:
    """It has programs among its files, some of which serve for ever."""
    ended = alone.run_apart(
        "",
        "-ppytest_trio.plugin",
        f"-p{pytest_plugin.__name__}",
        "--doctest-modules",
        "--collect-only",
        "--pyargs",
        "faultkit",
    )
    assert "error" not in ended.stdout.str().casefold()
    ended.stdout.fnmatch_lines(["*no tests *"])


def test_the_extra_asks_for_the_oldest() -> None:
    asked = re.findall(r"^ +pytest>=(\d+)$", (ROOT / "setup.cfg").read_text(), re.MULTILINE)
    assert set(asked) == {str(pytest_plugin.OLDEST)}
