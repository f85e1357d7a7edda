"""Several faults in order on one connection: `slow:100 + linger@sent=500`."""

from __future__ import annotations

import contextlib
import socket
import time
from typing import Any

import pytest

import faultkit
from faultkit import FaultNotMet, Http, Misuse
from faultkit.serving import sessions, steps
from faultkit.trigger import Trigger
from tests.serving.client import client

GET = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"


def test_one_after_the_other() -> None:
    body = b"x" * 1000
    with faultkit.serve("slices:10 + linger@sent=500", answer=body) as server, client(server) as plain:
        plain.send(b"a")
        assert len(plain.recv_whole(500)) == 500
        assert plain.recv() == "ECONNRESET"
        record = server.connections[0].wait_for_end()
        assert record.fault == "slices:10 + linger@sent=500"
        assert [met.fault for met in record.met] == ["slices:10", "linger"]
        assert record.fired_after_seconds == record.met[0].after_seconds <= record.met[1].after_seconds
        assert (record.sent, record.ended, record.pending) == (500, "abort", None)


def test_each_connection_of_a_plan_has_its_own() -> None:
    plan = ["stall@requests=2 + linger@idle=0.2", "ok", "half-close@answers=1 + linger@requests=3"]
    with faultkit.serve(plan=plan) as server:
        with client(server) as plain:
            for word, told in (("a", "a"), ("b", "ECONNRESET")):
                plain.send(word.encode())
                began = time.monotonic()
                assert plain.recv() == told
            assert time.monotonic() - began > 0.15
        with client(server) as plain:
            plain.send(b"a")
            assert plain.recv() == "a"
        with client(server) as plain:
            plain.send(b"a")
            assert [plain.recv(), plain.recv()] == ["a", "EOF"]
            plain.send(b"b")
            assert plain.recv() == "EOF"
            while plain.send(b"c") == "ok":  # a reset in CLOSE-WAIT is EPIPE to send(), nothing to recv()
                pass
        assert [record.fault for record in server.connections] == [plan[0], "ok", plan[2]]


@pytest.mark.parametrize("silence", ["stall", "black-hole", "zero-window"])
def test_ok_heals(silence: str) -> None:
    """An outage of one connection, that passes."""
    with faultkit.serve(f"{silence}@requests=2 + ok@idle=300ms") as server, client(server) as plain:
        plain.send(b"a")
        assert plain.recv() == "a"
        plain.send(b"b")
        assert plain.waits(0.1)
        assert plain.recv() == "b"
        plain.send(b"c")
        assert plain.recv() == "c"
        assert [met.fault for met in server.connections[0].met] == [silence, "ok"]


def test_without_a_trigger_of_its_own_one_comes_with_the_one_before() -> None:
    with faultkit.serve("slices:3 + slow:1000 + accept-then-close@answers=1") as server, client(server) as plain:
        plain.send(b"123456789")
        assert plain.recv_whole(9) == "123456789"
        assert plain.recv() == "EOF"
        first, second, third = server.connections[0].met
        assert (first.fault, second.fault, third.fault) == ("slices:3", "slow:1000", "accept-then-close")
        # The last one waits for the whole answer: three bytes, three milliseconds later three more, and the rest.
        assert second.after_seconds - first.after_seconds < 0.006 <= third.after_seconds - first.after_seconds


def test_what_was_counted_before_it_was_armed_counts() -> None:
    with faultkit.serve("stall@fire + linger@answers=2") as server, client(server) as plain:
        for word in ("a", "b", "c"):
            plain.send(word.encode())
            assert plain.recv() == word
        server.fire()
        assert plain.recv() == "ECONNRESET"


def test_fire_lets_the_next_set_in_and_after_heal_the_first() -> None:
    with faultkit.serve("slices:1@requests=1 + stall@fire + linger@fire") as server, client(server) as plain:
        plain.send(b"ab")
        assert plain.recv_whole(2) == "ab"
        server.fire()
        plain.send(b"c")
        assert plain.waits()
        server.heal()
        assert plain.recv() == "c"
        for _ in range(2):
            server.fire()
        plain.send(b"d")
        assert plain.waits()
        server.fire()
        assert plain.recv() == "ECONNRESET"
        assert [met.fault for met in server.connections[0].met] == ["slices:1", "stall", "slices:1", "stall", "linger"]


def test_keywords_are_the_first_ones_trigger() -> None:
    with faultkit.serve("stall + linger@idle=0.2", after_requests=2) as server, client(server) as plain:
        plain.send(b"a")
        assert plain.recv() == "a"
        plain.send(b"b")
        assert plain.recv() == "ECONNRESET"


