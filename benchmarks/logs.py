"""How fast `faultkit which --log` reads, beside grep: `python benchmarks/logs.py [GIGABYTES]`, on an idle machine.

Makes two logs of that size (1 by default) in a temporary directory: one whose lines hold nothing, one of which each fiftieth line
is a failure. Prints lines per second of processor time, and the greatest memory, of whole processes.
"""

from __future__ import annotations

import os
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

WORDS = "reset by peer|refused|timed out|prematurely closed|broken pipe|unexpected EOF|hang up|closed connection|ECONN"
FAILURES = (
    "{at} [error] 31#31: *{n} recv() failed (104: Connection reset by peer) while reading response header from upstream, client: "
    '10.1.2.{host}, server: _, request: "GET /a/{n} HTTP/1.1", upstream: "http://10.0.0.{host}:8080/a/{n}"\n',
    "{at} [error] 31#31: *{n} upstream timed out (110: Connection timed out) while reading response header from upstream, "
    'client: 10.1.2.{host}, upstream: "http://10.0.0.{host}:8080/a/{n}"\n',
    'time="{at}" level=error msg="Get \\"http://10.0.0.{host}:80/\\": dial tcp 10.0.0.{host}:80: connect: connection refused"\n',
    '{at},123 ERROR app: order {n}\nTraceback (most recent call last):\n  File "client.py", line {host}, in read\n'
    "ConnectionResetError: [Errno 104] Connection reset by peer\n",
    "haproxy[9]: 192.0.2.{host}:39001 [06/May/2026:07:08:09.001] fe~ be/s{host} 0/0/1/-1/12 502 183 - - SH-- 6/6/3/7/0 0/0\n",
)
FINE = (
    '192.0.2.{host} - - [06/May/2026:07:08:09 +0000] "GET /a/{n}?id={n} HTTP/1.1" 200 4711 "-" "Mozilla/5.0 (X11; Linux)"\n',
    "{at}.123Z INFO  [worker-{host}] c.e.shop.OrderService - order {n} accepted for customer {host}, total=17.00 EUR, items=3\n",
    '{{"level":"info","ts":1778051289.5,"msg":"handled","status":200,"duration":0.00{host},"id":"{n}"}}\n',
)


def lines(failing: int) -> Iterator[str]:
    """Lines without end; each so-manieth is a failure, none where that is 0."""
    dice = random.Random(7)
    n = 0
    while True:
        n += 1
        at = f"2026/05/06 {7 + n // 360_000 % 16:02}:{n // 6000 % 60:02}:{n // 100 % 60:02}"
        form = dice.choice(FAILURES if failing and n % failing == 0 else FINE)
        yield form.format(at=at, n=n, host=dice.randrange(250))


def write(path: Path, size: int, failing: int) -> int:
    """A log of about that many bytes. Gives the number of lines."""
    part = "".join(line for _, line in zip(range(200_000), lines(failing), strict=False)).encode()
    count = 0
    with path.open("wb") as stream:
        while stream.tell() < size:
            stream.write(part)
            count += part.count(b"\n")
    return count


def measured(command: list[str]) -> tuple[float, float, int]:
    """Seconds by the clock and of processor, and kB of memory, of one process."""
    with tempfile.TemporaryFile() as output:  # grep ends at the first match where its output goes to /dev/null
        begun = time.monotonic()
        process = subprocess.Popen(command, stdout=output, stderr=subprocess.DEVNULL)
        _, _, usage = os.wait4(process.pid, 0)
        process.returncode = 0
        return time.monotonic() - begun, usage.ru_utime + usage.ru_stime, usage.ru_maxrss


def main() -> None:
    size = int(float(sys.argv[1]) * 1e9) if len(sys.argv) > 1 else 10**9
    with tempfile.TemporaryDirectory() as directory:
        for name, failing in (("nothing in it", 0), ("each 50th line fails", 50)):
            path = Path(directory, "a.log")
            count = write(path, size, failing)
            print(f"{name}: {count} lines, {path.stat().st_size / 1e9:.2f} GB")
            commands = {
                "which --log": [sys.executable, "-m", "faultkit", "which", "--log", str(path)],
                "grep -cE": ["grep", "-cE", WORDS, str(path)],
                "grep -ciE": ["grep", "-ciE", WORDS, str(path)],
            }
            for tool, command in commands.items():
                clock, processor, memory = measured(command)
                rate = count / processor
                print(
                    f"  {tool:<12} {clock:7.1f} s, {processor:7.1f} s of processor: {rate:>12,.0f} lines/s; {memory // 1024} MB"
                )


if __name__ == "__main__":
    main()
