"""Exit statuses, refusals and output of the command, each through a real process."""

from __future__ import annotations

import json
import os
import re
import socket
import subprocess
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from faultkit import __version__, causes, recipe
from tests.shell import (
    ENVIRONMENT,
    ROOT,
    USERS,
    everybodys_directory,
    fast,
    faultkit,
    free_port,
    line,
    on_terminal,
    start,
)

every_user = pytest.mark.parametrize("user", USERS)


def refused(*arguments: str, user: str = "", denied: bool = False) -> tuple[int, str]:
    """Exit status and sentence of a command that did nothing else than refuse: one line, no traceback, no output."""
    ended = faultkit(*arguments, user=user, denied=denied)
    assert ended.stdout == ""
    assert ended.stderr.count("\n") == 1
    assert ended.stderr.startswith("faultkit: ")
    assert "Traceback" not in ended.stderr
    return ended.returncode, ended.stderr.removeprefix("faultkit: ").rstrip("\n")


# What is typed, and the sentence that it gets. `X` is the command: "faultkit X --help" ends what click says.
MISUSES = {
    "closed-port --port 99999": "X: --port 99999 is out of range: it takes 0 to 65535",
    "closed-port --port -1": "X: --port -1 is out of range: it takes 0 to 65535",
    "keepalive-timeout --keepalive 500": (
        "X: --keepalive 500 is not a multiple of 1000 ms, because the kernel counts whole seconds: take 1000"
    ),
    "idle-firewall --interval 1500": (
        "X: --interval 1500 is not a multiple of 1000 ms, because the kernel counts whole seconds: take 1000 or 2000"
    ),
    "keepalive-timeout --keepalive abc": (
        "X: Invalid value for '--keepalive': abc is not a whole number of milliseconds (faultkit X --help)"
    ),
    "keepalive-timeout --count 0": "X: --count 0 is out of range: it takes 1 to 127",
    "keepalive-timeout --count x": "X: Invalid value for '--count': x is not a whole number (faultkit X --help)",
    "keepalive-timeout --user-timeout 3000": (
        "X: --user-timeout is for unacknowledged data and there is none: add --with-data"
    ),
    "linger --unsent 99999": "X: --unsent 99999 is out of range: it takes 0 to 32767 bytes",
    "linger --repeat 0": "X: --repeat 0 plays nothing: take 1 or more",
    "linger --repeat -3": "X: --repeat -3 plays nothing: take 1 or more",
    "linger --repeat abc": "X: Invalid value for '--repeat': abc is not a whole number (faultkit X --help)",
    "linger --on nowhere": (
        "X: Invalid value for '--on': 'nowhere' is not one of 'namespace', 'host' (faultkit X --help)"
    ),
    "linger --nope": "X: No such option '--nope'. Did you mean '--on'? (faultkit X --help)",
    "linger more": "X: Got unexpected extra argument (more) (faultkit X --help)",
    "idle-firewall --retries2 3": ("X: --retries2 decides nothing while the firewall is opened again: add --no-heal"),
    "idle-firewall --drop-with pf": "X: --drop-with pf is unknown: it takes auto, iptables, nft, socket",
    "keepalive-race --sweep x": ("X: --sweep x is not FROM:TO in milliseconds, each 1 to 60000: take 501:450"),
    "keepalive-race --sweep 0:5": ("X: --sweep 0:5 is not FROM:TO in milliseconds, each 1 to 60000: take 501:450"),
    "keepalive-race --fin lost": "X: --fin lost is unknown: it takes unsent, in-flight, unprocessed",
    "lingr": "there is no cause 'lingr': did you mean linger?",
    "keepalive_race": "there is no cause 'keepalive_race': did you mean keepalive-race?",
    "docter": "there is no cause 'docter': did you mean doctor?",
    "zzzz": "there is no cause 'zzzz': faultkit list names them all",
    "--nope": "No such option '--nope' (faultkit --help)",
    "recipe syn-dro": (
        "there is no recipe 'syn-dro': did you mean syn-drop? (there are idle-firewall, nat-expiry, reject, "
        "reject-with-reset, stateful-firewall, syn-drop)"
    ),
    "recipe syn-drop --port 99999": "port 99999 is not a TCP port: give one of 1 to 65535",
    "recipe syn-drop --as pf": "X: Invalid value for '--as': 'pf' is not one of 'iptables', 'nft' (faultkit X --help)",
}


