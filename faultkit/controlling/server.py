"""The server in the foreground: HTTP and the proxies in one Trio loop, until a signal."""

from __future__ import annotations

import contextlib
import functools
import gc
import ipaddress
import logging
import os
import resource
import signal
import socket
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, cast

import trio
from hypercorn.config import Config
from hypercorn.trio import run as hypercorn_run
from hypercorn.trio import serve as serve_http
from hypercorn.trio.tcp_server import TCPServer
from hypercorn.typing import Framework

from faultkit.controlling import body
from faultkit.controlling.guard import Guard
from faultkit.controlling.journal import Handler, Journal
from faultkit.controlling.metrics import Metrics
from faultkit.controlling.page import routes as page
from faultkit.controlling.page.state import Ends
from faultkit.controlling.proxies import Kept, Proxies, Settings
from faultkit.controlling.reading import LARGEST, Whole
from faultkit.controlling.refusal import Refusal
from faultkit.controlling.routes import CONTRACT, Api, router
from faultkit.errors import Misuse, Unable
from faultkit.playing.signals import received
from faultkit.proxying.down import UpstreamDown
from faultkit.proxying.loop import Loop
from faultkit.proxying.proxy import Event
from faultkit.serving.foreground import PATIENCE, Lines

WRITING = 30_000  # ms that an answer may wait for its reader
IDLE = 60  # seconds between two requests on a connection
GRACE = 0.5  # seconds for answers that are under way at the end; arbitrary
BACKLOG = 128


class _Connection(TCPServer):
    """One that stays HTTP/1.1, whatever its client would have it become, and is over with its client: hypercorn keeps it, and its
    descriptor, until its idle time is over."""

    async def _read_data(self) -> None:
        self.protocol.protocol._check_protocol = _stay  # type: ignore[method-assign, union-attr]
        await super()._read_data()
        await self.idle_task.stop()


async def _stay(_: object) -> None:
    """No HTTP/2: neither from the first byte (prior knowledge) nor by an upgrade (h2c)."""


hypercorn_run.TCPServer = _Connection  # type: ignore[attr-defined]


@dataclass(frozen=True, slots=True)
class Options:
    """What a server is to be."""

    host: str = "localhost"
    port: int = 8474
    config: str | None = None
    seed: int | None = None
    proxy_metrics: bool = False
    runtime_metrics: bool = False
    ui: bool = False
    token: str | None = None
    allow_host: Sequence[str] = ()
    beyond_loopback: bool = False
    upstream_down: UpstreamDown = "close"


def run(options: Options, write: Callable[[str], None]) -> None:
    """Serve until SIGINT or SIGTERM. `write` writes text, as `Lines` has it.

    Raises `Misuse`, and `Unable` where the port is taken.
    """
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    lines = Lines(write, '{{"level":"warn","message":"{} lines were not read in time"}}'.format)
    loop = Loop()
    loop.run_with(_main, loop, options, lines)
    lines.check()


async def _main(loop: Loop, options: Options, lines: Lines) -> None:
    journal = Journal(lines.add, os.environ.get("LOG_LEVEL"))
    with received() as signals:
        async with trio.open_nursery() as nursery:
            written = trio.Event()
            nursery.start_soon(_write, lines, written)
            try:
                await _serve(loop, options, journal, signals)
            finally:
                lines.end()
                with trio.move_on_after(PATIENCE, shield=True):
                    await written.wait()
                nursery.cancel_scope.cancel()


async def _write(lines: Lines, written: trio.Event) -> None:
    await lines.write()
    written.set()


