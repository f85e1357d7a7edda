"""`faultkit proxy`: a fault between any client and a real service."""

from __future__ import annotations

import json
import re
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from faultkit.commands.line import completion
from faultkit.commands.line.proxy_api import command as api
from faultkit.commands.line.status import OTHERWISE, PRODUCED
from faultkit.commands.line.values import as_typed, ipv6_flag, milliseconds, whole
from faultkit.errors import Ended, Misuse, Unable
from faultkit.trigger import MOMENTS

if TYPE_CHECKING:
    from faultkit.proxying.foreground import Kept
    from faultkit.proxying.toxics import Toxic

UNITS = {"": 1, "k": 1000, "m": 1_000_000, "g": 1_000_000_000}
PLAIN = [moment for moment in MOMENTS if moment not in ("client-hello", "handshake", "fire")]


def rate(value: str | float) -> float:
    """ "50k": bytes per second."""
    found = re.fullmatch(r"([0-9]+(?:\.[0-9]+)?)([kmg]?)", str(value).lower())
    if not found or not float(found[1]):
        raise click.BadParameter(f"{value} is no number of bytes per second, such as 50k")
    return float(found[1]) * UNITS[found[2]]


class Either(click.Command):
    """With --api it is another command, which has options of its own."""

    def make_context(self, info_name: str | None, args: list[str], *more: Any, **extra: Any) -> click.Context:
        if "--api" in args:
            args.remove("--api")
            return api.make_context(f"{info_name} --api", args, *more, **extra)
        return super().make_context(info_name, args, *more, **extra)

    def invoke(self, ctx: click.Context) -> Any:
        return api.invoke(ctx) if ctx.command is api else super().invoke(ctx)


@click.command("proxy", cls=Either, short_help="a fault between any client and a real service")
@click.argument("port", type=whole)
@click.argument("upstream")
@click.option("--fault", shell_complete=completion.fault, metavar="FAULT", help="a fault that faultkit serve lists")
@click.option(
    "--plan",
    shell_complete=completion.plan,
    metavar="FAULT,...",
    help="the fault of each connection in turn, ok for none",
)
@click.option("--when", metavar="WHICH", help="only for path=/upload*, method=POST, first=TEXT or peer=ADDRESS")
@click.option("--random", type=float, metavar="P", help="the fault, or one of all, with that probability")
@click.option("--seed", type=whole, metavar="N", help="repeats --random, lots, jitter and slices exactly")
@click.option("--at", type=click.Choice(PLAIN), help="when the fault sets in")
@click.option("--after-bytes", type=whole, metavar="N", help="or: after N bytes received")
@click.option("--after-sent", type=whole, metavar="N", help="or: after N bytes sent")
@click.option("--after-read-bytes", type=whole, metavar="N", help="or: when the client has read N bytes of it")
@click.option("--after-requests", type=whole, metavar="N", help="or: with the N-th request")
@click.option("--after-answers", type=whole, metavar="N", help="or: after N answers")
@click.option("--after-idle", type=milliseconds, metavar="MS", help="or: after MS without a byte")
@click.option(
    "--towards",
    type=click.Choice(["client", "upstream", "both"]),
    default="client",
    help="whose connection has the fault  [default: client]",
)
@click.option("--latency", type=milliseconds, metavar="MS", help="a round trip takes MS longer")
@click.option("--jitter", type=milliseconds, metavar="MS", help="give or take MS, uniformly; order is kept")
@click.option("--rate", type=rate, metavar="N", help="N bytes per second in each direction: 50k, 2.5M")
@click.option(
    "--toxic",
    "toxics",
    multiple=True,
    metavar="TYPE,KEY=N,...",
    help="slicer,average_size=10,towards=upstream and the like; again for more",
)
@click.option(
    "--upstream-down",
    type=click.Choice(["reset", "close", "refuse", "hang"]),
    default="reset",
    help="what a client meets whose connection the service does not take  [default: reset]",
)
@click.option("--host", metavar="ADDRESS", help="[default: loopback]")
@ipv6_flag
@click.option("--beyond-loopback", is_flag=True, help="allow a --host that others can reach, and any service")
@click.option("--connections", type=whole, metavar="N", help="end after N connections  [default: at Ctrl-C]")
@click.option("--pcap", type=click.Path(path_type=Path), metavar="FILE", help="the packets of both sides on loopback")
@click.option("--record", type=click.Path(path_type=Path), metavar="FILE", help="the run as a JSON document")
@click.option("--json", "as_json", is_flag=True, help="for machines: one document per line")
@click.option(
    "--api", "_", is_flag=True, help="toxiproxy's server instead: faultkit proxy --api --help has its options"
)
def command(
    upstream: str,
    fault: str | None,
    plan: str | None,
    after_idle: int | None,
    latency: int | None,
    jitter: int | None,
    toxics: tuple[str, ...],
    connections: int | None,
    pcap: Path | None,
    record: Path | None,
    as_json: bool,
    _: bool,
    **options: Any,
) -> int:
    """Listen on PORT, 0 for a free one, and pass all that comes on to UPSTREAM, such as localhost:6379, until Ctrl-C or SIGTERM.

    One line per connection. Exit status 1 where no client came, which is said on standard error.
    """
    from faultkit.commands.line import streams
    from faultkit.playing.signals import let_through
    from faultkit.proxying import foreground
    from faultkit.views import proxied, served

    if connections is not None and connections < 1:
        raise Misuse(f"proxy: --connections {connections} would end at once: take 1 or more")
    try:
        with let_through():  # a FIFO may have no reader
            _check(pcap, record)
    except (Ended, KeyboardInterrupt):
        return _nobody_came()
    added = [_toxic(one) for one in toxics]
    try:
        kept = foreground.run(
            upstream,
            fault,
            toxics=added,
            opening=partial(proxied.opening, as_json=as_json),
            line=proxied.document if as_json else proxied.line,
            write=streams.write,
            dropped=partial(served.dropped, as_json=as_json),
            connections=connections,
            capture=pcap is not None,
            record=record is not None,
            plan=None if plan is None else [name.strip() for name in plan.split(",")],
            after_idle_seconds=None if after_idle is None else after_idle / 1000,
            latency_seconds=(latency or 0) / 1000,
            jitter_seconds=(jitter or 0) / 1000,
            **options,
        )
    except Misuse as refusal:
        raise Misuse(as_typed(str(refusal), click.get_current_context().command)) from refusal
    _write(kept, pcap, record)
    kept.check()
    return _said(kept)


