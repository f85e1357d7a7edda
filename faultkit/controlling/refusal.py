"""What the API refuses, in the words that its clients look for."""

from __future__ import annotations


class Refusal(Exception):
    """An answer that is an error: one sentence, and its HTTP status."""

    def __init__(self, text: str, status: int) -> None:
        super().__init__(text)
        self.text = text
        self.status = status


def bad_body(why: str) -> Refusal:
    """The body cannot be what it is to be."""
    return Refusal(f"bad request body: {why}", 400)


def missing(field: str) -> Refusal:
    """A proxy cannot be without it."""
    return Refusal(f"missing required field: {field}", 400)


def no_proxy() -> Refusal:
    """No proxy is called so."""
    return Refusal("proxy not found", 404)


def proxy_exists() -> Refusal:
    """One is called so already."""
    return Refusal("proxy already exists", 409)


def no_toxic() -> Refusal:
    """No toxic of the proxy is called so."""
    return Refusal("toxic not found", 404)


def toxic_exists() -> Refusal:
    """One is called so already."""
    return Refusal("toxic already exists", 409)


def bad_stream() -> Refusal:
    """It is no direction."""
    return Refusal("stream was invalid, can be either upstream or downstream", 400)


def bad_type() -> Refusal:
    """There is no such toxic."""
    return Refusal("invalid toxic type", 400)
