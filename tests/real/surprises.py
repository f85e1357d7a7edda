"""What a reader should not have to find out alone: each sentence with the check that it holds for what was played."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from errno import ECONNRESET, ETIMEDOUT

from tests.real.play import Seen

Cells = Mapping[tuple[str, str], Seen]  # by the fault's name and the method

RESETS = ("linger", "unread")
RACES = ("keepalive-race:unsent", "keepalive-race:in-flight")
ASKED_TO = ("requests with Retry", "httpx with retries")


@dataclass(frozen=True)
class Played:
    """Everything that was played, by the client's name."""

    cells: Mapping[str, Cells]

    def seen(self, client: str, fault: str, method: str = "GET") -> Seen:
        return self.cells[client][fault, method]

    def kind(self, client: str, fault: str, method: str = "GET") -> str | None:
        """The type of what was raised; None where the answer was given."""
        raised = self.seen(client, fault, method).raised
        return raised.chain[0].kind if raised else None

    def message(self, client: str, fault: str, method: str = "GET") -> str | None:
        raised = self.seen(client, fault, method).raised
        return raised.chain[0].message if raised else None

    def errno(self, client: str, fault: str, method: str = "GET") -> int | None:
        raised = self.seen(client, fault, method).raised
        return raised.errno if raised else None

    def path(self, client: str, fault: str) -> str | None:
        """The way to the errno."""
        raised = self.seen(client, fault).raised
        return raised.path if raised else None

    def send_again(self, fault: str, method: str) -> set[str]:
        """Who tries once more."""
        return {
            client for client, cells in self.cells.items() if (fault, method) in cells and cells[fault, method].again
        }

    def faults(self, client: str) -> list[str]:
        return list(dict.fromkeys(fault for fault, _ in self.cells[client]))


@dataclass(frozen=True)
class Surprise:
    sentence: str
    holds: Callable[[Played], bool]


