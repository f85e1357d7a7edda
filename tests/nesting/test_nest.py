"""Chains of timeouts: what nests, what races, and every sentence about it."""

from __future__ import annotations

import dataclasses
import itertools
import random
import re
from decimal import Decimal
from typing import Any

import pytest

from faultkit import causes
from faultkit.nesting import chain, nest
from faultkit.nesting.timeouts import MIDDLEBOXES, NEVER, Hop, Pair, Side
from tests.shell import USERS

every_user = pytest.mark.parametrize("user", USERS)


def judged(typed: str, *, requests: bool = False, margin: str = "1s") -> list[Pair]:
    return nest.check(chain.from_words(typed.split(), requests=requests), margin=chain.duration(margin, "--margin"))


def from_file(text: str) -> list[Pair]:
    return nest.check(chain.from_file(text, "chain.ini"))


def said(pair: Pair) -> str:
    return f"{pair.shorter} {'<' if pair.nests else '≮'} {pair.longer}: {pair.state}"


# What nests and what does not

KEEP_ALIVE = {
    "30 60 65": ["client 30 s < proxy 60 s: 30 s apart", "proxy 60 s < server 65 s: 5 s apart"],
    "client=30 nginx=60 gunicorn=65": [
        "client 30 s < nginx 60 s: 30 s apart",
        "nginx 60 s < gunicorn 65 s: 5 s apart",
    ],
    "30 75/60 65": ["client 30 s < proxy 75 s: 45 s apart", "proxy 60 s < server 65 s: 5 s apart"],
    "1 2 3 4": [
        "client 1 s < proxy-1 2 s: 1 s apart",
        "proxy-1 2 s < proxy-2 3 s: 1 s apart",
        "proxy-2 3 s < server 4 s: 1 s apart",
    ],
    "60 60": ["client 60 s ≮ server 60 s: equal"],
    "65 60": ["client 65 s ≮ server 60 s: 5 s longer, not shorter"],
    "59.5 60": ["client 59.5 s ≮ server 60 s: only 0.5 s apart, and the margin is 1 s"],
    "64.1s 65.1s": ["client 64.1 s < server 65.1 s: 1 s apart"],
    "500ms 2m": ["client 0.5 s < server 120 s: 119.5 s apart"],
    "1m30s 1h": ["client 90 s < server 3600 s: 3510 s apart"],
    "never 5": ["client never ≮ server 5 s: not shorter"],
    "5 never": ["client 5 s < server never: the longer one never ends"],
    "never never": ["client never < server never: the longer one never ends"],
    "off 5": ["client off < server 5 s: no connection is kept, so none is idle"],
    "60 off": ["client 60 s < server off: no connection is kept, so none is idle"],
}


@pytest.mark.parametrize("typed", KEEP_ALIVE)
def test_idle_timeouts(typed: str) -> None:
    found = judged(typed)
    assert [said(pair) for pair in found] == KEEP_ALIVE[typed]
    assert {(pair.kind, pair.cause) for pair in found} == {("keep-alive", "keepalive-race")}
    assert all(bool(pair.why) == bool(pair.remedy) == (not pair.nests) for pair in found)


REQUESTS = {
    "70 65 60": ["proxy 65 s < client 70 s: 5 s apart", "server 60 s < proxy 65 s: 5 s apart"],
    "30 60 65": [
        "proxy 60 s ≮ client 30 s: 30 s longer, not shorter",
        "server 65 s ≮ proxy 60 s: 5 s longer, not shorter",
    ],
    "never 60": ["server 60 s < client never: the longer one never ends"],
    "60 never": ["server never ≮ client 60 s: not shorter"],
}


@pytest.mark.parametrize("typed", REQUESTS)
def test_request_timeouts_nest_the_other_way_round(typed: str) -> None:
    found = judged(typed, requests=True)
    assert [said(pair) for pair in found] == REQUESTS[typed]
    assert {(pair.kind, pair.cause) for pair in found} == {("request", "late-write")}


def test_the_margin() -> None:
    assert not judged("59.9 60")[0].nests
    assert judged("59.9 60", margin="100ms")[0].nests
    assert judged("59.9 60", margin="0")[0].nests
    assert not judged("60 60", margin="0")[0].nests
    assert not judged("58 60", margin="2.001")[0].nests


