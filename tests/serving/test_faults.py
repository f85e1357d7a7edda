"""Every fault that can be served, against what a plain client is told, call by call."""

from __future__ import annotations

import functools
import select
import socket
import sys
import time
from collections.abc import Callable

import pytest

import faultkit
from faultkit import Misuse, sockets
from faultkit.evidence.transcript import Address
from faultkit.serving import faults
from faultkit.serving.door import Door
from faultkit.witness.kernel import counters, moved
from tests.ordinary import as_nobody
from tests.serving.client import Client, client, unconnected
from tests.stage.child import in_child

REQUEST = b"0123456789abcdefghij"
ANSWER = REQUEST.decode()


def request_then(*calls: str) -> Callable[[Client], None]:
    """A request, then these calls; what they are told is the table's to say."""

    def play(client: Client) -> None:
        client.send(REQUEST)
        for call in calls:
            if call == "send":
                client.send(REQUEST)
            else:
                client.recv()

    return play


def whole(client: Client) -> None:
    client.send(REQUEST)
    client.recv_whole(len(REQUEST))


def second_request(client: Client) -> None:
    """One exchange, then another on the same connection."""
    client.send(REQUEST)
    client.recv_whole(len(REQUEST))
    client.send(REQUEST)
    client.recv()
    client.recv()


def after_fin(client: Client) -> None:
    """One exchange, and the second request once the server's FIN is there, which the program does not look at."""
    client.send(REQUEST)
    client.recv_whole(len(REQUEST))
    client.readable()
    client.send(REQUEST)
    client.recv()


def late_write(client: Client) -> None:
    client.send(REQUEST)
    client.recv()
    client.send(REQUEST)
    assert sockets_over(client)
    client.send(REQUEST)


def sockets_over(client: Client) -> bool:
    """Wait until the connection is gone from the kernel's point of view: a reset in CLOSE-WAIT is not told to recv."""
    poll = select.poll()
    poll.register(client.sock, select.POLLHUP | select.POLLERR)
    return bool(poll.poll(20000))


def hangs(client: Client) -> None:
    client.send(REQUEST)
    assert client.waits()


def times_out(client: Client) -> None:
    """The client's kernel gets no acknowledgement: its own timer ends the connection."""
    client.send(b"x")  # the trigger
    client.server.wait_for_connection().wait_for_fired(timeout_seconds=20)
    assert client.waits()
    sockets.user_timeout(client.sock, seconds=0.3)
    client.send(REQUEST)
    client.recv()
    client.recv()
    client.send(b"x")


RESET = ["send ok", "recv ECONNRESET", "recv EOF", "send EPIPE"]
reset = request_then("recv", "recv", "send")
eof = request_then("recv", "recv")

# fault, the client's calls, what it is told, how the server says that it ended (None: the connection is open still)
TABLE: dict[str, tuple[Callable[[Client], None], list[str], str | None]] = {
    "linger": (reset, RESET, "abort"),
    "unread": (reset, RESET, "close with 20 bytes unread"),
    "disconnect": (reset, RESET, "disconnect"),
    "crash:unread": (reset, RESET, "killed with 20 bytes unread"),
    "crash:read": (eof, ["send ok", "recv EOF", "recv EOF"], "killed"),
    "late-write": (late_write, ["send ok", "recv EOF", "send ok", "send EPIPE"], "close"),
    "fin-wait-timeout": (late_write, ["send ok", "recv EOF", "send ok", "send EPIPE"], "close"),
    "keepalive-race:unsent": (
        second_request,
        ["send ok", f"recv {ANSWER}", "send ok", "recv ECONNRESET", "recv EOF"],
        "close with 20 bytes unread",
    ),
    "keepalive-race:in-flight": (
        second_request,
        ["send ok", f"recv {ANSWER}", "send ok", "recv ECONNRESET", "recv EOF"],
        "close",
    ),
    "keepalive-race:unprocessed": (after_fin, ["send ok", f"recv {ANSWER}", "send ok", "recv EOF"], "close"),
    "early-response": (
        reset,
        [
            "send ok",
            "recv HTTP/1.1 413 \r\nContent-Length: 0\r\nConnection: close\r\n\r\n",
            "recv ECONNRESET",
            "send EPIPE",
        ],
        "close with 20 bytes unread",
    ),
    "accept-then-close": (eof, ["send ok", "recv EOF", "recv EOF"], None),
    "half-close": (eof, ["send ok", "recv EOF", "recv EOF"], None),
    "truncate": (request_then("recv", "recv"), ["send ok", f"recv {ANSWER[:10]}", "recv EOF"], None),
    "garbage": (
        request_then("recv", "recv"),
        ["send ok", "recv " + faults.NOISE.decode("latin-1"), "recv EOF"],
        None,
    ),
    "stall": (hangs, ["send ok"], None),
    "zero-window": (hangs, ["send ok"], None),
    "slow": (whole, ["send ok", f"recv {ANSWER}"], None),
    "slices": (whole, ["send ok", f"recv {ANSWER}"], None),
    **dict.fromkeys(
        ("black-hole", "keepalive-timeout", "retransmit-timeout"),
        (times_out, ["send ok", "send ok", "recv ETIMEDOUT", "recv EOF", "send EPIPE"], None),
    ),
}
# Before there is a connection, by chance, in their own time, or with a capability: each has a test of its own below.
OTHERS = {
    "refuse",
    "closed-port",
    "connect-hang",
    "connect-timeout",
    "backlog-full",
    "listener-closed",
    "accept-then-reset",
    "idle-firewall",
    "load-balancer-idle",
    "half-open",
}


