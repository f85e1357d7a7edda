"""What counts as withheld between two moments: from the wait before the last one until the loop waits again."""

from __future__ import annotations

from array import array

import pytest
import trio

from faultkit.witness.processor import Processor, withheld

SECOND = 10**9


def read(**readings: int) -> Processor:
    """One whose loop began to wait at these seconds, with so many seconds withheld."""
    processor = Processor()
    processor._at = array("q", [int(at.removeprefix("at")) * SECOND for at in readings])
    processor._read = array("q", [n * SECOND for n in readings.values()])
    return processor


@pytest.mark.parametrize(
    ("began", "ended", "seconds"),
    [
        (3, 5, 5 - 1),  # noted at 3.5: what happened after the wait that began at 2
        (4, 5, 5 - 2),
        (1, 3, 3 - 0),
        (0, 2, 2 - 0),  # nothing was read before
        (3, 4, 4 - 1),
        (2, 2, 2 - 0),
    ],
)
def test_between_two_moments(began: int, ended: int, seconds: float) -> None:
    processor = read(at1=0, at2=1, at3=2, at4=3, at5=4, at6=5)
    half = SECOND // 2
    assert processor.withheld(began * SECOND + half, ended * SECOND + half) == seconds


def test_until_now_where_the_loop_has_not_waited_since() -> None:
    processor = read(at1=0, at2=0)
    assert 0 < withheld() <= processor.withheld(2 * SECOND, 10**19 // 2) <= withheld()


def test_it_is_read_in_each_round_of_a_loop() -> None:
    async def main() -> int:
        trio.lowlevel.add_instrument(processor)
        for _ in range(10):
            await trio.lowlevel.checkpoint()
        return len(processor._at)

    processor = Processor()
    assert trio.run(main) >= 10
    assert sorted(processor._read) == list(processor._read)
