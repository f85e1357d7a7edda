"""What a cause says about itself: the contract of every file in `faultkit.causes`, and of a user's own."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import Field, dataclass, field, fields
from typing import TYPE_CHECKING, Any, Literal

from faultkit.errors import Misuse
from faultkit.evidence.verdict import Promise
from faultkit.serving.trigger import FIRST_BYTE, Trigger

if TYPE_CHECKING:
    from faultkit.playing.play import Play
    from faultkit.serving.connection import Live
    from faultkit.serving.door import Door
    from faultkit.witness.calls import Socket

Family = Literal["application", "absent", "timer", "middlebox", "protocol"]

# Who kills the connection, in the order in which they are listed.
FAMILIES: dict[Family, str] = {
    "application": "a program's own close",
    "absent": "nobody at the other end",
    "timer": "a kernel clock ran out",
    "middlebox": "something in between",
    "protocol": "a segment that TCP must refuse",
}


@dataclass(frozen=True)
class Options:
    """The options of one cause, as a frozen dataclass whose fields are made by `option`. This one has none."""

    def check(self) -> None:
        """Raise `Misuse` for values that do not go together. Each value alone is checked already."""


@dataclass(frozen=True, slots=True)
class Spec:
    """How one option is written on the command line and which values it takes."""

    help: str
    unit: str = ""  # "ms" on the command line is seconds in Python
    least: int | None = None
    most: int | None = None
    multiple: int = 1  # of its unit
    choices: tuple[str, ...] = ()
    metavar: str = ""
    only_with: tuple[str, ...] = ()  # another option's name and the values of it with which this one decides anything


def option(default: Any, help: str, **spec: Any) -> Any:
    """A field of an `Options` class; `spec` as in `Spec`. A duration in Python is seconds, on the command line "ms"."""
    return field(default=default, metadata={"spec": Spec(help, **spec)})


def spec(option: Field[Any]) -> Spec:
    """The `Spec` of a field made by `option`."""
    found = option.metadata["spec"]
    assert isinstance(found, Spec)
    return found


def flag(option: Field[Any]) -> str:
    """`--user-timeout` for the field `user_timeout_seconds`: a unit in a Python name is not repeated on the command line."""
    return "--" + option.name.removesuffix("_seconds").replace("_", "-")


def written(option: Field[Any], value: Any) -> Any:
    """A Python value as the command line writes it: 2.0 s becomes 2000 (ms)."""
    return round(value * 1000) if spec(option).unit == "ms" and value is not None else value


def checked(cause: Cause, values: dict[str, Any]) -> Options:
    """The cause's options from Python values; unset ones take their defaults. Raises `Misuse`."""
    known = {option.name: option for option in fields(cause.options)}
    for name, value in values.items():
        if name not in known:
            raise Misuse(f"{cause.name}: it has no option {name!r}: it takes {', '.join(known) or 'none'}")
        _check_range(cause, known[name], value)
    options = cause.options(**values)
    for name in values:
        _check_decides(cause, known, known[name], options)
    try:
        options.check()
    except Misuse as error:
        raise Misuse(f"{cause.name}: {error}") from None
    return options


def _check_decides(cause: Cause, known: dict[str, Field[Any]], option: Field[Any], options: Options) -> None:
    """An option that was given and decides nothing was meant for something else."""
    if not spec(option).only_with:
        return
    other, *values = spec(option).only_with
    if getattr(options, other) not in values:
        raise Misuse(
            f"{cause.name}: {flag(option)} decides nothing with {flag(known[other])} {getattr(options, other)}: "
            f"add {flag(known[other])} {' or '.join(values)}"
        )


