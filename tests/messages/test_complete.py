"""What the programs' own documents list is read, all of it. The lists are written down here once more, from there."""

from __future__ import annotations

import itertools

import pytest

from faultkit.messages import reading

# docs.haproxy.org, configuration manual, "Session state at disconnection": who ended it, and where it was then.
FIRST, SECOND = "CSPLURIDKcs", "RQCHDLT"
ALL = [f"{first}{second}" for first, second in itertools.product(FIRST, SECOND)]
WHO = "haproxy[9]: 192.0.2.7:39001 [23/Mar/2022:11:12:13.001]"
HTTP = WHO + ' fe~ be/s1 0/0/1/12/5 {status} 183 - - {state}{cookie} 6/6/1/7/0 0/0 {{}} "GET /"'
TCP = "haproxy[9]: 192.0.2.7:41822 [29/Sep/2017:15:43:27.202] fe be/s1 1/0/50011 3568 {state} 3/2/1/1/0 0/0"


@pytest.mark.parametrize("state", ALL)
def test_every_termination_state_of_haproxy(state: str) -> None:
    for line in (
        *(
            HTTP.format(state=state, cookie=cookie, status=status)
            for cookie in ("--", "NI", "VN")
            for status in (200, 503, -1)
        ),
        TCP.format(state=state),
        f'{{"termination_state":"{state}--"}}',
    ):
        read = reading.read(line)
        assert read.found and read.found[0].entry.program == "HAProxy", line
        assert read.known, line
        if read.told and state[0] in "Cc":
            assert read.told.writer == "downstream"
        if read.told and state[0] in "Ss":
            assert read.told.writer == "upstream"
        if read.told and state[0] in "cs":
            assert "timer" in read.told.told, "a timeout is no close"


# envoyproxy.io, access log, %RESPONSE_FLAGS%.
FLAGS = [
    "UH",
    "UF",
    "UO",
    "NR",
    "URX",
    "NC",
    "DT",
    "DC",
    "LH",
    "UT",
    "LR",
    "UR",
    "UC",
    "DI",
    "FI",
    "RL",
    "UAEX",
    "RLSE",
    "IH",
    "SI",
    "DPE",
    "UPE",
    "UMSDR",
    "OM",
    "DF",
    "NFCF",
    "RFCF",
    "UDO",
    "DO",
    "DR",
]


@pytest.mark.parametrize("flag", FLAGS)
def test_every_response_flag_of_envoy(flag: str) -> None:
    for line in (
        f'[2021-05-10T00:37:31.782Z] "GET /v1/items HTTP/1.1" 503 {flag} - - "-" 0 95 7 - "-" "curl/7.64.1"',
        f'{{"response_code":503,"response_flags":"{flag}"}}',
    ):
        read = reading.read(line)
        assert read.found and read.found[0].entry.program.startswith("Envoy"), line
        assert read.known, line


# envoyproxy.io, "Response Code Details" that speak of a connection.
DETAILS = (
    "upstream_reset_before_response_started{connection_termination}",
    "upstream_reset_before_response_started{connection_failure}",
    "upstream_reset_before_response_started{remote_reset}",
    "upstream_reset_before_response_started{remote_refused_stream_reset}",
    "upstream_reset_before_response_started{local_reset}",
    "upstream_reset_before_response_started{connection_timeout}",
    "upstream_reset_before_response_started{protocol_error}",
    "upstream_reset_before_response_started{overflow}",
    "upstream_reset_after_response_started{connection_termination}",
    "upstream_reset_after_response_started{remote_reset}",
    "upstream_reset_after_response_started{protocol_error}",
    "upstream_response_timeout",
    "upstream_per_try_timeout",
    "upstream_max_stream_duration_reached",
    "stream_idle_timeout",
    "downstream_remote_disconnect",
    "downstream_local_disconnect",
    "request_overall_timeout",
    "request_header_timeout",
    "max_duration_timeout",
    "no_healthy_upstream",
    "cluster_not_found",
    "route_not_found",
    "duration_timeout",
)


@pytest.mark.parametrize("detail", DETAILS)
def test_every_detail_of_envoy_that_speaks_of_a_connection(detail: str) -> None:
    flag = "DT" if "duration_timeout" in detail else "-"
    read = (
        reading.read(f'"GET /v1/items HTTP/1.1" 408 {flag} {detail} - "-" 0 95 7')
        if flag == "DT"
        else reading.read(f'{{"response_code":503,"response_code_details":"{detail}","response_flags":"-"}}')
    )
    assert read.found and read.found[0].entry.program.startswith("Envoy"), detail
    assert read.known


NGINX_PHASES = {
    "connecting to upstream": "upstream",
    "SSL handshaking to upstream": "upstream",
    "sending request to upstream": "upstream",
    "reading response header from upstream": "upstream",
    "reading upstream": "upstream",
    "waiting for request": "downstream",
    "SSL handshaking": "downstream",
    "reading client request line": "downstream",
    "reading client request headers": "downstream",
    "keepalive": "downstream",
}


@pytest.mark.parametrize("phase", NGINX_PHASES)
def test_every_phase_of_nginx(phase: str) -> None:
    call = "connect" if phase == "connecting to upstream" else "SSL_do_handshake" if "SSL" in phase else "recv"
    read = reading.read(
        f"*7 {call}() failed (104: Connection reset by peer) while {phase}, client: 192.0.2.1, server: _"
    )
    assert read.told and read.told.program == "nginx"
    assert (read.told.told.split()[-1], read.told.writer) == ("ECONNRESET", NGINX_PHASES[phase])
