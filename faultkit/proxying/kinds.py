"""The toxics as stages, one class each: what each holds, and when that is due."""

from __future__ import annotations

import itertools
import random
from collections import deque
from collections.abc import Callable

from faultkit.proxying.stages import CHUNK, CLOSE, Attributes, Direction, Item, Mark, Sink, Slice, Stage

FLIGHT = 8 << 20  # bytes that latency holds at most; arbitrary: more than the widest window of Linux (tcp_rmem)
CONNECTED = 10  # ms until a client is reset at the soonest that has said nothing: a connect() would tell it; arbitrary
PIECES = 65536  # that latency holds at most; arbitrary
TURN = 128  # pieces that a stage gives on before all else has its turn; arbitrary: less than a millisecond
SLICE = 0.1  # seconds' worth of bytes that bandwidth sends at once


class Latency(Stage):
    """Each piece leaves `latency` + uniform [-`jitter`, `jitter`] ms after it was read; order is kept. What ends the direction
    comes with the last byte."""

    def __init__(self, on: Direction, after: Sink, attributes: Attributes, draw: Callable[[], random.Random]):
        super().__init__(on, after, attributes, draw)
        self._queue: deque[tuple[float, float, Item]] = deque()  # when it was read, when it is due
        self._held = 0
        self._last = 0.0

    @property
    def full(self) -> bool:
        return self._held >= FLIGHT or len(self._queue) >= PIECES

    def put(self, item: Item) -> None:
        now = self.on.loop.now()
        due = self._due(now, item)
        if due <= now and not self._queue:
            self.after.put(item)
            return
        self._queue.append((now, due, item))
        if not isinstance(item, Mark):
            self._held += len(item)
        if self._timer is None:
            self._after(self._queue[0][1], self._leave)

    def _due(self, read: float, item: Item) -> float:
        if isinstance(item, Mark):
            return self._last
        delay, jitter = self.attributes["latency"], self.attributes["jitter"]
        if jitter:
            delay += self.chance.uniform(-jitter, jitter)
        self._last = max(self._last, read + delay / 1000)
        return self._last

    def _leave(self) -> None:
        self._timer = None
        queue, now, left = self._queue, self.on.loop.now(), TURN
        while queue and queue[0][1] <= now and left:
            left -= 1
            item = queue.popleft()[2]
            if not isinstance(item, Mark):
                self._held -= len(item)
            self.after.put(item)
        if queue and self._timer is None:
            self._after(queue[0][1], self._leave)
        self.on.moved()

    def update(self, attributes: Attributes) -> None:
        super().update(attributes)
        self._last = 0.0
        self._queue = deque((read, self._due(read, item), item) for read, _, item in self._queue)
        if self._queue:
            self._after(self._queue[0][1], self._leave)

    def flush(self) -> None:
        self.stop()
        self._held = 0
        items, self._queue = [item for _, _, item in self._queue], deque()
        for plain, some in itertools.groupby(items, lambda item: type(item) in (bytes, Slice)):
            if plain:  # in one piece, because whoever takes the stage away waits for it
                self.after.put(b"".join(some))  # type: ignore[arg-type]
            else:
                for item in some:
                    self.after.put(item)


class Meter:
    """When a line is free again."""

    __slots__ = ("free",)

    def __init__(self) -> None:
        self.free = 0.0


class Bandwidth(Stage):
    """`rate` KB/s (1 KB = 1000 bytes): a piece leaves when its last byte would have, in pieces of 100 ms at most. 0: nothing."""

    def __init__(self, on: Direction, after: Sink, attributes: Attributes, draw: Callable[[], random.Random]):
        super().__init__(on, after, attributes, draw)
        self.meter = Meter()  # another, where the line is shared
        self._held = bytearray()
        self._mark: Mark | None = None
        self._under_way = 0  # bytes

    @property
    def full(self) -> bool:
        return len(self._held) >= 2 * CHUNK

    def put(self, item: Item) -> None:
        if isinstance(item, Mark):
            self._mark = item
        else:
            self._held += item
        if self._timer is None:
            self._next(self.on.loop.now())

    def _next(self, now: float) -> None:
        while self._timer is None:
            if not self._held:
                if self._mark:
                    mark, self._mark = self._mark, None
                    self.after.put(mark)
                return
            rate = self.attributes["rate"] * 1000
            if not rate:
                return
            self._under_way = size = min(len(self._held), CHUNK, max(1, int(rate * SLICE)))
            self.meter.free = due = max(now, self.meter.free) + size / rate
            if due > now:
                self._after(due, self._leave)
            else:
                self._give(size)

    def _leave(self) -> None:
        self._timer = None
        due = self.meter.free
        self._give(self._under_way)
        # The line was free then, whenever it is now; another connection may have taken it meanwhile.
        self._next(due if self.meter.free == due and not self.attributes["shared"] else self.on.loop.now())
        self.on.moved()

    def _give(self, size: int) -> None:
        piece = bytes(self._held[:size])
        del self._held[:size]
        self.after.put(piece)

    def update(self, attributes: Attributes) -> None:
        super().update(attributes)
        self.stop()
        if not attributes["shared"]:
            self.meter = Meter()
        self._next(self.on.loop.now())

    def flush(self) -> None:
        self.stop()
        if self._held:
            self._give(len(self._held))
        if self._mark:
            self.after.put(self._mark)


