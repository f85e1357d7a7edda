"""What docs/testing.md says by hand is all there is, and the examples run where and as whom they are said to."""

from __future__ import annotations

import inspect
import re
import shutil
import socket
import subprocess
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest

import faultkit
from faultkit import pytest_plugin
from faultkit.trigger import MOMENTS
from tests import ordinary, readme
from tests.plugin.project import FOUND, Project
from tests.shell import ENVIRONMENT, line

TEXT = readme.PART.sub("", (readme.ROOT / "docs/testing.md").read_text())


def test_every_keyword_is_told_of() -> None:
    told = set(re.findall(r"`(\w+)=", TEXT)) - {"body"}
    assert told == set(inspect.signature(faultkit.serve).parameters)


def test_every_moment_is_told_of() -> None:
    assert set(re.findall(r'^\| `at="([\w-]+)"`', TEXT, re.MULTILINE)) == set(MOMENTS)


def test_every_field_of_a_connection_is_told_of(fault_server: faultkit.FaultServer) -> None:
    server = fault_server()
    socket.create_connection(server.address).close()
    record = server.wait_for_connection()
    [paragraph] = re.findall(r"^Of each connection: .*?\n\n", TEXT, re.DOTALL | re.MULTILINE)
    told = {name.removeprefix("await ").removesuffix("()") for name in re.findall(r"`([^`]+)`", paragraph)}
    assert all(hasattr(record, name) for name in told)
    assert told >= {*record.document()}


def test_each_public_name_in_it_is_there() -> None:
    for name in re.findall(r"`faultkit\.(\w+)", TEXT):
        assert hasattr(faultkit, name) or name == "sockets", name


def test_the_example_in_asyncio(project: Project) -> None:
    example = (readme.EXAMPLES / "test_in_asyncio.py").read_text()
    with_it = ["-ppytest_asyncio.plugin", "-oasyncio_default_fixture_loop_scope=function"]
    project.run(example, *with_it).assert_outcomes(passed=2)


def test_the_example_of_defaults(project: Project) -> None:
    tests = """
        def test_it(fault_server):
            assert fault_server().host == "::1"
            assert talk(fault_server(), b"GET / HTTP/1.1\\r\\nHost: there\\r\\n\\r\\n").startswith(b"HTTP/1.1 200")
    """
    project.run(tests, conftest=(readme.EXAMPLES / "defaults.py").read_text()).assert_outcomes(passed=1)


EXAMPLES = [name for page in readme.PAGES for name in readme.names(page.read_text()) if name.startswith("test_")]
TEST = re.compile(r"^(?:async )?def test_", re.MULTILINE)
# Under trio_mode every async test is Trio's, and a firewall and a plan that refuses are had in a sandbox only.
ALONE = ["test_in_asyncio.py", "test_firewall.py", "test_refused.py"]
USED = [name for name in EXAMPLES if "fault_server" in (readme.EXAMPLES / name).read_text() and name not in ALONE]


def test_every_example_runs_with_nothing_but_what_is_shown(tmp_path: Path) -> None:
    """In a project without any settings; in a sandbox, where some are said to be run."""
    for name in EXAMPLES:
        shutil.copy(readme.EXAMPLES / name, tmp_path)
    found = [] if FOUND else ["-p", pytest_plugin.__name__]
    ended = subprocess.run(
        line("sandbox", "--", sys.executable, "-m", "pytest", *found, "-q", "-pno:cacheprovider", str(tmp_path)),
        cwd=tmp_path,
        env={**ENVIRONMENT, "PYTHONPATH": str(readme.ROOT)},
        capture_output=True,
        text=True,
        timeout=120,
    )
    number = sum(len(TEST.findall((readme.EXAMPLES / name).read_text())) for name in EXAMPLES)
    assert f"\n{number} passed" in ended.stdout, ended.stdout + ended.stderr


@pytest.mark.parametrize("run", [ordinary.as_nobody, ordinary.denied, partial(ordinary.as_nobody, denied=True)])
def test_the_examples_as_others(run: Callable[..., subprocess.CompletedProcess[str]]) -> None:
    files = [str(Path("tests/examples") / name) for name in USED]
    ended = run(sys.executable, "-m", "pytest", "-q", "-pno:cacheprovider", *files)
    number = sum(len(TEST.findall((readme.EXAMPLES / name).read_text())) for name in USED)
    assert f"{number} passed" in ended.stdout, ended.stdout + ended.stderr
