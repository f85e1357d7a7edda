"""Where a cause is played: a network namespace of our own, or the host's loopback. Everything that needs a capability."""

from __future__ import annotations

import socket
from dataclasses import dataclass
from typing import Literal

from faultkit.errors import Exhausted, Unable, exhausted
from faultkit.stage import namespace
from faultkit.stage.namespace import Namespace

LEAVE_OUT = "leave --on host out"

Where = Literal["namespace", "host"]


@dataclass(frozen=True, slots=True)
class Stage:
    """A place to play, for as many runs as wanted."""

    namespace: Namespace | None
    family: socket.AddressFamily
    refused: str = ""  # why a namespace was wanted and not had

    @property
    def where(self) -> Where:
        return "namespace" if self.namespace else "host"

    @property
    def host(self) -> str:
        """The loopback address to play on."""
        return "::1" if self.family == socket.AF_INET6 else "127.0.0.1"

    @property
    def way_in(self) -> str:
        """What gets somebody into a namespace who plays on the host: what was refused is not asked for by leaving words out."""
        return namespace.ALLOW if self.refused else LEAVE_OUT

    def no_capture(self, refusal: Unable) -> str:
        """Why there is no packet capture, and what gets one."""
        if self.namespace or not isinstance(refusal.__cause__, PermissionError):
            return str(refusal)
        more = "in a container --cap-add NET_RAW" if namespace.outer_uid() == 0 else "run as root"
        return f"packet capture on the host needs CAP_NET_RAW: {self.way_in}, or {more}"

    def advice(self, refusal: str) -> str:
        """A refusal that takes it that the host was asked for, for whom a namespace was refused."""
        if not self.refused:
            return refusal
        return refusal.replace(f" ({self.refused})", "").replace(LEAVE_OUT, namespace.ALLOW)

    @property
    def described(self) -> str:
        """One phrase for the reader."""
        if self.namespace is None:
            return "the host's loopback"
        return "a private user and network namespace" if self.namespace.user else "a private network namespace"


def open_stage(on: Where | None, *, ipv6: bool) -> Stage:
    """Make the stage; with None a namespace if this machine allows one, else the host's loopback, and `refused` says why.

    Raises `Unable` for a namespace asked for by name and not to be had, and where there is no IPv6. There is no way back
    out of a namespace: it ends with this process.
    """
    namespace.own_network()
    own, refused = None, ""
    if on != "host":
        try:
            own = namespace.enter()
        except Exhausted:
            raise
        except Unable as error:
            if on == "namespace":
                raise
            refused = str(error)
    if own is None and not namespace.loopback_is_up():
        raise Unable("the loopback interface is down here, and everything plays on it: ip link set lo up")
    family = socket.AF_INET6 if ipv6 else socket.AF_INET
    if ipv6:
        try:
            with socket.socket(family, socket.SOCK_STREAM) as probe:
                probe.bind(("::1", 0))
        except OSError as error:
            raise exhausted(error) or Unable(
                f"IPv6 loopback is not there ({error.strerror}): sysctl net.ipv6.conf.lo.disable_ipv6=0, or leave --ipv6 out"
            ) from error
    return Stage(own, family, refused)
