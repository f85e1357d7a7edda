"""The command line, built from the catalogue: every cause is a command, every field of its options a flag."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Callable, Iterable, Sequence
from dataclasses import Field, fields
from typing import TYPE_CHECKING, Any, NoReturn

import click
from click.core import ParameterSource

from faultkit import __version__, causes
from faultkit.cause import Cause, checked, flag, spec, written
from faultkit.errors import Ended, Misuse, Unable
from faultkit.serving.trigger import MOMENTS
from faultkit.views import signs

if TYPE_CHECKING:
    from rich.console import Console

PRODUCED, OTHERWISE, MISUSED, UNABLE = 0, 1, 2, 3
INTERRUPTED, BROKEN_PIPE = 130, 141  # 128 + the signal's number, as a shell says it

ABOUT = "faultkit makes TCP connections fail on real sockets, on purpose, and proves what happened."


# What a float of seconds carries exactly as whole milliseconds; no option's range comes near it.
_BEYOND = 2**53


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


def _flag(option: Field[Any]) -> click.Option:
    """One field of a cause's options as a command-line option."""
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
        [flag(option), option.name], type=kind, default=None, metavar=rule.metavar or text, help=rule.help + shown
    )


def _common() -> list[click.Parameter]:
    """What every cause takes, and every stack."""
    return [
        click.Option(["--repeat", "times"], type=whole, default=1, metavar="N", help="play it N times and count"),
        click.Option(["--json", "as_json"], is_flag=True, help="one JSON document instead of text"),
        click.Option(["--packets"], is_flag=True, help="the capture as a table with Wireshark's columns"),
        click.Option(["--pcap"], metavar="FILE", help="write the capture for Wireshark and tshark"),
        click.Option(["--quiet"], is_flag=True, help="say nothing but what was not as promised"),
    ]


def _where() -> list[click.Parameter]:
    """What every cause takes beside that. A stack plays where its programs' files say, in a namespace."""
    return [
        click.Option(["--ipv6"], is_flag=True, help="over IPv6"),
        click.Option(
            ["--on"], type=click.Choice(["namespace", "host"]), help="where; default: a namespace where one is allowed"
        ),
    ]


def _command(cause: Cause, common: list[click.Parameter]) -> click.Command:
    def play(
        times: int,
        as_json: bool,
        packets: bool,
        pcap: str | None,
        quiet: bool,
        ipv6: bool = False,
        on: Any = None,
        **given: Any,
    ) -> int:
        from faultkit.commands.session import Request, play

        values = {
            option.name: given[option.name] / 1000 if spec(option).unit == "ms" else given[option.name]
            for option in fields(cause.options)
            if given[option.name] is not None
        }
        if times < 1:
            raise Misuse(f"{cause.name}: --repeat {times} plays nothing: take 1 or more")
        return play(Request(cause, checked(cause, values), times, as_json, packets, pcap, ipv6, on, quiet))

    return click.Command(
        cause.name,
        params=[*map(_flag, fields(cause.options)), *common],
        callback=play,
        help=f"{cause.summary}\n\n{cause.story}",
        short_help=cause.summary,
    )


class Catalogue(click.Group):
    """The group whose commands are the causes and the few commands beside them. Only the one that runs is imported."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return [*causes.names(), *sorted(self.commands)]

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name in self.commands:
            return self.commands[cmd_name]
        return _command(causes.load(cmd_name), [*_common(), *_where()]) if cmd_name in causes.names() else None

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        if not args[0].startswith("-") and args[0] not in self.list_commands(ctx):
            causes.load(args[0], beside=tuple(self.commands))  # raises, with the nearest name
        return super().resolve_command(ctx, args)


class Stacks(click.Group):
    """The group whose commands are the stacks."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        from faultkit.playing import stack

        return stack.names()

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command:
        from faultkit.playing import stack

        return _command(stack.load(cmd_name), _common())


def _list(rows: Iterable[Sequence[str]]) -> None:
    from faultkit.views import table

    table.names(_console(), list(rows))


def _console() -> Console:
    from faultkit.views.console import console

    return console()


