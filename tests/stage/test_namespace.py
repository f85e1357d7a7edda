"""The namespace: made in place, loopback up, gone with the process, and refused in one sentence where it is forbidden."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest

from faultkit.errors import Unable
from faultkit.stage import namespace, open_stage
from tests.ordinary import CHECKOUT, command
from tests.shell import USERS
from tests.stage.child import in_child

every_user = pytest.mark.parametrize("user", USERS)
OWN = Path("/proc/self/ns/net")


def looked() -> dict[str, Any]:
    """What is so inside."""
    outer = OWN.stat().st_ino
    own = namespace.enter()
    with (
        socket.create_server(("127.0.0.1", 0)) as four,
        socket.create_server(("::1", 0), family=socket.AF_INET6) as six,
    ):
        for listener in (four, six):
            with socket.socket(listener.family) as client:
                client.connect(listener.getsockname()[:2])
    return {
        "outer": own.outer == outer,
        "inode": own.inode == OWN.stat().st_ino != outer,
        "holds": own.holds(),
        "user": own.user,
        "interfaces": [name for _, name in socket.if_nameindex()],
    }


@every_user
def test_it_is_a_network_of_its_own(user: str) -> None:
    before = OWN.stat().st_ino
    told = in_child(looked, user)
    assert told["outer"] and told["inode"] and told["holds"]
    assert told["user"] is (user == "nobody")
    assert told["interfaces"] == ["lo"]
    assert OWN.stat().st_ino == before


def test_it_holds_only_for_those_inside() -> None:
    here = OWN.stat().st_ino
    assert not namespace.Namespace(here, here, False).holds()  # not one that was made
    assert not namespace.Namespace(here + 1, here, False).holds()  # not one that we are in


@every_user
def test_its_sockets_are_nobody_elses(user: str) -> None:
    def connect() -> bool:
        port = taken.getsockname()[1]
        namespace.enter()
        with socket.socket() as client:
            return client.connect_ex(("127.0.0.1", port)) != 0

    with socket.create_server(("127.0.0.1", 0)) as taken:
        assert in_child(connect, user) is True


def test_not_with_threads() -> None:
    done = threading.Event()
    other = threading.Thread(target=done.wait)
    other.start()
    before = OWN.stat().st_ino
    try:
        with pytest.raises(Unable, match="must be made before threads start and this process has some"):
            namespace.enter()
    finally:
        done.set()
        other.join()
    assert OWN.stat().st_ino == before


FORBIDDEN = """
import os
from faultkit.errors import Unable
from faultkit.stage import open_stage
before = os.stat("/proc/self/ns/net").st_ino, os.stat("/proc/self/ns/user").st_ino, os.geteuid()
stage = open_stage(None, ipv6=False)
assert stage.where == "host" and stage.namespace is None and stage.described == "the host's loopback"
try:
    open_stage("namespace", ipv6=False)
except Unable as error:
    assert str(error) == stage.refused
    print(error)
assert open_stage("host", ipv6=False).refused == ""
assert before == (os.stat("/proc/self/ns/net").st_ino, os.stat("/proc/self/ns/user").st_ino, os.geteuid())
"""


@every_user
def test_where_it_is_forbidden(user: str) -> None:
    argv = command(sys.executable, "-c", FORBIDDEN, ordinary=user == "nobody", denied=True)
    ended = subprocess.run(argv, capture_output=True, text=True, check=False, cwd=CHECKOUT)
    assert (ended.returncode, ended.stderr) == (0, "")
    assert ended.stdout.startswith(
        "a private network namespace is forbidden here (EPERM): play with --on host, or allow user namespaces "
    )


REHEARSED = """
import errno, os
from faultkit.errors import Unable
from faultkit.stage import namespace
made = namespace._loopback_up
def refuse():  # as AppArmor does on Ubuntu: the user namespace is granted, and nothing inside it
    raise PermissionError(errno.EACCES, "refused")
namespace._loopback_up = refuse
before = os.stat("/proc/self/ns/net").st_ino, os.geteuid()
try:
    namespace.enter()
except Unable as error:
    print(error)
assert before == (os.stat("/proc/self/ns/net").st_ino, os.geteuid())
"""


def test_a_namespace_that_is_granted_and_then_useless_leaves_us_where_we_were() -> None:
    argv = command(sys.executable, "-c", REHEARSED, ordinary=True)
    ended = subprocess.run(argv, capture_output=True, text=True, check=False, cwd=CHECKOUT)
    assert (ended.returncode, ended.stderr) == (0, "")
    assert ended.stdout.startswith("a private network namespace is forbidden here (EACCES)")


def test_no_ipv6() -> None:
    def look() -> str:
        namespace.enter()
        Path("/proc/sys/net/ipv6/conf/lo/disable_ipv6").write_text("1")
        with pytest.raises(Unable) as refused:
            open_stage("host", ipv6=True)
        return str(refused.value)

    assert in_child(look).startswith("IPv6 loopback is not there (Cannot assign requested address): sysctl ")


@every_user
def test_it_ends_with_its_process(user: str) -> None:
    inode = in_child(lambda: namespace.enter().inode, user)
    left = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            left += [process.name] if (process / "ns/net").stat().st_ino == inode else []
        except OSError:
            continue
    assert left == []
    assert os.path.exists("/proc/self/ns/net")
