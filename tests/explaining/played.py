"""The catalogue played live, each run's capture as a file has it, and what the kernel and the programs know of it.

`python -m tests.explaining.played FAMILY` reads variants from stdin, one JSON list [cause, variant, ipv6] a line, plays them on
one stage, and answers each with one line: the fields of its `Played`, pickled, in base64.
"""

from __future__ import annotations

import base64
import dataclasses
import errno
import json
import pickle
import queue
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path

from faultkit import causes
from faultkit.cause import Cause, checked, typed
from faultkit.evidence.attribution import attribute, captured, forwarded
from faultkit.evidence.transcript import Transcript
from faultkit.playing.run import Outcome, repeat
from faultkit.stage import open_stage
from faultkit.views import pcap
from faultkit.witness import watching
from tests.ordinary import CHECKOUT

# What a program is told where nothing is wrong: it has to wait, or is on its way.
_NO_FAILURE = {"EAGAIN", "EINPROGRESS", "EINTR"}
_TRIES = 5
_WORKERS = 5  # of each family: most variants wait for a clock of the kernel


@dataclasses.dataclass(frozen=True)
class Played:
    """One run: the bytes of its capture, and the truth beside it."""

    words: str  # as typed after `faultkit`
    ipv6: bool
    capture: bytes
    resets: tuple[str, ...]  # who sent each RST of the file, in order, by the kernel's account: a role, or "middlebox"
    roles: dict[str, str]  # address and port -> role
    died: bool  # was a program told an errno, or was a socket ended by a RST?

    @property
    def cause(self) -> str:
        return self.words.split()[0]

    def __str__(self) -> str:
        return f"{self.words} ({'IPv6' if self.ipv6 else 'IPv4'})"


def variants() -> list[tuple[str, int, bool]]:
    """Every variant of every cause, over IPv4 and IPv6; those that wait longest first, as far as a cause's clock tells."""
    return [
        (name, number, ipv6)
        for name in sorted(causes.names(), key=lambda name: name not in _SLOW)
        for number in range(len(causes.load(name).variants))
        for ipv6 in (False, True)
    ]


_SLOW = ("idle-firewall", "nat-expiry", "keepalive-timeout", "time-wait", "backlog-full", "connect-timeout")


def play(wanted: list[tuple[str, int, bool]]) -> list[Played]:
    """Play them, several at once, each worker in a namespace of its own. Raises `AssertionError` for what cannot be played."""
    waiting: dict[bool, queue.SimpleQueue[tuple[str, int, bool]]] = {
        False: queue.SimpleQueue(),
        True: queue.SimpleQueue(),
    }
    for variant in wanted:
        waiting[variant[2]].put(variant)
    done: list[Played] = []
    complaints: list[str] = []
    threads = [
        threading.Thread(target=_work, args=(ipv6, waiting[ipv6], done, complaints))
        for ipv6 in (False, True)
        for _ in range(min(_WORKERS, waiting[ipv6].qsize()))
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not complaints, complaints
    assert len(done) == len(wanted)
    return sorted(done, key=lambda played: (played.words, played.ipv6))


def _work(
    ipv6: bool, waiting: queue.SimpleQueue[tuple[str, int, bool]], done: list[Played], complaints: list[str]
) -> None:
    argv = (sys.executable, "-m", "tests.explaining.played", "IPv6" if ipv6 else "IPv4")
    with subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=CHECKOUT) as worker:
        assert worker.stdin
        assert worker.stdout
        while True:
            try:
                variant = waiting.get_nowait()
            except queue.Empty:
                break
            print(json.dumps(variant), file=worker.stdin, flush=True)
            told = worker.stdout.readline()
            if not told.startswith("played "):
                complaints.append(f"{variant}: {told.strip() or 'the worker ended without a word'}")
                break
            done.append(Played(**pickle.loads(base64.b64decode(told[7:]))))
        worker.stdin.close()


def _seen(cause: Cause, outcome: Outcome, ipv6: bool) -> Played:
    transcript = outcome.transcript
    assert transcript.packets is not None
    assert transcript.resets is not None, transcript.absent  # without the kernel's account there is no truth here
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "capture.pcap")
        pcap.write(path, transcript.packets)
        capture = path.read_bytes()
    outcomes = {call.outcome for call in transcript.calls} - _NO_FAILURE
    # A server's wait that the end of the play has cut short was for nothing that came: nobody was told of a failure.
    waited = any(
        call.outcome == "cancelled" and (call.role == "client" or transcript.overdue) for call in transcript.calls
    )
    told = waited or any(outcome in errno.errorcode.values() for outcome in outcomes)
    obeyed = any(event.direction == "received" for event in transcript.resets)  # a socket took a RST for its end
    aborted = any("RST" in packet.flags and packet.window for packet in transcript.packets)
    return Played(
        typed(cause, outcome.options),
        ipv6,
        capture,
        tuple(_senders(transcript)),
        {str(address): role for address, role in transcript.roles.items()},
        told or obeyed or aborted,
    )


def _senders(transcript: Transcript) -> Iterator[str]:
    """Who sent each RST of the capture, in order; what a router has passed on was sent by whoever sent it to the router."""
    found = list(zip(captured(transcript), attribute(transcript), strict=True))
    for packet in transcript.packets or ():
        if "RST" in packet.flags:
            original = next((one for one in found if packet is one[0]), None)
            yield (original or next(one for one in found if forwarded(packet, one[0])))[1].by


def main(ipv6: bool) -> None:
    stage = open_stage("namespace", ipv6=ipv6)
    with watching(stage) as seeing:  # once: the trace of a process is made before it has threads
        for line in sys.stdin:
            name, number, _ = json.loads(line)
            cause = causes.load(name)
            outcomes: list[Outcome] = []
            # Where the machine's other traffic lets the trace lose events, there is no truth in that run: once more.
            for _ in range(_TRIES):
                repeat(cause, checked(cause, dict(cause.variants[number])), stage, seeing, 1, outcomes.append)
                if "lost" not in outcomes[-1].transcript.absent.get("reasons", ""):
                    break
            told = dataclasses.asdict(_seen(cause, outcomes[-1], ipv6))
            print("played", base64.b64encode(pickle.dumps(told)).decode(), flush=True)


if __name__ == "__main__":
    main(sys.argv[1] == "IPv6")
