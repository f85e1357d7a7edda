"""Reads a chain of timeouts: words of the command line, or a file.

Words: `30 60 65`, `client=30 nginx=75/60 gunicorn=65`, `pool=600 nat-expiry=350 db=never`. A file has a section for each hop,
from the client to the server, and a line for each timeout:

    [nginx]
    idle-downstream = 75s     ; keepalive_timeout, towards the client
    idle-upstream = 60s       ; keepalive_timeout in the upstream block
    request = 60s             ; proxy_read_timeout

`idle`, `tcp-keepalive` and `heartbeat` hold for both sides unless they end in `-downstream` or `-upstream`. What only
forgets silent connections has one line, with the name of the cause: `nat-expiry = 350s`.
"""

from __future__ import annotations

import configparser
import re
from collections.abc import Mapping, Sequence
from decimal import Decimal

from faultkit.errors import Misuse, exhausted
from faultkit.nesting.timeouts import MIDDLEBOXES, NEVER, OFF, Hop, Middlebox, Side

NUMBER = r"[0-9]+(?:\.[0-9]+)?"
PART = rf"({NUMBER}) ?(ms|s|m|h|d)"
UNITS = {"ms": Decimal("0.001"), "s": Decimal(1), "m": Decimal(60), "h": Decimal(3600), "d": Decimal(86400)}
TCP_KEEPALIVE_TIME = Decimal(7200)  # tcp(7): what SO_KEEPALIVE alone gives
LONGEST = Decimal(10**9)  # seconds; arbitrary: 31 years
LARGEST = 100_000  # bytes of a file; arbitrary: a hop takes some fifty

SIDED = ("idle", "tcp-keepalive", "heartbeat")
KEYS = (*(f"{key}{side}" for key in SIDED for side in ("", "-downstream", "-upstream")), "request", *MIDDLEBOXES)


def duration(text: str, what: str) -> Decimal:
    """Seconds from `65`, `65s`, `500ms`, `2m`, `1m30s`; a bare number is seconds. Raises `Misuse` in the name of `what`."""
    with_unit = f"{text}s" if re.fullmatch(NUMBER, text) else text
    if not re.fullmatch(rf"({PART} ?)+", with_unit):
        raise Misuse(f"{what}: {text!r} is not a duration: write 65, 65s, 500ms, 2m or 1m30s")
    seconds = sum((Decimal(number) * UNITS[unit] for number, unit in re.findall(PART, with_unit)), Decimal(0))
    if seconds > LONGEST:
        raise Misuse(f"{what}: {text[:20]} is beyond every timeout: write never, if it never ends")
    return seconds


def _timeout(text: str, what: str, words: Mapping[str, Decimal]) -> Decimal:
    """A duration, or one of the words that say it without a number."""
    if text in words:
        return words[text]
    seconds = duration(text, what)
    if not seconds:
        told = " or ".join(words)
        raise Misuse(f"{what}: 0 is 'never' to some programs and 'off' to others: write {told}")
    return seconds


def _words_of(key: str) -> dict[str, Decimal]:
    if key == "idle":
        return {"never": NEVER, "off": OFF}
    if key == "tcp-keepalive":
        return {"on": TCP_KEEPALIVE_TIME, "off": NEVER}
    return {"never": NEVER}


def read(words: Sequence[str], file: str | None, *, requests: bool) -> list[Hop | Middlebox]:
    """The chain that the command line gives, itself or as a file ("-": standard input). Raises `Misuse`."""
    if bool(words) == (file is not None):
        raise Misuse("give the timeouts from the client to the server, such as 30 60 65, or --file alone")
    if file is None:
        return from_words(words, requests=requests)
    if requests:
        raise Misuse("--requests is for timeouts on the command line: in a file write request = TIMEOUT")
    try:
        with open(0 if file == "-" else file, "rb", closefd=file != "-") as stream:
            told = stream.read(LARGEST + 1)
    except OSError as error:
        raise exhausted(error) or Misuse(f"--file {file} cannot be read: {error.strerror}") from None
    if len(told) > LARGEST:
        raise Misuse(f"--file {file} has more than {LARGEST} bytes: a chain of timeouts has a few lines")
    try:
        return from_file(told.decode("utf-8-sig"), "standard input" if file == "-" else file)
    except UnicodeDecodeError:
        raise Misuse(f"--file {file} is not text: write a section for each hop, from [client] to [server]") from None


