"""Arguments held against their annotations: what is of another type is refused in a sentence, before anything is done with it."""

from __future__ import annotations

import dataclasses
import dis
import functools
import inspect
import itertools
import os
import types
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal, ParamSpec, TypeVar, Union, get_args, get_origin, get_type_hints

from faultkit.errors import Misuse

P = ParamSpec("P")
T = TypeVar("T")

CONSTANT = ("LOAD_CONST", "LOAD_SMALL_INT")  # dis; what is returned at once has one instruction since Python 3.12
WORDS: Mapping[object, str] = {
    bool: "True or False",
    int: "a whole number",
    float: "a number",
    str: "text",
    bytes: "bytes",
    type(None): "None",
    Callable: "a function",
    os.PathLike: "a path",
}


def check(takes: Callable[..., object], given: Mapping[str, object], *, of: str = "") -> None:
    """Raise `Misuse` for the first of these arguments of a function, or fields of a class, that is of another type than it says.
    `of` is what they are the arguments of, where that has to be said."""
    for name, hint, default in _hints(takes):
        value = given.get(name, default)
        if value is not default and not fits(value, hint):
            written = f"{of}({name}={value!r})" if of else f"{name}={value!r}"
            raise Misuse(f"{written}: it is {described(hint)}")


def check_fields(one: object) -> None:
    """The same of a dataclass, as it was made."""
    kind = type(one)
    assert dataclasses.is_dataclass(kind)
    given = {field.name: getattr(one, field.name) for field in dataclasses.fields(kind) if field.init}
    check(kind, given, of=kind.__name__)


def checked(function: Callable[P, T]) -> Callable[P, T]:
    """Checks the arguments of the function that has it."""
    signature = inspect.signature(function)

    @functools.wraps(function)
    def checks(*arguments: P.args, **keywords: P.kwargs) -> T:
        try:
            given = signature.bind(*arguments, **keywords).arguments
        except TypeError:  # the call says it
            given = {}
        check(function, given, of=function.__name__)
        return function(*arguments, **keywords)

    return checks


@functools.cache
def _hints(takes: Callable[..., object]) -> Sequence[tuple[str, Any, object]]:
    """Of each argument its name, type and default."""
    hints, known = get_type_hints(takes), inspect.signature(takes).parameters
    return [(name, hints[name], one.default) for name, one in known.items() if name in hints]


def fits(value: object, hint: Any) -> bool:
    """Is it of that type? True and False are no numbers here, nor is what is not a number, and text is no list."""
    kind, inner = get_origin(hint), get_args(hint)
    if hint is Any:
        return True
    if kind in (Union, types.UnionType):
        return any(fits(value, one) for one in inner)
    if kind is Literal:
        return isinstance(value, str) and value in inner
    if kind is Callable or hint is Callable:
        return callable(value) and not isinstance(value, type)
    if kind is Sequence:
        return isinstance(value, list | tuple) and all(fits(one, inner[0]) for one in value)
    if kind in (Mapping, dict):
        return isinstance(value, kind) and all(
            fits(key, inner[0]) and fits(one, inner[1]) for key, one in value.items()
        )
    if kind is tuple:
        return isinstance(value, tuple) and len(value) == len(inner) and all(map(fits, value, inner))
    if hint in (int, float):
        number = isinstance(value, int | hint) and not isinstance(value, bool)
        return number and value == value  # which NaN is not
    if kind is os.PathLike:
        return isinstance(value, os.PathLike) and isinstance(os.fspath(value), str)
    return isinstance(value, kind or hint)


def described(hint: Any) -> str:
    """What a value of that type is, in words."""
    kind, inner = get_origin(hint), get_args(hint)
    if kind in (Union, types.UnionType):
        words = list(dict.fromkeys(described(one) for one in inner if one is not type(None)))
        return _either([*words, *(["left out"] if type(None) in inner else [])])
    if kind is Literal:
        return _either([*map(str, inner)])
    if kind is Sequence:
        return f"a list of {described(inner[0])}"
    if kind in (Mapping, dict):
        return f"a dict of {described(inner[0])} to {described(inner[1])}"
    if kind is tuple:
        return f"({', '.join(map(described, inner))})"
    return WORDS.get(kind or hint) or f"faultkit.{(kind or hint).__name__}"


def _either(words: list[str]) -> str:
    return " or ".join(filter(None, [", ".join(words[:-1]), words[-1]]))


def is_async(function: object) -> bool:
    """Is it an `async def`, a method or an object that is called as one, or what `functools` has made of one?"""
    while isinstance(function, functools.partial):
        function = function.func
    if not callable(function) or isinstance(function, type):
        return False
    function = inspect.unwrap(function)
    return inspect.iscoroutinefunction(function) or inspect.iscoroutinefunction(type(function).__call__)


def may_give(function: object) -> bool:
    """May a call of it give anything that can be awaited? Not where it is a generator, or all that it returns is constant."""
    if inspect.isgeneratorfunction(function) or inspect.isasyncgenfunction(function):
        return False
    code = getattr(function, "__code__", None)
    if not isinstance(code, types.CodeType):
        return callable(function) and not isinstance(function, type)
    steps = [*dis.get_instructions(code)]
    return any(
        last.opname == "RETURN_VALUE" and before.opname not in CONSTANT for before, last in itertools.pairwise(steps)
    )


def takes_one(function: object) -> bool:
    """May it be called with one argument, as far as Python knows?"""
    if not callable(function) or isinstance(function, type):
        return False
    try:
        inspect.signature(function).bind(None)
    except TypeError:
        return False
    except ValueError:  # of some that are written in C nothing is known
        return True
    return True


def called(function: object) -> str:
    """Its name, or what it looks like where it has none."""
    return getattr(function, "__name__", None) or repr(function)
