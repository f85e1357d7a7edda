"""One end of a play in a process of its own, that can be killed: its calls come into the same transcript as everybody's.

The process is executed anew, so it shares no memory, no event loop and no open file with the play but one channel (a
SOCK_SEQPACKET pair). It runs in the play's namespace, and ends when the play does, however that ends.
"""

from __future__ import annotations

import contextlib
import ctypes
import importlib
import os
import pickle
import select
import signal
import socket
import subprocess
import sys
import time
import traceback
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any, NoReturn

import trio

from faultkit.acting.cues import Cues
from faultkit.acting.play import Play
from faultkit.errors import Misuse, Unable, starting
from faultkit.evidence.transcript import Address, Transcript
from faultkit.stage import Stage

STARTING = (
    60.0  # seconds that a child may take until it begins: an emulated machine under load takes half of it; arbitrary
)
_MESSAGE = 1 << 18  # bytes; arbitrary: more than a call with all that its recv gave
_PR_SET_PDEATHSIG = 1  # linux/prctl.h
_MAIN = "import sys; from faultkit.acting.child import main; main(int(sys.argv[1]))"


class ChildFailed(Exception):
    """The function in the child raised: its traceback."""


class _Kept(list[Any]):
    """A list of a child's transcript. What is appended goes to the play's at once, so that it survives a SIGKILL."""

    def __init__(self, field: str, send: Callable[..., None]) -> None:
        self._field = field
        self._send = send

    def append(self, item: Any, /) -> None:
        self._send("transcript", self._field, item)


class _Roles(dict[Address, str]):
    """The addresses of a child, sent on in the same way."""

    def __init__(self, send: Callable[..., None]) -> None:
        self._send = send

    def __setitem__(self, address: Address, role: str, /) -> None:
        super().__setitem__(address, role)
        self._send("role", address, role)


class _Told(Cues):
    """The cues of a child; where its server is, the play is told."""

    def __init__(self, send: Callable[..., None]) -> None:
        super().__init__()
        self._send = send

    def announce(self, address: Address) -> None:
        super().announce(address)
        self._send("serving", address)


class Inside(Play):
    """The play as the function in the child has it: its sockets and its own cues. What is to be undone is not for a child."""

    def __init__(self, name: str, options: Any, stage: Stage, began_ns: int, channel: socket.socket) -> None:
        self._channel = channel
        transcript = Transcript(
            began_ns,
            calls=_Kept("calls", self._send),
            steps=_Kept("steps", self._send),
            measurements=_Kept("measurements", self._send),
            tallies=_Kept("tallies", self._send),
            roles=_Roles(self._send),
        )
        super().__init__(name, options, stage, transcript)
        self.cues = _Told(self._send)

    def _send(self, *message: Any) -> None:
        # Blocking: no call may go on before the one before it is told.
        text = pickle.dumps(message)
        while True:
            try:
                self._channel.send(text)
            except BlockingIOError:
                select.select([], [self._channel], [])
            except (BrokenPipeError, ConnectionResetError):
                _alone()
            else:
                return

    def tell(self, name: str) -> None:
        """Set the play's cue of that name."""
        self._send("cue", name)

    async def hear(self) -> None:
        """Set our own cues as the play tells them. The play's end is ours."""
        while True:
            await trio.lowlevel.wait_readable(self._channel)
            self.cues[pickle.loads(_heard(self._channel))].set()

    async def run(self, function: Callable[..., Awaitable[None]], arguments: dict[str, Any]) -> None:
        self._send("began")
        trio.lowlevel.add_instrument(self.notes.processor)
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self.hear)
                await function(self, **arguments)
                nursery.cancel_scope.cancel()
        except BaseExceptionGroup as group:
            refusals = group.subgroup((Misuse, Unable))
            self._send("failed", _first(refusals) if refusals else "".join(traceback.format_exception(group)))


def _alone() -> NoReturn:
    """The play is gone, and nobody waits for a word of ours."""
    os._exit(0)


def _heard(channel: socket.socket) -> bytes:
    """The play's next message."""
    with contextlib.suppress(ConnectionResetError):  # it went with words of ours unread
        if message := channel.recv(_MESSAGE):
            return message
    _alone()


def _first(group: BaseException) -> BaseException:
    while isinstance(group, BaseExceptionGroup):
        group = group.exceptions[0]
    return group


