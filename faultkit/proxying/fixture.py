"""The proxies of one test: what the pytest fixtures give. Knows nothing of pytest."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from faultkit.proxying.entry import proxy
from faultkit.proxying.loop import Loop
from faultkit.proxying.proxy import Proxy
from faultkit.serving.fixture import Opener, taking


class FaultProxy(Opener):
    """Called as `faultkit.proxy` is, any number of times, it gives each `Proxy` at once."""

    def __init__(self, loop: Loop, name: str | None, defaults: Mapping[str, Any]) -> None:
        super().__init__(proxy, loop, name, defaults, "fault_proxy")

    @taking(proxy, Opener, Proxy)
    def __call__(self, *given: Any, **keywords: Any) -> Any:
        __tracebackhide__ = True
        return self.open(*given, **keywords)
