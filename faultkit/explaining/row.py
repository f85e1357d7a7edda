"""One packet as a row of text tells it."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(slots=True)
class Row:
    """One packet as a row tells it; numbers as printed."""

    number: int | None = None
    time_ns: int | None = None
    source: str = ""
    destination: str = ""
    sport: int = 0
    dport: int = 0
    flags: int = 0
    seq: int | None = None
    ack: int | None = None
    window: int | None = None
    size: int | None = None
    frame: int | None = None  # bytes of the whole frame
    ttl: int | None = None
    ip_id: int | None = None
    options: tuple[tuple[str, object], ...] | None = None
    note: str = ""
    partial: bool = False  # a row of a protocol above TCP: no numbers
    error: str = (
        ""  # an ICMP error of this kind; the ports are those of the segment that it quotes, 0 where it quotes none
    )
    about: tuple[str, int] = ("", 0)  # the host and the port that an ICMP error names
    clock: bool = False  # its time is one of day, and the day is not told
    place: str = ""  # where a device saw it; "" for rows of a capture
    gap: bool = False  # the text says that rows were left out before it
    scaled: bool = False  # the window may be multiplied as its SYN has said
