"""Each stage by itself, in a time of its own: what leaves it when, to the microsecond."""

from __future__ import annotations

import heapq
import random
from collections.abc import Callable
from typing import Any

import pytest

from faultkit.proxying import kinds, stages
from faultkit.proxying.loop import Timer
from faultkit.proxying.stages import FIN, RST, Item, Stage, Waits


class Clock:
    """As much of a loop as stages use, where time passes by `run`."""

    def __init__(self) -> None:
        self.time = 1000.0
        self.heap: list[tuple[float, int, Timer]] = []

    def now(self) -> float:
        return self.time

    def at(self, due: float, call: Callable[[], None]) -> Timer:
        timer = Timer(call)
        heapq.heappush(self.heap, (due, len(self.heap), timer))
        return timer

    def run(self, until: float) -> None:
        while self.heap and self.heap[0][0] <= 1000 + until:
            due, _, timer = heapq.heappop(self.heap)
            if timer.call:
                self.time = max(self.time, due)
                timer.call()
        self.time = 1000 + until


class On:
    """A direction, and what came out of it: seconds since the beginning, and the piece."""

    began = 1000.0
    quiet_seconds = 0.0

    def __init__(self) -> None:
        self.loop: Any = Clock()
        self.came: list[tuple[float, object]] = []

    def put(self, item: Item) -> None:
        self.came.append((round(self.loop.now() - 1000, 6), item if not isinstance(item, bytes) else len(item)))

    def moved(self) -> None: ...
    def wait(self, later: Waits) -> None: ...

    def close(self, why: str) -> None:
        self.came.append((round(self.loop.now() - 1000, 6), f"close: {why}"))

    def reset(self, why: str) -> None:
        self.came.append((round(self.loop.now() - 1000, 6), f"reset: {why}"))


def on(kind: type[Stage], seed: int = 1, **attributes: int | float) -> tuple[On, Stage]:
    """That stage, begun."""
    where = On()
    stage = kind(where, where, attributes, lambda: random.Random(seed))
    stage.start()
    return where, stage


def test_latency_counts_from_when_a_piece_was_read() -> None:
    where, stage = on(kinds.Latency, latency=100, jitter=0)
    stage.put(b"a")
    where.loop.run(0.03)
    stage.put(b"bb")
    stage.put(FIN)
    where.loop.run(1)
    assert where.came == [(0.1, 1), (0.13, 2), (0.13, FIN)]


def test_jitter_is_uniform_and_keeps_the_order() -> None:
    def leaves(seed: int) -> list[float]:
        where, stage = on(kinds.Latency, seed, latency=100, jitter=50)
        for _ in range(2000):
            stage.put(b"x")
            where.loop.run(where.loop.now() - 1000 + 1)  # one after the other
        return [at - number for number, (at, _) in enumerate(where.came)]

    first = leaves(1)
    assert first == leaves(1) != leaves(2)
    assert 0.05 <= min(first) < 0.052 and 0.148 < max(first) <= 0.15
    assert 0.098 < sum(first) / len(first) < 0.102
    below = sum(at < 0.075 for at in first)
    assert 430 < below < 570  # a quarter

    where, stage = on(kinds.Latency, latency=100, jitter=100)
    for number in range(1, 50):
        stage.put(b"x" * number)
    where.loop.run(1)
    assert [size for _, size in where.came] == list(range(1, 50))


def test_negative_jitter_sums_are_now() -> None:
    where, stage = on(kinds.Latency, latency=20, jitter=40)
    for _ in range(400):
        stage.put(b"x")
        where.loop.run(where.loop.now() - 1000 + 1)
    now = sum(at == number for number, (at, _) in enumerate(where.came))
    assert 70 < now < 130  # a quarter


def test_bandwidth_leaves_in_slices_of_100_ms() -> None:
    where, stage = on(kinds.Bandwidth, rate=100, shared=0)
    stage.put(bytes(25_000))
    stage.put(FIN)
    where.loop.run(10)
    assert where.came == [(0.1, 10_000), (0.2, 10_000), (0.25, 5000), (0.25, FIN)]


def test_a_small_piece_takes_its_time_and_a_pause_is_no_credit() -> None:
    where, stage = on(kinds.Bandwidth, rate=100, shared=0)
    stage.put(bytes(50))
    where.loop.run(5)
    stage.put(bytes(50))
    where.loop.run(10)
    assert where.came == [(0.0005, 50), (5.0005, 50)]


def test_a_timer_that_is_late_is_caught_up() -> None:
    where, stage = on(kinds.Bandwidth, rate=1000, shared=0)
    stage.put(bytes(500_000))
    where.loop.time += 0.3  # nobody looked
    where.loop.run(0.3)
    assert sum(size for _, size in where.came if isinstance(size, int)) == 4 * 65536


def test_two_on_one_line_share_it() -> None:
    where, one = on(kinds.Bandwidth, rate=100, shared=1)
    other = kinds.Bandwidth(where, where, {"rate": 100, "shared": 1}, random.Random)
    assert isinstance(one, kinds.Bandwidth)
    other.meter = one.meter
    one.put(bytes(20_000))
    other.put(bytes(20_000))
    where.loop.run(10)
    assert [at for at, _ in where.came] == [0.1, 0.2, 0.3, 0.4]


def test_a_new_rate_is_for_what_waits() -> None:
    where, stage = on(kinds.Bandwidth, rate=0, shared=0)
    stage.put(bytes(1000))
    where.loop.run(5)
    stage.update({"rate": 10, "shared": 0})
    where.loop.run(10)
    assert where.came == [(5.1, 1000)]


