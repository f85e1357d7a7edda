"""Runs one function in a forked child, as root or an ordinary user: who enters a namespace never comes back."""

from __future__ import annotations

import json
import os
import pwd
import traceback
import warnings
from collections.abc import Callable
from typing import Any

from tests.ordinary import become


def in_child(function: Callable[[], Any], user: str = "") -> Any:
    """What the function gave (as JSON can carry it); what it raised fails the test, with the child's traceback."""
    reader, writer = os.pipe()
    with warnings.catch_warnings():
        # Python 3.12 warns of threads: other tests' idle trio workers, which trio itself forgets in a child.
        warnings.simplefilter("ignore", DeprecationWarning)
        child = os.fork()
    if child == 0:
        try:
            os.close(reader)
            if user and user != pwd.getpwuid(os.geteuid()).pw_name:
                become(user)
            report = {"gave": function()}
        except BaseException:
            report = {"raised": traceback.format_exc()}
        with os.fdopen(writer, "w") as pipe:
            json.dump(report, pipe)
        os._exit(0)
    os.close(writer)
    with os.fdopen(reader) as pipe:
        told = pipe.read()
    os.waitpid(child, 0)
    assert told, "the child ended without a word"
    report = json.loads(told)
    assert "raised" not in report, report.get("raised")
    return report["gave"]
