"""Every fault for an ordinary user, also where namespaces are denied: none of them needs more, but half-open."""

from __future__ import annotations

import sys

import pytest

from tests.ordinary import as_nobody
from tests.serving.test_faults import TABLE

SCRIPT = """
import os
import faultkit
from tests.serving.client import client
from tests.serving.test_faults import TABLE
assert os.geteuid()
for name, (play, told, ended) in TABLE.items():
    for ipv6 in (False, True):
        with faultkit.serve(name, ipv6=ipv6) as server, client(server) as plain:
            play(plain)
            assert plain.told == told, (name, plain.told)
            if ended:
                assert server.wait_for_connection().wait_for_end().ended == ended, name
    print(name)
"""


@pytest.mark.parametrize("denied", [False, True], ids=["", "no namespaces"])
def test_every_fault_works(denied: bool) -> None:
    ended = as_nobody(sys.executable, "-c", SCRIPT, denied=denied)
    assert ended.returncode == 0, ended.stderr
    assert ended.stdout.split() == list(TABLE)
