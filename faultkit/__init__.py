"""faultkit makes TCP connections fail on real sockets, on purpose, and proves what happened.

The verbs on any socket are in `faultkit.sockets`, the catalogue in `faultkit.causes`; `check_cause` holds a cause against
its own promise.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from faultkit.version import VERSION

if TYPE_CHECKING:
    from faultkit.errors import Misuse as Misuse
    from faultkit.errors import Unable as Unable
    from faultkit.explaining.diagnosis import Diagnosis as Diagnosis
    from faultkit.explaining.explain import explain as explain
    from faultkit.playing.check import NotProduced as NotProduced
    from faultkit.playing.check import Report as Report
    from faultkit.playing.check import check_cause as check_cause
    from faultkit.proxying.entry import proxy as proxy
    from faultkit.proxying.fixture import FaultProxy as FaultProxy
    from faultkit.proxying.pair import Pair as Pair
    from faultkit.proxying.proxy import Proxy as Proxy
    from faultkit.proxying.toxics import Toxic as Toxic
    from faultkit.proxying.toxics import bandwidth as bandwidth
    from faultkit.proxying.toxics import latency as latency
    from faultkit.proxying.toxics import limit_data as limit_data
    from faultkit.proxying.toxics import packet_loss as packet_loss
    from faultkit.proxying.toxics import reset_peer as reset_peer
    from faultkit.proxying.toxics import slicer as slicer
    from faultkit.proxying.toxics import slow_close as slow_close
    from faultkit.proxying.toxics import timeout as timeout
    from faultkit.serving.connection import Live as Live
    from faultkit.serving.entry import serve as serve
    from faultkit.serving.entry import serve_udp as serve_udp
    from faultkit.serving.firewall import Firewall as Firewall
    from faultkit.serving.firewall import open_firewall as open_firewall
    from faultkit.serving.fixture import FaultServer as FaultServer
    from faultkit.serving.fixture import FaultServerUdp as FaultServerUdp
    from faultkit.serving.http1 import Http as Http
    from faultkit.serving.http2 import Http2 as Http2
    from faultkit.serving.in_asyncio import AsyncioLive as AsyncioLive
    from faultkit.serving.in_asyncio import in_asyncio as in_asyncio
    from faultkit.serving.lines import Redis as Redis
    from faultkit.serving.lines import Smtp as Smtp
    from faultkit.serving.record import Connection as Connection
    from faultkit.serving.server import FaultNotMet as FaultNotMet
    from faultkit.serving.server import HandlerCrashed as HandlerCrashed
    from faultkit.serving.server import Server as Server
    from faultkit.serving.tls import Tls as Tls
    from faultkit.serving.udp import UdpServer as UdpServer
    from faultkit.serving.websocket import WebSocket as WebSocket
    from faultkit.serving.which import Opening as Opening
    from faultkit.sockets import abort as abort
    from faultkit.sockets import black_hole as black_hole
    from faultkit.sockets import close_unread as close_unread
    from faultkit.sockets import half_close as half_close
    from faultkit.sockets import heal as heal
    from faultkit.sockets import resume_reading as resume_reading
    from faultkit.sockets import stop_reading as stop_reading
    from faultkit.sockets import vanish as vanish

__version__ = VERSION

# Where each public name lives. Imported when first asked for: `faultkit list` must not pay for what it does not use.
_HOMES = {
    **dict.fromkeys(("check_cause", "NotProduced", "Report"), "playing.check"),
    **dict.fromkeys(("Misuse", "Unable"), "errors"),
    **dict.fromkeys(("Diagnosis",), "explaining.diagnosis"),
    **dict.fromkeys(("explain",), "explaining.explain"),
    **dict.fromkeys(("Firewall", "open_firewall"), "serving.firewall"),
    **dict.fromkeys(("Live",), "serving.connection"),
    **dict.fromkeys(("proxy",), "proxying.entry"),
    **dict.fromkeys(("FaultProxy",), "proxying.fixture"),
    **dict.fromkeys(("Pair",), "proxying.pair"),
    **dict.fromkeys(("Proxy",), "proxying.proxy"),
    **dict.fromkeys(
        (
            "Tls",
            "Toxic",
            "bandwidth",
            "latency",
            "limit_data",
            "packet_loss",
            "reset_peer",
            "slicer",
            "slow_close",
            "timeout",
        ),
        "proxying.toxics",
    ),
    **dict.fromkeys(("Connection",), "serving.record"),
    **dict.fromkeys(("FaultNotMet", "HandlerCrashed", "Server"), "serving.server"),
    **dict.fromkeys(("Http",), "serving.http1"),
    **dict.fromkeys(("Http2",), "serving.http2"),
    **dict.fromkeys(("Redis", "Smtp"), "serving.lines"),
    **dict.fromkeys(("AsyncioLive", "in_asyncio"), "serving.in_asyncio"),
    **dict.fromkeys(("UdpServer",), "serving.udp"),
    **dict.fromkeys(("Tls",), "serving.tls"),
    **dict.fromkeys(("WebSocket",), "serving.websocket"),
    **dict.fromkeys(("Opening",), "serving.which"),
    **dict.fromkeys(("serve", "serve_udp"), "serving.entry"),
    **dict.fromkeys(("FaultServer", "FaultServerUdp"), "serving.fixture"),
    **dict.fromkeys(
        ("abort", "black_hole", "close_unread", "half_close", "heal", "resume_reading", "stop_reading", "vanish"),
        "sockets",
    ),
}

__all__ = [
    "AsyncioLive",
    "Connection",
    "Diagnosis",
    "FaultNotMet",
    "FaultProxy",
    "FaultServer",
    "FaultServerUdp",
    "Firewall",
    "HandlerCrashed",
    "Http",
    "Http2",
    "Live",
    "Misuse",
    "NotProduced",
    "Opening",
    "Pair",
    "Proxy",
    "Redis",
    "Report",
    "Server",
    "Smtp",
    "Tls",
    "Toxic",
    "UdpServer",
    "Unable",
    "WebSocket",
    "abort",
    "bandwidth",
    "black_hole",
    "check_cause",
    "close_unread",
    "explain",
    "half_close",
    "heal",
    "in_asyncio",
    "latency",
    "limit_data",
    "open_firewall",
    "packet_loss",
    "proxy",
    "reset_peer",
    "resume_reading",
    "serve",
    "serve_udp",
    "slicer",
    "slow_close",
    "stop_reading",
    "timeout",
    "vanish",
]


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'faultkit' has no attribute {name!r}")
    import importlib

    if _HOMES[name] != "errors":
        importlib.import_module("faultkit.errors").refuse_green_threads()
    return getattr(importlib.import_module(f"faultkit.{_HOMES[name]}"), name)
