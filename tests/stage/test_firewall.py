"""Recipes in real namespaces, with the real tools. A missing tool fails these tests: nothing is skipped."""

from __future__ import annotations

import os
import socket
import subprocess
from collections.abc import Callable, Iterator
from errno import ECONNRESET, EPIPE, ETIMEDOUT
from pathlib import Path
from typing import Any

import pytest
import trio

from faultkit.errors import Misuse, Unable
from faultkit.stage import firewall, namespace, recipe
from faultkit.stage.firewall import Firewall
from tests.shell import everybodys_directory
from tests.stage.child import in_child

PORT = 7654
# Root plays both parts; an ordinary user has only the own one to play.
USERS = ["root", "nobody"] if os.geteuid() == 0 else [""]
TCP_USER_TIMEOUT = 18

every_recipe = pytest.mark.parametrize("name", recipe.names())
every_tool = pytest.mark.parametrize("tool", recipe.TOOLS)
every_user = pytest.mark.parametrize("user", USERS)
both_families = pytest.mark.parametrize("ipv6", [False, True], ids=["ipv4", "ipv6"])


def rulesets() -> str:
    """All rules of the namespace that the caller is in, as the tools themselves write them, without time stamps."""
    told = []
    for command in ("iptables-save", "ip6tables-save", "nft list ruleset"):
        program, *arguments = command.split()
        path = firewall.find(program)
        assert path, f"{program} is not installed"
        shown = subprocess.run([path, *arguments], capture_output=True, text=True, check=True).stdout
        told += [command, *(line for line in shown.splitlines() if not line.startswith("# "))]
    return "\n".join(told)


@pytest.fixture(autouse=True)
def hosts_rules() -> Iterator[None]:
    """Whatever a test does, the host's own rules stay as they were, to the byte."""
    if os.geteuid():  # an ordinary user may not even read them (nor, by the same capability, change them)
        yield
        return
    before = rulesets()
    yield
    assert rulesets() == before


def prime() -> None:
    """Make iptables' own (empty) tables, as a host in use has them: iptables-save then tells empty from empty."""
    for program in ("iptables", "ip6tables"):
        for chain in ("INPUT", "FORWARD", "OUTPUT"):
            subprocess.run([firewall.find(program) or program, "-P", chain, "ACCEPT"], check=True)
        subprocess.run([firewall.find(program) or program, "-t", "nat", "-P", "POSTROUTING", "ACCEPT"], check=True)


def at_home(ipv6: bool) -> dict[str, str | int]:
    return {"port": PORT, "interface": "lo", "address": "::1" if ipv6 else "127.0.0.1"}


@every_user
@both_families
@every_tool
@every_recipe
def test_what_is_applied_is_what_is_printed_and_lifting_leaves_nothing(
    name: str, tool: recipe.Tool, ipv6: bool, user: str
) -> None:
    def play() -> list[str]:
        wall = Firewall(namespace.enter(), tool, ipv6)
        steps = recipe.load(name).apply(tool, at_home(ipv6))

        async def main() -> list[str]:
            unprimed = await wall.rules()
            await wall.apply(name, 1, {"port": PORT})
            await wall.lift()
            assert await wall.rules() == unprimed

            prime()
            before = rulesets()
            told = []
            for step in range(1, len(steps) + 1):
                seen = rulesets()
                told.append(await wall.apply(name, step, {"port": PORT}))
                assert rulesets() != seen
            assert await wall.rules() != unprimed
            lifted = await wall.lift()
            assert rulesets() == before
            assert await wall.lift() == ""
            assert rulesets() == before
            return [*told, lifted]

        return trio.run(main)

    *applied, lifted = in_child(play, user)
    text = recipe.load(name).text(at_home(ipv6), tool)
    assert applied == ["\n".join(lines) for lines in recipe.load(name).apply(tool, at_home(ipv6))]
    assert sorted(lifted.splitlines()) == sorted(
        line for block in recipe.load(name).undo(tool, at_home(ipv6)) for line in block
    )
    for lines in (*applied, lifted):
        for line in lines.splitlines():
            assert f"\n{line}\n" in text


