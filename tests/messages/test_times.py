"""What the times of a log say is true: of made logs whose truth is known, and nothing of those that chance made."""

from __future__ import annotations

import datetime
import io
import random
from collections.abc import Callable, Iterable

import pytest

from faultkit.messages.kinds import Kind
from faultkit.messages.log import Log
from faultkit.messages.times import Clock, Moment, written_at

NOW = datetime.datetime(2026, 6, 7, tzinfo=datetime.UTC).timestamp()
START = datetime.datetime(2026, 5, 6, 7, 0, 0, tzinfo=datetime.UTC).timestamp()


def moment(at: float) -> datetime.datetime:
    return datetime.datetime.fromtimestamp(at, datetime.UTC)


def iso(at: float) -> str:
    return f"{moment(at):%Y-%m-%d %H:%M:%S}.{int(at % 1 * 1000):03}"


def nginx(at: float) -> str:
    return f"{moment(at):%Y/%m/%d %H:%M:%S}"


def syslog(at: float) -> str:
    return f"{moment(at):%b} {moment(at).day:2} {moment(at):%H:%M:%S} host app[7]:"


def log(stamps: Iterable[str], text: str = "read tcp 10.0.0.5:4->10.0.0.6:80: read: connection reset by peer") -> str:
    return "".join(f"{stamp} {text}\n" for stamp in stamps)


def read(*files: str, now: float = NOW) -> Log:
    found = Log(now=now)
    for file in files:
        found.read(io.BytesIO(file.encode()))
    return found


def one(*files: str, now: float = NOW) -> Kind:
    (kind,) = read(*files, now=now).kinds.values()
    return kind


@pytest.mark.parametrize(
    ("line", "seconds"),
    [
        ("2026-05-06T07:08:09.5Z x", 1778051289.5),
        ("2026-05-06T09:08:09+02:00 x", 1778051289),
        ("2026-05-06 09:08:09.500+02 [7] LOG:  x", 1778051289.5),
        ("2026-05-06 09:08:09.500 CEST [7] LOG:  x", 1778051289.5),
        ("2026-05-06 03:08:09 EDT [7] LOG:  x", 1778051289),
        ("2026-05-06 07:08:09 UTC [7] LOG:  x", 1778051289),
        ("2026/05/06 07:08:09 [error]", 1778051289),
        ("2026-05-06 07:08:09,500 ERROR", 1778051289.5),
        ('1.2.3.4 - - [06/May/2026:07:08:09 +0000] "GET', 1778051289),
        ("haproxy[1]: 1.2.3.4:5 [06/May/2026:07:08:09.500] fe", 1778051289.5),
        ("[Wed May 06 07:08:09.500 2026] [proxy_http:error]", 1778051289.5),
        ("=ERROR REPORT==== 6-May-2026::07:08:09.500000 ===", 1778051289.5),
        ("06 May 2026 07:08:09 PM x", 1778051289 + 12 * 3600),
        ("06 May 2026 12:08:09 AM x", 1778051289 - 7 * 3600),
        ("May  6 07:08:09 host app: x", 1778051289),
        ("May  6 07:08:09 lb haproxy[1]: 1.2.3.4:5 [06/May/2024:07:08:09.500] fe", 1714979289),
        ("E0506 07:08:09.500000 1 x.go:1] x", 1778051289.5),
        ('{"level":"error","ts":1778051289.5,"msg":"x"}', 1778051289.5),
        ('{"level":50,"time":1778051289500,"until":"2031-01-01T00:00:00Z"}', 1778051289.5),
        ('{"until":"2031-01-01T00:00:00Z","@timestamp":"2026-05-06T07:08:09.5Z"}', 1778051289.5),
        ('{"__REALTIME_TIMESTAMP":"1778051289500000","MESSAGE":"x"}', 1778051289.5),
        ("1778051289.500    120 10.0.0.1 TCP_MISS/503 3 GET http://a/", 1778051289.5),
        ("Feb 29 07:08:09 host app: x", 1709190489),  # the last year that had it
        ("no time at all", None),
        ("99/99/2026 x", None),
        ("Feb 30 07:08:09 host app: x", None),
    ],
)
def test_when_a_line_was_written(line: str, seconds: float | None) -> None:
    found = written_at(line, NOW)
    assert (found and found.at) == seconds


