"""Protocols of lines, as far as a client needs them to connect and go on: Redis and SMTP."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from faultkit import keywords
from faultkit.errors import Misuse

if TYPE_CHECKING:
    from faultkit.serving.connection import Live

NULL = b"$-1\r\n"
LONGEST = 1 << 20  # bytes of a line; arbitrary


class _Reader:
    """What a connection says, by lines and by sizes."""

    def __init__(self, conn: Live) -> None:
        self._conn = conn
        self._left = b""

    async def line(self) -> bytes | None:
        """The next one without its end, None at the end of all. Raises `ValueError` for one that is too long."""
        while b"\n" not in self._left:
            if len(self._left) > LONGEST or not (data := await self._conn.receive()):
                if self._left and len(self._left) > LONGEST:
                    raise ValueError("the line is too long")
                return None
            self._left += data
        line, _, self._left = self._left.partition(b"\n")
        return line.removesuffix(b"\r")

    async def exactly(self, size: int) -> bytes | None:
        """So many bytes, None where they end before."""
        while len(self._left) < size:
            if not (data := await self._conn.receive()):
                return None
            self._left += data
        found, self._left = self._left[:size], self._left[size:]
        return found


@dataclass
class Redis:
    """Redis, for `answer=`: PING, ECHO, GET, SET, DEL, INCR, HELLO and QUIT on values that all connections share, else "+OK".

    Each command counts as a request, each reply as an answer.
    """

    values: dict[bytes, bytes] = field(default_factory=dict)

    def __post_init__(self) -> None:
        keywords.check_fields(self)

    async def __call__(self, conn: Live) -> None:
        reader, version = _Reader(conn), 2
        try:
            while command := await _command(reader):
                await conn.request()
                if command[0].upper() == b"HELLO":
                    version = 3 if command[1:2] == [b"3"] else 2
                    await conn.answer(_hello(version, conn.record.number))
                    continue
                reply = self._reply(*command)
                await conn.answer(b"_\r\n" if reply == NULL and version == 3 else reply)
                if command[0].upper() == b"QUIT":
                    conn.finish()
                    return
        except ValueError as error:
            await conn.answer(f"-ERR Protocol error: {error}\r\n".encode())
            conn.finish()

    def _reply(self, name: bytes, *arguments: bytes) -> bytes:
        match name.upper(), arguments:
            case b"PING", ():
                return b"+PONG\r\n"
            case ((b"PING" | b"ECHO"), (text,)):
                return _bulk(text)
            case b"GET", (key,):
                return _bulk(self.values.get(key))
            case b"SET", (key, value, *_):
                self.values[key] = value
                return b"+OK\r\n"
            case b"DEL", keys:
                return b":%d\r\n" % sum(self.values.pop(key, None) is not None for key in keys)
            case b"INCR" | b"INCRBY", (key, *by) if len(by) == (name.upper() == b"INCRBY"):
                before, step = self.values.get(key, b"0"), by[0] if by else b"1"
                if not (before.removeprefix(b"-").isdigit() and step.removeprefix(b"-").isdigit()):
                    return b"-ERR value is not an integer or out of range\r\n"
                self.values[key] = b"%d" % (int(before) + int(step))
                return b":" + self.values[key] + b"\r\n"
            case b"CLIENT", (subcommand, *_) if subcommand.upper() not in (b"SETNAME", b"SETINFO"):
                return b"-ERR unknown subcommand '%s'\r\n" % subcommand
            case ((b"GET" | b"SET" | b"ECHO" | b"INCR"), _):
                return b"-ERR wrong number of arguments for '%s' command\r\n" % name.lower()
        return b"+OK\r\n"


def _hello(version: int, number: int) -> bytes:
    """What a server says of itself, as an array (RESP2) or a map (RESP3)."""
    told: dict[bytes, bytes | int] = {
        b"server": b"redis",
        b"version": b"7.4.0",
        b"proto": version,
        b"id": number,
        b"mode": b"standalone",
    }
    told[b"role"] = b"master"
    pairs = [_bulk(name) + (_bulk(is_) if isinstance(is_, bytes) else b":%d\r\n" % is_) for name, is_ in told.items()]
    modules = _bulk(b"modules") + b"*0\r\n"
    return (
        (b"%%%d\r\n" % (len(pairs) + 1) if version == 3 else b"*%d\r\n" % (2 * len(pairs) + 2))
        + b"".join(pairs)
        + modules
    )


def _bulk(text: bytes | None) -> bytes:
    return NULL if text is None else b"$%d\r\n%s\r\n" % (len(text), text)


async def _command(reader: _Reader) -> list[bytes] | None:
    """The next command with its arguments, None at the end of all. Raises `ValueError` for what is none."""
    while (line := await reader.line()) is not None:
        words: list[bytes] = []
        if not line.startswith(b"*"):
            words = line.split()  # as a person types it
        else:
            for _ in range(_size(line, b"*")):
                head = await reader.line()
                text = None if head is None else await reader.exactly(_size(head, b"$") + 2)
                if text is None:
                    return None
                words.append(text[:-2])
        if words:
            return words
    return None


def _size(line: bytes, kind: bytes) -> int:
    if not (line.startswith(kind) and line[1:].isdigit() and int(line[1:]) <= LONGEST):
        raise ValueError(f"expected '{kind.decode()}' and a size, got {line[:20]!r}")
    return int(line[1:])


@dataclass(frozen=True)
class Smtp:
    """SMTP (RFC 5321), for `answer=`: it greets, and takes every mail. Each command and each mail counts as a request, each reply
    as an answer; the greeting counts as neither. One that begins with "554" or "421" is followed by nothing but QUIT.
    With `tls=faultkit.Tls(later=True)` it offers STARTTLS (RFC 3207).
    """

    greeting: str = "220 faultkit ESMTP"

    def __post_init__(self) -> None:
        keywords.check_fields(self)
        if not re.fullmatch(r"[2-5][0-9]{2}( [\x20-\x7e]*)?", self.greeting):  # RFC 5321 section 4.2
            raise Misuse(
                f"Smtp(greeting={self.greeting!r}): it is a code of three digits, a space, and one line of ASCII, "
                "such as '421 not today'"
            )

    async def __call__(self, conn: Live) -> None:
        await conn.send(self.greeting.encode() + b"\r\n")
        reader = _Reader(conn)
        while (line := await reader.line()) is not None:
            await conn.request()
            verb = line[:8].upper()
            if verb == b"STARTTLS" and conn.offers_tls:
                await conn.answer(b"220 Go ahead\r\n")
                await conn.start_tls()
                reader = _Reader(conn)  # what was said in the clear is forgotten (RFC 3207 section 4.2)
                continue
            verb = verb[:4]
            reply = self._reply(verb, offers_tls=conn.offers_tls)
            await conn.answer(reply)
            if reply.startswith(b"354"):
                while (line := await reader.line()) != b".":
                    if line is None:
                        return
                await conn.request()
                await conn.answer(b"250 OK\r\n")
            elif verb == b"QUIT":
                conn.finish()
                return

    def _reply(self, verb: bytes, *, offers_tls: bool) -> bytes:
        if self.greeting[0] != "2" and verb != b"QUIT":
            return b"503 Bad sequence of commands\r\n"
        match verb:
            case b"EHLO":
                return b"250-faultkit\r\n" + b"250-STARTTLS\r\n" * offers_tls + b"250-8BITMIME\r\n250 SMTPUTF8\r\n"
            case b"DATA":
                return b"354 End data with <CR><LF>.<CR><LF>\r\n"
            case b"QUIT":
                return b"221 Bye\r\n"
            case b"VRFY":
                return b"252 OK\r\n"
            case b"HELO" | b"MAIL" | b"RCPT" | b"RSET" | b"NOOP":
                return b"250 OK\r\n"
        return b"500 Syntax error, command unrecognized\r\n"
