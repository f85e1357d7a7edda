"""Real programs in a play: nginx, Node, whatever a stack is made of, started on the stage and ended with the play.

Nothing of them is recorded but what they print and what they send; the witnesses of wire and kernel see them as any other.
"""

from __future__ import annotations

import contextlib
import glob
import importlib.metadata
import importlib.util
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

import trio

from faultkit.acting.notes import Notes
from faultkit.errors import Unable, exhausted, starting
from faultkit.evidence.transcript import Address, Line, Transcript
from faultkit.stage import Stage
from faultkit.stage.borrowed import borrowed
from faultkit.stage.firewall import find
from faultkit.stage.namespace import ALLOW
from faultkit.stage.processes import Processes
from faultkit.witness.kernel import LOOK_AGAIN, listening
from faultkit.witness.tap import Tap


@dataclass(frozen=True, slots=True)
class Part:
    """A program that a stack is made of: its command, the Debian package that has it, and what makes it say its version."""

    command: str
    package: str
    asked: tuple[str, ...] = ("--version",)
    places: str = ""  # directories, as a pattern, in which the package has it outside everybody's PATH

    installer: ClassVar[str] = "apt-get install"

    def path(self) -> str | None:
        """Where it is, if it is installed."""
        elsewhere = sorted(glob.glob(self.places), reverse=True)  # the newest version first
        found = (shutil.which(self.command, path=directory) for directory in elsewhere)
        return find(self.command) or next(filter(None, found), None)

    def line(self, arguments: Sequence[str]) -> list[str]:
        """The command line that runs it."""
        path = self.path()
        assert path is not None, "need() comes first"
        return [path, *arguments]

    def version(self) -> str:
        """Its version by its own account; "" where it gives none."""
        path = self.path()
        if path is None:
            return ""
        with starting():
            ended = subprocess.run([path, *self.asked], capture_output=True, text=True, timeout=10, check=False)
        found = re.search(r"\d+(\.\d+)+", ended.stdout + ended.stderr)
        return found[0] if found else ""


@dataclass(frozen=True, slots=True)
class Library(Part):
    """A Python library that programs of a stack import: they run in the Python that this is. `command` is what they import."""

    installer: ClassVar[str] = "pip install"

    def path(self) -> str | None:
        found = importlib.util.find_spec(self.command)
        return found.origin if found else None  # a directory alone has no origin: nothing that could be imported

    def line(self, arguments: Sequence[str]) -> list[str]:
        return [sys.executable, *arguments]

    def version(self) -> str:
        return importlib.metadata.version(self.package.partition("[")[0]) if self.path() else ""


def need(name: str, parts: tuple[Part, ...]) -> None:
    """Raise `Unable` with the packages to install where one of them is missing."""
    missing = [part for part in parts if part.path() is None]
    if missing:
        commands = " and ".join(part.command for part in missing)
        packages: dict[str, list[str]] = {}
        for part in missing:
            packages.setdefault(part.installer, []).append(part.package)
        ways = "; ".join(f"{way} {' '.join(dict.fromkeys(names))}" for way, names in packages.items())
        raise Unable(f"{name}: {commands} {'is' if len(missing) == 1 else 'are'} not installed: {ways}")


class Programs:
    """The programs of one play: the namespace that they run in, and the directory with their files."""

    def __init__(self, name: str, stage: Stage, notes: Notes, beside: Callable[[], trio.Nursery]) -> None:
        """For the play of that name; `beside` gives its nursery once it goes on."""
        if stage.namespace is None:
            way = ALLOW if stage.refused else "leave --on host out"
            raise Unable(f"{name}: real programs are started in a private namespace only: {way}")
        self._processes = Processes(stage.namespace)
        self.directory = self._processes.directory
        self._name = name
        self._notes = notes
        self._beside = beside

    async def start(
        self, name: str, part: Part, *arguments: str, environment: Mapping[str, str] | None = None
    ) -> Program:
        """Start it in the directory. `name` is its role: whose log the lines are, whose packets, once it has an address."""
        line = part.line(arguments)
        # Where this process finds its modules, a program in Python does.
        modules = {"PYTHONPATH": os.pathsep.join(map(os.path.abspath, sys.path))} if isinstance(part, Library) else {}
        try:
            process = self._processes.start(
                line, directory=self.directory, environment={**modules, **(environment or {})}
            )
        except OSError as error:
            raise exhausted(error) or Unable(
                f"{self._name}: {line[0]} could not be started: {error.strerror}"
            ) from error
        program = Program(self._name, self._notes, name, process)
        self._beside().start_soon(program.hear)
        return program

    def callers(self, names: Mapping[Address, str]) -> None:
        """From now on call whoever connects to one of these addresses by the name that stands there.

        A program's own end has a port that only its SYN tells. Where two programs connect, each needs an address of its
        own to connect from, because the kernel may give both the same port towards different destinations.
        """
        self._beside().start_soon(_note_callers, self._notes.transcript, Tap(), names)

    def close(self) -> None:
        """End them all."""
        self._processes.close()