@every_user
@both_families
@every_tool
@every_recipe
def test_the_printed_undo_undoes_the_printed_apply(name: str, tool: recipe.Tool, ipv6: bool, user: str) -> None:
    """As a person would: every line pasted into a shell, on an interface with a name that a shell takes amiss."""

    def play() -> None:
        namespace.enter()
        prime()
        values: dict[str, str | int] = {**at_home(ipv6), "interface": "e;r'd$x`&"}
        shell = {**os.environ, "PATH": f"{os.environ['PATH']}:/usr/sbin:/sbin"}
        told = [rulesets()]
        for blocks in (recipe.load(name).apply(tool, values), recipe.load(name).undo(tool, values)):
            for line in (line for block in blocks for line in block):
                subprocess.run(["sh", "-c", line], check=True, env=shell)
            told.append(rulesets())
        assert told[0] == told[2] != told[1]

    in_child(play, user)


@every_user
@both_families
@pytest.mark.parametrize("step", [1, 2])
@every_tool
def test_one_step_alone(tool: recipe.Tool, step: int, ipv6: bool, user: str) -> None:
    def play() -> None:
        wall = Firewall(namespace.enter(), tool, ipv6)

        async def main() -> None:
            prime()
            before = rulesets()
            await wall.apply("idle-firewall", step, {"port": PORT})
            await wall.lift()
            assert rulesets() == before

        trio.run(main)

    in_child(play, user)


@every_user
@both_families
def test_the_legacy_iptables(ipv6: bool, user: str) -> None:
    """Where iptables is the legacy one its lock file is root's own, and taken by whoever else changes a firewall."""
    program = "ip6tables" if ipv6 else "iptables"
    legacy = firewall.find(f"{program}-legacy")
    assert legacy, "iptables-legacy is not installed: apt-get install iptables"

    def play(place: Path) -> list[str]:
        os.environ["PATH"] = f"{place}:{os.environ['PATH']}"
        wall = Firewall(namespace.enter(), "iptables", ipv6)

        async def main() -> list[str]:
            told = [await wall.rules()]
            for name in recipe.names():
                await wall.apply(name, 1, {"port": PORT})
            told.append(await wall.rules())
            await wall.lift()
            return [*told, await wall.rules(), firewall.find(program) or ""]

        return trio.run(main)

    with everybodys_directory() as place:
        (place / program).symlink_to(Path(legacy).resolve())
        before, during, after, path = in_child(lambda: play(place), user)
    assert path == str(place / program)
    assert before == after != during
    assert during.count("\n-A ") == len(recipe.names())


@every_user
def test_two_recipes_share_the_nft_table(user: str) -> None:
    def play() -> str:
        wall = Firewall(namespace.enter(), "nft", False)

        async def main() -> str:
            await wall.apply("syn-drop", 1, {"port": PORT})
            await wall.apply("syn-drop", 1, {"port": PORT + 1})
            await wall.apply("reject-with-reset", 1, {"port": PORT})
            assert await wall.lift() == "nft delete table inet faultkit"
            return await wall.rules()

        return trio.run(main)

    assert in_child(play, user) == ""


def refusal(wall: Firewall, monkeypatch: pytest.MonkeyPatch) -> str:
    """The sentence with which it refuses, if it does so before it starts any program."""

    async def started(*_: object, **__: object) -> None:
        raise AssertionError("a command was started")

    async def main() -> str:
        with pytest.raises(Unable):
            await wall.rules()
        with pytest.raises(Unable) as caught:
            await wall.apply("syn-drop", 1, {"port": PORT})
        return str(caught.value)

    monkeypatch.setattr(trio, "run_process", started)
    return trio.run(main)


@every_tool
def test_it_refuses_outside_its_own_namespace(tool: recipe.Tool, monkeypatch: pytest.MonkeyPatch) -> None:
    host = Path("/proc/self/ns/net").stat().st_ino
    # Not entered at all; entered according to a liar; one that another process entered.
    for inode, outer in ((host, host), (host + 1, host), (1, 2)):
        wall = Firewall(namespace.Namespace(inode, outer, user=False), tool, False)
        sentence = refusal(wall, monkeypatch)
        assert sentence == (
            "no firewall rule was changed, because this process is not inside a network namespace of its own "
            f"(expected {inode}, is in {host}): run it in a child process that has entered one"
        )


