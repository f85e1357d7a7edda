"""Where a server listens, and where it cannot."""

from __future__ import annotations

from typing import Any

import pytest

import faultkit
from faultkit import Misuse
from tests.serving.client import client


@pytest.mark.parametrize(
    ("keywords", "host"),
    [
        ({}, "127.0.0.1"),
        ({"ipv6": True}, "::1"),
        ({"host": "localhost"}, "127.0.0.1"),
        ({"host": "localhost", "ipv6": True}, "::1"),
        ({"host": "127.9.8.7"}, "127.9.8.7"),
        ({"host": "::1"}, "::1"),
        ({"host": "0.0.0.0", "beyond_loopback": True}, "0.0.0.0"),
    ],
)
def test_where_it_listens(keywords: dict[str, Any], host: str) -> None:
    with faultkit.serve(**keywords) as server:
        assert (server.host, server.address) == (host, (host, server.port))
        shown = f"[{host}]" if ":" in host else host
        assert server.url == f"http://{shown}:{server.port}/"
        with client(server) as plain:
            plain.send(b"x")
            assert plain.recv() == "x"
            assert server.connections[0].peer == plain.sock.getsockname()[:2]


@pytest.mark.parametrize(
    ("keywords", "sentence"),
    [
        (
            {"host": "0.0.0.0"},
            "host='0.0.0.0' is not loopback, and others could reach what is broken on purpose: "
            "say beyond_loopback if that is meant",
        ),
        (
            {"host": "192.0.2.1"},
            "host='192.0.2.1' is not loopback, and others could reach what is broken on purpose: "
            "say beyond_loopback if that is meant",
        ),
        (
            {"host": "::"},
            "host='::' is not loopback, and others could reach what is broken on purpose: say beyond_loopback if that is meant",
        ),
        ({"host": "example.org"}, "host='example.org' is not an address: leave it out for loopback"),
        ({"host": "127.0.0.1", "ipv6": True}, "host='127.0.0.1' is no IPv6 address: leave ipv6 out"),
        ({"port": 65536}, "port=65536 is no port: it is 0 to 65535, 0 for a free one"),
        ({"port": -1}, "port=-1 is no port: it is 0 to 65535, 0 for a free one"),
        ({"port": True}, "port=True is no port: it is 0 to 65535, 0 for a free one"),
        ({"port": "80"}, "port='80' is no port: it is 0 to 65535, 0 for a free one"),
    ],
)  # fmt: skip
def test_where_it_cannot_listen_is_one_sentence(keywords: dict[str, Any], sentence: str) -> None:
    with pytest.raises(Misuse) as refused:
        faultkit.serve(**keywords)
    assert str(refused.value) == sentence


def test_an_address_that_is_not_here() -> None:
    with pytest.raises(faultkit.Unable) as refused:
        faultkit.serve(host="192.0.2.1", beyond_loopback=True)
    assert str(refused.value) == (
        "port 0 on 192.0.2.1 is refused (Cannot assign requested address): leave both out to get a free port on loopback"
    )


@pytest.mark.parametrize("name", [None, "refuse", "connect-hang", "backlog-full"])
def test_a_port_that_is_in_use(name: str | None) -> None:
    with faultkit.serve(name, must_be_met=False) as server:
        with pytest.raises(Misuse) as refused:
            faultkit.serve(port=server.port)
        assert str(refused.value) == f"port {server.port} is in use on 127.0.0.1: leave it out to get a free one"
    with faultkit.serve(port=server.port) as again:  # at once
        assert again.port == server.port


def test_a_port_with_connections_in_time_wait_is_free() -> None:
    with faultkit.serve("late-write") as server, client(server) as plain:
        plain.send(b"x")
        assert plain.recv() == "EOF"
        plain.sock.close()
        server.wait_for_connection().wait_for_end()
        port = server.port
    with faultkit.serve(port=port):
        pass


def test_a_server_is_for_one_with() -> None:
    serving = faultkit.serve()
    with serving:
        pass
    with pytest.raises(Misuse) as refused, serving:
        pass
    assert (
        str(refused.value) == "this server has been opened before: each faultkit.serve(...) gives one, for one `with`"
    )
