"""A proxy in the foreground: until a signal, or so many connections."""

from __future__ import annotations

import contextlib
import gc
import resource
import signal
from collections.abc import Callable, Sequence
from typing import Any

import trio

from faultkit.errors import Misuse
from faultkit.evidence.transcript import Frame
from faultkit.playing.signals import received
from faultkit.proxying import entry
from faultkit.proxying.capturing import Capturing
from faultkit.proxying.entry import Proxying
from faultkit.proxying.loop import Loop
from faultkit.proxying.pair import Pair
from faultkit.proxying.proxy import Event, Proxy
from faultkit.proxying.toxics import Toxic
from faultkit.serving.foreground import PATIENCE, Lines

EVENTS = 100_000  # kept for the record; arbitrary
GARBAGE = 5000  # objects made until cycles are looked for, which each connection leaves; arbitrary


class Kept:
    """What a run leaves: its events, its connections, its packets."""

    def __init__(self) -> None:
        self.events: list[Event] = []
        self.connections: list[dict[str, object]] = []
        self.packets: list[Frame] = []
        self.lost = 0  # packets that the kernel had no room for
        self.came = False
        self.unread = 0  # lines that nobody read
        self.about: dict[str, object] = {}
        self.check: Callable[[], None] = lambda: (
            None
        )  # raises what went wrong with standard output, or with the proxy itself

    def note(self, event: Event) -> None:
        """One more."""
        if len(self.events) < EVENTS:
            self.events.append(event)

    def document(self) -> dict[str, object]:
        """The run for machines."""
        return {**self.about, "events": [event._asdict() for event in self.events], "connections": self.connections}


async def _run(
    loop: Loop,
    proxying: Proxying,
    setup: Callable[[Proxy], None],
    opening: Callable[[Proxy], Sequence[str]],
    lines: Lines,
    connections: int | None,
) -> Proxy:
    end, why = trio.open_memory_channel[str](2)
    with received() as signals:

        async def end_at_signal() -> None:
            await end.send(signal.Signals(await anext(signals)).name)

        async def end_after(proxy: Proxy, ended: int) -> None:
            await proxy.await_ended(ended)
            await end.send(f"{ended} connections have ended")

        async def write(task_status: trio.TaskStatus[trio.Event]) -> None:
            written = trio.Event()
            task_status.started(written)
            await lines.write()
            written.set()

        async with trio.open_nursery() as nursery:
            proxy = proxying.open(loop, setup)
            written = await nursery.start(write)
            for line in opening(proxy):
                lines.add(line)
            gc.freeze()  # what is there now stays, and need not be looked through again and again
            gc.set_threshold(GARBAGE)
            nursery.start_soon(end_at_signal)
            if connections:
                nursery.start_soon(end_after, proxy, connections)
            proxy.close(await why.receive())
            lines.end()
            with trio.move_on_after(PATIENCE):
                await written.wait()
            nursery.cancel_scope.cancel()
    return proxy


def run(
    upstream: str,
    fault: str | None,
    *,
    toxics: Sequence[Toxic] = (),
    opening: Callable[[Proxy], Sequence[str]],
    line: Callable[[Pair], str],
    write: Callable[[str], None],
    dropped: Callable[[int], str],
    connections: int | None,
    capture: bool = False,
    record: bool = False,
    **options: Any,
) -> Kept:
    """Proxy until Ctrl-C or SIGTERM, or until so many connections have ended, and write a line for each.

    `options` as `entry.proxy` takes them.
    """
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))  # two for each connection
    proxying = entry.proxy(upstream, fault, must_be_met=False, keep=False, **options)
    if connections and proxying.keeps_out:
        raise Misuse(f"proxy: {fault} lets no connection in, so --connections {connections} never comes: leave it out")
    kept, lines = Kept(), Lines(write, dropped)

    def over(pair: Pair) -> None:
        lines.add(line(pair))
        if record:
            kept.connections.append(pair.document())

    with Capturing() if capture else contextlib.nullcontext() as capturing:

        def setup(proxy: Proxy) -> None:
            if capturing:  # who knows the port already may come as soon as it listens
                capturing.watch({proxy.port, proxy.upstream_port} - {0})
            proxy.each = over
            if record:
                proxy.tell = kept.note
            for toxic in toxics:
                proxy.add(toxic)

        def opened(proxy: Proxy) -> Sequence[str]:
            if capturing:
                capturing.watch({proxy.port, proxy.upstream_port})
            kept.about = {"listen": proxy.listen, "upstream": proxy.upstream, "seed": proxy.seed}
            return opening(proxy)

        loop = Loop()
        proxy = loop.run_with(_run, loop, proxying, setup, opened, lines, connections)
        kept.came = proxy.came
    if capturing:
        kept.packets, kept.lost = capturing.frames, capturing.lost
    kept.unread = lines.unwritten

    def check() -> None:
        lines.check()
        proxy.check_crash()

    kept.check = check
    return kept