def test_it_refuses_where_the_first_process_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A namespace that says it came from elsewhere, but is that of process 1: the host's, whatever it says."""

    def play() -> str:
        room = namespace.enter()
        for process in ("self/task/1", "1"):
            (tmp_path / process / "ns").mkdir(parents=True)
            (tmp_path / process / "ns/net").symlink_to("/proc/self/ns/net")
        monkeypatch.setattr(firewall, "_PROC", tmp_path)
        return refusal(Firewall(room, "nft", False), monkeypatch)

    assert "not inside a network namespace of its own" in in_child(play)


def test_it_refuses_once_one_thread_is_elsewhere(monkeypatch: pytest.MonkeyPatch) -> None:
    """trio starts commands from worker threads: one that has another namespace must not get to start any."""

    def play() -> str:
        room = namespace.enter()

        async def main() -> None:
            await trio.to_thread.run_sync(lambda: namespace.unshare(namespace.CLONE_NEWNET))

        trio.run(main)
        return refusal(Firewall(room, "nft", False), monkeypatch)

    assert "not inside a network namespace of its own" in in_child(play)


def test_a_command_that_fails() -> None:
    def play() -> list[str]:
        wall = Firewall(namespace.enter(), "nft", False)

        async def main() -> list[str]:
            told = []
            await wall.apply("syn-drop", 1, {"port": PORT})
            with pytest.raises(Misuse) as misuse:
                await wall.apply("syn-drop", 1, {"port": PORT})
            told.append(str(misuse.value))
            with pytest.raises(Misuse) as misuse:
                await wall.apply("syn-drop", 2, {"port": PORT})
            told.append(str(misuse.value))
            await wall._run("nft delete table inet faultkit")  # somebody else was quicker
            with pytest.raises(Unable) as unable:
                await wall.lift()
            told.append(str(unable.value))
            await wall.lift()
            return told

        return trio.run(main)

    twice, beyond, failed = in_child(play)
    assert twice == "step 1 of recipe syn-drop is applied already: lift it first"
    assert beyond == "recipe syn-drop has no step 2: it has 1, the first is 1"
    assert failed.startswith("`nft delete table inet faultkit` ended with exit status 1 in our own namespace: ")
    assert "\n" not in failed and "No such file" in failed


def test_a_program_that_cannot_be_started(tmp_path: Path) -> None:
    (tmp_path / "nft").write_bytes(b"\x7fELF, but not really")
    (tmp_path / "nft").chmod(0o755)
    (tmp_path / "iptables").write_text("#!/bin/sh\nexec sleep 60\n")
    (tmp_path / "iptables").chmod(0o755)

    def play() -> list[str]:
        os.environ["PATH"] = f"{tmp_path}:{os.environ['PATH']}"
        firewall._PATIENCE = 0.2
        room = namespace.enter()

        async def main() -> list[str]:
            told = []
            for tool in recipe.TOOLS:
                with pytest.raises(Unable) as caught:
                    await Firewall(room, tool, False).apply("syn-drop", 1, {"port": PORT})
                told.append(str(caught.value))
            return told

        return trio.run(main)

    slow, broken = in_child(play)
    assert slow.endswith("--syn -j DROP` did not end within 0.2 s in our own namespace")
    assert broken == "`nft add table inet faultkit` could not be started: Exec format error"


def test_cancelled_in_the_middle() -> None:
    """Ctrl-C between or within commands: what was put in is known, and taken out."""

    def play() -> None:
        wall = Firewall(namespace.enter(), "iptables", False)

        async def main() -> None:
            prime()
            before = rulesets()
            with trio.CancelScope() as scope:
                scope.cancel()
                try:
                    await wall.apply("idle-firewall", 1, {"port": PORT})
                    assert rulesets() != before
                    await trio.lowlevel.checkpoint()
                finally:
                    await wall.lift()
            assert scope.cancelled_caught
            assert rulesets() == before

        trio.run(main)

    in_child(play)


