"""Under pytest-xdist: every fault in four workers at once, and what is loud is loud there too."""

from __future__ import annotations

import os
import subprocess
import sys

from tests.plugin import test_every_fault
from tests.plugin.project import ROOT, Project


def test_every_fault_in_four_workers() -> None:
    command = [sys.executable, "-m", "pytest", "-n4", "-q", "-pno:cacheprovider", test_every_fault.__file__]
    ended = subprocess.run(
        command, cwd=ROOT, env={**os.environ, "TIMES": "2"}, capture_output=True, text=True, timeout=120
    )
    expected = 4 * len(test_every_fault.servable()) + 1
    assert f"\n{expected} passed in " in ended.stdout, ended.stdout + ended.stderr
    assert ended.returncode == 0


def test_sentences_and_sections_come_from_the_workers(project: Project) -> None:
    result = project.run_apart(
        """
        import pytest

        @pytest.mark.parametrize("time", range(8))
        def test_it(fault_server, time):
            fault_server("linger")
        """,
        "-n4",
    )
    result.assert_outcomes(failed=8)
    result.stdout.fnmatch_lines(["FaultNotMet: linger on port * was never met: no connection came"] * 8)
    result.stdout.fnmatch_lines(["fault_server('linger') on port *: no connection came"] * 8)
