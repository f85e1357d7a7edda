"""`server.container_url`: what a container on this machine connects to."""

from __future__ import annotations

import json
import socket
import ssl
from typing import Any

import pytest

import faultkit
from faultkit import Misuse, Unable
from tests.boxes import PYTHON, every_user
from tests.shell import faultkit as command

BRIDGE = (
    "ip link add docker0 type bridge; ip addr add 172.17.0.1/16 dev docker0; ip link set docker0 up; "
    "ip -6 addr add fd00::1/64 dev docker0 nodad"
)


def inside(scene: str, *, before: str = "true", user: str = "") -> Any:
    """What that function of this module gives in a sandbox, where this was done before."""
    program = f"import json; from tests.serving import test_container as t; print(json.dumps(t.{scene}()))"
    ended = command("sandbox", "--", "bash", "-c", f'{before}; exec "$@"', "bash", *PYTHON, program, user=user)
    assert (ended.returncode, ended.stderr) == (0, "")
    return json.loads(ended.stdout)


def reached() -> list[str]:
    told = []
    for host in ("0.0.0.0", "::"):
        with faultkit.serve(host=host, beyond_loopback=True, tls=True) as server:
            address = server.container_url.removeprefix("https://").rstrip("/").rpartition(":")[0].strip("[]")
            with (
                socket.create_connection((address, server.port), timeout=5) as plain,
                server.client_context.wrap_socket(plain, server_hostname=address) as client,
            ):
                client.sendall(b"x")
                told += [address, client.recv(1).decode()]
            other: ssl.SSLContext = server.client_context
            with (
                socket.create_connection((address, server.port), timeout=5) as plain,
                other.wrap_socket(plain, server_hostname="host.docker.internal"),
            ):
                pass
    with faultkit.serve(host="172.17.0.1", beyond_loopback=True) as server:
        told.append(str(server.container_url == server.url))
    return told


@every_user
def test_the_bridge_is_found(user: str) -> None:
    assert inside("reached", before=BRIDGE, user=user) == ["172.17.0.1", "x", "fd00::1", "x", "True"]


def missing() -> str:
    with faultkit.serve(host="0.0.0.0", beyond_loopback=True) as server:
        try:
            return server.container_url
        except Unable as refused:
            return str(refused)


def test_where_there_is_none_it_says_so() -> None:
    assert inside("missing") == (
        "no address of this host that a container has: none of docker0, podman0, cni-podman0, and no default route; "
        "give host= one"
    )


def test_loopback_is_no_containers() -> None:
    with faultkit.serve() as server, pytest.raises(Misuse) as refused:
        _ = server.container_url
    assert str(refused.value) == (
        "container_url: no container reaches 127.0.0.1: serve with host='0.0.0.0', beyond_loopback=True"
    )
