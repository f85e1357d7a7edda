"""A process of its own as one end of a play: what it tells arrives, whatever its end, and its end is sure."""

from __future__ import annotations

import os
import pickle
import select
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest
import trio

from faultkit.acting.child import _MAIN, ChildFailed, Inside, child
from faultkit.acting.play import Play
from faultkit.cause import Options
from faultkit.errors import Misuse, Unable
from faultkit.evidence.transcript import Transcript
from faultkit.stage import Stage
from tests.ordinary import CHECKOUT


async def listens(play: Inside, backlog: int, ready: str = "up") -> None:
    play.listen(backlog=backlog)
    play.notes.step("server", "listens")
    play.tell(ready)
    await trio.sleep_forever()


async def fills_the_channel(play: Inside) -> None:
    for number in range(2000):
        play.notes.step("server", f"{number} " + "x" * 1000)
    play.tell("full")
    await trio.sleep_forever()


async def waits(play: Inside) -> None:
    play.tell("up")
    await play.cues["go"].wait()
    play.tell("went")


async def raises(play: Inside) -> None:
    raise ValueError("seven is not eight")


async def refuses(play: Inside) -> None:
    raise Unable("test: this machine has no such thing: get one")


async def tells_and_waits(play: Inside) -> None:
    play.tell("up")
    await trio.sleep_forever()


def _play() -> Play:
    return Play("test", Options(), Stage(None, socket.AF_INET), Transcript(time.time_ns()))


def _descriptors() -> int:
    return len(os.listdir("/proc/self/fd"))


def _is_gone(pid: int) -> bool:
    return not Path(f"/proc/{pid}").exists()


def test_what_a_killed_child_told_is_in_the_transcript_and_its_port_is_free() -> None:
    async def main() -> int:
        async with child(play, listens, backlog=7) as running:
            address = await play.cues.serving()
            await play.cues["up"].wait()
            await running.kill()
            with socket.socket() as probe:
                assert probe.connect_ex(address) != 0
        assert play.transcript.roles[address] == "server"
        return running.pid

    play = _play()
    before = _descriptors()
    pid = trio.run(main)
    assert [(call.role, call.name, call.argument) for call in play.transcript.calls if call.name == "listen"] == [
        ("server", "listen", "7")
    ]
    assert all(play.transcript.began_ns < call.began_ns <= call.ended_ns for call in play.transcript.calls)
    assert [step.text for step in play.transcript.steps] == ["listens", f"{pid} is killed with SIGKILL"]
    assert _is_gone(pid)
    assert _descriptors() == before


def test_a_second_child_goes_on_counting_the_sockets_of_its_role() -> None:
    async def main() -> None:
        for ready in ("first", "second"):
            async with child(play, listens, backlog=1, ready=ready) as running:
                await play.cues[ready].wait()
                await running.kill()
                running.tell("anything")  # to nobody

    play = _play()
    trio.run(main)
    assert sorted({call.socket for call in play.transcript.calls}) == [1, 2]


def test_nothing_is_lost_where_the_child_tells_more_than_the_channel_holds() -> None:
    async def main() -> None:
        async with child(play, fills_the_channel) as running:
            await play.cues["full"].wait()
            running.tell("unread")  # so that its end resets the channel
            await running.kill()

    play = _play()
    trio.run(main)
    assert [int(step.text.split()[0]) for step in play.transcript.steps][:-1] == list(range(2000))


def test_a_child_is_told_and_its_end_is_waited_for() -> None:
    async def main() -> None:
        async with child(play, waits) as running:
            await play.cues["up"].wait()
            running.tell("go")
        assert play.cues["went"].is_set()
        assert _is_gone(running.pid)

    play = _play()
    trio.run(main)


def test_an_error_in_the_child_comes_with_its_traceback() -> None:
    async def main() -> None:
        async with child(_play(), raises):
            await trio.sleep_forever()

    with pytest.RaisesGroup(pytest.RaisesExc(ChildFailed, match="(?s)process .*ValueError: seven is not eight")):
        trio.run(main)


def test_a_refusal_in_the_child_is_one_here() -> None:
    async def main() -> None:
        async with child(_play(), refuses):
            await trio.sleep_forever()

    with pytest.RaisesGroup(pytest.RaisesExc(Unable, match="^test: this machine has no such thing: get one$")):
        trio.run(main)


def test_a_cancelled_play_leaves_no_child() -> None:
    async def main() -> int:
        with trio.CancelScope() as scope:
            async with child(play, listens, backlog=1) as running:
                await play.cues["up"].wait()
                scope.cancel()
        return running.pid

    play = _play()
    assert _is_gone(trio.run(main))


def test_a_killed_play_leaves_no_child() -> None:
    program = (
        "import trio; from tests.acting.test_child import _play, child, waits\n"
        "async def main():\n"
        "    async with child(_play(), waits) as running:\n"
        "        print(running.pid, flush=True)\n"
        "        await trio.sleep_forever()\n"
        "trio.run(main)\n"
    )
    root = Path(__file__).parents[2]
    with subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, cwd=root) as parent:
        assert parent.stdout is not None
        pid = int(parent.stdout.readline())
        ended = os.pidfd_open(pid)
        parent.send_signal(signal.SIGKILL)
    try:
        assert select.select([ended], [], [], 5)[0], "the child is still there"
    finally:
        os.close(ended)


def test_a_function_that_cannot_be_found_by_name_is_refused() -> None:
    async def inner(play: Inside) -> None: ...

    async def main() -> None:
        async with child(_play(), inner):
            pass

    with pytest.raises(
        Misuse, match=r"inner runs in a process of its own and is found there by name: make it a global of "
    ):
        trio.run(main)


@pytest.mark.parametrize("function", ["", "tells_and_waits", "fills_the_channel"])
def test_an_orphan_says_nothing(function: str) -> None:
    """Where the play is gone before the first word, with ours unread, and while we tell: the signal that ends us is later."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with theirs:
        orphan = subprocess.Popen(
            [sys.executable, "-c", _MAIN, str(theirs.fileno())],
            pass_fds=[theirs.fileno()],
            stderr=subprocess.PIPE,
            cwd=CHECKOUT,
        )
    with ours:
        if function:
            stage = Stage(None, socket.AF_INET)
            ours.send(pickle.dumps(((__name__, function), ("test", Options(), stage, time.time_ns()), {}, {})))
            select.select([ours], [], [], 20)
    _, complaint = orphan.communicate(timeout=20)
    assert (orphan.returncode, complaint) == (0, b"")