class Child:
    """A running child, as the play has it."""

    def __init__(self, play: Play, process: subprocess.Popen[bytes], channel: socket.socket) -> None:
        self._play = play
        self._process = process
        self._channel = channel
        self._ended = trio.Event()
        self._told: set[tuple[str, int]] = set()  # the sockets that it has told of
        self._latest_ns = 0  # when it was last known to be alive
        self._late = trio.current_time() + STARTING
        play.limit.deadline += STARTING

    @property
    def pid(self) -> int:
        return self._process.pid

    def tell(self, name: str) -> None:
        """Set the child's cue of that name. To a dead child nothing is told."""
        now = time.time_ns()
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            self._channel.send(pickle.dumps(name))
            self._latest_ns = now

    async def kill(self) -> None:
        """SIGKILL, and wait: its kernel has then closed everything it had (do_exit()), and all it told is in the transcript."""
        self._play.notes.step("process", f"{self.pid} is killed with SIGKILL")
        self._latest_ns = time.time_ns()
        self._process.kill()
        await self._ended.wait()

    async def hear(self) -> None:
        """Take in what the child tells, until it ends."""
        while True:
            await trio.lowlevel.wait_readable(self._channel)
            try:
                message = self._channel.recv(_MESSAGE)
            except ConnectionResetError:
                continue  # it died with a cue of ours unread, which is said once, before what it had told
            if not message:
                break
            self._take(*pickle.loads(message))
        await self._reap()

    def _take(self, kind: str, *told: Any) -> None:
        match kind, told:
            case "transcript", ("calls", call):
                self._told.add((call.role, call.socket))
                self._latest_ns = max(self._latest_ns, call.ended_ns)
                self._play.calls.admit(call)
            case "transcript", (field, item):
                getattr(self._play.transcript, field).append(item)
            case "began", ():
                self._play.limit.deadline -= max(0, self._late - trio.current_time())
            case "role", (address, role):
                self._play.transcript.roles[address] = role
            case "serving", (address,):
                self._play.cues.announce(address)
            case "cue", (name,):
                self._play.cues[name].set()
            case "failed", (BaseException() as refusal,):
                raise refusal
            case "failed", (text,):
                raise ChildFailed(f"process {self.pid}:\n{text}")

    async def _reap(self) -> None:
        # The channel may be the first thing that a dying process closes: the end is when all of it is gone.
        if self._process.returncode is None:
            ended = os.pidfd_open(self.pid)
            try:
                await trio.lowlevel.wait_readable(ended)
            finally:
                os.close(ended)
            self._process.wait()
        deaths, now = self._play.transcript.deaths, time.time_ns()
        deaths.update((key, (self._latest_ns, now)) for key in self._told - deaths.keys())
        self._ended.set()

    async def end(self) -> None:
        """Make sure that nothing of it is left."""
        self._process.kill()
        await self._reap()


def _execute(channel: socket.socket) -> subprocess.Popen[bytes]:
    # By the thread that plays, and not by one of trio's own as trio.run_process() does it: the child dies with it.
    with starting():
        return subprocess.Popen(
            [sys.executable, "-c", _MAIN, str(channel.fileno())],
            pass_fds=[channel.fileno()],
            stdin=subprocess.DEVNULL,
            # Where this process finds its modules, its child does.
            env={**os.environ, "PYTHONPATH": os.pathsep.join(map(os.path.abspath, sys.path))},
            start_new_session=True,  # a Ctrl-C is ours to handle
        )


@contextlib.asynccontextmanager
async def child(play: Play, function: Callable[..., Awaitable[None]], **arguments: Any) -> AsyncIterator[Child]:
    """Run `function(inside, **arguments)` in a process of its own. Leaving the block waits for its end.

    The function is found by name, so it must be a global of a module that can be imported; options and arguments are
    pickled.
    """
    module, name = function.__module__, function.__qualname__
    if getattr(sys.modules[module], name, None) is not function:
        raise Misuse(
            f"{play.name}: {name} runs in a process of its own and is found there by name: make it a global of {module}"
        )
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with ours:
        ours.setblocking(False)
        with theirs:
            process = _execute(theirs)
        running = Child(play, process, ours)
        try:
            ours.send(
                pickle.dumps(
                    (
                        (module, name),
                        (play.name, play.options, play.stage, play.transcript.began_ns),
                        play.calls.numbers,
                        arguments,
                    )
                )
            )
            async with trio.open_nursery() as nursery:
                nursery.start_soon(running.hear)
                yield running
        finally:
            with trio.CancelScope(shield=True):
                await running.end()


def main(descriptor: int) -> None:
    """What the child executes."""
    # Die with the play, even where it is killed before we can read the end of the channel.
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    with socket.socket(fileno=descriptor) as channel:
        (module, function), (name, options, stage, began_ns), numbers, arguments = pickle.loads(_heard(channel))
        channel.setblocking(False)
        inside = Inside(name, options, stage, began_ns, channel)
        inside.calls.numbers.update(numbers)
        trio.run(inside.run, getattr(importlib.import_module(module), function), arguments)
