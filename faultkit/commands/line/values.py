"""Values and options that several commands take."""

from __future__ import annotations

import re
from functools import partial

import click

# What a float of seconds carries exactly as whole milliseconds; no option's range comes near it.
_BEYOND = 2**53

json_flag = click.option("--json", "as_json", is_flag=True, help="for machines")
ipv6_flag = click.option("--ipv6", is_flag=True, help="over IPv6")
quiet_flag = click.option("--quiet", is_flag=True, help="say nothing but what was not as promised")
no_progress_flag = click.option("--quiet", is_flag=True, help="nothing of its progress on standard error")
on_option = click.option(
    "--on", type=click.Choice(["namespace", "host"]), help="where; default: a namespace where one is allowed"
)


def whole(value: str | int, what: str = "a whole number") -> int:
    """A whole number; its range is the cause's to judge."""
    try:
        number = int(value)
    except ValueError:
        raise click.BadParameter(f"{value} is not {what}") from None
    if abs(number) >= _BEYOND:
        raise click.BadParameter(f"{value} is beyond every range")
    return number


def milliseconds(value: str | int) -> int:
    """The same, where the unit is worth saying."""
    return whole(value, "a whole number of milliseconds")


def as_typed(sentence: str, command: click.Command) -> str:
    """A sentence about Python's keywords in the words of the command line: `after_bytes=-1` is --after-bytes -1.

    A name alone is taken for an option only where it is no English word: where it has an underscore.
    """
    # What is made of several options is named as Python makes it.
    sentence = re.sub(r"\bHttp2?\(headers=\{'([^']*)': '([^']*)'\}\):", r"--header \1:\2:", sentence)
    sentence = re.sub(r"\b(?:Http2?|Tls)\((.*?)\):", r"\1:", sentence)
    for option in command.params:
        if isinstance(option, click.Argument) and option.name:
            sentence = re.sub(rf"\b{option.name}=('[^']*'|[^\s:,]+)", partial(_typed, option.name.upper(), 1), sentence)
        if isinstance(option, click.Option) and option.name:
            flag = option.opts[0]
            for name, unit in ((option.name, 1), (f"{option.name}_seconds", 1000)):
                sentence = re.sub(rf"\b{name}=('[^']*'|[^\s:,]+)", partial(_typed, flag, unit), sentence)
                sentence = sentence.replace(f"leave {name} out", f"leave {flag} out")
                if "_" in name:
                    sentence = re.sub(rf"\b{name}\b", flag, sentence)
    return sentence


def _typed(flag: str, unit: int, found: re.Match[str]) -> str:
    value = found[1].strip("'")
    if value == "True":
        return flag
    return f"{flag} {float(value) * unit:.15g}" if unit > 1 else f"{flag} {value or found[1]}"
