"""The causes that fit what a person saw, from the promises alone."""

from __future__ import annotations

import re

import pytest

from faultkit import causes
from faultkit.acting.play import rehearsal
from faultkit.cause import checked
from faultkit.clients import sighting as which
from faultkit.errors import Misuse
from tests.shell import faultkit


def named(*told: str, after_idle: bool = False, first_request: bool = False, rst_from: str | None = None) -> list[str]:
    sighting = which.Sighting(tuple(map(which.parse, told)), after_idle, first_request, rst_from)
    return [candidate.cause.name for candidate in which.candidates(causes.by_family(), sighting)]


def test_every_cause_is_found_by_what_its_own_promise_says() -> None:
    for cause in causes.by_family():
        options = checked(cause, dict(cause.variants[0]))
        for role, calls in cause.promise(options, rehearsal(cause.name, options)).calls.items():
            plain = [re.sub(r" [*+]$", "", call) for call in calls]
            ends = [call for call in plain if re.fullmatch(r"\w+ (E[A-Z]+)", call)]
            if ends:
                assert cause.name in named(ends[0]), (cause.name, role, ends[0])


def test_the_order_of_calls_counts() -> None:
    assert "keepalive-race" in named("recv EOF", "send EPIPE")
    assert "closed-port" not in named("recv EOF", "send EPIPE")
    assert named("send EPIPE", "shutdown EPIPE") == []


def test_what_is_known_narrows() -> None:
    everything = named("recv ECONNRESET")
    assert {"linger", "unread", "keepalive-race"} <= set(everything)
    idle = named("recv ECONNRESET", after_idle=True)
    assert {"keepalive-race", "load-balancer-idle"} <= set(idle)
    assert "linger" not in idle
    first = named("recv ECONNRESET", first_request=True)
    assert "linger" in first
    assert "closed-port" in named("connect ECONNREFUSED", rst_from="server")
    assert "closed-port" not in named("connect ECONNREFUSED", rst_from="client")


def test_a_client_s_own_bad_news_comes_before_a_server_s() -> None:
    found = which.candidates(causes.by_family(), which.Sighting(("recv ECONNRESET",)))
    sides = ["client" in candidate.roles for candidate in found]
    assert sides == sorted(sides, reverse=True)


def test_a_size_is_a_size() -> None:
    assert named("send 7", "recv ECONNRESET") == named("send n", "recv ECONNRESET")


def test_each_is_told_from_the_others() -> None:
    found = which.candidates(causes.by_family(), which.Sighting(("connect ETIMEDOUT",)))
    assert len(found) > 1
    assert all(which.tell(candidate, found) for candidate in found)


def test_a_reason_that_no_kernel_gives_tells_nothing() -> None:
    """A firewall's RST has none."""
    found = which.candidates(causes.by_family(), which.Sighting(("recv ECONNRESET",), first_request=True))
    told = {candidate.cause.name: which.tell(candidate, found) for candidate in found}
    assert told["reject"] == "the calls alone do not tell it from the others: compare the packets with --packets"
    assert not any("reason is ," in sentence for sentence in told.values())


@pytest.mark.parametrize("typed", ["", "recv", "recv ECONNRESET now", "read ECONNRESET", "recv reset"])
def test_what_no_promise_can_say(typed: str) -> None:
    with pytest.raises(Misuse, match="write it as 'recv ECONNRESET'"):
        which.parse(typed)


def test_the_command() -> None:
    ended = faultkit("which", "--saw", "recv ECONNRESET")
    assert ended.returncode == 0
    assert "linger: SO_LINGER {on, 0}" in ended.stdout
    assert all(len(line) <= 80 for line in ended.stdout.splitlines())
    nothing = faultkit("which", "--saw", "shutdown EPIPE")
    assert (nothing.returncode, nothing.stderr) == (1, "")
    silent = faultkit("which")
    assert (silent.returncode, silent.stdout) == (2, "")
