"""Chromium, headless: one browser for all calls, each in a profile of its own, over the pipe of its DevTools protocol.

`--remote-debugging-pipe`: messages in JSON, each ended by a NUL, on descriptors 3 (to it) and 4 (from it). It ends when the
pipe is closed, so none is left behind whatever becomes of us.
"""

from __future__ import annotations

import contextlib
import functools
import json
import math
import os
import shutil
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import trio

from faultkit.clients.program import Ask, Call, Said, environment
from faultkit.errors import Unable, starting

FLAGS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--disable-dev-shm-usage",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-default-apps",
    "--disable-extensions",
    "--disable-sync",
    "--no-default-browser-check",
    "--no-first-run",
    "--no-proxy-server",
)

FILLING = 3.0  # seconds; arbitrary

# Gives it the descriptors by the numbers that it wants, and becomes it. Between fork and exec of a process with threads
# that could not be done.
_RENUMBER = """
import fcntl, os, sys
to, out = (fcntl.fcntl(int(number), fcntl.F_DUPFD_CLOEXEC, 10) for number in sys.argv[1:3])
os.dup2(to, 3), os.dup2(out, 4)
os.execv(sys.argv[3], sys.argv[3:])
"""

_FORM = """
const form = document.createElement('form'), text = document.createElement('input');
[form.method, form.enctype, form.action] = ['post', 'text/plain', %s];
[text.type, text.name, text.value] = ['hidden', 'x', 'x'.repeat(%d)];
form.append(text);
document.body.append(form);
form.submit();
"""


class Browser:
    """Commands to it, and the events of each page."""

    def __init__(self, to: int, out: int) -> None:
        self._to, self._out = to, trio.lowlevel.FdStream(out)
        self._number = 0
        self._answers: dict[int, trio.MemorySendChannel[dict[str, Any]]] = {}
        self.events: dict[str, trio.MemorySendChannel[dict[str, Any]]] = {}  # by session

    async def listen(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        task_status.started()
        held = b""
        async for part in self._out:
            *whole, held = (held + part).split(b"\0")
            for message in map(json.loads, whole):
                answered = self._answers.pop(message.get("id", 0), None)
                if channel := answered or self.events.get(message.get("sessionId", "")):
                    channel.send_nowait(message)
        raise Unable(
            "clients: Chromium has ended by itself: run `chromium --headless --no-sandbox about:blank` to see why"
        )

    async def call(self, method: str, session: str | None = None, **parameters: Any) -> dict[str, Any]:
        """Give a command and wait for its result."""
        self._number += 1
        here, answer = trio.open_memory_channel[dict[str, Any]](1)
        self._answers[self._number] = here
        message = {"id": self._number, "method": method, "params": parameters}
        os.write(self._to, json.dumps(message | ({"sessionId": session} if session else {})).encode() + b"\0")
        told = await answer.receive()
        if "error" in told:
            raise RuntimeError(f"Chromium refuses {method}: {told['error']['message']}")
        result: dict[str, Any] = told["result"]
        return result

    @contextlib.asynccontextmanager
    async def page(self) -> AsyncIterator[Page]:
        """A page in a profile of its own: no cookies, caches and connections but its own."""
        profile = (await self.call("Target.createBrowserContext"))["browserContextId"]
        target = (await self.call("Target.createTarget", url="about:blank", browserContextId=profile))["targetId"]
        session = (await self.call("Target.attachToTarget", targetId=target, flatten=True))["sessionId"]
        here, events = trio.open_memory_channel[dict[str, Any]](math.inf)
        self.events[session] = here
        await self.call("Network.enable", session)
        yield Page(self, session, events)
        del self.events[session]
        await self.call("Target.disposeBrowserContext", browserContextId=profile)


class Page:
    """A page that is open."""

    def __init__(self, browser: Browser, session: str, events: trio.MemoryReceiveChannel[dict[str, Any]]) -> None:
        self._browser, self._session, self._events = browser, session, events

    async def call(self, method: str, **parameters: Any) -> dict[str, Any]:
        """Give a command about the page and wait for its result."""
        return await self._browser.call(method, self._session, **parameters)

    async def load(self, url: str, upload: int) -> str | None:
        """Load it as a person does who types it; None, or the error that its page names."""
        command = functools.partial(self._browser.call, "Page.navigate", self._session, url=url)
        if upload:
            form = _FORM % (json.dumps(url), upload)
            command = functools.partial(self._browser.call, "Runtime.evaluate", self._session, expression=form)
        async with trio.open_nursery() as nursery:
            # Its answer comes with the page's first byte or not at all; the events tell all of it.
            nursery.start_soon(command)
            error = await self._told(url)
            nursery.cancel_scope.cancel()
        return error

    async def _told(self, url: str) -> str | None:
        request = ""
        async for event in self._events:
            told = event.get("params", {})
            if event.get("method") == "Network.requestWillBeSent" and told["request"]["url"] == url:
                request = told["requestId"]
            elif told.get("requestId") == request and event.get("method") == "Network.loadingFailed":
                return str(told["errorText"])
            elif told.get("requestId") == request and event.get("method") == "Network.loadingFinished":
                return None
        raise AssertionError("the events of a page do not end")


@contextlib.asynccontextmanager
async def started(directory: Path) -> AsyncIterator[Browser]:
    """Start it, and end it."""
    theirs_in, to = os.pipe()
    out, theirs_out = os.pipe()
    path = shutil.which("chromium")
    assert path
    flags = [*FLAGS, "--remote-debugging-pipe", f"--user-data-dir={directory / 'profile'}"]
    with starting():
        process = await trio.lowlevel.open_process(
            [sys.executable, "-c", _RENUMBER, str(theirs_in), str(theirs_out), path, *flags],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            pass_fds=[theirs_in, theirs_out],
            cwd=directory,
            env=environment(directory) | {"TMPDIR": "."},  # a long path is too long for its socket's address (unix(7))
        )
    os.close(theirs_in)
    os.close(theirs_out)
    browser = Browser(to, out)
    try:
        async with trio.open_nursery() as nursery:
            await nursery.start(browser.listen)
            yield browser
            nursery.cancel_scope.cancel()
    finally:
        os.close(to)  # it ends
        with trio.CancelScope(shield=True):
            await process.wait()


@contextlib.asynccontextmanager
async def opened(directory: Path) -> AsyncIterator[Ask]:
    """Start it, and end it."""
    async with started(directory) as browser:

        async def ask(call: Call) -> Said:
            # It has no limit that could be set, so it is left alone when it has had its time. A form takes some.
            async with browser.page() as page:
                with trio.move_on_after(call.limit_seconds + (FILLING if call.upload else 0)):
                    for url in call.urls:
                        last = url is call.urls[-1]
                        if error := await page.load(url, call.upload if last else 0):
                            return Said((error,), None)
                    return Said((), 0)
            return Said((), None)

        yield ask