@pytest.mark.parametrize(
    ("typed", "state"),
    [
        ("pool=30 nat-expiry=350 db=900", "pool 30 s < nat-expiry 350 s: idle, 320 s apart"),
        ("pool=600 nat-expiry=350 db=900", "pool 600 s ≮ nat-expiry 350 s: idle, 250 s longer, not shorter"),
        ("pool=never idle-firewall=350 db=60", "db 60 s < idle-firewall 350 s: idle, 290 s apart"),
        ("ws=never load-balancer-idle=60 app=never", "ws never ≮ load-balancer-idle 60 s: idle, not shorter"),
        ("a=off nat-expiry=350 b=900", "a off < nat-expiry 350 s: idle, no connection is kept, so none is idle"),
    ],
)
def test_what_forgets_the_silent(typed: str, state: str) -> None:
    [pair] = (pair for pair in judged(typed) if pair.kind == "silence")
    assert said(pair) == state
    assert pair.cause == pair.longer.hop


def test_every_cause_that_it_names_is_in_the_catalogue() -> None:
    assert {"keepalive-race", "late-write", *MIDDLEBOXES} <= set(causes.names())
    assert all(causes.load(name).family == "middlebox" for name in MIDDLEBOXES)


TWO = "[pool]\n{}\n[AWS NAT]\n{}\n[db]\n{}\n"


@pytest.mark.parametrize(
    ("pool", "box", "db", "states"),
    [
        # Probes are segments, and a router renews its mapping for any; a proxy's kernel answers them itself.
        (
            "idle=never\ntcp-keepalive=60",
            "nat-expiry=350",
            "idle=never",
            ["pool 60 s < AWS NAT 350 s: idle, 290 s apart"],
        ),
        (
            "idle=never",
            "idle-firewall=350",
            "idle=never\ntcp keepalive=120",
            ["db 120 s < AWS NAT 350 s: idle, 230 s apart"],
        ),
        (
            "idle=never\ntcp-keepalive=60",
            "load-balancer-idle=350",
            "idle=never",
            ["pool never ≮ AWS NAT 350 s: idle, not shorter"],
        ),
        (
            "idle=never\nheartbeat=30",
            "load-balancer-idle=60",
            "idle=never",
            ["pool 30 s < AWS NAT 60 s: idle, 30 s apart"],
        ),
        # SO_KEEPALIVE alone probes after two hours.
        (
            "idle=never\ntcp_keepalive=on",
            "nat-expiry=350",
            "idle=never",
            ["pool 7200 s ≮ AWS NAT 350 s: idle, 6850 s longer, not shorter"],
        ),
        ("tcp-keepalive=off", "nat-expiry=350", "", ["pool never ≮ AWS NAT 350 s: idle, not shorter"]),
        ("tcp-keepalive=60", "nat-expiry=350", "", ["pool 60 s < AWS NAT 350 s: idle, 290 s apart"]),
        # While a request is worked on nothing is sent either.
        (
            "idle=60\nrequest=700",
            "nat-expiry=350",
            "idle=90\nrequest=600",
            [
                "pool 60 s < AWS NAT 350 s: idle, 290 s apart",
                "db 600 s ≮ AWS NAT 350 s: while a request is worked on, 250 s longer, not shorter",
            ],
        ),
        (
            "request=700\ntcp-keepalive-upstream=60",
            "nat-expiry=350",
            "",
            ["pool 60 s < AWS NAT 350 s: while a request is worked on, 290 s apart"],
        ),
    ],
)
def test_what_breaks_the_silence(pool: str, box: str, db: str, states: list[str]) -> None:
    text = TWO.format(pool, box, db or "heartbeat=never")
    assert [said(pair) for pair in from_file(text) if pair.kind == "silence"] == states


def test_a_file_with_everything() -> None:
    text = """
    # A comment
    [client]
    idle = 30s
    request = 70s
    [nginx]
    idle-downstream = 75s     ; keepalive_timeout
    idle_upstream = 60s       # in the upstream block
    Request = 1m 5s
    tcp-keepalive-upstream = on
    [AWS NAT]
    nat-expiry = 350s
    [gunicorn]
    idle: 65
    request = 60
    """.replace("\n    ", "\n")
    assert [said(pair) for pair in from_file(text)] == [
        "client 30 s < nginx 75 s: 45 s apart",
        "nginx 65 s < client 70 s: 5 s apart",
        "nginx 60 s < gunicorn 65 s: 5 s apart",
        "gunicorn 60 s < nginx 65 s: 5 s apart",
        "nginx 60 s < AWS NAT 350 s: idle, 290 s apart",
        "gunicorn 60 s < AWS NAT 350 s: while a request is worked on, 290 s apart",
    ]


