"""`faultkit serve`: a fault on a port."""

from __future__ import annotations

import os
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any

import click
from click.core import ParameterSource

from faultkit.commands.line import completion
from faultkit.commands.line.status import OTHERWISE, PRODUCED
from faultkit.commands.line.values import as_typed, ipv6_flag, milliseconds, whole
from faultkit.errors import Ended, Misuse
from faultkit.trigger import MOMENTS

if TYPE_CHECKING:
    from faultkit.serving.answers import Answer
    from faultkit.serving.datagrams import UdpAnswer
    from faultkit.serving.tls import Tls


# What a server of UDP takes.
OF_UDP = {
    "FAULT",
    "--udp",
    "--port",
    "--host",
    "--ipv6",
    "--beyond-loopback",
    "--plan",
    "--answer",
    "--body",
    "--body-file",
    "--control",
    "--connections",
    "--json",
}
LARGEST = 64 << 20  # bytes of a body; arbitrary


@click.command("serve", short_help="a fault on a port, for a client in any language")
@click.argument("fault", required=False, shell_complete=completion.fault)
@click.option("--port", multiple=True, metavar="N[=FAULT]", help="several: each with its own [default: a free one]")
@click.option("--host", metavar="ADDRESS", help="[default: loopback]")
@ipv6_flag
@click.option("--unix", metavar="PATH", help="or a Unix socket at that path")
@click.option("--udp", is_flag=True, help="a server of UDP: a line per datagram")
@click.option("--beyond-loopback", is_flag=True, help="allow a --host that others can reach")
@click.option("--at", type=click.Choice(MOMENTS), help="when the fault sets in")
@click.option("--after-bytes", type=whole, metavar="N", help="or: after N bytes received")
@click.option("--after-sent", type=whole, metavar="N", help="or: after N bytes sent")
@click.option("--after-read-bytes", type=whole, metavar="N", help="or: when the client has read N bytes of it")
@click.option("--after-requests", type=whole, metavar="N", help="or: instead of the N-th answer")
@click.option("--after-answers", type=whole, metavar="N", help="or: after N answers")
@click.option("--after-idle", type=milliseconds, metavar="MS", help="or: after MS without a byte")
@click.option(
    "--plan",
    shell_complete=completion.plan,
    metavar="FAULT,...",
    help="the fault of each connection in turn, ok for none",
)
@click.option("--when", metavar="WHICH", help="only for path=/upload*, method=POST, first=TEXT or peer=ADDRESS")
@click.option("--random", type=float, metavar="P", help="the fault, or one of all, with that probability")
@click.option("--seed", type=whole, metavar="N", help="repeats --random exactly")
@click.option("--http", is_flag=True, help="healthy connections speak HTTP/1.1  [default: a byte echo]")
@click.option("--chunked", is_flag=True, help="the same, the body in chunks")
@click.option("--status", type=whole, metavar="N", help="the same, with that status  [default: 200]")
@click.option("--header", "headers", multiple=True, metavar="NAME:VALUE", help="the same, with that header")
@click.option("--early", is_flag=True, help="the same, before the request's body is read; then FIN, never RST")
@click.option("--answer", metavar="NAME", help="or they speak http2, websocket, redis or smtp; with --udp echo or dns")
@click.option("--no-pongs", is_flag=True, help="with --answer websocket: pings are not answered")
@click.option("--body", metavar="TEXT", help="what they answer, with --http the body")
@click.option("--body-file", shell_complete=completion.file, metavar="FILE", help="the same, from a file: any bytes")
@click.option("--latency", type=milliseconds, metavar="MS", help="a round trip takes MS longer")
@click.option("--rate", type=whole, metavar="N", help="N bytes per second in each direction")
@click.option("--tls", is_flag=True, help="TLS with a test authority, whose certificate it writes to a file")
@click.option("--starttls", is_flag=True, help="the same, beginning at STARTTLS: with --answer smtp")
@click.option("--alpn", metavar="NAME,...", help="and agrees to these protocols")
@click.option(
    "--cert", metavar="WHAT,...", help="and has a certificate that is expired or untrusted, or for these names"
)
@click.option("--client-cert", is_flag=True, help="and asks for the client's certificate")
@click.option(
    "--control",
    shell_complete=completion.file,
    metavar="FILE",
    help="orders to the servers, a line each; - for standard input",
)
@click.option(
    "--connections", type=whole, metavar="N", help="end after N connections, or datagrams  [default: at Ctrl-C]"
)
@click.option("--json", "as_json", is_flag=True, help="for machines: one document per line")
def command(
    fault: str | None,
    port: tuple[str, ...],
    unix: str | None,
    udp: bool,
    plan: str | None,
    after_idle: int | None,
    http: bool,
    chunked: bool,
    status: int | None,
    headers: tuple[str, ...],
    early: bool,
    answer: str | None,
    no_pongs: bool,
    body: str | None,
    body_file: str | None,
    latency: int | None,
    tls: bool,
    starttls: bool,
    alpn: str | None,
    cert: str | None,
    client_cert: bool,
    connections: int | None,
    as_json: bool,
    **options: Any,
) -> int:
    """Serve FAULT on a port, one line per connection, until Ctrl-C or SIGTERM. Without FAULT and --plan: list them all.

    Orders, by --control: fire, heal, restart [MS], arm FAULT, forget, quit, each answered by a line; port=N behind it names one
    of several servers. Signals: SIGUSR1 is fire, SIGUSR2 heal, SIGRTMIN restart.

    Exit status 1 where no client came, which is said on standard error.
    """
    from faultkit.commands.line import streams
    from faultkit.playing.signals import let_through
    from faultkit.serving import foreground
    from faultkit.views import served
    from faultkit.views.console import console, remark

    listed = [_port(text) for text in port or ["0"]]
    given = _given()
    if udp and (of_tcp := sorted(given - OF_UDP)):
        raise Misuse(f"serve: {of_tcp[0]} is of TCP, and --udp is not: leave one of them out")
    if fault is None and plan is None and options["random"] is None and not all(own for _, own in listed):
        if given - {"--udp"}:
            listing = "faultkit serve --udp" if udp else "faultkit serve"
            raise Misuse(f"serve: no fault is named: name one, ok for none; {listing} lists them")
        (served.listing_udp if udp else served.listing)(console())
        return PRODUCED
    _check_whose(given, listed)
    if connections is not None and connections < 1:
        raise Misuse(f"serve: --connections {connections} would end at once: take 1 or more")
    try:
        with let_through():  # a FIFO may have no writer
            text = _body(body, body_file)
    except (Ended, KeyboardInterrupt):
        remark("faultkit: serve: no client came")
        return OTHERWISE
    try:
        if udp:
            more: dict[str, Any] = {name: options[name] for name in ("host", "ipv6", "beyond_loopback", "control")}
            more |= {"udp": True, "answer": _answer_udp(answer, text)}
        else:
            http = http or chunked or status is not None or bool(headers) or early
            more = options | {
                "after_idle_seconds": None if after_idle is None else after_idle / 1000,
                "latency_seconds": (latency or 0) / 1000,
                "unix": False if unix is None else unix,
                "tls": False,
            }
            if no_pongs and answer != "websocket":
                raise Misuse("serve: --no-pongs is of a WebSocket: add --answer websocket")
            if starttls and answer != "smtp":
                raise Misuse("serve: --starttls is of SMTP: add --answer smtp")
            if tls or starttls or alpn or cert or client_cert:
                more["tls"] = _tls(alpn, cert, mutual=client_cert, later=starttls)
            fields = dict(map(_header, headers))
            more["answer"] = _answer(
                answer,
                text,
                http=http,
                pongs=not no_pongs,
                status=200 if status is None else status,
                headers=fields,
                chunked=chunked,
                early=early,
            )
        came, unread = foreground.serve(
            fault,
            ports=listed,
            opening=partial(served.opening_udp if udp else served.opening, as_json=as_json),
            line=_line(udp=udp, as_json=as_json),
            told=partial(served.told, as_json=as_json),
            write=streams.write,
            dropped=partial(served.dropped, as_json=as_json),
            connections=connections,
            plan=None if plan is None else [name.strip() for name in plan.split(",")],
            **more,
        )
    except Misuse as refusal:
        raise Misuse(as_typed(str(refusal), click.get_current_context().command)) from refusal
    if unread:
        remark(f"faultkit: serve: nobody read standard output: lines that did not get there: {unread}")
    if not came:
        remark("faultkit: serve: no client came")
        return OTHERWISE
    return PRODUCED


