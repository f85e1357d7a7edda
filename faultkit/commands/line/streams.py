"""The standard streams: what standard output refuses is said to be that, and nothing else is."""

from __future__ import annotations

import contextlib
import io
import os
import select
import stat
import sys
import time
from typing import IO, TYPE_CHECKING

from faultkit.errors import Unwritten
from faultkit.views import signs

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer


PATIENCE = 0.5  # seconds for what is still to be written when a run was ended; arbitrary


class _Output(io.FileIO):
    """File descriptor 1. After the first refusal nothing more is tried: what is still buffered would be refused again."""

    refused = False
    deadline: float | None = None  # until then somebody must have read

    def __init__(self) -> None:
        super().__init__(1, "w", closefd=False)

    def write(self, data: ReadableBuffer, /) -> int:
        data = memoryview(data)
        if self.deadline is not None and not self.refused:
            left = max(0, self.deadline - time.monotonic())
            self.refused = not select.select([], [1], [], left)[1]
            data = data[: select.PIPE_BUF]  # so much does not block a pipe then (poll(2))
        if self.refused:
            return data.nbytes
        try:
            # Whoever started us may have made it non-blocking.
            while (written := super().write(data)) is None:
                select.select([], [1], [])
        except OSError as error:
            self.refused = True
            raise Unwritten(f"the output cannot be written: {error.strerror}") from error
        return int(written)


def write(text: str) -> None:
    """All of it to standard output and past its buffer, from any thread. Raises `Unwritten`.

    A thread that is left behind in here holds no lock that is wanted when Python ends.
    """
    output = sys.stdout
    output.flush()
    left = memoryview(text.encode(output.encoding, output.errors or "strict"))
    raw = _Output()
    while left:
        left = left[raw.write(left) :]


def hurry() -> None:
    """The run was ended: what is still to be written is given a moment, and then given up."""
    raw = getattr(getattr(sys.stdout, "buffer", None), "raw", None)
    if isinstance(raw, _Output):
        raw.deadline = time.monotonic() + PATIENCE


def prepare() -> None:
    """Make them fit for us. To be called once, before anything is printed."""
    _open_closed()
    with contextlib.suppress(OSError, AttributeError):  # in a test there may be something else in its place
        if sys.stdout.fileno() == 1:
            sys.stdout = io.TextIOWrapper(
                io.BufferedWriter(_Output()),
                encoding=sys.stdout.encoding,
                line_buffering=bool(sys.stdout.line_buffering),
            )
    # An arrow on a terminal without Unicode is no reason to fail. A console says it in words.
    signs.escaped(sys.stdout)
    signs.in_words(sys.stderr)


def _open_closed() -> None:
    """Where a standard stream is closed (`>&-`) our first socket would take its number, and be given what we print."""
    for number, name, mode in ((0, "stdin", os.O_RDONLY), (1, "stdout", os.O_RDONLY), (2, "stderr", os.O_WRONLY)):
        if getattr(sys, name) is None:
            # Not writable, so that a closed stdout goes on to refuse what is printed.
            os.dup2(os.open(os.devnull, mode), number)
            setattr(sys, name, open(number, "r" if number == 0 else "w", closefd=False))  # noqa: SIM115


def size(stream: IO[bytes]) -> int | None:
    """Bytes of a file; None where nobody knows."""
    mode = os.fstat(stream.fileno())
    return mode.st_size if stat.S_ISREG(mode.st_mode) else None
