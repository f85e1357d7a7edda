"""How fast `faultkit explain` reads, beside tshark and tcpdump: `python benchmarks/explain.py [DIRECTORY]`, on an idle machine.

Makes a capture of 200,000 packets (resets, ping-pong, bulk), a million short connections and 1 GB, there or in a temporary
directory, and prints medians of whole processes, each round all of them in turn, with processor time and memory.
"""

from __future__ import annotations

import os
import resource
import shutil
import statistics
import struct
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from rich.console import Console
from rich.table import Table

ROUNDS = 5
CLIENT = b"\x7f\0\0\1"
FIN, SYN, RST, PSH, ACK = 1, 2, 4, 8, 16

Segment = tuple[bool, int, int, int, bytes]  # from the client?, flags, seq, ack, data


def connection(kind: str, seq: int, ack: int) -> Iterator[Segment]:
    """The segments of one connection."""
    yield True, SYN, seq, 0, b""
    yield False, SYN | ACK, ack, seq + 1, b""
    yield True, ACK, seq + 1, ack + 1, b""
    seq, ack = seq + 1, ack + 1
    if kind == "reset":
        yield True, PSH | ACK, seq, ack, b"x"
        yield False, RST | ACK, ack, seq + 1, b""
        return
    for number in range({"ping-pong": 60, "bulk": 200, "short": 1}[kind]):
        data = bytes(1400 if kind == "bulk" else 100)
        yield True, PSH | ACK, seq, ack, data
        seq += len(data)
        if kind == "ping-pong":
            yield False, PSH | ACK, ack, seq, data
            ack += len(data)
        elif number % 2:
            yield False, ACK, ack, seq, b""
    yield True, FIN | ACK, seq, ack, b""
    yield False, FIN | ACK, ack, seq + 1, b""
    yield True, ACK, seq + 1, ack + 1, b""


def write(path: Path, kinds: tuple[str, ...], *, packets: int = sys.maxsize, size: int = sys.maxsize) -> int:
    """A pcap file of about so many packets or bytes. Gives the number of packets."""
    count, number, at = 0, 0, 10**18
    with path.open("wb") as stream:
        stream.write(struct.pack("<IHHiIII", 0xA1B2C3D4, 2, 4, 0, 0, 262144, 1))
        while count < packets and stream.tell() < size:
            port, server = 1024 + number % 60000, bytes((127, 0, 1 + number // 60000 % 250, 1))
            for forth, flags, seq, ack, data in connection(kinds[number % len(kinds)], number * 7919, number * 104729):
                ports, ends = (port, 80), (CLIENT, server)
                if not forth:
                    ports, ends = (80, port), (server, CLIENT)
                head = struct.pack("!HHIIBBHHH", *ports, seq & 0xFFFFFFFF, ack & 0xFFFFFFFF, 0x50, flags, 64000, 0, 0)
                ip = struct.pack("!BBHHHBBH", 0x45, 0, 40 + len(data), count & 0xFFFF, 0x4000, 64, 6, 0) + b"".join(
                    ends
                )
                frame = bytes(12) + b"\x08\x00" + ip + head + data
                at += 20_000
                stream.write(struct.pack("<IIII", at // 10**9, at % 10**9 // 1000, len(frame), len(frame)) + frame)
                count += 1
            number += 1
    return count


def run(command: list[str]) -> tuple[float, float, int]:
    """Seconds, processor seconds and KiB at most of one process."""
    began = time.perf_counter()
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
    assert isinstance(usage, resource.struct_rusage)
    assert process.returncode == 0, command
    return time.perf_counter() - began, usage.ru_utime + usage.ru_stime, usage.ru_maxrss


def measured(commands: dict[str, list[str]], rounds: int = ROUNDS) -> dict[str, list[tuple[float, float, int]]]:
    """Every command in each round, in turn."""
    found: dict[str, list[tuple[float, float, int]]] = {name: [] for name in commands}
    for command in commands.values():
        run(command)
    for _ in range(rounds):
        for name, command in commands.items():
            found[name].append(run(command))
    return found


def main() -> None:
    faultkit = shutil.which("faultkit", path=str(Path(sys.executable).parent))
    assert faultkit, "install faultkit into this environment first: pip install ."
    console = Console()
    with tempfile.TemporaryDirectory(dir=sys.argv[1] if sys.argv[1:] else None) as directory:
        mixed = Path(directory, "mixed.pcap")
        count = write(mixed, ("reset", "ping-pong", "bulk"), packets=200_000)
        small = Path(directory, "small.pcap")
        write(small, ("reset",), packets=1)
        commands = {"faultkit explain": [faultkit, "explain", str(mixed)]}
        if shutil.which("tshark"):
            commands["tshark"] = ["tshark", "-r", str(mixed)]
            commands["tshark -Y tcp.flags.reset==1"] = ["tshark", "-r", str(mixed), "-Y", "tcp.flags.reset==1"]
        if shutil.which("tcpdump"):
            commands["tcpdump -nn"] = ["tcpdump", "-nn", "-r", str(mixed)]
        table = Table(title=f"{count:,} packets, {os.cpu_count()} cores, medians of {ROUNDS}")
        for column in ("command", "s", "packets/s", "cpu s", "µs of cpu per packet", "MiB"):
            table.add_column(column, justify="left" if column == "command" else "right")
        for name, runs in measured(commands).items():
            seconds, cpu, memory = (statistics.median(column) for column in zip(*runs, strict=True))
            table.add_row(
                *(name, f"{seconds:.2f}", f"{count / seconds:,.0f}", f"{cpu:.2f}"),
                *(f"{cpu / count * 1e6:.2f}", f"{memory / 1024:.0f}"),
            )
        console.print(table)
        pair = measured(
            {"explain": [faultkit, "explain", str(small)], "trio": [sys.executable, "-c", "import trio"]}, 15
        )
        ratio = statistics.median(a[0] / b[0] for a, b in zip(pair["explain"], pair["trio"], strict=True))
        console.print(f'explain of one connection, shell to exit: {ratio:.2f} × python -c "import trio"')
        large = Path(directory, "large.pcap")
        count = write(large, ("bulk",), size=1 << 30)
        seconds, _, memory = run([faultkit, "explain", str(large)])
        console.print(f"1 GB, {count:,} packets: {seconds:.1f} s, {memory / 1024:.0f} MiB")
        large.unlink()
        short = Path(directory, "short.pcap")
        count = write(short, ("short", "reset"), packets=6_000_000)
        seconds, _, memory = run([faultkit, "explain", str(short)])
        console.print(f"a million short connections, {count:,} packets: {seconds:.1f} s, {memory / 1024:.0f} MiB")


if __name__ == "__main__":
    main()
