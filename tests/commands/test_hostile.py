"""Each command where something has run out or is denied: it works, or says what is missing in one sentence, exit status 3.

A command of the table is one that counts on what is denied there, or might. Of limits each number is tried with one command,
and each command with numbers from all over; `EVERY_LIMIT=1` tries all of them with all.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor

import pytest

from tests.ordinary import CHECKOUT, command
from tests.shell import ENVIRONMENT, ROOT, complaint

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


LIMITED = ("list", "doctor", "linger", "crash", FEW, "sandbox true")
APART = 1 if os.environ.get("EVERY_LIMIT") else len(LIMITED)  # between the numbers that one command is tried with
SHARE = range(len(LIMITED))


def test_any_limit_of_open_files() -> None:
    """From where Python itself starts on to where everything works."""
    sentence = r"no more than {} files may be open at once here \(ulimit -n\), which is too few: .*ulimit -n 1024$"
    tried = [(LIMITED[k], n) for k in SHARE for n in range(5 + k % APART, 40, APART)]
    # It works with 40, but for what is asked of other programs: Python's own http.client opens files of its own.
    enough = [*((typed, 40) for typed in LIMITED[:4]), (FEW, 256), ("sandbox true", 64)]
    with ThreadPoolExecutor(4) as pool:
        ended = dict(
            zip(tried + enough, pool.map(lambda one: lacking(f"nofile={one[1]}", one[0]), tried + enough), strict=True)
        )
    wrong = {
        one: (run.returncode, run.stderr)
        for one, run in ended.items()
        if (run.returncode, complaint(run)) != (0, "") and not refused(run, sentence.format(one[1]))
    }
    assert wrong == {}
    assert [ended[one].returncode for one in enough] == [0] * len(enough)


NO_THREAD = (
    r"no further process or thread may be started here \(ulimit -u is \d; in a container also pids.max\): allow more"
)


def test_any_limit_of_processes() -> None:
    """As an ordinary user: root has none (setrlimit(2))."""
    typed = ["linger", "crash", "nat-expiry", "doctor", "sandbox true", FEW]
    tried = [(one, n) for k, one in enumerate(typed) for n in range(1 + k % 2, 5, min(APART, 2))]
    with ThreadPoolExecutor(4) as pool:
        ended = list(pool.map(lambda one: lacking(f"nproc={one[1]}", one[0], user="nobody"), tried))
    for one, run in zip(tried, ended, strict=True):
        assert (run.returncode, complaint(run)) == (0, "") or refused(run, NO_THREAD), (one, run)


@pytest.mark.parametrize("typed", ["proxy 0 127.0.0.1:1", "proxy --api --port 0"])
def test_a_proxy_needs_a_thread(typed: str) -> None:
    run = lacking("nproc=1", typed, user="nobody")
    assert refused(run, NO_THREAD), run


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
ALLOW = r"allow user namespaces \(sysctl user.max_user_namespaces, "
NO_NAMESPACE = rf"a private network namespace is forbidden here \(EPERM\): {ALLOW}"
NEVER_ON_HOST = (
    rf"reject: firewall rules work inside a private namespace only, never on the host's own firewall: {ALLOW}"
)
NO_STAGE = rf"redis-idle: real programs are started in a private namespace only: {ALLOW}"
NO_MOUNT = r"a process namespace for real programs is refused here \(mount /: Operation not permitted\): "
NO_WALL = "reject: neither iptables nor nft works here: apt-get install iptables nftables$"
NO_IP = "ip is not installed: apt-get install iproute2$"
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
    ("no-namespace", "linger", None),
    ("no-namespace", "doctor", None),
    ("no-namespace", "sandbox true", NO_NAMESPACE),
    ("no-namespace", "reject", NEVER_ON_HOST),
    ("no-namespace", "stack redis-idle", NO_STAGE),
    ("no-mount", "linger", None),
    ("no-mount", "sandbox true", None),
    ("no-mount", "stack redis-idle", NO_MOUNT),
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
    ("no-sys", "linger", None),
    ("no-sys", "doctor", None),
    ("no-tools", "idle-firewall --keepalive 1000 --count 1", None),
    ("no-tools", "doctor", None),
    ("no-tools", "recipe reject", None),
    ("no-tools", "reject", NO_WALL),
    ("no-tools", "stack redis-idle", NO_IP),
    ("read-only", "linger", None),
    ("read-only", "sandbox true", None),
    ("read-only", f"{FEW} --on host", NO_DIRECTORY),
    ("read-only", "serve ok --tls --connections 1", NO_PLACE),
    ("loopback-down", "linger", None),
    ("loopback-down", "linger --on host", DOWN),
    ("loopback-down", "linger --on host --ipv6", DOWN),
    ("loopback-down", f"{FEW} --on host", DOWN),
]


TABLE = DENIED + (DENIED_BY_ROOT if ROOT else [])
Runs = dict[tuple[str, str], "Future[subprocess.CompletedProcess[str]]"]


@pytest.fixture(scope="module")
def runs() -> Iterator[Runs]:
    """What is tried, some at a time."""
    with ThreadPoolExecutor(4) as pool:
        yield {(way, typed): pool.submit(lacking, way, typed) for way, typed, _ in TABLE}


@pytest.mark.parametrize(("way", "typed", "sentence"), TABLE)
def test_what_is_denied(way: str, typed: str, sentence: str | None, runs: Runs) -> None:
    ended = runs[way, typed].result()
    if sentence is None:
        assert (ended.returncode, complaint(ended)) == (0, "")
    else:
        assert refused(ended, sentence), ended


def test_a_witness_that_is_denied_is_named(runs: Runs) -> None:
    told = " ".join(runs["no-packet", "linger"].result().stdout.split())
    assert "wire not seen: packet capture is refused here: a kernel without CONFIG_PACKET" in told
    told = " ".join(runs["no-packet", "doctor"].result().stdout.split())
    assert "✘ wire packet capture is refused here" in told
    assert "Errno" not in told


def test_the_hostile_ways_are_all_tried() -> None:
    from tests.hostile import WAYS

    assert {way for way, _, _ in DENIED + DENIED_BY_ROOT} | {"nofile", "nproc"} == set(WAYS)
    assert os.access(HOSTILE, os.R_OK)
