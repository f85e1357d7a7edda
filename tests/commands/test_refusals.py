"""What the command refuses: one sentence, an exit status, nothing changed."""

from __future__ import annotations

import os
import re
import socket
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.shell import (
    ROOT,
    USERS,
    everybodys_directory,
    fast,
    faultkit,
    free_port,
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
    "which --saw recv+EBANANA": "--saw 'recv EBANANA' ends in no errno name: did you mean 'recv EAGAIN'?",
    "which --saw recv+ECONRESET": "--saw 'recv ECONRESET' ends in no errno name: did you mean 'recv ECONNRESET'?",
    "which --saw recv+EXYZ": (
        "--saw 'recv EXYZ' ends in no errno name: write it as 'recv ECONNRESET', 'recv EOF' or 'connect ok'"
    ),
    "which --saw recv+ECONNRESET --rst-from nonsense": (
        "X: --rst-from nonsense is no end of a connection: it is one of balancer, client, path, router, server"
    ),
    "recipe syn-drop --port 99999": "port 99999 is not a TCP port: give one of 1 to 65535",
    "recipe syn-drop --as pf": "X: Invalid value for '--as': 'pf' is not one of 'iptables', 'nft' (faultkit X --help)",
}


@pytest.fixture(scope="module")
def refusals() -> Iterator[dict[str, Future[tuple[int, str]]]]:
    """All misuses, two at a time."""
    with ThreadPoolExecutor(2) as pool:
        yield {
            typed: pool.submit(refused, *(word.replace("+", " ") for word in typed.split()), user="nobody")
            for typed in MISUSES
        }


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


@pytest.mark.parametrize(
    ("typed", "sentence"),
    [
        ("firewall-reset", "firewall rules work inside a private namespace only, never on the host's own firewall: "),
        ("injected", "segments are overheard and forged inside a private namespace only: "),
        ("nat-expiry", "further hosts need a private namespace: "),
    ],
)
def test_a_namespace_that_was_refused_is_not_to_be_left_out(typed: str, sentence: str) -> None:
    status, told = refused(typed, denied=True)
    assert status == 3
    assert told.startswith(f"{typed}: ")
    assert "--on host" not in told
    assert told.count("allow user namespaces (sysctl user.max_user_namespaces") == 1


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
