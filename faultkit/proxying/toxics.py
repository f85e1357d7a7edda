"""What can be put on a direction: the toxics by their types, their attributes with bounds, and when they set in."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal, get_args

from faultkit import keywords
from faultkit.errors import Misuse
from faultkit.proxying import kinds
from faultkit.proxying.stages import Stage
from faultkit.serving import faults, steps, words
from faultkit.serving import plan as plans
from faultkit.serving.faults import Fault
from faultkit.trigger import Trigger

Stream = Literal["upstream", "downstream", "both"]
STREAMS: tuple[Stream, ...] = get_args(Stream)

DIVISIBLE = ("ms", "us", "KB/s")  # units of which Python may want a part
LONGEST = 2**31 - 1  # ms, us; some 25 days, as what waits for anything has its end
MOST = 2**63 - 1  # bytes


@dataclass(frozen=True, slots=True)
class Number:
    """An attribute: its unit and bounds."""

    unit: str
    least: float = 0
    most: float = LONGEST
    whole: bool = True


DURATION, COUNT = Number("ms"), Number("bytes", most=MOST)
PROBABILITY = Number("of 1", most=1, whole=False)

# By type: what it is made of, its attributes.
TYPES: Mapping[str, tuple[type[Stage] | None, Mapping[str, Number]]] = {
    "noop": (None, {}),
    "latency": (kinds.Latency, {"latency": DURATION, "jitter": DURATION}),
    "bandwidth": (kinds.Bandwidth, {"rate": Number("KB/s"), "shared": Number("of 1", most=1)}),
    "slow_close": (kinds.SlowClose, {"delay": DURATION}),
    "timeout": (kinds.Timeout, {"timeout": DURATION}),
    "reset_peer": (kinds.ResetPeer, {"timeout": DURATION}),
    "slicer": (
        kinds.Slicer,
        {
            "average_size": Number("bytes"),
            "size_variation": Number("bytes"),
            "delay": Number("us"),
        },
    ),
    "limit_data": (kinds.LimitData, {"bytes": COUNT}),
    "packet_loss": (kinds.PacketLoss, {"loss_rate": PROBABILITY, "correlation": PROBABILITY}),
}

# When any of them sets in on a connection. Each stands alone, but `connections`.
WHEN: Mapping[str, Number] = {
    "connections": Number("connections"),  # only of the first so many after it was added; 0: of all
    "after_bytes": COUNT,  # of its direction
    "after_requests": Number("requests"),
    "after_ms": DURATION,  # since the connection began
    "after_idle_ms": DURATION,  # without a byte either way
    "at_fire": Number("of 1", most=1),  # when it is fired
}


@dataclass(frozen=True, slots=True)
class Toxic:
    """A toxic, or a fault of `faultkit serve`, as a proxy has it. Made by `made`, and by `faultkit.latency` and its like."""

    type: str
    name: str = ""
    stream: Stream = "downstream"
    toxicity: float = 1.0
    attributes: Mapping[str, int | float] = field(default_factory=dict)
    fault: Fault | None = None  # where the type is one of `faultkit serve`
    stream_as_given: str = ""  # "UpStream"

    @property
    def directions(self) -> tuple[Stream, ...]:
        """The directions that it is on: "upstream" is from the client to the service."""
        return ("upstream", "downstream") if self.stream == "both" else (self.stream,)

    @property
    def later(self) -> bool:
        """Does it wait for a moment on its connection?"""
        return any(self.attributes.get(key) for key in WHEN if key != "connections")

    def towards(self, stream: str) -> Toxic:
        """The same in that direction."""
        own = self.name == f"{self.type}_{self.stream_as_given}"
        return made(
            self.type,
            name=None if own else self.name,
            stream=stream,
            toxicity=self.toxicity,
            attributes=self.attributes,
            fractions=True,
        )

    def changed(self, attributes: Mapping[str, Any] | None = None, toxicity: object = None) -> Toxic:
        """The same with these attributes merged in, and this toxicity. Raises `Misuse`, and nothing is changed then."""
        merged = {**self.attributes, **_known(self.type, attributes or {})}
        return made(
            self.type,
            name=self.name,
            stream=self.stream_as_given or self.stream,
            toxicity=self.toxicity if toxicity is None else toxicity,
            attributes=merged,
            fractions=any(isinstance(value, float) for value in self.attributes.values()),
        )


def made(
    type: str,
    *,
    name: str | None = None,
    stream: str | None = None,
    toxicity: object = None,
    attributes: Mapping[str, Any] | None = None,
    fractions: bool = False,
) -> Toxic:
    """The toxic of that type, checked; attributes that are left out, or None, have their defaults, and unknown ones are left out.

    Raises `Misuse`, `UnknownType` and `UnknownStream`, which are its kinds.
    """
    if name is not None and not isinstance(name, str):
        raise Misuse(f"name={name!r} is no text")
    given = "downstream" if stream is None else stream
    direction = given.lower() if isinstance(given, str) else ""
    if direction not in STREAMS:
        raise UnknownStream(f"stream {given!r} is none: it is upstream, downstream or both")
    fault = None if type in TYPES else _fault(type)
    known = numbers(type)
    values = {
        key: _checked(type, key, known[key], value, fractions) for key, value in _known(type, attributes or {}).items()
    }
    complete = {key: values.get(key, 0) for key in (TYPES[type][1] if type in TYPES else {})}
    complete.update((key, value) for key, value in values.items() if key in WHEN)
    _check_sense(type, complete)
    toxic = Toxic(
        type=type,
        name=name or f"{type}_{given}",
        stream=direction,
        toxicity=_toxicity(toxicity),
        attributes=complete,
        fault=fault,
        stream_as_given=given,
    )
    return replace(toxic, fault=_timed(toxic)) if fault else toxic


class UnknownType(Misuse):
    """There is no toxic of that type."""


class UnknownStream(Misuse):
    """There is no such direction."""


def numbers(type: str) -> Mapping[str, Number]:
    """The attributes that it takes."""
    return {**TYPES[type][1], **WHEN} if type in TYPES else WHEN


def _known(type: str, attributes: Mapping[str, Any]) -> dict[str, Any]:
    known = numbers(type)
    return {key: value for key, value in attributes.items() if key in known and value is not None}


def _fault(type: str) -> Fault:
    if not isinstance(type, str):
        raise UnknownType(f"{type!r} is not the name of a toxic: it is one of {', '.join(TYPES)}, or a fault")
    try:
        found = steps.fault(type)
        plans.check_spoken(plans.Plan(lambda number: found, fault=found), "", tls=False)
    except Misuse as error:
        if "there is no fault" in str(error):
            meant = words.hint(type.replace("_", "-"), [*TYPES, *faults.names()])
            raise UnknownType(
                f"there is no toxic {type!r}: {meant or 'it is one of ' + ', '.join(TYPES) + ', or a fault of faultkit serve'}"
            ) from None
        raise
    return found


def _checked(type: str, key: str, number: Number, value: object, fractions: bool) -> int | float:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise Misuse(f"{type}: {key}={value!r} is no number")
    if number.whole and not (fractions and number.unit in DIVISIBLE) and not isinstance(value, int):
        raise Misuse(f"{type}: {key}={value!r} is no whole number of {number.unit}")
    if not number.least <= value <= number.most:
        told, most = plain(value), plain(number.most)
        raise Misuse(f"{type}: {key}={told} {number.unit} makes no sense: it is {plain(number.least)} to {most}")
    return value


def plain(value: float) -> int | float:
    """A whole number without a point."""
    return int(value) if float(value).is_integer() else value


def _check_sense(type: str, values: Mapping[str, int | float]) -> None:
    if type == "slicer" and values["average_size"] and values["size_variation"] > values["average_size"]:
        raise Misuse(
            f"slicer: size_variation={values['size_variation']} is more than average_size={values['average_size']}: "
            "a slice has no less than no bytes"
        )
    given = [key for key in WHEN if key != "connections" and values.get(key)]
    if len(given) > 1:
        raise Misuse(f"{type}: {' and '.join(given)}: it has one moment to set in; leave all but one out")


def _toxicity(value: object) -> float:
    if value is None:
        return 1.0
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise Misuse(f"toxicity={value!r} is no number")
    return float(value)


def _timed(toxic: Toxic) -> Fault:
    """Its fault at the moment that the attributes name."""
    kinds: Mapping[str, Any] = {
        "after_bytes": "bytes",
        "after_requests": "requests",
        "after_idle_ms": "idle",
        "at_fire": "fire",
    }
    when = None
    for key, kind in kinds.items():
        if amount := toxic.attributes.get(key):
            when = Trigger(kind, amount / 1000 if key == "after_idle_ms" else 0 if key == "at_fire" else amount)
    return steps.fault(toxic.type, when)


# For Python: seconds and bytes per second, with fractions, and keywords as `made` takes them.


@keywords.checked
def latency(seconds: float, *, jitter_seconds: float = 0.0, **more: Any) -> Toxic:
    """Each piece is that late, give or take a uniform jitter; order is kept."""
    return _exact("latency", more, latency=seconds * 1000, jitter=jitter_seconds * 1000)


@keywords.checked
def bandwidth(bytes_per_second: float, *, shared: bool = False, **more: Any) -> Toxic:
    """No more than that, for each connection, or for all together."""
    return _exact("bandwidth", more, rate=bytes_per_second / 1000, shared=int(shared))


@keywords.checked
def slow_close(seconds: float, **more: Any) -> Toxic:
    """What ends the direction comes that late."""
    return _exact("slow_close", more, delay=seconds * 1000)


@keywords.checked
def timeout(seconds: float, **more: Any) -> Toxic:
    """Nothing passes, and after that time both ends are closed; 0: never."""
    return _exact("timeout", more, timeout=seconds * 1000)


@keywords.checked
def reset_peer(seconds: float = 0.0, **more: Any) -> Toxic:
    """Nothing passes, and after that time both ends are reset."""
    return _exact("reset_peer", more, timeout=seconds * 1000)


@keywords.checked
def slicer(average_size: int, *, size_variation: int = 0, delay_seconds: float = 0.0, **more: Any) -> Toxic:
    """Pieces of that size, give or take, and so long after each."""
    return _exact(
        "slicer", more, average_size=average_size, size_variation=size_variation, delay=delay_seconds * 1_000_000
    )


@keywords.checked
def limit_data(size: int, **more: Any) -> Toxic:
    """So many bytes pass, then both ends are closed."""
    return _exact("limit_data", more, bytes=size)


@keywords.checked
def packet_loss(loss_rate: float, *, correlation: float = 0.0, **more: Any) -> Toxic:
    """What is read at once is lost with that probability."""
    return _exact("packet_loss", more, loss_rate=loss_rate, correlation=correlation)


def _exact(type: str, more: Mapping[str, Any], **attributes: float) -> Toxic:
    """With fractions, which the attributes as such do not take. What stands beside them: a name, `connections` ..."""
    moments = {key: value for key, value in more.items() if key in WHEN}
    rest = {key: value for key, value in more.items() if key not in WHEN}
    if unknown := rest.keys() - {"name", "stream", "toxicity"}:
        raise Misuse(f"{type} takes no {min(unknown)}: it takes name, stream, toxicity, {', '.join(WHEN)}")
    return made(type, attributes={**attributes, **moments}, fractions=True, **rest)
