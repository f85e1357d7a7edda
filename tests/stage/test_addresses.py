"""ip(8) runs inside our own namespace only."""

from __future__ import annotations

import os

import pytest

from faultkit.errors import Unable
from faultkit.stage.addresses import ip
from faultkit.stage.namespace import Namespace


async def test_refused_outside_our_namespace() -> None:
    inode = os.stat("/proc/self/ns/net").st_ino
    for wrong in (Namespace(inode, inode, False), Namespace(inode + 1, inode, False)):
        with pytest.raises(
            Unable, match=r"^`ip mptcp endpoint flush` was not run: this process is not inside a namespace"
        ):
            await ip(wrong, "mptcp endpoint flush")
