"""`faultkit doctor`: what this machine can do."""

from __future__ import annotations

import click

from faultkit.commands.line.values import json_flag


@click.command("doctor", short_help="what this machine can do, and what gets it the rest")
@json_flag
def command(as_json: bool) -> None:
    """What faultkit can do on this machine, and the command that gets what is missing."""
    from faultkit.playing.doctor import examine
    from faultkit.views import doctor
    from faultkit.views.console import console, emit

    findings = examine()
    if as_json:
        emit([finding.document() for finding in findings])
    else:
        doctor.show(console(), findings)
