"""Writes docs/what-clients-say.md anew, from what the clients say: `python -m tests.real.page`."""

from __future__ import annotations

import difflib
import errno
import functools
import importlib.metadata
import platform
import re
import textwrap
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from tests.real import answers, stale
from tests.real.clients import CLIENTS, Client
from tests.real.errors import Link, Raised
from tests.real.faults import FAULTS, OVER_TLS
from tests.real.play import Seen, play
from tests.real.surprises import SURPRISES, Cells, Played

PAGE = Path(__file__).parents[2] / "docs/what-clients-say.md"
REGENERATE = ".venv/bin/python -m tests.real.page"

HEAD = """\
# What clients say

What HTTP and Redis clients raise when the connection fails, whether they try again by themselves, and whether they are of
use afterwards. Everything here was played on real sockets, no mocks, with `faultkit.serve` as the server, and is played
again by [tests/real/](../tests/real/) with whatever releases are installed. To write this page anew:

```sh
{regenerate}
```

## Surprises

{surprises}

## How to read it

Every client meets every fault twice, once with a GET and once with a POST that has a body; redis-py with `GET` and `INCR`.
The fault is on every connection until it is healed, and sets in at a byte or a call, never by chance:

{faults}

- **raises**: the exception that comes out of the call, by its full name, and its text; ports and addresses in memory are
  left out.
- **behind it**: how a program gets from there to the kernel's errno; where there is none, to what began it all.
- **again**: how often the client tried once more by itself, counted at connect(). "looked": it saw that its connection was
  closed, and took another before it sent anything.
- **read**: how often the server read the whole request, and so may have carried it out.
- **next**: what the next request on the same client object gives, with everything well again.

Timeouts are the client's own, for connecting and for reading, and are told with each client: short where they are to end
something (`connect-hang`, `stall`), 10 s elsewhere. TCP_USER_TIMEOUT is set through the hook that the client has for
socket options.

## At a glance

An exception by its short name, that of the POST below that of the GET where they differ; ↻3: after three more tries;
✗: the next request on the same client object fails too.

{glance}
"""


@functools.cache
def played(client: Client) -> Cells:
    """Everything with one client. At once, because most of the time goes into waiting for timeouts."""
    cells = {
        (met.name, method): functools.partial(play, client, met, method)
        for met in client.faults
        for method in client.methods
    }
    if meets_uvicorn(client):
        cells |= {("uvicorn", method): functools.partial(stale.play, client, method) for method in client.methods}
    with ThreadPoolExecutor(8) as threads:
        return dict(zip(cells, threads.map(lambda cell: cell(), cells.values()), strict=True))


def meets_uvicorn(client: Client) -> bool:
    return client.answer is answers.http and not client.tls


def everything() -> Played:
    return Played({client.name: played(client) for client in CLIENTS})


def origin(client: Client) -> str:
    """What is installed here and decides what the client says."""
    names = [*client.libraries, *(["uvicorn"] if meets_uvicorn(client) else [])]
    libraries = [f"{name} {importlib.metadata.version(name)}" for name in names]
    return ", ".join([*libraries, f"Python {platform.python_version()}"])


def table(client: Client, cells: Cells) -> list[str]:
    """A client's table, line by line: where a GET and a POST fare alike, in one."""
    lines = ["| fault | request | raises | behind it | again | read | next |", "|---|---|---|---|---|---|---|"]
    for fault in dict.fromkeys(fault for fault, _ in cells):
        by_method = {word(client, method): _row(cells[fault, method]) for method in client.methods}
        if len(set(by_method.values())) == 1:
            by_method = {", ".join(by_method): next(iter(by_method.values()))}
        lines += [f"| `{fault}` | {methods} | {row} |" for methods, row in by_method.items()]
    return lines


def word(client: Client, method: str) -> str:
    return "INCR" if method == "POST" and client.answer is answers.redis else method


def _row(seen: Seen) -> str:
    after = f"`{seen.afterwards.chain[0].kind}`" if seen.afterwards else "answered"
    columns = [_raises(seen.raised), _behind(seen.raised), _again(seen), str(seen.read), after]
    return " | ".join(columns)


def _raises(raised: Raised | None) -> str:
    if raised is None:
        return "nothing: answered"
    first = raised.chain[0]
    return f"`{first.kind}`" + (f"<br>{_code(first.message)}" if first.message else "")


