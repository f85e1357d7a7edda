"""`faultkit sandbox`: any command in a private network namespace."""

from __future__ import annotations

import click

from faultkit.errors import Misuse


@click.command(
    "sandbox",
    short_help="any command in a private network namespace",
    context_settings={"allow_interspersed_args": False},
    options_metavar="[--]",
)
@click.argument("argv", nargs=-1, type=click.UNPROCESSED, metavar="COMMAND [ARGUMENT]...")
def command(argv: tuple[str, ...]) -> int:
    """Run COMMAND in a private network namespace with loopback up, and give its exit status.

    No root is needed: an ordinary user stays who they are, and may change the network and the firewall in there. Signals,
    the terminal and the standard streams are the command's. What it leaves running is ended with it.
    """
    from faultkit.stage import sandbox

    if not any(argv[:1]):
        raise Misuse("sandbox: there is no command to run: faultkit sandbox -- pytest tests")
    return sandbox.run(argv)