@click.group(cls=Catalogue, invoke_without_command=True, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, message="faultkit %(version)s")
@click.pass_context
def faultkit(context: click.Context) -> None:
    if context.invoked_subcommand is None:
        from faultkit.views import catalogue, table
        from faultkit.views.console import paragraph

        console = _console()
        paragraph(console, ABOUT)
        console.print()
        catalogue.show(console, causes.by_family())
        console.print()
        examples = (
            ("faultkit linger", "play a cause and see it explained"),
            ("faultkit linger --help", "its options"),
            ("faultkit doctor", "what this machine can do"),
            ("faultkit recipe idle-firewall", "firewall rules to apply by hand"),
        )
        table.names(console, examples, indent=2)


faultkit.help = ABOUT


@faultkit.command("list", short_help="every cause, one line each")
@click.option("--json", "as_json", is_flag=True, help="for machines")
def list_causes(as_json: bool) -> None:
    """Every cause by family, one line each."""
    from faultkit.views import catalogue

    if as_json:
        import json

        click.echo(json.dumps(catalogue.document(causes.by_family()), indent=2, ensure_ascii=False))
    else:
        catalogue.show(_console(), causes.by_family())


@faultkit.command(short_help="what this machine can do, and what gets it the rest")
@click.option("--json", "as_json", is_flag=True, help="for machines")
def doctor(as_json: bool) -> None:
    """What faultkit can do on this machine, and the command that gets what is missing."""
    from faultkit.commands import doctor as examination
    from faultkit.views import doctor as view

    findings = examination.examine()
    if as_json:
        import json

        click.echo(json.dumps([finding.document() for finding in findings], indent=2, ensure_ascii=False))
    else:
        view.show(_console(), findings)


@faultkit.command(short_help="a firewall recipe, filled in for this host, to apply by hand")
@click.argument("name", required=False)
@click.option("--port", type=whole, default=7654, metavar="N", help="the port it is about  [default: 7654]")
@click.option("--ipv6", is_flag=True, help="for IPv6")
@click.option("--as", "tool", type=click.Choice(["iptables", "nft"]), default="iptables", help="[default: iptables]")
def recipe(name: str | None, port: int, ipv6: bool, tool: Any) -> None:
    """Print a firewall recipe filled in for this host: apply, watch, undo, what to expect. Nothing is changed."""
    from faultkit.stage import recipe as recipes

    if name is None:
        _list((known, recipes.load(known).title.partition(": ")[2]) for known in recipes.names())
    else:
        from faultkit.stage.host import filled

        click.echo(filled(name, port=port, ipv6=ipv6, tool=tool))


@faultkit.group(
    "stack",
    cls=Stacks,
    invoke_without_command=True,
    subcommand_metavar="[NAME] [--fixed] [...]",
    short_help="a cause played by real programs, with the log lines that people meet",
)
@click.pass_context
def stacks(context: click.Context) -> None:
    """Play a cause with real programs in a private namespace: their log lines, the packets, the cause and the fix.

    Without a name: the stacks there are.
    """
    if context.invoked_subcommand is None:
        from faultkit.playing import stack

        _list((name, stack.title(name)) for name in stack.names())


@faultkit.command(short_help="the causes that fit what you saw")
@click.option(
    "--saw", "told", multiple=True, metavar="CALL", help="'recv ECONNRESET', 'send EPIPE' ...; in order, if several"
)
@click.option("--after-idle", is_flag=True, help="the connection had been idle")
@click.option("--first-request", is_flag=True, help="it was the connection's first request")
@click.option("--rst-from", metavar="END", help="whose address the RST carries: client, server ...")
@click.option("--message", metavar="TEXT", help="instead: what a client, a proxy or a log said; '-' reads it")
@click.option("--json", "as_json", is_flag=True, help="for machines")
def which(
    told: tuple[str, ...],
    after_idle: bool,
    first_request: bool,
    rst_from: str | None,
    message: str | None,
    as_json: bool,
) -> int:
    """Name the causes that fit what was seen, most likely first, and what tells each from the others."""
    from faultkit.clients import sighting as search
    from faultkit.views import candidates

    if message is not None:
        if told or after_idle or first_request or rst_from is not None:
            raise Misuse("which: --message says all that is known: leave --saw and the others out")
        return _which_message(sys.stdin.read() if message == "-" else message, as_json)
    if not told:
        raise Misuse(
            "which: nothing was seen: say what a call gave, such as --saw 'recv ECONNRESET', or paste a --message"
        )
    sighting = search.Sighting(tuple(map(search.parse, told)), after_idle, first_request, rst_from)
    found = search.candidates(causes.by_family(), sighting)
    if as_json:
        import json

        click.echo(json.dumps(candidates.document(found), indent=2, ensure_ascii=False))
    else:
        candidates.show(_console(), found)
    return PRODUCED if found else OTHERWISE


