"""Recipes applied inside a network namespace that we made, and nowhere else.

The host's firewall is never touched: before every command it is checked, in code, that this process is inside the
namespace it made. The rules die with the namespace, so that even kill -9 leaves nothing behind.
"""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any, Literal

import trio

from faultkit.errors import Misuse, Unable, starting
from faultkit.evidence import icmp
from faultkit.stage import recipe
from faultkit.stage.namespace import Namespace

# What a rule can refuse with (REJECT), in the order of the steps of recipes/reject.md.
REFUSALS = ("tcp-reset", *icmp.ANSWERS)

# An ordinary user's PATH lacks these on Debian.
_SYSTEM_DIRECTORIES = ("/usr/local/sbin", "/usr/sbin", "/sbin")

# Arbitrary: a command takes milliseconds, and Ctrl-C must not hang on one that does not end.
_PATIENCE = 10.0

_PROC = Path("/proc")


def find(tool: str) -> str | None:
    """Where that program is, also in the directories that an ordinary user's PATH lacks, and beside this Python."""
    own = os.path.dirname(sys.executable)  # a venv's programs, where it was not activated
    return shutil.which(tool, path=os.pathsep.join((os.environ.get("PATH", os.defpath), *_SYSTEM_DIRECTORIES, own)))


def choose(wanted: Literal["auto", "iptables", "nft"] = "auto", *, ipv6: bool = False) -> recipe.Tool:
    """The firewall tool to use: the wanted one, or the first there is. `Unable` where it is not installed.

    Installed is not yet usable: `Firewall.rules` raises `Unable` where this kernel or namespace refuses the tool.
    """
    candidates: tuple[recipe.Tool, ...] = recipe.TOOLS if wanted == "auto" else (wanted,)
    for tool in candidates:
        if find(_program(tool, ipv6)):
            return tool
    raise Unable(_missing(" or ".join(_program(tool, ipv6) for tool in candidates), candidates[0]))


