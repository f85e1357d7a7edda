"""What is in the options of Multipath TCP (RFC 8684 section 3): bodies of TCP option 30, read and made. Pure."""

from __future__ import annotations

import hashlib
import hmac
import struct

from faultkit.evidence.reasons import REASONS
from faultkit.evidence.segments import mptcp_options
from faultkit.evidence.transcript import Packet

# Subtypes (RFC 8684 section 8.2), in the upper half of a byte.
MP_JOIN, DSS, MP_TCPRST = 0x10, 0x20, 0x80


def key(packet: Packet) -> bytes:
    """The sender's key in MP_CAPABLE: it crosses in the open, in a SYN,ACK or in the client's first ACK (section 3.1)."""
    return mptcp_options(packet)[0][2:10]


def nonce(packet: Packet) -> bytes:
    """Of the MP_JOIN in a SYN or SYN,ACK (section 3.2)."""
    return mptcp_options(packet)[0][-4:]


def token(key: bytes) -> bytes:
    """By which a connection is asked for (section 3.2)."""
    return hashlib.sha256(key).digest()[:4]


def proof(keys: bytes, nonces: bytes, size: int) -> bytes:
    """The HMAC of who joins, the one's own first in both (section 3.2)."""
    return hmac.digest(keys, nonces, "sha256")[:size]


def join(body: bytes, address: int = 0) -> tuple[str, bytes]:
    """MP_JOIN of that address identifier, as a segment's option."""
    return "opt30", bytes((MP_JOIN, address)) + body


def mapping(key: bytes, passed: int, size: int, checksum: int) -> tuple[str, bytes]:
    """DSS for the first data of a subflow, with as many bytes of the sender's gone before on others (section 3.3)."""
    start = int.from_bytes(hashlib.sha256(key).digest()[-8:]) + 1 + passed
    return "opt30", bytes((DSS, 0x0C)) + struct.pack("!QIHH", start & (1 << 64) - 1, 1, size, checksum)


def reason(packet: Packet) -> str:
    """What MP_TCPRST says in a RST (section 3.6), by the kernel's name; "" where it says nothing that is known.

    include/net/rstreason.h lists them in the order of the codes, from MPTCP_RST_EUNSPEC on.
    """
    names = [name for name in REASONS if name.startswith("MPTCP_")]
    codes = [body[1] for body in mptcp_options(packet) if body[0] & 0xF0 == MP_TCPRST]
    return names[codes[0]] if codes and codes[0] < len(names) else ""
