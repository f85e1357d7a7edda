"""Servers, plans, triggers, handlers and clients by chance, with threads that fire, heal and close: `python -m
tests.serving.random_use --servers 5000 --seed 7`. Whatever is done, the engine lives, and nothing is left of what has ended.
"""

from __future__ import annotations

import argparse
import contextlib
import faulthandler
import functools
import os
import random
import socket
import struct
import threading
import time
import traceback
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import trio

import faultkit
from faultkit import FaultNotMet, HandlerCrashed, Http, Live, Misuse, Server, Tls, Unable
from faultkit.serving import faults
from faultkit.serving.engine import SHARED, Engine

WORKERS = 4
REQUESTS = [
    b"x",
    b"GET / HTTP/1.1\r\nHost: a\r\n\r\n",
    b"\x16\x03\x01\x00\x05hello",
    b"0123456789" * 20,
    b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes(3) + b"\4" + bytes(5) + bytes.fromhex("00000401050000000182868441"),
    b"GET / HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"
    b"Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n\x89\x80\0\0\0\0",
    b"*1\r\n$4\r\nPING\r\nQUIT\r\n",
    b"\xff" * 70_000,
]

ANSWERS: list[Any] = [
    "echo",
    "http",
    "http2",
    "websocket",
    "redis",
    "smtp",
    b"+OK\r\n",
    [Http(status=503), Http(early=True)],
]
NAMES = [name for name, _, served in faults.known() if not served.needs_repair] + [*faults.SPOKEN]

SILENCES: list[Callable[[Live], None]] = [
    lambda conn: conn.stall(),
    lambda conn: conn.black_hole(),
    lambda conn: conn.stop_reading(),
    lambda conn: conn.slow(bytes_per_second=50_000),
    lambda conn: conn.slices(size=7),
]
ENDS: list[Callable[[Live], None]] = [
    lambda conn: conn.abort(),
    lambda conn: conn.close(),
    lambda conn: conn.close_held(),
    lambda conn: conn.close_unread(),
    lambda conn: conn.disconnect(),
    lambda conn: conn.finish(),
    lambda conn: conn.half_close(),
    lambda conn: conn.garbage(b"?", size=100),
    lambda conn: conn.crash(read=True),
    lambda conn: conn.heal(),
]


class Rude(Exception):
    """A handler has closed its socket by itself, and what comes of it is its own."""


def handler(seed: int, given: list[Server]) -> Callable[[Live], Any]:
    """A handler that does anything, in an order of its own."""
    chance = random.Random(seed)
    rude = chance.random() < 0.1

    async def waits(conn: Live) -> None:
        for _ in range(chance.randint(1, 3)):
            with trio.CancelScope(deadline=trio.current_time() + 0.01, shield=chance.random() < 0.2):
                await chance.choice(
                    [
                        lambda: conn.receive(chance.choice([1, 65536])),
                        lambda: conn.send(b"s" * chance.choice([0, 1, 100_000])),
                        lambda: conn.answer(b"a" * 100),
                        conn.request,
                        trio.lowlevel.checkpoint,
                    ]
                )()

    async def does(conn: Live) -> None:
        for _ in range(chance.randint(1, 5)):
            what = chance.random()
            if what < 0.4:
                await waits(conn)
            elif what < 0.6:
                chance.choice(SILENCES)(conn)
            elif what < 0.75:
                chance.choice(ENDS)(conn)
            elif what < 0.85:
                async with trio.open_nursery() as nursery:
                    for _ in range(chance.randint(1, 3)):
                        nursery.start_soon(waits, conn)
                    if chance.random() < 0.5:
                        chance.choice([*SILENCES, *ENDS])(conn)
            elif given and what < 0.95:
                chance.choice([given[0].fire, given[0].heal])()
        if rude:
            conn.sock.close()
            raise Rude
        if chance.random() < 0.3:
            await trio.sleep_forever()

    return does


def sequence(chance: random.Random, names: list[str]) -> str:
    """One fault, or several in order."""
    steps = [chance.choice(names)]
    while chance.random() < 0.4:
        moment = chance.choice(["", "@fire", "@read", "@sent=30", "@requests=2", "@idle=5ms", "@bytes=100"])
        steps.append(chance.choice(["stall", "slices:9", "slow:50000", "black-hole", "ok", *names]) + moment)
    return " + ".join(steps)


