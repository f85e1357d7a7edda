"""Values and options that several commands take."""

from __future__ import annotations

import click

# What a float of seconds carries exactly as whole milliseconds; no option's range comes near it.
_BEYOND = 2**53

json_flag = click.option("--json", "as_json", is_flag=True, help="for machines")
ipv6_flag = click.option("--ipv6", is_flag=True, help="over IPv6")
quiet_flag = click.option("--quiet", is_flag=True, help="say nothing but what was not as promised")
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
