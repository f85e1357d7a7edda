"""The reset reasons and their producers: drawn from the promises, and seen live where tracefs may be read."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from typing import Any

from faultkit import causes
from faultkit.evidence.reasons import REASONS, listed
from faultkit.playing.producers import producers
from tests.ordinary import CHECKOUT, command


def reasons(*words: str, ordinary: bool = False) -> tuple[int, dict[str, Any], str]:
    argv = command(sys.executable, "-m", "faultkit", "reasons", "--json", *words, ordinary=ordinary)
    ended = subprocess.run(argv, capture_output=True, text=True, check=False, cwd=CHECKOUT)
    return ended.returncode, json.loads(ended.stdout) if ended.stdout else {}, ended.stderr


def test_the_kernel_s_list_is_read_from_its_format() -> None:
    text = 'state=%s", REC->state ? __print_symbolic(REC->state, { 1, "TCP_X" }) : "UNKNOWN", '
    text += '__print_symbolic(REC->reason, { 0, "NOT_SPECIFIED" }, { 1, "NO_SOCKET" }, { 2, "MAX" })'
    assert listed(text) == {"NOT_SPECIFIED": 0, "NO_SOCKET": 1}


def test_every_promised_reason_is_one_of_the_kernel_s() -> None:
    found = producers()
    assert set(found) <= set(REASONS)
    assert not [reason for reason in found if REASONS[reason].unreached]
    for producer in (producer for several in found.values() for producer in several):
        assert producer.typed.split()[0] in causes.names()


def test_an_ordinary_user_gets_the_shipped_list_and_no_proof() -> None:
    ordinary = os.geteuid() == 0
    status, told, _ = reasons(ordinary=ordinary)
    assert status == 0
    assert told["source"].startswith("the list of Linux 6.18, shipped with faultkit (tracefs is readable by root alone")
    status, told, said = reasons("--check", ordinary=ordinary)
    assert (status, told) == (3, {})
    assert said.startswith("faultkit: reasons: nothing can be proven here: tracefs is readable by root alone")


def test_each_promised_reason_is_seen_live() -> None:
    status, told, said = reasons("--check")
    if os.geteuid() != 0:
        assert status == 3  # tracefs is real root's alone
        return
    assert status == 0, said
    assert told["source"].startswith("the running kernel's own list")
    shipped = reasons(ordinary=True)[1]
    assert [(row["number"], row["reason"]) for row in told["reasons"]] == [
        (row["number"], row["reason"]) for row in shipped["reasons"]
    ]
    assert [row["seen"] for row in told["reasons"] if row["producers"]] == [True] * len(producers())
