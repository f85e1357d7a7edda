"""What a firewall's ICMP answer becomes at the program. Pure."""

from __future__ import annotations

# The errno of each "destination unreachable" over IPv4 and IPv6: icmp_err_convert[] in net/ipv4/icmp.c and tab_unreach[]
# in net/ipv6/icmp.c. The names are those of iptables' REJECT; over IPv6 host-unreachable is "address unreachable" and
# net-unreachable "no route" (RFC 4443 section 3.1).
_ERRNOS: dict[str, tuple[str, str]] = {
    "port-unreachable": ("ECONNREFUSED", "ECONNREFUSED"),
    "host-unreachable": ("EHOSTUNREACH", "EHOSTUNREACH"),
    "net-unreachable": ("ENETUNREACH", "ENETUNREACH"),
    "admin-prohibited": ("EHOSTUNREACH", "EACCES"),
}

ANSWERS = tuple(_ERRNOS)


def errno_name(answer: str, *, ipv6: bool) -> str:
    """The errno that stands for this answer: "EHOSTUNREACH" for "host-unreachable"."""
    return _ERRNOS[answer][ipv6]


def counter(*, ipv6: bool) -> str:
    """The counter of such errors received (nstat(8))."""
    return "Icmp6InDestUnreachs" if ipv6 else "IcmpInDestUnreachs"
