"""What each command prints on a terminal of 40, 80 and 120 columns, against what it prints in a pipe; and how it ends there."""

from __future__ import annotations

import os
import re
import signal
import subprocess

import pytest

from faultkit import causes
from faultkit.playing.producers import producers
from tests.shell import ENVIRONMENT, ROOT, faultkit, on_terminal, start
from tests.watch import until

WIDTHS = [40, 80, 120]
MESSAGE = "curl: (56) Recv failure: Connection reset by peer"
# What these print is the same each time.
SAME = [
    [],
    ["list"],
    ["which", "--saw", "recv ECONNRESET"],
    ["which", "--saw", "recv EOF", "--saw", "send EPIPE"],
    ["which", "--message", MESSAGE],
    ["which", "--message", "ETIMEDOUT"],
    ["nest", "client=30", "nginx=75/60", "gunicorn=2", "db=900"],
    ["reasons"],
    ["serve"],
    ["stack"],
    ["recipe"],
    ["doctor"],
]
COMMAND = re.compile(r"faultkit [a-z]+(?:-[a-z]+)*(?: --?[a-z0-9-]+(?: [a-z0-9]+(?:-[a-z0-9]+)*)?)*")


def plain(told: str) -> str:
    return re.sub("\x1b\\[[0-9;?]*[a-zA-Z]", "", told)


def words(told: str) -> set[str]:
    return {word.rstrip(";") for word in told.split()}


def fits(told: str, width: int) -> None:
    """No line is wider than that, but one that is a command alone: the terminal folds it, and it is copied in one piece."""
    for shown in told.splitlines():
        alone = re.sub(r"^[\w, -]*: (?=faultkit )", "", shown.strip())
        command = alone.startswith(("faultkit ", "tcpdump ", "ss ", "curl ", "journalctl "))
        assert len(shown.rstrip()) <= width or (command and shown.startswith(" ")), shown


@pytest.mark.parametrize("typed", SAME, ids=" ".join)
def test_no_word_and_no_command_is_broken(typed: list[str]) -> None:
    piped = faultkit(*typed).stdout
    commands = COMMAND.findall(piped)
    for width in WIDTHS:
        told = plain(on_terminal(*typed, columns=width)[1])
        fits(told, width)
        assert words(piped) <= words(told), width
        assert words(told) - words(piped) <= {"says:"}
        for one in commands:
            assert one in told, width


def test_each_command_that_is_to_be_copied_is_whole_in_a_pipe() -> None:
    told = faultkit("reasons").stdout.splitlines()
    for producer in (one for several in producers().values() for one in several):
        assert f"    faultkit {producer.typed}" in told
    found = faultkit("which", "--saw", "recv ECONNRESET").stdout
    shown = [shown for shown in found.splitlines() if "faultkit" in shown]
    assert len(shown) == found.count("shown by:") or "shown by:\n" in found
    assert "faultkit keepalive-race --timeout 50" in found


def test_grep_finds_a_cause() -> None:
    for typed in (["list"], ["serve"]):
        found = [shown for shown in faultkit(*typed).stdout.splitlines() if "keepalive-race" in shown]
        assert found
        assert all("HTTP idle expiry: a request crosses the server's close" in shown for shown in found)


@pytest.mark.parametrize("width", WIDTHS)
def test_a_run_fits(width: int) -> None:
    for typed in (["linger"], ["linger", "--packets"], ["linger", "--repeat", "2"], ["reject", "--at", "established"]):
        status, told = on_terminal(*typed, columns=width)
        told = re.sub(r"\r[^\n]*\r", "", plain(told))  # the bar, which is gone
        assert status == 0
        fits(told, width)
    status, told = on_terminal("linger", columns=width)
    told = plain(told)
    assert "recv → ECONNRESET" in told
    for name in ("TcpExtTCPAbortOnData", "TcpEstabResets", "ECONNRESET", "EPIPE", "SO_LINGER", "setsockopt"):
        assert name in told


