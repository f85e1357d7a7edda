"""Another process's socket, borrowed for as long as it takes to set an option."""

from __future__ import annotations

import os
import socket
import subprocess
import sys

import pytest

from faultkit.evidence.transcript import Address
from faultkit.stage.borrowed import borrowed

# Connects, and ends with its standard input.
CONNECTS = """
import socket, sys
connection = socket.create_connection(("127.0.0.1", int(sys.argv[1])))
sys.stdin.read()
"""


def test_an_option_of_anothers_socket_is_set_and_nothing_is_kept_of_it() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        here = Address(*listener.getsockname())
        argv = [sys.executable, "-c", CONNECTS, str(here.port)]
        with subprocess.Popen(argv, stdin=subprocess.PIPE) as other:
            connection, peer = listener.accept()
            with connection:
                before = sorted(os.listdir("/proc/self/fd"))
                for ttl in (64, 7):
                    with borrowed((os.getpid(), other.pid), Address(*peer), here) as own:
                        assert own.getsockopt(socket.IPPROTO_IP, socket.IP_TTL) == ttl
                        own.setsockopt(socket.IPPROTO_IP, socket.IP_TTL, 7)
                assert sorted(os.listdir("/proc/self/fd")) == before
                other.communicate()
                assert connection.recv(1) == b""  # closed by its only owner
                before = sorted(os.listdir("/proc/self/fd"))
                with pytest.raises(LookupError, match=f"no socket from {peer[0]}:{peer[1]} to {here}"):
                    borrowed((os.getpid(),), Address(*peer), here).__enter__()
                assert sorted(os.listdir("/proc/self/fd")) == before