def test_finding_the_tools(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    for program in ("iptables", "ip6tables", "nft"):
        assert firewall.find(program), f"{program} is not installed"
    assert firewall.find("no-such-program") is None
    assert firewall.choose() == "iptables"
    assert firewall.choose("nft", ipv6=True) == "nft"
    monkeypatch.setattr(firewall, "find", lambda tool: "/sbin/nft" if tool == "nft" else None)
    assert firewall.choose("auto") == "nft"
    with pytest.raises(Unable, match=r"^ip6tables is not installed: apt-get install iptables$"):
        firewall.choose("iptables", ipv6=True)
    monkeypatch.setattr(firewall, "find", lambda tool: None)
    with pytest.raises(Unable, match=r"^iptables or nft is not installed: apt-get install iptables$"):
        firewall.choose()


def told(call: Callable[..., Any], *arguments: object) -> object:
    """What a call gave, or its errno."""
    try:
        gave = call(*arguments)
    except TimeoutError as error:
        return error.errno or "still waiting"  # Python's own time-out has no errno
    except OSError as error:
        return error.errno
    return gave.decode() if isinstance(gave, bytes) else gave


def connected(server: socket.socket) -> socket.socket:
    client = socket.socket(server.family)
    client.settimeout(2)
    client.connect(server.getsockname())
    return client


def pair(ipv6: bool) -> tuple[socket.socket, socket.socket, socket.socket]:
    family = socket.AF_INET6 if ipv6 else socket.AF_INET
    server = socket.create_server((str(at_home(ipv6)["address"]), PORT), family=family)
    client = connected(server)
    accepted, _ = server.accept()
    accepted.settimeout(2)
    return server, client, accepted


@every_user
@both_families
@every_tool
def test_what_to_expect_of_reject_with_reset(tool: recipe.Tool, ipv6: bool, user: str) -> None:
    def play() -> dict[str, list[object]]:
        wall = Firewall(namespace.enter(), tool, ipv6)

        async def main() -> dict[str, list[object]]:
            seen: dict[str, list[object]] = {}
            server, client, accepted = pair(ipv6)
            await wall.apply("reject-with-reset", 1, {"port": PORT})
            seen["client"] = [
                told(client.send, b"x"),
                told(client.recv, 1),
                told(client.recv, 1),
                told(client.send, b"x"),
            ]
            seen["server"] = [told(accepted.send, b"x"), told(accepted.recv, 1), told(accepted.send, b"x")]
            new = socket.socket(server.family)
            new.settimeout(2)
            server.settimeout(0.2)
            # The RST meets connect() or, if that is quicker, the call after it.
            seen["new"] = [told(new.connect, server.getsockname()) or told(new.recv, 1), told(server.accept)]
            await wall.lift()
            server.close()
            server, client, accepted = pair(ipv6)
            await wall.apply("reject-with-reset", 1, {"port": PORT})
            told(accepted.send, b"y")
            with trio.move_on_after(0.3):  # the client's acknowledgement is rejected at once or delayed by 40 ms
                await trio.sleep_forever()
            seen["receiver"] = [told(client.recv, 1), told(client.recv, 1)]
            return seen

        return trio.run(main)

    seen = in_child(play, user)
    assert seen["client"] == [1, ECONNRESET, "", EPIPE]
    assert seen["server"] == [1, ECONNRESET, EPIPE]
    assert seen["new"] == [ECONNRESET, "still waiting"]
    assert seen["receiver"] == ["y", ECONNRESET]


@both_families
@every_tool
def test_what_to_expect_of_syn_drop(tool: recipe.Tool, ipv6: bool) -> None:
    def play() -> list[object]:
        wall = Firewall(namespace.enter(), tool, ipv6)

        async def main() -> list[object]:
            server, client, accepted = pair(ipv6)
            await wall.apply("syn-drop", 1, {"port": PORT})
            seen: list[object] = [told(client.send, b"x"), told(accepted.recv, 1)]  # established ones live on
            hasty, patient = socket.socket(server.family), socket.socket(server.family)
            hasty.setsockopt(socket.IPPROTO_TCP, TCP_USER_TIMEOUT, 100)
            for end in (hasty, patient):
                end.setblocking(False)
                end.connect_ex(server.getsockname())
            with trio.fail_after(5):  # the SYN's timer runs out each second
                for end in (hasty, patient):
                    await trio.lowlevel.wait_writable(end)
                    seen.append(end.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR))
                    await wall.lift()
            return seen

        return trio.run(main)

    assert in_child(play) == [1, "x", ETIMEDOUT, 0]
