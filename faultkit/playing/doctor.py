"""What this machine can do for faultkit, tried out, not guessed; and the command that gets what is missing."""

from __future__ import annotations

import contextlib
import os
import platform
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from faultkit.errors import Exhausted, Unable, exhausted, one_line, starting
from faultkit.stage import Stage, firewall, namespace, open_stage, tracing
from faultkit.witness.wire import Capture, Refused

_GET_ONE = "get a private namespace as said above"


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was tried."""

    name: str
    works: bool
    said: str  # what it gives, or what is missing and the command that gets it

    def document(self) -> dict[str, Any]:
        """For machines."""
        return {"name": self.name, "works": self.works, "said": self.said}


def _in_child(trial: Callable[[], str]) -> tuple[bool, str]:
    """Try it in a child, which may enter a namespace without us."""
    reader, writer = os.pipe()
    with starting():
        child = os.fork()
    if child == 0:
        try:
            said = "+" + trial()
        except Unable as error:
            said = f"-{error}"
        except BaseException as error:  # a forked child must never return into its parent's code
            said = f"-{exhausted(error) or one_line(f'{type(error).__name__}: {error}')}"
        os.write(writer, said.encode())
        os._exit(0)
    os.close(writer)
    with os.fdopen(reader) as pipe:
        said = pipe.read()
    os.waitpid(child, 0)
    return said.startswith("+"), said[1:]


def _namespace() -> str:
    own = namespace.enter()
    return "a private network namespace" + (" with a user namespace, no root needed" if own.user else "")


def _stage(*, ipv6: bool = False) -> Stage:
    """Where a run would play that asks for nothing."""
    return open_stage(None, ipv6=ipv6)


def _capture() -> str:
    stage = _stage()
    try:
        Capture("lo").close()
    except Refused as error:
        raise Unable(stage.no_capture(error)) from error
    return f"packets of {'the namespace' if stage.namespace else 'the host'}'s loopback (AF_PACKET)"


def _reasons() -> str:
    stage = _stage()
    try:
        with contextlib.closing(tracing.start(stage.namespace)) as instance:
            instance.open()
    except Exhausted:
        raise
    except Unable as error:
        raise Unable(stage.advice(str(error))) from error
    return "the kernel's reset reasons (tracefs)"


def _ipv6() -> str:
    return f"loopback {_stage(ipv6=True).host}"


def _tool(tool: Any) -> Callable[[], str]:
    def trial() -> str:
        import trio

        chosen = firewall.choose(tool)
        own = _stage().namespace
        if own is None:
            raise Unable(f"{firewall.find(chosen)} is used in a private namespace only, and there is none")
        trio.run(firewall.Firewall(own, chosen, ipv6=False).rules)
        return f"{firewall.find(chosen)} works inside the namespace"

    return trial


def _ip() -> str:
    path = firewall.find("ip")
    if path is None:
        raise Unable("not installed, and causes with further hosts and every stack want it: apt-get install iproute2")
    return path


def _tshark() -> str:
    path = firewall.find("tshark")
    if path is None:
        raise Unable("not installed, and only --pcap's readers want it: apt-get install tshark")
    return path


def _powers() -> str:
    """How much of a root somebody is."""
    if os.geteuid():
        return ""
    return " (root)" if namespace.capable(namespace.CAP_SYS_ADMIN) else " (without root's capabilities)"


def examine() -> list[Finding]:
    """Try everything. Leaves nothing behind."""
    user = f"uid {os.geteuid()}" + _powers()
    findings = [Finding("machine", True, f"Linux {platform.release()}, Python {platform.python_version()}, {user}")]
    trials: dict[str, Callable[[], str]] = {
        "namespace": _namespace,
        "wire": _capture,
        "reset reasons": _reasons,
        "IPv6": _ipv6,
        "iptables": _tool("iptables"),
        "nft": _tool("nft"),
        "ip": _ip,
        "tshark": _tshark,
    }
    for name, trial in trials.items():
        works, said = _in_child(trial)
        # What gets a namespace is said once.
        findings.append(Finding(name, works, said if name == "namespace" else said.replace(namespace.ALLOW, _GET_ONE)))
    return findings