def test_every_fault_is_tried_here() -> None:
    assert {*TABLE, *OTHERS} == {name for name, _, _ in faults.known()}


@pytest.mark.parametrize("ipv6", [False, True], ids=["ipv4", "ipv6"])
@pytest.mark.parametrize("name", TABLE)
def test_a_fault_is_what_the_client_is_told(name: str, ipv6: bool) -> None:
    play, told, ended = TABLE[name]
    for _ in range(2 if play in (times_out, hangs) or name == "slow" else 10):
        with faultkit.serve(name, ipv6=ipv6) as server, client(server) as plain:
            play(plain)
            assert plain.told == told
            record = server.wait_for_connection()
            assert record.fired
            assert record.fault == name
            if ended:
                assert record.wait_for_end().ended == ended
            else:
                assert record.ended is None


@pytest.mark.parametrize("ipv6", [False, True], ids=["ipv4", "ipv6"])
@pytest.mark.parametrize("name", ["refuse", "closed-port"])
def test_a_refusal_keeps_the_port(name: str, ipv6: bool) -> None:
    with faultkit.serve(name, ipv6=ipv6) as server:
        for _ in range(3):
            with unconnected(server) as plain:
                assert plain.connect(server.address) == "ECONNREFUSED"
        with pytest.raises(Misuse, match="is in use"), faultkit.serve(port=server.port, ipv6=ipv6):
            pass
        server.heal()
        with client(server) as plain:
            plain.send(b"hello")
            assert plain.recv() == "hello"


@pytest.mark.parametrize("ipv6", [False, True], ids=["ipv4", "ipv6"])
@pytest.mark.parametrize("name", ["connect-hang", "connect-timeout", "backlog-full"])
def test_a_connect_that_nobody_answers(name: str, ipv6: bool) -> None:
    with faultkit.serve(name, ipv6=ipv6) as server:
        with unconnected(server, timeout=0.2) as plain:
            assert plain.connect(server.address) == "timeout"
        with unconnected(server) as plain:
            sockets.user_timeout(plain.sock, seconds=0.5)
            plain.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_SYNCNT, 1)
            assert plain.connect(server.address) == "ETIMEDOUT"
        server.heal()
        with client(server) as plain:
            plain.send(b"hello")
            assert plain.recv() == "hello"
        assert [record.fault for record in server.connections] == ["ok"]


def test_connections_that_wait_to_be_accepted_are_reset() -> None:
    for _ in range(20):
        with faultkit.serve("listener-closed") as server, client(server) as plain:
            plain.send(b"x")
            assert plain.recv() == "ECONNRESET"
            assert server.wait_for_connection().wait_for_fired().ended == "never accepted"
            server.heal()
            with client(server) as another:
                another.send(b"hello")
                assert another.recv() == "hello"


def test_a_reset_straight_after_accept_comes_in_one_of_the_calls() -> None:
    for _ in range(50):
        with faultkit.serve("accept-then-reset") as server, unconnected(server) as plain:
            told = [plain.connect(server.address), plain.send(b"x"), plain.recv()]
            assert set(told) & {"ECONNRESET", "EPIPE"}, told


@pytest.mark.parametrize("name", ["idle-firewall", "load-balancer-idle"])
def test_what_sets_in_when_the_connection_is_idle(name: str) -> None:
    with faultkit.serve(name, after_idle_seconds=0.1) as server, client(server) as plain:
        plain.send(b"hello")
        assert plain.recv() == "hello"
        if name == "load-balancer-idle":
            assert plain.recv() == "ECONNRESET"
        else:
            assert plain.waits(0.3)
            sockets.user_timeout(plain.sock, seconds=0.3)
            plain.send(b"request")
            assert plain.recv() == "ETIMEDOUT"
        fired = server.connections[0].fired_after_seconds
        assert fired
        assert 0.1 <= fired < 1


def _half_open() -> None:
    from faultkit.stage import open_stage

    open_stage("namespace", ipv6=False)
    with faultkit.serve("half-open") as server, client(server) as plain:
        plain.send(b"x")
        assert server.wait_for_connection().wait_for_end().ended == "vanish"
        assert plain.waits()
        plain.send(b"request")
        assert plain.recv() == "ECONNRESET"


def test_an_end_that_vanishes() -> None:
    in_child(_half_open)


def test_vanishing_needs_a_capability() -> None:
    ended = _as_nobody("half-open")
    assert ended.startswith("Unable: half-open needs CAP_NET_ADMIN in the network namespace")


