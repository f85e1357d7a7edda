"""What a run of the command gives: its text, its document, its captures; and the lists."""

from __future__ import annotations

import json
import os
import re
import subprocess
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest

from faultkit import __version__, causes
from faultkit.cause import Misuse, checked
from faultkit.options import flag
from faultkit.stage import recipe
from tests.shell import (
    USERS,
    complaint,
    everybodys_directory,
    fast,
    faultkit,
    free_port,
    start,
)

every_user = pytest.mark.parametrize("user", USERS)


Played = dict[tuple[str, str, str], "Future[subprocess.CompletedProcess[str]]"]


@pytest.fixture(scope="session")
def captures() -> Iterator[Path]:
    with everybodys_directory() as directory:
        yield directory


@pytest.fixture(scope="session")
def played(captures: Path) -> Iterator[Played]:
    """Every cause, for every user, in every way; begun at once, those that wait for the kernel's clocks first."""
    ways = {
        "text": ([], False),
        "json": (["--json", "--pcap"], False),
        "packets": (["--packets", "--pcap"], False),
        "host": (["--json", "--on", "host"], False),
        "denied": (["--json"], True),
    }

    def run(cause: str, user: str, way: str) -> subprocess.CompletedProcess[str]:
        arguments, denied = ways[way]
        arguments = [cause, *fast(cause), *arguments]
        if arguments[-1] == "--pcap":
            arguments.append(str(captures / f"{cause}-{user}-{way}.pcap"))
        if way in ("host", "denied") and any(option == "port" for option in vars(causes.load(cause).options())):
            arguments += ["--port", str(free_port())]
        return faultkit(*arguments, user=user, denied=denied)

    waiting = {"keepalive-timeout", "idle-firewall"}
    everything = [
        (cause, user, way)
        for cause in causes.names()
        for user in USERS
        for way in ways
        if user == "nobody" or way not in ("text", "packets")  # these look the same for everybody
    ]
    with ThreadPoolExecutor(8) as pool:
        yield {key: pool.submit(run, *key) for key in sorted(everything, key=lambda key: key[0] not in waiting)}


@pytest.mark.parametrize("cause", causes.names())
def test_in_a_pipe_there_is_no_escape_code_and_no_line_longer_than_80(cause: str, played: Played) -> None:
    ended = played[cause, "nobody", "text"].result()
    assert ended.returncode == 0, ended.stdout
    assert complaint(ended) == ""
    assert "\x1b" not in ended.stdout
    for told in ended.stdout.splitlines():
        assert len(told) <= 80, told
        assert told == told.rstrip(), told


def document(ended: subprocess.CompletedProcess[str]) -> dict[str, Any]:
    assert complaint(ended) == ""
    told = json.loads(ended.stdout)
    assert isinstance(told, dict)
    assert ended.returncode == (0 if told["verdict"]["produced"] else 1), told["verdict"]
    return told


@every_user
@pytest.mark.parametrize("cause", causes.names())
def test_the_json_document(cause: str, user: str, played: Played) -> None:
    told = document(played[cause, user, "json"].result())
    assert told["cause"] == cause
    assert set(told["options"]) >= {word.removeprefix("--") for word in fast(cause) if word.startswith("--")}
    assert told["stage"]["where"] == "namespace"
    assert told["transcript"]["calls"]
    assert told["transcript"]["packets"]
    assert told["verdict"]["produced"] is True, told["verdict"]
    assert {check["witness"] for check in told["verdict"]["checks"]} >= {"calls", "wire", "kernel"}
    assert told["evidence"]["counters"]
    assert set(told["evidence"]["not_seen"]) == (set() if user == "root" else {"reasons"})
    if user == "root":
        (reasons,) = [check for check in told["verdict"]["checks"] if check["name"] == "reset reasons"]
        sent = [reset for reset in told["transcript"]["resets"] if reset["direction"] == "sent"]
        assert bool(sent) == bool(reasons["expected"])