def _behind(raised: Raised | None) -> str:
    if raised is None:
        return ""
    ways = [f"`.{link.where}` `{link.kind}`" for link in raised.chain[1:]]
    return "<br>".join([*ways, _errno(raised.chain[-1])])


def _errno(link: Link) -> str:
    return "no errno" if link.errno is None else f"`.errno` {errno.errorcode[link.errno]}"


def _code(text: str) -> str:
    ticks = "``" if "`" in text else "`"
    return f"{ticks}{text}{ticks}".replace("|", "\\|")


def _again(seen: Seen) -> str:
    if seen.looked:
        return "looked"
    return {0: "no", 1: "once"}.get(seen.again, f"{seen.again} times")


def glance(all_played: Played) -> str:
    """One table of all."""
    rows = dict.fromkeys(fault for cells in all_played.cells.values() for fault, _ in cells)
    lines = [f"| | {' | '.join(all_played.cells)} |", "|---|" + "---|" * len(all_played.cells)]
    for fault in rows:
        columns = []
        for cells in all_played.cells.values():
            told = dict.fromkeys(_short(seen) for (name, _), seen in cells.items() if name == fault)
            columns.append("<br>".join(told))
        lines.append(f"| `{fault}` | {' | '.join(columns)} |")
    return "\n".join(lines)


def _short(seen: Seen) -> str:
    told = seen.raised.chain[0].kind.rpartition(".")[2] if seen.raised else "answered"
    return told + (f" ↻{seen.again}" if seen.again else "") + (" ✗" if seen.afterwards else "")


def _filled(sentence: str) -> str:
    return textwrap.fill(f"- {sentence}", 120, subsequent_indent="  ", break_on_hyphens=False, break_long_words=False)


def faults() -> str:
    """The faults, and what happens in each."""
    told = {met.name: met.told for met in (*OVER_TLS[:1], *FAULTS)}
    told = {name: told[name] for name in (*(met.name for met in FAULTS), OVER_TLS[0].name)}
    told["uvicorn"] = (
        f"a real uvicorn with `timeout_keep_alive={stale.KEEP_ALIVE}` closes an idle connection over the second request"
    )
    return "\n".join(
        ["| fault | what happens |", "|---|---|", *(f"| `{name}` | {what} |" for name, what in told.items())]
    )


def section(client: Client, cells: Cells) -> Iterator[str]:
    yield f"## {client.name}"
    yield ""
    yield f"From {origin(client)}."
    yield ""
    yield (
        f"{client.set_up[0].upper()}{client.set_up[1:]}; timeouts of {client.timeout_seconds:g} s; TCP_USER_TIMEOUT by "
        f"{client.socket_options}."
    )
    yield ""
    yield from table(client, cells)


def complaint(client: Client, cells: Cells, page: str) -> str | None:
    """What the page has otherwise than it is, in a sentence and the lines; None where it is right."""
    _, _, found = page.partition(f"\n## {client.name}\n\n")
    there, _, _ = found.partition("\n## ")
    lines = [line for line in there.splitlines() if line.startswith("|")]
    differ = [line for line in difflib.unified_diff(lines, table(client, cells), n=0, lineterm="") if line[1] == "|"]
    if not differ:
        return None
    since = re.search(r"^From (.*)\.$", there, re.MULTILINE)
    return "\n".join(
        [
            f"{origin(client)} says something else than docs/what-clients-say.md, which is from "
            f"{since[1] if since else 'nothing'}; to write it anew: {REGENERATE}",
            *differ,
        ]
    )


def text(all_played: Played) -> str:
    """The whole page."""
    head = HEAD.format(
        regenerate=REGENERATE,
        surprises="\n".join(_filled(surprise.sentence) for surprise in SURPRISES),
        faults=faults(),
        glance=glance(all_played),
    )
    sections = ("\n".join(section(client, all_played.cells[client.name])) for client in CLIENTS)
    return "\n".join([head, "\n\n".join(sections), ""])


if __name__ == "__main__":
    for surprise in SURPRISES:
        if not surprise.holds(everything()):
            raise SystemExit(f"tests/real/surprises.py: this is not so any more, write it anew: {surprise.sentence}")
    PAGE.parent.mkdir(exist_ok=True)
    PAGE.write_text(text(everything()))