def _which_message(message: str, as_json: bool) -> int:
    from faultkit.clients import reading as search
    from faultkit.views import messages

    if not message.strip():
        raise Misuse("which: --message is empty: paste the line that was printed")
    reading = search.read(message)
    if as_json:
        import json

        click.echo(json.dumps(messages.document(reading), indent=2, ensure_ascii=False))
    elif reading.known:
        messages.explain(_console(), reading)
    else:
        nearest = reading.match.nearest and f"; the nearest is: {reading.match.nearest}"
        click.echo(f"No message that is known is in it{nearest}")
    return PRODUCED if reading.known else OTHERWISE


@faultkit.command(short_help="every cause that this machine allows, and one table")
@click.option("--json", "as_json", is_flag=True, help="for machines")
@click.option("--ipv6", is_flag=True, help="over IPv6")
@click.option("--on", type=click.Choice(["namespace", "host"]), help="where; default: a namespace where one is allowed")
@click.option("--quiet", is_flag=True, help="say nothing but what was not as promised")
def tour(as_json: bool, ipv6: bool, on: Any, quiet: bool) -> int:
    """Play every cause once, scaled down, and show who sent the RST, what each end saw and the kernel's reason."""
    from faultkit.commands import tour as travel

    return travel.play(as_json=as_json, ipv6=ipv6, on=on, quiet=quiet)


@faultkit.command(short_help="the kernel's reset reasons, and which cause produces each")
@click.option(
    "--check", is_flag=True, help="play a producer of each under the trace, as root, and see the kernel say it"
)
@click.option("--json", "as_json", is_flag=True, help="for machines")
@click.option("--quiet", is_flag=True, help="nothing of its progress on standard error")
def reasons(check: bool, as_json: bool, quiet: bool) -> int:
    """The reset reasons of the running kernel (enum sk_rst_reason), and the causes that promise each.

    A reason that no cause produces is listed with why. With --check each is proven live, which takes real root.
    """
    from faultkit.commands import producers

    return producers.show(check=check, as_json=as_json, quiet=quiet)


