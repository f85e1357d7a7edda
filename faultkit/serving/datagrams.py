"""What a server of UDP answers where all is well: an echo, bytes, a function of the test's, or DNS."""

from __future__ import annotations

import functools
import socket
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal, Protocol

from faultkit import keywords
from faultkit.errors import Misuse

SENDABLE = 65507  # bytes of what one carries, over IPv4 (RFC 768, RFC 791)
TRUNCATED = 0x0200  # TC, in the second word of a DNS message (RFC 1035 section 4.1.1)

UdpAnswer = Literal["echo", "dns"] | bytes | Callable[[bytes], bytes | None]


class Answering(Protocol):
    """What a healthy server answers, and what becomes of an answer that is cut."""

    def answer(self, asked: bytes) -> bytes | None: ...
    def cut(self, answer: bytes, length: int | None) -> bytes: ...


@dataclass(frozen=True, slots=True)
class Plain:
    """By a function of the test's, or one of ours."""

    answer: Callable[[bytes], bytes | None]

    def cut(self, answer: bytes, length: int | None) -> bytes:
        """So many bytes of it, or half."""
        return answer[: len(answer) // 2 if length is None else length]


class Dns:
    """DNS (RFC 1035): every name has the address 127.0.0.1, and ::1; other types have no record."""

    RECORDS: Mapping[int, bytes] = {1: socket.inet_aton("127.0.0.1"), 28: socket.inet_pton(socket.AF_INET6, "::1")}

    def answer(self, asked: bytes) -> bytes | None:
        """None for what is no query."""
        end = self._question_ends(asked)
        if end is None:
            return None
        kind = int.from_bytes(asked[end - 4 : end - 2])
        data = self.RECORDS.get(kind)
        flags = (int.from_bytes(asked[2:4]) & 0x7900) | 0x8080  # the opcode and RD as they came; QR, RA
        record = (
            b"" if data is None else b"\xc0\x0c" + asked[end - 4 : end] + b"\0\0\0\x3c" + len(data).to_bytes(2) + data
        )
        counts = b"\0\1" + (b"\0\1" if data else b"\0\0") + bytes(4)
        return asked[:2] + flags.to_bytes(2) + counts + asked[12:end] + record

    def cut(self, answer: bytes, length: int | None) -> bytes:
        """With TC, and no record: the client is to ask over TCP (RFC 7766). With a length merely so many bytes."""
        if length is not None:
            return answer[:length]
        end = self._question_ends(answer) or len(answer)
        flags = int.from_bytes(answer[2:4]) | TRUNCATED
        return answer[:2] + flags.to_bytes(2) + b"\0\1" + bytes(6) + answer[12:end]

    def _question_ends(self, message: bytes) -> int | None:
        at = 12
        while at < len(message) and message[at]:
            at += message[at] + 1
        return at + 5 if len(message) >= at + 5 else None


def answering(answer: UdpAnswer) -> Answering:
    """What this asks for. Raises `Misuse`."""
    if isinstance(answer, str) and answer == "dns":
        return Dns()
    if isinstance(answer, str) and answer == "echo":
        return Plain(lambda asked: asked)
    if isinstance(answer, bytes):
        _check_size("answer= has", answer)
        return Plain(lambda asked: answer)
    if callable(answer) and not isinstance(answer, type):
        if keywords.is_async(answer) or not keywords.takes_one(answer):
            raise Misuse(
                f"answer={keywords.called(answer)} cannot answer a datagram: take a function of its bytes, no async def"
            )
        return Plain(functools.partial(_asked, answer))
    raise Misuse(f"answer={answer!r} is nothing to answer: take 'echo', 'dns', bytes, or a function of bytes")


def _asked(function: Callable[[bytes], bytes | None], data: bytes) -> bytes | None:
    """What the test's own function answers. Raises `Misuse` for what cannot be sent."""
    answer = function(data)
    if not isinstance(answer, bytes | None):
        raise Misuse(f"answer={keywords.called(function)} gave {answer!r}: an answer is bytes, or None for none")
    if answer is not None:
        _check_size(f"answer={keywords.called(function)} gave", answer)
    return answer


def _check_size(what: str, answer: bytes) -> None:
    if len(answer) > SENDABLE:
        raise Misuse(f"{what} {len(answer)} bytes: a datagram takes up to {SENDABLE}")
