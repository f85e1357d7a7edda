"""The contract of toxiproxy's API: paths, statuses, texts, fields."""

from __future__ import annotations

import contextlib
import re
import socket
from typing import Any

import pytest

from tests.controlling.served import Api, connect, echo, free_port, silent

PROXY = {"name": "redis", "listen": "localhost:0", "upstream": "localhost:1"}


def refused(status: int, text: str) -> tuple[int, Any]:
    return status, {"error": text, "status": status}


def told(api: Api, method: str, path: str, body: Any = None) -> tuple[int, Any]:
    answer = api.ask(method, path, body)
    return answer.status, answer.json if answer.body else None


def test_version_byte_by_byte(api: Api) -> None:
    answer = api.ask("GET", "/version")
    assert answer.status == 200
    assert re.fullmatch(rb'\{"version": "2\.\d+\.\d+"\}\n', answer.body)
    assert answer.headers["content-type"] == "application/json;charset=utf-8"
    assert re.fullmatch("[0-9a-v]{20}", answer.headers["x-toxiproxy-request-id"])


def test_a_proxy_comes_and_goes(api: Api) -> None:
    assert told(api, "GET", "/proxies") == (200, {})
    status, made = told(api, "POST", "/proxies", PROXY)
    assert status == 201
    assert re.fullmatch(r"127\.0\.0\.1:\d+", made["listen"])
    assert made == {**PROXY, "listen": made["listen"], "enabled": True, "toxics": []}
    assert list(made) == ["name", "listen", "upstream", "enabled", "toxics"]
    assert told(api, "GET", "/proxies") == (200, {"redis": made})
    assert told(api, "GET", "/proxies/redis") == (200, made)
    gone = api.ask("DELETE", "/proxies/redis")
    assert (gone.status, gone.body) == (204, b"")
    assert told(api, "GET", "/proxies/redis") == refused(404, "proxy not found")
    assert told(api, "DELETE", "/proxies/redis") == refused(404, "proxy not found")


def test_errors_are_json_that_is_called_text(api: Api) -> None:
    answer = api.ask("GET", "/proxies/none")
    assert answer.body == b'{"error":"proxy not found","status":404}\n'
    assert answer.headers["content-type"] == "text/plain; charset=utf-8"
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert "x-toxiproxy-request-id" in answer.headers


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/"),
        ("GET", "/toxics"),
        ("GET", "/proxies/"),
        ("GET", "/version/"),
        ("GET", "/proxies/a%2Fb/toxics/c/d"),
    ],
)
def test_an_unknown_path(api: Api, method: str, path: str) -> None:
    answer = api.ask(method, path)
    assert (answer.status, answer.body) == (404, b"404 page not found\n")
    assert answer.headers["content-type"] == "text/plain; charset=utf-8"
    assert "x-toxiproxy-request-id" not in answer.headers


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("DELETE", "/proxies"),
        ("HEAD", "/proxies"),
        ("HEAD", "/version"),
        ("OPTIONS", "/proxies"),
        ("GET", "/reset"),
        ("PUT", "/proxies/x"),
        ("DELETE", "/proxies/x/toxics"),
    ],
)
def test_a_method_that_a_path_has_not(api: Api, method: str, path: str) -> None:
    answer = api.ask(method, path)
    assert (answer.status, answer.body) == (405, b"")
    assert "x-toxiproxy-request-id" not in answer.headers
    assert not [name for name in answer.headers if name.startswith("access-control")]


