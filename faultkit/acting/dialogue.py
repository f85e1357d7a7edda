"""What two ends say to each other where a cause is about something else: a word and its answer, an echo."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from faultkit.evidence.transcript import Call
    from faultkit.witness.calls import Socket


async def ask(end: Socket, word: bytes) -> Call:
    """Say that, and take what comes. Gives what `recv` was told."""
    await end.send(word)
    return await end.recv(65536)


async def echo(end: Socket) -> None:
    """Give back whatever is said until EOF, then close."""
    while (told := await end.recv(65536)).data:
        await end.send(told.data)
    end.close()
