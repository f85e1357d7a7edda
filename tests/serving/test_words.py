"""The words that people have for a fault lead to it."""

from __future__ import annotations

from inspect import signature

import pytest

import faultkit
from faultkit import Misuse
from faultkit.proxying.toxics import TYPES
from faultkit.serving import faults
from faultkit.serving.words import WORDS, hint

LEADS = {
    "reset": "linger, accept-then-reset or unread",
    "RST": "linger, accept-then-reset or unread",
    "ECONNRESET": "linger, accept-then-reset or unread",
    "abort": "linger, accept-then-reset or unread",
    "timeout": "stall, black-hole or connect-hang",
    "timed out": "stall, black-hole or connect-hang",
    "close": "accept-then-close, half-close or truncate",
    "eof": "accept-then-close, half-close or truncate",
    "fin": "accept-then-close, half-close or truncate",
    "drop": "black-hole or connect-hang",
    "latency": "latency_seconds=0.1 or slow",
    "bandwidth": "rate=10000 or slow",
    "Connection_Refused": "refuse",
    "broken pipe": "late-write or keepalive-race:unprocessed",
    "healthy": "ok",
    "lingr": "linger",
    "balck-hole": "black-hole",
}


@pytest.mark.parametrize("word", LEADS)
@pytest.mark.parametrize("planned", [False, True], ids=["alone", "in a plan"])
def test_a_word_leads_to_what_is_meant(word: str, planned: bool) -> None:
    with pytest.raises(Misuse) as refused:
        faultkit.serve(plan=[word]) if planned else faultkit.serve(word)
    assert str(refused.value) == f"there is no fault {word!r}: did you mean {LEADS[word]}?"


@pytest.mark.parametrize("word", WORDS)
def test_each_word_is_none_of_the_names_and_leads_to_some(word: str) -> None:
    known = {*faults.names(), faults.OK}
    assert word not in known
    keywords = {meant.partition("=")[0] for meant in WORDS[word] if "=" in meant}
    assert {meant for meant in WORDS[word] if "=" not in meant} <= known | set(TYPES)
    assert keywords <= set(signature(faultkit.serve).parameters)


def test_what_means_nothing_is_sent_to_the_list() -> None:
    with pytest.raises(Misuse, match=r"faultkit serve names them all$"):
        faultkit.serve("x" * 100_000)


def test_what_a_proxy_has_goes_before_what_a_server_takes() -> None:
    assert hint("lag", [*TYPES, *faults.names()]) == "did you mean latency or slow?"
