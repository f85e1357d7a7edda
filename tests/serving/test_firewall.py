"""The firewall of a sandbox, with the real tools: what is dropped hangs, what is rejected is refused, what is lifted works."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import json
import os
import select
import socket
import subprocess
import threading
from collections.abc import Awaitable, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import trio

from faultkit.errors import Misuse, Unable
from faultkit.serving import firewall
from faultkit.stage import firewall as stage
from faultkit.stage import namespace, recipe, sandbox
from tests.boxes import PYTHON, every_user
from tests.shell import ENVIRONMENT, USERS, everybodys_directory, faultkit
from tests.stage.child import in_child
from tests.stage.test_firewall import hosts_rules as hosts_rules
from tests.stage.test_firewall import prime, rulesets

BOTH = ("127.0.0.1", "::1")
SOON = 10  # seconds, for what the kernel does at its next retransmission

every_tool = pytest.mark.parametrize("tool", recipe.TOOLS)


def inside(scene: Callable[..., Any], *arguments: Any, user: str, env: dict[str, str] = ENVIRONMENT) -> Any:
    """What that function of this module gives in a sandbox."""
    program = f"import json; from tests.serving import test_firewall as t; print(json.dumps(t.{scene.__name__}(*{arguments!r})))"
    ended = faultkit("sandbox", "--", *PYTHON, program, user=user, env=env)
    assert (ended.returncode, ended.stderr) == (0, "")
    return json.loads(ended.stdout)


@contextlib.contextmanager
def server() -> Iterator[int]:
    """The port of a server on every address, that leaves its connections to the kernel."""
    with socket.create_server(("::", 0), family=socket.AF_INET6, dualstack_ipv6=True) as listener:
        yield listener.getsockname()[1]


def begun(host: str, port: int) -> socket.socket:
    """A connection that is asked for."""
    client = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET)
    client.setblocking(False)
    client.connect_ex((host, port))
    return client


def outcome(client: socket.socket, seconds: float = SOON) -> str:
    """What becomes of it in that time."""
    if not select.select([], [client], [], seconds)[1]:
        return "hangs"
    number = client.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
    return errno.errorcode[number] if number else "ok"


def connect(port: int, *hosts: str) -> list[str]:
    """What connect() gives at each address; "hangs" where it gave nothing for a while."""
    told = []
    for host in hosts or BOTH:
        with begun(host, port) as client:
            told.append(outcome(client, 0.2))
    return told


def rules() -> list[str]:
    """All of the namespace; the chains' own lines count packets."""
    return [line for line in rulesets().splitlines() if not line.startswith(":")]


def drops(tool: Any) -> None:
    with server() as port, server() as other:
        prime()
        before = rules()
        with firewall.open_firewall(tool) as wall:
            wall.drop(port)
            clients = [begun(host, port) for host in BOTH]
            assert [outcome(client, 0.2) for client in clients] == ["hangs", "hangs"]
            assert connect(other) == ["ok", "ok"]
            wall.lift()
            assert rules() == before
            assert [outcome(client) for client in clients] == ["ok", "ok"]  # at the next SYN
            wall.drop(port)
            assert connect(port) == ["hangs", "hangs"]
        assert rules() == before
        for client in clients:
            client.close()
    assert threading.active_count() == 1


@every_user
@every_tool
def test_a_dropped_port_hangs_until_it_is_lifted(tool: str, user: str) -> None:
    inside(drops, tool, user=user)


def drops_established(tool: Any) -> None:
    for host in BOTH:
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        with socket.create_server((host, 0), family=family) as listener, firewall.open_firewall(tool) as wall:
            client = socket.create_connection(listener.getsockname()[:2])
            ends = client, listener.accept()[0]
            wall.drop(listener.getsockname()[1])
            for end in ends:
                assert end.send(b"x") == 1
            assert select.select(ends, [], [], 0.2)[0] == []
            wall.lift()
            for end in ends:
                end.settimeout(SOON)
                assert end.recv(1) == b"x"
                end.close()


