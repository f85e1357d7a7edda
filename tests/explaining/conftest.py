"""The catalogue's own captures, played once for all tests of a session."""

from __future__ import annotations

import pytest

from tests.explaining.played import Played, play, variants


@pytest.fixture(scope="session")
def catalogue() -> list[Played]:
    return play(variants())