@pytest.fixture(scope="module")
def refusals() -> Iterator[dict[str, Future[tuple[int, str]]]]:
    """All misuses, two at a time."""
    with ThreadPoolExecutor(2) as pool:
        yield {typed: pool.submit(refused, *typed.split(), user="nobody") for typed in MISUSES}


@pytest.mark.parametrize("typed", MISUSES)
def test_misuse_is_one_sentence_and_exit_status_2(typed: str, refusals: dict[str, Future[tuple[int, str]]]) -> None:
    told = re.sub(r"\bX\b", typed.split()[0], MISUSES[typed])
    assert refusals[typed].result() == (2, told)


def test_misuse_is_the_same_for_root() -> None:
    assert refused("closed-port", "--port", "99999", user="root")[0] == 2
    assert refused("lingr", user="root")[0] == 2


@pytest.mark.parametrize("number", ["9" * 25, "9" * 400, "9" * 5000], ids=["25", "400", "5000"])
def test_a_number_beyond_every_range(number: str) -> None:
    status, sentence = refused("keepalive-timeout", "--keepalive", number)
    assert status == 2
    assert sentence.startswith("keepalive-timeout: ")
    assert refused("linger", "--repeat", "9" * 5000)[0] == 2


# A port that is taken or forbidden, an option that the host cannot serve


