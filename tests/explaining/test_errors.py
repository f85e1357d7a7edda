"""ICMP errors about segments: in captures that were made, and in those that the commands write."""

from __future__ import annotations

import struct
from pathlib import Path

import pytest

from faultkit.explaining.diagnosis import Diagnosis
from faultkit.explaining.explain import explain
from faultkit.witness.wire import quoted
from tests.explaining.made_up import BEGAN, Segment, capture
from tests.explaining.rewriting import Frame, frames, pcap
from tests.explaining.test_situations import WORKED
from tests.shell import faultkit

ROUTER = b"\x0a\x00\x00\xfe"


def complained(segments: list[Segment], code: int) -> bytes:
    """A capture of them in which a router answers each repetition of the client's last data with that ICMP error."""
    found: list[Frame] = []
    for frame in frames(capture(segments)):
        found.append(Frame(len(found) + 1, frame.time_ns, frame.data, len(frame.data)))
        if frame.time_ns >= BEGAN + 10**9 and frame.data[26:30] == b"\x0a\x00\x00\x01":
            body = struct.pack(">BBHI", 3, code, 0, 0) + frame.data[14:62]
            ip = struct.pack(">BBHHHBBH", 0x45, 0, 20 + len(body), 7, 0, 64, 1, 0) + ROUTER + frame.data[26:30]
            data = bytes(12) + b"\x08\x00" + ip + body
            found.append(Frame(len(found) + 1, frame.time_ns + 1000, data, len(data)))
    return pcap(found)


AGAIN = [Segment(">", "P.", 6, 6, b"again" * 9, at=1.0 + 2**n) for n in range(6)]


def _explained(code: int, segments: list[Segment] = AGAIN) -> Diagnosis:
    (found,) = explain(complained([*WORKED, *segments], code))
    return found


def test_who_answers_with_an_error_is_named_and_so_is_the_error() -> None:
    found = _explained(13)
    assert found.causes[0] == "firewall-reset --answer admin-prohibited"
    assert "reject --answer admin-prohibited --at established" in found.causes
    assert (found.by, found.sure, found.harm) == ("middlebox", "one of these", "failed")
    assert "10.0.0.254" in found.why


def test_a_segment_that_is_too_large_for_the_path_is_no_firewall() -> None:
    found = _explained(4)
    assert found.cause == "retransmit-timeout"
    assert found.plain == "a path MTU that is not obeyed"


def test_an_error_after_which_the_connection_goes_on_says_nothing() -> None:
    answer = Segment("<", ".", 6, 51, at=3.0)
    found = _explained(
        1, [AGAIN[0], answer, Segment("<", "F.", 6, 51), Segment(">", "F.", 51, 7), Segment("<", ".", 7, 52)]
    )
    assert (found.harm, found.causes) == ("closed", ())


def test_the_segment_that_an_error_quotes_is_told() -> None:
    errors = [ends for frame in frames(complained([*WORKED, *AGAIN], 1)) if (ends := quoted(frame.data))]
    assert {(str(source), str(destination)) for source, destination in errors} == {("10.0.0.1:40000", "10.0.0.2:80")}
    assert len(errors) == len(AGAIN)


@pytest.mark.parametrize("family", [[], ["--ipv6"]])
@pytest.mark.parametrize("answer", ["host-unreachable", "admin-prohibited"])
def test_what_a_command_writes_has_the_errors_of_its_run(answer: str, family: list[str], tmp_path: Path) -> None:
    path = tmp_path / "rejected.pcap"
    assert faultkit("reject", "--answer", answer, *family, "--pcap", str(path), "--quiet").returncode == 0
    (found,) = explain(path)
    assert (found.end, found.sure) == ("refused by an ICMP error", "shown by the packets")
    assert found.causes[0] == f"reject --answer {answer}"