def _given() -> set[str]:
    """What was typed, FAULT or the names of options."""
    context = click.get_current_context()
    typed = [
        one
        for one in context.command.params
        if one.name and context.get_parameter_source(one.name) is ParameterSource.COMMANDLINE
    ]
    return {one.opts[0] if isinstance(one, click.Option) else "FAULT" for one in typed}


def _check_whose(given: set[str], listed: list[tuple[int, str | None]]) -> None:
    """Raise `Misuse` for a fault that no port has, and for a port that is named twice."""
    if all(own for _, own in listed) and (nobodys := sorted(given & {"FAULT", "--plan", "--random", "--seed"})):
        raise Misuse(
            f"serve: every --port has a fault of its own, so {nobodys[0]} is nobody's: leave it out, or name a --port without one"
        )
    numbers = [number for number, _ in listed if number]
    if twice := [number for number in numbers if numbers.count(number) > 1]:
        raise Misuse(f"serve: --port {twice[0]} stands there twice: take another, 0 for a free one")


def _line(*, udp: bool, as_json: bool) -> Callable[[Any, int | None], str]:
    from faultkit.views import served

    if udp:
        return served.datagram_document if as_json else served.datagram
    return served.document if as_json else served.line


def _answer_udp(name: str | None, body: bytes | None) -> UdpAnswer:
    if name is not None and body is not None:
        raise Misuse(f"serve: --answer {name} and --body: leave one of them out")
    if name is not None:
        return name  # type: ignore[return-value]  # checked by `datagrams.answering`
    return "echo" if body is None else body


