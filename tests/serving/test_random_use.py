"""Random use, for a few seconds; `python -m tests.serving.random_use` goes on for longer."""

from __future__ import annotations

import pytest

from tests.serving import random_use


@pytest.mark.parametrize("seed", [1, 2])
def test_whatever_is_done_the_engine_lives_and_nothing_is_left(seed: int) -> None:
    seen = random_use.play(seed, 300, seconds=8)
    assert seen.servers >= 50
    assert len(seen.ended) > 5
