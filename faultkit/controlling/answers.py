"""What the API answers with, header by header as its clients know it."""

from __future__ import annotations

from typing import Any

from starlette.responses import Response

from faultkit.controlling import body

JSON = {"Content-Type": "application/json"}
PLAIN = {"Content-Type": "text/plain; charset=utf-8", "X-Content-Type-Options": "nosniff"}
TOO_LONG = "<html><head><title>Timeout</title></head><body><h1>Timeout</h1></body></html>"


def document(value: Any, status: int = 200) -> Response:
    """JSON."""
    return Response(body.encoded(value), status, JSON)


def error(text: str, status: int) -> Response:
    """What was refused: JSON, and called plain text."""
    return Response(body.encoded({"error": text, "status": status}) + b"\n", status, PLAIN)


def plain(text: str, status: int) -> Response:
    """A sentence."""
    return Response(text, status, PLAIN)


def nothing(status: int = 204) -> Response:
    """No body."""
    return Response(status_code=status)


def not_found() -> Response:
    """There is no such path."""
    return plain("404 page not found\n", 404)


def too_late() -> Response:
    """It took longer than a request may."""
    return Response(TOO_LONG, 503, {"Content-Type": "text/html; charset=utf-8"})
