"""A log leads to its kinds of failure, with counts that grep gives too, and times that are what was written."""

from __future__ import annotations

import datetime
import gzip
import io
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from faultkit.commands.which import by_age
from faultkit.messages.log import Log
from faultkit.messages.prefilter import Prefilter
from faultkit.messages.records import BLOCK
from faultkit.messages.table import entries
from tests.shell import faultkit

RESET = (
    "{at} [error] 31#31: *{n} recv() failed (104: Connection reset by peer) while reading response header from upstream, "
    'client: 10.1.2.{host}, server: _, request: "GET /a/{n} HTTP/1.1", upstream: "http://10.0.0.7:8080/a/{n}"\n'
)
REFUSED = '{at} [error] 31#31: *{n} connect() failed (111: Connection refused) while connecting to upstream, upstream: "http://10.0.0.8:80/"\n'
TRACE = """{at},123 ERROR app: order {n}
Traceback (most recent call last):
  File "client.py", line 294, in _read_status
http.client.RemoteDisconnected: Remote end closed connection without response

During handling of the above exception, another exception occurred:

Traceback (most recent call last):
  File "pool.py", line 3, in urlopen
urllib3.exceptions.ProtocolError: ('Connection aborted.', RemoteDisconnected('Remote end closed connection without response'))
"""
FINE = "{at} [info] 31#31: *{n} request was answered, status 200, bytes {n}, agent Mozilla/5.0 (X11; Linux x86_64)\n"
START = datetime.datetime(2026, 5, 6, 7, 0, 0)


def lines(seconds: int) -> Iterator[str]:
    """One line a second; a reset each minute, a traceback each 100 s, and in one moment nothing but refusals."""
    for n in range(seconds):
        at = f"{START + datetime.timedelta(seconds=n):%Y/%m/%d %H:%M:%S}"
        yield FINE.format(at=at, n=n)
        if n % 60 == 30:
            yield RESET.format(at=at, n=n, host=n % 7)
        if n % 100 == 50:
            yield TRACE.format(at=at, n=n)
        if n == 1234:
            yield from (REFUSED.format(at=at, n=n + i) for i in range(12))


def read(data: bytes) -> Log:
    log = Log()
    log.read(io.BytesIO(data))
    return log


def test_what_is_in_it() -> None:
    text = "".join(lines(3600))
    log = read(text.encode())
    assert (log.lines, log.size) == (text.count("\n"), len(text))
    kinds = {kind.reading.told.told: kind for kind in log.kinds.values() if kind.reading.told}
    assert {told: kind.count for told, kind in kinds.items()} == {
        "recv ECONNRESET": 60,
        "connect ECONNREFUSED": 12,
        "EOF before any answer": 36,
    }
    reset, refused = kinds["recv ECONNRESET"], kinds["connect ECONNREFUSED"]
    assert reset.times.interval() == 60
    assert reset.times.first == (START + datetime.timedelta(seconds=30)).replace(tzinfo=datetime.UTC).timestamp()
    assert reset.servers.top() == [("10.0.0.7:8080", 60)]
    assert sum(number for _, number in reset.clients.top()) == 60
    assert "nginx's keepalive_timeout of an upstream" in reset.when(log.begin, log.end)[0]
    assert refused.when(log.begin, log.end) == ["all within 1 s of 07:20:34: a restart?"]
    assert kinds["EOF before any answer"].times.interval() == 100


def test_the_line_before_about_the_same_server() -> None:
    text = ""
    for n in range(20):
        at = START + datetime.timedelta(seconds=n * 77 + n * n)  # at no interval
        text += f'{at:%Y/%m/%d %H:%M:%S} served /, upstream: "http://10.0.0.7:8080/"\n'
        text += RESET.format(at=f"{at + datetime.timedelta(seconds=5):%Y/%m/%d %H:%M:%S}", n=n, host=1)
    (kind,) = read(text.encode()).kinds.values()
    assert kind.since == 5
    assert "Node, uvicorn" in kind.when(None, None)[0]


