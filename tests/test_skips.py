from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests import readme, skips

SKIPPING = """
import pytest

@pytest.mark.parametrize("n", [1, 2])
def test_listed(n):
    pytest.skip("tool 4.4 is too new")

def test_listed_for_another_reason():
    pytest.skip("no time")

@pytest.mark.skip
def test_marked():
    pass

@pytest.fixture
def nothing():
    pytest.skip("nothing there")

def test_set_up(nothing):
    pass

@pytest.mark.xfail(reason="one day")
def test_xfails():
    assert False

def test_runs():
    pass
"""

LISTED = """
# The first two:
test_it.py::test_listed: tool * is too new
test_it.py::test_listed_for_another_reason: no tool
"""


def run(directory: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """pytest with the plugin, and a list of skips of that directory's own."""
    (directory / "mine.py").write_text(
        "from pathlib import Path\nfrom tests import skips\nskips.LIST = Path(__file__).with_name('skips')\n"
    )
    environment = {**os.environ, "COLUMNS": "200", "PYTHONPATH": os.pathsep.join((str(readme.ROOT), str(directory)))}
    return subprocess.run(
        [sys.executable, "-m", "pytest", "-p", "tests.skips", "-p", "mine", "-p", "no:cacheprovider", *arguments],
        cwd=directory,
        env=environment,
        capture_output=True,
        text=True,
        timeout=60,
    )


def test_what_does_not_run_fails_unless_it_is_listed(tmp_path: Path) -> None:
    (tmp_path / "skips").write_text(LISTED)
    (tmp_path / "test_it.py").write_text(SKIPPING)
    (tmp_path / "test_module.py").write_text('import pytest\npytest.importorskip("no_such_module")\n')
    ended = run(tmp_path, "test_it.py")
    assert ended.returncode == 1
    assert "1 passed, 2 skipped" in ended.stdout
    for test, why in {
        "test_listed_for_another_reason": "no time",
        "test_marked": "unconditional skip",
        "test_set_up": "nothing there",
        "test_xfails": "one day",
    }.items():
        assert f"test_it.py::{test} - did not run, and .ci/skips does not list it: {why}" in ended.stdout
    ended = run(tmp_path, "test_module.py")
    assert ended.returncode
    assert "did not run, and .ci/skips does not list it: could not import 'no_such_module'" in ended.stdout


def test_a_line_about_no_test_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "skips").write_text("test_it.py::test_gone: was too slow\n")
    (tmp_path / "test_it.py").write_text("def test_runs():\n    pass\n")
    (tmp_path / "pytest.ini").write_text("[pytest]\ntestpaths = .\n")
    ended = run(tmp_path)
    assert ended.returncode == pytest.ExitCode.USAGE_ERROR
    assert "there is no test test_it.py::test_gone" in ended.stderr
    assert run(tmp_path, "test_it.py").returncode == 0


@pytest.mark.parametrize("line", ["tests/test_it.py::test_it", "tests/test_it.py::test_it: "])
def test_a_line_without_a_reason_is_an_error(line: str) -> None:
    with pytest.raises(pytest.UsageError, match="is not 'path::test: reason'"):
        list(skips.listed(line))