@pytest.mark.parametrize("way", ["host", "denied"])
@every_user
@pytest.mark.parametrize("cause", causes.names())
def test_on_the_host_what_was_not_seen_is_said_and_never_counted(
    cause: str, user: str, way: str, played: Played
) -> None:
    ended = played[cause, user, way].result()
    if ended.returncode == 3:  # what only a namespace allows
        assert "inside a private namespace only" in ended.stderr
        assert ended.stdout == ""
        return
    told = document(ended)
    assert told["stage"]["where"] == "host"
    assert bool(told["stage"]["refused"]) == (way == "denied")
    absent = told["evidence"]["not_seen"]
    checks = {(check["witness"], check["name"]) for check in told["verdict"]["checks"]}
    assert told["verdict"]["produced"] is True, told["verdict"]
    assert ("calls", "client") in checks
    assert told["evidence"]["counters_are_ours_alone"] is False
    if user == "nobody":
        assert set(absent) == {"wire", "reasons"}
    # Root's witnesses may lose a part where the machine is busy: what they have seen is shown then, and not judged.
    if "wire" in absent:
        assert user == "root" or told["transcript"]["packets"] == []
        assert "wire" not in {witness for witness, _ in checks}
    if "reasons" in absent:
        assert user == "root" or told["transcript"]["resets"] == []
        assert ("kernel", "reset reasons") not in checks
        assert all(reset["inferred"] for reset in told["evidence"]["resets"])


@every_user
def test_on_the_host_the_text_says_what_was_not_seen(user: str) -> None:
    told = " ".join(faultkit("linger", "--on", "host", user=user).stdout.split())
    assert "Played on the host's loopback, 127.0.0.1." in told
    assert "(the host's counters, which others move too)" in told
    if user == "nobody":
        assert "wire not seen: packet capture on the host needs CAP_NET_RAW" in told
        assert "kernel reset reasons not seen: tracefs is readable by root alone" in told
    told = " ".join(faultkit("linger", user=user, denied=True).stdout.split())
    assert "Not in a private namespace: a private network namespace is forbidden here (EPERM)" in told
    told = " ".join(faultkit("linger", "--on", "host", "--packets", user="nobody").stdout.split())
    assert "No packets: packet capture on the host needs CAP_NET_RAW" in told


@every_user
@pytest.mark.parametrize("cause", causes.names())
def test_tshark_reads_the_capture(cause: str, user: str, played: Played, captures: Path) -> None:
    told = document(played[cause, user, "json"].result())
    lines = tshark(captures / f"{cause}-{user}-json.pcap", "-T", "fields", "-e", "tcp.srcport", "-e", "tcp.flags.reset")
    packets = told["transcript"]["packets"]
    expected = [f"{p['source'].rpartition(':')[2]}\t{int('RST' in p['flags'])}" for p in packets]
    assert [given.replace("True", "1").replace("False", "0") for given in lines] == expected
    assert lines


@pytest.mark.parametrize("cause", causes.names())
def test_the_table_of_packets_is_tsharks(cause: str, played: Played, captures: Path) -> None:
    ended = played[cause, "nobody", "packets"].result()
    assert (ended.returncode, complaint(ended)) == (0, "")
    columns = ["No.", "Time", "Source", "Destination", "Protocol", "Length", "Info"]
    told = ended.stdout.splitlines()
    first = next(number for number, row in enumerate(told) if row.split() == columns)
    table = told[first + 1 : told.index("", first)]
    ports = re.search(r" (\d+) → (\d+) ", table[0])
    assert ports
    # The payload is nobody's protocol, not even HTTP: tshark is asked about TCP.
    asked = [word for port in ports.groups() for word in ("-d", f"tcp.port=={port},data")]
    asked += ["-T", "fields", *(word for column in columns for word in ("-e", f"_ws.col.{column}"))]
    expected = tshark(captures / f"{cause}-nobody-packets.pcap", *asked)
    assert [row.split() for row in table] == [row.split() for row in expected]
    assert table


def tshark(path: Path, *arguments: str) -> list[str]:
    ended = subprocess.run(
        ["tshark", "-r", str(path), *arguments],
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, "LC_ALL": "C.UTF-8"},
    )
    return ended.stdout.splitlines()


@pytest.mark.parametrize("cause", ["linger", "closed-port"])
def test_a_series(cause: str) -> None:
    told = document_of_series(faultkit(cause, "--repeat", "20", "--json"))
    assert (told["repeat"]["runs"], told["repeat"]["produced"]) == (20, 20)
    assert len(told["repeat"]["seconds"]) == 20
    assert told["odd"] == []
    assert told["options"] is not None
    first = told["first"]
    assert first["transcript"]["packets"]
    assert first["verdict"]["produced"] is True
    assert first["evidence"]["counters"]
    ended = faultkit(cause, "--repeat", "20", "--ipv6")
    assert (ended.returncode, complaint(ended)) == (0, "")
    assert "20 of 20 as promised" in ended.stdout
    assert "::1" in ended.stdout


