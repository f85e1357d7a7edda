"""Toxics over the API: how they are made, changed and removed, and the faults of `faultkit serve` among them."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

import pytest

from faultkit.controlling.page.state import types
from faultkit.proxying import toxics
from faultkit.serving import faults
from tests.controlling.served import Api, connect, echo
from tests.controlling.test_contract import refused, told

TOXICS = "/proxies/redis/toxics"


@pytest.fixture(autouse=True)
def listen(api: Api) -> Iterator[str]:
    """A proxy called redis in front of an echo."""
    with echo() as upstream:
        made = api.ask("POST", "/proxies", {"name": "redis", "listen": "localhost:0", "upstream": upstream}).json
        yield made["listen"]


def test_defaults(api: Api) -> None:
    wanted = {
        "attributes": {"latency": 0, "jitter": 0},
        "name": "latency_downstream",
        "type": "latency",
        "stream": "downstream",
        "toxicity": 1,
    }
    status, made = told(api, "POST", TOXICS, {"type": "latency"})
    assert (status, made) == (200, wanted)
    assert list(made) == list(wanted)
    assert told(api, "GET", f"{TOXICS}/latency_downstream") == (200, wanted)
    assert api.ask("DELETE", f"{TOXICS}/latency_downstream").status == 204
    assert told(api, "GET", TOXICS) == (200, [])


@pytest.mark.parametrize(
    ("type", "attributes"),
    [(type, list(attributes)) for type, (_, attributes) in toxics.TYPES.items()],
)
def test_each_type_has_its_attributes(api: Api, type: str, attributes: list[str]) -> None:
    status, made = told(api, "POST", TOXICS, {"type": type, "attributes": None, "toxicity": None, "name": None})
    known = [name for name in attributes if name != "shared"]  # which toxiproxy has not
    assert (status, list(made["attributes"]), made["toxicity"]) == (200, known, 1)


def test_a_stream_is_kept_as_it_was_written(api: Api) -> None:
    assert told(api, "POST", TOXICS, {"type": "latency", "stream": "UpStream"})[1]["name"] == "latency_UpStream"
    assert told(api, "GET", TOXICS)[1][0]["stream"] == "UpStream"


def test_upstream_ones_come_first_in_their_order(api: Api) -> None:
    for name, stream in (("a", "downstream"), ("b", "upstream"), ("c", "both"), ("d", "downstream"), ("e", "upstream")):
        api.ask("POST", TOXICS, {"type": "noop", "name": name, "stream": stream})
    assert [one["name"] for one in api.ask("GET", TOXICS).json] == ["b", "c", "e", "a", "d"]


@pytest.mark.parametrize(
    ("given", "shown"), [(0.2, "0.2"), (1, "1"), (7, "7"), (-1, "-1"), (0.123456789, "0.12345679")]
)
def test_toxicity_has_32_bits(api: Api, given: float, shown: str) -> None:
    body = api.ask("POST", TOXICS, {"type": "noop", "toxicity": given}).body
    assert body.endswith(f'"toxicity":{shown}}}'.encode())


@pytest.mark.parametrize(
    ("body", "status", "text"),
    [
        ({"type": "latency", "stream": "sideways"}, 400, "stream was invalid, can be either upstream or downstream"),
        ({"type": "latency", "stream": ""}, 400, "stream was invalid, can be either upstream or downstream"),
        ({"type": "nonsense"}, 400, "invalid toxic type"),
        ({}, 400, "invalid toxic type"),
        ({"type": "noop", "name": "there"}, 409, "toxic already exists"),
        (
            {"type": "latency", "attributes": {"latency": 1.5}},
            400,
            "bad request body: json: cannot unmarshal number 1.5 into Go struct field .attributes.latency of type int64",
        ),
        (
            {"type": "latency", "attributes": {"latency": "1"}},
            400,
            "bad request body: json: cannot unmarshal string into Go struct field .attributes.latency of type int64",
        ),
        (
            {"type": "latency", "attributes": []},
            400,
            "bad request body: json: cannot unmarshal array into Go struct field .attributes of type "
            "map[string]interface {}",
        ),
        (
            {"type": "noop", "toxicity": 1e39},
            400,
            "bad request body: json: cannot unmarshal number 1e+39 into Go struct field ToxicWrapper.toxicity of type float32",
        ),
    ],
)
def test_a_toxic_that_cannot_be(api: Api, body: dict[str, Any], status: int, text: str) -> None:
    api.ask("POST", TOXICS, {"type": "noop", "name": "there"})
    assert told(api, "POST", TOXICS, body) == refused(status, text)
    assert [one["name"] for one in api.ask("GET", TOXICS).json] == ["there"]


@pytest.mark.parametrize(
    ("type", "attributes"),
    [
        ("bandwidth", {"rate": -1}),
        ("latency", {"latency": 1, "jitter": 2**62 + 1}),
        ("slicer", {"average_size": 10, "size_variation": 11}),
        ("packet_loss", {"loss_rate": 2}),
        ("noop", {"after_bytes": 1, "after_ms": 1}),
    ],
)
def test_what_makes_no_sense_is_refused_with_a_sentence(api: Api, type: str, attributes: dict[str, Any]) -> None:
    status, answer = told(api, "POST", TOXICS, {"type": type, "attributes": attributes})
    assert (status, answer["error"][:18]) == (400, "bad request body: ")
    assert type in answer["error"]
    assert told(api, "GET", "/version")[0] == 200


def test_a_slicer_of_nothing_slices_nothing(api: Api, listen: str) -> None:
    assert told(api, "POST", TOXICS, {"type": "slicer"})[0] == 200
    with connect(listen) as client:
        client.sendall(b"hello")
        assert client.recv(9) == b"hello"


def test_an_update_merges_and_is_taken_whole_or_not_at_all(api: Api) -> None:
    made = api.ask("POST", TOXICS, {"type": "latency", "attributes": {"LATENCY": 100, "jitter": 10}}).json
    path = f"{TOXICS}/latency_downstream"
    for body in (
        {"attributes": {"latency": 5, "jitter": "x"}},
        {"attributes": {"latency": 5, "jitter": -1}},
        {"attributes": {"latency": 5}, "toxicity": "x"},
    ):
        assert told(api, "PATCH", path, body)[0] == 400
        assert told(api, "GET", path) == (200, made)
    change = {"attributes": {"latency": 1000}, "toxicity": 0.5, "type": "x", "name": "y", "stream": "z"}
    wanted = {**made, "attributes": {"latency": 1000, "jitter": 10}, "toxicity": 0.5}
    assert told(api, "PATCH", path, change) == (200, wanted)
    assert told(api, "POST", path, {"attributes": None, "toxicity": None}) == (200, wanted)


@pytest.mark.parametrize("method", ["GET", "PATCH", "POST", "DELETE"])
def test_a_toxic_that_is_not_there(api: Api, method: str) -> None:
    assert told(api, method, f"{TOXICS}/none", b"{}") == refused(404, "toxic not found")
    assert told(api, method, "/proxies/none/toxics/none", b"{}") == refused(404, "proxy not found")


def test_latency_on_a_live_connection(api: Api, listen: str) -> None:
    with connect(listen) as client:

        def round_trip() -> float:
            began = time.monotonic()
            client.sendall(b"x")
            assert client.recv(1) == b"x"
            return time.monotonic() - began

        assert round_trip() < 0.1
        api.ask("POST", TOXICS, {"type": "latency", "attributes": {"latency": 200}})
        assert 0.2 <= round_trip() < 0.3
        api.ask("DELETE", f"{TOXICS}/latency_downstream")
        assert round_trip() < 0.1


@pytest.mark.parametrize("name", types()["faults"])
def test_each_fault_of_serve_is_a_type(api: Api, name: str) -> None:
    status, made = told(api, "POST", TOXICS, {"type": name})
    assert status == 200, made
    assert (made["name"], made["type"], made["attributes"]) == (f"{name}_downstream", name, {})
    assert api.ask("DELETE", f"{TOXICS}/{made['name']}").status == 204


def test_a_fault_of_one_protocol_is_refused_with_a_sentence(api: Api) -> None:
    for name in set(faults.names()) - set(types()["faults"]):
        status, answer = told(api, "POST", TOXICS, {"type": name})
        assert (status, answer["error"][:18]) == (400, "bad request body: ")
        assert "protocol of its own" in answer["error"]


def test_a_fault_with_a_moment(api: Api, listen: str) -> None:
    api.ask("POST", TOXICS, {"type": "linger", "attributes": {"after_bytes": 3, "connections": 1}})
    with connect(listen) as client:
        client.sendall(b"12")
        assert client.recv(9) == b"12"
        client.sendall(b"3")
        with pytest.raises(ConnectionResetError):
            while client.recv(9):
                pass
    with connect(listen) as client:
        client.sendall(b"12345")
        assert client.recv(9) == b"12345"


def test_bad_arguments_of_a_fault_are_said(api: Api) -> None:
    status, answer = told(api, "POST", TOXICS, {"type": "slow:fast"})
    assert (status, answer["error"][:18]) == (400, "bad request body: ")
    assert "slow" in answer["error"]