@pytest.mark.parametrize(
    ("body", "status", "text"),
    [
        (b"", 400, "bad request body: EOF"),
        (b" \n", 400, "bad request body: EOF"),
        (b"{", 400, "bad request body: unexpected EOF"),
        (b'{"name": "a', 400, "bad request body: unexpected EOF"),
        (b'{"name": tru', 400, "bad request body: unexpected EOF"),
        (b"hello", 400, "bad request body: invalid character 'h' looking for beginning of value"),
        (b"nope", 400, "bad request body: invalid character 'o' in literal null (expecting 'u')"),
        (b"{name: 1}", 400, "bad request body: invalid character 'n' looking for beginning of object key string"),
        (b'{"a" 1}', 400, "bad request body: invalid character '1' after object key"),
        (b'{"a": NaN}', 400, "bad request body: invalid character 'N' looking for beginning of value"),
        (b'{"name": 5}', 400, "json: cannot unmarshal number into Go struct field Proxy.name of type string"),
        (b'{"enabled": "yes"}', 400, "json: cannot unmarshal string into Go struct field Proxy.enabled of type bool"),
        (b"[]", 400, "json: cannot unmarshal array into Go value of type toxiproxy.Proxy"),
        (b"[" * 100_000, 400, "bad request body: exceeded max depth"),
        (b'{"name": ' + b"9" * 10_000, 400, "bad request body: json: cannot unmarshal"),
        (b"null", 400, "missing required field: name"),
        (b"{}", 400, "missing required field: name"),
        (b'{"name": ""}', 400, "missing required field: name"),
        (b'{"name": "x"}', 400, "missing required field: upstream"),
        (b'{"name": "x", "upstream": "u", "listen": "X"}', 500, "listen tcp: address X: missing port in address"),
        (
            b'{"name": "x", "upstream": "u", "listen": "a:b:c"}',
            500,
            "listen tcp: address a:b:c: too many colons in address",
        ),
        (
            b'{"name": "x", "upstream": "u", "listen": "[::1:1"}',
            500,
            "listen tcp: address [::1:1: missing ']' in address",
        ),
        (
            b'{"name": "x", "upstream": "u", "listen": "localhost:99999"}',
            500,
            "listen tcp: address 99999: invalid port",
        ),
        (b'{"name": "x", "upstream": "u", "listen": "localhost:no-port"}', 500, "lookup tcp/no-port: unknown port"),
        (b'{"name": "x", "upstream": "u", "listen": "no.invalid:0"}', 500, "lookup no.invalid: no such host"),
        (b'{"name": "x", "upstream": "u", "toxics": 5}', 400, "Proxy.toxics"),
        (b'{"name": "x", "upstream": "u", "toxics": [{"type": "no"}]}', 400, "invalid toxic type"),
    ],
)
def test_a_proxy_that_cannot_be(api: Api, body: bytes, status: int, text: str) -> None:
    answer = api.ask("POST", "/proxies", body)
    assert answer.status == answer.json["status"] == status
    assert text in answer.json["error"]
    assert text.startswith(("json", "lookup", "Proxy")) or answer.json["error"].startswith(text)
    assert api.ask("GET", "/proxies").json == {}


def test_names_of_fields_have_no_case_and_what_follows_the_body_does_not_matter(api: Api) -> None:
    body = b' {"NAME": "x", "uPstream": "u:1", "Listen": "127.0.0.1:0", "enabled": null, "extra": {}} rubbish'
    status, made = told(api, "POST", "/proxies", body)
    assert (status, made["name"], made["upstream"], made["enabled"]) == (201, "x", "u:1", True)


def test_an_address_that_is_taken(api: Api) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        answer = told(api, "POST", "/proxies", {**PROXY, "listen": f"localhost:{port}"})
    assert answer == refused(500, f"listen tcp 127.0.0.1:{port}: bind: address already in use")
    assert told(api, "GET", "/proxies") == (200, {})


def test_a_name_that_is_taken(api: Api) -> None:
    api.ask("POST", "/proxies", PROXY)
    assert told(api, "POST", "/proxies", PROXY) == refused(409, "proxy already exists")


def test_without_a_listen_it_is_a_free_port(api: Api) -> None:
    status, made = told(api, "POST", "/proxies", {"name": "x", "upstream": "u:1"})
    assert status == 201
    with connect(made["listen"]):
        pass


def test_disabled_it_stays_as_written_until_it_listens(api: Api) -> None:
    port = free_port()
    _, made = told(api, "POST", "/proxies", {**PROXY, "listen": f"localhost:{port}", "enabled": False})
    assert (made["listen"], made["enabled"]) == (f"localhost:{port}", False)
    _, enabled = told(api, "PATCH", "/proxies/redis", {"enabled": True})
    assert (enabled["listen"], enabled["enabled"]) == (f"127.0.0.1:{port}", True)
    _, disabled = told(api, "POST", "/proxies/redis", {"enabled": False})
    assert (disabled["listen"], disabled["enabled"]) == (f"127.0.0.1:{port}", False)
    with pytest.raises(ConnectionRefusedError):
        connect(disabled["listen"])


