"""What a cause says about itself: the contract of every file in `faultkit.causes`, and of a user's own.

A cause's file needs little else: what its parts are made of is offered here too.
"""

from __future__ import annotations

import sys
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import Field, dataclass, field, fields
from typing import TYPE_CHECKING, Any, Literal

from faultkit.errors import Misuse as Misuse
from faultkit.errors import Unable as Unable
from faultkit.evidence.verdict import FORGED as FORGED
from faultkit.evidence.verdict import AtLeast as AtLeast
from faultkit.evidence.verdict import Promise as Promise
from faultkit.evidence.verdict import Rst as Rst
from faultkit.options import Keepalive as Keepalive
from faultkit.options import Options as Options
from faultkit.options import flag, spec, written
from faultkit.options import option as option
from faultkit.served import Served as Served
from faultkit.trigger import Trigger as Trigger

if TYPE_CHECKING:
    from faultkit.acting.play import Play as Play
    from faultkit.witness.calls import Socket as Socket

Family = Literal["application", "absent", "timer", "middlebox", "protocol"]

# Who kills the connection, in the order in which they are listed.
FAMILIES: dict[Family, str] = {
    "application": "a program's own close",
    "absent": "nobody at the other end",
    "timer": "a kernel clock ran out",
    "middlebox": "something in between",
    "protocol": "a segment that TCP must refuse",
}


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
            f"{cause.name}: {flag(option)} {shown} is not a multiple of {rule.multiple}{unit}, because {rule.counted_by} "
            f"counts whole seconds: take {' or '.join(map(str, near))}"
        )
    if (rule.least is not None and shown < rule.least) or (rule.most is not None and shown > rule.most):
        raise Misuse(
            f"{cause.name}: {flag(option)} {shown} is out of range: it takes {rule.least} to {rule.most}{unit}"
        )


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
    fault: Callable[[Socket, Play], Awaitable[None]] | None = None  # the server's half, for one accepted connection
    server: Callable[[Play], Awaitable[None]] | None = None  # what surrounds the fault; None: it gets one connection
    after_idle: bool = False  # it takes a connection that has been idle
    seldom: bool = False  # hardly ever met: of the causes that fit what was seen, it comes after the others
    overhears: bool = False  # something in between hears all that passes, from the beginning
    prepare: Callable[[Play], Awaitable[None]] | None = None  # decides what the promise depends on, before the play
    options: type[Options] = Options
    variants: tuple[Mapping[str, Any], ...] = ({},)  # the option sets that a conformance run plays, in Python's units
    served: Mapping[str, Served] = field(default_factory=dict)  # by variant, the default first; one alone is called ""
    lookalikes: Mapping[str, str] = field(default_factory=dict)  # the causes it is taken for: what tells them apart
    met: tuple[str, ...] = ()  # where it is met in the wild
    remedy: tuple[str, ...] = ()

    async def make_ready(self, play: Play) -> None:
        """What comes before the play."""
        if self.overhears:
            play.scenery.tap()
        for known in fields(self.options):
            if looked_for := spec(known).firewall:
                choose = play.scenery.need_tool if looked_for == "needed" else play.scenery.choose_tool
                await choose(getattr(play.options, known.name))
        if self.prepare is not None:
            await self.prepare(play)


def __getattr__(name: str) -> Any:
    """`Play` and `Socket` take trio, which a cause that only names them in annotations does not need before it is played."""
    if name == "Play":
        from faultkit.acting.play import Play

        return Play
    if name == "Socket":
        from faultkit.witness.calls import Socket

        return Socket
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


# What a cause's file calls its parts, each a function of its own.
PARTS = ("promise", "script", "fault", "server", "prepare", "doing")


def described(module: str, **more: Any) -> Cause:
    """The cause of a file of the catalogue, by the module's `__name__`: called as the file is, made of the functions that are
    named in `PARTS` and of the subclass of `Options` there. `more` is what else a `Cause` says about itself."""
    own = [thing for thing in vars(sys.modules[module]).values() if getattr(thing, "__module__", "") == module]
    parts = {thing.__name__: thing for thing in own if getattr(thing, "__name__", "") in PARTS}
    options = [thing for thing in own if isinstance(thing, type) and issubclass(thing, Options)]
    if options:
        parts["options"] = options[0]
    return Cause(name=module.rpartition(".")[2].replace("_", "-"), **parts, **more)


def typed(cause: Cause, options: Options) -> str:
    """What a person types after `faultkit`: the cause, and the options that are not the defaults."""
    words = [cause.name]
    for known in fields(options):
        value = getattr(options, known.name)
        if value is True:
            words.append(flag(known))
        elif value != known.default:
            words += [flag(known), str(written(known, value))]
    return " ".join(words)