@every_user
@every_tool
def test_a_dropped_connection_is_silent_in_both_directions(tool: str, user: str) -> None:
    inside(drops_established, tool, user=user)


def rejects(tool: Any) -> None:
    with server() as port, firewall.open_firewall(tool) as wall:
        wall.reject(port)
        assert connect(port) == ["ECONNREFUSED"] * 2
        wall.lift()
        assert connect(port) == ["ok", "ok"]
        wall.reject(port, answer="admin-prohibited")
        clients = [begun(host, port) for host in BOTH]
        assert [outcome(client) for client in clients] == ["EHOSTUNREACH", "EACCES"]
        for client in clients:
            client.close()


@every_user
@every_tool
def test_a_rejected_port_is_refused_until_it_is_lifted(tool: str, user: str) -> None:
    inside(rejects, tool, user=user)


def applies(tool: Any) -> None:
    with server() as port, firewall.open_firewall(tool) as wall:
        client = socket.create_connection(("::1", port))
        wall.apply("syn-drop", port=port)
        assert connect(port) == ["hangs", "hangs"]
        assert client.send(b"x") == 1 and select.select([], [client], [], 0)[1]
        wall.lift()
        wall.apply("idle-firewall", port=port, step=2, address="127.0.0.1")
        assert connect(port) == ["hangs", "ok"]
        wall.lift()
        wall.drop(port, address="127.0.0.9")
        assert connect(port, *BOTH, "127.0.0.9") == ["ok", "ok", "hangs"]
        client.close()


@every_user
@every_tool
def test_any_recipe_at_any_address(tool: str, user: str) -> None:
    inside(applies, tool, user=user)


def in_event_loops() -> None:
    async def dropped() -> list[str]:
        with server() as port, firewall.open_firewall() as wall:
            wall.drop(port)
            return connect(port)

    for run in (asyncio.run, lambda main: trio.run(lambda: main)):
        call: Callable[[Awaitable[list[str]]], list[str]] = run  # type: ignore[assignment]
        assert call(dropped()) == ["hangs", "hangs"]


@every_user
def test_it_works_inside_asyncio_and_trio(user: str) -> None:
    inside(in_event_loops, user=user)


def misuses() -> list[str]:
    told = []
    with server() as port, firewall.open_firewall() as wall:
        calls: list[Callable[[], None]] = [
            lambda: wall.reject(port, answer="politely"),
            lambda: wall.apply("syn-drp", port=port),
            lambda: wall.apply("syn-drop", port=port, step=2),
            lambda: wall.drop(0),
            lambda: wall.drop(port, address="localhost"),
            lambda: [wall.drop(port) for _ in range(2)].clear(),  # type: ignore[func-returns-value]
        ]
        for call in calls:
            with pytest.raises(Misuse) as caught:
                call()
            told.append(str(caught.value))
        assert connect(port) == ["hangs", "hangs"]
        wall.lift()
        assert connect(port) == ["ok", "ok"]
    return told


def test_misuse_is_one_sentence() -> None:
    assert inside(misuses, user="") == [
        "a firewall has no answer 'politely' to reject with: take one of tcp-reset, port-unreachable, host-unreachable, "
        "net-unreachable, admin-prohibited",
        f"there is no recipe 'syn-drp': did you mean syn-drop? (there are {', '.join(recipe.names())})",
        "recipe syn-drop has no step 2: it has 1, the first is 1",
        "port 0 is not a TCP port: give one of 1 to 65535",
        "address 'localhost' is neither IPv4 nor IPv6",
        "step 1 of recipe idle-firewall is applied already: lift it first",
    ]


def rounds(tool: Any) -> None:
    """One of several processes, each with a port of its own."""
    with server() as port, firewall.open_firewall(tool) as wall:
        for _ in range(5):
            wall.reject(port)
            assert connect(port) == ["ECONNREFUSED"] * 2
            wall.lift()
            assert connect(port) == ["ok", "ok"]


