"""The cues of a play: events by which one half tells the other where it is. Nothing here waits for time to pass."""

from __future__ import annotations

import trio

from faultkit.evidence.transcript import Address


class Cues:
    """`cues["heard"].set()` in one half, `await cues["heard"].wait()` in the other: a cue is there as soon as it is named."""

    def __init__(self) -> None:
        self._events: dict[str, trio.Event] = {}
        self._server: Address | None = None

    def __getitem__(self, name: str) -> trio.Event:
        return self._events.setdefault(name, trio.Event())

    def announce(self, address: Address) -> None:
        """The server is there: end the wait of `serving`."""
        self._server = address
        self["serving"].set()

    async def serving(self) -> Address:
        """Wait until the server has its port. Gives its address."""
        await self["serving"].wait()
        assert self._server is not None
        return self._server
