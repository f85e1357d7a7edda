"""The conformance check that every cause passes, ours or a user's own."""

from __future__ import annotations

import os
import pickle
import traceback
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from faultkit import causes
from faultkit.cause import Cause, checked
from faultkit.errors import Exhausted, Misuse, Unable, starting
from faultkit.evidence.hidden import Compared, compared
from faultkit.playing.run import Outcome, repeat
from faultkit.stage import Where, open_stage, tracing
from faultkit.stage.namespace import Namespace
from faultkit.stage.recipe import Tool
from faultkit.witness import watching


class NotProduced(AssertionError):
    """A cause was not produced as promised, or left something behind: expected and seen, run by run."""


@dataclass(frozen=True, slots=True)
class Report:
    """What `check_cause` found. `left` names what a run left behind; nothing may be.

    `attributed` has of each run who sent its RSTs by the evidence without the kernel's reasons, and by them where they
    were seen. It is for a check of the attribution, not of the cause.
    """

    cause: str
    stage: str
    runs: int
    produced: int
    differences: tuple[str, ...]
    left: tuple[str, ...]
    not_seen: dict[str, str]  # witness -> why it was not allowed to look, or, in some run, did not see all
    attributed: tuple[Compared, ...]


def check_cause(
    cause: Cause | str, times: int = 20, *, ipv6: bool = False, on: Where | None = None, **options: Any
) -> Report:
    """Play the cause `times` times in a child process and hold every run against its promise.

    Checked are the calls with their errnos, the packets, the counters, the reset reasons where they are readable, and
    that no descriptor, task, process, firewall rule, sysctl, namespace or trace instance is left. `options` are the
    cause's own, in Python's units (seconds).

    Raises `NotProduced` where any of it differs, `Misuse` for options that cannot be, `Unable` where this machine cannot
    play it. In the report, a witness that was not allowed to look is named, never counted as having agreed.
    """
    chosen = causes.load(cause) if isinstance(cause, str) else cause
    checked(chosen, options)
    if times < 1:
        raise Misuse(f"{chosen.name}: {times} runs prove nothing: take 1 or more")
    report, left = _in_child(lambda: _play(chosen, times, ipv6, on, options))
    left = [*report.left, *left]
    if report.produced != times or left:
        parts = [f"{chosen.name}: {report.produced} of {times} as promised on {report.stage}"]
        parts += report.differences
        parts += [f"left behind: {thing}" for thing in left]
        raise NotProduced("\n".join(parts))
    return report


def _in_child(function: Callable[[], Report]) -> tuple[Report, list[str]]:
    """What the function gives, run in a forked child, which enters a namespace and never comes back; and what outlives it.

    A refusal is raised again here; any other exception comes as `NotProduced` with the child's traceback.
    """
    reader, writer = os.pipe()
    waiting, leave = os.pipe()
    with warnings.catch_warnings():
        # Python 3.12 warns of forking beside threads. The child runs one thread of its own and no lock of theirs.
        warnings.simplefilter("ignore", DeprecationWarning)
        with starting():
            child = os.fork()
    if child == 0:
        try:
            os.close(reader)
            os.close(leave)
            result: Report | Exception | str
            try:
                result = function()
            except (Misuse, Unable) as refusal:
                result = refusal
            except BaseException:
                result = traceback.format_exc()
            with os.fdopen(writer, "wb") as pipe:
                pickle.dump(result, pipe)
            os.read(waiting, 1)  # until our namespace has been looked at
        finally:
            os._exit(0)
    os.close(writer)
    os.close(waiting)
    with os.fdopen(reader, "rb") as pipe:
        told = pipe.read()
    if not told:
        os.close(leave)
        os.waitpid(child, 0)
        raise NotProduced("the child process ended without a word")
    # Held open, so that no other namespace is given its number meanwhile.
    namespace = os.open(f"/proc/{child}/ns/net", os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.close(leave)
        os.waitpid(child, 0)
        left = _outlived(namespace)
    finally:
        os.close(namespace)
    result = pickle.loads(told)
    if isinstance(result, Misuse | Unable):
        raise result
    if not isinstance(result, Report):
        raise NotProduced(result)
    return result, left


def _play(cause: Cause, times: int, ipv6: bool, on: Where | None, options: dict[str, Any]) -> Report:
    """In the child."""
    stage = open_stage(on, ipv6=ipv6)
    outcomes: list[Outcome] = []
    before = _state()
    with watching(stage) as seeing:
        repeat(cause, checked(cause, options), stage, seeing, times, outcomes.append)
    after = _state()
    rules = _rules(stage.namespace) if stage.namespace else ""
    differences = [
        f"run {number}, {check.witness}, {check.name}: expected {', '.join(check.expected) or 'nothing'}; "
        f"seen {', '.join(check.seen) or 'nothing'}"
        for number, outcome in enumerate(outcomes, 1)
        for check in outcome.verdict.differences
    ]
    return Report(
        cause.name,
        stage.described,
        times,
        sum(outcome.verdict.produced for outcome in outcomes),
        tuple(differences),
        (
            *(f"{name}: {after[name]} (before: {value})" for name, value in before.items() if after[name] != value),
            *([f"firewall rules: {rules}"] if rules else []),
        ),
        {witness: why for outcome in outcomes for witness, why in outcome.transcript.absent.items()},
        tuple(compared(outcome.transcript, outcome.promise) for outcome in outcomes),
    )


def _state() -> dict[str, str]:
    """What a run might leave in this process, its namespace or on the machine, to be compared before and after.

    Tasks need no look: the event loop does not end while there are any.
    """
    import psutil  # type: ignore[import-untyped]

    trace = tracing.path(os.getpid())
    return {
        "descriptors": str(len(os.listdir("/proc/self/fd"))),
        "child processes": " ".join(str(child.pid) for child in psutil.Process().children()),
        "tcp sysctls": _sysctls(),
        "trace instance": str(trace.exists() if os.access(trace.parent, os.X_OK) else False),
    }


def _sysctls() -> str:
    """Those of net.ipv4 that begin with tcp_, as one text."""
    lines = []
    for file in sorted(Path("/proc/sys/net/ipv4").glob("tcp_*")):
        try:
            lines.append(f"{file.name}={file.read_text().strip()}")
        except OSError:
            continue  # some are root's alone to read
    return "; ".join(lines)


def _rules(own: Namespace) -> str:
    """Every rule in a namespace that had none; what the tools make for themselves, chains without a rule, is not one."""
    import trio

    from faultkit.stage.firewall import Firewall

    tools: tuple[tuple[Tool, bool], ...] = (("iptables", False), ("iptables", True), ("nft", False))
    found: list[str] = []
    for tool, ipv6 in tools:
        try:
            listed = trio.run(Firewall(own, tool, ipv6).rules).splitlines()
        except Exhausted:
            raise
        except Unable:
            continue  # not installed, or not allowed here: then there is no rule either
        found += [line for line in listed if line.startswith(("-A", "-N", "table inet faultkit"))]
    return "; ".join(found)


def _outlived(namespace: int) -> list[str]:
    """Processes that are still in that network namespace, unless it is the one that we are in: they keep it alive."""
    wanted = os.fstat(namespace).st_ino
    if wanted == os.stat("/proc/self/ns/net").st_ino:
        return []
    left = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            if (process / "ns/net").stat().st_ino == wanted:
                left.append(f"its network namespace, held by process {process.name}")
        except OSError:
            continue  # ended meanwhile, or another user's
    return left