def test_a_year_that_is_not_written_follows_from_the_lines_around() -> None:
    clock = Clock(NOW)
    days = ["Nov  1", "Dec 31", "Jan  1", "Feb 28", "Jun  6"]
    years = [moment(found.at).year for day in days if (found := clock.read(f"{day} 23:59:59 host app: x"))]
    assert years == [2025, 2025, 2026, 2026, 2026]
    assert clock.read("Dec 31 00:00:00 2026") is not None


def test_a_log_over_new_year_is_a_minute_long() -> None:
    begin = datetime.datetime(2025, 12, 31, 23, 59, 30, tzinfo=datetime.UTC).timestamp()
    found = read(log(syslog(begin + 5 * n) for n in range(12)))
    assert (found.begin, found.end, found.dated) == (begin, begin + 55, False)
    (kind,) = found.kinds.values()
    assert kind.times.interval() == 5


Stamp = Callable[[float], str]


@pytest.mark.parametrize("stamp", [iso, nginx, syslog])
@pytest.mark.parametrize("period", [5, 30, 60, 350, 3600])
def test_what_comes_at_an_interval(stamp: Stamp, period: int) -> None:
    """Exactly, a little late each time, a few at once, and with one in ten left out."""
    dice = random.Random(period)
    times = [START + period * n for n in range(40)]
    jitter = [at + dice.uniform(0, 0.01 * period) for at in times]
    several = [at + more for at in times for more in (0, 0.01, 0.3)]
    gappy = [at for n, at in enumerate(times) if n % 10 != 7]
    for made in (times, jitter, several, gappy):
        interval = one(log(map(stamp, made))).times.interval()
        assert interval is not None and abs(interval - period) <= max(1, 0.03 * period)


def test_it_is_said_with_whose_it_may_be_and_no_more() -> None:
    (said,) = one(log(nginx(START + 60 * n) for n in range(30))).when(START, START + 1800)
    assert said.startswith("every 60 s: a job or a check that runs then, or a timeout (") and said.endswith("?")


def exponential(dice: random.Random, mean: float, number: int) -> list[float]:
    at, made = START, []
    for _ in range(number):
        at += dice.expovariate(1 / mean)
        made.append(at)
    return made


def busy(dice: random.Random, mean: float, number: int) -> list[float]:
    """Bursts of up to five, at random."""
    return sorted(
        at + dice.uniform(0, 2) for at in exponential(dice, mean, number) for _ in range(dice.randrange(1, 6))
    )


def wide(dice: random.Random, mean: float, number: int) -> list[float]:
    """Each at any time within its own span, as clients that wait for a random time do."""
    return [START + mean * n + dice.uniform(0, mean) for n in range(number)]


@pytest.mark.parametrize("made", [exponential, busy, wide])
@pytest.mark.parametrize("stamp", [iso, nginx])
def test_nothing_is_said_of_what_chance_made(
    made: Callable[[random.Random, float, int], list[float]], stamp: Stamp
) -> None:
    for seed in range(60):
        dice = random.Random(seed)
        mean = dice.choice([0.3, 1, 2, 5, 10, 60, 600])
        number = dice.choice([4, 5, 6, 8, 12, 30, 100])
        kind = one(log(map(stamp, made(dice, mean, number))))
        assert kind.times.interval() is None, (seed, mean, number, kind.times.interval())
        assert kind.since is None, (seed, mean, number)


def test_lines_a_little_out_of_order_are_put_in_order() -> None:
    dice = random.Random(3)
    times = sorted((START + 20 * n for n in range(60)), key=lambda at: at + dice.uniform(0, 50))
    assert times != sorted(times)
    assert one(log(map(iso, times))).times.interval() == 20


def test_nothing_is_said_of_two_clocks() -> None:
    """Two hosts whose clocks are five minutes apart, each at random: between them is always about the same."""
    dice = random.Random(5)
    times = [at for at in exponential(dice, 60, 60) for at in (at, at - 290)]
    kind = one(log(map(iso, times)))
    assert kind.when(START, START + 9999) == []


