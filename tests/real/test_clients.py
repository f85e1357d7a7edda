"""What other people's clients say is what docs/what-clients-say.md has."""

from __future__ import annotations

import asyncio
import re

import aiohttp
import pytest

import faultkit
from tests.real import answers, page
from tests.real.clients import CLIENTS, Client
from tests.real.errors import raised
from tests.real.faults import fin_acknowledged
from tests.real.surprises import SURPRISES, Surprise


@pytest.mark.parametrize("client", CLIENTS, ids=lambda client: client.name)
def test_a_client_says_what_the_page_says(client: Client) -> None:
    if complaint := page.complaint(client, page.played(client), page.PAGE.read_text()):
        pytest.fail(complaint, pytrace=False)


@pytest.mark.parametrize("surprise", SURPRISES, ids=lambda surprise: surprise.sentence.split("**")[1])
def test_a_surprise_is_none_that_is_made_up(surprise: Surprise) -> None:
    assert surprise.holds(page.everything())


def test_the_rest_of_the_page_is_up_to_date() -> None:
    def rest(text: str) -> list[str]:
        return [line for line in text.splitlines() if not line.startswith(("| `", "From "))]

    assert rest(page.PAGE.read_text()) == rest(page.text(page.everything())), f"to write it anew: {page.REGENERATE}"


def test_another_release_that_says_something_else_is_named_with_the_command() -> None:
    client = next(client for client in CLIENTS if client.name == "requests")
    then = "From requests 2.0.0, Python 3.11.0."
    before = re.sub(r"From requests .*", then, page.PAGE.read_text()).replace("ReadTimeoutError", "TimeoutErrorOfOld")
    told = page.complaint(client, page.played(client), before)
    assert told is not None
    sentence, *lines = told.splitlines()
    assert sentence == (
        f"{page.origin(client)} says something else than docs/what-clients-say.md, which is from requests 2.0.0, "
        "Python 3.11.0; to write it anew: .venv/bin/python -m tests.real.page"
    )
    assert {re.match(r"[-+]\| `([a-z-]+)`", line)[1] for line in lines} == {"black-hole", "stall"}  # type: ignore[index]
    assert sorted(line[0] for line in lines) == ["+", "+", "-", "-"]


def test_an_errno_is_found_where_it_was_meant_to_be_rather_than_by_chance() -> None:
    def caught(meant: bool) -> BaseException:
        try:
            try:
                raise ConnectionResetError(104, "Connection reset by peer")
            except OSError as reset:
                raise RuntimeError("lost", ValueError(reset) if meant else 0)  # noqa: B904
        except RuntimeError as error:
            return error

    assert [(caught.path, caught.errno) for caught in (raised(caught(True)), raised(caught(False)))] == [
        ("error.args[1].args[0]", 104),
        ("error.__context__", 104),
    ]


def test_aiohttp_sees_a_fin_when_its_loop_runs() -> None:
    async def post(session: aiohttp.ClientSession, url: str) -> str:
        async with session.post(url, data=b"x") as response:
            return await response.text()

    async def opened() -> aiohttp.ClientSession:
        return aiohttp.ClientSession()

    fault = faultkit.serve("keepalive-race:unprocessed", at="fire", answer=answers.http)
    with fault as server, asyncio.Runner() as loop:
        session = loop.run(opened())
        assert loop.run(post(session, server.url)) == "/"
        fin_acknowledged(server)
        loop.run(asyncio.sleep(0))  # one turn, in which it looks at its sockets
        assert loop.run(post(session, server.url)) == "/"  # which aiohttp does not try twice
        assert len(server.connections) == 2
        loop.run(session.close())
