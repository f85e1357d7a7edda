"""The table of a real namespace, known by a real connection and forgotten again."""

from __future__ import annotations

import os
import socket

import pytest
import trio

from faultkit.errors import Unable
from faultkit.stage import conntrack, namespace
from faultkit.stage.firewall import Firewall
from faultkit.stage.namespace import Namespace
from tests.stage.child import in_child

USERS = ["root", "nobody"] if os.geteuid() == 0 else [""]
FAMILIES = [socket.AF_INET, socket.AF_INET6]


@pytest.mark.parametrize("user", USERS)
@pytest.mark.parametrize("family", FAMILIES)
def test_a_connection_is_known_until_it_is_flushed(family: socket.AddressFamily, user: str) -> None:
    def play() -> list[int]:
        own = namespace.enter()
        host = "::1" if family == socket.AF_INET6 else "127.0.0.1"
        other = socket.AF_INET if family == socket.AF_INET6 else socket.AF_INET6
        with socket.create_server((host, 0), family=family) as listener:
            port = listener.getsockname()[1]
            # A rule that asks for the state is what makes the kernel track at all.
            trio.run(Firewall(own, "nft", family == socket.AF_INET6).apply, "stateful-firewall", 1, {"port": port})
            told = [conntrack.entries(own, family)]
            with socket.socket(family) as client:
                client.connect((host, port))
                told += [conntrack.entries(own, family), conntrack.entries(own, other)]
                conntrack.flush(own)
                told.append(conntrack.entries(own, family))
        return told

    assert in_child(play, user) == [0, 1, 0, 0]


def test_it_refuses_outside_its_own_namespace() -> None:
    elsewhere = Namespace(inode=1, outer=2, user=False)
    with pytest.raises(Unable, match="not inside a namespace that faultkit made"):
        conntrack.flush(elsewhere)
    with pytest.raises(Unable, match="not inside a namespace that faultkit made"):
        conntrack.entries(elsewhere, socket.AF_INET)
