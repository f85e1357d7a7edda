"""nginx-keepalive, seen through its command: nginx's own words, the answers, whose RST, and what ends it."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from faultkit import check_cause
from faultkit.acting.play import rehearsal
from faultkit.cause import checked
from faultkit.evidence.verdict import Promise
from faultkit.playing import stack
from faultkit.playing.stack import Stack
from tests.shell import ENVIRONMENT, USERS, faultkit

STACK = stack.load("nginx-keepalive")
every_user = pytest.mark.parametrize("user", USERS)

# As nginx 1.22 writes them, from the first letter to the last; what is not the same each time is a pattern.
LINE = (
    r"\d{{4}}/\d\d/\d\d \d\d:\d\d:\d\d \[error\] \d+#\d+: \*\d+ {words} while reading response header from upstream, "
    r'client: 127\.0\.0\.10, server: , request: "{method} /{fin} HTTP/1\.1", '
    r'upstream: "http://127\.0\.0\.1:8081/{fin}", host: "127\.0\.0\.1:8080"'
)
WORDS = {
    "unsent": r"recv\(\) failed \(104: Connection reset by peer\)",
    "in-flight": r"recv\(\) failed \(104: Connection reset by peer\)",
    "unprocessed": r"upstream prematurely closed connection",
}


def document(*typed: str, user: str = "") -> dict[str, Any]:
    ended = faultkit("stack", "nginx-keepalive", "--json", *typed, user=user)
    assert ended.returncode == 0, ended.stdout + ended.stderr
    told = json.loads(ended.stdout)
    assert isinstance(told, dict)
    return told


def resets(told: dict[str, Any]) -> list[tuple[str, str]]:
    """Whose each RST on the wire was, and its flags."""
    return [
        (packet["from"], ",".join(packet["flags"]))
        for packet in told["transcript"]["packets"]
        if "RST" in packet["flags"]
    ]


@pytest.mark.parametrize("fin", WORDS)
@every_user
def test_each_place_of_the_fin_gives_its_line_of_the_log(fin: str, user: str) -> None:
    told = document("--fin", fin, user=user)
    assert [(one["request"], one["outcome"]) for one in told["transcript"]["exchanges"]] == [
        ("GET /prime", "200"),
        (f"GET /{fin}", "200"),
        ("GET /prime", "200"),
        (f"POST /{fin}", "502"),
    ]
    get, post = told["transcript"]["lines"]
    for method, line in ("GET", get), ("POST", post):
        assert line["program"] == "nginx"
        assert re.fullmatch(LINE.format(words=WORDS[fin], method=method, fin=fin), line["text"])
    assert resets(told) == [("app", "RST,ACK" if fin == "unsent" else "RST")] * 2
    fins = [packet for packet in told["transcript"]["packets"] if "FIN" in packet["flags"] and packet["from"] == "app"]
    assert bool(fins) == (fin == "unprocessed")  # the one is never sent, the other never leaves
    assert told["causes"] == ["keepalive-race" if fin == "unsent" else f"keepalive-race --fin {fin}"]


@every_user
def test_with_the_fix_nginx_is_the_one_that_closes(user: str) -> None:
    told = document("--fixed", "--fin", "unsent", user=user)
    assert {one["outcome"] for one in told["transcript"]["exchanges"]} == {"200"}
    assert told["transcript"]["lines"] == []
    assert resets(told) == []
    packets = told["transcript"]["packets"]
    first: dict[frozenset[str], str] = {}
    for packet in packets:
        ends = frozenset((packet["source"], packet["destination"]))
        if "FIN" in packet["flags"] and "app" in (packet["from"], told["transcript"]["roles"][packet["destination"]]):
            first.setdefault(ends, packet["from"])
    assert set(first.values()) == {"nginx"}


def test_what_it_prints_for_a_person() -> None:
    ended = faultkit("stack", "nginx-keepalive", "--fin", "unprocessed", env=ENVIRONMENT | {"COLUMNS": "100"})
    assert ended.returncode == 0, ended.stderr
    parts = (
        "nginx-keepalive: nginx keeps idle connections for 60 s to an upstream that closes after 500 ms.",
        "nginx 1.",
        "POST /unprocessed 502    not retried: it may have been done",
        "4 requests: 200 ×3, 502 ×1; resets: 2",
        "nginx says",
        "[error]",
        "One failure, nginx 127.0.0.1:",
        "┄ nginx: is busy (SIGSTOP): it looks at nothing",
        "─ FIN,ACK",
        "✔ Produced as promised.",
        "calls   nginx: a real program's, not recorded",
        "Who sent the RST, and why",
        "The cause",
        "keepalive-race: HTTP idle expiry",
        "\n    faultkit keepalive-race --fin unprocessed\n",
        "The fix",
        "--- nginx.conf",
        "+++ fixed/nginx.conf",
        "+        keepalive_timeout 200ms;",
    )
    at = 0
    for part in parts:
        found = ended.stdout.find(part, at)
        assert found >= 0, f"{part!r} is not after the others in:\n{ended.stdout}"
        at = found


def test_a_swept_node_server_closes_when_node_says() -> None:
    """Today's Node adds a second of its own; one that does not is met by the race, now and then."""
    told = document("--upstream", "node", "--sweep", "501:496")
    [closing] = told["evidence"]["measurements"]
    assert closing["predicted"] == 0.5
    assert closing["measured"] > 0.45
    outcomes = [tally["outcome"] for tally in told["transcript"]["tallies"]]
    assert len(outcomes) == 6
    if closing["measured"] > 1.4:
        assert outcomes == ["answered"] * 6
    assert set(told["programs"]) == {"nginx", "node"}