def serving(chance: random.Random, given: list[Server]) -> faultkit.serving.entry.Serving:
    """Any server that means something."""
    names = NAMES
    while True:
        keywords: dict[str, Any] = {"must_be_met": chance.random() < 0.3}
        keywords["answer"] = chance.choice([*ANSWERS, *[handler(chance.getrandbits(32), given)] * 3])
        if chance.random() < 0.1:
            keywords["tls"] = chance.choice([True, Tls(alpn=["h2"]), Tls(mutual=True), Tls(later=True)])
        elif chance.random() < 0.2:
            keywords["unix"] = True
        if chance.random() < 0.3:
            keywords["ipv6"] = True
        kind = chance.random()
        if kind < 0.5:
            keywords["fault"] = sequence(chance, names)
        elif kind < 0.8:
            keywords["plan"] = [sequence(chance, [*names, "ok"]) for _ in range(chance.randint(1, 4))]
            if chance.random() < 0.2:
                keywords["when"] = chance.choice(["path=/*", "first=x", lambda opening: opening.number % 2 == 0])
        elif kind < 0.95:
            keywords["random"] = chance.choice([0.3, 1.0])
            keywords["seed"] = chance.getrandbits(16)
        when = chance.random()
        if kind < 0.8 and when < 0.5:
            trigger = chance.choice(
                ["at", "at", "after_bytes", "after_sent", "after_read_bytes", "after_requests", "after_answers", "idle"]
            )
            if trigger == "at":
                keywords["at"] = chance.choice(
                    ["accept", "client-hello", "handshake", "mid-body", "read", "fire", "fire"]
                )
            elif trigger == "idle":
                keywords["after_idle_seconds"] = chance.choice([0.001, 0.01, 0.05])
            else:
                keywords[trigger] = chance.choice([1, 2, 30])
        if chance.random() < 0.2:
            keywords["latency_seconds"] = chance.choice([0, 0.001, 0.02])
            keywords["rate"] = chance.choice([None, 1_000, 1_000_000])
        with contextlib.suppress(Misuse, Unable):  # a plan that refuses takes a sandbox
            return faultkit.serve(**keywords)


def connects(server: Server, chance: random.Random, kept: list[socket.socket]) -> None:
    """A client that says anything and ends in any way."""
    unix = "/" in server.host
    sock = socket.socket(socket.AF_UNIX if unix else socket.AF_INET6 if ":" in server.host else socket.AF_INET)
    kept.append(sock)
    sock.settimeout(chance.choice([0.005, 0.02, 0.1]))
    with contextlib.suppress(OSError):
        sock.connect(server.path if unix else server.address)
        for _ in range(chance.randint(0, 4)):
            what = chance.random()
            if what < 0.6:
                sock.sendall(chance.choice(REQUESTS))
            elif what < 0.9:
                sock.recv(chance.choice([1, 65536]))
            else:
                sock.shutdown(chance.choice([socket.SHUT_WR, socket.SHUT_RDWR]))
    how = chance.random()
    if how < 0.4:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    if how < 0.8:
        sock.close()


def disturbs(server: Server, chance: random.Random, stop: threading.Event) -> None:
    """Fires and heals until the server is closed."""
    while not stop.wait(chance.choice([0, 0.001, 0.005])):
        try:
            restart = functools.partial(server.restart, down_seconds=chance.choice([0, 0.001, 0.01, 60]))
            arm = functools.partial(server.arm, sequence(chance, NAMES))
            calls: list[Callable[[], None]] = [server.fire, server.heal, server.fire, server.check_crash, restart]
            calls += [arm, server.forget]
            chance.choice(calls)()
        except Misuse as refused:
            if "closed" in str(refused):
                return
        except (HandlerCrashed, TimeoutError, Unable):
            pass


@dataclass
class Seen:
    servers: int = 0
    connections: int = 0
    ended: Counter[str] = field(default_factory=Counter)
    wrong: list[str] = field(default_factory=list)


def its_own(error: BaseException | None) -> bool:
    """Is it the handler's own mistake, whatever its other tasks were told: a verb that is refused, two tasks that read at once, a
    socket that it closed?"""
    if isinstance(error, BaseExceptionGroup):
        return any(map(its_own, error.exceptions))
    return isinstance(error, Misuse | Rude | trio.BusyResourceError)