SURPRISES = (
    Surprise(
        "**Nobody sends a POST again that may have been carried out, but redis-py.** Where connecting failed, urllib3, "
        "requests with `Retry` and httpx with `retries` try a POST again like a GET. After that only redis-py does, ten times by "
        "default: the server reads an `INCR` that it does not answer (`linger`, `stall`) eleven times.",
        lambda played: (
            all(
                played.send_again(fault, "POST") == {"urllib3", *ASKED_TO, "redis-py"}
                for fault in ("refuse", "connect-hang")
            )
            and all(
                played.send_again(fault, "POST") <= {"redis-py"}
                for fault in played.faults("requests")
                if fault not in ("refuse", "connect-hang")
            )
            and all(played.seen("redis-py", fault, "POST").read == 11 for fault in ("linger", "stall"))
        ),
    ),
    Surprise(
        "**urllib3, aiohttp and redis-py send a GET again without being asked to**, three times, once and ten times. "
        "requests tells urllib3 not to. httpx does not, and its `retries` are for connecting alone.",
        lambda played: (
            all(
                played.send_again(fault, "GET") == {"urllib3", "requests with Retry", "aiohttp", "redis-py", *tls}
                for fault, tls in (("linger", {"aiohttp over TLS"}), ("unread", {"aiohttp over TLS"}))
            )
            and [played.seen(client, "linger").again for client in ("urllib3", "aiohttp", "redis-py")] == [3, 1, 10]
            and not any(
                played.seen("httpx with retries", fault).again for fault in (*RESETS, *RACES, "stall", "truncate")
            )
        ),
    ),
    Surprise(
        "**A FIN that has arrived costs nothing where the client looks**: urllib3, requests, httpx and redis-py see it before "
        "they reuse the connection (`keepalive-race:unprocessed`) and take another. http.client does not look. aiohttp's loop "
        "does, when it runs; here it was busy until the request. A FIN that is still under way nobody can see: "
        "`keepalive-race:unsent` and `in-flight` reach every client, a second try saves the GET, and no HTTP client saves "
        "the POST.",
        lambda played: (
            {client for client in played.cells if played.seen(client, "keepalive-race:unprocessed").looked}
            == set(played.cells) - {"http.client", "aiohttp", "aiohttp over TLS"}
            and all(
                (played.kind(client, fault) is None) == (client in played.send_again("linger", "GET"))
                for client in played.cells
                for fault in RACES
            )
            and all(
                played.kind(client, fault, "POST") is not None
                for client in played.cells
                if "redis" not in client and "TLS" not in client
                for fault in RACES
            )
        ),
    ),
    Surprise(
        "**uvicorn's own `timeout_keep_alive` gives in every client what `keepalive-race:unsent` gives**: the last row of each "
        "table is a real uvicorn, whose timer closes a connection over a request that its kernel has. It takes a loop that "
        "is busy when the timer comes due: an idle one looks at its sockets first.",
        lambda played: all(
            played.seen(client, "uvicorn", method) == played.seen(client, "keepalive-race:unsent", method)
            for client, cells in played.cells.items()
            if ("uvicorn", "GET") in cells
            for method in ("GET", "POST")
        ),
    ),
    Surprise(
        "**`Retry` changes what requests raises.** A read timeout (`stall`) is a `ReadTimeout` without it and a "
        "`ConnectionError` with it, which `except requests.Timeout` does not catch.",
        lambda played: (
            played.kind("requests", "stall") == "requests.exceptions.ReadTimeout"
            and played.kind("requests with Retry", "stall") == "requests.exceptions.ConnectionError"
        ),
    ),
    Surprise(
        "**A reset in the middle of a body is no `ConnectionError` in requests** but a `ChunkedEncodingError`, with no chunk in "
        "sight, and `Retry` does not help: urllib3 has returned before requests reads the body. urllib3 by itself tries "
        "again.",
        lambda played: (
            all(
                played.kind(client, fault) == "requests.exceptions.ChunkedEncodingError"
                and not played.seen(client, fault).again
                for client in ("requests", "requests with Retry")
                for fault in ("linger mid-body", "truncate")
            )
            and played.seen("urllib3", "linger mid-body").again == 3
        ),
    ),
    Surprise(
        "**The kernel's ETIMEDOUT passes for the client's own timeout.** TCP_USER_TIMEOUT ends `black-hole` after 300 ms, and "
        "requests says `Read timed out. (read timeout=10.0)`. Only the errno behind it tells the two apart: there is none "
        "where the client's own clock ran out.",
        lambda played: (
            "Read timed out. (read timeout=10.0)" in (played.message("requests", "black-hole") or "")
            and all(
                played.errno(client, "black-hole", "POST") == ETIMEDOUT
                and played.errno(client, "stall", "POST") is None
                for client, cells in played.cells.items()
                if ("stall", "POST") in cells and client != "redis-py"
            )
        ),
    ),
    Surprise(
        "**Over TLS requests and httpx see no errno at all once the handshake is done.** Python's `ssl` gives EOF where the "
        "kernel said ECONNRESET or ETIMEDOUT: `linger`, `unread` and even `black-hole` read like `close`, a reset in the "
        "middle of a body like `truncate`. asyncio reads the socket itself, so aiohttp keeps them.",
        lambda played: (
            all(
                played.message(client, fault) == played.message(client, like)
                for client in ("requests over TLS", "httpx over TLS")
                for fault, like in (
                    *((fault, "close") for fault in (*RESETS, *RACES, "black-hole")),
                    ("linger mid-body", "truncate"),
                )
            )
            and all(
                played.errno(client, "linger in the handshake") == ECONNRESET
                for client in ("requests over TLS", "httpx over TLS")
            )
            and all(played.errno("aiohttp over TLS", fault) == ECONNRESET for fault in RESETS)
        ),
    ),
    Surprise(
        "**A request in two segments can lose its reset.** In `keepalive-race:in-flight` the RST answers the head of a POST, and "
        "the send of its body takes the error. urllib3, requests and httpx pass over that and read on: EOF, so they say "
        "that the server closed. The GET, one segment, gets its ECONNRESET.",
        lambda played: (
            all(
                played.errno(client, "keepalive-race:in-flight", "POST") is None
                and played.message(client, "keepalive-race:in-flight", "POST")
                == played.message(client, "close", "POST")
                for client in ("urllib3", "requests", "requests with Retry", "httpx", "httpx with retries")
            )
            and all(played.errno(client, "keepalive-race:in-flight") == ECONNRESET for client in ("requests", "httpx"))
        ),
    ),
    Surprise(
        "**http.client must be closed by hand.** After a timeout, a refusal and more its connection answers the next request "
        "with `CannotSendRequest` until `close()`. Every other client here goes on by itself.",
        lambda played: (
            all(
                (after := played.seen("http.client", fault).afterwards) is not None
                and after.chain[0].kind == "http.client.CannotSendRequest"
                for fault in ("refuse", "connect-hang", "black-hole", "stall")
            )
            and not any(
                seen.afterwards
                for client, cells in played.cells.items()
                if client != "http.client"
                for seen in cells.values()
            )
        ),
    ),
    Surprise(
        "**The errno is seldom where it is looked for**: in requests at `error.args[0].args[1].errno`, in httpx at "
        "`error.__cause__.args[0].errno`, in redis-py, which raises without `from`, at `error.__context__.errno`. aiohttp's own "
        "exception has it, but for a reset in the middle of a body, where it is only words in the message.",
        lambda played: (
            [played.path(client, "linger") for client in ("requests", "httpx", "redis-py without retry", "aiohttp")]
            == ["error.args[0].args[1]", "error.__cause__.args[0]", "error.__context__", "error"]
            and played.errno("aiohttp", "linger mid-body") is None
            and "ConnectionResetError(104" in (played.message("aiohttp", "linger mid-body") or "")
        ),
    ),
    Surprise(
        "**Garbage is not always called so.** httpx and redis-py take eight bytes that mean nothing, and a FIN, for a closed "
        "connection.",
        lambda played: all(
            played.message(client, "garbage") == played.message(client, "close")
            for client in ("httpx", "redis-py without retry")
        ),
    ),
)