def edited(tmp_path: Path, line: str, *, fixed: bool) -> Stack:
    """The stack with that line in the upstream block: of its nginx.conf, or in place of the fix."""
    folder = tmp_path / STACK.name
    shutil.copytree(STACK.folder, folder)
    before = STACK.files(fixed=False)["nginx.conf"]
    after = before.replace("        keepalive 4;\n", f"        keepalive 4;\n        {line}\n")
    assert after != before
    (folder / ("fixed/nginx.conf" if fixed else "nginx.conf")).write_text(after)
    return replace(STACK, folder=folder)


def test_keepalive_requests_is_no_remedy(tmp_path: Path) -> None:
    assert check_cause(edited(tmp_path, "keepalive_requests 100;", fixed=False), 1).produced == 1


def test_keepalive_requests_1_ends_it_by_keeping_no_connection(tmp_path: Path) -> None:
    assert check_cause(edited(tmp_path, "keepalive_requests 1;", fixed=True), 1, fixed=True).produced == 1


def test_a_keepalive_timeout_above_the_upstreams_is_no_remedy(tmp_path: Path) -> None:
    assert check_cause(edited(tmp_path, "keepalive_timeout 5s;", fixed=False), 1).produced == 1


def test_non_idempotent_hides_the_502_and_leaves_the_resets(tmp_path: Path) -> None:
    def retried(told: Sequence[str]) -> list[str]:
        return [line.replace("502", "200") for line in told]

    def promise(options: Any, play: Any) -> Promise:
        broken = STACK.promise(options, play)
        assert broken.exchanges is not None
        return replace(broken, exchanges=retried(broken.exchanges))

    folder = tmp_path / STACK.name
    shutil.copytree(STACK.folder, folder)
    config = folder / "nginx.conf"
    old = config.read_text()
    new = old.replace(
        "proxy_http_version 1.1;", "proxy_http_version 1.1;\n            proxy_next_upstream error non_idempotent;"
    )
    assert new != old
    config.write_text(new)
    assert check_cause(replace(STACK, folder=folder, promise=promise), 1).produced == 1


def test_where_close_kept_its_socket_the_reason_is_another() -> None:
    """Once in some 10,000 times (`Play.fin_acknowledged`), so the promise is asked, not the kernel."""
    options = checked(STACK, {})
    play = rehearsal(STACK.name, options)
    play.cues["POST meets a socket"].set()
    promised = STACK.promise(options, play)
    assert promised.resets is not None
    assert [rst.reason for rst in promised.resets][-2:] == ["TCP_TIMEWAIT_SOCKET", "TCP_ABORT_ON_DATA"]
    assert promised.counters is not None
    assert promised.counters["TcpExtTCPAbortOnData"] == 3
