"""Plays the whole catalogue, every variant of every cause once, and tells what came of it; part of .ci/kernels.

    catalogue.py play [BEGINNING...]   here, as this user: a line for each whose command begins so, or for all
    catalogue.py show                  such lines on standard input, for a person
    catalogue.py table FILE...         what they come to; exit status 1 where one is not as promised

A line is a JSON document after a mark, because a console that is shared with a kernel says other things too.
"""

from __future__ import annotations

import json
import multiprocessing
import os
import platform
import pwd
import sys
import time
import traceback
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

MARK = "@cell "
PROMISED, CANNOT, AGAIN, OTHERWISE = "as promised", "cannot be here", "played again", "not as promised"
ENDS = (PROMISED, CANNOT, OTHERWISE)
AT_A_TIME = 3  # arbitrary: more are late on an emulated processor

# What a kernel has not: the beginning of its release, and of the command. docs/kernels.md says why.
ABSENT = (("5.10.", "mptcp"),)


def play(beginnings: list[str]) -> None:
    """Some at a time, because most wait for a clock; what comes out otherwise beside others is played again, alone."""
    import dpkt  # noqa: F401 once, and not in each child

    from faultkit import causes
    from faultkit.cause import checked, typed
    from faultkit.playing import check, run  # noqa: F401
    from faultkit.stage import conntrack, firewall, forge, neighbour, processes  # noqa: F401
    from faultkit.witness import tap  # noqa: F401

    asked = [
        (cause.name, typed(cause, checked(cause, dict(variant))), dict(variant))
        for cause in causes.by_family()
        for variant in cause.variants
    ]
    asked = [one for one in asked if not beginnings or one[1].startswith(tuple(beginnings))]
    again = []
    with multiprocessing.get_context("fork").Pool(AT_A_TIME) as pool:
        for one in pool.imap_unordered(cell, asked):
            if one["end"] == OTHERWISE:
                one["end"] = AGAIN
                again.append(next(each for each in asked if each[1] == one["command"]))
            print(MARK + json.dumps(one), flush=True)
    for one in map(cell, again):
        print(MARK + json.dumps(one), flush=True)


def cell(asked: tuple[str, str, dict[str, Any]]) -> dict[str, Any]:
    from faultkit import NotProduced, Unable, check_cause

    cause, command, variant = asked
    began = time.monotonic()
    kernel, end, said = platform.release(), PROMISED, ""
    absent = any(kernel.startswith(release) and command.startswith(words) for release, words in ABSENT)
    try:
        check_cause(cause, 1, **variant)
    except Unable as refusal:
        end, said = CANNOT if absent else OTHERWISE, str(refusal)
    except NotProduced as otherwise:
        end, said = OTHERWISE, str(otherwise)
    except Exception:
        end, said = OTHERWISE, traceback.format_exc()
    return {
        "kernel": kernel,
        "user": pwd.getpwuid(os.geteuid()).pw_name,
        "command": command,
        "end": end,
        "said": said,
        "seconds": round(time.monotonic() - began, 1),
    }


def cells(lines: Iterable[str]) -> Iterator[dict[str, Any]]:
    for line in lines:
        _, mark, document = line.partition(MARK)
        if not mark:
            continue
        try:
            yield json.loads(document)
        except ValueError:  # the kernel spoke in the middle of it: the sums show that one is missing
            print(line.rstrip(), file=sys.stderr)


def show() -> None:
    for one in cells(iter(sys.stdin.readline, "")):
        print(f"{one['end']:15}  {one['user']:6}  {one['seconds']:5.1f} s  {one['command']}", flush=True)
        for line in one["said"].splitlines():
            print(f"    {line}", flush=True)


def table(files: list[str]) -> bool:
    """Is all as promised, and has each kernel played the same number for each of both users?"""
    found = [one for file in files for one in cells(Path(file).read_text(errors="replace").splitlines())]
    counts = Counter((one["kernel"], one["user"], one["end"]) for one in found)
    sums = Counter((one["kernel"], one["user"]) for one in found if one["end"] in ENDS)
    print("\n" + f"{'kernel':24} {'user':8}" + "".join(f"{end:>18}" for end in (*ENDS, AGAIN)))
    for kernel, user in sums:
        print(f"{kernel:24} {user:8}" + "".join(f"{counts[kernel, user, end]:18}" for end in (*ENDS, AGAIN)))
    whole = len(sums) == 2 * len(files) and len(set(sums.values())) == 1
    if not whole:
        print("not every kernel has played everything for both users")
    return whole and not any(one["end"] == OTHERWISE for one in found)


def main() -> int:
    verb, *rest = sys.argv[1:]
    if verb == "play":
        play(rest)
    elif verb == "show":
        show()
    else:
        return 0 if table(rest) else 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
