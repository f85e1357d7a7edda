"""`faultkit which --message`, as it is typed."""

from __future__ import annotations

import json

import pytest

from tests.shell import faultkit


def test_the_command() -> None:
    ended = faultkit("which", "--message", "curl: (56) Recv failure: Connection reset by peer")
    assert (ended.returncode, ended.stderr) == (0, "")
    assert ended.stdout.startswith("curl says: recv ECONNRESET as a client")
    assert "linger" in ended.stdout and "faultkit crash" in ended.stdout
    commands = {question["command"] for question in json.loads(faultkit(*ended.args[3:], "--json").stdout)["next"]}
    assert commands and all(len(line) <= 80 or line.strip() in commands for line in ended.stdout.splitlines())
    pasted = "curl: (52) Empty reply from server\n"
    document = json.loads(faultkit("which", "--message", "-", "--json", input=pasted).stdout)
    assert document["told"] == "EOF before any answer"
    assert "keepalive-race" in [cause["cause"] for cause in document["causes"]]


def test_an_unknown_message_shows_the_way_on() -> None:
    ended = faultkit("which", "--message", "the cat sat on the mat")
    assert (ended.returncode, ended.stderr) == (1, "")
    assert "--saw" in ended.stdout and "docs/debugging.md" in ended.stdout and "nearest" not in ended.stdout


def test_a_log_is_no_message() -> None:
    ended = faultkit("which", "--message", "-", input="x" * 70_000)
    assert (ended.returncode, ended.stdout) == (2, "")
    assert "which: --message has more than 65536 characters" in ended.stderr


@pytest.mark.parametrize("typed", [["--message", " "], ["--message", "x", "--saw", "recv EOF"]])
def test_what_cannot_mean_anything(typed: list[str]) -> None:
    ended = faultkit("which", *typed)
    assert (ended.returncode, ended.stdout) == (2, "")
