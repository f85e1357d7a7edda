"""The `faultkit` command: what is typed, and the exit status that it gives."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Callable, Sequence
from typing import Any, NoReturn

import click

from faultkit.commands.line.group import faultkit
from faultkit.commands.line.status import BROKEN_PIPE, INTERRUPTED, MISUSED, PRODUCED, UNABLE
from faultkit.errors import Misuse, Unable


def _say(sentence: str) -> None:
    with contextlib.suppress(OSError):  # nobody may be there to read it, and the exit status says it too
        print(f"faultkit: {sentence}", file=sys.stderr)


def _status(arguments: Sequence[str] | None, run: Callable[..., Any]) -> int:
    try:
        status = run(arguments, prog_name="faultkit", standalone_mode=False)
        sys.stdout.flush()
    except click.exceptions.Exit as ended:
        return ended.exit_code
    except click.ClickException as error:
        context = error.ctx if isinstance(error, click.UsageError) else None
        place = context.command_path.removeprefix("faultkit ") if context and context.parent else None
        message = error.format_message().rstrip(".")
        _say(f"{place}: {message} (faultkit {place} --help)" if place else f"{message} (faultkit --help)")
        return MISUSED
    except Misuse as error:
        _say(str(error))
        return MISUSED
    except Unable as error:
        _say(str(error))
        return UNABLE
    except (KeyboardInterrupt, click.Abort):
        _say("interrupted; nothing is left behind")
        return INTERRUPTED
    except SystemExit:
        return BROKEN_PIPE  # what click and rich make of one, and with a 1, which means something else here
    return status if isinstance(status, int) else PRODUCED


def _open_closed_streams() -> None:
    """Where a standard stream is closed (`>&-`) our first socket would take its number, and be given what we print."""
    for number, name, mode in ((0, "stdin", os.O_RDONLY), (1, "stdout", os.O_RDONLY), (2, "stderr", os.O_WRONLY)):
        if getattr(sys, name) is None:
            # Not writable, so that a closed stdout goes on to refuse what is printed.
            os.dup2(os.open(os.devnull, mode), number)
            setattr(sys, name, open(number, "r" if number == 0 else "w", closefd=False))  # noqa: SIM115


def main(arguments: Sequence[str] | None = None) -> NoReturn:
    """The `faultkit` command. Exit status: 0 produced, 1 seen otherwise, 2 bad usage, 3 this machine cannot, 130 Ctrl-C."""
    _open_closed_streams()
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="replace")  # an arrow on a terminal without Unicode is no reason to fail
    try:
        status = _status(arguments, faultkit.main)
    except BrokenPipeError:
        status = BROKEN_PIPE
    except OSError as error:
        _say(f"the output cannot be written: {error.strerror}")
        status = UNABLE
    try:
        sys.stdout.flush()
    except OSError:
        # Whoever read us is gone: let Python's own last flush find a reader that takes everything.
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    sys.exit(status)