class Firewall:
    """Puts recipes' rules into our own namespace, and takes them out again.

    Inside the stage the interface is lo and the address 127.0.0.1 or ::1, unless the caller names others. nft's rules are
    lifted by deleting their table: who shares the namespace has one of their own. `alone` is for a trio.run() with nothing
    else to do: no other task goes on while a command runs, and no thread of trio's is left.
    """

    def __init__(
        self,
        namespace: Namespace,
        tool: recipe.Tool,
        ipv6: bool,
        table: str = recipe.TABLE,
        alone: bool = False,
    ) -> None:
        self._namespace = namespace
        self._tool: recipe.Tool = tool
        self._ipv6 = ipv6
        self._table = table
        self._alone = alone
        self._applied: set[tuple[str, ...]] = set()
        self._undo: list[str] = []
        self._nat = False  # iptables' nat table was used

    async def apply(self, recipe_name: str, step: int, values: recipe.Values) -> str:
        """Apply one step of a recipe (the first is 1); the command lines come back as text, for the transcript."""
        chosen = recipe.load(recipe_name)
        address = "::1" if self._ipv6 else "127.0.0.1"
        everything = {"interface": "lo", "address": address, "table": self._table, **values}
        steps = chosen.apply(self._tool, everything)
        if not 1 <= step <= len(steps):
            raise Misuse(f"recipe {recipe_name} has no step {step}: it has {len(steps)}, the first is 1")
        lines = steps[step - 1]
        if lines in self._applied:
            raise Misuse(f"step {step} of recipe {recipe_name} is applied already: lift it first")
        with trio.CancelScope(shield=True):  # a rule half put in could not be taken out
            for line in lines:
                await self._run(line)
                self._nat |= " -t nat " in line
                # From the first line on: nft makes its table there.
                self._applied.add(lines)
                undone = chosen.undo_of(step, self._tool, everything)
                # The last step is undone first, so that half undone is half applied and nothing else.
                self._undo[:0] = [line for line in undone if line not in self._undo]
        return "\n".join(lines)

    async def lift(self) -> str:
        """Undo what was applied, and only that; nothing where nothing was. The command lines come back as text."""
        lines, self._undo = self._undo, []
        self._applied.clear()
        failures: list[Unable] = []
        with trio.CancelScope(shield=True):
            for line in lines:
                try:
                    await self._run(line)
                except Unable as error:
                    failures.append(error)
        if failures:
            raise failures[0]
        return "\n".join(lines)

    async def rules(self) -> str:
        """Every rule of the namespace, in words that time does not change: equal before and after, or something leaked.

        Of iptables the filter table, and the rules of the nat table once one was put in, the only ones that recipes use:
        `-S` says the same of a table that is empty and of one that was never made, iptables-save does not.
        """
        if self._tool == "nft":
            return await self._run("nft list ruleset")
        program = _program(self._tool, self._ipv6)
        rules = await self._run(f"{program} -S")
        if self._nat:
            nat = await self._run(f"{program} -t nat -S")
            rules += "".join(line for line in nat.splitlines(keepends=True) if line.startswith("-A "))
        return rules

    async def _run(self, line: str) -> str:
        _check_inside(self._namespace)
        program, *arguments = shlex.split(line)
        if self._tool == "iptables":
            arguments.insert(0, "-w")  # the legacy one would give up where another holds the lock
        path = find(program)
        if path is None:
            raise Unable(_missing(program, self._tool))
        environment = {
            **os.environ,
            "LC_ALL": "C",
            # iptables-legacy locks /run/xtables.lock, which only the host's root may open, and which would make every
            # namespace compete with every other. The namespace's own file can be locked too, by whoever is inside.
            "XTABLES_LOCKFILE": "/proc/self/ns/net",
        }
        command = [path, *arguments]
        options: dict[str, Any] = {"stdin": subprocess.DEVNULL, "check": False, "env": environment}
        try:
            with starting():
                ended = await self._ended(command, options)
        except (trio.TooSlowError, subprocess.TimeoutExpired):
            raise Unable(f"`{line}` did not end within {_PATIENCE:g} s in our own namespace") from None
        except OSError as error:
            raise Unable(f"`{line}` could not be started: {error.strerror}") from error
        if ended.returncode:
            said = ended.stderr.decode(errors="replace").strip().splitlines() or ["no message"]
            raise Unable(f"`{line}` ended with exit status {ended.returncode} in our own namespace: {said[0]}")
        return str(ended.stdout.decode(errors="replace"))

    async def _ended(self, command: list[str], options: dict[str, Any]) -> subprocess.CompletedProcess[bytes]:
        if self._alone:
            return subprocess.run(command, capture_output=True, timeout=_PATIENCE, **options)  # noqa: ASYNC221
        with trio.fail_after(_PATIENCE):
            return await trio.run_process(command, capture_stdout=True, capture_stderr=True, **options)


def _program(tool: recipe.Tool, ipv6: bool) -> str:
    return "ip6tables" if tool == "iptables" and ipv6 else tool


def _missing(program: str, tool: recipe.Tool) -> str:
    package = "nftables" if tool == "nft" else "iptables"
    return f"{program} is not installed: apt-get install {package}"


def _check_inside(namespace: Namespace) -> None:
    # Every thread, because trio starts commands from worker threads, and a thread may have a namespace of its own.
    inside = {_inode(f"self/task/{thread.name}") for thread in (_PROC / "self/task").iterdir()} - {None}
    first = None if os.getpid() == 1 else _inode("1")  # as a container's first process we are the one that moved
    if inside != {namespace.inode} or namespace.inode in (namespace.outer, first):
        raise Unable(
            "no firewall rule was changed, because this process is not inside a network namespace of its own "
            f"(expected {namespace.inode}, is in {', '.join(str(inode) for inode in inside)}): "
            "run it in a child process that has entered one"
        )


def _inode(process: str) -> int | None:
    # None: it has ended, or we may not look.
    try:
        return (_PROC / process / "ns/net").stat().st_ino
    except OSError:
        return None
