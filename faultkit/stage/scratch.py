"""A directory that ends with us, even by kill -9."""

from __future__ import annotations

import os
from pathlib import Path

from faultkit.errors import Unable
from faultkit.stage.namespace import CLONE_NEWNS, Namespace, mount, unmount, unshare

# POSIX shared memory: there on every Linux, and with an empty tmpfs of our own over it no program misses anything.
_PLACE = Path("/dev/shm")


def scratch(own: Namespace) -> Path:
    """An empty file system in memory, for this thread and whatever it starts from now on. Raises `OSError`.

    It is gone when the last of them is. `Unable` outside our namespace.
    """
    if not own.holds():
        raise Unable("nothing is mounted: this process is not inside a namespace that faultkit made")
    # Root's stage has a mount namespace already; a user's has none.
    unshare(CLONE_NEWNS)
    mount(b"tmpfs", os.fsencode(_PLACE))
    return _PLACE


def discard() -> None:
    """Have it gone before. Only when nothing runs any more that might write there: it would write to the machine's own."""
    unmount(os.fsencode(_PLACE))