async def _serve(loop: Loop, options: Options, journal: Journal, signals: Any) -> None:
    journal.add("info", "Starting Toxiproxy", version=CONTRACT)
    door = _door(options, journal)
    stop = trio.Event()
    loop.failed = functools.partial(_failed, journal)
    async with trio.open_nursery() as nursery:
        ends = Ends() if options.ui else None

        def tell(event: Event) -> None:
            journal.told(event)
            if ends:
                ends.told(event)

        far = not ipaddress.ip_address(door.getsockname()[0].partition("%")[0]).is_loopback
        if far and options.token is None:
            journal.add("warn", "Others can reach the API, and open ports by it: --token asks them for one")
        everywhere = far or options.beyond_loopback
        settings = Settings(options.seed, options.upstream_down, options.beyond_loopback, everywhere, tell)
        proxies = Proxies(loop, settings)
        if options.config is not None:
            await _populate(proxies, options.config, journal)
        metrics = Metrics(proxies, of_proxies=options.proxy_metrics, of_runtime=options.runtime_metrics)
        api = Api(proxies, metrics, journal, page=options.ui)
        app = Guard(
            router(api, page.routes(proxies, ends, stop) if ends else []),
            names=[*options.allow_host, *([] if _is_address(options.host) else [options.host])],
            token=options.token,
        )
        whole = Whole(app)
        config = _config(door, journal)

        async def serve(task_status: trio.TaskStatus[list[str]]) -> None:
            await serve_http(
                cast(Framework, whole), config, shutdown_trigger=stop.wait, mode="asgi", task_status=task_status
            )
            http.cancel_scope.cancel()  # nobody is left to hang up on

        async with trio.open_nursery() as http:
            await http.start(serve)
            url = "http://{}:{}".format(*door.getsockname()[:2])
            journal.add("info", "Starting Toxiproxy HTTP server", address=url.removeprefix("http://"), url=url)
            gc.freeze()  # what is there now stays: looking through it again and again would hold up the data for milliseconds
            why = signal.Signals(await anext(signals)).name
            journal.add("info", "Shutdown started")
            address = door.getsockname()
            stop.set()
            whole.end()
            http.start_soon(_hang_up, address)
        proxies.close(why)
        nursery.cancel_scope.cancel()


def _door(options: Options, journal: Journal) -> socket.socket:
    """The API's listening socket, at the first address of its name."""
    try:
        told = socket.getaddrinfo(options.host or "localhost", options.port, type=socket.SOCK_STREAM)
    except OSError as error:
        raise Misuse(f"proxy: --host {options.host} is no address here ({error.strerror}): take 127.0.0.1") from error
    family, _, _, _, where = min(told, key=lambda one: one[0] != socket.AF_INET)
    host = str(where[0])
    door = socket.socket(family, socket.SOCK_STREAM)
    door.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    # What is accepted inherits these two.
    door.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, WRITING)
    door.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    try:
        door.bind(where)
        door.listen(BACKLOG)
    except OSError as error:
        door.close()
        reason = f"listen tcp {host}:{options.port}: bind: {os.strerror(error.errno or 0).lower()}"
        journal.add("error", "Server finished with error", error=reason)
        raise Unable(f"proxy: the API cannot listen: {reason}: take another --port, or end what has it") from error
    return door


def _is_address(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True


def _config(door: socket.socket, journal: Journal) -> Config:
    config = Config()
    config.bind = [f"fd://{door.fileno()}"]
    config.keep_alive_timeout = IDLE
    config.keep_alive_max_requests = sys.maxsize
    config.graceful_timeout = GRACE
    config.include_server_header = False
    config.accesslog = None
    for name in (
        "faultkit.controlling",
        "trio.serve_listeners",
    ):  # which tells where there are no descriptors for a client
        log = logging.getLogger(name)
        log.propagate = False
        log.handlers = [Handler(journal)]
        log.setLevel(logging.DEBUG)
    config.errorlog = logging.getLogger("faultkit.controlling")
    return config


async def _hang_up(address: Any) -> None:
    """End the connections whose clients do not read what they asked for: who writes to them cannot be cancelled."""
    await trio.sleep(GRACE)
    for descriptor in os.listdir("/proc/self/fd"):
        with contextlib.suppress(OSError), socket.socket(fileno=os.dup(int(descriptor))) as sock:
            if sock.getsockname() == address and sock.getpeername():
                sock.shutdown(socket.SHUT_RDWR)


async def _populate(proxies: Proxies, path: str, journal: Journal) -> None:
    """What the file wants; where it cannot be had the server goes on without it."""
    try:
        async with await trio.open_file(path, "rb") as file:
            text = await file.read(LARGEST + 1)
    except OSError as error:
        reason = f"open {path}: {os.strerror(error.errno or 0).lower()}"
        journal.add("error", "Error reading config file", config=path, error=reason)
        return
    if len(text) > LARGEST:
        reason = f"it is larger than {LARGEST} bytes"
        journal.add("error", "Error reading config file", config=path, error=reason)
        return
    done: list[Kept] = []
    try:
        await proxies.populate(body.decoded(text), done)
    except Refusal as error:
        journal.add("error", "Failed to populate proxies from file", config=path, error=error.text)
    else:
        journal.add("info", "Populated proxies from file", config=path, proxies=len(done))


def _failed(journal: Journal, error: Exception) -> None:
    journal.add("error", f"nobody foresaw this: {type(error).__name__}: {error}")