def side_by_side(tool: str) -> str:
    program = f"from tests.serving import test_firewall as t; t.rounds({tool!r})"
    running = [subprocess.Popen([*PYTHON, program], stderr=subprocess.PIPE, text=True) for _ in range(4)]
    for process in running:
        assert process.communicate(timeout=60)[1] == ""
    return "\n".join(line for line in rules() if line.startswith(("-A", "table inet")))


@every_user
@every_tool
def test_processes_side_by_side_in_one_sandbox(tool: str, user: str) -> None:
    assert inside(side_by_side, tool, user=user) == ""


def in_threads(tool: Any) -> list[list[list[str]]]:
    with contextlib.ExitStack() as servers, firewall.open_firewall(tool) as wall, ThreadPoolExecutor(4) as pool:
        ports = [servers.enter_context(server()) for _ in range(4)]
        told = []
        for _ in range(3):
            list(pool.map(lambda port: wall.apply("syn-drop", port=port), ports))
            told.append(list(pool.map(connect, ports)))
            list(pool.map(lambda _: wall.lift(), ports))
            told.append(list(pool.map(connect, ports)))
    assert not [line for line in rules() if line.startswith(("-A", "table inet"))]
    return told


@every_user
@every_tool
def test_threads_of_one_test(tool: str, user: str) -> None:
    assert inside(in_threads, tool, user=user) == [[["hangs", "hangs"]] * 4, [["ok", "ok"]] * 4] * 3


@pytest.mark.parametrize("user", USERS)
def test_processes_side_by_side_with_the_legacy_iptables(user: str) -> None:
    """There only one may change anything at a time, and the others must wait."""
    with everybodys_directory() as where:
        for program in ("iptables", "ip6tables"):
            legacy = stage.find(f"{program}-legacy")
            assert legacy, "iptables-legacy is not installed: apt-get install iptables"
            (where / program).symlink_to(Path(legacy).resolve())
        assert (
            inside(side_by_side, "iptables", user=user, env={**ENVIRONMENT, "PATH": f"{where}:{os.environ['PATH']}"})
            == ""
        )


REFUSAL = r"^firewall rules work only inside a private namespace: run the tests with faultkit sandbox -- pytest \.\.\.$"


def test_outside_it_refuses() -> None:
    """Also where the variable says what it says inside. A namespace stands for the host: nothing of it is at risk."""

    def look() -> int:
        namespace.enter()
        prime()
        before, here = rulesets(), os.stat("/proc/self/ns/net").st_ino
        for text in ("", f"{here}:{here}:user", f"{here + 1}:{here}:root", f"{here}:1:root"):
            os.environ[sandbox.VARIABLE] = text
            with pytest.raises(Unable, match=REFUSAL):
                firewall.open_firewall()
        assert rulesets() == before
        return 4

    assert in_child(look) == 4


def leaves() -> str:
    wall = firewall.open_firewall()
    namespace.unshare(namespace.CLONE_NEWNET | (0 if os.geteuid() == 0 else namespace.CLONE_NEWUSER))
    with pytest.raises(Unable, match=REFUSAL):
        firewall.open_firewall()
    with pytest.raises(Unable) as caught:
        wall.drop(7654)
    return str(caught.value)


@every_user
def test_who_left_the_sandbox_has_no_firewall(user: str) -> None:
    assert inside(leaves, user=user).startswith("no firewall rule was changed, because this process is not inside")


def toolless() -> list[str]:
    told = []
    stage.find = lambda tool: None
    tools: list[Any] = ["auto", *recipe.TOOLS]
    for tool in tools:
        with pytest.raises(Unable) as caught:
            firewall.open_firewall(tool)
        told.append(str(caught.value))
    return told


def test_without_the_tools() -> None:
    assert inside(toolless, user="") == [
        "iptables or nft is not installed: apt-get install iptables",
        "iptables is not installed: apt-get install iptables",
        "nft is not installed: apt-get install nftables",
    ]
