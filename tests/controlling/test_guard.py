"""Who is let in: no web page, whatever its name resolves to, nobody without the token, and nobody from elsewhere unasked."""

from __future__ import annotations

import base64
import socket
from collections.abc import Iterator

import pytest

from tests.controlling import served
from tests.controlling.served import Api, connect

PROXY = {"name": "x", "listen": "localhost:0", "upstream": "u:1"}


@pytest.mark.parametrize(
    "host", ["evil.example", "evil.example:8474", "localhost.evil.example", "evil.example@localhost", ""]
)
@pytest.mark.parametrize("agent", ["curl/8", "Mozilla/5.0"])
def test_a_name_that_is_not_ours_is_refused(api: Api, host: str, agent: str) -> None:
    answer = api.ask("POST", "/proxies", PROXY, Host=host, User_Agent=agent)
    assert answer.status == 403
    assert answer.body.startswith(b"Host not allowed: ")
    assert b"--allow-host" in answer.body
    assert api.ask("GET", "/proxies").json == {}


@pytest.mark.parametrize(
    "host", ["localhost", "LOCALHOST:8474", "localhost.", "127.0.0.1:1", "[::1]:8474", "192.168.7.7"]
)
def test_addresses_and_localhost_are_ours(api: Api, host: str) -> None:
    assert api.ask("GET", "/version", Host=host).status == 200


@pytest.mark.parametrize("host", [b"Host: localhost\r\nHost: evil.example\r\n", b"Host: [::1\r\n", b"Host: a b\r\n"])
def test_a_broken_host_is_refused(api: Api, host: bytes) -> None:
    answer = api.raw(b"GET /version HTTP/1.1\r\n" + host + b"Connection: close\r\n\r\n")
    assert answer.split(b" ")[1] in (b"400", b"403")


@pytest.mark.parametrize("origin", ["http://evil.example", "null", "http://localhost:1", "https://127.0.0.1:{port}"])
def test_a_page_of_another_origin_is_refused(api: Api, origin: str) -> None:
    answer = api.ask("POST", "/proxies", PROXY, Origin=origin.format(port=api.port), Content_Type="text/plain")
    assert answer.status == 403
    assert answer.body.startswith(b"Origin not allowed: ")
    assert not [name for name in answer.headers if name.startswith("access-control")]
    assert api.ask("GET", "/proxies").json == {}


@pytest.mark.parametrize(
    ("site", "status"), [("cross-site", 403), ("same-site", 403), ("same-origin", 200), ("none", 200)]
)
def test_what_a_browser_says_of_where_it_comes_from(api: Api, site: str, status: int) -> None:
    assert api.ask("GET", "/version", Sec_Fetch_Site=site).status == status


def test_browsers_are_refused_by_their_name_too(api: Api) -> None:
    answer = api.ask("GET", "/proxies", User_Agent="Mozilla/5.0 (X11)")
    assert (answer.status, answer.body) == (403, b"User agent not allowed\n")
    assert answer.headers["content-type"] == "text/plain; charset=utf-8"
    assert "x-toxiproxy-request-id" in answer.headers
    assert api.ask("GET", "/proxies", User_Agent="mozilla/5.0").status == 200
    assert api.ask("GET", "/", User_Agent="curl").status == 404  # the page is there where it was asked for


def test_a_proxy_listens_on_loopback_unless_asked_by_name(api: Api) -> None:
    for listen, wanted in (("", "127.0.0.1:"), (":0", "127.0.0.1:"), ("0.0.0.0:0", "0.0.0.0:"), ("[::]:0", "[::]:")):
        made = api.ask("POST", "/proxies", {**PROXY, "listen": listen}).json
        assert made["listen"].startswith(wanted)
        assert api.ask("DELETE", "/proxies/x").status == 204


def test_an_api_that_others_can_reach_is_asked_for_by_name() -> None:
    with served.api("-host", "0.0.0.0") as api:
        assert api.said("Others can reach the API")["level"] == "warn"
        assert api.ask("POST", "/proxies", {**PROXY, "listen": ":0"}).json["listen"].startswith("[::]:")
        assert api.ask("GET", "/version", Host="evil.example").status == 403


@pytest.mark.parametrize("upstream", ["8.8.8.8:53", "[2001:4860:4860::8888]:53"])
def test_a_service_far_away_is_not_reached(api: Api, upstream: str) -> None:
    with connect(api.ask("POST", "/proxies", {**PROXY, "upstream": upstream}).json["listen"]) as client:
        assert client.recv(1) == b""
    assert (
        "outside the own network" in api.said("upstream down")["message"]
        or "EACCES" in api.said("upstream down")["message"]
    )


def test_a_token_is_asked_of_everybody() -> None:
    def basic(text: str) -> str:
        return "Basic " + base64.b64encode(text.encode()).decode()

    with served.api("-token", "s3cret", "-proxy-metrics") as api:
        for path in ("/version", "/proxies", "/metrics", "/nix"):
            answer = api.ask("GET", path)
            assert answer.status == answer.json["status"] == 401
            assert answer.headers["www-authenticate"].startswith("Basic ")
        wrong = ("Bearer wrong", "Bearer", "s3cret", basic("s3cret:"), basic("any:wrong"), "Basic ?", "Bearer s3cret2")
        assert [api.ask("GET", "/version", Authorization=one).status for one in wrong] == [401] * len(wrong)
        right = ("Bearer s3cret", "bearer s3cret", basic("any:s3cret"), basic(":s3cret"))
        assert [api.ask("GET", "/version", Authorization=one).status for one in right] == [200] * len(right)
        assert api.ask("GET", "/version", Authorization=right[0], Host="evil.example").status == 403


@pytest.fixture(scope="module")
def beyond() -> Iterator[Api]:
    """A server that others may reach."""
    with served.api("-beyond-loopback", "-allow-host", "toxiproxy", FAULTKIT_TOKEN="s3cret") as api:
        yield api


def test_beyond_loopback_where_that_was_asked_for(beyond: Api) -> None:
    key = {"Authorization": "Bearer s3cret"}
    assert beyond.ask("GET", "/version").status == 401
    assert beyond.ask("GET", "/version", Host="toxiproxy:8474", **key).status == 200
    assert beyond.ask("GET", "/version", Host="other:8474", **key).status == 403
    made = beyond.ask("POST", "/proxies", {**PROXY, "listen": ":0"}, **key).json
    assert made["listen"].startswith("[::]:")
    port = int(made["listen"].rpartition(":")[2])
    for host in ("127.0.0.1", "::1"):  # both families
        with socket.create_connection((host, port)):
            pass
    same = beyond.ask("PATCH", "/proxies/x", {"listen": f":{port}"}, **key).json
    assert same == made
    bad = beyond.ask("POST", "/proxies", {**PROXY, "name": "y", "listen": "192.0.2.1:0"}, **key)
    assert bad.json["error"] == "listen tcp 192.0.2.1:0: bind: cannot assign requested address"
