"""Network sysctls of our own namespace, put back when the play is over."""

from __future__ import annotations

from pathlib import Path

from faultkit.errors import Unable, exhausted
from faultkit.stage.namespace import Namespace


def _path(name: str) -> Path:
    return Path("/proc/sys/net", *name.split("."))


def read(name: str, otherwise: str | None = None) -> str:
    """The value of a sysctl under net. ("ipv4.tcp_retries2") in the namespace that this process is in.

    `otherwise` is what it comes to on a kernel that is too old to have it.
    """
    path = _path(name)
    return path.read_text().strip() if otherwise is None or path.exists() else otherwise


def syn_linear_timeouts() -> int:
    """How many SYNs are repeated each second before the timeout doubles: none before Linux 6.5."""
    return int(read("ipv4.tcp_syn_linear_timeouts", otherwise="0"))


class Sysctls:
    """Sets sysctls in a namespace that faultkit made, and nowhere else."""

    def __init__(self, namespace: Namespace) -> None:
        self._namespace = namespace
        self._before: dict[str, str] = {}

    def set(self, name: str, value: int | str) -> None:
        """Set net.`name`. Raises `Unable` outside our namespace or where this kernel has no such sysctl."""
        if not self._namespace.holds():
            raise Unable(f"net.{name} is not set: this process is not inside a namespace that faultkit made")
        try:
            self._before.setdefault(name, read(name))
            _path(name).write_text(str(value))
        except OSError as error:
            raise exhausted(error) or Unable(
                f"net.{name} = {value} is refused by this kernel ({error.strerror})"
            ) from error

    def restore(self) -> None:
        """Put every changed sysctl back."""
        while self._before:
            name, value = self._before.popitem()
            _path(name).write_text(value)
