"""What an exception says of itself: its type and message, and where the errno is."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass

Steps = list[tuple[str, BaseException]]  # how to get there from the one before, and what is there

# What differs from run to run, and from one Python to the next.
_PASSING = (
    (re.compile(r"(127\.0\.0\.1:|port=|', )\d{4,5}\b"), r"\1PORT"),
    (re.compile(r"0x[0-9a-f]+"), "0x…"),
    (re.compile(r"\(_ssl\.c:\d+\)"), "(_ssl.c)"),
)


@dataclass(frozen=True)
class Link:
    """One exception of a chain."""

    where: str  # how to get there from the one before: "__cause__", "args[1]"
    kind: str  # its full dotted name
    message: str
    errno: int | None


@dataclass(frozen=True)
class Raised:
    """What a client raised: the exception itself, and the way to the one that has the errno or began it all."""

    chain: tuple[Link, ...]

    @property
    def errno(self) -> int | None:
        return self.chain[-1].errno

    @property
    def path(self) -> str:
        """How a program gets at that last one: `error.args[0].__context__`."""
        return ".".join(["error", *(link.where for link in self.chain[1:])])


def raised(error: BaseException) -> Raised:
    """The shortest way to an errno, by what was meant to lead there if it does (`raise ... from`, `args`); where there is
    none, the way to what began it all."""
    way = _way(error, _meant)
    if _errno(way[-1][1]) is None:
        way = _way(error, _all)
    return Raised(tuple(_link(where, link) for where, link in way))


def _way(error: BaseException, further: Callable[[BaseException], Steps]) -> Steps:
    ways: list[Steps] = [[("", error)]]
    seen = {id(error)}
    for way in ways:  # grows meanwhile: nearest first
        here = way[-1][1]
        if _errno(here) is not None:
            return way
        for where, found in further(here):
            if id(found) not in seen:
                seen.add(id(found))
                ways.append([*way, (where, found)])
    return ways[-1]


def _meant(error: BaseException) -> Steps:
    linked = [("__cause__", error.__cause__), *((f"args[{at}]", argument) for at, argument in enumerate(error.args))]
    # Not a CancelledError: that is how asyncio's timeouts work, and nobody's reason.
    return [(where, found) for where, found in linked if isinstance(found, Exception)]


def _all(error: BaseException) -> Steps:
    context = error.__context__
    return [*_meant(error), *([("__context__", context)] if isinstance(context, Exception) else [])]


def _link(where: str, error: BaseException) -> Link:
    kind = type(error)
    name = kind.__qualname__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__qualname__}"
    message = " ".join(str(error).split())
    for passing, instead in _PASSING:
        message = passing.sub(instead, message)
    return Link(where, name, message, _errno(error))


def _errno(error: BaseException) -> int | None:
    """The kernel's, not what OpenSSL counts."""
    return error.errno if isinstance(error, OSError) and "[SSL: " not in str(error) else None
