"""The catalogue's captures with less in them, by chance: claims grow weaker, never wrong.

`python -m tests.explaining.degraded TIMES` plays the catalogue, degrades each capture so often, and prints what was said and is
not so, with what brings it back.
"""

from __future__ import annotations

import random
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace

from faultkit.explaining.explain import explain
from tests.explaining import rewriting, truth
from tests.explaining.played import Played, play, variants
from tests.explaining.rewriting import Frame

FIN, SYN, RST = 1, 2, 4


def _flags(packet: Frame) -> int:
    return packet.segment[13] if len(packet.segment) > 13 else 0


def _without(flag: int) -> Callable[[list[Frame], random.Random], list[Frame]]:
    return lambda packets, _: [packet for packet in packets if not _flags(packet) & flag]


def _lost(packets: list[Frame], chance: random.Random) -> list[Frame]:
    rate = chance.choice((0.05, 0.1, 0.2, 0.3, 0.5))
    return [packet for packet in packets if chance.random() > rate]


def _window(packets: list[Frame], chance: random.Random) -> list[Frame]:
    first = chance.randrange(len(packets))
    return packets[first : chance.randrange(first, len(packets)) + 1]


def _swapped(packets: list[Frame], chance: random.Random) -> list[Frame]:
    swapped = list(packets)
    for _ in range(chance.choice((1, 3)) if len(packets) > 1 else 0):
        place = chance.randrange(len(packets) - 1)
        swapped[place], swapped[place + 1] = swapped[place + 1], swapped[place]
    return swapped


def _jumping(packets: list[Frame], chance: random.Random) -> list[Frame]:
    most = chance.choice((1, 20, 50, 2000)) * 10**6
    return [replace(packet, time_ns=max(0, packet.time_ns + chance.randint(-most, most))) for packet in packets]


def _cut(packets: list[Frame], chance: random.Random) -> list[Frame]:
    size = chance.choice((54, 60, 68, 74, 96))
    return [replace(packet, data=packet.data[:size]) for packet in packets]


LESS: dict[str, Callable[[list[Frame], random.Random], list[Frame]]] = {
    "some packets lost": _lost,
    "a part of it": _window,
    "its beginning": lambda packets, chance: packets[: chance.randrange(len(packets)) + 1],
    "without RSTs": _without(RST),
    "without some RSTs": lambda packets, chance: [p for p in packets if not _flags(p) & RST or chance.random() < 0.5],
    "without FINs": _without(FIN),
    "without SYNs": _without(SYN),
    "without most data": lambda packets, chance: [p for p in packets if p.length < 94 or chance.random() < 0.3],
    "one side": lambda packets, chance: rewriting.one_side(packets, chance.randrange(2)),
    "cut short": _cut,
    "every packet twice": lambda packets, _: rewriting.doubled(packets),
    "neighbours swapped": _swapped,
    "a clock that jumps": _jumping,
}


def degraded(packets: list[Frame], chance: random.Random) -> tuple[str, list[Frame]]:
    """What was done, and what is left: one of `LESS`, now and then two."""
    done = []
    for _ in range(chance.choice((1, 1, 1, 2))):
        if packets:
            done.append(chance.choice(tuple(LESS)))
            packets = LESS[done[-1]](packets, chance)
    return ", ".join(done), packets


def wrong(played: Played, times: int) -> Iterator[str]:
    """What was said with certainty of one capture, so often degraded, and is not so."""
    packets, senders = rewriting.frames(played.capture), truth.senders(played)
    for number in range(times):
        done, left = degraded(packets, random.Random(f"{played} {number}"))
        found = explain(rewriting.pcap(left)) if left else []
        if not found:
            continue
        there = {place: senders[packet.number] for place, packet in enumerate(left, 1) if packet.number in senders}
        for said in truth.wrong_claims(played, found, there):
            yield f"{played}, {done} (packets {' '.join(str(packet.number) for packet in left)}): {said}"


def main(argv: Sequence[str]) -> int:
    times = int(argv[1]) if len(argv) > 1 else 100
    catalogue = play(variants())
    found = [said for played in catalogue for said in wrong(played, times)]
    print(*found, f"{len(catalogue)} captures, each degraded {times} times: {len(found)} wrong", sep="\n")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv))
