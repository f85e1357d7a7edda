"""Sysctls of our own namespace: set, read, put back; the host's are never touched."""

from __future__ import annotations

import socket
from pathlib import Path
from typing import Any

import pytest

from faultkit.causes.backlog_full import backlog
from faultkit.errors import Unable
from faultkit.stage import Stage, namespace
from faultkit.stage.sysctl import Sysctls, read
from tests.shell import USERS
from tests.stage.child import in_child

RETRIES = "ipv4.tcp_retries2"
FILE = Path("/proc/sys/net/ipv4/tcp_retries2")


@pytest.mark.parametrize("user", USERS)
def test_set_and_put_back(user: str) -> None:
    def play() -> list[Any]:
        own = Sysctls(namespace.enter())
        told = [read(RETRIES)]
        own.set(RETRIES, 3)
        own.set(RETRIES, "4")
        told += [read(RETRIES), FILE.read_text().strip()]
        own.restore()
        told.append(read(RETRIES))
        own.restore()
        return [*told, read(RETRIES)]

    host = FILE.read_text()
    before, during, written, after, again = in_child(play, user)
    assert (during, written) == ("4", "4")
    assert before == after == again != "4"
    assert FILE.read_text() == host


def test_never_the_hosts() -> None:
    here = Path("/proc/self/ns/net").stat().st_ino
    host = FILE.read_text()
    for made in (namespace.Namespace(here, here, False), namespace.Namespace(here + 1, here, False)):
        with pytest.raises(Unable, match=r"net.ipv4.tcp_retries2 is not set: this process is not inside a namespace"):
            Sysctls(made).set(RETRIES, 3)
    assert FILE.read_text() == host


def test_one_that_this_kernel_has_not_or_refuses() -> None:
    def play() -> None:
        own = Sysctls(namespace.enter())
        with pytest.raises(Unable, match=r"net.ipv4.tcp_nonsense = 1 is refused by this kernel \(No such file"):
            own.set("ipv4.tcp_nonsense", 1)
        with pytest.raises(
            Unable, match=r"net.ipv4.tcp_syn_retries = 9999 is refused by this kernel \(Invalid argument"
        ):
            own.set("ipv4.tcp_syn_retries", 9999)
        own.restore()

    in_child(play)


def test_one_that_is_not_to_be_seen() -> None:
    assert read("ipv4.tcp_nonsense", otherwise="7") == "7"
    sentence = (
        r"net.core.nonsense cannot be read here \(No such file or directory\), and what is promised depends on it"
    )
    with pytest.raises(Unable, match=sentence):
        read("core.nonsense")


@pytest.mark.parametrize("user", USERS)
def test_what_somaxconn_leaves_of_a_backlog(user: str) -> None:
    """The listener tells, because the sysctl is hidden in a user namespace before Linux 6.3."""

    def play() -> list[int]:
        own = namespace.enter()
        Sysctls(own).set("core.somaxconn", 7)
        return [
            backlog(Stage(own, family), wanted) for family in (socket.AF_INET, socket.AF_INET6) for wanted in (6, 7, 8)
        ]

    assert in_child(play, user) == [6, 7, 7] * 2
