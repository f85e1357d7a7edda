"""`faultkit list`: every cause."""

from __future__ import annotations

import click

from faultkit import causes
from faultkit.commands.line.values import json_flag
from faultkit.views import catalogue
from faultkit.views.console import console, emit


@click.command("list", short_help="every cause, one line each")
@json_flag
def command(as_json: bool) -> None:
    """Every cause by family, one line each."""
    if as_json:
        emit(catalogue.document(causes.by_family()))
    else:
        catalogue.show(console(), causes.by_family())
