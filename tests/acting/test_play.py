"""What a play notes of what the kernel did, for the promise to follow."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from dataclasses import replace
from typing import Any

import pytest

from faultkit import NotProduced, causes, check_cause
from faultkit.acting.play import Play, rehearsal
from faultkit.errors import Unable
from faultkit.witness.processor import withheld
from tests.ordinary import as_nobody
from tests.stage.child import in_child

CLOSING: dict[str, dict[str, Any]] = {
    "late-write": {"order": "all"},
    "keepalive-race": {"fin": "unprocessed", "timeout_seconds": 0.01},
    "crash": {"request": "read"},
}


async def keep_every_socket(play: Play) -> None:
    """As one in some 10,000 is kept by chance: above TCP_TIMEWAIT_LEN, 60 s, the kernel makes no bucket at first."""
    play.scenery.sysctl("ipv4.tcp_fin_timeout", 100)


def produced(name: str, times: int, *, ipv6: bool = False, **parts: Any) -> int:
    """How often the cause is produced as promised where every closed socket is kept in FIN-WAIT-2."""
    cause = replace(causes.load(name), prepare=keep_every_socket, **parts)
    return check_cause(cause, times, ipv6=ipv6, on="namespace", **CLOSING[name]).produced


@pytest.mark.parametrize("name", CLOSING)
@pytest.mark.parametrize("ipv6", [False, True], ids=["IPv4", "IPv6"])
def test_data_for_a_socket_that_was_kept(name: str, ipv6: bool) -> None:
    assert produced(name, 3, ipv6=ipv6) == 3


@pytest.mark.parametrize("name", CLOSING)
def test_that_is_not_what_is_promised_of_a_bucket(name: str) -> None:
    promise = causes.load(name).promise
    with pytest.raises(NotProduced) as found:
        produced(name, 1, promise=lambda options, play: promise(options, rehearsal(play.name, options)))
    clients = 3 if name == "late-write" else 1
    assert f"run 1, kernel, TcpExtTCPAbortOnData: expected 0; seen {clients}" in str(found.value)


def test_a_processor_that_somebody_else_has_is_withheld() -> None:
    def look() -> list[bool]:
        os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
        before = withheld()
        other = subprocess.Popen([sys.executable, "-c", "while True: pass"])
        deadline = time.monotonic() + 20
        while withheld() < before + 0.05 and time.monotonic() < deadline:
            pass
        shared = withheld() - before
        other.kill()
        other.wait()
        return [0.05 <= shared < 20]

    assert in_child(look) == [True]


@pytest.mark.parametrize("name", CLOSING)
def test_an_ordinary_user_is_promised_the_same(name: str) -> None:
    told = as_nobody(sys.executable, "-c", f"from tests.acting.test_play import produced; print(produced({name!r}, 2))")
    assert (told.stdout, told.stderr) == ("2\n", "")


def test_a_cause_without_a_server_listens_on_its_option_port() -> None:
    async def tell(play: Play) -> None:
        raise Unable(f"it listens on {(await play.cues.serving()).port}")

    with pytest.raises(Unable, match="it listens on 7655"):
        check_cause(replace(causes.load("idle-firewall"), script=tell), 1, on="namespace", port=7655)
