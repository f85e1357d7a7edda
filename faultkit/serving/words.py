"""What people call a fault, and the faults that are meant. A word is led by its meaning, only then by its spelling."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping

RESET = ("linger", "accept-then-reset", "unread")
END = ("accept-then-close", "half-close", "truncate")
SILENCE = ("stall", "black-hole", "connect-hang")

# The first is what is meant most often, by the words of errno(3), of HTTP clients, of proxies that inject faults, and of TCP.
WORDS: Mapping[str, tuple[str, ...]] = {
    **dict.fromkeys(
        ("reset", "rst", "econnreset", "connection-reset", "connection-reset-by-peer", "reset-peer", "reset-by-peer"),
        RESET,
    ),
    **dict.fromkeys(("abort", "aborted", "econnaborted", "so-linger", "linger-0", "hangup", "socket-hang-up"), RESET),
    **dict.fromkeys(("close", "closed", "eof", "fin", "end", "shutdown", "disconnected", "server-disconnected"), END),
    **dict.fromkeys(("remote-disconnected", "connection-closed", "hang-up"), END),
    **dict.fromkeys(
        ("timeout", "time-out", "timed-out", "hang", "silence", "no-answer", "no-response", "freeze"), SILENCE
    ),
    **dict.fromkeys(("read-timeout", "response-timeout", "wait", "stuck", "unresponsive"), ("stall", "black-hole")),
    **dict.fromkeys(("drop", "dropped", "packet-loss", "loss", "etimedout", "blocked"), ("black-hole", "connect-hang")),
    "blackhole": ("black-hole",),
    **dict.fromkeys(("partition", "unplug", "unplugged", "network-down", "dead", "cable"), ("black-hole", "half-open")),
    **dict.fromkeys(
        ("connection-timeout", "connect-timed-out", "syn-drop", "filtered"), ("connect-hang", "backlog-full")
    ),
    **dict.fromkeys(
        ("refused", "econnrefused", "connection-refused", "down", "not-listening", "closed-door"), ("refuse",)
    ),
    **dict.fromkeys(("overload", "overloaded", "backlog", "accept-queue", "syn-flood"), ("backlog-full",)),
    **dict.fromkeys(
        ("latency", "delay", "lag", "jitter", "slow-network", "rtt"), ("latency", "latency_seconds=0.1", "slow")
    ),
    **dict.fromkeys(("throttle", "bandwidth", "rate"), ("bandwidth", "rate=10000", "slow")),
    **dict.fromkeys(("slowly", "trickle"), ("slow",)),
    **dict.fromkeys(("chunk", "chunks", "slice", "slicer", "split", "fragment", "fragments", "segments"), ("slices",)),
    **dict.fromkeys(
        ("partial", "incomplete", "incomplete-read", "short", "cut", "cut-off", "limit-data", "mid-body"), ("truncate",)
    ),
    **dict.fromkeys(("corrupt", "corruption", "malformed", "noise", "bad-data", "nonsense", "invalid"), ("garbage",)),
    **dict.fromkeys(("epipe", "broken-pipe", "sigpipe"), ("late-write", "keepalive-race:unprocessed")),
    **dict.fromkeys(("kill", "killed", "sigkill", "oom", "oom-killed", "segfault", "exit", "restart"), ("crash",)),
    **dict.fromkeys(
        ("keepalive", "keep-alive", "stale", "stale-connection", "pool", "reuse"),
        ("keepalive-race", "load-balancer-idle"),
    ),
    **dict.fromkeys(
        ("idle", "idle-timeout", "nat", "nat-expiry", "conntrack"), ("load-balancer-idle", "idle-firewall")
    ),
    **dict.fromkeys(("backpressure", "window", "full", "receive-window", "not-reading"), ("zero-window",)),
    **dict.fromkeys(("413", "entity-too-large", "early", "reject-upload"), ("early-response",)),
    **dict.fromkeys(("vanish", "vanished", "gone", "power-loss"), ("half-open", "black-hole")),
    **dict.fromkeys(("none", "no-fault", "healthy", "fine", "normal", "pass", "up", "noop"), ("ok",)),
}


def hint(name: str, known: Iterable[str]) -> str:
    """Which of the known names may be meant, as the end of a sentence; "" where nothing is near."""
    word, names = "-".join(name.lower().replace("_", " ").replace("-", " ").split()), [*known]
    meant = _meant(word, names) or difflib.get_close_matches(word[:80], names, n=1, cutoff=0.5)
    if len(meant) < 2:
        return f"did you mean {meant[0]}?" if meant else ""
    return f"did you mean {', '.join(meant[:-1])} or {meant[-1]}?"


def _meant(word: str, known: list[str]) -> list[str]:
    """By its meaning; a keyword of `faultkit.serve` is meant where the name before it is not known."""
    found: list[str] = []
    for name in WORDS.get(word, ()):
        if name in known or ("=" in name and not found):
            found.append(name)
    return found
