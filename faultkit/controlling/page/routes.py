"""The page's paths."""

from __future__ import annotations

import trio
from starlette.routing import BaseRoute

from faultkit.controlling.proxies import Proxies
from faultkit.proxying.proxy import Event


class Page:
    def told(self, event: Event) -> None:
        return

    def routes(self, proxies: Proxies, stop: trio.Event) -> list[BaseRoute]:
        return []
