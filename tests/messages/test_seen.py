"""The table is held against what real clients were seen to say to each fault: nothing here is known from the table."""

from __future__ import annotations

import re

import pytest

from faultkit.clients import known
from faultkit.clients.message import PLACES, another, general
from faultkit.messages import reading, table

# A fault that is played by a cause of the catalogue has that cause's name.
SAME = {"refuse": "closed-port", "connect-hang": "connect-timeout", "black-hole": "retransmit-timeout"}

# What a client said to a fault that is not in its line: it was told something else before, or by somebody else.
BEYOND = {
    # The connection after the one that failed: the listener is gone.
    ("Connection refused", "listener-closed"),
    ("Couldn't connect to server", "listener-closed"),
    ("Connect call failed", "listener-closed"),
    ("ConnectException", "listener-closed"),
    # The answer came: 413 is what it says, and nothing of the connection.
    ("HTTP response code: 413", "early-response"),
    ("ERR_HTTP_RESPONSE_CODE_FAILURE", "early-response"),
    # A fetch that is tried again, until its own limit ends it.
    ("aborted due to timeout", "accept-then-close"),
    ("aborted due to timeout", "accept-then-reset"),
    # A RST that undici tells as the close that it is for it.
    ("terminated", "linger"),
    # Its own limit, of which only the close that follows is told.
    ("connection closed locally", "stall"),
    # A RST that came before connect() returned, of which the client says that it could not connect.
    ("Couldn't connect to server", "accept-then-reset"),
    ("Connect call failed", "accept-then-reset"),
    # Chromium looks at the socket before it sends, and says that it is closed, whoever closed it.
    ("ERR_SOCKET_NOT_CONNECTED", "accept-then-reset"),
}


def plain(fault: str) -> str:
    """The cause, or the tester's fault, without variant and flags: "linger" of "linger --at mid-body"."""
    name = fault.partition(" ")[0].partition(":")[0]
    return SAME.get(name, name)


@pytest.mark.parametrize("program", sorted({one.program for one in known.known()}))
def test_what_a_client_said_leads_back_to_the_fault(program: str) -> None:
    missing = []
    for one in (one for one in known.known() if one.program == program):
        for pasted in (another(one.text), f"2026-11-21T10:53:21Z app[4242]: ERROR order 17: {another(one.text)}"):
            read = reading.read(pasted)
            named = {fit.name for answer in read.answers for fit in answer.fits}
            wanted = {plain(fault) for fault in one.faults}
            wanted -= {name for words, name in BEYOND if words in one.text}
            if wanted - named:
                missing.append((pasted, read.told and read.told.told, sorted(wanted - named)))
    assert missing == []


def test_what_belongs_to_a_run_is_not_kept() -> None:
    told = general("Failed to connect to 127.0.0.1 port 40123 after 2 ms: no", "127.0.0.1", (40123,))
    assert told == "Failed to connect to <host> port <port> after <number> ms: no"
    assert general("curl: (56) Recv failure", "127.0.0.1", (56789,)) == "curl: (56) Recv failure"
    assert not any(place in another(" ".join(PLACES)) for place in PLACES)
    for row in known.seen_document()["seen"]:
        assert not re.search(r"127\.0\.0\.1|:\d{5}\b|0x[0-9a-f]{6}|[^\n\x20-\x7e]", row["message"]), row


def test_an_entry_says_of_whom_it_was_seen() -> None:
    (found,) = reading.read("curl: (52) Empty reply from server").found
    assert [said.split()[0] for said in table.seen(found.entry)] == ["curl"]
