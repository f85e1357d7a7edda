"""The options of a cause, and those that all of them take, as the command line has them."""

from __future__ import annotations

from dataclasses import Field, fields
from typing import Any

import click

from faultkit.cause import Cause, Options, checked
from faultkit.commands.line import completion
from faultkit.commands.line.values import milliseconds, whole
from faultkit.options import flag, spec, written


def own(cause: Cause) -> list[click.Parameter]:
    """Every field of its options as a flag."""
    return [_flag(option) for option in fields(cause.options)]


def _flag(option: Field[Any]) -> click.Option:
    rule, default = spec(option), written(option, option.default)
    if option.default is False:
        return click.Option([flag(option), option.name], is_flag=True, help=rule.help)
    shown = "" if default is None else f"  [default: {default}]"
    text = {"ms": "MS", "bytes": "BYTES"}.get(rule.unit, "N")
    if rule.choices:
        text = "|".join(rule.choices)
    number = isinstance(default, int | float) or rule.least is not None
    kind: Any = (milliseconds if rule.unit == "ms" else whole) if number else click.STRING
    return click.Option(
        [flag(option), option.name],
        type=kind,
        default=None,
        metavar=rule.metavar or text,
        help=rule.help + shown,
        shell_complete=completion.choices(rule.choices) if rule.choices else None,
    )


def given(cause: Cause, told: dict[str, Any]) -> Options:
    """What was typed, as the cause has it. Raises `Misuse`."""
    values = {
        option.name: told[option.name] / 1000 if spec(option).unit == "ms" else told[option.name]
        for option in fields(cause.options)
        if told[option.name] is not None
    }
    return checked(cause, values)


def common() -> list[click.Parameter]:
    """What every cause takes, and every stack."""
    return [
        click.Option(["--repeat", "times"], type=whole, default=1, metavar="N", help="play it N times and count"),
        click.Option(["--json", "as_json"], is_flag=True, help="one JSON document instead of text"),
        click.Option(["--packets"], is_flag=True, help="the capture as a table with Wireshark's columns"),
        click.Option(
            ["--pcap"],
            shell_complete=completion.file,
            metavar="FILE",
            help="write the capture for Wireshark and tshark",
        ),
        click.Option(
            ["--html"],
            shell_complete=completion.file,
            metavar="FILE",
            help="a page with the ladder as a picture, in one file",
        ),
        click.Option(["--svg"], shell_complete=completion.file, metavar="FILE", help="the ladder alone, as a picture"),
        click.Option(["--quiet"], is_flag=True, help="say nothing but what was not as promised"),
    ]


def where() -> list[click.Parameter]:
    """What every cause takes beside that. A stack plays where its programs' files say, in a namespace."""
    return [
        click.Option(["--ipv6"], is_flag=True, help="over IPv6"),
        click.Option(
            ["--on"], type=click.Choice(["namespace", "host"]), help="where; default: a namespace where one is allowed"
        ),
    ]
