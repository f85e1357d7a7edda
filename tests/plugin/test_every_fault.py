"""Every fault that can be served, met by a client of HTTP through the fixture, on IPv4 and IPv6.

`TIMES=16 pytest -n 4` on this file is a thousand tests in four workers.
"""

from __future__ import annotations

import errno
import os
import socket

import pytest

import faultkit
from faultkit.serving import faults

REQUEST = b"POST / HTTP/1.1\r\nHost: there\r\nContent-Length: 4\r\n\r\nbody"
ANSWER = 83  # bytes

# What the client gets for two requests on one connection: bytes of an answer, "EOF", "silence" or an errno. Where a reset
# may be told by connect(), send() or recv(), it is the same errno.
TOLD = {
    "crash:unread": "ECONNRESET",
    "crash:read": "EOF",
    "disconnect": "ECONNRESET",
    "early-response": "ECONNRESET",
    "fin-wait-timeout": "EOF",
    "keepalive-race:unsent": "83 ECONNRESET",
    "keepalive-race:in-flight": "83 ECONNRESET",
    "keepalive-race:unprocessed": "83 EOF",
    "late-write": "EOF",
    "linger": "ECONNRESET",
    "listener-closed": "ECONNRESET",
    "unread": "ECONNRESET",
    "backlog-full": "silence",
    "closed-port": "ECONNREFUSED",
    "connect-timeout": "silence",
    "half-open": "silence",
    "keepalive-timeout": "silence",
    "retransmit-timeout": "silence",
    "zero-window": "silence",
    "idle-firewall": "silence",
    "load-balancer-idle": "ECONNRESET",
    "refuse": "ECONNREFUSED",
    "connect-hang": "silence",
    "accept-then-close": "EOF",
    "accept-then-reset": "ECONNRESET",
    "stall": "silence",
    "black-hole": "silence",
    "half-close": "EOF",
    "slow": "83 83",
    "slices": "83 83",
    "garbage": "64 EOF",
    "truncate": "73 EOF",
}
NUMBERS = {"slow": ":100000"}  # its own would take a while
IDLE = {"idle-firewall", "load-balancer-idle"}  # their clock is none of this file's matter: fire() instead


def servable() -> list[str]:
    """Those that this process may serve: half-open needs CAP_NET_ADMIN."""
    return [name for name, _, served in faults.known() if not served.needs_repair or os.geteuid() == 0]


def told(server: faultkit.Server, fault: str) -> str:
    """What the client is told, in order."""
    heard: list[str] = []
    with socket.socket(socket.AF_INET6 if ":" in server.host else socket.AF_INET) as client:
        client.settimeout(0.1 if TOLD[fault] == "silence" else 10)
        try:
            client.connect(server.address)
            if fault in IDLE:
                server.wait_for_connection()
                server.fire()
            while len(heard) < 2:
                client.sendall(REQUEST)
                answer = b""
                while len(answer) < ANSWER:
                    more = client.recv(ANSWER)
                    if not more:
                        return " ".join([*heard, *([str(len(answer))] if answer else []), "EOF"])
                    answer += more
                heard.append(str(len(answer)))
        except TimeoutError:
            heard.append("silence")
        except OSError as error:
            heard.append(errno.errorcode[error.errno or 0])
    return " ".join(heard)


@pytest.mark.parametrize("time", range(int(os.environ.get("TIMES", "1"))))
@pytest.mark.parametrize("ipv6", [False, True], ids=["ipv4", "ipv6"])
@pytest.mark.parametrize("fault", servable())
def test_a_client_is_told(fault: str, ipv6: bool, time: int, fault_server: faultkit.FaultServer) -> None:
    server = fault_server(
        fault + NUMBERS.get(fault, ""), ipv6=ipv6, answer="http", at="fire" if fault in IDLE else None
    )
    assert told(server, fault) == TOLD[fault]


def test_none_is_missing() -> None:
    assert sorted(TOLD) == sorted(name for name, _, _ in faults.known())