def one(seed: int, seen: Seen) -> None:
    """One server from its opening to its end."""
    chance = random.Random(seed)
    given: list[Server] = []
    kept: list[socket.socket] = []
    stop = threading.Event()
    threads: list[threading.Thread] = []
    server: Server | None = None
    try:
        with serving(chance, given) as server:
            given.append(server)
            if chance.random() < 0.5:
                ours = random.Random(chance.getrandbits(32))
                threads.append(threading.Thread(target=disturbs, args=(server, ours, stop)))
            for _ in range(chance.randint(0, 5)):
                ours = random.Random(chance.getrandbits(32))
                come = functools.partial(connects, server, ours, kept)
                if chance.random() < 0.3:
                    threads.append(threading.Thread(target=come))
                else:
                    come()
            for thread in threads:
                thread.start()
            if chance.random() < 0.3:
                time.sleep(chance.random() * 0.02)
            if chance.random() < 0.1:
                raise ZeroDivisionError
    except (FaultNotMet, HandlerCrashed, ZeroDivisionError) as told:
        if isinstance(told, HandlerCrashed) and not its_own(told.__cause__):
            trace = "".join(traceback.format_exception(told.__cause__ or told))
            seen.wrong.append(f"seed {seed}: {told}\n{trace}")
    finally:
        stop.set()
        for thread in threads:
            thread.join(20)
        for sock in kept:
            sock.close()
    assert server
    seen.servers += 1
    for record in server.connections:
        seen.connections += 1
        seen.ended[str(record.ended).partition(":")[0].partition(" with ")[0]] += 1
        if record.ended is None or not record.over:
            seen.wrong.append(f"seed {seed}: {record!r} was left")


def descriptors() -> dict[str, str]:
    """What this process has open."""
    found = {}
    for number in os.listdir("/proc/self/fd"):
        with contextlib.suppress(OSError):  # that of the listing itself
            found[number] = os.readlink(f"/proc/self/fd/{number}")
    return found


def kernels_line(what: str) -> str:
    """What the kernel lists of a descriptor that was left: the addresses and the state of a socket."""
    inode = what.partition("[")[2].rstrip("]")
    for table in ("tcp", "tcp6", "unix", "netlink"):
        with open(f"/proc/net/{table}") as lines:
            for line in lines:
                if inode and inode in line.split():
                    return f"{table}: {line.strip()}"
    return what


def in_epoll(engine: Engine) -> list[str]:
    """What the kernel watches for the engine."""
    with open(f"/proc/self/fdinfo/{engine._epoll.fileno()}") as info:
        return [line for line in info if line.startswith("tfd:")]


@contextlib.contextmanager
def watched(seen: Seen) -> Iterator[None]:
    """Nobody beside suffers, and nothing is left."""
    died: list[threading.ExceptHookArgs] = []
    before_hook, threading.excepthook = threading.excepthook, died.append
    engine = SHARED.hold()
    try:
        with faultkit.serve() as beside:  # and what it needs once is there
            talks(beside)
            open_before = descriptors()
            over = threading.Event()

            def goes_on() -> None:
                while not over.wait(0.01):
                    try:
                        talks(beside)
                    except Exception as error:
                        seen.wrong.append(f"beside: {error!r}, {beside!r}")
                        faulthandler.dump_traceback()
                        return

            others = threading.Thread(target=goes_on)
            others.start()
            try:
                yield
            finally:
                over.set()
                others.join()
            talks(beside)
            assert engine.call(lambda: "alive") == "alive"
            assert SHARED._engine is engine
            left = {number: what for number, what in descriptors().items() if number not in open_before}
            assert not left, [kernels_line(what) for what in left.values()]
            assert len(engine._watches) == 1, engine._watches
            assert len(in_epoll(engine)) == 1
            assert engine._nursery
            deadline = time.monotonic() + 10
            while engine._nursery.child_tasks and time.monotonic() < deadline:
                time.sleep(0.01)  # of its own accord: a task that was cancelled
            assert not engine._nursery.child_tasks
        assert engine._watches == {}
    finally:
        SHARED.release()
        threading.excepthook = before_hook
    assert not died, died
    assert not seen.wrong, "\n".join(seen.wrong)


def talks(server: Server) -> None:
    with socket.create_connection(server.address, timeout=5) as sock:
        sock.sendall(b"beside")
        assert sock.recv(100) == b"beside"
    server.connections[-1].wait_for_end()


def play(
    seed: int, servers: int, *, seconds: float = float("inf"), tell: Callable[[Seen], None] = lambda seen: None
) -> Seen:
    """So many servers, four at once, or as many as that time allows."""
    seen, ends = Seen(), time.monotonic() + seconds
    todo = iter(range(servers))

    def works() -> None:
        for number in todo:
            if time.monotonic() > ends:
                return
            one(seed * 1_000_000 + number, seen)
            tell(seen)

    with watched(seen):
        workers = [threading.Thread(target=works) for _ in range(WORKERS)]
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join()
    return seen


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--servers", type=int, default=5000)
    parser.add_argument("--seed", type=int, default=random.SystemRandom().getrandbits(16))
    asked = parser.parse_args()
    print(f"seed {asked.seed}", flush=True)

    def tell(seen: Seen) -> None:
        if seen.servers % 500 == 0:
            print(f"{seen.servers} servers, {seen.connections} connections", flush=True)

    seen = play(asked.seed, asked.servers, tell=tell)
    print(f"{seen.servers} servers, {seen.connections} connections: {dict(seen.ended.most_common())}")


if __name__ == "__main__":
    main()