def test_a_request_timeout_without_a_neighbours_is_said() -> None:
    hops = chain.from_file("[client]\nidle=1\nrequest=9\n[app]\nidle=2\n", "chain.ini")
    assert nest.check(hops)[0].nests
    assert nest.unchecked(hops) == ["the request timeouts of client and app: app gives none"]
    hops = chain.from_file("[client]\nidle=1\n[app]\nidle=2\nrequest=9\n", "chain.ini")
    assert nest.unchecked(hops) == ["the request timeouts of client and app: client gives none"]


# Why, and what ends it

EXPLAINED = {
    "nginx=60 gunicorn=60": (
        "Both let go of an idle connection at the same moment, when gunicorn closes: a request of nginx that crosses its "
        "FIN is reset (in a proxy: 502).",
        "nginx's keepalive_timeout in the upstream block at most 59 s, or gunicorn's --keep-alive at least 61 s",
    ),
    "nginx=60 gunicorn=2": (
        "gunicorn closes at 2 s of idleness what nginx still means to reuse: a request of nginx that crosses its FIN is "
        "reset (in a proxy: 502).",
        "nginx's keepalive_timeout in the upstream block at most 1 s, or gunicorn's --keep-alive at least 61 s",
    ),
    "proxy=59.9 app=60": (
        "app's clock starts earlier, by the way of the answer, and a request takes its time too: a request of proxy that "
        "crosses its FIN is reset (in a proxy: 502).",
        "proxy's idle timeout towards app at most 59 s, or app's idle timeout towards proxy at least 60.9 s",
    ),
    "pool=never app=5": (
        "app closes at 5 s of idleness what pool still means to reuse: a request of pool that crosses its FIN is reset "
        "(in a proxy: 502).",
        "pool's idle timeout towards app at most 4 s",
    ),
    "pool=2 app=500ms": (
        "app closes at 0.5 s of idleness what pool still means to reuse: a request of pool that crosses its FIN is reset "
        "(in a proxy: 502).",
        "app's idle timeout towards pool at least 3 s",
    ),
    "pool=never app=1": (
        "app closes at 1 s of idleness what pool still means to reuse: a request of pool that crosses its FIN is reset "
        "(in a proxy: 502).",
        "pool's idle timeout towards app below 1 s",
    ),
    # One setting of this balancer is both of its timeouts: to raise it would make the next pair race.
    "client=65 alb=60 server=61": (
        "alb closes at 60 s of idleness what client still means to reuse: a request of client that crosses its FIN is "
        "reset (in a proxy: 502).",
        "client's idle timeout towards alb at most 59 s",
    ),
    "client=never alb=1 server=2": (
        "alb closes at 1 s of idleness what client still means to reuse: a request of client that crosses its FIN is "
        "reset (in a proxy: 502).",
        "client's idle timeout towards alb below 1 s",
    ),
    "client=2 alb=1 server=2": (
        "alb closes at 1 s of idleness what client still means to reuse: a request of client that crosses its FIN is "
        "reset (in a proxy: 502).",
        "alb's idle_timeout.timeout_seconds at least 3 s; then the neighbour that this leaves behind",
    ),
    "pool=600 nat-expiry=350 db=900": (
        "The connection may be silent for 600 s (pool's idle timeout towards db), and nat-expiry forgets it after 350 s: "
        "what is sent then is dropped or reset, and who only waits is told nothing.",
        "pool's idle timeout towards db at most 349 s, or TCP keepalive at either end, TCP_KEEPIDLE at most 175 s (half, "
        "so that a lost one does no harm)",
    ),
    "pool=never idle-firewall=1 db=900": (
        "The connection may be silent for 900 s (db's idle timeout towards pool), and idle-firewall forgets it after 1 s: "
        "what is sent then is dropped or reset, and who only waits is told nothing.",
        "TCP keepalive at either end, TCP_KEEPIDLE at most 0.5 s (half, so that a lost one does no harm)",
    ),
    "ws=never load-balancer-idle=60 app=never": (
        "The connection may be silent for ever (ws's idle timeout towards app), and load-balancer-idle forgets it after "
        "60 s: what is sent then is dropped or reset, and who only waits is told nothing.",
        "ws's idle timeout towards app at most 59 s, or a heartbeat of the application at most 30 s (half, so that a lost "
        "one does no harm): TCP keepalive does not reach a proxy's timer",
    ),
}

