"""`faultkit reasons`: why a kernel sends a RST."""

from __future__ import annotations

import click

from faultkit.commands.line.status import OTHERWISE, PRODUCED
from faultkit.commands.line.values import json_flag, no_progress_flag


@click.command("reasons", short_help="the kernel's reset reasons, and which cause produces each")
@click.option(
    "--check", is_flag=True, help="play a producer of each under the trace, as root, and see the kernel say it"
)
@json_flag
@no_progress_flag
def command(check: bool, as_json: bool, quiet: bool) -> int:
    """The reset reasons of the running kernel (enum sk_rst_reason), and the causes that promise each.

    A reason that no cause produces is listed with why. With --check each is proven live, which takes real root.
    """
    from faultkit.playing import producers
    from faultkit.stage import open_stage
    from faultkit.views import progress, reasons
    from faultkit.views.console import console, emit
    from faultkit.witness import watching

    stage = open_stage(None, ipv6=False)
    listed = producers.listed(stage)
    proofs: dict[str, producers.Proof] = {}
    if check:
        wanted = listed.wanted()
        # In this order: the trace is begun before the bar has a thread.
        with watching(stage) as seeing, progress.steps(len(wanted), quiet, "reasons") as step:
            proofs = producers.prove(stage, seeing, wanted, step)
    if as_json:
        emit(reasons.document(listed, proofs))
    else:
        reasons.show(console(), listed, proofs)
    return PRODUCED if all(proof.by for proof in proofs.values()) else OTHERWISE
