"""The API's paths."""

from __future__ import annotations

import secrets
import time
import traceback
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

import trio
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route, Router
from starlette.types import ASGIApp, Receive, Scope, Send

from faultkit.controlling import answers, body
from faultkit.controlling.journal import Journal
from faultkit.controlling.metrics import Metrics
from faultkit.controlling.proxies import Kept, Proxies
from faultkit.controlling.refusal import Refusal
from faultkit.controlling.segments import Segments

CONTRACT = "2.12.0"  # the version of toxiproxy whose API this is
HANDLING = 25.0  # seconds for a request
LETTERS = "0123456789abcdefghijklmnopqrstuv"

Handler = Callable[[Request], Awaitable[Response]]


def router(api: Api, more: list[BaseRoute]) -> ASGIApp:
    """All paths: the API's, and what else the server has."""
    proxy = "/proxies/{proxy:name}"
    toxics = f"{proxy}/toxics"
    paths: Mapping[str, Mapping[str, Handler]] = {
        "/version": {"GET": api.version},
        "/reset": {"POST": api.reset},
        "/populate": {"POST": api.populate},
        "/proxies": {"GET": api.index, "POST": api.create},
        proxy: {"GET": api.show, "POST": api.update, "PATCH": api.update, "DELETE": api.delete},
        toxics: {"GET": api.toxics, "POST": api.add_toxic},
        f"{toxics}/{{toxic:name}}": {
            "GET": api.toxic,
            "POST": api.update_toxic,
            "PATCH": api.update_toxic,
            "DELETE": api.remove_toxic,
        },
        **({"/metrics": {"": api.metrics}} if api.shown else {}),
    }
    routes: list[BaseRoute] = [
        Route(path, ByMethod(path.replace(":name", ""), handlers, api.journal, api.page))
        for path, handlers in paths.items()
    ]
    return Segments(Router([*routes, *more], redirect_slashes=False, default=_no_path))


async def _no_path(scope: Scope, receive: Receive, send: Send) -> None:
    await answers.not_found()(scope, receive, send)


class ByMethod:
    """A path: what each method does on it. The method "" is any."""

    def __init__(self, path: str, handlers: Mapping[str, Handler], journal: Journal, page: bool) -> None:
        self._path = path
        self._handlers = handlers
        self._journal = journal
        self._page = page

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        handler = self._handlers.get(scope["method"]) or self._handlers.get("")
        if handler is None:
            await answers.nothing(405)(scope, receive, send)
            return
        began, request = time.monotonic(), Request(scope, receive)
        answer = await self._answer(handler, request)
        identity = "".join(secrets.choice(LETTERS) for _ in range(20))
        answer.headers["X-Toxiproxy-Request-Id"] = identity
        self._journal.add(
            "debug",
            "",
            request_id=identity,
            client=":".join(map(str, scope["client"] or ())),
            method=scope["method"],
            url=request.url.path,
            user_agent=request.headers.get("user-agent", ""),
            status=answer.status_code,
            size=len(answer.body),
            duration=round((time.monotonic() - began) * 1000, 3),
            handler=self._path,
        )
        await answer(scope, receive, send)

    async def _answer(self, handler: Handler, request: Request) -> Response:
        # A browser is only let in by our page: no other site's page can send that header without asking first (Fetch, 4.8).
        if request.headers.get("user-agent", "").startswith("Mozilla/") and not (
            self._page and "x-faultkit-page" in request.headers
        ):
            return answers.plain("User agent not allowed\n", 403)
        with trio.move_on_after(HANDLING):
            try:
                return await handler(request)
            except Refusal as error:
                return answers.error(error.text, error.status)
            except Exception as error:
                told = "".join(traceback.format_exception(error))
                self._journal.add("error", f"nobody foresaw this: {error!r}: please report it", traceback=told)
                return answers.error(f"nobody foresaw this: {error!r}", 500)
        return answers.too_late()


