"""What docs/debugging.md is tried against: `python -m tests.guide` plays one case in a network namespace of its own.

It reads a job as JSON: the case in the guide's own words, the commands, and what they must show. It gives what they showed.
"""

from __future__ import annotations

import contextlib
import json
import os
import queue
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeAlias

import trio

from faultkit import sockets
from faultkit.errors import Unable
from faultkit.evidence.transcript import Address
from faultkit.stage import forge, namespace, sysctl, tracing
from faultkit.witness import tap

HOST, HOST6, PORT = "192.0.2.10", "2001:db8::10", 443  # the guide's own, there for examples (RFC 5737, RFC 3849)
REQUEST = b"GET / HTTP/1.1\r\nHost: guide.test\r\n\r\n"
ANSWER = b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nok\n"
PAUSE = 1  # seconds, in which the server's idle timeout of half a second runs out
PATIENCE = 30  # seconds; arbitrary: what has not shown itself by then will not
# What a command says when it sees everything from now on: tcpdump, and the guide's own words.
WATCHING = re.compile("listening on any|now let it happen")

Client: TypeAlias = Callable[[contextlib.ExitStack], None]  # what it opens stays open until the commands have ended


def until(reached: Callable[[], bool]) -> None:
    """Wait for a state of the kernel's that it announces to nobody."""
    deadline = time.monotonic() + PATIENCE
    while not reached():
        assert time.monotonic() < deadline
        time.sleep(0.005)


def connected(stack: contextlib.ExitStack) -> socket.socket:
    client = stack.enter_context(socket.create_connection((HOST, PORT)))
    client.settimeout(PATIENCE)
    return client


def exchange(client: socket.socket) -> None:
    client.sendall(REQUEST)
    assert client.recv(65536).startswith(b"HTTP/1.1 200")


# The clients, by the guide's words


def a_request(stack: contextlib.ExitStack, host: str = HOST) -> None:
    subprocess.run(["curl", "-sS", "-m", "10", "-o", "/dev/null", f"http://{host}:{PORT}/"], capture_output=True)


def a_request_over_ipv6(stack: contextlib.ExitStack) -> None:
    a_request(stack, f"[{HOST6}]")


def a_request_and_one_after_a_pause(stack: contextlib.ExitStack) -> None:
    client = connected(stack)
    exchange(client)
    time.sleep(PAUSE)
    with contextlib.suppress(ConnectionResetError):
        client.sendall(REQUEST)
        client.recv(65536)


def a_request_and_one_too_late(stack: contextlib.ExitStack) -> None:
    client = connected(stack)
    exchange(client)
    until(lambda: sockets.state(client) == "CLOSE-WAIT")
    client.sendall(REQUEST)
    client.recv(65536)


def a_request_that_waits(stack: contextlib.ExitStack) -> None:
    """curl's own, as it is without any option."""
    waiting = stack.enter_context(subprocess.Popen(["curl", "-s", f"http://{HOST}:{PORT}/"], stdout=subprocess.DEVNULL))
    stack.callback(waiting.kill)
    command = ["ss", "-tnHo", "state", "established", f"dport = :{PORT}"]
    until(lambda: b"keepalive" in subprocess.run(command, capture_output=True, check=True).stdout)


def one_without_keepalive(stack: contextlib.ExitStack) -> None:
    client = connected(stack)
    client.sendall(REQUEST)
    until(lambda: not sockets.clock(client).unacknowledged)


def a_request_into_silence(stack: contextlib.ExitStack) -> None:
    client = connected(stack)
    exchange(client)
    time.sleep(PAUSE)
    client.sendall(REQUEST)
    until(lambda: sockets.clock(client).retransmits > 1)


def an_upload(stack: contextlib.ExitStack) -> None:
    client = stack.enter_context(socket.socket())
    # Segments as long as Ethernet's: one of loopback's may be longer than what is left of the window.
    client.setsockopt(socket.IPPROTO_TCP, socket.TCP_MAXSEG, 1400)
    client.connect((HOST, PORT))
    client.setblocking(False)
    client.send(REQUEST)

    def stuck() -> bool:
        with contextlib.suppress(BlockingIOError):
            while True:  # a full buffer of ours is not yet a full window of the server's
                client.send(bytes(65536))
        return "TCPWinProbe" in moved()

    until(stuck)


def one_that_does_not_look(stack: contextlib.ExitStack) -> None:
    client = connected(stack)
    client.sendall(REQUEST)
    until(lambda: sockets.state(client) == "CLOSE-WAIT")


def one_more(stack: contextlib.ExitStack) -> None:
    client = stack.enter_context(socket.socket())
    client.setblocking(False)
    client.connect_ex((HOST, PORT))
    until(lambda: "ListenOverflows" in moved())


def moved() -> set[str]:
    """The names of the extended TCP counters that have moved in this namespace."""
    names, values = (line.split() for line in Path("/proc/net/netstat").read_text().splitlines()[:2])
    return {name for name, value in zip(names, values, strict=True) if value != "0"}


CLIENTS: dict[str, Client] = {
    "a request": a_request,
    "a request over IPv6": a_request_over_ipv6,
    "a request and one after a pause": a_request_and_one_after_a_pause,
    "a request and one too late": a_request_and_one_too_late,
    "a request that waits": a_request_that_waits,
    "one without keepalive": one_without_keepalive,
    "a request into silence": a_request_into_silence,
    "an upload": an_upload,
    "one that does not look": one_that_does_not_look,
    "one more": one_more,
}


# What cannot be served, because it stands in between


