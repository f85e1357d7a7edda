"""What two ends say to each other where a cause is about something else: a word and its answer, an echo, a dead end's calls."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from faultkit.evidence.transcript import Call
    from faultkit.witness.calls import Socket


async def ask(end: Socket, word: bytes) -> Call:
    """Say that, and take what comes. Gives what `recv` was told."""
    await end.send(word)
    return await end.recv(65536)


async def answer(end: Socket, word: bytes) -> None:
    """Take what is asked, and say that."""
    await end.recv(65536)
    await end.send(word)


# What `find_out` is told where a RST has come.
FOUND_OUT = ("recv ECONNRESET", "recv EOF", "send EPIPE")


async def find_out(end: Socket) -> None:
    """Take what comes, twice, then write: a reset is reported once, then looks like a clean EOF, then the end is dead."""
    await end.recv(65536)
    await end.recv(65536)
    await end.send(b"x")


async def echo(end: Socket) -> None:
    """Give back whatever is said until EOF, then close."""
    while (told := await end.recv(65536)).data:
        await end.send(told.data)
    end.close()