def document_of_series(ended: subprocess.CompletedProcess[str]) -> dict[str, Any]:
    assert (ended.returncode, complaint(ended)) == (0, "")
    told = json.loads(ended.stdout)
    assert isinstance(told, dict)
    return told


def test_the_captures_of_a_series_are_one_file() -> None:
    with everybodys_directory() as directory:
        ended = faultkit("linger", "--repeat", "3", "--pcap", str(directory / "file"))
        assert ended.returncode == 0
        assert len(tshark(directory / "file", "-Y", "tcp.flags.reset == 1")) == 3


@every_user
def test_quiet(user: str) -> None:
    for more in ([], ["--repeat", "3"], ["--on", "host"]):
        ended = faultkit("linger", "--quiet", *more, user=user)
        assert (ended.returncode, ended.stdout, ended.stderr) == (0, "", "")
    assert json.loads(faultkit("linger", "--quiet", "--json", user=user).stdout)["cause"] == "linger"


def test_a_search_shows_a_chart() -> None:
    ended = faultkit("keepalive-race", "--timeout", "50", "--sweep", "55:45")
    assert (ended.returncode, complaint(ended)) == (0, "")
    assert "Nothing was promised: this is a search" in ended.stdout
    counts = re.findall(r"^  \S  (.+): (\d+) of 11 \(", ended.stdout, re.MULTILINE)
    assert sum(int(number) for _, number in counts) == 11


# The list, the doctor, the recipes


def test_every_cause_is_listed_by_family() -> None:
    ended = faultkit("list")
    for name in causes.names():
        assert re.search(rf"^  {name} +{re.escape(causes.load(name).summary)}$", ended.stdout, re.MULTILINE)
    bare = faultkit()
    assert bare.returncode == 0
    assert ended.stdout.strip() in bare.stdout


def test_the_list_for_machines() -> None:
    told = json.loads(faultkit("list", "--json").stdout)
    assert sorted(entry["name"] for entry in told) == [*causes.names()]
    for entry in told:
        shown = faultkit(entry["name"], "--help")
        assert shown.returncode == 0
        for option in entry["options"]:
            assert option["flag"] in shown.stdout
        for common in ("--repeat", "--json", "--packets", "--pcap", "--ipv6", "--on", "--quiet"):
            assert common in shown.stdout


def test_the_list_for_machines_has_what_a_run_is_held_against() -> None:
    told = {entry["name"]: entry for entry in json.loads(faultkit("list", "--json").stdout)}
    for name, entry in told.items():
        cause = causes.load(name)
        flags = {flag(option): option for option in fields(cause.options)}
        for option in entry["options"]:
            beyond = [] if option["least"] is None else [option["least"] - option["multiple"]]
            beyond += [] if option["most"] is None else [option["most"] + option["multiple"]]
            beyond += ["nothing"] if option["choices"] else []
            unit = 1000 if option["unit"] == "ms" else 1
            for value in beyond:
                with pytest.raises(Misuse, match=r"out of range|is unknown"):
                    checked(cause, {flags[option["flag"]].name: value if isinstance(value, str) else value / unit})
    for typed in ("linger", "crash --request read", "late-write --order send-recv-send-recv"):
        [promise] = [
            one["promise"] for one in told[typed.split()[0]]["variants"] if one["typed"] == f"faultkit {typed}"
        ]
        run = json.loads(faultkit(*typed.split(), "--json").stdout)
        for check in run["verdict"]["checks"]:
            if check["witness"] == "calls":
                assert check["expected"] == promise["calls"][check["name"]]
        if typed == "linger":  # of the others the kernel decides in the run, by what it keeps of a closed socket
            assert set(promise["counters"]) <= {check["name"] for check in run["verdict"]["checks"]}


def test_every_recipe_is_listed_and_printed() -> None:
    listed = faultkit("recipe").stdout
    for name in recipe.names():
        assert re.search(rf"^{name} +\S", listed, re.MULTILINE)
        for tool in recipe.TOOLS:
            ended = faultkit("recipe", name, "--as", tool, "--port", "4321", "--ipv6")
            assert (ended.returncode, ended.stderr) == (0, "")
            assert "4321" in ended.stdout


def test_version() -> None:
    assert faultkit("--version").stdout == f"faultkit {__version__}\n"


def test_a_long_run_into_a_closed_pipe() -> None:
    """The reader goes away while it plays."""
    reader, writer = os.pipe()
    running = start("keepalive-timeout", *fast("keepalive-timeout"), stdout=writer)
    os.close(writer)
    os.close(reader)
    _, complaint = running.communicate(timeout=60)
    assert (running.returncode, complaint) == (141, "")
