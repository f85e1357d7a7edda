"""Each command where something has run out or is denied: it works, or says what is missing in one sentence, exit status 3."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.ordinary import CHECKOUT, command
from tests.shell import ENVIRONMENT, ROOT

HOSTILE = str(CHECKOUT / "tests/hostile.py")
FEW = "clients http.client --fault linger"


def lacking(way: str, typed: str, user: str = "") -> subprocess.CompletedProcess[str]:
    argv = [sys.executable, HOSTILE, way, sys.executable, "-m", "faultkit", *typed.split()]
    return subprocess.run(
        command(*argv, ordinary=user == "nobody"),
        capture_output=True,
        text=True,
        cwd=CHECKOUT,
        env=ENVIRONMENT,
        timeout=120,
        stdin=subprocess.DEVNULL,
    )


def refused(ended: subprocess.CompletedProcess[str], sentence: str) -> bool:
    """Did it say that, in one line, and nothing else?"""
    said = ended.stderr.removeprefix("faultkit: ")
    return (
        ended.returncode == 3
        and ended.stdout == ""
        and ended.stderr.count("\n") == 1
        and re.match(sentence, said) is not None
    )


def test_any_limit_of_open_files() -> None:
    """From where Python itself starts on to where everything works."""
    sentence = r"no more than {} files may be open at once here \(ulimit -n\), which is too few: .*ulimit -n 1024$"
    tried = [(typed, n) for typed in ("list", "doctor", "linger", "crash", FEW, "sandbox true") for n in range(5, 41)]
    with ThreadPoolExecutor(4) as pool:
        ended = list(pool.map(lambda one: lacking(f"nofile={one[1]}", one[0]), tried))
    wrong = {
        (typed, n): (one.returncode, one.stderr)
        for (typed, n), one in zip(tried, ended, strict=True)
        if (one.returncode, one.stderr) != (0, "") and not refused(one, sentence.format(n))
    }
    assert wrong == {}
    # It works with 40, but for what is asked of other programs: Python's own http.client opens files of its own.
    assert [one.returncode for (_, n), one in zip(tried, ended, strict=True) if n == 40][:4] == [0] * 4


@pytest.mark.parametrize("typed", ["linger", "crash", "nat-expiry", "doctor", "sandbox true", FEW])
def test_any_limit_of_processes(typed: str) -> None:
    """As an ordinary user: root has none (setrlimit(2))."""
    sentence = r"no further process or thread may be started here \(ulimit -u is \d; in a container also pids.max\): allow more"
    for n in range(1, 5):
        ended = lacking(f"nproc={n}", typed, user="nobody")
        assert (ended.returncode, ended.stderr) == (0, "") or refused(ended, sentence), (n, ended)


NO_PROC = "/proc is not there, and namespaces, counters and sockets are read in it: mount -t proc proc /proc$"
NO_PACKET = "packet capture is refused here: a kernel without CONFIG_PACKET, or a seccomp filter"
DOWN = "the loopback interface is down here, and everything plays on it: ip link set lo up$"
NO_UNIX = r"sandbox: UNIX sockets are refused here \(Address family not supported by protocol\), and one of them marks"
NO_IPV6 = (
    r"IPv6 loopback is not there \(Address family not supported by protocol\): sysctl net.ipv6.conf.lo.disable_ipv6=0"
)
NO_DIRECTORY = (
    r"clients: no temporary directory can be made \(No usable temporary directory found in .*\): set TMPDIR to a"
)
NO_PLACE = r"certificates cannot be written to a file \(No usable temporary directory found in .*\): set TMPDIR to a"
# What is denied, what is typed there, and the sentence, or None where it works.
DENIED = [
    ("no-unix", "linger", None),
    ("no-unix", "sandbox true", NO_UNIX),
    ("no-ipv6", "linger", None),
    ("no-ipv6", "linger --ipv6", NO_IPV6),
    ("no-packet", "linger", None),
    ("no-packet", "injected", NO_PACKET),
    ("no-packet", FEW, None),
    ("no-packet", "doctor", None),
    ("no-file-may-grow", "linger", None),
    ("no-file-may-grow", f"{FEW} --on host", NO_DIRECTORY),
    ("no-file-may-grow", "serve ok --tls --connections 1", NO_PLACE),
]
# What takes root to be denied.
DENIED_BY_ROOT = [
    ("no-proc", "list", None),
    ("no-proc", "doctor", None),
    ("no-proc", "recipe reject", None),
    ("no-proc", "linger", NO_PROC),
    ("no-proc", "linger --on host", NO_PROC),
    ("no-proc", "sandbox true", NO_PROC),
    ("no-proc", FEW, NO_PROC),
    ("loopback-down", "linger", None),
    ("loopback-down", "linger --on host", DOWN),
    ("loopback-down", "linger --on host --ipv6", DOWN),
    ("loopback-down", f"{FEW} --on host", DOWN),
]


@pytest.mark.parametrize(("way", "typed", "sentence"), DENIED + (DENIED_BY_ROOT if ROOT else []))
def test_what_is_denied(way: str, typed: str, sentence: str | None) -> None:
    ended = lacking(way, typed)
    if sentence is None:
        assert (ended.returncode, ended.stderr) == (0, "")
    else:
        assert refused(ended, sentence), ended


def test_a_witness_that_is_denied_is_named() -> None:
    told = " ".join(lacking("no-packet", "linger").stdout.split())
    assert "wire not seen: packet capture is refused here: a kernel without CONFIG_PACKET" in told
    told = " ".join(lacking("no-packet", "doctor").stdout.split())
    assert "✘ wire packet capture is refused here" in told
    assert "Errno" not in told


def test_the_hostile_ways_are_all_tried() -> None:
    from tests.hostile import WAYS

    assert {way for way, _, _ in DENIED + DENIED_BY_ROOT} | {"nofile", "nproc"} == set(WAYS)
    assert os.access(HOSTILE, os.R_OK)
