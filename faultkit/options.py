"""The options of a cause: fields of a frozen dataclass, each with how the command line writes it and which values it takes.

The kernel's bounds of what many causes set stand here once.
"""

from __future__ import annotations

from dataclasses import Field, dataclass, field
from typing import Any, Literal


@dataclass(frozen=True)
class Options:
    """The options of one cause, as a frozen dataclass whose fields are made by `option`. This one has none."""

    def check(self) -> None:
        """Raise `Misuse` for values that do not go together. Each value alone is checked already."""


@dataclass(frozen=True)
class Keepalive(Options):
    """Those of a cause in which TCP keepalive ends a connection. Its own fields of these names say how they are written."""

    keepalive_seconds: float
    interval_seconds: float
    count: int

    def probing(self) -> tuple[float, int]:
        """Interval in seconds and count."""
        return self.interval_seconds, self.count

    @property
    def probes(self) -> tuple[float, ...]:
        """When they are sent, in seconds after the end last heard."""
        interval, count = self.probing()
        return tuple(float(self.keepalive_seconds + interval * n) for n in range(count))

    @property
    def expiry(self) -> float:
        """When it is over, in seconds after the end last heard."""
        interval, count = self.probing()
        return float(self.keepalive_seconds + interval * count)


@dataclass(frozen=True, slots=True)
class Spec:
    """How one option is written on the command line and which values it takes."""

    help: str
    unit: str = ""  # "ms" on the command line is seconds in Python
    least: int | None = None
    most: int | None = None
    multiple: int = 1  # of its unit
    counted_by: str = "the kernel"  # who counts these multiples
    choices: tuple[str, ...] = ()
    metavar: str = ""
    firewall: Literal["", "needed", "or sockets"] = ""  # the command that it names is looked for before the play
    only_with: tuple[str, ...] = ()  # another option's name and the values of it with which this one decides anything


def option(default: Any, help: str, *, only_with: tuple[str, ...] = (), **spec: Any) -> Any:
    """A field of an `Options` class; `spec` as in `Spec`. A duration in Python is seconds, on the command line "ms"."""
    if only_with:
        other, *values = only_with
        help += f", with {_flag(other)} {' or '.join(values)}"
    return field(default=default, metadata={"spec": Spec(help, only_with=only_with, **spec)})


def duration(default: float | None, help: str, **spec: Any) -> Any:
    """An option in seconds, on the command line in ms: 1 ms to a day unless `spec` says otherwise."""
    return option(default, help, unit="ms", **{"least": 1, "most": 86400000, **spec})


def keepalive_idle(default: float, of: str = "") -> Any:
    """TCP_KEEPIDLE; the bounds of this and the next two are MAX_TCP_KEEPIDLE ... in include/net/tcp.h."""
    return duration(
        default, f"TCP_KEEPIDLE{of}: idle time before the first probe", least=1000, most=32767000, multiple=1000
    )


def keepalive_interval(default: float) -> Any:
    """TCP_KEEPINTVL."""
    return duration(default, "TCP_KEEPINTVL: time between probes", least=1000, most=32767000, multiple=1000)


def keepalive_count(default: int) -> Any:
    """TCP_KEEPCNT."""
    return option(default, "TCP_KEEPCNT: unanswered probes until the end", least=1, most=127)


def user_timeout(default: float | None, more: str, *, least: int = 1, most: int = 2147483647, **spec: Any) -> Any:
    """TCP_USER_TIMEOUT, whole milliseconds in an int (tcp(7)); `more` says whose it is, and when."""
    return duration(default, f"TCP_USER_TIMEOUT{more}", least=least, most=most, **spec)


def syn_retries(more: str, **spec: Any) -> Any:
    """TCP_SYNCNT; the bound is the kernel's MAX_TCP_SYNCNT."""
    return option(1, f"TCP_SYNCNT of the client{more}", least=1, most=127, **spec)


def retries2(default: int | None, more: str, **spec: Any) -> Any:
    """net.ipv4.tcp_retries2; its least and its default as ip-sysctl.txt has them."""
    return option(default, f"net.ipv4.tcp_retries2 of the namespace{more}", least=1, most=15, **spec)


def conntrack_timeout(default: float, more: str) -> Any:
    """nf_conntrack_tcp_timeout_established: whole seconds, and 5 days where nobody sets it."""
    return duration(default, f"nf_conntrack_tcp_timeout_established{more}", least=1000, most=432000000, multiple=1000)


def firewall_tool() -> Any:
    """The command that puts the rules in."""
    return option(
        "auto",
        "the firewall command: auto takes the first that works",
        choices=("auto", "iptables", "nft"),
        firewall="needed",
    )


def drop_with(what: str) -> Any:
    """What drops segments: a firewall, or the sockets themselves (IP_MINTTL)."""
    return option(
        "auto",
        f"{what}: auto takes the first that this machine has",
        choices=("auto", "iptables", "nft", "socket"),
        firewall="or sockets",
    )


def spec(option: Field[Any]) -> Spec:
    """The `Spec` of a field made by `option`."""
    found = option.metadata["spec"]
    assert isinstance(found, Spec)
    return found


def flag(option: Field[Any]) -> str:
    """`--user-timeout` for the field `user_timeout_seconds`: a unit in a Python name is not repeated on the command line."""
    return _flag(option.name)


def _flag(name: str) -> str:
    return "--" + name.removesuffix("_seconds").replace("_", "-")


def written(option: Field[Any], value: Any) -> Any:
    """A Python value as the command line writes it: 2.0 s becomes 2000 (ms)."""
    return round(value * 1000) if spec(option).unit == "ms" and value is not None else value
