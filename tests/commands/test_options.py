"""What a cause refuses before anything is played."""

from __future__ import annotations

from typing import Any

import pytest

from faultkit import causes
from faultkit.cause import checked
from faultkit.errors import Misuse


@pytest.mark.parametrize(
    ("name", "values", "sentence"),
    [
        (
            "half-open",
            {"watch_seconds": 1.0},
            "half-open: --watch decides nothing with --found-by write: add --found-by nobody",
        ),
        (
            "backlog-full",
            {"ended_by": "accept", "syn_retries": 2},
            "backlog-full: --syn-retries decides nothing with --ended-by accept: add --ended-by syn-retries or expiry",
        ),
    ],
)
def test_an_option_that_decides_nothing(name: str, values: dict[str, Any], sentence: str) -> None:
    with pytest.raises(Misuse) as refused:
        checked(causes.load(name), values)
    assert str(refused.value) == sentence


def test_an_option_that_decides_something() -> None:
    checked(causes.load("half-open"), {"found_by": "nobody", "watch_seconds": 1.0})
