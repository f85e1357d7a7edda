"""One server for the tests of a module, without proxies at the beginning of each."""

from __future__ import annotations

from collections.abc import Iterator
from urllib.parse import quote

import pytest

from tests.controlling import served
from tests.controlling.served import Api


@pytest.fixture(scope="module")
def running() -> Iterator[Api]:
    with served.api("-proxy-metrics") as api:
        yield api
        assert not [line for line in api.journal if line.get("level") in ("error", "fatal", "panic")]
        assert api.end() == 0


@pytest.fixture
def api(running: Api) -> Iterator[Api]:
    yield running
    for name in running.ask("GET", "/proxies").json:
        assert running.ask("DELETE", f"/proxies/{quote(name, safe='')}").status == 204