def test_a_failure_is_one_wherever_a_block_ends() -> None:
    """Blocks are cut between failures, not in them."""
    trace = TRACE.format(at="2026-05-06 07:00:00", n=1)
    for before in range(0, len(trace), 199):
        text = "x" * 99 + "\n"
        padding = text * ((BLOCK - before) // 100)
        padding += "y" * (BLOCK - before - len(padding) - 1) + "\n"
        log = read((padding + trace + text * 2).encode())
        assert [kind.count for kind in log.kinds.values()] == [1], before


def wrapped(form: str) -> bytes:
    """The same log as others write it."""
    text = "".join(lines(600))
    if form == "gzip":
        return gzip.compress(text.encode())
    if form == "utf-16":
        return text.encode("utf-16")
    if form == "crlf":
        return text.replace("\n", "\r\n").encode()
    if form == "docker":
        rows = [
            {"log": line + "\n", "stream": "stderr", "time": "2026-05-06T07:00:00.1Z"} for line in text.splitlines()
        ]
    else:
        rows = [{"MESSAGE": line, "__REALTIME_TIMESTAMP": "1778050800000000"} for line in text.splitlines()]
    return "".join(json.dumps(row) + "\n" for row in rows).encode()


@pytest.mark.parametrize("form", ["gzip", "utf-16", "crlf", "docker", "journald"])
def test_the_same_in_other_forms(form: str) -> None:
    log = read(wrapped(form))
    counts = {kind.reading.told.told: kind.count for kind in log.kinds.values() if kind.reading.told}
    assert counts["recv ECONNRESET"] == 10


def test_every_line_of_the_table_passes_the_filter() -> None:
    passes = Prefilter()
    for entry in entries():
        for example in entry.examples if not (entry.fine or entry.beside) else ():
            assert passes.places(example.encode()), (entry.file, example)


def test_lines_that_hold_nothing_do_not_pass() -> None:
    passes = Prefilter()
    for line in (
        FINE.format(at="2026/05/06 07:00:00", n=1),
        '192.0.2.4 - - [06/May/2026:07:08:09 +0000] "GET /a?id=7 HTTP/1.1" 200 4711 "-" "Mozilla/5.0 (X11; Linux x86_64)"',
        'haproxy[9]: 192.0.2.7:39001 [23/Mar/2022:11:12:13.001] fe be/s1 0/0/1/12/44 200 183 - - ---- 6/6/3/7/0 0/0 "GET /"',
        "2026-05-06T07:08:09.123Z INFO  [worker-3] c.e.shop.OrderService - order 17 accepted for customer 3, user ID 5, items=3",
        "May  6 07:08:09 host systemd[1]: Started Daily apt download activities. CC SD PR",
        '{"level":"info","ts":1720600000.1,"msg":"handled","status":200,"duration":0.0021}',
    ):
        assert passes.places(line.encode()) == [], line


def test_a_gigabyte_takes_no_more_memory_than_a_megabyte() -> None:
    """Here 15 MB of it, compressed; the peak of the whole process is asked of the kernel."""
    block = "".join(lines(3000)).encode() * 4
    packed = gzip.compress(block, 1)
    code = (
        "import resource, sys; from faultkit.messages.log import Log; log = Log(); log.read(sys.stdin.buffer); "
        "print(log.lines, log.failures, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)"
    )
    peaks = {}
    for times in (1, 12):
        ended = subprocess.run([sys.executable, "-c", code], input=packed * times, capture_output=True, check=True)
        number, failures, peaks[times] = map(int, ended.stdout.split())
        assert number == times * block.count(b"\n")
        assert failures == times * 4 * (50 + 12 + 30)
    assert peaks[12] < peaks[1] + 30_000, peaks  # kB


def test_the_command(tmp_path: Path) -> None:
    text = "".join(lines(3600)) + "2026/05/06 08:00:01 [warn] flux: connection error in space\n"
    file = tmp_path / "error.log"
    file.write_text(text)
    ended = faultkit("which", "--log", str(file))
    assert (ended.returncode, ended.stderr) == (0, "")
    assert "108 failures of 3 kinds" in " ".join(ended.stdout.split())
    assert "Every 60 s" in ended.stdout and "a restart?" in ended.stdout
    assert "1 line looks like failures" in ended.stdout
    assert all(len(line) <= 80 for line in ended.stdout.splitlines())
    document = json.loads(faultkit("which", "--log", "-", "--json", input=text).stdout)
    assert (document["failures"], document["lines"], len(document["unknown"])) == (108, text.count("\n"), 1)
    assert document["kinds"][0]["causes"][0]["cause"] == "keepalive-race"


def test_no_finding_is_a_finding(tmp_path: Path) -> None:
    file = tmp_path / "a.log"
    file.write_text("all is well\n" * 5)
    ended = faultkit("which", "--log", str(file))
    assert (ended.returncode, ended.stdout) == (0, "5 lines, 60 bytes: no failure that is known.\n")


@pytest.mark.parametrize(
    "typed", [["--log", "/no/such"], ["stray.log"], ["--log", "-", "--saw", "recv EOF"], ["--log", "-", "--after-idle"]]
)
def test_what_cannot_mean_anything(typed: list[str]) -> None:
    ended = faultkit("which", *typed, input="")
    assert (ended.returncode, ended.stdout) == (2, "")


def test_rotated_logs_are_read_from_the_oldest() -> None:
    assert by_age(["a.log", "a.log.1", "b.log", "a.log.10.gz", "a.log.2.gz"]) == [
        "a.log.10.gz",
        "a.log.2.gz",
        "a.log.1",
        "a.log",
        "b.log",
    ]


@pytest.mark.parametrize("name", ["a.log", "error.log-20260506.gz"])
def test_logs_are_read_in_the_order_of_their_times(tmp_path: Path, name: str) -> None:
    """Whatever they are called, and in whatever order they are named: what comes each minute goes on over the end of each."""
    files = []
    for number in range(3):
        at = START + datetime.timedelta(minutes=5 * number)
        text = "".join(
            RESET.format(at=f"{at + datetime.timedelta(minutes=n):%Y/%m/%d %H:%M:%S}", n=n, host=1) for n in range(5)
        )
        file = tmp_path / f"{'cab'[number]}{name}"
        file.write_bytes(gzip.compress(text.encode()) if name.endswith("gz") else text.encode())
        files.append(str(file))
    document = json.loads(faultkit("which", "--log", files[2], files[0], files[1], "--json").stdout)
    assert document["kinds"][0]["every"] == 60
    assert document["end"] - document["begin"] == 14 * 60
    assert document["kinds"][0]["example"].startswith("2026/05/06 07:00:00")


ENCODINGS = ("utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "utf-32", "utf-32-le", "utf-32-be")


@pytest.mark.parametrize("encoding", ENCODINGS)
@pytest.mark.parametrize("first", ["", "Ü ö", "连接 日志", "\U0001f600 " * 3])
def test_every_encoding_with_and_without_a_mark(encoding: str, first: str) -> None:
    for number in (1, 2, 16, 300):
        for end in ("\n", "\r\n"):
            text = "".join(RESET.format(at="2026/05/06 07:00:00", n=n, host=1) for n in range(number))
            log = read((first + "\n" + text).replace("\n", end).encode(encoding))
            assert (log.lines, log.failures) == (number + 1, number), (number, end)


ONE = RESET.format(at="2026/05/06 07:00:00", n=1, host=1).encode()


@pytest.mark.parametrize(
    ("data", "lines_", "failures"),
    [
        (b"\0" * 5000 + b"\n" + ONE * 16 + b"\0" * 4000, 18, 16),  # what a log that was cut while open has
        (ONE.replace(b"\n", b"\n\0\0\0") * 16, 17, 16),
        ((ONE * 16).replace(b"\n", b"\r"), 16, 16),
        (ONE * 15 + ONE.rstrip(), 16, 16),
        (b"x" * 5_000_000 + b"\n" + ONE * 16, 17, 16),
        (b"y " * 1_000_000 + b"Connection reset by peer " + b"z " * 1_000_000 + b"\n" + ONE, 2, 2),
        (bytes(range(256)) * 8000 + b"\n" + ONE, 8002, 1),
        (b"", 0, 0),
    ],
)
def test_what_is_hardly_a_text(data: bytes, lines_: int, failures: int) -> None:
    log = read(data)
    assert (log.lines, log.failures, log.damaged) == (lines_, failures, [])


def test_a_packed_log_that_is_cut_is_read_as_far_as_it_goes() -> None:
    packed = gzip.compress(ONE * 4_000)
    for end in (len(packed) // 2, len(packed) - 4):
        log = read(packed[:end])
        assert log.failures > 1000 and len(log.damaged) == 1


@pytest.mark.parametrize(
    ("data", "sentence"),
    [
        (b"\xfd7zXZ\0" + b"x" * 50, "compressed with xz, no log: xz -dc a.log | faultkit which --log -"),
        (b"PK\x03\x04" + b"x" * 50, "a zip archive, no log"),
        (b"\xd4\xc3\xb2\xa1" + b"\0" * 50, "a capture of packets: faultkit explain"),
    ],
)
def test_what_is_no_log_is_said_to_be_that(tmp_path: Path, data: bytes, sentence: str) -> None:
    file = tmp_path / "a.log"
    file.write_bytes(data)
    ended = faultkit("which", "--log", str(file))
    assert (ended.returncode, ended.stdout, ended.stderr.count("\n")) == (2, "", 1)
    assert sentence in ended.stderr.replace(str(file), "a.log")


def test_what_a_terminal_would_obey_is_escaped(tmp_path: Path) -> None:
    log = tmp_path / "app.log"
    log.write_bytes(b"2026-01-02 03:04:05 read \x1b[2JECONNRESET \x1b]0;x\x9b31m\x00\n")
    told = faultkit("which", "--log", str(log)).stdout
    assert "ECONNRESET" in told
    assert all(letter.isprintable() or letter == "\n" for letter in told)


def _told(log: Log) -> list[tuple[str, int]]:
    return sorted((kind.reading.told.told, kind.count) for kind in log.kinds.values() if kind.reading.told)


def test_lines_that_differ_in_a_number_that_tells_are_no_same() -> None:
    log = read("".join(f"app: read failed, errno: -{number}\n" for number in (104, 110, 104)).encode())
    assert _told(log) == [("recv ECONNRESET", 2), ("recv ETIMEDOUT", 1)]
    row = '192.0.2.{} - - [20/Nov/2026:14:00:{}0 +0000] "GET /a HTTP/1.1" {} 612 "-" "it says connection refused"\n'
    log = read("".join(row.format(n, n, status) for n, status in enumerate((200, 502, 200, 499, 504, 502))).encode())
    assert _told(log) == [
        ("EOF", 1),
        ("bad gateway", 2),
        ("own timer: first byte", 1),
    ]


def test_a_stack_trace_has_the_time_of_the_line_above_it() -> None:
    trace = (
        "2026-11-20 14:{:02}:00.456 ERROR 7 --- [exec-1] c.e.PayService : payment 17 failed\n"
        'I/O error on POST request for "http://pay.example:8080/pay": pay.example:8080 failed to respond; nested exception is '
        "org.apache.http.NoHttpResponseException: pay.example:8080 failed to respond\n"
        "\tat c.e.PayService.pay(PayService.java:20)\n"
    )
    (kind,) = read("".join(trace.format(minute) for minute in range(10)).encode()).kinds.values()
    assert (kind.count, kind.times.first, kind.times.last) == (10, 1795183200.456, 1795183740.456)
    again = "2026-11-20 14:{:02}:09.000  INFO 7 --- [exec-1] c.e.PayService : again\n"
    (kind,) = read("".join((trace + again).format(minute, minute) for minute in range(10)).encode()).kinds.values()
    assert kind.since == 60


def test_seconds_since_1970_as_brokers_write_them() -> None:
    lines = b"1714979289: Client s1 has exceeded timeout, disconnecting.\n"
    lines += b"%3|1714979299.864|FAIL|rdkafka#producer-1| [thrd:k1:9092/1]: k1:9092/1: Receive failed: Disconnected\n"
    assert (read(lines).begin, read(lines).end) == (1714979289.0, 1714979299.864)


@pytest.mark.parametrize(
    "line",
    [
        "frobd: peer link to 10.9.9.9:7 dropped unexpectedly, host unreachable for us",
        "frobd: the server at 10.9.9.9:7 hung up",
        "frobd: upstream node-3 is not responding",
        "frobd: request to backend b3 timed out after 30 s",
    ],
)
def test_what_looks_like_a_failure_is_counted(line: str) -> None:
    log = read(f"{line}\n".encode() * 3)
    assert [kind.count for kind in log.kinds.values()] == [3], log.kinds


@pytest.mark.parametrize("separators", [(",", ":"), (", ", ": ")])
def test_what_journald_writes_as_bytes_is_text(separators: tuple[str, str]) -> None:
    said = (
        "read tcp 10.0.0.1:400->10.0.4.9:443: read: connection reset by peer",
        "dial tcp 10.0.4.9:443: connect: connection refused, and again",
    )
    rows = [
        {"__REALTIME_TIMESTAMP": "1795183200000000", "MESSAGE": list(f"\x1b[31m{text:<70}".encode())} for text in said
    ]
    log = read("".join(json.dumps(row, separators=separators) + "\n" for row in rows).encode())
    assert _told(log) == [("connect ECONNREFUSED", 1), ("recv ECONNRESET", 1)]
