"""`check_cause` passes a user's own cause, and fails one that promises wrongly or leaves anything behind."""

from __future__ import annotations

import gc
import os
import signal
import socket
import subprocess
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import trio

import faultkit
from faultkit import Misuse, NotProduced, Unable, causes, check_cause, sockets
from faultkit.acting.play import Play
from faultkit.cause import Cause, Options
from faultkit.evidence.verdict import Promise, Rst
from faultkit.stage.tracing import Instance
from faultkit.witness.calls import Socket
from tests.shell import ROOT

LINGER = causes.load("linger")


@pytest.fixture(autouse=True)
def this_process_is_as_it_was() -> Iterator[None]:
    def state() -> tuple[int, int, str]:
        gc.collect()
        children = Path(f"/proc/self/task/{os.getpid()}/children").read_text()
        return os.stat("/proc/self/ns/net").st_ino, len(os.listdir("/proc/self/fd")), children

    before = state()
    yield
    assert state() == before


def test_a_cause_of_the_catalogue_by_name_or_itself() -> None:
    for asked in ("linger", LINGER):
        report = check_cause(asked, 5, unsent=10)
        assert (report.cause, report.runs, report.produced) == ("linger", 5, 5)
        assert (report.differences, report.left) == ((), ())
        assert "network namespace" in report.stage
        assert set(report.not_seen) <= ({"reasons"} if not ROOT else set())
    assert check_cause("linger", 2, on="host", ipv6=True).stage == "the host's loopback"


# A user's own cause: half a close, and the client hangs up


async def _half(connection: Socket, play: Play) -> None:
    connection.shutdown(socket.SHUT_WR)
    await connection.recv(10)


async def _hang_up(play: Play) -> None:
    client = play.socket("client")
    await client.connect(await play.cues.serving())
    await client.recv(10)
    client.close()


def _fins(options: Options, play: Play) -> Promise:
    return Promise(
        calls={"client": ("connect ok", "recv EOF", "close ok"), "server": ("accept ok", "shutdown ok", "recv EOF")},
        packets=("client SYN", "server SYN,ACK", "server FIN,ACK", "client FIN,ACK"),
    )


OWN = Cause(
    name="half-close",
    family="application",
    summary="both say goodbye",
    doing=lambda options: "The server says goodbye first.",
    story="No RST at all.",
    promise=_fins,
    script=_hang_up,
    fault=_half,
)


@pytest.mark.parametrize("ipv6", [False, True], ids=["ipv4", "ipv6"])
def test_a_users_own_cause(ipv6: bool) -> None:
    report = check_cause(OWN, 10, ipv6=ipv6)
    assert (report.cause, report.produced, report.left) == ("half-close", 10, ())


def otherwise(cause: Cause, times: int = 2, **options: Any) -> str:
    with pytest.raises(NotProduced) as found:
        check_cause(cause, times, **options)
    return str(found.value)


# Wrong promises


def wrong(**parts: Any) -> Cause:
    return replace(LINGER, promise=lambda options, play: replace(LINGER.promise(options, play), **parts))


def test_a_wrong_call() -> None:
    calls = {"client": ("connect ok", "send 1", "recv EOF"), "server": ("accept ok", "recv 1", "close ok")}
    told = otherwise(wrong(calls=calls))
    assert told.startswith("linger: 0 of 2 as promised on a private ")
    assert (
        "run 2, calls, client: expected connect ok, send 1, recv EOF; "
        "seen connect ok, send 1, recv ECONNRESET, recv EOF, send EPIPE" in told
    )


def test_a_wrong_packet() -> None:
    told = otherwise(wrong(packets=("client SYN", "server SYN,ACK", "client PSH,ACK 1", "server FIN,ACK")))
    assert "run 1, wire, packets: expected" in told


def test_a_wrong_counter() -> None:
    told = otherwise(wrong(counters={"TcpOutRsts": 2, "TcpEstabResets": 2, "TcpExtTCPAbortOnData": 1}))
    assert "run 1, kernel, TcpOutRsts: expected 2; seen 1" in told


def test_a_counter_that_was_not_promised() -> None:
    told = otherwise(wrong(counters={"TcpOutRsts": 1, "TcpEstabResets": 2}))
    assert "run 1, kernel, TcpExtTCPAbortOnData: expected 0; seen 1" in told


def test_a_wrong_form_of_reset() -> None:
    told = otherwise(wrong(resets=(Rst("server", "NO_SOCKET"),)))
    assert "run 1, wire, resets: expected server stack; seen server active" in told


@pytest.mark.skipif(not ROOT, reason="needs root")
def test_a_wrong_reason() -> None:
    if "reasons" in check_cause("linger", 1).not_seen:
        return  # nobody here to contradict it
    # The same form on the wire, so that only the kernel's own word differs.
    told = otherwise(wrong(resets=(Rst("server", "TCP_ABORT_ON_CLOSE"),)))
    assert "run 1, kernel, reset reasons: expected server TCP_ABORT_ON_CLOSE; seen server TCP_STATE" in told
    assert "wire" not in told


def test_a_measurement_that_was_not_made() -> None:
    assert "run 1, clock, expiry: expected measured; seen not measured" in otherwise(wrong(measurements=("expiry",)))


# What a run leaves