@faultkit.command(short_help="a fault on a port, for a client in any language")
@click.argument("fault", required=False)
@click.option("--port", type=whole, default=0, metavar="N", help="[default: a free one]")
@click.option("--host", metavar="ADDRESS", help="[default: loopback]")
@click.option("--ipv6", is_flag=True, help="over IPv6")
@click.option("--beyond-loopback", is_flag=True, help="allow a --host that others can reach")
@click.option("--at", type=click.Choice(MOMENTS[:-1]), help="when the fault sets in")
@click.option("--after-bytes", type=whole, metavar="N", help="or: after N bytes received")
@click.option("--after-sent", type=whole, metavar="N", help="or: after N bytes sent")
@click.option("--after-requests", type=whole, metavar="N", help="or: instead of the N-th answer")
@click.option("--after-answers", type=whole, metavar="N", help="or: after N answers")
@click.option("--after-idle", type=milliseconds, metavar="MS", help="or: after MS without a byte")
@click.option("--plan", metavar="FAULT,...", help="the fault of each connection in turn, ok for none")
@click.option("--random", type=float, metavar="P", help="the fault, or one of all, with that probability")
@click.option("--seed", type=whole, metavar="N", help="repeats --random exactly")
@click.option("--http", is_flag=True, help="healthy connections speak HTTP/1.1  [default: a byte echo]")
@click.option("--chunked", is_flag=True, help="the same, the body in chunks")
@click.option("--body", metavar="TEXT", help="what they answer, with --http the body")
@click.option("--tls", is_flag=True, help="TLS with a test authority, whose certificate it writes to a file")
@click.option("--connections", type=whole, metavar="N", help="end after N connections  [default: at Ctrl-C]")
@click.option("--json", "as_json", is_flag=True, help="for machines: one document per line")
def serve(
    fault: str | None,
    plan: str | None,
    after_idle: int | None,
    http: bool,
    chunked: bool,
    body: str | None,
    connections: int | None,
    **options: Any,
) -> int:
    """Serve FAULT on a port, one line per connection, until Ctrl-C or SIGTERM. Without FAULT and --plan: list them all.

    Exit status 1 where no client came.
    """
    from faultkit.serving import answers, command, faults

    if fault is None and plan is None and options["random"] is None:
        context = click.get_current_context()
        if any(context.get_parameter_source(name) is ParameterSource.COMMANDLINE for name in context.params):
            raise Misuse("serve: no fault is named: name one, ok for none; faultkit serve lists them")
        _list(
            (name, str(served.when) if served.door is None else "", summary) for name, summary, served in faults.known()
        )
        return PRODUCED
    if connections is not None and connections < 1:
        raise Misuse(f"serve: --connections {connections} would end at once: take 1 or more")
    answer: answers.Answer = "echo"
    if http or chunked:
        answer = answers.Http(answers.Http.body if body is None else body.encode(), chunked=chunked)
    elif body is not None:
        answer = body.encode()
    return command.serve(
        fault,
        plan=None if plan is None else [name.strip() for name in plan.split(",")],
        after_idle_seconds=None if after_idle is None else after_idle / 1000,
        connections=connections,
        answer=answer,
        **options,
    )


@faultkit.command(short_help="do the timeouts of a chain nest, and which two race")
@click.argument("timeouts", nargs=-1, metavar="[[NAME=]TIMEOUT]...")
@click.option("--file", metavar="FILE", help="the chain as a file, a [hop] each; - is standard input")
@click.option("--requests", is_flag=True, help="the TIMEOUTs are request timeouts, not idle timeouts")
@click.option("--margin", default="1s", metavar="TIMEOUT", help="how far apart they must be  [default: 1s]")
@click.option("--json", "as_json", is_flag=True, help="for machines")
def nest(timeouts: tuple[str, ...], file: str | None, requests: bool, margin: str, as_json: bool) -> int:
    """Check timeouts that must nest, from the client to the server: `faultkit nest 30 60 65`.

    Idle timeouts of connections that are kept: each hop must give a connection up before the next one closes it. A proxy
    with two is NAME=DOWNSTREAM/UPSTREAM: `client=30 nginx=75/60 gunicorn=65`. What forgets silent connections has the name
    of its cause: `pool=600 nat-expiry=350 db=900`. A TIMEOUT is seconds, or 500ms, 2m, never, off.

    A file says more: a section for each hop, with `idle`, `idle-downstream`, `idle-upstream`, `request`, `tcp-keepalive`,
    `heartbeat` = TIMEOUT.
    """
    from faultkit.nesting import chain, nest
    from faultkit.views import nesting

    try:
        hops, apart = chain.read(timeouts, file, requests=requests), chain.duration(margin, "--margin")
        pairs, unchecked = nest.check(hops, margin=apart), nest.unchecked(hops)
    except Misuse as error:
        raise Misuse(f"nest: {error}") from None
    if as_json:
        import json

        click.echo(json.dumps(nesting.document(pairs, unchecked, apart), indent=2, ensure_ascii=False))
    else:
        nesting.show(_console(), pairs, unchecked)
    return PRODUCED if all(pair.nests for pair in pairs) else OTHERWISE


@faultkit.command(
    short_help="any command in a private network namespace",
    context_settings={"allow_interspersed_args": False},
    options_metavar="[--]",
)
@click.argument("command", nargs=-1, type=click.UNPROCESSED, metavar="COMMAND [ARGUMENT]...")
def sandbox(command: tuple[str, ...]) -> int:
    """Run COMMAND in a private network namespace with loopback up, and give its exit status.

    No root is needed: an ordinary user stays who they are, and may change the network and the firewall in there. Signals,
    the terminal and the standard streams are the command's. What it leaves running is ended with it.
    """
    from faultkit.stage import sandbox as box

    if not any(command[:1]):
        raise Misuse("sandbox: there is no command to run: faultkit sandbox -- pytest tests")
    return box.run(command)


