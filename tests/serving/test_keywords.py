"""Every argument that a user can give, with values of every kind: it is taken, or refused in one sentence that names it.

The arguments are those of the signatures: one that is new is tried by itself. Which values an annotation allows is read here from
how it is written.
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import decimal
import inspect
import math
import re
import socket
import tempfile
from collections.abc import Awaitable, Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest

import faultkit
from faultkit import AsyncioLive, Http, Http2, Live, Misuse, Redis, Server, Smtp, Tls, Unable, WebSocket

NOT_MADE_BY_USERS = {"Opening", "Toxic", "open_firewall"}

VALUES: dict[str, Any] = {
    "None": None,
    "True": True,
    "0": 0,
    "-1": -1,
    "3": 3,
    "10**30": 10**30,
    "1.5": 1.5,
    "-0.5": -0.5,
    "nan": math.nan,
    "inf": math.inf,
    "a decimal": decimal.Decimal(1),
    "no text": "",
    "a text": "nonsense",
    "lines": "a\r\nb",
    "NUL": "a\0b",
    "half a character": "\ud800",
    "no bytes": b"",
    "bytes": b"421",
    "an array": bytearray(b"x"),
    "an empty list": [],
    "a list of numbers": [1],
    "a list of lists": [["linger", "ok"]],
    "a list of texts": ["nonsense"],
    "a tuple": ("127.0.0.1", 80),
    "a set": {"linger"},
    "a dict": {},
    "a dict of numbers": {1: 2},
    "a dict of bytes": {b"x": 5},
    "a generator": iter("ok"),
    "an object": object(),
    "a class": Http,
    "a module": math,
    "a function of nothing": lambda: None,
    "what takes two": lambda one, two: None,
    "...": ...,
}


async def handler(conn: Live) -> None:
    await conn.receive()


async def in_their_loop(conn: AsyncioLive) -> None:
    await conn.receive()


def takers() -> dict[str, Callable[..., Any]]:
    """What a user calls: functions, and classes whose fields are arguments."""
    found: dict[str, Callable[..., Any]] = {}
    for name in faultkit.__all__:
        one: Any = getattr(faultkit, name)
        ours = one.__module__.startswith(("faultkit.serving.", "faultkit.proxying."))
        if ours and name not in NOT_MADE_BY_USERS and (inspect.isfunction(one) or dataclasses.is_dataclass(one)):
            found[name] = one  # type: ignore[assignment]  # Any is narrowed
    return found


def parameters(takes: Callable[..., Any]) -> list[inspect.Parameter]:
    variable = (inspect.Parameter.VAR_KEYWORD, inspect.Parameter.VAR_POSITIONAL)
    return [
        one for one in inspect.signature(takes).parameters.values() if one.kind not in variable and one.name != "self"
    ]


def needed(takes: Callable[..., Any]) -> dict[str, Any]:
    """What has to be given."""
    values: dict[str, Any] = {"upstream": "127.0.0.1:9", "handler": in_their_loop}
    return {one.name: values.get(one.name, 1) for one in parameters(takes) if one.default is inspect.Parameter.empty}


def allowed(value: object, written: str) -> bool:
    """May the annotation allow this value? Of lists and dicts what is in them counts."""
    words = set(re.findall(r"[A-Za-z]+", re.sub(r"\[.*?\]", "", written)))
    words |= {"bytes", "bytearray"} if words & {"Answer", "UdpAnswer"} else set()
    if isinstance(value, list):
        return "Sequence" in words and all(isinstance(one, str) for one in value)
    if isinstance(value, dict):
        return bool(words & {"Mapping", "dict"}) and not value
    if isinstance(value, tuple):
        return "tuple" in words
    if value is None:
        return "None" in words
    if isinstance(value, int) and not isinstance(value, bool):
        return bool(words & {"int", "float"})
    return type(value).__name__ in words and value == value


def shown(value: object) -> str:
    """As a sentence shows it, its beginning."""
    return ascii(value)[:30]


@contextlib.contextmanager
def left_as_it_was(place: Path) -> Iterator[None]:
    yield
    assert list(place.iterdir()) == []


def tried(takes: Callable[..., Any], arguments: dict[str, Any]) -> None:
    """Call it, and use what it gives as it is used."""
    given = takes(**arguments)
    if hasattr(given, "__enter__"):
        with contextlib.suppress(faultkit.FaultNotMet), given:
            pass


def check(takes: Callable[..., Any], name: str, value: Any, written: str) -> None:
    """It is taken where it may be, or refused."""
    try:
        tried(takes, {**needed(takes), name: value})
    except Misuse as refusal:
        sentence = str(refusal)
        assert len(sentence.splitlines()) == 1 and sentence.isprintable(), sentence
        assert len(sentence) <= 300
        if not allowed(value, written):
            # Of a plan's names the one that is wrong.
            named = name in sentence or shown(value) in sentence or (name == "plan" and shown(value[0]) in sentence)
            assert named, f"{name}={value!r} is not named: {sentence}"
    except Unable:
        assert allowed(value, written)
    else:
        assert allowed(value, written), f"{takes.__name__}({name}={value!r}) was taken"


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where relative paths and temporary files are."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    return tmp_path


@pytest.mark.parametrize("kind", VALUES)
@pytest.mark.parametrize("taker", takers())
def test_every_argument_with_every_kind_of_value(taker: str, kind: str, place: Path) -> None:
    takes = takers()[taker]

    async def in_a_loop() -> None:
        for one in parameters(takes):
            check(takes, one.name, VALUES[kind], str(one.annotation))

    with left_as_it_was(place):
        if taker == "in_asyncio":
            asyncio.run(in_a_loop())
            return
        for one in parameters(takes):
            check(takes, one.name, VALUES[kind], str(one.annotation))


METHODS = ("arm", "restart", "wait_for_connection", "wait_for_datagram")


@pytest.mark.parametrize("kind", VALUES)
@pytest.mark.parametrize("opens", [faultkit.serve, faultkit.serve_udp])
def test_what_a_server_is_asked(opens: Callable[..., Any], kind: str) -> None:
    with opens(must_be_met=False) as server:
        for method in METHODS:
            asks: Any = getattr(server, method, None)
            for one in parameters(asks) if asks else ():
                value = VALUES[kind]
                rest = {"timeout_seconds": 0.0} if method.startswith("wait") and one.name != "timeout_seconds" else {}
                if one.name == "timeout_seconds" and isinstance(value, int | float) and not value < 0.001:
                    continue  # it would be waited for
                with contextlib.suppress(TimeoutError):
                    check(partial_of(asks, rest), one.name, value, str(one.annotation))


def partial_of(asks: Callable[..., Any], rest: dict[str, Any]) -> Callable[..., Any]:
    def calls(**arguments: Any) -> Any:
        return asks(**rest, **arguments)

    calls.__name__ = asks.__name__
    return calls


class Answers:
    """As a test's own class may be."""

    async def __call__(self, conn: Live) -> None:
        await conn.receive()

    async def method(self, conn: Live) -> None:
        await conn.receive()


