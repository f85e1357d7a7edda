from typing import Any

import pytest


@pytest.fixture
def fault_server_defaults() -> dict[str, Any]:
    return {"answer": "http", "ipv6": True}