def test_nothing_is_said_of_lines_with_a_zone_among_lines_without() -> None:
    times = [START + 30 * n for n in range(60)]
    stamps = [iso(at) if n % 2 else f"{moment(at + 7200):%Y-%m-%dT%H:%M:%S}+02:00" for n, at in enumerate(times)]
    assert one(log(stamps)).when(START, START + 9999) == []
    assert one(log(stamps[::2])).times.interval() == 60


def test_summer_time_ends() -> None:
    """The clocks go back an hour: with a zone it is no matter, without one an hour is written twice."""
    change = datetime.datetime(2025, 10, 26, 1, 0, 0, tzinfo=datetime.UTC).timestamp()
    times = [change - 3000 + 120 * n for n in range(60)]
    zoned = [
        f"{moment(at + (7200 if at < change else 3600)):%Y-%m-%d %H:%M:%S} CES{'T' * (at < change)}" for at in times
    ]
    zoned = [stamp.replace("CES", "CEST").replace("CESTT", "CEST") if at < change else stamp.replace("CES", "CET")
             for stamp, at in zip(zoned, times, strict=True)]  # fmt: skip
    assert one(log(zoned)).times.interval() == 120
    assert read(log(zoned)).begin == times[0]
    naive = [nginx(at + (7200 if at < change else 3600)) for at in times]
    assert one(log(naive)).times.interval() == 120
    dice = random.Random(9)
    for mean in (30, 60, 120):
        some = [at + (7200 if at < change else 3600) for at in exponential(dice, mean, 100)]
        assert one(log(map(nginx, some))).times.interval() is None


def test_summer_time_begins() -> None:
    change = datetime.datetime(2026, 3, 29, 1, 0, 0, tzinfo=datetime.UTC).timestamp()
    times = [change - 3000 + 120 * n for n in range(60)]
    assert one(log(nginx(at + (3600 if at < change else 7200)) for at in times)).times.interval() == 120


def test_between_two_files_nothing_is_counted() -> None:
    one_of = [log(iso(START + day * 86400 + at) for at in (10, 500 + 77 * day)) for day in range(8)]
    assert one(*one_of).times.interval() is None
    assert one("".join(one_of[:3]), *one_of[3:]).count == 16


def test_the_line_before_counts_only_where_most_have_it() -> None:
    """Of twenty failures five come 5 s after a line about that server, the others at once."""
    dice = random.Random(1)
    text = ""
    for n, at in enumerate(exponential(dice, 60, 20)):
        text += f"{iso(at - (5 if n % 4 == 0 else 0.1))} served by 10.0.0.6:80 in 3 ms\n"
        text += log([iso(at)])
    assert one(text).since is None


@pytest.mark.parametrize("other", ["10.0.0.6:8080", "110.0.0.6:80", "a.10.0.0.6:80", "10.0.0.6:80.example"])
def test_another_server_is_not_that_one(other: str) -> None:
    text = ""
    for n in range(20):
        at = START + 77 * n + n * n
        text += f"{iso(at)} served by {other} in 3 ms\n" + log([iso(at + 5)])
    assert one(text).since is None
    assert one(text.replace(other, "10.0.0.6:80")).since == 5


def test_a_moment() -> None:
    kind = one(log(iso(START + 0.2 * n) for n in range(12)))
    assert kind.when(START - 3600, START + 3600) == ["all within 2.2 s of 07:00:00: a restart?"]
    assert kind.when(START, START + 3) == []
    some = one(log(iso(START + 0.2 * n) for n in range(12)) + log(["x"] * 3))
    assert some.when(START - 3600, START + 3600) == ["12 of 15 within 2.2 s of 07:00:00: a restart?"]


def test_a_moment_has_a_zone_a_year_and_a_grain() -> None:
    assert written_at("2026-05-06T07:08:09Z x", NOW) == Moment(1778051289, zoned=True, coarse=True)
    assert written_at("May  6 07:08:09 x", NOW) == Moment(1778051289, zoned=False, dated=False, coarse=True)
    assert written_at("2026-05-06 07:08:09,000 x", NOW) == Moment(1778051289, zoned=False)
