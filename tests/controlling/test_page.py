"""The page in a real browser: what it shows, what its switches do to a client, small and wide, by keyboard."""

from __future__ import annotations

import base64
import contextlib
import json
import os
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import trio

from faultkit.clients import chromium
from tests.controlling import served
from tests.controlling.served import Api, connect, echo

PATIENCE = 20.0  # seconds; never waited for where all is well


class Shown:
    """The page, as somebody sees it who uses it."""

    def __init__(self, page: chromium.Page) -> None:
        self._page = page

    async def js(self, expression: str) -> Any:
        """The value of an expression in the page."""
        told = await self._page.call("Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in told, told["exceptionDetails"]
        return told["result"].get("value")

    async def until(self, condition: str) -> None:
        """Wait until it is so."""
        # The page tells by its mutations; a check after each is no polling.
        script = f"""new Promise(done => {{
            const look = () => {{ if ({condition}) {{ watch.disconnect(); done(true); }} }};
            const watch = new MutationObserver(look);
            watch.observe(document, {{subtree: true, childList: true, attributes: true, characterData: true}});
            look();
        }})"""
        with trio.move_on_after(PATIENCE) as scope:
            assert await self.js(script)
        assert not scope.cancelled_caught, (condition, await self.js("document.body.innerText"))

    async def click(self, selector: str) -> None:
        """Click it."""
        await self.until(f"document.querySelector({json.dumps(selector)})")
        await self.js(f"document.querySelector({json.dumps(selector)}).click()")

    async def press(self, key: str, code: int = 0, text: str = "") -> None:
        """A key."""
        for kind in ("keyDown", "keyUp"):
            await self._page.call(
                "Input.dispatchKeyEvent",
                type=kind,
                key=key,
                code=key,
                windowsVirtualKeyCode=code,
                **({"text": text} if kind == "keyDown" and text else {}),
            )

    async def width(self, pixels: int) -> None:
        """The size of its window."""
        await self._page.call(
            "Emulation.setDeviceMetricsOverride", width=pixels, height=900, deviceScaleFactor=1, mobile=pixels < 500
        )

    async def picture(self, name: str) -> None:
        """Keep what is seen, where somebody wants to look at it."""
        if folder := os.environ.get("FAULTKIT_PICTURES"):
            told = await self._page.call("Page.captureScreenshot", format="png", captureBeyondViewport=True)
            (Path(folder) / f"{name}.png").write_bytes(base64.b64decode(told["data"]))


@contextlib.asynccontextmanager
async def opened(url: str, browser: chromium.Browser) -> AsyncIterator[Shown]:
    async with browser.page() as page:
        shown = Shown(page)
        await page.call("Page.enable")
        await page.call("Page.navigate", url=url)
        await shown.until("document.querySelector('#link')?.textContent === 'live'")
        yield shown


def round_trip(client: Any) -> float:
    began = time.monotonic()
    client.sendall(b"x" * 100)
    left = 100
    while left:
        left -= len(client.recv(left))
    return time.monotonic() - began


async def in_time(client: Any, least: float, most: float) -> None:
    """A round trip takes so long, from now on at the latest when the page's request is done."""
    with trio.fail_after(PATIENCE):
        while not least <= await trio.to_thread.run_sync(round_trip, client) < most:
            pass


async def a_switch_changes_the_latency_of_a_client(browser: chromium.Browser) -> None:
    with echo() as upstream, served.api("-ui") as api:
        toxic = {"type": "latency", "attributes": {"latency": 200}, "toxicity": 0}
        body = {"name": "redis", "listen": "localhost:0", "upstream": upstream, "toxics": [toxic]}
        listen = api.ask("POST", "/proxies", body).json["listen"]
        with connect(listen) as client:
            assert round_trip(client) < 0.1
            async with opened(f"http://127.0.0.1:{api.port}/", browser) as page:
                await page.width(1280)
                switch = ".toxics input[aria-label='latency_downstream of redis']"
                await page.click(switch)
                await in_time(client, 0.2, 0.4)
                assert api.ask("GET", "/proxies/redis").json["toxics"][0]["toxicity"] == 1
                await page.until("/100 B|200 B|300 B/.test(document.querySelector('tbody').innerText)")
                await page.until("document.querySelector('.toxics .on').checked")
                # The field follows the switch, so that Set does not switch it off again.
                await page.until("document.querySelector(\".toxics input[name='toxicity']\").value === '1'")
                await page.picture("wide")
                await page.width(375)
                assert await page.js("document.documentElement.scrollWidth") <= 375
                await page.picture("narrow")
                # The same by keyboard alone: the switch has the focus, and a space toggles it.
                await page.js(f"document.querySelector({json.dumps(switch)}).focus()")
                await page.press(" ", 32, " ")
                await in_time(client, 0, 0.1)
                # A field of it: typed, and set with Enter.
                await page.js("document.querySelector(\".toxics input[name='latency']\").select()")
                await page.js("document.querySelector(\".toxics input[name='latency']\").focus()")
                for digit in "300":
                    await page.press(digit, ord(digit), digit)
                await page.press("Enter", 13, "\r")
                await page.js(f"document.querySelector({json.dumps(switch)}).focus()")
                await page.press(" ", 32, " ")
                await in_time(client, 0.3, 0.5)
                await page.click(".toxics .remove")
                await in_time(client, 0, 0.1)
                await page.until("document.querySelector('.toxics').children.length === 0")


async def proxies_faults_and_who_reset(browser: chromium.Browser) -> None:
    with echo() as upstream, served.api("-ui") as api:
        async with opened(f"http://localhost:{api.port}/", browser) as page:
            await page.until("!document.querySelector('#none').hidden")
            await page.js(
                f"""(() => {{
                    const form = document.querySelector('#new form');
                    form.elements.name.value = 'a <b>&';
                    form.elements.upstream.value = {json.dumps(upstream)};
                    form.requestSubmit();
                }})()"""
            )
            await page.until("document.querySelector('.proxy h2')?.textContent === 'a <b>&'")
            listen = api.ask("GET", "/proxies").json["a <b>&"]["listen"]
            await page.until(f"document.querySelector('.way').textContent.startsWith({json.dumps(listen)})")
            await page.js(
                """(() => {
                    const form = document.querySelector('.add');
                    form.elements.type.value = 'linger';
                    form.elements.type.dispatchEvent(new Event('change'));
                    form.elements.moment.value = 'at_fire';
                    form.elements.moment.dispatchEvent(new Event('change'));
                    form.requestSubmit();
                })()"""
            )
            await page.until("document.querySelector('.toxics .name')?.textContent === 'linger_downstream'")
            with connect(listen) as client, connect(listen) as other:
                for one in (client, other):
                    assert round_trip(one) < 0.2
                await page.until("document.querySelectorAll('tbody tr').length === 2")
                assert await page.js(
                    "[...document.querySelectorAll('tbody td:nth-child(3)')].map(c => c.innerText)"
                ) == [
                    "open",
                    "open",
                ]
                await page.click("button[aria-label='Cut connection 2 of a <b>&']")
                assert await trio.to_thread.run_sync(ended, other) == "reset"
                await page.until("document.querySelector('#resets').innerText.includes('#2: faultkit: cut')")
                await page.click("button[aria-label='Fire a <b>&']")
                assert await trio.to_thread.run_sync(ended, client) == "reset"
                await page.until("document.querySelector('#resets').innerText.includes('#1: faultkit: linger')")
            for pixels in (320, 375, 640, 768, 1024, 1280):
                await page.width(pixels)
                assert await page.js("document.documentElement.scrollWidth") <= pixels
            await page.picture("resets")
            await page.click("button[aria-label='Heal a <b>&']")
            await page.until("document.querySelector('.toxics').children.length === 0")
            await page.click(".enabled")
            await page.until("!document.querySelector('.enabled').checked")
            assert api.ask("GET", "/proxies").json["a <b>&"]["enabled"] is False
            await page.click("button[aria-label='Fire a <b>&']")
            await page.until("document.querySelector('#message').textContent.includes('nothing to set in')")
            await page.click("#reset")
            await page.until("document.querySelector('.enabled').checked")
            await page.click("button[aria-label='Delete a <b>&']")
            await page.until("!document.querySelector('.proxy')")
            assert api.end() == 0
            await page.until("document.querySelector('#link').classList.contains('lost')")


def ended(client: Any) -> str:
    try:
        return "said something" if client.recv(1) else "FIN"
    except ConnectionResetError:
        return "reset"


async def everything_can_be_reached_by_tab(browser: chromium.Browser) -> None:
    with served.api("-ui") as api:
        body = {"name": "x", "listen": "localhost:0", "upstream": "u:1", "toxics": [{"type": "slicer"}]}
        api.ask("POST", "/proxies", body)
        async with opened(f"http://127.0.0.1:{api.port}/", browser) as page:
            await page.until("document.querySelector('.toxics .remove')")
            controls = "document.querySelectorAll('main .proxy :is(button,input,select)')"
            wanted = set(await page.js(f"[...{controls}].map(e => e.ariaLabel || e.name || e.innerText)"))
            met = set()
            for _ in range(len(wanted) + 12):
                await page.press("Tab", 9)
                met.add(await page.js("(e => e.ariaLabel || e.name || e.innerText)(document.activeElement)"))
            assert wanted <= met
            assert await page.js(
                "[...document.querySelectorAll(':is(input,select)')].every(e => e.labels.length || e.ariaLabel)"
            )


async def with_a_token_the_browser_has_it_as_a_password(browser: chromium.Browser) -> None:
    with served.api("-ui", "-token", "s3cret") as api:
        assert api.ask("GET", "/").status == 401
        api.ask("POST", "/proxies", {"name": "x", "upstream": "u:1"}, Authorization="Bearer s3cret")
        async with opened(f"http://any:s3cret@127.0.0.1:{api.port}/", browser) as page:
            await page.until("document.querySelector('.proxy h2')?.textContent === 'x'")
            await page.click("button[aria-label='Delete x']")
            await page.until("!document.querySelector('.proxy')")


async def test_in_a_browser(tmp_path: Path) -> None:
    async with chromium.started(tmp_path) as browser:
        await a_switch_changes_the_latency_of_a_client(browser)
        await proxies_faults_and_who_reset(browser)
        await everything_can_be_reached_by_tab(browser)
        await with_a_token_the_browser_has_it_as_a_password(browser)


def test_the_page_is_there_where_it_was_asked_for() -> None:
    with served.api("-ui") as api:
        page = api.ask("GET", "/", User_Agent="Mozilla/5.0")
        assert page.status == 200
        assert "frame-ancestors 'none'" in page.headers["content-security-policy"]
        assert b"http://" not in page.body
        assert api.ask("POST", "/").status == api.ask("GET", "/ui/proxies/x/cut").status == 405
        assert api.ask("POST", "/ui/proxies/x/cut").status == 403
        assert _acted(api, "/ui/proxies/x/cut") == 404
        api.ask("POST", "/proxies", {"name": "x", "upstream": "u:1"})
        assert [_acted(api, f"/ui/proxies/x/{what}") for what in ("cut", "heal", "nothing")] == [204, 204, 404]
        # A browser without the page's word is refused as ever.
        assert api.ask("GET", "/proxies", User_Agent="Mozilla/5.0").status == 403
        assert api.ask("GET", "/proxies", User_Agent="Mozilla/5.0", X_Faultkit_Page="1").status == 200


def _acted(api: Api, path: str) -> int:
    return api.ask("POST", path, X_Faultkit_Page="1").status
