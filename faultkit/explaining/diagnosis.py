"""What is said of one connection: how it ended, who ended it, why, how sure that is, and what it rests on."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from faultkit.explaining.flows import Connection

# How sure a diagnosis is. Never filled in from a promise.
Sureness = Literal["shown by the packets", "most likely", "one of these", "cannot be told"]
SURE: tuple[Sureness, ...] = (
    "shown by the packets",
    "most likely",
    "one of these",
    "cannot be told",
)  # the surest first

# What the end was for the programs, the worst first.
Harm = Literal["failed", "suspicious", "open", "harmless", "closed", "no reset"]
HARMS: tuple[Harm, ...] = ("failed", "suspicious", "open", "harmless", "closed", "no reset")

Sender = Literal["client", "server", "middlebox", ""]  # "" where it cannot be told


@dataclass(frozen=True, slots=True)
class ResetTold:
    """One RST of a connection: its packet's number, who sent it, and what that rests on."""

    number: int
    by: Sender
    between: tuple[str, ...]  # who it may have been, where `by` is ""
    why: str
    answers: int = 0  # the packet that it answers; 0 where none is known
    signature: str = ""  # of tampering, as published


@dataclass(frozen=True, slots=True)
class Finding:
    """What one rule has found: an end, and the causes that fit it, the most likely first."""

    end: str
    harm: Harm
    causes: tuple[
        str, ...
    ]  # as typed after `faultkit`: "keepalive-race --fin in-flight"; () where the catalogue has none
    sure: Sureness
    why: str  # one to three sentences that cite packet numbers
    by: Sender = ""
    against: str = ""  # what speaks against the next cause
    tell: str = ""  # what would make it certain
    plain: str = ""  # the cause in words, where the catalogue has none


@dataclass(frozen=True, slots=True)
class Diagnosis:
    """One connection explained. `causes` are names of the catalogue with their options, the most likely first."""

    connection: Connection
    end: str
    harm: Harm
    by: Sender
    causes: tuple[str, ...]
    sure: Sureness
    why: str
    against: str = ""
    tell: str = ""
    plain: str = ""
    resets: tuple[ResetTold, ...] = ()
    caveats: tuple[str, ...] = field(default=())

    @property
    def cause(self) -> str:
        """The name of the most likely cause; "" where the catalogue has none."""
        return self.causes[0].split()[0] if self.causes else ""

    @property
    def words(self) -> str:
        """The cause as a table shows it."""
        if not self.causes:
            return self.plain
        if self.sure == "one of these":
            return " or ".join(dict.fromkeys(cause.split()[0] for cause in self.causes))
        return self.causes[0]