def test_over_tls() -> None:
    with faultkit.serve("slow:100000@handshake + linger@sent=3", tls=True) as server, client(server) as plain:
        with server.client_context.wrap_socket(plain.sock, server_hostname="localhost") as sock:
            sock.sendall(b"abcdef")
            assert sock.recv(3) == b"abc"
            assert server.connections[0].wait_for_end().ended == "abort"
        assert [met.fault for met in server.connections[0].met] == ["slow:100000", "linger"]


UNMET = [
    ({"fault": "stall + linger@sent=500"}, "linger on port PORT was never met: it was to set in after 500 bytes sent"),
    (
        {"plan": ["slices:2 + linger@requests=2"]},
        "linger on port PORT was never met: it was planned after 2 requests of connection 1",
    ),
]


@pytest.mark.parametrize(("keywords", "sentence"), UNMET)
def test_each_has_to_be_met(keywords: dict[str, Any], sentence: str) -> None:
    with pytest.raises(FaultNotMet) as unmet, faultkit.serve(**keywords) as server:
        with client(server) as plain:
            plain.send(b"a")
            server.wait_for_connection().wait_for_fired()
        server.connections[0].wait_for_end()
    assert str(unmet.value).startswith(sentence.replace("PORT", str(server.port)))


def test_waiting_for_a_later_one() -> None:
    with faultkit.serve("stall + linger@fire") as server, client(server) as plain:
        plain.send(b"a")
        record = server.wait_for_connection().wait_for_fired()
        with pytest.raises(TimeoutError):
            record.wait_for_fired(2, timeout_seconds=0.01)
        server.fire()
        assert record.wait_for_fired(2).met[1].fault == "linger"


MISUSES = {
    "linger + stall": "linger + stall: linger ends the connection, so stall never comes: let it be the last",
    "refuse + linger": "refuse + linger: refuse is done to the listening socket, before there is a connection: "
    "it stands alone",
    "stall + linger@accept": "linger@accept: it comes after another, when the connection was accepted: take another trigger",
    "stall@sent=9 + linger@sent=5": "stall@sent=9 + linger@sent=5: linger@sent=5 comes before stall@sent=9: "
    "counts are of the whole connection; let them grow",
    "stall + ok": "ok heals what comes before it, and at once that would be nothing: say when, as in ok@requests=2",
    "stall + unread": "unread leaves received bytes unread, and `with the one before it` there may be none: "
    "take after_bytes or after_requests",
    "linger@sent": "@sent is no trigger: it is one of accept, client-hello, handshake, mid-body, read, fire, or a count, "
    "such as bytes=N, sent=N, read=N, requests=N, answers=N, idle=N",
    "linger@sent=x": "@sent=x: 'x' is no number of bytes sent",
    "linger@sent=0": "@sent=0: after_sent=0 never comes: take 1 or more",
    "linger@idle=-1ms": "@idle=-1ms: after_idle_seconds=-0.001 never comes: take more than 0, and less than 2147483648",
    "linger@handshake": "linger@handshake never comes without TLS: add tls=True",
    "stall +": "there is no fault '': faultkit serve names them all",
}


@pytest.mark.parametrize("text", MISUSES)
def test_what_cannot_mean_anything_is_one_sentence(text: str) -> None:
    both: list[dict[str, Any]] = [{"fault": text}, {"plan": [text]}]
    for keywords in both:
        with pytest.raises(Misuse) as refused:
            faultkit.serve(**keywords)
        if not (text.startswith("refuse") and "plan" in keywords):
            assert str(refused.value) == MISUSES[text]


def test_two_triggers_for_one_fault() -> None:
    with pytest.raises(Misuse) as refused:
        faultkit.serve("linger@sent=5", after_requests=1)
    assert str(refused.value) == (
        "linger@sent=5 has a trigger of its own, and `after 1 request` is another: leave one of them out"
    )


def test_the_notation() -> None:
    found = steps.fault("  slow:100@accept+linger @ idle = 250ms ")
    assert found.title == "slow:100@accept + linger @ idle = 250ms"
    assert (found.name, found.when) == ("slow:100", Trigger("accept"))
    assert found.then
    assert (found.then.name, found.then.when, found.then.then) == ("linger", Trigger("idle", 0.25), None)
    assert steps.fault("linger@idle=2s").when == steps.fault("linger@idle=2").when == Trigger("idle", 2.0)