def _as_nobody(name: str) -> str:
    script = (
        "import faultkit\n"
        "try:\n"
        f"    faultkit.serve({name!r})\n"
        "except faultkit.Unable as error:\n"
        "    print('Unable:', error)\n"
    )
    ended = as_nobody(sys.executable, "-c", script)
    assert ended.returncode == 0, ended.stderr
    return ended.stdout


# What the kernel counts for each: the counters by which the cause of that name is told from its look-alikes.
COUNTED: dict[str, dict[str, int | None]] = {
    "linger": {"TcpExtTCPAbortOnData": 1, "TcpExtTCPAbortOnClose": 0},
    "unread": {"TcpExtTCPAbortOnData": 0, "TcpExtTCPAbortOnClose": 1},
    "crash:unread": {"TcpExtTCPAbortOnData": 0, "TcpExtTCPAbortOnClose": 1},
    "keepalive-race:unsent": {"TcpExtTCPAbortOnData": 0, "TcpExtTCPAbortOnClose": 1},
    "keepalive-race:in-flight": {"TcpExtTCPAbortOnData": 1, "TcpExtTCPAbortOnClose": 0},
    "disconnect": {"TcpExtTCPAbortOnData": 0, "TcpExtTCPAbortOnClose": 0, "TcpOutRsts": 1},
    "black-hole": {"TcpExtTCPAbortOnTimeout": 1, "TcpExtTCPMinTTLDrop": None},
}


def _counted(name: str) -> None:
    from faultkit.stage import open_stage

    open_stage("namespace", ipv6=False)
    with faultkit.serve(name) as server, client(server) as plain:
        before = counters()
        TABLE[name][0](plain)
        seen = moved(before, counters())
    for counter, times in COUNTED[name].items():
        assert seen.get(counter, 0) == times if times is not None else seen[counter] > 0, (counter, seen)


@pytest.mark.parametrize("name", COUNTED)
def test_the_kernel_counts_what_the_cause_of_that_name_promises(name: str) -> None:
    in_child(functools.partial(_counted, name))


def test_in_flight_means_that_no_fin_has_arrived() -> None:
    with faultkit.serve("keepalive-race:in-flight") as server, client(server) as plain:
        plain.send(REQUEST)
        plain.recv_whole(len(REQUEST))
        assert server.wait_for_connection().wait_for_end().ended == "close"
        assert plain.waits()
        assert sockets.state(plain.sock) == "ESTABLISHED"


def test_slices_are_segments_of_their_own() -> None:
    with faultkit.serve("slices:5") as server, client(server) as plain:
        plain.send(REQUEST)
        assert plain.recv_whole(20) == ANSWER
        info = plain.sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 192)
        assert int.from_bytes(info[152:156], "little") == 4  # tcpi_data_segs_in


def test_slow_is_so_many_bytes_a_second() -> None:
    with faultkit.serve("slow:100") as server, client(server) as plain:
        plain.send(REQUEST * 2)
        began = time.monotonic()
        assert len(plain.recv_whole(40)) == 40
        assert 0.25 < time.monotonic() - began < 3


def test_a_zero_window_lets_the_client_wait_and_healing_ends_that() -> None:
    with faultkit.serve("zero-window") as server, client(server, timeout=0.3) as plain:
        sent = 0
        try:
            while True:
                sent += plain.sock.send(bytes(65536))
        except TimeoutError:
            pass
        assert sent < 20_000_000
        plain.sock.settimeout(20)
        server.heal()
        assert len(plain.recv(1)) == 1


@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        ("lingr", "there is no fault 'lingr': did you mean linger?"),
        ("blackhole", "there is no fault 'blackhole': did you mean black-hole?"),
        ("xyzzyxyzzy", "there is no fault 'xyzzyxyzzy': faultkit serve names them all"),
        ("injected", "injected cannot be served to a client (something in between): faultkit injected plays both of its sides"),
        ("linger:5", "there is no linger:5: linger takes nothing behind a colon"),
        ("stall:5", "stall:5: stall takes nothing behind a colon"),
        ("slow:fast", "slow:fast: slow:N takes a whole number of bytes per second, 1 or more, such as slow:16"),
        ("slices:0", "slices:0: slices:N takes a whole number of bytes, 1 or more, such as slices:1"),
        (
            "keepalive-race:sent",
            "there is no keepalive-race:sent: it is one of keepalive-race:unsent, keepalive-race:in-flight, "
            "keepalive-race:unprocessed",
        ),
    ],
)  # fmt: skip
def test_a_name_that_is_none_is_one_sentence(name: str, sentence: str) -> None:
    with pytest.raises(Misuse) as refused:
        faultkit.serve(name)
    assert str(refused.value) == sentence


def test_a_door_that_never_listened_has_turned_nobody_away() -> None:
    door = Door(socket.AF_INET, "127.0.0.1", 0)
    try:
        door.hang()
        assert not door.turned_away
        with socket.socket() as plain:
            plain.settimeout(0.05)
            with pytest.raises(TimeoutError):
                plain.connect(door.address)
        assert door.turned_away
        assert door.address == Address(*door.sock.getsockname())
    finally:
        door.close()
    assert door.turned_away