class Program:
    """One that runs."""

    def __init__(self, play: str, notes: Notes, name: str, process: subprocess.Popen[bytes]) -> None:
        assert process.stdout is not None
        self.name = name
        self.pid = process.pid
        self._play = play
        self._notes = notes
        self._process = process
        self._output = process.stdout.fileno()
        os.set_blocking(self._output, False)
        self._rest = b""
        self._news = trio.Event()
        self._over = False

    async def hear(self) -> None:
        """Write down what it prints, line by line, as it comes."""
        try:
            while not self._over:
                await trio.lowlevel.wait_readable(self._output)
                self._read()
        finally:
            self._read()  # what it printed before the end of the play

    def _read(self) -> None:
        while not self._over:
            try:
                part = os.read(self._output, 65536)
            except BlockingIOError:
                break
            self._over = not part
            *lines, self._rest = (self._rest + part).split(b"\n")
            now = time.time_ns()
            texts = (line.decode(errors="replace").rstrip("\r") for line in lines)
            self._notes.transcript.lines += [Line(now, self.name, text) for text in texts if text]
        self._news.set()
        self._news = trio.Event()

    @property
    def lines(self) -> list[Line]:
        """What it has printed so far."""
        return [line for line in self._notes.transcript.lines if line.program == self.name]

    async def said(self, text: str, *, since: int = 0) -> Line:
        """Wait for a line with that text in it, after the first `since` of its lines. Raises `Unable` where it ends instead."""
        while True:
            for line in self.lines[since:]:
                if text in line.text:
                    return line
            if self._over:
                raise self._ended(f"without having said {text!r}")
            await self._news.wait()

    async def listens(self, address: Address) -> None:
        """Wait until something listens there, and call that address this program's. Raises `Unable` where it ends instead."""
        # No program has an event for another's listen(); the namespace is ours, so nobody else takes the port.
        while not listening(address):
            if self._over:
                raise self._ended(f"without listening on {address}")
            await trio.sleep(LOOK_AGAIN)
        self._notes.transcript.roles[address] = self.name

    def _ended(self, how: str) -> Unable:
        said = f"its last words: {self.lines[-1].text}" if self.lines else "it said nothing"
        return Unable(f"{self._play}: {self.name} ended {how}; {said}")

    def signal(self, number: signal.Signals, pid: int | None = None) -> None:
        """Send it a signal, or one of the processes that it has started."""
        self._notes.step(self.name, f"process {pid or self.pid} is sent {number.name}")
        os.kill(pid or self.pid, number)

    def children(self, pid: int | None = None) -> list[int]:
        """The processes that it has started and that still run, by our numbers."""
        import psutil  # type: ignore[import-untyped]

        return [child.pid for child in psutil.Process(pid or self.pid).children()]

    def borrowed(self, local: Address, remote: Address) -> contextlib.AbstractContextManager[socket.socket]:
        """Its own socket of that connection, or its children's: see `faultkit.stage.borrowed`."""
        return borrowed((self.pid, *self.children()), local, remote)

    @contextlib.contextmanager
    def stopped(self) -> Iterator[None]:
        """Stop it, as if it were busy: its kernel goes on taking what arrives, and the program does not look."""
        self._notes.step(self.name, "is busy (SIGSTOP): it looks at nothing")
        os.kill(self.pid, signal.SIGSTOP)
        os.waitid(os.P_PID, self.pid, os.WSTOPPED | os.WEXITED | os.WNOWAIT)
        try:
            yield
        finally:
            self._notes.step(self.name, "looks again (SIGCONT)")
            os.kill(self.pid, signal.SIGCONT)

    async def ended(self) -> int:
        """Wait until it is gone. Gives its exit status, negative for a signal."""
        if self._process.returncode is None:
            descriptor = os.pidfd_open(self.pid)
            try:
                await trio.lowlevel.wait_readable(descriptor)
            finally:
                os.close(descriptor)
        return self._process.wait()


async def _note_callers(transcript: Transcript, tap: Tap, names: Mapping[Address, str]) -> None:
    looked = 0

    def note() -> None:
        nonlocal looked
        heard = tap.listen()
        for packet in heard[looked:]:
            if packet.flags == ("SYN",) and packet.destination in names:
                transcript.roles.setdefault(packet.source, names[packet.destination])
        looked = len(heard)

    with contextlib.closing(tap):
        try:
            while True:
                await tap.more()
                note()
        finally:
            note()
