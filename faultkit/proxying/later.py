"""A stage that sets in later on a connection: after so many bytes, requests, a time, or when it is fired."""

from __future__ import annotations

from faultkit.proxying.stages import Attributes, Item, Mark, Sink, Stage


class _Onward:
    """What the stage inside gives on: to whatever comes after the one outside now."""

    def __init__(self, outside: Later) -> None:
        self._outside = outside

    def put(self, item: Item, /) -> None:
        self._outside.after.put(item)


class Later(Stage):
    """Passes everything on until it `begin`s; from then on it is what it holds."""

    def __init__(self, inside: Stage, after: Sink) -> None:
        super().__init__(inside.on, after, inside.attributes, inside.draw)
        self.inside = inside
        self.begun = False
        self._passed = 0
        inside.after = _Onward(self)

    @property
    def full(self) -> bool:
        return self.begun and self.inside.full

    def begin(self) -> None:
        """Set in."""
        if not self.begun:
            self.stop()
            self.begun = True
            self.inside.start()
            self.on.moved()

    def start(self) -> None:
        if wait := self.attributes.get("after_ms"):
            self._after(self.on.began + wait / 1000, self.begin)
        elif self.attributes.get("after_idle_ms"):
            self._look()
        self.on.wait(self)

    def counted(self, requests: int) -> None:
        """Set in with the request that it waits for."""
        if (wanted := self.attributes.get("after_requests")) and requests >= wanted:
            self.begin()

    def _look(self) -> None:
        """It is quiet for so long: no event tells of it."""
        left = self.attributes.get("after_idle_ms", 0) / 1000 - self.on.quiet_seconds
        if left <= 0:
            self.begin()
        else:
            self._after(self.on.loop.now() + left, self._look)

    def put(self, item: Item) -> None:
        limit = self.attributes.get("after_bytes")
        if self.begun or not limit or isinstance(item, Mark):
            (self.inside if self.begun else self.after).put(item)
            return
        left = int(limit) - self._passed
        self._passed += len(item)
        if len(item) < left:
            self.after.put(item)
            return
        self.after.put(item[:left])
        self.begin()
        if item[left:]:
            self.inside.put(item[left:])

    def update(self, attributes: Attributes) -> None:
        super().update(attributes)
        if self.begun:
            self.inside.update(attributes)
        else:
            self.inside.attributes = attributes
            self.start()

    def flush(self) -> None:
        self.stop()
        if self.begun:
            self.inside.flush()

    def stop(self) -> None:
        super().stop()
        self.inside.stop()
