"""faultkit makes TCP connections fail on real sockets, on purpose, and proves what happened.

The verbs on any socket are in `faultkit.sockets`, the catalogue in `faultkit.causes`; `check_cause` holds a cause against
its own promise.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from faultkit.check import NotProduced as NotProduced
    from faultkit.check import check_cause as check_cause
    from faultkit.errors import Misuse as Misuse
    from faultkit.errors import Unable as Unable

__version__ = "0.1.0"

# Where each public name lives. Imported when first asked for: `faultkit list` must not pay for what it does not use.
_HOMES = {"check_cause": "check", "NotProduced": "check", "Misuse": "errors", "Unable": "errors"}

__all__ = ["Misuse", "NotProduced", "Unable", "check_cause"]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'faultkit' has no attribute {name!r}")
    import importlib

    return getattr(importlib.import_module(f"faultkit.{_HOMES[name]}"), name)