def _toxic(text: str) -> Toxic:
    """ "slicer,average_size=10,towards=upstream"."""
    from faultkit.proxying.proxy import STREAMS
    from faultkit.proxying.toxics import made, numbers

    type, *given = [part.strip() for part in text.split(",")]
    values: dict[str, str] = {}
    try:
        for part in given:
            key, equals, value = (word.strip() for word in part.partition("="))
            if not equals:
                raise Misuse(f"{part or 'nothing'} behind a comma is no KEY=N")
            if key in values:
                raise Misuse(f"{key} is there twice")
            values[key] = value
        towards, name = values.pop("towards", "client"), values.pop("name", None)
        if towards not in STREAMS:
            raise Misuse(f"towards={towards}: it is client, upstream or both")
        known = numbers(type)
        made(type)  # is there such a one?
        if unknown := [key for key in values if key not in known and key != "toxicity"]:
            raise Misuse(f"{type} takes no {unknown[0]}: it takes {', '.join(known)}, toxicity, towards, name")
        attributes = {key: _number(key, value) for key, value in values.items()}
        toxicity = attributes.pop("toxicity", None)
        return made(type, name=name, stream=STREAMS[towards], toxicity=toxicity, attributes=attributes, fractions=True)
    except Misuse as refusal:
        raise Misuse(f"proxy: --toxic {text}: {refusal}") from None


def _number(key: str, value: str) -> float:
    try:
        return float(value) if "." in value else int(value)
    except ValueError:
        raise Misuse(f"{key}={value} is no number") from None


def _check(pcap: Path | None, record: Path | None) -> None:
    from faultkit.views.pcap import check_writable

    for path in (pcap, record):
        if path is not None:
            try:
                check_writable(path)
            except OSError as error:
                raise Misuse(f"proxy: {path} cannot be written: {error.strerror}") from error


def _write(kept: Kept, pcap: Path | None, record: Path | None) -> None:
    from faultkit.views import pcap as captures

    if record is not None:
        try:
            record.write_text(json.dumps(kept.document(), indent=1) + "\n", encoding="utf-8")
        except OSError as error:
            raise Unable(f"proxy: {record} cannot be written: {error.strerror}") from error
    if pcap is not None:
        try:
            captures.write(pcap, kept.packets)
        except OSError as error:
            raise Unable(f"proxy: {pcap} cannot be written: {error.strerror}") from error


def _said(kept: Kept) -> int:
    from faultkit.views.console import remark

    if kept.lost:
        remark(f"faultkit: proxy: packets that the capture missed: {kept.lost}")
    if kept.unread:
        remark(f"faultkit: proxy: nobody read standard output: lines that did not get there: {kept.unread}")
    if not kept.came:
        return _nobody_came()
    return PRODUCED


def _nobody_came() -> int:
    from faultkit.views.console import remark

    remark("faultkit: proxy: no client came")
    return OTHERWISE
