"""The `faultkit` command: what is typed, and the exit status that it gives."""

from __future__ import annotations

import contextlib
import os
import sys
import traceback
from collections.abc import Iterator, Sequence
from typing import NoReturn

import click

from faultkit.commands.line import streams
from faultkit.commands.line.completion import VARIABLE
from faultkit.commands.line.group import Interior, faultkit
from faultkit.commands.line.status import BROKEN_PIPE, INTERRUPTED, MISUSED, PRODUCED, UNABLE, UNFORESEEN
from faultkit.errors import Ended, Misuse, Unable, Unwritten, exhausted, one_line
from faultkit.views.console import remark


def main(arguments: Sequence[str] | None = None) -> NoReturn:
    """The `faultkit` command. Exit status: 0 produced, 1 seen otherwise, 2 bad usage, 3 this machine cannot, 70 nobody
    foresaw it, 130 Ctrl-C, 128 + its number another signal, 141 nobody reads the output any more."""
    streams.prepare()
    if VARIABLE in os.environ:  # a shell asks
        faultkit.main(arguments, prog_name="faultkit", complete_var=VARIABLE)
    sys.exit(run(arguments))


def run(arguments: Sequence[str] | None = None) -> int:
    """Do what is typed, say what is to be said of an error, and give the exit status."""
    try:
        status = faultkit.main(arguments, prog_name="faultkit", standalone_mode=False)
        sys.stdout.flush()
    except SystemExit:
        return BROKEN_PIPE  # what rich makes of one on standard error, and with a 1, which means something else here
    except BaseException as error:
        status = _told(error, sys.argv[1:] if arguments is None else arguments)
        with contextlib.suppress(Unwritten, OSError):
            sys.stdout.flush()
    return status if isinstance(status, int) else PRODUCED


def _told(error: BaseException, arguments: Sequence[str]) -> int:
    """Say what it means, and give the exit status."""
    match first(error):
        case click.exceptions.Exit(exit_code=status):
            return int(status)
        case click.ClickException() as refusal:
            _say(_in_words(refusal, arguments))
            return MISUSED
        case Misuse() as refusal:
            _say(str(refusal))
            return MISUSED
        case Unwritten(__cause__=BrokenPipeError()):
            return BROKEN_PIPE
        case (Unable() | Unwritten()) as refusal:
            _say(str(refusal))
            return UNABLE
        case Ended() as ended:
            streams.hurry()
            _say(str(ended))
            return ended.status
        case KeyboardInterrupt() | click.Abort():
            streams.hurry()
            _say("interrupted; nothing is left behind")
            return INTERRUPTED
        case other:
            with contextlib.suppress(OSError):
                traceback.print_exception(other)
            said = traceback.format_exception_only(other)[-1].strip()
            _say(
                f"nobody foresaw this: {one_line(said)}: please report it, with the lines above and with what you typed"
            )
            return UNFORESEEN


def first(error: BaseException) -> BaseException:
    """Of errors that came together out of a nursery the one that says most; of a limit that is reached, what reached it."""
    if isinstance(error, Interior):
        assert error.__cause__
        error = error.__cause__
    alone = list(_leaves(error))
    for kind in (KeyboardInterrupt, Ended, Misuse, Unable, Unwritten):
        for leaf in alone:
            if isinstance(leaf, kind):
                return leaf
    return next(filter(None, map(exhausted, alone)), alone[0] if len(alone) == 1 else error)


def _leaves(error: BaseException) -> Iterator[BaseException]:
    if isinstance(error, BaseExceptionGroup):
        for one in error.exceptions:
            yield from _leaves(one)
    else:
        yield error


def _in_words(refusal: click.ClickException, arguments: Sequence[str]) -> str:
    """What click found, and where to read on."""
    if isinstance(refusal, click.NoSuchOption) and not refusal.option_name.startswith("--"):
        # Of -nope click tells the first letter.
        typed = next((one for one in arguments if one.startswith(refusal.option_name)), refusal.option_name)
        refusal = click.NoSuchOption(typed, possibilities=refusal.possibilities, ctx=refusal.ctx)
    context = refusal.ctx if isinstance(refusal, click.UsageError) else None
    place = context.command_path.removeprefix("faultkit ") if context and context.parent else None
    message = one_line(refusal.format_message().rstrip("."))
    return f"{place}: {message} (faultkit {place} --help)" if place else f"{message} (faultkit --help)"


def _say(sentence: str) -> None:
    remark(f"faultkit: {one_line(sentence, 1000)}")
