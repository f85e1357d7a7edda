"""A message as it is kept: what differs from run to run and from host to host is a word in angle brackets."""

from __future__ import annotations

import re

# What stands for what differs, with an example of each.
PLACES = {
    "<url>": "https://shop.example.org:8443/api/v1/orders?id=7",
    "<path>": "/api/v1/orders?id=7",
    "<host>": "shop.example.org",
    "<port>": "8443",
    "<number>": "30004",
    "<id>": "0x7f3a5c0d1e90",
    "<address>": "10.0.3.17:52814",
    "<name>": "Get",
    "<any>": "whatever",
}

_PASSING = (
    (re.compile(r"<host>:\d+"), "<host>:<port>"),
    (re.compile(r"(?<=port=)\d+|(?<=port )\d+"), "<port>"),
    (re.compile(r"https?://<host>:<port>/?"), "<url>"),
    (re.compile(r"(?<=with url: )/\S*"), "<path>"),
    (re.compile(r"0x[0-9a-f]{6,}"), "<id>"),
    (re.compile(r"\d+(?:\.\d+)?(?= ?(?:milliseconds|ms\b|seconds|bytes|out of))"), "<number>"),
    (re.compile(r"(?<=out of )\d+"), "<number>"),
    (re.compile(r"(?<=timeout[=:])[\d.]+|(?<=timeout[=:] )[\d.]+"), "<number>"),
    (re.compile(r"\d+(?= bytes| more expected)|(?<=expected )\d+|(?<=received )\d+|(?<=at byte )\d+"), "<number>"),
    (re.compile(r"[^\x20-\x7e]+|(?:\\x[0-9a-f]{2})+"), "<any>"),
)


def general(line: str, host: str, ports: tuple[int, ...]) -> str:
    """A line that a client said, without what belongs to this run."""
    line = re.sub(r"(?<![\d.])" + re.escape(host) + r"(?![\d.])", "<host>", " ".join(line.split()))
    for port in ports:
        line = re.sub(rf"(?<![\d.]){port}(?![\d.])", "<port>", line)
    for passing, instead in _PASSING:
        line = passing.sub(instead, line)
    return line


def another(text: str) -> str:
    """The message as another host and another day have it."""
    for place, example in PLACES.items():
        text = text.replace(place, example)
    return text
