"""Hosts of our own beside the stage: real cables, real sockets, nothing left."""

from __future__ import annotations

import os
import socket
import subprocess

import pytest

from faultkit.errors import Unable
from faultkit.stage import firewall, namespace
from faultkit.stage.namespace import Namespace
from faultkit.stage.neighbour import Neighbour
from faultkit.witness import kernel
from tests.stage.child import in_child

USERS = ["root", "nobody"] if os.geteuid() == 0 else [""]


def links() -> list[str]:
    shown = subprocess.run([firewall.find("ip") or "ip", "-o", "link"], capture_output=True, text=True, check=True)
    return [line.split()[1].partition("@")[0].rstrip(":") for line in shown.stdout.splitlines()]


@pytest.mark.parametrize("user", USERS)
@pytest.mark.parametrize(
    ("family", "here", "there"),
    [(socket.AF_INET, "192.0.2.1", "192.0.2.2"), (socket.AF_INET6, "2001:db8::1", "2001:db8::2")],
)
def test_a_connection_to_a_neighbour(family: socket.AddressFamily, here: str, there: str, user: str) -> None:
    length = 64 if family == socket.AF_INET6 else 24

    def play() -> list[object]:
        own = namespace.enter()
        before, descriptors = links(), len(os.listdir("/proc/self/fd"))
        neighbour = Neighbour(own, "beside")
        neighbour.join(here=f"{here}/{length}", there=f"{there}/{length}")
        with neighbour.entered():
            inside = links()
            listener = socket.socket(family)
            listener.bind((there, 7654))
            listener.listen()
        with socket.socket(family) as client:
            client.settimeout(5)
            client.connect((there, 7654))
            peer = listener.accept()[1][0]
        listener.close()
        with neighbour.entered():
            opened = kernel.counters()["TcpPassiveOpens"]
        neighbour.close()
        left = links() == before and len(os.listdir("/proc/self/fd")) == descriptors
        return [inside, peer, opened, kernel.counters()["TcpPassiveOpens"], left]

    inside, peer, opened, ours, left = in_child(play, user)
    assert sorted(inside) == ["eth0", "lo"]
    assert peer == here
    assert (opened, ours) == (1, 0)  # each host counts for itself
    assert left


def test_an_address_that_cannot_be() -> None:
    def play() -> str:
        neighbour = Neighbour(namespace.enter(), "beside")
        with pytest.raises(Unable) as caught:
            neighbour.join(here="192.0.2.256/24", there="192.0.2.2/24")
        neighbour.close()
        assert "beside" not in links()
        return str(caught.value)

    told = in_child(play)
    assert told.startswith(
        "`ip address add 192.0.2.256/24 dev beside; link set beside up` is refused in our own namespace"
    )


def test_without_ip(monkeypatch: pytest.MonkeyPatch) -> None:
    def play() -> str:
        neighbour = Neighbour(namespace.enter(), "beside")
        monkeypatch.setattr("faultkit.stage.neighbour.find", lambda tool: None)
        with pytest.raises(Unable) as caught:
            neighbour.join(here="192.0.2.1/24", there="192.0.2.2/24")
        neighbour.close()
        return str(caught.value)

    assert in_child(play) == "ip is not installed: apt-get install iproute2"


def test_it_refuses_outside_its_own_namespace() -> None:
    with pytest.raises(Unable, match="not inside one that faultkit made"):
        Neighbour(Namespace(inode=1, outer=2, user=False), "beside")