def test_slow_close() -> None:
    where, stage = on(kinds.SlowClose, delay=250)
    stage.put(b"x")
    stage.put(RST)
    where.loop.run(1)
    assert where.came == [(0, 1), (0.25, RST)]


@pytest.mark.parametrize("kind", [kinds.Timeout, kinds.ResetPeer])
def test_its_clock_is_not_set_back_by_a_chunk(kind: type[Stage]) -> None:
    where, stage = on(kind, timeout=500)
    for tenth in range(1, 10):
        stage.put(b"swallowed")
        where.loop.run(tenth / 10)
    assert where.came == [(0.5, "close: timeout" if kind is kinds.Timeout else "reset: reset_peer")]


def test_a_longer_timeout_counts_from_the_same_beginning() -> None:
    where, stage = on(kinds.Timeout, timeout=500)
    where.loop.run(0.4)
    stage.update({"timeout": 600})
    where.loop.run(2)
    assert where.came == [(0.6, "close: timeout")]


def test_no_timeout_never_comes() -> None:
    where, stage = on(kinds.Timeout, timeout=0)
    stage.put(b"x")
    where.loop.run(1e6)
    assert where.came == []
    stage.put(FIN)
    assert where.came == [(1e6, FIN)]


def test_slices_are_within_what_was_said_and_so_far_apart() -> None:
    where, stage = on(kinds.Slicer, average_size=100, size_variation=20, delay=1000)
    stage.put(bytes(10_000))
    stage.put(FIN)
    where.loop.run(10)
    sizes = [size for _, size in where.came[:-2] if isinstance(size, int)]
    assert all(80 <= size <= 120 for size in sizes)
    assert 98 < sum(sizes) / len(sizes) < 102
    assert [at for at, _ in where.came[:-1]] == [round(number / 1000, 6) for number in range(len(sizes) + 1)]
    assert where.came[-1][1] is FIN


def test_slices_of_no_size_are_what_was_read() -> None:
    where, stage = on(kinds.Slicer, average_size=0, size_variation=0, delay=0)
    stage.put(bytes(100))
    assert where.came == [(0, 100)]


def test_what_a_stage_holds_is_flushed_in_order() -> None:
    for kind, attributes in (
        (kinds.Latency, {"latency": 9000, "jitter": 10}),
        (kinds.Bandwidth, {"rate": 1, "shared": 0}),
        (kinds.Slicer, {"average_size": 10, "size_variation": 0, "delay": 10**6}),
    ):
        where, stage = on(kind, **attributes)
        stage.put(bytes(70_000))
        stage.put(FIN)
        stage.flush()
        assert sum(size for _, size in where.came if isinstance(size, int)) == 70_000
        assert where.came[-1] == (0, FIN)
        where.loop.run(1e5)
        assert where.came[-1] == (0, FIN)


def test_a_full_stage_is_not_read_for() -> None:
    _, latency = on(kinds.Latency, latency=1000, jitter=0)
    _, bandwidth = on(kinds.Bandwidth, rate=1, shared=0)
    assert not latency.full and not bandwidth.full
    bandwidth.put(bytes(2 * stages.CHUNK))
    latency.put(bytes(kinds.FLIGHT))
    assert latency.full and bandwidth.full


def test_a_burst_of_losses() -> None:
    where, stage = on(kinds.PacketLoss, loss_rate=0.1, correlation=0.8)
    for _ in range(5000):
        stage.put(b"x")
    lost = 5000 - len(where.came)
    # In the good state 0.1, after a loss 0.9: half the time in each.
    assert 2200 < lost < 2800


def test_a_slicer_of_bytes_leaves_everybody_their_turn() -> None:
    where, stage = on(kinds.Slicer, average_size=1, size_variation=0, delay=0)
    stage.put(b"x" * 1000)
    stage.put(FIN)
    assert len(where.came) == kinds.TURN
    where.loop.run(0)
    assert where.came == [(0.0, 1)] * 1000 + [(0.0, FIN)]


def test_a_slicer_of_nothing_slices_nothing_whatever_its_variation() -> None:
    where, stage = on(kinds.Slicer, average_size=0, size_variation=10, delay=0)
    stage.put(b"x" * 1000)
    assert where.came == [(0.0, 1000)]


def test_latency_of_many_pieces_leaves_everybody_their_turn() -> None:
    where, stage = on(kinds.Latency, latency=100, jitter=0)
    for _ in range(1000):
        stage.put(b"x")
    assert len(where.loop.heap) == 1
    where.loop.run(0.1)
    assert len(where.came) == 1000
    assert len(where.loop.heap) == 0
    calls = 0
    for _ in range(1000):
        stage.put(b"x")
    while where.loop.heap:
        before = len(where.came)
        where.loop.time = max(where.loop.time, where.loop.heap[0][0])
        timer = heapq.heappop(where.loop.heap)[2]
        timer.call()
        calls += 1
        assert len(where.came) - before <= kinds.TURN
    assert calls >= 1000 // kinds.TURN


def test_latency_holds_no_more_pieces_than_it_can_give_on_in_time() -> None:
    _, stage = on(kinds.Latency, latency=100, jitter=0)
    for _ in range(kinds.PIECES):
        assert not stage.full
        stage.put(b"x")
    assert stage.full


def test_what_a_removed_latency_held_goes_on_in_one_piece() -> None:
    where, stage = on(kinds.Latency, latency=100, jitter=0)
    for piece in (b"a", stages.Slice(b"bb"), stages.Urgent(b"u"), b"ccc", FIN):
        stage.put(piece)
    stage.flush()
    assert where.came == [(0.0, 3), (0.0, 1), (0.0, 3), (0.0, FIN)]
