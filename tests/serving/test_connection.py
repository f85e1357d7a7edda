"""Handlers and their verbs, against what a plain client is told; and what a connection's record says."""

from __future__ import annotations

import functools
import inspect
import socket
import sys
import threading
from collections.abc import Awaitable, Callable

import pytest
import trio

import faultkit
from faultkit import Live, sockets
from faultkit.serving import faults
from faultkit.serving.answers import Handler
from faultkit.serving.verbs import End
from faultkit.witness.kernel import counters, moved
from tests.ordinary import as_nobody
from tests.serving.client import PATIENCE, client
from tests.stage.child import in_child

REQUEST = b"0123456789"


def after_request(verb: Callable[[Live], object]) -> Handler:
    """Read what comes first, do it, and go on as if nothing had happened."""

    async def handler(conn: Live) -> None:
        data = await conn.receive()
        verb(conn)
        await conn.send(data)
        await conn.receive()

    return handler


def unread_of_two(conn: Live) -> Awaitable[None]:
    async def play() -> None:
        await conn.receive(4)
        conn.close_unread()
        await conn.receive()

    return play()


RESET = ["recv ECONNRESET", "recv EOF", "send EPIPE"]
ECHOED = "recv " + REQUEST.decode()

# the handler, what the client is told after its request by recv, recv, send; how the record says that it ended
VERBS: dict[str, tuple[Handler, list[str], str]] = {
    "abort": (after_request(lambda conn: conn.abort()), RESET, "abort"),
    "close_unread": (unread_of_two, RESET, "close with 6 bytes unread"),
    "disconnect": (after_request(lambda conn: conn.disconnect()), RESET, "disconnect"),
    "crash": (after_request(lambda conn: conn.crash(read=True)), ["recv EOF", "recv EOF", "send ok"], "killed"),
    "close": (after_request(lambda conn: conn.close()), ["recv EOF", "recv EOF", "send ok"], "close"),
    "finish": (after_request(lambda conn: conn.finish()), ["recv EOF", "recv EOF", "send ok"], "peer closed"),
    "half_close": (after_request(lambda conn: conn.half_close()), ["recv EOF", "recv EOF", "send ok"], "closed"),
    "slices": (after_request(lambda conn: conn.slices(size=10)), [ECHOED, "recv timeout", "send ok"], "closed"),
    "slow": (
        after_request(lambda conn: conn.slow(bytes_per_second=1000)),
        [ECHOED, "recv timeout", "send ok"],
        "closed",
    ),
    "stall": (after_request(lambda conn: conn.stall()), ["recv timeout", "recv timeout", "send ok"], "peer closed"),
    "stop_reading": (
        after_request(lambda conn: conn.stop_reading()),
        ["recv timeout", "recv timeout", "send ok"],
        "peer closed",
    ),
    "black_hole": (
        after_request(lambda conn: conn.black_hole()),
        ["recv timeout", "recv timeout", "send ok"],
        "server closed",
    ),
}


@pytest.mark.parametrize("ipv6", [False, True], ids=["ipv4", "ipv6"])
@pytest.mark.parametrize("verb", VERBS)
def test_a_verb_is_what_the_client_is_told(verb: str, ipv6: bool) -> None:
    handler, told, ended = VERBS[verb]
    with faultkit.serve(answer=handler, ipv6=ipv6) as server:
        timeout = 0.1 if any("timeout" in call for call in told) else PATIENCE
        with client(server, timeout=timeout) as plain:
            plain.send(REQUEST)
            plain.recv()
            plain.recv()
            plain.send(b"x")
        assert plain.told == ["send ok", *told]
        record = server.wait_for_connection()
        if ended != "server closed":
            record.wait_for_end()
    assert record.ended == ended
    assert not record.fired


def test_every_verb_is_tried_here() -> None:
    verbs = {name for name, thing in vars(End).items() if not name.startswith("_") and inspect.isfunction(thing)}
    of_one_fault_each = {"close_held", "garbage", "early_response", "shorten_fin_wait", "say", "close_notify"}
    assert verbs == {*VERBS, "heal", "vanish"} | of_one_fault_each


def _vanishes() -> None:
    from faultkit.stage import open_stage

    open_stage("namespace", ipv6=False)
    with faultkit.serve(answer=after_request(lambda conn: conn.vanish())) as server, client(server) as plain:
        plain.send(REQUEST)
        assert server.wait_for_connection().wait_for_end().ended == "vanish"
        assert plain.waits()
        plain.send(b"x")
        assert plain.recv() == "ECONNRESET"


def test_vanish() -> None:
    in_child(_vanishes)


def test_a_handler_that_may_not_vanish_can_do_something_else() -> None:
    script = """
import socket, faultkit
async def handler(conn):
    await conn.receive()
    try:
        conn.vanish()
    except PermissionError:
        await conn.send(b"refused")
with faultkit.serve(answer=handler) as server, socket.create_connection(server.address) as plain:
    plain.send(b"x")
    print(plain.recv(100), plain.recv(100))
"""
    ended = as_nobody(sys.executable, "-c", script)
    assert (ended.stdout, ended.stderr) == ("b'refused' b''\n", "")