def leaving(name: str, act: Any) -> Cause:
    """Linger, and the client does one thing more."""

    async def script(play: Play) -> None:
        await LINGER.script(play)
        await act(play)

    return replace(LINGER, name=name, script=script)


def test_a_leaked_descriptor() -> None:
    async def leak(play: Play) -> None:
        os.dup(play.accepted[0].calls.adopted[0].raw.fileno())

    told = otherwise(leaving("leaks", leak), 3)
    assert told.startswith("leaks: 3 of 3 as promised")
    assert "left behind: descriptors: " in told


def test_a_leaked_child_process() -> None:
    async def leak(play: Play) -> None:
        # It waits for a byte that never comes, and holds nothing of ours open but its own end of a pipe.
        subprocess.Popen(["cat"], stdin=subprocess.PIPE, stdout=subprocess.DEVNULL)  # noqa: ASYNC220

    told = otherwise(leaving("leaks", leak), 1)
    assert "left behind: child processes: " in told


def test_a_process_that_outlives_its_run(tmp_path: Path) -> None:
    """A grandchild is nobody's child, but it keeps the namespace alive."""
    told_pid = tmp_path / "pid"

    async def leak(play: Play) -> None:
        script = f"sleep 1000 </dev/null >/dev/null 2>&1 & echo $! > {told_pid}"
        await trio.run_process(["setsid", "sh", "-c", script])

    try:
        told = otherwise(leaving("leaks", leak), 1, on="namespace")
        assert f"left behind: its network namespace, held by process {told_pid.read_text().strip()}" in told
    finally:
        os.kill(int(told_pid.read_text()), signal.SIGKILL)


@pytest.mark.parametrize("program", ["iptables", "ip6tables", "nft"])
def test_a_leaked_rule(program: str) -> None:
    lines = {
        "iptables": ["iptables -A INPUT -p tcp --dport 9 -j DROP"],
        "ip6tables": ["ip6tables -A INPUT -p tcp --dport 9 -j DROP"],
        "nft": ["nft add table inet faultkit"],
    }[program]

    async def leak(play: Play) -> None:
        from faultkit.stage.firewall import find

        for line in lines:
            command, *rest = line.split()
            env = {**os.environ, "XTABLES_LOCKFILE": "/proc/self/ns/net"}
            await trio.run_process([find(command) or command, *rest], env=env)

    told = otherwise(leaving("leaks", leak), 1)
    assert "left behind: firewall rules: " in told


def test_a_leaked_sysctl() -> None:
    async def leak(play: Play) -> None:
        Path("/proc/sys/net/ipv4/tcp_retries2").write_text("3")  # noqa: ASYNC240

    assert "left behind: tcp sysctls: " in otherwise(leaving("leaks", leak), 1)


@pytest.mark.skipif(not ROOT, reason="needs root")
def test_a_leaked_trace_instance() -> None:
    if "reasons" in check_cause("linger", 1).not_seen:
        return  # none can be made here

    async def leak(play: Play) -> None:
        path = Path(f"/sys/kernel/tracing/instances/faultkit-{os.getpid()}-more")
        instance = Instance(path)
        instance.open()
        # Only as long as the child lives: its guardian takes it away.

    told = otherwise(leaving("leaks", leak), 1)
    assert "left behind: " in told


def test_a_hang() -> None:
    async def wait(play: Play) -> None:
        await trio.sleep_forever()

    hanging = leaving("hangs", wait)
    promised = replace(
        hanging, promise=lambda options, play: replace(LINGER.promise(options, play), seconds=-19.9)
    )  # its limit is 1.5 times that and 30 s: 0.15 s
    told = otherwise(promised, 1)
    assert told.startswith("hangs: 0 of 1 as promised")
    assert "run 1, clock, end: expected within -19.9 s; seen still waiting" in told


def test_a_cause_that_raises() -> None:
    async def fail(play: Play) -> None:
        raise RuntimeError("of its own")

    assert "RuntimeError: of its own" in otherwise(leaving("fails", fail))


def test_a_cause_that_ends_its_process() -> None:
    async def end(play: Play) -> None:
        os._exit(7)

    assert otherwise(leaving("ends", end)) == "the child process ended without a word"


# Refusals


def test_misuse() -> None:
    with pytest.raises(Misuse, match="linger: 0 runs prove nothing: take 1 or more"):
        check_cause("linger", 0)
    with pytest.raises(Misuse, match="linger: --unsent -1 is out of range"):
        check_cause("linger", unsent=-1)
    with pytest.raises(Misuse, match="did you mean linger"):
        check_cause("lingr")


def test_what_this_machine_cannot() -> None:
    with pytest.raises(Unable, match="iptables works inside a private namespace only"):
        check_cause("idle-firewall", 1, on="host", drop_with="iptables")

    async def refuse(play: Play) -> None:
        raise Unable("not on a Tuesday")

    with pytest.raises(Unable, match="not on a Tuesday"):
        check_cause(leaving("refuses", refuse), 1)


def test_the_public_names() -> None:
    assert {"check_cause", "NotProduced", "Misuse", "Unable"} <= set(faultkit.__all__)
    with pytest.raises(AttributeError, match="has no attribute 'nonsense'"):
        _ = faultkit.nonsense
    assert sockets.DEAF == 255
