"""What other people import stays where it is: a name may be added here, and goes with a line in CHANGELOG.md only."""

from __future__ import annotations

import ast
import importlib
import re
from pathlib import Path

import pytest

import faultkit

ROOT = Path(__file__).parents[1]

PUBLIC = {
    "faultkit": """
        Connection FaultNotMet FaultServer HandlerCrashed Http Live Misuse NotProduced Server Unable abort black_hole
        check_cause close_unread half_close heal open_firewall resume_reading serve stop_reading vanish
        AsyncioLive FaultServerUdp Http2 in_asyncio Redis Smtp Tls UdpServer WebSocket serve_udp
        Firewall Report causes sockets __version__ Diagnosis Opening explain
        FaultProxy Pair Proxy Toxic bandwidth latency limit_data packet_loss proxy reset_peer slicer slow_close timeout
    """,
    "faultkit.sockets": """
        abort black_hole clock clock_ahead close_unread disconnect dissolve dropped first_seq half_close heal hear_icmp
        hear_only_stack hold_back keepalive resume_reading speak_up state stop_reading unread user_timeout vanish whisper
    """,
    "faultkit.causes": "by_family load names",
    "faultkit.cause": """
        AtLeast Cause FAMILIES FORGED Family Misuse Options Play Promise Rst Served Socket Trigger Unable checked described
        option
    """,
    "faultkit.options": """
        conntrack_timeout drop_with duration firewall_tool keepalive_count keepalive_idle keepalive_interval option retries2
        user_timeout
    """,
    "faultkit.evidence.verdict": "AtLeast FORGED Promise Rst",
    "faultkit.acting.play": "Play",
    "faultkit.errors": "Misuse Unable",
    "faultkit.pytest_plugin": "fault_proxy fault_server firewall",
}


@pytest.mark.parametrize(("module", "name"), [(module, name) for module in PUBLIC for name in PUBLIC[module].split()])
def test_a_public_name_is_there(module: str, name: str) -> None:
    home = importlib.import_module(module)
    if name in ("causes", "sockets"):
        home, name = importlib.import_module(f"{module}.{name}"), "__name__"
    assert hasattr(home, name)


def test_all_of_them_are_listed() -> None:
    names = set(PUBLIC["faultkit"].split())
    assert set(faultkit.__all__) == names - {"causes", "sockets", "__version__"}
    assert names <= set(dir(faultkit))


def _imported(text: str) -> set[tuple[str, str]]:
    """The names of faultkit's that Python in a page or an example takes: ("faultkit", "Live")."""
    found = set()
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "faultkit":
            found |= {(node.module or "", alias.name) for alias in node.names}
    return found


def _examples() -> list[str]:
    pages = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
    blocks = [re.findall(r"```python\n(.*?)```", page.read_text(encoding="utf-8"), re.DOTALL) for page in pages]
    files = [file.read_text(encoding="utf-8") for file in sorted((ROOT / "tests/examples").glob("*.py"))]
    return [*(block for page in blocks for block in page), *files]


def test_every_name_that_the_pages_import_is_public() -> None:
    taken = set().union(*map(_imported, _examples()))
    assert ("faultkit", "FaultServer") in taken  # they are read
    assert {(module, name) for module, name in taken if name not in PUBLIC.get(module, "").split()} == set()
