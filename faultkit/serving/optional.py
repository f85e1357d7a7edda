"""Libraries that not everybody has to install."""

from __future__ import annotations

import importlib

from faultkit.errors import Unable, exhausted


def needed(library: str, extra: str) -> None:
    """Raise `Unable` where it is not installed, with what brings it."""
    try:
        importlib.import_module(library)
    except ImportError as error:
        raise exhausted(error) or Unable(
            f"{extra} needs {library}, which is not installed: pip install {library}"
        ) from error
