"""An error is one sentence on one line, whatever was typed; and it is the error that happened."""

from __future__ import annotations

import json
import os
import pickle
import subprocess
import sys
from typing import Any

import pytest

from faultkit.errors import Exhausted, Misuse, Unable, exhausted, one_line
from tests.ordinary import CHECKOUT
from tests.shell import ENVIRONMENT, faultkit


@pytest.mark.parametrize("seed", range(4))
def test_whatever_is_typed_is_refused_in_one_line(seed: int) -> None:
    argv = [sys.executable, "-m", "tests.commands.lines", str(seed), "1000", "60"]
    ended = subprocess.run(argv, capture_output=True, text=True, cwd=CHECKOUT, timeout=120, check=True)
    told = json.loads(ended.stdout)
    assert told["wrong"] == []
    assert told["typed"] > 100


@pytest.mark.parametrize(
    ("typed", "sentence"),
    [
        (
            ["linger", "--unsent", "7\r\n8"],
            "linger: Invalid value for '--unsent': 7\\r\\n8 is not a whole number (faultkit linger --help)",
        ),
        (["lin\x1b[31mger"], "there is no cause 'lin\\x1b[31mger': did you mean linger?"),
        (
            ["linger", "--pcap", "/nowhere/\x07"],
            "linger: --pcap /nowhere/\\x07 cannot be written (No such file or directory): ",
        ),
        (["nest", "30", "a\nb"], "nest: server: 'a\\nb' is not a duration: write 65, 65s, 500ms, 2m or 1m30s"),
        (
            ["linger", "--pcap", b"/nowhere/\xff"],
            "linger: --pcap /nowhere/\\xff cannot be written (No such file or directory): ",
        ),
    ],
)
def test_what_was_typed_is_shown_escaped(typed: list[Any], sentence: str) -> None:
    ended = faultkit(*typed)
    assert (ended.returncode, ended.stdout) == (2, "")
    assert ended.stderr.startswith(f"faultkit: {sentence}")
    assert ended.stderr[:-1].isprintable()


def test_a_long_value_loses_its_middle_and_nothing_else() -> None:
    ended = faultkit("linger", "--unsent", "x" * 10_000)
    assert ended.stderr == (
        f"faultkit: linger: Invalid value for '--unsent': {'x' * 37}...{'x' * 20} is not a whole number "
        "(faultkit linger --help)\n"
    )
    assert one_line("a" * 300) == "a" * 300
    assert len(one_line("word " * 1000)) == 300
    assert one_line("word " * 1000 + "at the end").endswith("at the end")


def test_a_refusal_in_python_is_one_line_too() -> None:
    refusal = Misuse("'a\nb' is " + "x" * 1000 + ": leave it out")
    assert str(refusal) == "'a\\nb' is " + "x" * 37 + "..." + "x" * 19 + ": leave it out"
    for one in (refusal, Unable("no \x1b here")):
        assert str(pickle.loads(pickle.dumps(one))) == str(one)


# What nobody foresaw

BROKEN = """
import sys
from faultkit.views import catalogue
from faultkit.commands.line.main import main
def show(*arguments):
    {}
catalogue.show = show
sys.argv = ["faultkit", "list"]
main()
"""


def broken(statement: str) -> subprocess.CompletedProcess[str]:
    argv = [sys.executable, "-c", BROKEN.format(statement)]
    return subprocess.run(argv, capture_output=True, text=True, cwd=CHECKOUT, env=ENVIRONMENT, timeout=60)


GROUP = "raise ExceptionGroup('x', [ExceptionGroup('y', [{}]), ValueError()])"
WRITING = "print('x' * 100_000)"


@pytest.mark.parametrize(
    ("statement", "said"),
    [
        ("open('/nowhere/file')", "FileNotFoundError: [Errno 2] No such file or directory: '/nowhere/file'"),
        ("raise BrokenPipeError(32, 'Broken pipe')", "BrokenPipeError: [Errno 32] Broken pipe"),
        ("raise EOFError('nothing')", "EOFError: nothing"),
        ("raise BlockingIOError(11, 'Try again')", "BlockingIOError: [Errno 11] Try again"),
        ("raise ValueError('a\\nb')", "ValueError: a\\nb"),
        (GROUP.format("OSError(5, 'x')"), "ExceptionGroup: x (2 sub-exceptions)"),
    ],
)
def test_what_nobody_foresaw_is_a_traceback_and_exit_status_70(statement: str, said: str) -> None:
    ended = broken(statement)
    assert (ended.returncode, ended.stdout) == (70, "")
    *lines, last = ended.stderr.splitlines()
    assert any("Traceback (most recent call last)" in line for line in lines)
    assert last == (
        f"faultkit: nobody foresaw this: {said}: please report it, with the lines above and with what you typed"
    )


@pytest.mark.parametrize(
    ("raised", "status", "said"),
    [
        ("OSError(24, 'Too many open files')", 3, "no more than "),
        ('RuntimeError("can\'t start new thread")', 3, "no further process or thread may be started here "),
        ("ImportError('x.so: cannot open shared object file: Too many open files')", 3, "no more than "),
        ("__import__('faultkit').Misuse('leave it out')", 2, "leave it out"),
        ("__import__('faultkit').Unable('it is missing')", 3, "it is missing"),
    ],
)
def test_out_of_a_nursery_comes_what_was_said_in_it(raised: str, status: int, said: str) -> None:
    for statement in (f"raise {raised}", GROUP.format(raised)):
        ended = broken(statement)
        assert (ended.returncode, ended.stdout) == (status, "")
        assert ended.stderr.startswith(f"faultkit: {said}")
        assert ended.stderr.count("\n") == 1


def test_an_output_that_is_refused_is_told_from_everything_else() -> None:
    with open("/dev/full", "w") as full:
        ended = subprocess.run(
            [sys.executable, "-c", BROKEN.format(WRITING)], stdout=full, stderr=subprocess.PIPE, text=True, cwd=CHECKOUT
        )
    assert (ended.returncode, ended.stderr) == (3, "faultkit: the output cannot be written: No space left on device\n")


def test_an_output_that_does_not_block_is_waited_for() -> None:
    """As the pipe of a program that set O_NONBLOCK on it."""
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    argv = [sys.executable, "-c", BROKEN.format("print('x' * 1_000_000)")]
    with subprocess.Popen(argv, stdout=writer, stderr=subprocess.PIPE, text=True, cwd=CHECKOUT) as running:
        os.close(writer)
        with open(reader, "rb") as pipe:
            assert len(pipe.read()) == 1_000_001
        assert running.communicate()[1] == ""
    assert running.returncode == 0


def test_what_has_run_out_is_no_refusal() -> None:
    assert isinstance(exhausted(OSError(24, "x")), Exhausted)
    assert isinstance(exhausted(OSError(23, "x")), Exhausted)
    assert exhausted(PermissionError(1, "x")) is None
    assert exhausted(ImportError("no module")) is None
