"""What this machine can do for faultkit, tried out, not guessed; and the command that gets what is missing."""

from __future__ import annotations

import contextlib
import os
import platform
import socket
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from faultkit.errors import Unable
from faultkit.stage import firewall, namespace, tracing
from faultkit.witness.wire import Capture


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
    child = os.fork()
    if child == 0:
        try:
            said = "+" + trial()
        except (Unable, OSError) as error:
            said = "-" + str(error)
        except BaseException as error:  # a forked child must never return into its parent's code
            said = f"-{type(error).__name__}: {error}"
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


def _capture() -> str:
    namespace.enter()
    Capture("lo").close()
    return "packets of the namespace's loopback (AF_PACKET)"


def _reasons() -> str:
    with contextlib.closing(tracing.start(namespace.enter())) as instance:
        instance.open()
    return "the kernel's reset reasons (tracefs)"


def _ipv6() -> str:
    namespace.enter()
    with socket.socket(socket.AF_INET6) as probe:
        probe.bind(("::1", 0))
    return "loopback ::1"


def _tool(tool: Any) -> Callable[[], str]:
    def trial() -> str:
        import trio

        chosen = firewall.choose(tool)
        own = namespace.enter()
        trio.run(firewall.Firewall(own, chosen, ipv6=False).rules)
        return f"{firewall.find(chosen)} works inside the namespace"

    return trial


def _tshark() -> str:
    path = firewall.find("tshark")
    if path is None:
        raise Unable("not installed, and only --pcap's readers want it: apt-get install tshark")
    return path


def examine() -> list[Finding]:
    """Try everything. Leaves nothing behind."""
    user = f"uid {os.geteuid()}" + (" (root)" if os.geteuid() == 0 else "")
    findings = [Finding("machine", True, f"Linux {platform.release()}, Python {platform.python_version()}, {user}")]
    trials: dict[str, Callable[[], str]] = {
        "namespace": _namespace,
        "wire": _capture,
        "reset reasons": _reasons,
        "IPv6": _ipv6,
        "iptables": _tool("iptables"),
        "nft": _tool("nft"),
        "tshark": _tshark,
    }
    return findings + [Finding(name, *_in_child(trial)) for name, trial in trials.items()]
