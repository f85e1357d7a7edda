"""The page's paths: itself, what it is told twice a second, and what toxiproxy's API has no word for."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from importlib import resources
from typing import Any

import trio
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.routing import BaseRoute, Route

from faultkit.controlling import answers, body
from faultkit.controlling.page.state import Ends, snapshot, types
from faultkit.controlling.proxies import Proxies
from faultkit.controlling.refusal import Refusal
from faultkit.errors import Misuse

EVERY = 0.5  # seconds between two states; arbitrary
TYPES = {"html": "text/html", "css": "text/css", "js": "text/javascript"}

# It asks nothing of anywhere else, and is put into no other page's frame.
HEADERS = {
    "Cache-Control": "no-store",
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}


def routes(proxies: Proxies, ends: Ends, stop: trio.Event) -> list[BaseRoute]:
    """Its paths, until `stop`."""

    async def events(request: Request) -> Response:
        stream = _events(proxies, ends, stop, json.dumps({"types": types()}))
        return StreamingResponse(stream, headers=HEADERS | {"Content-Type": "text/event-stream"})

    async def act(request: Request) -> Response:
        try:
            proxy = proxies.named(request.path_params["proxy"]).proxy
            match request.path_params["what"]:
                case "fire":
                    proxy.fire()
                case "heal":
                    proxy.heal()
                case "cut":
                    number = request.query_params.get("connection")
                    proxy.cut(int(number) if number and number.isdecimal() else None)
                case _:
                    return answers.not_found()
        except Refusal as error:
            return answers.error(error.text, error.status)
        except Misuse as error:
            return answers.error(str(error), 400)
        return answers.nothing()

    return [
        Route("/", _File("index.html")),
        *(Route(f"/ui/{name}", _File(name)) for name in ("page.css", "page.js")),
        Route("/ui/events", _Plain(events, "GET")),
        Route("/ui/proxies/{proxy}/{what}", _Plain(act, "POST", header="x-faultkit-page")),
    ]


async def _events(proxies: Proxies, ends: Ends, stop: trio.Event, first: str) -> AsyncIterator[bytes]:
    yield f"event: types\ndata: {first}\n\n".encode()
    while not stop.is_set():
        yield b"data: " + body.encoded(snapshot(proxies, ends)) + b"\n\n"
        with trio.move_on_after(EVERY):
            await stop.wait()


class _Plain:
    """One method, and nobody else's."""

    def __init__(self, answer: Any, method: str, header: str = "") -> None:
        self._answer = answer
        self._method = method
        self._header = header

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        request = Request(scope, receive)
        if request.method != self._method:
            answer = answers.nothing(405)
        elif self._header and self._header not in request.headers:
            answer = answers.plain("it is for the page\n", 403)
        else:
            answer = await self._answer(request)
        await answer(scope, receive, send)


class _File(_Plain):
    """A file that lies beside this one."""

    def __init__(self, name: str) -> None:
        text = (resources.files(__package__) / name).read_bytes()
        kind = f"{TYPES[name.rpartition('.')[2]]}; charset=utf-8"

        async def answer(request: Request) -> Response:
            return Response(text, headers=HEADERS | {"Content-Type": kind})

        super().__init__(answer, "GET")