def test_another_name_of_the_same_address_drops_no_connection(api: Api) -> None:
    with echo() as upstream:
        _, made = told(api, "POST", "/proxies", {**PROXY, "upstream": upstream})
        with connect(made["listen"]) as client:
            client.sendall(b"1")
            assert client.recv(1) == b"1"
            same = made["listen"].replace("127.0.0.1", "localhost")
            assert told(api, "PATCH", "/proxies/redis", {"listen": same, "name": "other"}) == (200, made)
            client.sendall(b"2")
            assert client.recv(1) == b"2"
            assert told(api, "PATCH", "/proxies/redis", {"upstream": "localhost:1"})[1]["upstream"] == "localhost:1"
            assert client.recv(1) == b""


def test_a_change_is_made_whole_or_not_at_all(api: Api) -> None:
    with echo() as upstream, socket.create_server(("127.0.0.1", 0)) as taken:
        _, made = told(api, "POST", "/proxies", {**PROXY, "upstream": upstream, "toxics": [{"type": "noop"}]})
        with connect(made["listen"]) as client:
            client.sendall(b"1")
            assert client.recv(1) == b"1"
            for body, status in (
                ({"listen": f"127.0.0.1:{taken.getsockname()[1]}", "upstream": "x"}, 500),
                ({"listen": "nonsense", "upstream": "x"}, 500),
                ({"upstream": "x", "enabled": "no"}, 400),
                ({"upstream": "x", "toxics": [{"type": "bandwidth", "attributes": {"rate": -1}}]}, 400),
            ):
                assert told(api, "PATCH", "/proxies/redis", body)[0] == status
                assert told(api, "GET", "/proxies/redis") == (200, made)
            client.sendall(b"2")
            assert client.recv(1) == b"2"


def test_any_upstream_is_taken_and_a_client_meets_an_end(api: Api) -> None:
    for upstream in ("upstream", "127.0.0.1", "no.invalid:1", "127.0.0.1:99999", "localhost:1"):
        _, made = told(api, "POST", "/proxies", {**PROXY, "upstream": upstream})
        assert made["upstream"] == upstream
        with connect(made["listen"]) as client:
            assert client.recv(1) == b""
        api.ask("DELETE", "/proxies/redis")


def test_toxics_with_the_proxy_are_there_for_its_first_connection(api: Api) -> None:
    toxics = [{"type": "limit_data", "attributes": {"bytes": 3}}, {"type": "noop", "stream": "upstream"}]
    with echo() as upstream:
        _, made = told(api, "POST", "/proxies", {**PROXY, "upstream": upstream, "toxics": toxics})
        assert [one["name"] for one in made["toxics"]] == ["noop_upstream", "limit_data_downstream"]
        with connect(made["listen"]) as client:
            client.sendall(b"12345")
            assert b"".join(iter(lambda: client.recv(9), b"")) == b"123"


def test_populate(api: Api) -> None:
    two = [{"name": name, "listen": "localhost:0", "upstream": "localhost:1"} for name in ("b", "a")]
    status, answer = told(api, "POST", "/populate", two)
    assert status == 201
    assert [one["name"] for one in answer["proxies"]] == ["b", "a"]
    assert told(api, "POST", "/populate", []) == (201, {"proxies": None})
    first = answer["proxies"][0]
    api.ask("POST", "/proxies/b/toxics", {"type": "noop"})
    status, again = told(api, "POST", "/populate", [{**two[0], "listen": first["listen"]}])
    assert (status, again["proxies"][0]["listen"], len(again["proxies"][0]["toxics"])) == (201, first["listen"], 1)
    status, off = told(api, "POST", "/populate", [{**two[0], "listen": first["listen"], "enabled": False}])
    assert (status, off["proxies"][0]["enabled"], len(off["proxies"][0]["toxics"])) == (201, False, 1)
    status, other = told(api, "POST", "/populate", [{**two[0], "upstream": "localhost:2"}])
    assert (status, other["proxies"][0]["enabled"], other["proxies"][0]["toxics"]) == (201, True, [])