@pytest.mark.parametrize("cause", ["closed-port", "idle-firewall"])
@every_user
def test_a_port_in_use_on_the_host(cause: str, user: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        told = refused(cause, "--on", "host", "--port", str(port), user=user)
    assert told == (2, f"{cause}: port {port} is in use on 127.0.0.1: take another --port")


@pytest.mark.parametrize("cause", ["closed-port", "idle-firewall"])
def test_a_port_in_use_on_the_host_is_free_in_the_namespace(cause: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        ended = faultkit(cause, *fast(cause), "--port", str(port), "--quiet")
    assert (ended.returncode, ended.stdout, ended.stderr) == (0, "", "")


def test_a_privileged_port_for_an_ordinary_user_on_the_host() -> None:
    first = int(Path("/proc/sys/net/ipv4/ip_unprivileged_port_start").read_text())
    if first <= 1:
        assert faultkit("closed-port", "--port", "1", "--on", "host", user="nobody").returncode == 0
        return
    port = first - 1
    assert refused("closed-port", "--port", str(port), "--on", "host", user="nobody") == (
        3,
        f"closed-port: port {port} on 127.0.0.1 is refused (Permission denied): ports below "
        "net.ipv4.ip_unprivileged_port_start need CAP_NET_BIND_SERVICE, so take a higher --port",
    )


@every_user
def test_a_privileged_port_in_the_namespace(user: str) -> None:
    assert faultkit("closed-port", "--port", "1", user=user).returncode == 0


@pytest.mark.parametrize("tool", ["iptables", "nft"])
@every_user
def test_no_firewall_on_the_host(tool: str, user: str) -> None:
    assert refused("idle-firewall", "--drop-with", tool, "--on", "host", user=user) == (
        3,
        f"idle-firewall: {tool} works inside a private namespace only, never on the host's own firewall: "
        "leave --on host out, or take --drop-with socket",
    )


def test_no_sysctl_on_the_host() -> None:
    status, sentence = refused(
        *("idle-firewall", "--on", "host", "--no-heal", "--retries2", "5", "--keepalive", "1000", "--count", "1"),
        *("--port", str(free_port())),
    )
    assert (status, sentence) == (
        3,
        "idle-firewall: net.ipv4.tcp_retries2 is set inside a private namespace only: leave --on host out",
    )


@every_user
def test_a_namespace_asked_for_and_forbidden(user: str) -> None:
    status, sentence = refused("linger", "--on", "namespace", user=user, denied=True)
    assert status == 3
    assert sentence.startswith("a private network namespace is forbidden here (EPERM): play with --on host, or allow ")


# --pcap


@every_user
def test_a_capture_file_that_cannot_be_written(user: str) -> None:
    with everybodys_directory() as directory:
        kept = directory / "kept"
        kept.write_bytes(b"as it was")
        kept.chmod(0o444)
        wrong = {
            directory / "missing" / "file": "No such file or directory",
            directory: "Is a directory",
            kept / "file": "Not a directory",
        }
        if user == "nobody":
            wrong |= {kept: "Permission denied"}
        for path, reason in wrong.items():
            assert refused("linger", "--pcap", str(path), user=user) == (
                2,
                f"linger: --pcap {path} cannot be written ({reason}): name a file in a directory of yours",
            )
        assert kept.read_bytes() == b"as it was"
        assert os.listdir(directory) == ["kept"]


def test_a_run_that_fails_leaves_an_existing_file_as_it_was() -> None:
    with everybodys_directory() as directory, socket.create_server(("127.0.0.1", 0)) as taken:
        kept = directory / "kept"
        kept.write_bytes(b"as it was")
        port = str(taken.getsockname()[1])
        status, _ = refused("closed-port", "--on", "host", "--port", port, "--pcap", str(kept))
        assert status == (2 if ROOT else 3)  # an ordinary user learns first that there would be no capture
        assert kept.read_bytes() == b"as it was"
        assert os.listdir(directory) == ["kept"]


def test_a_capture_that_nobody_may_make() -> None:
    with everybodys_directory() as directory:
        assert refused("linger", "--on", "host", "--pcap", str(directory / "file"), user="nobody") == (
            3,
            "linger: --pcap would stay empty: packet capture on the host needs CAP_NET_RAW: leave --on host out, "
            "or run as root",
        )
        assert os.listdir(directory) == []


# Where the output goes

OUTPUTS = [
    "",
    "--help",
    "list",
    "list --json",
    "doctor",
    "doctor --json",
    "recipe",
    "recipe idle-firewall",
    "linger",
    "linger --help",
    "linger --json",
    "linger --packets",
    "linger --repeat 5",
    "linger --repeat 5 --json",
]


@pytest.mark.parametrize("typed", OUTPUTS)
def test_a_reader_that_has_gone(typed: str) -> None:
    """As `| true`: not a word, and not the exit status of something else seen."""
    reader, writer = os.pipe()
    os.close(reader)
    ended = faultkit(*typed.split(), stdout=writer)
    os.close(writer)
    assert (ended.returncode, ended.stderr) == (141, "")


def test_a_reader_that_takes_one_line() -> None:
    shell = " ".join(line("list")) + " | head -1; echo ${PIPESTATUS[0]}"
    ended = subprocess.run(["bash", "-c", shell], capture_output=True, text=True, check=True)
    assert ended.stdout.splitlines()[0] == "application: a program's own close"
    assert ended.stdout.splitlines()[1] in ("0", "141")
    assert ended.stderr == ""


# One for each way of printing.
FEW_OUTPUTS = ["--help", "list", "doctor --json", "linger", "linger --packets"]


@pytest.mark.parametrize("typed", FEW_OUTPUTS)
def test_a_disk_that_is_full(typed: str) -> None:
    with open("/dev/full", "w") as full:
        ended = faultkit(*typed.split(), stdout=full)
    assert (ended.returncode, ended.stderr) == (
        3,
        "faultkit: the output cannot be written: No space left on device\n",
    )


@pytest.mark.parametrize("typed", FEW_OUTPUTS)
def test_an_output_that_is_closed(typed: str) -> None:
    ended = faultkit(*typed.split(), preexec_fn=lambda: os.close(1))
    assert (ended.returncode, ended.stderr) == (3, "faultkit: the output cannot be written: Bad file descriptor\n")


def test_all_streams_closed() -> None:
    assert faultkit("linger", "--quiet", preexec_fn=lambda: os.closerange(0, 3)).returncode == 0
    assert faultkit("linger", preexec_fn=lambda: os.closerange(0, 3)).returncode == 3
    closed = faultkit("lingr", preexec_fn=lambda: os.close(2))
    assert (closed.returncode, closed.stdout) == (2, "")


@pytest.mark.parametrize("cause", causes.names())
def test_in_a_pipe_there_is_no_escape_code_and_no_line_longer_than_80(cause: str, played: Played) -> None:
    ended = played[cause, "nobody", "text"].result()
    assert ended.returncode == 0, ended.stdout
    assert ended.stderr == ""
    assert "\x1b" not in ended.stdout
    for told in ended.stdout.splitlines():
        assert len(told) <= 80, told
        assert told == told.rstrip(), told


@pytest.mark.parametrize("typed", ["", "list", "doctor", "recipe", "linger --repeat 3"])
def test_other_commands_in_a_pipe(typed: str) -> None:
    ended = faultkit(*typed.split())
    assert (ended.returncode, ended.stderr) == (0, "")
    for told in ended.stdout.splitlines():
        assert "\x1b" not in told
        assert len(told) <= 80, told
        assert told == told.rstrip(), told


@pytest.mark.parametrize("columns", [80, 120])
def test_on_a_terminal_there_is_colour(columns: int) -> None:
    status, told = on_terminal("linger", columns=columns)
    assert status == 0
    assert "\x1b[1;32m✔ Produced as promised.\x1b[0m" in told
    assert re.search("\x1b\\[1;31m.*RST,ACK", told)
    plain = re.sub("\x1b\\[[0-9;]*m", "", told)
    assert "\x1b" not in plain
    longest = max(map(len, plain.splitlines()))
    assert columns - 20 < longest <= columns


def test_columns_of_the_environment() -> None:
    ended = faultkit("linger", env=ENVIRONMENT | {"COLUMNS": "120"})
    assert 100 < max(map(len, ended.stdout.splitlines())) <= 120
    assert on_terminal("list", columns=80, environment={"NO_COLOR": "1"})[1].count("\x1b[3") == 0


@pytest.mark.parametrize("language", [{"LANG": "C"}, {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}])
def test_a_terminal_without_unicode(language: dict[str, str]) -> None:
    for typed in ("linger", "linger --json", "linger --packets", "list", "doctor", "linger --repeat 2"):
        ended = faultkit(*typed.split(), env=ENVIRONMENT | language)
        assert (ended.returncode, ended.stderr) == (0, ""), typed
        if "--json" in typed:
            assert json.loads(ended.stdout)["verdict"]["produced"] is True


# What a run gives

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


def document(ended: subprocess.CompletedProcess[str]) -> dict[str, Any]:
    assert ended.stderr == ""
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
    if "wire" in absent:
        assert told["transcript"]["packets"] == []
        assert "wire" not in {witness for witness, _ in checks}
    if "reasons" in absent:
        assert told["transcript"]["resets"] == []
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
    assert (ended.returncode, ended.stderr) == (0, "")
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
    assert (ended.returncode, ended.stderr) == (0, "")
    assert "20 of 20 as promised" in ended.stdout
    assert "::1" in ended.stdout


def document_of_series(ended: subprocess.CompletedProcess[str]) -> dict[str, Any]:
    assert (ended.returncode, ended.stderr) == (0, "")
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
    assert (ended.returncode, ended.stderr) == (0, "")
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
        for flag in ("--repeat", "--json", "--packets", "--pcap", "--ipv6", "--on", "--quiet"):
            assert flag in shown.stdout


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