def _check_range(cause: Cause, option: Field[Any], value: Any) -> None:
    rule, shown = spec(option), written(option, value)
    if isinstance(shown, bool) or not isinstance(shown, int | float):
        if rule.choices and shown is not None and shown not in rule.choices:
            raise Misuse(f"{cause.name}: {flag(option)} {shown} is unknown: it takes {', '.join(rule.choices)}")
        return
    unit = f" {rule.unit}" if rule.unit else ""
    if shown % rule.multiple:
        below = shown // rule.multiple * rule.multiple
        near = sorted({max(below, rule.least or 0), below + rule.multiple})
        raise Misuse(
            f"{cause.name}: {flag(option)} {shown} is not a multiple of {rule.multiple}{unit}, because the kernel counts "
            f"whole seconds: take {' or '.join(map(str, near))}"
        )
    if (rule.least is not None and shown < rule.least) or (rule.most is not None and shown > rule.most):
        raise Misuse(
            f"{cause.name}: {flag(option)} {shown} is out of range: it takes {rule.least} to {rule.most}{unit}"
        )


@dataclass(frozen=True, slots=True)
class Served:
    """The fault as somebody else's client can have it: `faultkit serve`, `faultkit.serve`, the fixtures."""

    act: Callable[[Live], None] | None = None  # what is done to a live connection when the trigger comes
    door: Callable[[Door], None] | None = None  # or to the listening socket, before there is a connection
    when: Trigger = FIRST_BYTE  # where the user names none
    unread: bool = False  # what sets it off stays in the receive buffer
    hangs: bool = False  # the client is left waiting, until its own timer ends it
    goes_on: bool = False  # the connection does, and another fault may come after this one
    holds_fin: bool = False  # its FIN must not leave: the answer before it is sent so that `sockets.hold_back` works
    ends_answer: bool = False  # its FIN, where it sets in after an answer, leaves in the segment with which that ends
    speaks_plain: bool = False  # it says something itself, which is not encrypted
    needs_repair: bool = False  # TCP_REPAIR, which takes CAP_NET_ADMIN


@dataclass(frozen=True, slots=True)
class LookAlike:
    """A cause that this one is taken for, and the observation that tells them apart."""

    cause: str
    tell: str


async def _serve_one(play: Play) -> None:
    """Listen, accept one connection, and let the fault have it."""
    listener = play.listen()
    connection = await listener.accept()
    if connection is not None:
        play.accepted.append(connection)
        await play.cause.fault(connection, play)


@dataclass(frozen=True)
class Cause:
    """One reason why a TCP connection dies or hangs, whole."""

    name: str
    family: Family
    summary: str  # one line
    doing: Callable[[Any], str]  # one sentence of what a run with these options does
    story: str  # what the kernel does and why, with the source
    promise: Callable[[Any, Play], Promise]
    script: Callable[[Play], Awaitable[None]]  # the client's half
    fault: Callable[[Socket, Play], Awaitable[None]]  # the server's half, for one accepted connection
    server: Callable[[Play], Awaitable[None]] = _serve_one  # what surrounds the fault
    after_idle: bool = False  # it takes a connection that has been idle
    seldom: bool = False  # hardly ever met: of the causes that fit what was seen, it comes after the others
    prepare: Callable[[Play], Awaitable[None]] | None = None  # decides what the promise depends on, before the play
    options: type[Options] = Options
    variants: tuple[Mapping[str, Any], ...] = ({},)  # the option sets that a conformance run plays, in Python's units
    served: Mapping[str, Served] = field(default_factory=dict)  # by variant, the default first; one alone is called ""
    lookalikes: tuple[LookAlike, ...] = ()
    met: tuple[str, ...] = ()  # where it is met in the wild
    remedy: tuple[str, ...] = ()


def typed(cause: Cause, options: Options) -> str:
    """What a person types after `faultkit`: the cause, and the options that are not the defaults."""
    words = [cause.name]
    for option in fields(options):
        value = getattr(options, option.name)
        if value is True:
            words.append(flag(option))
        elif value != option.default:
            words += [flag(option), str(written(option, value))]
    return " ".join(words)
