"""A directory that ends with us, even by kill -9."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

from faultkit.errors import Unable
from faultkit.stage.namespace import CLONE_NEWNS, Namespace, mount, unmount, unshare

# POSIX shared memory: there on every Linux, and with an empty tmpfs of our own over it no program misses anything.
_PLACE = Path("/dev/shm")


@contextlib.contextmanager
def scratch(own: Namespace) -> Iterator[Path]:
    """An empty file system in memory, which this process and what it starts alone can see. Raises `OSError`.

    `Unable` outside our namespace.
    """
    if not own.holds():
        raise Unable("nothing is mounted: this process is not inside a namespace that faultkit made")
    # Root's stage has a mount namespace already; a user's has none.
    unshare(CLONE_NEWNS)
    mount(b"tmpfs", os.fsencode(_PLACE))
    try:
        yield _PLACE
    finally:
        unmount(os.fsencode(_PLACE))
