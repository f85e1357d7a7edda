"""The ways in which faultkit refuses, each one sentence on one line. That something else was seen is no refusal but a verdict.

Beside them stands what is nobody's mistake: the end that somebody asked for.
"""

from __future__ import annotations

import _thread
import contextlib
import errno
import resource
import select
import signal
import socket
from collections.abc import Iterator

_WORD = 60  # characters of a word in a sentence that is too long; arbitrary: a path, but not the text of a book
_MISUSE, _UNABLE = 300, 1000  # characters; arbitrary: an option's value, and the packages of a dozen programs


def one_line(text: str, most: int = _MISUSE) -> str:
    """The sentence without what a terminal would obey, and not longer than that.

    Controls, line ends and what else nobody sees are escaped as in Python. Of a sentence that is too long first its long
    words lose their middle, then itself: the beginning names what is wrong, the end what to do.
    """
    shown = "".join(letter if letter.isprintable() else _escaped(letter) for letter in text)
    if len(shown) > most:
        shown = " ".join(_cut(word, _WORD) for word in shown.split(" "))
    return _cut(shown, most)


def _escaped(letter: str) -> str:
    if "\udc80" <= letter <= "\udcff":  # a byte that is no UTF-8, as Python takes it from the command line (PEP 383)
        return f"\\x{ord(letter) - 0xDC00:02x}"
    return ascii(letter)[1:-1]


def _cut(text: str, most: int) -> str:
    if len(text) <= most:
        return text
    end = most // 3
    return f"{text[: most - end - 3]}...{text[-end:]}"


class Misuse(Exception):
    """You asked for something that cannot mean anything: one sentence with value, state and next step. Exit status 2."""

    def __init__(self, sentence: str) -> None:
        super().__init__(one_line(sentence))


class Unable(Exception):
    """This machine cannot: one sentence with what is missing and the command that gets it. Exit status 3."""

    def __init__(self, sentence: str) -> None:
        super().__init__(one_line(sentence, _UNABLE))


class Exhausted(Unable):
    """A limit of this process or of the machine is reached, whatever it was about to do."""


class Unwritten(Exception):
    """Standard output has refused what was printed; why is its cause."""


class Ended(Exception):
    """A signal other than Ctrl-C ended the run, which was taken down in order. Exit status 128 + its number."""

    def __init__(self, number: int) -> None:
        super().__init__(f"ended by {signal.Signals(number).name}; nothing is left behind")
        self.status = 128 + number


def exhausted(error: BaseException) -> Exhausted | None:
    """What an error says of a limit, whichever operation met it; None for one that says something else.

    Where it is not None it takes precedence: what has run out has not been forbidden.
    """
    if isinstance(error, Exhausted):
        return error
    if isinstance(error, RuntimeError) and error.args == ("can't start new thread",):
        return _no_process()
    if isinstance(error, MemoryError):
        return Exhausted("no memory is left: allow more (ulimit -v), or end what takes it")
    if isinstance(error, ImportError):  # the dynamic linker's words for a shared object that it could not open
        return _no_descriptor() if "Too many open files" in str(error) else None
    if not isinstance(error, OSError):
        return None
    if error.errno == errno.EMFILE:
        return _no_descriptor()
    if error.errno == errno.ENFILE:
        return Exhausted("no more files may be open at once on this machine: sysctl fs.file-max, or end what has them")
    if error.errno in (errno.ENOBUFS, errno.ENOMEM):
        return Exhausted(f"the kernel has no memory left for it ({errno.errorcode[error.errno]}): end what takes it")
    return None


def refuse_green_threads() -> None:
    """Raise `Unable` where gevent or eventlet has replaced sockets, threads or select() by its own: Trio has none of that."""
    for thing in (socket.socket, _thread.start_new_thread, select.select):
        name = (getattr(thing, "__module__", None) or "").partition(".")[0]
        if name in ("gevent", "eventlet"):
            raise Unable(
                f"{name} has replaced the sockets and threads of this process by its own, and faultkit's servers need real ones: "
                "start them in a process of their own (faultkit serve, or subprocess)"
            )


def _no_descriptor() -> Exhausted:
    least, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    raised = "ulimit -n 1024" if most == resource.RLIM_INFINITY or most >= 1024 else "as root ulimit -n 1024"
    return Exhausted(f"no more than {least} files may be open at once here (ulimit -n), which is too few: {raised}")


def _no_process() -> Exhausted:
    least, _ = resource.getrlimit(resource.RLIMIT_NPROC)
    limit = "ulimit -u" if least == resource.RLIM_INFINITY else f"ulimit -u is {least}"
    return Exhausted(
        f"no further process or thread may be started here ({limit}; in a container also pids.max): allow more, or end some"
    )


@contextlib.contextmanager
def starting() -> Iterator[None]:
    """Around what starts a process or a thread, and nothing else: EAGAIN is the limit of processes then (fork(2))."""
    try:
        yield
    except (OSError, RuntimeError) as error:
        if isinstance(error, BlockingIOError):
            raise _no_process() from error
        lacking = exhausted(error)
        if lacking:
            raise lacking from error
        raise
