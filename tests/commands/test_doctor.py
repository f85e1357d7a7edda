"""What the doctor finds is what a run finds, and it leaves nothing behind."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from faultkit.playing import doctor
from faultkit.views import doctor as view
from tests.ordinary import CHECKOUT, command
from tests.shell import ROOT, USERS, faultkit
from tests.views.test_table import Screen

NAMES = ["machine", "namespace", "wire", "reset reasons", "IPv6", "iptables", "nft", "ip", "tshark"]


def examined(user: str, denied: bool = False) -> dict[str, dict[str, Any]]:
    ended = faultkit("doctor", "--json", user=user, denied=denied)
    assert (ended.returncode, ended.stderr) == (0, "")
    findings = json.loads(ended.stdout)
    assert [finding["name"] for finding in findings] == NAMES
    return {finding["name"]: finding for finding in findings}


@pytest.mark.parametrize("user", USERS)
def test_what_works_is_what_a_run_uses(user: str) -> None:
    found = examined(user)
    run = json.loads(faultkit("linger", "--json", user=user).stdout)
    assert found["namespace"]["works"] is (run["stage"]["where"] == "namespace")
    assert found["wire"]["works"] is ("wire" not in run["evidence"]["not_seen"])
    assert found["reset reasons"]["works"] is ("reasons" not in run["evidence"]["not_seen"])
    assert found["IPv6"]["works"] is (faultkit("linger", "--ipv6", "--quiet", user=user).returncode == 0)
    for tool in ("iptables", "nft", "tshark"):
        assert found[tool]["works"] is True  # tests have the real tools
    if user == "nobody":
        assert found["reset reasons"]["said"].startswith("tracefs is readable by root alone: run as root (sudo)")
        assert "user namespace" in found["namespace"]["said"]


@pytest.mark.parametrize("user", USERS)
def test_where_namespaces_are_forbidden(user: str) -> None:
    found = examined(user, denied=True)
    for name in ("namespace", "iptables", "nft"):
        assert found[name]["works"] is False
    assert "forbidden here (EPERM)" in found["namespace"]["said"]
    assert found["nft"]["said"].endswith("nft is used in a private namespace only, and there is none")
    # The rest is what a run has then, which plays on the host's loopback.
    run = json.loads(faultkit("linger", "--ipv6", "--json", user=user, denied=True).stdout)
    assert found["IPv6"]["works"] is (run["stage"]["host"] == "::1")
    for name, witness in (("wire", "wire"), ("reset reasons", "reasons")):
        assert found[name]["works"] is (witness not in run["evidence"]["not_seen"])
    # What gets a namespace is said once, and nothing is to be left out that nobody gave.
    said = [finding["said"] for finding in found.values()]
    assert sum("max_user_namespaces" in one for one in said) == 1
    assert not [one for one in said if "--on host out" in one or "Errno" in one]
    told = faultkit("doctor", user=user, denied=True).stdout
    assert "Without a namespace causes play on the host's loopback" in told
    assert "✘  namespace" in told


@pytest.mark.skipif(not ROOT, reason="needs root")
@pytest.mark.parametrize("denied", [False, True])
def test_uid_0_without_capabilities_is_not_told_to_be_root(denied: bool) -> None:
    bare = ["setpriv", "--bounding-set=-all", "--inh-caps=-all"]
    argv = [*bare, *command(sys.executable, "-m", "faultkit", "doctor", "--json", denied=denied)]
    ended = subprocess.run(argv, capture_output=True, text=True, cwd=CHECKOUT, check=True)
    found = {finding["name"]: finding for finding in json.loads(ended.stdout)}
    assert "uid 0 (without root's capabilities)" in found["machine"]["said"]
    assert not any("run as root" in finding["said"] for finding in found.values())
    if not found["wire"]["works"]:
        assert found["wire"]["said"].endswith(
            "get a private namespace as said above, or in a container --cap-add NET_RAW"
        )
    assert "which uid 0 has not here: in a container --privileged" in found["reset reasons"]["said"]


def test_for_a_person() -> None:
    stream = Screen()
    findings = [
        doctor.Finding("namespace", True, "yes"),
        doctor.Finding("wire", False, "not [here]: " + "apt-get install something " * 5),
    ]
    view.show(Console(file=stream, width=80, highlight=False, color_system=None), findings)
    lines = stream.getvalue().splitlines()
    assert lines[:2] == [
        "✔  namespace  yes",
        "✘  wire       not [here]: apt-get install something apt-get install something",
    ]
    assert all(line.startswith(" " * 14) for line in lines[2:])
    assert all(len(line) <= 80 and line == line.rstrip() for line in lines)


def test_a_missing_tool_is_named_with_the_command_that_gets_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from faultkit.stage import firewall

    monkeypatch.setattr(firewall, "_SYSTEM_DIRECTORIES", ())
    monkeypatch.setenv("PATH", str(tmp_path))
    found = {finding.name: finding for finding in doctor.examine()}
    assert found["iptables"].said == "iptables is not installed: apt-get install iptables"
    assert found["nft"].said == "nft is not installed: apt-get install nftables"
    assert found["tshark"].said.endswith("apt-get install tshark")
    assert not any(found[tool].works for tool in ("iptables", "nft", "tshark"))


def test_it_leaves_this_process_where_it_is() -> None:
    before = os.stat("/proc/self/ns/net").st_ino, sorted(os.listdir("/proc/self/fd"))
    assert doctor.examine()[0].works
    assert (os.stat("/proc/self/ns/net").st_ino, sorted(os.listdir("/proc/self/fd"))) == before
