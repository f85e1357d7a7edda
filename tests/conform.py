"""One cell of the conformance matrix, for `tests.cells`: what `check_cause` reports, or the sentence with which the machine was
found unable.

A stack is asked for as on the command line: "stack nginx-keepalive".
"""

from __future__ import annotations

import dataclasses
from typing import Any

import faultkit
from faultkit.playing import stack


def check(cause: str, times: int, ipv6: bool, on: str, options: dict[str, Any]) -> dict[str, Any]:
    try:
        kind, _, name = cause.rpartition(" ")
        report = faultkit.check_cause(stack.load(name) if kind else name, times, ipv6=ipv6, on=on, **options)  # type: ignore[arg-type]
    except faultkit.NotProduced as error:
        return {"otherwise": str(error)}
    except faultkit.Unable as error:
        return {"unable": str(error)}
    return {"report": dataclasses.asdict(report)}