def test_a_tour_fits_80_columns_and_says_now_and_then_where_it_is() -> None:
    ended = faultkit("tour")
    assert ended.returncode == 0
    said = ended.stderr.splitlines()
    assert said
    assert all(re.fullmatch(r"faultkit: tour: \d+ of \d+(, now [a-z-]+)?", one) for one in said)
    rows = {name: one for one in ended.stdout.splitlines() for name in causes.names() if f" {name} " in one}
    assert set(rows) == set(causes.names())
    assert "recv ECONNRESET" in rows["linger"]
    status, told = on_terminal("tour", columns=80)
    told = plain(told).rpartition("\r")[2]
    assert status == 0
    fits(told, 80)
    names = re.compile(r"[A-Z][A-Z0-9]+(?:_[A-Z0-9]+)+|E[A-Z]{3,}")
    assert set(causes.names()) <= words(told)
    assert set(names.findall(told)) == set(names.findall(ended.stdout))


# Where signs cannot be said

ASCII = ENVIRONMENT | {"PYTHONIOENCODING": "ascii"}


def test_verdict_and_direction_in_ascii() -> None:
    told = faultkit("linger", env=ASCII).stdout
    assert "ok Produced as promised." in told
    assert "recv -> ECONNRESET" in told
    assert re.search(r"- SYN seq=0 -+>", told)
    assert re.search(r"<-+ RST,ACK seq=1 ack=2 -", told)
    assert all(len(shown) <= 80 for shown in told.splitlines())
    nested = faultkit("nest", "30", "60", "60", env=ASCII).stdout
    assert "  ok client 30 s < proxy 60 s: 30 s apart" in nested
    assert "  not ok proxy 60 s not < server 60 s: equal" in nested
    assert re.search(r"\d+ -> \d+ \[RST, ACK\]", faultkit("linger", "--packets", env=ASCII).stdout)
    for typed in (*SAME, ["linger"]):
        told = faultkit(*typed, env=ASCII).stdout
        assert told.isascii()
        assert told.count("?") == faultkit(*typed).stdout.count("?")  # a question asks with one
        assert "\\u" not in told


# How it ends

ENDS = [signal.SIGINT, signal.SIGTERM, signal.SIGQUIT, signal.SIGHUP]
WAITS = [
    (["tour"], "3/"),
    (["keepalive-timeout", "--keepalive", "30000"], "keepalive probe"),
    (["linger", "--repeat", "100000"], "20/100000"),
    (["clients", "curl"], "1/"),
    *([(["reasons", "--check"], "2/")] if ROOT else []),
]


@pytest.mark.parametrize("number", ENDS)
@pytest.mark.parametrize(("typed", "shown"), WAITS, ids=[typed[0] for typed, _ in WAITS])
def test_a_terminal_is_as_it_was(typed: list[str], shown: str, number: signal.Signals) -> None:
    sent = False

    def end(told: bytes, group: int) -> None:
        nonlocal sent
        if not sent and shown.encode() in told:
            sent = True
            os.killpg(group, number)  # as a terminal does: to all of them

    status, text = on_terminal(*typed, columns=80, meanwhile=end)
    assert (sent, status) == (True, 128 + number)
    assert text.rfind("\x1b[?25h") > text.rfind("\x1b[?25l") >= 0
    bar, _, rest = text.rpartition("\x1b[2K")  # erases the bar's line
    assert "\x1b[1A" in bar[-10:]
    how = "interrupted" if number == signal.SIGINT else f"ended by {number.name}"
    assert rest.replace("\x1b[?25h", "").strip() == f"faultkit: {how}; nothing is left behind"


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGQUIT, signal.SIGHUP])
def test_in_the_background_of_a_script_ctrl_c_is_nothing_and_other_signals_end_it(number: signal.Signals) -> None:
    running = start(
        "keepalive-timeout",
        "--keepalive",
        "30000",
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_IGN),
    )
    handled = 1 << (number - 1)

    def caught() -> bool:
        with open(f"/proc/{running.pid}/status") as status:
            return bool(int(dict(one.split(":") for one in status)["SigCgt"], 16) & handled)

    until(caught, running)
    running.send_signal(signal.SIGINT)
    with pytest.raises(subprocess.TimeoutExpired):
        running.wait(1)
    running.send_signal(number)
    output, complaint = running.communicate(timeout=20)
    assert (running.returncode, output) == (128 + number, "")
    assert complaint == f"faultkit: ended by {number.name}; nothing is left behind\n"