async def echo_until_healed(conn: Live, verb: Callable[[], object], healing: trio.Event) -> None:
    data = await conn.receive()
    verb()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(conn.send, data)
        await healing.wait()
        conn.heal()
    await conn.send(await conn.receive())


@pytest.mark.parametrize("verb", ["black_hole", "stall", "stop_reading", "slow"])
def test_a_handler_heals_what_it_did(verb: str) -> None:
    healing = trio.Event()
    token: list[trio.lowlevel.TrioToken] = []

    async def handler(conn: Live) -> None:
        token.append(trio.lowlevel.current_trio_token())
        act = getattr(conn, verb)
        await echo_until_healed(conn, functools.partial(act, bytes_per_second=2) if verb == "slow" else act, healing)

    with faultkit.serve(answer=handler) as server, client(server) as plain:
        plain.send(REQUEST)
        begun = plain.recv(1) if verb == "slow" else ""
        assert plain.waits()
        token[0].run_sync_soon(healing.set)
        assert begun + plain.recv_whole(len(REQUEST) - len(begun)) == REQUEST.decode()
        plain.send(b"again")
        assert plain.recv() == "again"


@pytest.mark.parametrize("verb", ["black_hole", "stall", "stop_reading"])
def test_a_handler_that_returns_says_nothing_by_it_until_it_is_healed(verb: str) -> None:
    async def handler(conn: Live) -> None:
        getattr(conn, verb)()

    with faultkit.serve(answer=handler) as server, client(server) as plain:
        assert plain.waits(0.1)
        server.heal()
        assert plain.recv() == "EOF"
        assert server.connections[0].wait_for_end().ended == "closed"


def test_a_verb_ends_the_handler_at_its_next_wait_whatever_that_is() -> None:
    reached: list[str] = []

    async def handler(conn: Live) -> None:
        await conn.receive()
        conn.abort()
        reached.append("after the verb")
        await trio.sleep_forever()
        reached.append("never")

    with faultkit.serve(answer=handler) as server, client(server) as plain:
        plain.send(b"x")
        assert plain.recv() == "ECONNRESET"
        assert server.wait_for_connection().wait_for_end().ended == "abort"
    assert reached == ["after the verb"]


def test_an_end_in_a_task_of_the_handlers_own_ends_the_whole_handler() -> None:
    async def handler(conn: Live) -> None:
        async def ends() -> None:
            await conn.receive()
            conn.close()

        async with trio.open_nursery() as nursery:
            nursery.start_soon(ends)
            await trio.sleep_forever()

    with faultkit.serve(answer=handler) as server, client(server) as plain:
        plain.send(b"x")
        assert plain.recv() == "EOF"
        assert server.wait_for_connection().wait_for_end().ended == "close"


def test_a_handler_may_speak_first() -> None:
    async def banner(conn: Live) -> None:
        await conn.send(b"220 ready\r\n")
        await conn.receive()

    with faultkit.serve(answer=banner) as server, client(server) as plain:
        assert plain.recv() == "220 ready\r\n"


def test_a_handler_reads_no_more_than_it_asks_for() -> None:
    read: list[bytes] = []

    async def handler(conn: Live) -> None:
        while data := await conn.receive(4):
            read.append(data)

    with faultkit.serve(answer=handler) as server:
        with client(server) as plain:
            plain.send(REQUEST)
        assert server.wait_for_connection().wait_for_end().ended == "peer closed"
    assert [len(data) for data in read] == [4, 4, 2]


def test_a_handler_that_leaves_bytes_unread_ends_with_fin() -> None:
    """What was answered arrives; a reset might overtake it."""

    async def handler(conn: Live) -> None:
        await conn.receive(1)
        await conn.send(b"enough")

    for _ in range(20):
        with faultkit.serve(answer=handler) as server, client(server) as plain:
            plain.send(REQUEST)
            assert [plain.recv(), plain.recv()] == ["enough", "EOF"]
            assert server.connections[0].wait_for_end().ended == "closed"
            assert server.connections[0].received == len(REQUEST)


def test_a_client_that_resets_is_lost_and_no_crash() -> None:
    with faultkit.serve() as server, client(server) as plain:
        plain.send(b"x")
        plain.recv()
        sockets.abort(plain.sock)
        assert server.wait_for_connection().wait_for_end().ended == "lost: ECONNRESET"


def test_a_client_that_is_lost_in_a_nursery_of_the_handlers_is_no_crash() -> None:
    async def handler(conn: Live) -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(conn.receive)
            nursery.start_soon(trio.sleep_forever)

    with faultkit.serve(answer=handler) as server, client(server) as plain:
        server.wait_for_connection()
        sockets.abort(plain.sock)
        assert server.wait_for_connection().wait_for_end().ended == "lost: ECONNRESET"


@pytest.mark.parametrize("name", ["stall", "zero-window"])
@pytest.mark.parametrize("how", ["close", "abort"])
def test_a_client_that_gives_up_ends_a_connection_that_says_nothing(name: str, how: str) -> None:
    with faultkit.serve(name) as server, client(server, timeout=0.05) as plain:
        plain.send(b"x")
        assert plain.recv() == "timeout"
        plain.sock.close() if how == "close" else sockets.abort(plain.sock)
        record = server.wait_for_connection().wait_for_end()
        assert record.ended == ("peer closed" if how == "close" else "lost: ECONNRESET")


