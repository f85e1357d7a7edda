"""The launcher itself: an ordinary user reaches what it needs even in a directory of root's, and nothing else there."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.ordinary import CHECKOUT, as_nobody, denied
from tests.shell import ROOT

needs_root = pytest.mark.skipif(not ROOT, reason="needs root")


@needs_root
def test_it_is_nobody() -> None:
    told = as_nobody("sh", "-c", "id -u; id -G; pwd; grep CapEff /proc/self/status")
    assert told.stderr == ""
    assert told.stdout.split() == ["65534", "65534", str(CHECKOUT), "CapEff:", "0" * 16]


def test_the_exit_status_is_the_commands() -> None:
    assert as_nobody("sh", "-c", "exit 7").returncode == 7


@needs_root
def test_a_checkout_in_a_home_that_is_closed(tmp_path: Path) -> None:
    home = tmp_path / "home"
    checkout = home / "deep" / "checkout"
    (checkout / "tests").mkdir(parents=True)
    shutil.copy(CHECKOUT / "tests/ordinary.py", checkout / "tests")
    (checkout / "module.py").write_text("print('imported')")
    (home / "secret").write_text("secret")
    home.chmod(0o700)
    launch = [sys.executable, "tests/ordinary.py"]
    options = {"cwd": checkout, "capture_output": True, "text": True}
    told = subprocess.run([*launch, sys.executable, "-m", "module"], **options, check=False)  # type: ignore[call-overload]
    assert (told.stdout, told.stderr) == ("imported\n", "")
    look = f"pwd; ls {home}; cat {home}/secret"
    told = subprocess.run([*launch, "sh", "-c", look], **options, check=False)  # type: ignore[call-overload]
    assert told.stdout.split() == [str(checkout), "deep"]
    assert "No such file" in told.stderr
    assert home.stat().st_mode & 0o777 == 0o700
    assert (home / "secret").read_text() == "secret"


@pytest.mark.parametrize("flags", [["--user", "--net"], ["--net"], ["--user"]])
def test_where_namespaces_are_denied(flags: list[str]) -> None:
    for told in (denied("unshare", *flags, "true"), as_nobody("unshare", *flags, "true", denied=True)):
        assert told.returncode != 0
        assert "Operation not permitted" in told.stderr
    assert as_nobody("unshare", "--user", "--net", "true").returncode == 0


def test_denied_is_still_who_we_are() -> None:
    assert denied("id", "-u").stdout.strip() == str(os.geteuid())
