"""An errno by any name: the C library's of each system, a number, a Windows sentence, in several languages."""

from __future__ import annotations

import functools
import re
import tomllib
from pathlib import Path
from typing import Any

from faultkit.messages.vocabulary import ERRNOS

KNOWN = Path(__file__).with_name("errnos.toml")

# A number means an errno where something says that it is one. The word before it, or the sentence behind it.
_NUMBERED = re.compile(
    r"(?:errno|os error|os_error|winerror|wsa ?error|wsagetlasterror|socket ?error|socketexception|system error|error code"
    r"|error|err|code)[\s:=#(\[\"'-]{0,6}(?P<after>\d{1,5})(?!\d)"
    r"|(?<![\d.])\(?(?P<before>\d{1,5})\)?[:,]? ?['\"]?(?-i:(?=[A-Z\u0400-\u04ff\u3040-\u9fff]))"
    r"|^\s*[-(\[]{0,2}(?P<alone>\d{1,5})[)\]]?\s*$",
    re.IGNORECASE,
)

# Errnos that no packet of the other end has made.
LOCAL = {
    "EADDRNOTAVAIL": "to connect, all local ports towards that address are in use, most in TIME-WAIT (`ss -s`,"
    " net.ipv4.ip_local_port_range, connections that are kept), or no address of this host fits (::1, or a source address, that"
    " is not there: `ip addr`); to listen, the address is not this host's",
    "EADDRINUSE": "to listen, another program has that port: `ss -tlnp`; to connect, on Windows, all local ports are in use, most"
    " in TIME-WAIT: `netsh int ipv4 show dynamicport tcp`, connections that are kept",
    "EMFILE": "this process has as many files and sockets open as it may: `ulimit -n`, LimitNOFILE=; `ls /proc/PID/fd | wc -l`"
    " says whether it leaks them, as connections that are never closed",
    "EACCES": "this host does not allow it: SELinux (`ausearch -m avc`, httpd_can_network_connect), a sandbox or a firewall here,"
    " or a port below 1024 to listen at",
    "EPERM": "this host does not allow it: a firewall rule of this host's own output, a security module or a sandbox here",
    "ENOBUFS": "this host has no memory or ports left for it: `dmesg`, net.ipv4.tcp_mem, `ss -s`; on Windows MaxUserPort and the"
    " nonpaged pool",
}


@functools.cache
def _table() -> dict[str, dict[str, Any]]:
    return tomllib.loads(KNOWN.read_text("utf-8"))


@functools.cache
def numbers() -> dict[int, str]:
    """What a number names: Linux's first, then Windows', which nobody else has, then the BSDs'."""
    found: dict[int, str] = {}
    for system in ("linux", "windows", "bsd"):
        for name in ERRNOS:
            numbers = _table().get(name, {}).get(system, [])
            for number in numbers if isinstance(numbers, list) else [numbers]:
                found.setdefault(number, name)
    return found


# Numbers that are no errno of a connection unless the words say so.
_COMMON = frozenset({1, 5, 13, 24, 32, 48, 64, 71, 98, 109, 121, 232, 995, 100, 99, 101, 102, 103, 105, 107, 108, 112})


@functools.cache
def _words() -> re.Pattern[str]:
    named = {}
    for name in ERRNOS:
        row = _table().get(name, {})
        # The longest first: "Connection reset by peer" before "Connection reset".
        for word in (name, *row.get("names", ()), *row.get("words", ())):
            named[word] = name
    pieces = []
    for word in sorted(named, key=len, reverse=True):
        body = r"\s{1,40}+".join(map(re.escape, word.split()))
        begin = r"(?<![A-Za-z])" if re.match(r"[A-Za-z]", word) else ""
        if word == "Operation timed out":  # Python and .NET speak of their own timers so
            begin += r"(?<!read )(?<!write )(?<!handshake )(?<!connect )(?<!ssl )"
        end = r"(?![A-Za-z])" if re.search(r"[A-Za-z]$", word) else ""
        pieces.append(f"{begin}{body}{end}")
    return re.compile("|".join(pieces), re.IGNORECASE)


@functools.cache
def _by_word() -> dict[str, str]:
    found = {}
    for name in ERRNOS:
        row = _table().get(name, {})
        for word in (name, *row.get("names", ()), *row.get("words", ())):
            found[" ".join(word.split()).casefold()] = name
    return found


def mentions(text: str) -> list[tuple[int, int, str]]:
    """Where a text names errnos: from, to, and which, in the order of the text; words before numbers."""
    found = [
        (match.start(), match.end(), _by_word()[" ".join(match[0].split()).casefold()])
        for match in _words().finditer(text)
    ]
    taken = [(start - 12, end) for start, end, _ in found]
    for match in _NUMBERED.finditer(text):
        kind = match.lastgroup or ""
        number = int(match[kind])
        if number not in numbers() or any(start <= match.end() and match.start() <= end for start, end in taken):
            continue
        if kind == "before" and number < 10000:
            continue  # "104 Items" is no errno; with an errno's own words behind it, those are found
        if number in _COMMON and not re.match(r"(?:os error|errno|winerror|wsa)", match[0], re.IGNORECASE):
            continue
        found.append((match.start(), match.end(), numbers()[number]))
    return sorted(found)


def named(text: str) -> str:
    """The errno that a text names, "" where it names none."""
    found = mentions(text)
    return found[0][2] if found else ""


def by_number(number: int) -> str:
    """Its name, "" where it is none that is known."""
    return numbers().get(abs(number), "")