def _port(text: str) -> tuple[int, str | None]:
    """A port, and the fault that it alone has."""
    number, equals, own = text.partition("=")
    if equals and not own.strip():
        raise click.BadParameter(f"{text}: a fault is named behind the =", param_hint="--port")
    return whole(number), own.strip() or None


def _tls(alpn: str | None, cert: str | None, *, mutual: bool, later: bool) -> Tls:
    from faultkit.serving.tls import Tls

    protocols, wanted = ([one.strip() for one in (text or "").split(",") if one.strip()] for text in (alpn, cert))
    names = [one for one in wanted if one not in ("expired", "untrusted")]
    return Tls(
        names, protocols, expired="expired" in wanted, untrusted="untrusted" in wanted, mutual=mutual, later=later
    )


def _header(text: str) -> tuple[str, str]:
    name, colon, value = text.partition(":")
    if not colon:
        raise click.BadParameter(f"{text} has no colon: a header is NAME:VALUE", param_hint="--header")
    return name.strip(), value.strip()


def _body(text: str | None, file: str | None) -> bytes | None:
    if file is None:
        return None if text is None else os.fsencode(text)
    if text is not None:
        raise Misuse("serve: --body and --body-file: leave one of them out")
    try:
        with open(file, "rb") as content:
            told = content.read(LARGEST + 1)
    except OSError as error:
        raise Misuse(f"serve: --body-file {file} cannot be read ({error.strerror})") from error
    if len(told) > LARGEST:
        raise Misuse(f"serve: --body-file {file} has more than {LARGEST} bytes: an answer is kept in memory")
    return told


def _answer(name: str | None, body: bytes | None, *, http: bool, pongs: bool, **options: Any) -> Answer:
    from faultkit.serving.http1 import Http
    from faultkit.serving.http2 import Http2
    from faultkit.serving.websocket import WebSocket

    if name == "http2":
        if options["chunked"] or options["early"]:
            raise Misuse("serve: --answer http2 has frames: leave --chunked and --early out")
        return Http2(Http.body if body is None else body, options["status"], options["headers"])
    if name is not None and (http or body is not None):
        raise Misuse(f"serve: --answer {name} and how HTTP or bytes are answered: leave one of them out")
    if not pongs:
        return WebSocket(pongs=False)
    if name is not None:
        return name  # type: ignore[return-value]  # checked by `answers.chosen`
    if http:
        return Http(Http.body if body is None else body, **options)
    return "echo" if body is None else body