def test_two_tasks_of_a_handler_may_wait_while_it_is_stalled() -> None:
    async def handler(conn: Live) -> None:
        conn.stall()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(conn.send, b"a")
            nursery.start_soon(conn.send, b"b")

    with faultkit.serve(answer=handler) as server:
        with client(server) as plain:
            assert plain.waits()
            server.heal()
            assert sorted(plain.recv_whole(2)) == ["a", "b"]
        assert server.wait_for_connection().wait_for_end().ended == "closed"


def test_a_half_closed_server_reads_on_and_says_nothing() -> None:
    """More than any buffer holds, so it is really read."""
    with faultkit.serve("half-close") as server:
        with client(server) as plain:
            plain.send(b"x")
            assert plain.recv() == "EOF"
            server.heal()  # takes no FIN back
            plain.send(bytes(10_000_000))
            assert plain.recv() == "EOF"
        record = server.wait_for_connection().wait_for_end()
        assert record.ended == "peer closed"
        assert (record.received, record.sent, record.answers) == (10_000_001, 0, 0)


@pytest.mark.parametrize("size", [1, 64, 65, 100_000, 20_000_000])
def test_garbage_of_any_size(size: int) -> None:
    """More than the socket buffers hold does not keep the other connections waiting."""
    with faultkit.serve(plan=[f"garbage:{size}", "ok"], answer="http") as server, client(server) as plain:
        plain.send(b"GET / HTTP/1.1\r\n\r\n")
        plain.readable()
        with client(server) as another:
            another.send(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
            assert another.recv().startswith("HTTP/1.1 200")
        data = plain.recv_whole(size).encode("latin-1")
        assert data == (faults.NOISE * (size // len(faults.NOISE) + 1))[:size]
        assert plain.recv() == "EOF"
        assert server.connections[0].sent == size


def test_a_lingering_end_is_bounded_by_the_server() -> None:
    with faultkit.serve("accept-then-close") as server, client(server) as plain:
        assert plain.recv() == "EOF"
        plain.send(REQUEST)
    assert server.connections[0].ended in ("server closed", "peer closed")


def test_what_comes_while_a_server_drains_is_counted() -> None:
    with faultkit.serve("accept-then-close") as server:
        with client(server) as plain:
            assert plain.recv() == "EOF"
            plain.send(bytes(100_000))
        assert server.wait_for_connection().wait_for_end().received == 100_000


def _streams(name: str) -> dict[str, int]:
    """A client that never stops sending, thirty times."""
    from faultkit.stage import open_stage

    open_stage("namespace", ipv6=False)
    before = counters()
    with faultkit.serve(name) as server:
        for _ in range(30):
            with client(server) as plain:
                while plain.send(bytes(65536)) == "ok":
                    pass
    return moved(before, counters())


def test_a_linger_is_one_also_where_the_client_goes_on_sending() -> None:
    """Bytes unread at the close would make it another cause."""
    seen = in_child(functools.partial(_streams, "linger"))
    assert seen["TcpExtTCPAbortOnData"] == 30
    assert "TcpExtTCPAbortOnClose" not in seen


@pytest.mark.parametrize("ipv6", [False, True], ids=["ipv4", "ipv6"])
def test_each_slice_is_a_segment_also_when_many_wait(ipv6: bool) -> None:
    with faultkit.serve("slices:2", ipv6=ipv6) as server, client(server) as plain:
        before = counters()
        plain.send(bytes(1000))
        assert len(plain.recv_whole(1000)) == 1000
        info = plain.sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 192)
        again = moved(before, counters()).get("TcpRetransSegs", 0)  # of a busy machine, whose ACKs are late
        assert 500 <= int.from_bytes(info[152:156], sys.byteorder) <= 500 + again  # tcpi_data_segs_in


def test_a_healed_window_opens_at_full_speed() -> None:
    for _ in range(3):
        with faultkit.serve("zero-window") as server, client(server, timeout=0.3) as plain:
            sent = 0
            with pytest.raises(TimeoutError):
                while True:
                    sent += plain.sock.send(bytes(65536))
            plain.sock.settimeout(PATIENCE)
            server.heal()
            more = threading.Thread(target=plain.sock.sendall, args=(bytes(3_000_000),))
            more.start()
            assert len(plain.recv_whole(sent + 3_000_000)) == sent + 3_000_000
            more.join()


def test_an_answer_is_all_sent_before_a_reset_between_answers() -> None:
    """More than one window: an abort would throw away what the kernel still has."""

    async def handler(conn: Live) -> None:
        await conn.receive()
        await conn.request()
        await conn.answer(bytes(3_000_000))

    with faultkit.serve("linger", after_answers=1, answer=handler) as server, client(server) as plain:
        plain.send(b"x")
        assert len(plain.recv_whole(3_000_000)) == 3_000_000
        assert plain.recv() == "ECONNRESET"
        assert server.connections[0].answers == 1
