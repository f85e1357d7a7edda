"""Whom each program's lines name: the server or upstream, and the client, and nobody else."""

from __future__ import annotations

from pathlib import Path

import pytest

from faultkit.messages import peers

# One line each: the server, the client, and what the program writes.
LINES = [
    row.replace("⏎", "\n").split("\t")
    for row in Path(__file__).with_name("peers.tsv").read_text("utf-8").splitlines()
    if not row.startswith("#")
]


@pytest.mark.parametrize(("server", "client", "line"), LINES)
def test_whom_a_line_names(server: str, client: str, line: str) -> None:
    named = peers.named(line)
    assert (named.server, named.client) == (server, client)