def from_words(words: Sequence[str], *, requests: bool = False) -> list[Hop | Middlebox]:
    """The chain on a command line: bare timeouts, or NAME=TIMEOUT, for a proxy NAME=DOWNSTREAM/UPSTREAM."""
    pairs = [(name, value) if sign else ("", name) for name, sign, value in (word.partition("=") for word in words)]
    nameless = next((word for word in words if word.startswith("=")), None)
    if nameless:
        raise Misuse(f"{nameless} has no name: write NAME=TIMEOUT, or the timeout alone")
    hops = [number for number, (name, _) in enumerate(pairs) if name not in MIDDLEBOXES]
    chain: list[Hop | Middlebox] = []
    for number, (name, value) in enumerate(pairs):
        if name in MIDDLEBOXES:
            chain.append(Middlebox(name, name, _timeout(value, name, _words_of(name))))
            continue
        ends = number in (hops[0], hops[-1])
        called = name or _role(hops.index(number), len(hops))
        chain.append(_hop(called, value, requests=requests, ends=ends))
    return chain


def _role(number: int, of: int) -> str:
    """What a hop without a name is called."""
    if number in (0, of - 1):
        return "server" if number else "client"
    return "proxy" if of == 3 else f"proxy-{number}"


def _hop(name: str, value: str, *, requests: bool, ends: bool) -> Hop:
    if requests:
        return Hop(name, request=_timeout(value, name, _words_of("request")))
    downstream, slash, upstream = value.partition("/")
    if slash and ends:
        raise Misuse(f"{name}={value}: an end of the chain has one timeout: only a proxy has one for either side")
    near = _timeout(downstream, name, _words_of("idle"))
    far = _timeout(upstream, name, _words_of("idle")) if slash else near
    return Hop(name, Side(idle=near), Side(idle=far))


def from_file(text: str, name: str) -> list[Hop | Middlebox]:
    """The chain in a file's text; `name` is the file's, for what is wrong with it."""
    parser = configparser.ConfigParser(
        interpolation=None, inline_comment_prefixes=(";", "#"), default_section="", empty_lines_in_values=False
    )
    try:
        parser.read_string(text)
    except configparser.DuplicateSectionError as error:
        raise Misuse(
            f"{name}, line {error.lineno}: a second section [{error.section}]: give each hop a name of its own"
        ) from None
    except configparser.DuplicateOptionError as error:
        raise Misuse(f"{name}, line {error.lineno}: {error.option} stands twice in [{error.section}]") from None
    except configparser.MissingSectionHeaderError as error:
        raise Misuse(f"{name}, line {error.lineno}: a timeout before the first [hop]: begin with [client]") from None
    except configparser.ParsingError as error:
        number = error.errors[0][0]
        line = text.splitlines()[number - 1].strip()
        raise Misuse(f"{name}, line {number}: {line!r} is neither [hop] nor key = timeout") from None
    sections = parser.sections()
    if not sections:
        raise Misuse(f"{name}: no hop in it: write a section for each, from [client] to [server]")
    return [_section(name, parser[hop], first=hop == sections[0], last=hop == sections[-1]) for hop in sections]


def _section(file: str, section: configparser.SectionProxy, *, first: bool, last: bool) -> Hop | Middlebox:
    what = f"{file}, [{section.name}]"
    given = {key.replace("_", "-").replace(" ", "-"): " ".join(value.split()) for key, value in section.items()}
    for key in given:
        if key not in KEYS:
            raise Misuse(f"{what}: {key} is not a timeout: it takes {', '.join(KEYS)}")
    if not given:
        raise Misuse(f"{what}: it says nothing: give it one of {', '.join(KEYS)}")
    cause = next((key for key in given if key in MIDDLEBOXES), None)
    if cause:
        if len(given) > 1:
            raise Misuse(f"{what}: what has a {cause} has nothing else: it only forgets")
        return Middlebox(section.name, cause, _timeout(given[cause], f"{what}, {cause}", _words_of(cause)))
    for side, nobody in (("downstream", first), ("upstream", last)):
        pointless = next((key for key in given if key.endswith(side)), None)
        if nobody and pointless:
            raise Misuse(f"{what}: {pointless} decides nothing: nobody is {side} of {section.name}")
    request = _timeout(given["request"], f"{what}, request", _words_of("request")) if "request" in given else None
    return Hop(section.name, _side(given, "downstream", what), _side(given, "upstream", what), request)


def _side(given: Mapping[str, str], side: str, what: str) -> Side:
    values: dict[str, Decimal | None] = {}
    for key in SIDED:
        called = f"{key}-{side}" if f"{key}-{side}" in given else key
        values[key.replace("-", "_")] = (
            _timeout(given[called], f"{what}, {called}", _words_of(key)) if called in given else None
        )
    return Side(**values)
