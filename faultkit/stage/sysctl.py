"""Network sysctls of our own namespace, put back when the play is over."""

from __future__ import annotations

from pathlib import Path

from faultkit.errors import Unable, exhausted
from faultkit.evidence import timers
from faultkit.stage.namespace import Namespace


def _path(name: str) -> Path:
    return Path("/proc/sys/net", *name.split("."))


def read(name: str, otherwise: str | None = None) -> str:
    """The value of a sysctl under net. ("ipv4.tcp_retries2") in the namespace that this process is in.

    `otherwise` is what it comes to where it is not to be seen: the kernel is too old to have it, or hides it here, as
    net.core is hidden in a user namespace before Linux 6.3. Without it that raises `Unable`.
    """
    try:
        return _path(name).read_text().strip()
    except OSError as error:
        if otherwise is not None and isinstance(error, FileNotFoundError):
            return otherwise
        raise exhausted(error) or Unable(
            f"net.{name} cannot be read here ({error.strerror}), and what is promised depends on it"
        ) from error


def syn_linear_timeouts() -> int:
    """How many SYNs are repeated each second before the timeout doubles: none before Linux 6.5."""
    return int(read("ipv4.tcp_syn_linear_timeouts", otherwise="0"))


def syns(retries: int) -> list[float]:
    """When this kernel sends a SYN again, in seconds after the first, and at last when it gives up instead."""
    return timers.syns(retries, syn_linear_timeouts())


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
            self._before.setdefault(name, _path(name).read_text().strip())
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