async def with_more(conn: Live, said: bytes) -> None:
    await conn.receive()


def gives_one(conn: Live) -> Awaitable[None]:
    return handler(conn)


ONES = [
    handler,
    Answers(),
    Answers().method,
    partial(with_more, said=b"x"),
    gives_one,
    lambda conn: with_more(conn, b"x"),
]


@pytest.mark.parametrize("answer", ONES)
def test_whatever_is_an_async_function_of_a_connection_handles_it(answer: Any) -> None:
    with faultkit.serve(answer=answer) as server:
        socket.create_connection(server.address).close()
        assert server.wait_for_connection().wait_for_end().ended == "peer closed"


def test_a_function_that_gives_nothing_to_await_is_told_of() -> None:
    with (
        pytest.raises(
            faultkit.HandlerCrashed, match=r"Misuse: answer=<lambda> gave 5: a handler is async def handler\(conn\)$"
        ),
        faultkit.serve(answer=lambda conn: int("5")) as server,  # type: ignore[arg-type,return-value]
    ):
        socket.create_connection(server.address).close()
        server.wait_for_connection().wait_for_end()


def forgot(conn: Live) -> None:
    conn.abort()


async def generates(conn: Live) -> Any:
    yield await conn.receive()


REFUSED: dict[str, tuple[Callable[[], object], str]] = {
    "no async": (
        lambda: faultkit.serve(answer=forgot),  # type: ignore[arg-type]
        "answer=forgot cannot handle a connection: take async def handler(conn), or functools.partial of one that takes more",
    ),
    "a lambda": (lambda: faultkit.serve(answer=lambda conn: None), "answer=<lambda> cannot handle a connection: *"),  # type: ignore[arg-type,return-value]
    "too many arguments": (lambda: faultkit.serve(answer=with_more), "answer=with_more cannot handle a connection: *"),  # type: ignore[arg-type]
    "a generator": (lambda: faultkit.serve(answer=generates), "answer=generates cannot handle a connection: *"),
    "the class": (
        lambda: faultkit.serve(answer=Http),  # type: ignore[arg-type]
        "answer=Http is a class: make one of it, answer=Http(...)",
    ),
    "when that waits": (
        lambda: faultkit.serve("linger", when=handler),  # type: ignore[arg-type]
        "when=handler cannot be asked about a connection: take a function of one faultkit.Opening, no async def",
    ),
    "datagrams that wait": (
        lambda: faultkit.serve_udp(answer=handler),  # type: ignore[arg-type]
        "answer=handler cannot answer a datagram: take a function of its bytes, no async def",
    ),
    "a datagram that is too long": (
        lambda: faultkit.serve_udp(answer=b"x" * 65508),
        "answer= has 65508 bytes: a datagram takes up to 65507",
    ),
    "bytes of Smtp": (lambda: Smtp(b"421"), "Smtp(greeting=b'421'): it is text"),  # type: ignore[arg-type]
    "a list of headers": (lambda: Http(headers=[1]), "Http(headers=[1]): it is a dict of text to text"),  # type: ignore[arg-type]
    "no headers": (lambda: Http2(headers=5), "Http2(headers=5): it is a dict of text to text"),  # type: ignore[arg-type]
    "a header of HTTP/1": (
        lambda: Http2(headers={"Connection": "close"}),
        "Http2(headers={'Connection': 'close'}): HTTP/2 has no such header: leave it out",
    ),
    "two lines": (
        lambda: Http(content_type="a\r\nb"),
        "Http(content_type='a\\r\\nb'): it cannot be sent (Illegal header value*",
    ),
    "another length": (
        lambda: Http(b"four", headers={"Content-Length": "5"}),
        "Http(headers={'Content-Length': '5'}): the body has 4 bytes: leave it out, or write such an answer as bytes, *",
    ),
    "values": (lambda: Redis(5), "Redis(values=5): it is a dict of bytes to bytes"),  # type: ignore[arg-type]
    "pongs": (lambda: WebSocket(pongs=3), "WebSocket(pongs=3): it is True or False"),  # type: ignore[arg-type]
    "met": (lambda: faultkit.serve(must_be_met="no"), "must_be_met='no': it is True or False"),  # type: ignore[arg-type]
    "expired": (lambda: Tls(expired="x"), "Tls(expired='x'): it is True or False"),  # type: ignore[arg-type]
    "names": (lambda: Tls("example.org"), "Tls(names='example.org'): it is a list of text"),
    "host": (lambda: faultkit.serve(host=5), "host=5: it is text or left out"),  # type: ignore[arg-type]
    "keep": (lambda: faultkit.proxy("localhost:1", keep=1), "keep=1: it is True or False"),  # type: ignore[arg-type]
    "towards": (
        lambda: faultkit.proxy("localhost:1", towards="server"),  # type: ignore[arg-type]
        "towards='server': it is client, upstream or both",
    ),
    "seconds": (lambda: faultkit.latency("x"), "latency(seconds='x'): it is a number"),  # type: ignore[arg-type]
    "a path with NUL": (
        lambda: faultkit.serve(unix="a\0b"),
        "unix='a\\x00b' is no path of a file: take one such as /run/x.sock, or True",
    ),
    "no path": (lambda: faultkit.serve(unix=""), "unix='' is no path of a file: take one such as /run/x.sock, or True"),
    "a list for a fault": (
        lambda: faultkit.serve(["linger", "ok"]),  # type: ignore[arg-type]
        "fault=['linger', 'ok'] is a list: a fault for each connection in turn is plan=[...]",
    ),
    "a number for a path": (lambda: faultkit.serve(unix=5), "unix=5: it is True or False, text or a path"),  # type: ignore[arg-type]
}


