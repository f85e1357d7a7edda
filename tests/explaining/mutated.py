"""Captures and texts with bytes changed by chance: `explain` never crashes, hangs or fills the memory.

`python -m tests.explaining.mutated TIMES [FOLDER]` plays the catalogue, takes the files of the folder too, mutates one of them so
often, and prints what was not explained in time and without an error, and how to have that file again.
"""

from __future__ import annotations

import random
import resource
import signal
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from types import FrameType

from faultkit import errors
from faultkit.explaining.explain import explain
from tests.explaining import rewriting
from tests.explaining.played import play, variants

LONGEST = 10.0  # times what the clean file takes
ALLOWED = 0.1  # seconds besides: what a busy machine may take from anybody
MEMORY = 1 << 30  # bytes of address space besides what was there at the start
HANGS = 20  # seconds


def _flipped(data: bytearray, chance: random.Random) -> None:
    for _ in range(chance.choice((1, 1, 3, 20))):
        data[chance.randrange(len(data))] ^= 1 << chance.randrange(8)


def _extreme(data: bytearray, chance: random.Random) -> None:
    place, size = chance.randrange(len(data)), chance.choice((1, 2, 4))
    data[place : place + size] = chance.choice((b"\0", b"\xff", b"\x7f", b"\x80")) * size


def _removed(data: bytearray, chance: random.Random) -> None:
    place = chance.randrange(len(data))
    del data[place : place + chance.choice((1, 4, 16, 100))]


def _repeated(data: bytearray, chance: random.Random) -> None:
    place = chance.randrange(len(data))
    data[place:place] = data[place : place + chance.choice((1, 16, 100, 1000))] * chance.choice((1, 2, 20))


def _inserted(data: bytearray, chance: random.Random) -> None:
    place = chance.randrange(len(data))
    data[place:place] = chance.randbytes(chance.choice((1, 4, 50)))


def _ended(data: bytearray, chance: random.Random) -> None:
    del data[chance.randrange(1, len(data) + 1) :]


MUTATIONS: tuple[Callable[[bytearray, random.Random], None], ...] = (
    *(_flipped, _extreme, _removed, _repeated, _inserted, _ended),
)


def mutated(data: bytes, chance: random.Random) -> bytes:
    """Some changes, one after the other."""
    changed = bytearray(data)
    for _ in range(chance.choice((1, 1, 2, 5))):
        if changed:
            chance.choice(MUTATIONS)(changed, chance)
    return bytes(changed)


def _seconds(data: bytes) -> tuple[float, str]:
    """How long it took, and what went wrong. That it is no capture, in a sentence, is right."""
    began = time.process_time()
    try:
        explain(data)
    except errors.Misuse as error:
        wrong = "" if "\n" not in str(error) else f"a sentence of several lines: {error}"
    except Exception as error:
        wrong = repr(error)
    else:
        wrong = ""
    return time.process_time() - began, wrong


def _hangs(_signal: int, _frame: FrameType | None) -> None:
    raise TimeoutError(f"not done after {HANGS} s")


def main(argv: Sequence[str]) -> int:
    times = int(argv[1]) if len(argv) > 1 else 10_000
    captures = [played.capture for played in play(variants())]
    frames = [rewriting.frames(capture) for capture in captures]
    files = {f"capture {number}": capture for number, capture in enumerate(captures)}
    for form in rewriting.FORMS:
        files |= {f"{form} {number}": text for number, text in enumerate(rewriting.texts(form, frames))}
    for change, make in rewriting.SAME.items():
        files |= {f"{change} {number}": make(frames[number])[0] for number in range(0, len(frames), 10)}
    for path in sorted(Path(argv[2]).iterdir()) if len(argv) > 2 else ():
        files |= {path.name: path.read_bytes()} if path.is_file() and path.stat().st_size < 1 << 20 else {}
    size = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (size + MEMORY, size + MEMORY))
    signal.signal(signal.SIGALRM, _hangs)
    clean = {name: _seconds(data)[0] / len(data) for name, data in files.items()}
    names, found, worst = sorted(files), 0, 0.0
    for number in range(times):
        chance = random.Random(number)
        name = chance.choice(names)
        data = mutated(files[name], chance)
        signal.alarm(HANGS)
        took, wrong = _seconds(data)
        signal.alarm(0)
        limit = LONGEST * clean[name] * max(len(data), len(files[name])) + ALLOWED
        worst = max(worst, took / limit)
        if wrong or took > limit:
            found += 1
            kept = Path(f"mutated-{number}")
            kept.write_bytes(data)
            print(f"{kept} ({name}): {wrong or f'{took:.3f} s, and {limit:.3f} s are allowed'}", flush=True)
    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss >> 10
    print(
        f"{times} of {len(files)} files mutated: {found} not as they must be; the longest took {worst:.2f} of its time; {most} MB"
    )
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv))