EXPLAINED_REQUESTS = {
    "nginx=60 gunicorn=60": (
        "Chance decides whether nginx gets the answer of gunicorn or gives up first.",
        "gunicorn's --timeout at most 59 s, or nginx's proxy_read_timeout at least 61 s",
    ),
    "nginx=60 gunicorn=60.5": (
        "nginx gives up while gunicorn still works: a 499 or a 504 in the logs, work for nobody, and an answer that meets "
        "a closed connection.",
        "gunicorn's --timeout at most 59 s, or nginx's proxy_read_timeout at least 61.5 s",
    ),
    "client=60.5 app=60": (
        "app may still answer when client has just given up: 0.5 s is soon used up.",
        "app's request timeout at most 59.5 s, or client's request timeout at least 61 s",
    ),
}


@pytest.mark.parametrize("requests", [False, True])
def test_why_and_what_ends_it(requests: bool) -> None:
    for typed, told in (EXPLAINED_REQUESTS if requests else EXPLAINED).items():
        explained = [(pair.why, pair.remedy) for pair in judged(typed, requests=requests) if not pair.nests]
        assert told in explained, (typed, explained)


def test_a_setting_that_would_push_the_race_to_the_neighbour_is_not_advised() -> None:
    told = judged("client=61 proxy=60 app=90", requests=True)[1]
    assert told.remedy == "app's request timeout at most 59 s"


# By hand, at random


def random_chain(random: random.Random) -> list[Hop]:
    values = [*map(Decimal, range(1, 12)), NEVER]
    return [
        Hop(f"hop{number}", Side(idle=random.choice(values)), Side(idle=random.choice(values)), random.choice(values))
        for number in range(random.randrange(2, 6))
    ]


def test_a_pair_nests_exactly_if_no_moment_is_dangerous() -> None:
    """Against every moment on a grid: the closer may have closed, give or take the margin, and the reuser still holds on."""
    seed = random.Random(793)
    for _ in range(300):
        hops = random_chain(seed)
        told = {(str(pair.kind), pair.shorter.hop, pair.longer.hop): pair.nests for pair in nest.check(hops)}
        for near, far in itertools.pairwise(hops):
            for kind, one, first, other, second in (
                ("keep-alive", near.name, near.upstream.idle, far.name, far.downstream.idle),
                ("request", far.name, far.request, near.name, near.request),
            ):
                assert first is not None and second is not None
                moments = (Decimal(quarter) / 4 for quarter in range(80))
                danger = any(moment <= first and moment > second - nest.MARGIN for moment in moments)
                assert told[kind, one, other] is not danger, (kind, first, second)


ADVICE = re.compile(r"(hop\d)'s (request|idle) timeout(?: towards (hop\d))? at (?:most|least) (\d+) s")


def followed(hops: list[Hop], advice: str) -> list[Hop]:
    """The chain after what a person would do who reads that."""
    read = ADVICE.fullmatch(advice)
    assert read, advice
    name, kind, towards, seconds = read[1], read[2], read[3], Decimal(read[4])
    place = "request" if kind == "request" else "upstream" if towards > name else "downstream"
    value: Any = seconds if place == "request" else Side(idle=seconds)
    return [dataclasses.replace(hop, **{place: value}) if hop.name == name else hop for hop in hops]


def test_what_is_advised_ends_the_race_and_starts_none() -> None:
    seed = random.Random(4)
    taken = 0
    for _ in range(300):
        hops = random_chain(seed)
        racing = {(pair.kind, pair.shorter, pair.longer) for pair in nest.check(hops) if not pair.nests}
        for pair in nest.check(hops):
            if pair.nests or ";" in pair.remedy or " below " in pair.remedy:
                continue
            for advice in pair.remedy.split(", or "):
                after = [one for one in nest.check(followed(hops, advice)) if not one.nests]
                ours = (pair.kind, pair.shorter.hop, pair.longer.hop)
                assert ours not in {(one.kind, one.shorter.hop, one.longer.hop) for one in after}
                assert len(after) < len(racing)
                taken += 1
    assert taken > 500