@pytest.mark.parametrize("case", REFUSED)
def test_the_sentence(case: str, place: Path) -> None:
    make, sentence = REFUSED[case]
    with left_as_it_was(place), pytest.raises(Misuse) as refused:
        make()
    assert re.fullmatch(re.escape(sentence).replace(r"\*", ".*"), str(refused.value)), str(refused.value)


VERBS: dict[str, tuple[Callable[[Live], object], str]] = {
    "slow": (lambda conn: conn.slow(bytes_per_second="x"), "conn.slow(bytes_per_second='x'): it is a number"),  # type: ignore[arg-type]
    "slices": (lambda conn: conn.slices(size=1.5), "conn.slices(size=1.5): it is a whole number"),  # type: ignore[arg-type]
    "garbage": (lambda conn: conn.garbage("x", size=1), "conn.garbage(data='x'): it is bytes"),  # type: ignore[arg-type]
    "crash": (lambda conn: conn.crash(read=1), "conn.crash(read=1): it is True or False"),  # type: ignore[arg-type]
}


@pytest.mark.parametrize("verb", VERBS)
def test_the_arguments_of_a_verb(verb: str) -> None:
    does, sentence = VERBS[verb]

    async def handler(conn: Live) -> None:
        does(conn)

    with pytest.raises(faultkit.HandlerCrashed) as crash, faultkit.serve(answer=handler) as server:
        socket.create_connection(server.address).close()
        server.wait_for_connection().wait_for_end()
    assert str(crash.value) == f"connection 1: Misuse: {sentence}"


def test_a_path_may_be_one(place: Path) -> None:
    with faultkit.serve(unix=place / "socket") as server:
        assert server.path == str(place / "socket")
        assert (place / "socket").is_socket()
    assert not (place / "socket").exists()


def test_datagrams_that_are_none() -> None:
    with (
        pytest.raises(faultkit.HandlerCrashed, match=r"^Misuse: answer=<lambda> gave 'x': an answer is bytes, or None"),
        faultkit.serve_udp(answer=lambda asked: "x") as server,  # type: ignore[arg-type,return-value]
    ):
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
            sock.sendto(b"?", server.address)
        server.wait_for_datagram()


def test_what_is_allowed_is_read_rightly() -> None:
    """The test's own reading of annotations."""
    assert allowed([], "Sequence[str]") and not allowed([1], "Sequence[str]") and not allowed("x", "Sequence[str]")
    assert allowed({}, "Mapping[str, str]") and not allowed({}, "bool | Tls")
    assert (
        allowed(True, "bool | Tls")
        and not allowed(1, "bool")
        and not allowed(True, "int")
        and allowed(1, "float | None")
    )
    assert isinstance(Server, type)