# read


@pytest.mark.parametrize("ipv6", [False, True], ids=["ipv4", "ipv6"])
@pytest.mark.parametrize("tls", [False, True], ids=["plain", "tls"])
def test_when_the_client_has_read_what_was_sent(ipv6: bool, tls: bool) -> None:
    with (
        faultkit.serve("linger", at="read", answer=Http(b"x" * 10_000), ipv6=ipv6, tls=tls) as server,
        client(server) as plain,
    ):
        if tls:
            plain.sock = server.client_context.wrap_socket(plain.sock, server_hostname="localhost")
        sock = plain.sock
        sock.sendall(GET)
        record = server.wait_for_connection()
        plain.readable()
        left = record.sent
        time.sleep(0.02)  # twenty looks, and nothing is read yet
        assert not record.fired
        while left > 1:
            left -= len(sock.recv(left - 1))
        if not tls:  # of which the whole record is read
            time.sleep(0.02)
            assert not record.fired
        with contextlib.suppress(ConnectionResetError):  # of which Python's ssl may make an end
            while sock.recv(1000):
                pass
        assert record.wait_for_end().ended == "abort"
        sock.close()


def test_when_the_client_has_read_so_many_bytes() -> None:
    with faultkit.serve("linger", after_read_bytes=7) as server, client(server) as plain:
        plain.send(b"0123")
        assert plain.recv_whole(4) == "0123"
        plain.send(b"456789")
        plain.readable()
        assert plain.recv_whole(2) == "45"
        record = server.connections[0]
        time.sleep(0.02)
        assert not record.fired
        assert plain.recv_whole(1) == "6"
        record.wait_for_fired()
        assert [plain.recv(), plain.recv()] == ["789", "ECONNRESET"]


def test_in_a_sequence() -> None:
    with faultkit.serve("stall@answers=2 + linger@read") as server, client(server) as plain:
        for word in ("a", "b"):
            plain.send(word.encode())
            plain.readable()
            assert plain.recv() == word
        assert plain.recv() == "ECONNRESET"


@pytest.mark.parametrize(
    "when, tls", [({"at": "read"}, False), ({"at": "read"}, True), ({"after_read_bytes": 1}, False)]
)
def test_a_client_that_is_quicker_than_a_look_at_it(
    monkeypatch: pytest.MonkeyPatch, when: dict[str, Any], tls: bool
) -> None:
    monkeypatch.setattr(sessions, "LOOK", 60.0)
    with faultkit.serve(plan=["linger", "linger"], tls=tls, **when) as server:
        for closes in (False, True):
            plain = socket.create_connection(server.address, timeout=5)
            with server.client_context.wrap_socket(plain, server_hostname="localhost") if tls else plain as sock:
                sock.sendall(b"a")
                assert sock.recv(1) == b"a"
                if not closes:
                    with contextlib.suppress(ConnectionError):  # what it asks next meets the fault, and nothing else
                        sock.sendall(b"b")
                        told = sock.recv(1)
                        assert (told, tls) == (b"", True)  # Python's ssl may tell of a reset as of an end
        assert [server.connections[n].wait_for_end().ended for n in (0, 1)] == ["abort", "abort"]
        assert [record.sent for record in server.connections] == [1, 1]


def test_a_client_that_closes_and_has_not_read_it_all_has_not_met_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sessions, "LOOK", 60.0)
    with faultkit.serve("stall", at="read", answer=b"ab", must_be_met=False) as server:
        with client(server) as plain:
            plain.send(b"a")
            plain.readable()
        record = server.connections[0].wait_for_end()
        assert (record.fired, record.ended) == (False, "lost: ECONNRESET")


def test_nothing_is_asked_while_nothing_is_sent(monkeypatch: pytest.MonkeyPatch) -> None:
    from faultkit.serving import peer

    asked = []
    has_read = peer.has_read

    def counted(sock: socket.socket) -> int | None:
        asked.append(sock)
        return has_read(sock)

    monkeypatch.setattr(peer, "has_read", counted)
    with faultkit.serve("linger", at="read", must_be_met=False) as server, client(server) as plain:
        assert plain.waits(0.1)
        server.wait_for_connection()
    assert len(asked) <= 3


def test_read_over_tls_is_not_counted_in_bytes() -> None:
    with pytest.raises(Misuse, match=r"over TLS: what the client reads there is ciphertext; take at='read'$"):
        faultkit.serve("linger", after_read_bytes=7, tls=True)