@contextlib.contextmanager
def served(*arguments: str, ipv6: bool = False) -> Iterator[None]:
    """`faultkit serve`, on the guide's address."""
    host = HOST6 if ipv6 else HOST
    command = [sys.executable, "-m", "faultkit", "serve", *arguments, "--host", host, "--port", str(PORT)]
    server = subprocess.Popen(
        [*command, "--beyond-loopback"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert server.stdout
    assert "listening on" in server.stdout.readline()
    try:
        yield
    finally:
        server.send_signal(signal.SIGINT)
        _, complaint = server.communicate(timeout=PATIENCE)
    # No client came, as far as it could see: what stands in between turned it away.
    assert (server.returncode, complaint) in ((0, ""), (1, "faultkit: serve: no client came\n"))


def forged_reset(own: namespace.Namespace) -> Client:
    """Somebody in between who resets the client in the server's name."""

    def client(stack: contextlib.ExitStack) -> None:
        async def play() -> None:
            listening = tap.Tap()
            forger = forge.Forger(own, socket.AF_INET)
            near = connected(stack)
            exchange(near)
            server, here = Address(HOST, PORT), Address(*near.getsockname())
            number = listening.next_seq(server, here)
            forger.send(forge.Forgery(server, here, ("RST",), number, window=0, ttl=47, ip_id=4660))
            with contextlib.suppress(ConnectionResetError):
                near.recv(1)
            forger.close()
            listening.close()

        trio.run(play)

    return client


def forgetful_firewall(own: namespace.Namespace) -> None:
    """It forgets after 2 s of silence, and drops what it does not know."""
    kernel = sysctl.Sysctls(own)
    run("iptables", "-I", "INPUT", "-p", "tcp", "-m", "conntrack", "--ctstate", "INVALID", "-j", "DROP")
    kernel.set("netfilter.nf_conntrack_tcp_loose", 0)
    kernel.set("netfilter.nf_conntrack_tcp_timeout_established", 2)


def slow_server() -> socket.socket:
    """It takes 4 s for an answer."""
    listener = socket.create_server((HOST, PORT))

    def answer() -> None:
        with contextlib.suppress(OSError):  # the listener is closed when the commands have ended
            while True:
                connection, _ = listener.accept()
                connection.recv(65536)
                time.sleep(4)  # the work
                connection.sendall(ANSWER)

    threading.Thread(target=answer, daemon=True).start()
    return listener


def run(*argv: str) -> None:
    subprocess.run(argv, check=True, capture_output=True, env=os.environ | {"XTABLES_LOCKFILE": "/proc/self/ns/net"})


@contextlib.contextmanager
def staged(case: str, own: namespace.Namespace) -> Iterator[Client]:
    """The case, with what its client does."""
    known = re.fullmatch(r"`([^`]+)`(?:, (.+))?", case)
    if known:
        with served(*known[1].split(), ipv6="IPv6" in case):
            yield CLIENTS[known[2]] if known[2] else lambda stack: None
    elif case == "a forged RST":
        with served("ok", "--http"):
            yield forged_reset(own)
    elif case == "a firewall that rejects":
        run("iptables", "-I", "INPUT", "-p", "tcp", "--dport", str(PORT), "-j", "REJECT", "--reject-with", "tcp-reset")
        with served("ok", "--http"):
            yield a_request
    elif case == "a slow answer through a NAT":
        forgetful_firewall(own)
        with slow_server():
            yield lambda stack: None
    else:
        assert not case, case
        yield lambda stack: None


def shown(script: str, wanted: list[str], act: Client) -> tuple[str, int]:
    """What the commands print, and how many of the wanted lines were there, in order.

    The client acts once the commands watch, or before them where they only look. tcpdump is ended by Ctrl-C when all that is
    wanted was seen; the others end by themselves.
    """
    watches = "tcpdump" in script or "now let it happen" in script
    with contextlib.ExitStack() as stack:
        if not watches:
            act(stack)
        shell = subprocess.Popen(
            ["bash", "-c", script],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            stdin=subprocess.DEVNULL,
            text=True,
            start_new_session=True,
        )
        lines: queue.Queue[str | None] = queue.Queue()
        assert shell.stdout

        def read() -> None:
            assert shell.stdout
            for line in shell.stdout:
                lines.put(line)
            lines.put(None)

        threading.Thread(target=read, daemon=True).start()
        told, met = "", 0
        deadline = time.monotonic() + PATIENCE
        try:
            while (line := lines.get(timeout=max(0, deadline - time.monotonic()))) is not None:
                told += line
                if watches and WATCHING.search(line):
                    act(stack)
                if met < len(wanted) and re.fullmatch(wanted[met], line.strip()):
                    met += 1
                    if met == len(wanted) and "tcpdump" in script:
                        os.killpg(shell.pid, signal.SIGINT)
        except queue.Empty:
            os.killpg(shell.pid, signal.SIGKILL)
        shell.wait(PATIENCE)
        trace = Path(f"/sys/kernel/tracing/instances/resets-{shell.pid}")
        if "/sys/kernel/tracing" in script and trace.exists():
            trace.rmdir()
            raise AssertionError(f"the commands left {trace} behind: {told}")
    return told, met


def main() -> None:
    job: dict[str, Any] = json.load(sys.stdin)
    own = namespace.enter()
    if "/sys/kernel/tracing" in job["script"]:
        try:
            tracing.ready(own)  # mounts it, if nobody has
        except Unable as error:
            print(json.dumps({"unable": str(error)}))
            return
    run("ip", "address", "add", f"{HOST}/32", "dev", "lo")
    run("ip", "address", "add", f"{HOST6}/128", "dev", "lo", "nodad")
    with staged(job["case"], own) as act:
        told, met = shown(job["script"], job["wanted"], act)
    print(json.dumps({"told": told, "met": met}))


if __name__ == "__main__":
    main()
