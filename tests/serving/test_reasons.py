"""The kernel's own reason for the reset of each served fault: that of the cause of the same name."""

from __future__ import annotations

import contextlib
import functools
import os
import re

import pytest

import faultkit
from faultkit.stage import namespace, tracing
from tests.serving.client import client
from tests.serving.test_faults import TABLE
from tests.stage.child import in_child
from tests.stage.test_tracing import needs_root, usable

# Once the client's kernel has acknowledged a FIN, about 40 ms after it, the socket is a bucket, and the reason another.
AFTER_FIN = {"TCP_ABORT_ON_DATA", "TCP_TIMEWAIT_SOCKET"}

REASONS: dict[str, set[str]] = {
    "linger": {"TCP_STATE"},
    "disconnect": {"TCP_STATE"},
    "unread": {"TCP_ABORT_ON_CLOSE"},
    "crash:unread": {"TCP_ABORT_ON_CLOSE"},
    "early-response": {"TCP_ABORT_ON_CLOSE"},
    "keepalive-race:unsent": {"TCP_ABORT_ON_CLOSE"},
    "keepalive-race:in-flight": {"TCP_ABORT_ON_DATA"},
    "keepalive-race:unprocessed": AFTER_FIN,
    "late-write": AFTER_FIN,
    "listener-closed": {"TCP_STATE"},
    "closed-port": {"NO_SOCKET"},
}


def _reasons(name: str) -> list[str]:
    with contextlib.closing(tracing.start(namespace.enter())) as instance:
        instance.open()
        if name == "closed-port":
            with faultkit.serve(name) as server, contextlib.suppress(ConnectionRefusedError), client(server):
                pass
        else:
            with faultkit.serve(name) as server, client(server) as plain:
                if name == "listener-closed":
                    plain.send(b"x")
                    plain.recv()
                else:
                    TABLE[name][0](plain)
        told = b""
        with contextlib.suppress(BlockingIOError):
            while part := os.read(instance.events, 65536):
                told += part
    events = [line for line in told.decode().splitlines() if "tcp_send_reset" in line and f":{server.port} " in line]
    return [found[1] for line in events if (found := re.search(r"reason=(\S+)", line))]


@needs_root
@pytest.mark.parametrize("name", REASONS)
def test_the_kernel_gives_the_reason_of_the_cause_of_that_name(name: str) -> None:
    if not usable():
        return
    [reason] = in_child(functools.partial(_reasons, name))
    assert reason in REASONS[name]