class Api:
    """What each request does."""

    def __init__(self, proxies: Proxies, metrics: Metrics, journal: Journal, *, page: bool = False) -> None:
        self._proxies = proxies
        self._metrics = metrics
        self.journal = journal
        self.shown = metrics.shown
        self.page = page

    async def version(self, _: Request) -> Response:
        """GET /version"""
        headers = {"Content-Type": "application/json;charset=utf-8"}
        return Response(f'{{"version": "{CONTRACT}"}}\n', headers=headers)

    async def index(self, _: Request) -> Response:
        """GET /proxies"""
        return answers.document(dict(sorted((kept.proxy.name, kept.document()) for kept in self._proxies)))

    async def create(self, request: Request) -> Response:
        """POST /proxies"""
        kept = await self._proxies.create(await _body(request))
        return answers.document(kept.document(), 201)

    async def populate(self, request: Request) -> Response:
        """POST /populate"""
        done: list[Kept] = []
        try:
            await self._proxies.populate(await _body(request), done)
        except Refusal as error:
            self.journal.add("warn", "Populate errors", error=error.text)
            told = {"error": error.text, "status": error.status, "proxies": _documents(done)}
            return answers.document(told, error.status)
        return answers.document({"proxies": _documents(done)}, 201)

    async def show(self, request: Request) -> Response:
        """GET /proxies/{proxy}"""
        return answers.document(self._proxies.named(_name(request)).document())

    async def update(self, request: Request) -> Response:
        """PATCH /proxies/{proxy}"""
        self._deprecated(request)
        self._proxies.named(_name(request))
        kept = await self._proxies.update(_name(request), await _body(request))
        return answers.document(kept.document())

    async def delete(self, request: Request) -> Response:
        """DELETE /proxies/{proxy}"""
        self._proxies.delete(_name(request))
        return answers.nothing()

    async def toxics(self, request: Request) -> Response:
        """GET /proxies/{proxy}/toxics"""
        return answers.document(self._proxies.named(_name(request)).toxics())

    async def add_toxic(self, request: Request) -> Response:
        """POST /proxies/{proxy}/toxics"""
        self._proxies.named(_name(request))
        return answers.document(self._proxies.add_toxic(_name(request), await _body(request)))

    async def toxic(self, request: Request) -> Response:
        """GET /proxies/{proxy}/toxics/{toxic}"""
        return answers.document(self._proxies.toxic(_name(request), request.path_params["toxic"]))

    async def update_toxic(self, request: Request) -> Response:
        """PATCH /proxies/{proxy}/toxics/{toxic}"""
        self._deprecated(request)
        self._proxies.toxic(_name(request), request.path_params["toxic"])
        given = await _body(request)
        return answers.document(self._proxies.update_toxic(_name(request), request.path_params["toxic"], given))

    async def remove_toxic(self, request: Request) -> Response:
        """DELETE /proxies/{proxy}/toxics/{toxic}"""
        self._proxies.remove_toxic(_name(request), request.path_params["toxic"])
        return answers.nothing()

    async def reset(self, _: Request) -> Response:
        """POST /reset"""
        await self._proxies.reset()
        return answers.nothing()

    async def metrics(self, _: Request) -> Response:
        """GET /metrics"""
        headers = {"Content-Type": "text/plain; version=0.0.4; charset=utf-8"}
        return Response(self._metrics.text(), headers=headers)

    def _deprecated(self, request: Request) -> None:
        if request.method == "POST":
            self.journal.add("warn", f"HTTP method POST is deprecated for {request.url.path}. Use HTTP PATCH instead.")


def _name(request: Request) -> str:
    return str(request.path_params["proxy"])


async def _body(request: Request) -> Any:
    """Its JSON. Raises `Refusal`."""
    return body.decoded(await request.body())


def _documents(done: list[Kept]) -> list[dict[str, Any]] | None:
    return [kept.document() for kept in done] or None