def test_populate_that_fails(api: Api) -> None:
    fine = {"name": "one", "listen": "localhost:0", "upstream": "localhost:1"}
    answer = api.ask("POST", "/populate", [fine, {"name": "", "upstream": "u"}])
    assert answer.headers["content-type"] == "application/json"
    text = "missing required field: name at proxy 2"
    assert answer.json == {"error": text, "status": 400, "proxies": None}
    text = "missing required field: upstream at proxy 2"
    assert told(api, "POST", "/populate", [fine, {"name": "two"}])[1]["error"] == text
    assert api.ask("GET", "/proxies").json == {}
    status, answer_two = told(api, "POST", "/populate", [fine, {**fine, "name": "two", "listen": "local373"}, fine])
    assert (status, answer_two["status"]) == (500, 500)
    assert answer_two["error"] == "listen tcp: address local373: missing port in address"
    assert [one["name"] for one in answer_two["proxies"]] == ["one"]
    assert list(api.ask("GET", "/proxies").json) == ["one"]
    assert told(api, "POST", "/populate", b"")[1]["error"] == "bad request body: EOF"


def test_reset(api: Api) -> None:
    api.ask("POST", "/proxies", {**PROXY, "enabled": False})
    api.ask("POST", "/proxies/redis/toxics", {"type": "noop"})
    assert api.ask("POST", "/reset").status == 204
    after = api.ask("GET", "/proxies/redis").json
    assert (after["enabled"], after["toxics"]) == (True, [])


def test_reset_is_made_whole_or_not_at_all(api: Api) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        api.ask("POST", "/proxies", {**PROXY, "name": "a", "enabled": False, "toxics": [{"type": "noop"}]})
        api.ask("POST", "/proxies", {**PROXY, "name": "b", "enabled": False, "listen": f"127.0.0.1:{port}"})
        before = api.ask("GET", "/proxies").json
        error = f"listen tcp 127.0.0.1:{port}: bind: address already in use"
        assert told(api, "POST", "/reset") == refused(500, error)
        assert api.ask("GET", "/proxies").json == before


def test_metrics_are_live_and_their_labels_in_order(api: Api) -> None:
    with echo() as upstream:
        _, made = told(api, "POST", "/proxies", {**PROXY, "upstream": upstream})
        with connect(made["listen"]) as client:
            client.sendall(b"x" * 5)
            assert len(client.recv(9)) == 5
            text = api.ask("GET", "/metrics").body.decode()
            for which in ("received", "sent"):
                for direction in ("upstream", "downstream"):
                    labels = f'direction="{direction}",listener="{made["listen"]}",proxy="redis",upstream="{upstream}"'
                    assert f"\ntoxiproxy_proxy_{which}_bytes_total{{{labels}}} 5\n" in text
        assert api.ask("POST", "/metrics").headers["content-type"] == "text/plain; version=0.0.4; charset=utf-8"


def test_closing_and_deleting_end_connections_with_fin(api: Api) -> None:
    with echo() as upstream, contextlib.ExitStack() as stack:
        _, made = told(api, "POST", "/proxies", {**PROXY, "upstream": upstream})
        client = stack.enter_context(connect(made["listen"]))
        client.sendall(b"1")
        assert client.recv(1) == b"1"
        assert silent(client)
        api.ask("DELETE", "/proxies/redis")
        assert client.recv(1) == b""


def test_a_connection_outlives_a_body_that_nobody_wanted(api: Api) -> None:
    with socket.create_connection(("127.0.0.1", api.port)) as sock:
        for line in (b"DELETE /proxies/none", b"GET /nix", b"PUT /version", b"POST /proxies/none/toxics"):
            sock.sendall(line + b" HTTP/1.1\r\nHost: localhost\r\nContent-Length: 5\r\n\r\n")
            assert silent(sock)
            sock.sendall(b"12345")
            answer = b""
            while b"\r\n\r\n" not in answer:
                answer += sock.recv(65536)
            head, _, rest = answer.partition(b"\r\n\r\n")
            length = int(head.lower().partition(b"content-length: ")[2].split(b"\r")[0])
            while len(rest) < length:
                rest += sock.recv(65536)
            assert head.split(b" ")[1] in (b"404", b"405")
            assert b"connection: close" not in head.lower()
