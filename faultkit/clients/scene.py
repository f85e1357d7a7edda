"""How each fault that can be served is met: which requests a client makes, and what ends it. Drawn from the catalogue."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from faultkit.cause import Served
from faultkit.serving import faults

Ending = Literal["fault", "limit", "kernel"]

IDLE = 0.2  # seconds without a byte, instead of the minutes that such timers have; arbitrary
LIMIT = 1.0  # seconds of a client's own patience where nothing else ends it
PATIENCE = 12.0  # where something else is to end it
BODY = 12  # bytes of a POST that is only there to be one; arbitrary
UPLOAD = 4 << 20  # bytes: more than the kernel takes for a peer that does not read (net.ipv4.tcp_wmem)

# So that the kernel's own timers end a connection in seconds; in our own namespace only.
SYSCTLS = {"ipv4.tcp_syn_retries": 1, "ipv4.tcp_retries2": 3}

# What the catalogue cannot say, because it is about the client.
_AT_NEXT_WRITE = {"retransmit-timeout", "half-open"}  # met by a request on a connection that was good
_WITH_UPLOAD = {"early-response", "zero-window"}
_BY_KERNEL = {"connect-timeout", "backlog-full", "retransmit-timeout", "idle-firewall"}
_HELD = {"keepalive-race:in-flight"}  # its FIN is not to arrive before the next request leaves
# As it is typed besides.
_MORE = {
    "linger": ("--at mid-body", "--at mid-body --chunked"),
    "truncate": ("--chunked",),
    "stall": ("--at mid-body",),
}


@dataclass(frozen=True)
class Scene:
    """One fault as every client meets it."""

    fault: str
    ending: Ending  # the fault itself, the client's own limit, or the kernel's timers
    when: dict[str, Any] = field(default_factory=dict)  # for `faultkit.serve`
    reused: bool = False  # on a connection that has had a good answer
    pause: bool = False  # after that answer, until the fault has set in
    arrives: bool = False  # and the client's kernel has been told
    upload: int = 0  # bytes of a POST; 0: a GET
    flags: str = ""  # of `faultkit serve`, beside the fault's name

    @property
    def method(self) -> str:
        return "POST" if self.upload else "GET"

    @property
    def typed(self) -> str:
        """The fault as `faultkit serve` takes it."""
        return f"{self.fault} {self.flags}".strip()

    @property
    def chunked(self) -> bool:
        return "--chunked" in self.flags

    @property
    def key(self) -> tuple[str, str, str]:
        """What tells it from the others."""
        return self.typed, self.ending, self.method

    @property
    def limit_seconds(self) -> float:
        return LIMIT if self.ending == "limit" else PATIENCE


def scenes(*, own_kernel: bool) -> Iterator[Scene]:
    """All of them, in the order of `faultkit serve`. Where the kernel is not ours, its timers are not waited for."""
    for name, _, served in faults.known():
        if served.needs_repair and not own_kernel:
            continue
        if served.hangs:
            scene = _scene(name, served, "limit")
            yield scene
            if own_kernel and name in _BY_KERNEL:
                yield _scene(name, served, "kernel")
        else:
            scene = _scene(name, served, "fault")
            yield scene
            if scene.reused:  # many clients try again what they may, and a POST they may not
                yield replace(scene, upload=BODY)
        for flags in _MORE.get(name, ()):
            yield replace(scene, flags=flags, when={"at": "mid-body"})


def _scene(name: str, served: Served, ending: Ending) -> Scene:
    upload = UPLOAD if name in _WITH_UPLOAD else 0
    if name in _AT_NEXT_WRITE:
        return Scene(name, ending, {"after_answers": 1}, reused=True, pause=True)
    if served.when.kind == "idle":
        silent = served.hangs
        return Scene(name, ending, {"after_idle_seconds": IDLE}, reused=True, pause=True, arrives=not silent)
    if served.when.kind == "answers":
        return Scene(name, ending, reused=True, pause=True, arrives=name not in _HELD)
    if served.when.kind == "requests" and served.when.amount > 1:
        return Scene(name, ending, reused=True)
    return Scene(name, ending, upload=upload)