class SlowClose(Stage):
    """What ends the direction is held for `delay` ms."""

    _mark: Mark | None = None

    def put(self, item: Item) -> None:
        if isinstance(item, Mark):
            self._mark = item
            self._after(self.on.loop.now() + self.attributes["delay"] / 1000, self.flush)
        else:
            self.after.put(item)

    def update(self, attributes: Attributes) -> None:
        super().update(attributes)
        if self._mark:
            self._after(self.on.loop.now() + attributes["delay"] / 1000, self.flush)

    def flush(self) -> None:
        self.stop()
        mark, self._mark = self._mark, None
        if mark:
            self.after.put(mark)


class Swallow(Stage):
    """Data go nowhere; after `timeout` ms, counted from when it is there, it acts. What ends the direction passes."""

    def start(self) -> None:
        self._began = self.on.loop.now()
        self._arm()

    def _arm(self) -> None:
        raise NotImplementedError

    def put(self, item: Item) -> None:
        if isinstance(item, Mark):
            self.after.put(item)

    def update(self, attributes: Attributes) -> None:
        super().update(attributes)
        self.stop()
        self._arm()


class Timeout(Swallow):
    """Then both ends get FIN; 0: never. Taken away it closes the connection."""

    def _arm(self) -> None:
        if wait := self.attributes["timeout"]:
            self._after(self._began + wait / 1000, lambda: self.on.close("timeout"))

    def flush(self) -> None:
        self.stop()
        self.on.close("timeout removed")


class ResetPeer(Swallow):
    """Then both ends get RST. 0: at the first byte of its direction, or when a client's connect() has returned for sure."""

    def _arm(self) -> None:
        self._after(self._began + max(CONNECTED, self.attributes["timeout"]) / 1000, self._reset)

    def put(self, item: Item) -> None:
        super().put(item)
        if not self.attributes["timeout"] and not isinstance(item, Mark):
            self._reset()

    def _reset(self) -> None:
        self.on.reset("reset_peer")


class Slicer(Stage):
    """Pieces of uniform [`average_size` - `size_variation`, + `size_variation`] bytes, with `delay` us after each. The kernel
    keeps them apart. `average_size` 0: as they come."""

    def __init__(self, on: Direction, after: Sink, attributes: Attributes, draw: Callable[[], random.Random]):
        super().__init__(on, after, attributes, draw)
        self._held = bytearray()
        self._mark: Mark | None = None
        self._due = 0.0

    @property
    def full(self) -> bool:
        return len(self._held) >= CHUNK

    def put(self, item: Item) -> None:
        if isinstance(item, Mark):
            self._mark = item
        else:
            self._held += item
        if self._timer is None:
            self._next()

    def _next(self) -> None:
        self._timer = None
        now = self.on.loop.now()
        delay = self.attributes["delay"] / 1e6
        at, left = 0, TURN
        while at < len(self._held):
            if self._due > now or not left:
                self._after(max(now, self._due), self._leave)
                break
            left -= 1
            size = self._size() or len(self._held) - at
            piece = Slice(self._held[at : at + size])
            at += len(piece)
            self._due = max(now, self._due) + delay if delay else 0.0
            self.after.put(piece)
        del self._held[:at]
        if not self._held and self._mark:
            mark, self._mark = self._mark, None
            self.after.put(mark)

    def _size(self) -> int:
        average, variation = int(self.attributes["average_size"]), int(self.attributes["size_variation"])
        if not average:
            return 0
        return max(1, self.chance.randint(average - variation, average + variation)) if variation else average

    def _leave(self) -> None:
        self._next()
        self.on.moved()

    def update(self, attributes: Attributes) -> None:
        super().update(attributes)
        self.stop()
        self._due = 0.0
        self._next()

    def flush(self) -> None:
        self.stop()
        if self._held:
            held, self._held = bytes(self._held), bytearray()
            self.after.put(held)
        if self._mark:
            self.after.put(self._mark)


class LimitData(Stage):
    """So many `bytes` of the direction pass, then the connection is closed. 0: at the first one."""

    _passed = 0
    _over = False

    def put(self, item: Item) -> None:
        if self._over:
            return
        if isinstance(item, Mark):
            self.after.put(item)
            return
        left = max(0, int(self.attributes["bytes"]) - self._passed)
        self._passed += len(item)
        if left:
            self.after.put(item[:left])
        if self._passed >= self.attributes["bytes"]:
            self._over = True
            self.after.put(CLOSE)


class PacketLoss(Stage):
    """What is read at once is lost as a whole with probability `loss_rate`, raised by `correlation` where the one before it
    was. The stream has a gap then, which TCP would not let through."""

    _lost = False

    def put(self, item: Item) -> None:
        if not isinstance(item, Mark):
            probability = self.attributes["loss_rate"] + (self.attributes["correlation"] if self._lost else 0)
            self._lost = self.chance.random() < probability
            if self._lost:
                return
        self.after.put(item)