@faultkit.command(short_help="what curl, Chromium, Node and others say to each fault")
@click.argument("names", nargs=-1, metavar="[NAME]...")
@click.option("--fault", "faults", multiple=True, metavar="FAULT", help="only this one, as in faultkit serve")
@click.option("--repeat", type=whole, default=1, metavar="N", help="N times, for what is told by chance  [default: 1]")
@click.option("--save", metavar="FILE", help="keep it, for faultkit which --message")
@click.option("--on", type=click.Choice(["namespace", "host"]), help="where; default: a namespace where one is allowed")
@click.option("--json", "as_json", is_flag=True, help="for machines")
@click.option("--quiet", is_flag=True, help="nothing of its progress on standard error")
def clients(
    names: tuple[str, ...], faults: tuple[str, ...], repeat: int, save: str | None, on: Any, as_json: bool, quiet: bool
) -> int:
    """Run the real clients that are here, or those named, against every fault that can be served: message, exit status,
    how often each connects.

    Exit status 1 where a client did not meet a fault.
    """
    from faultkit.clients import command

    if repeat < 1:
        raise Misuse(f"clients: --repeat {repeat} plays nothing: take 1 or more")
    return command.run(names, faults=faults, repeat=repeat, as_json=as_json, quiet=quiet, save=save, on=on)


def _say(sentence: str) -> None:
    with contextlib.suppress(OSError):  # nobody may be there to read it, and the exit status says it too
        print(f"faultkit: {sentence}", file=sys.stderr)


def _status(arguments: Sequence[str] | None, run: Callable[..., Any]) -> int:
    try:
        status = run(arguments, prog_name="faultkit", standalone_mode=False)
        sys.stdout.flush()
    except click.exceptions.Exit as ended:
        return ended.exit_code
    except click.ClickException as error:
        context = error.ctx if isinstance(error, click.UsageError) else None
        place = context.command_path.removeprefix("faultkit ") if context and context.parent else None
        message = error.format_message().rstrip(".")
        _say(f"{place}: {message} (faultkit {place} --help)" if place else f"{message} (faultkit --help)")
        return MISUSED
    except Misuse as error:
        _say(str(error))
        return MISUSED
    except Unable as error:
        _say(str(error))
        return UNABLE
    except Ended as ended:
        _say(str(ended))
        return ended.status
    except (KeyboardInterrupt, click.Abort):
        _say("interrupted; nothing is left behind")
        return INTERRUPTED
    except SystemExit:
        return BROKEN_PIPE  # what click and rich make of one, and with a 1, which means something else here
    return status if isinstance(status, int) else PRODUCED


def _open_closed_streams() -> None:
    """Where a standard stream is closed (`>&-`) our first socket would take its number, and be given what we print."""
    for number, name, mode in ((0, "stdin", os.O_RDONLY), (1, "stdout", os.O_RDONLY), (2, "stderr", os.O_WRONLY)):
        if getattr(sys, name) is None:
            # Not writable, so that a closed stdout goes on to refuse what is printed.
            os.dup2(os.open(os.devnull, mode), number)
            setattr(sys, name, open(number, "r" if number == 0 else "w", closefd=False))  # noqa: SIM115


def main(arguments: Sequence[str] | None = None) -> NoReturn:
    """The `faultkit` command. Exit status: 0 produced, 1 seen otherwise, 2 bad usage, 3 this machine cannot, 130 Ctrl-C."""
    _open_closed_streams()
    # An arrow on a terminal without Unicode is no reason to fail. A console says it in words.
    signs.escaped(sys.stdout)
    signs.in_words(sys.stderr)
    try:
        status = _status(arguments, faultkit.main)
    except BrokenPipeError:
        status = BROKEN_PIPE
    except OSError as error:
        _say(f"the output cannot be written: {error.strerror}")
        status = UNABLE
    try:
        sys.stdout.flush()
    except OSError:
        # Whoever read us is gone: let Python's own last flush find a reader that takes everything.
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    sys.exit(status)
