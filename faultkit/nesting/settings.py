"""What programs call their timeouts: a table, from their own documentation. Pure.

Downstream is towards the client, upstream towards the server. What is not there has no such setting, or none known.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal, TypeAlias

Place: TypeAlias = Literal["downstream", "upstream", "request"]


@dataclass(frozen=True, slots=True)
class Program:
    """The names of its idle timeouts on either side, and of what limits one request."""

    downstream: str = ""
    upstream: str = ""
    request: str = ""


# Read in: nginx.org (ngx_http_core, _upstream, _proxy), HAProxy 2.6 configuration.txt, Apache 2.4 core and mod_proxy, Envoy
# "How do I configure timeouts", AWS "Edit attributes for your Application Load Balancer", gunicorn config.py, `uvicorn --help`,
# Tomcat 10 HTTP connector, Puma dsl.rb, Node 20's http (the agent's timeout was tried: it ends idle sockets), undici Client.md,
# Go net/http, and the signatures of aiohttp and httpx.
PROGRAMS: dict[str, Program] = {
    "nginx": Program("keepalive_timeout", "keepalive_timeout in the upstream block", "proxy_read_timeout"),
    "haproxy": Program(
        "timeout http-keep-alive", "pool-purge-delay (each time it closes half of what is idle)", "timeout server"
    ),
    "apache": Program("KeepAliveTimeout", "ttl= of ProxyPass", "ProxyTimeout"),
    "httpd": Program("KeepAliveTimeout", "ttl= of ProxyPass", "ProxyTimeout"),
    "envoy": Program(
        "idle_timeout in the connection manager's common_http_protocol_options",
        "idle_timeout in the cluster's common_http_protocol_options",
        "timeout of the route",
    ),
    "alb": Program("idle_timeout.timeout_seconds", "idle_timeout.timeout_seconds", "idle_timeout.timeout_seconds"),
    "gunicorn": Program("--keep-alive", request="--timeout"),
    "uvicorn": Program("--timeout-keep-alive"),
    "tomcat": Program("keepAliveTimeout of the Connector"),
    "puma": Program("persistent_timeout"),
    "node": Program("server.keepAliveTimeout", "timeout of http.Agent"),
    "undici": Program(upstream="keepAliveTimeout", request="headersTimeout"),
    "go": Program("Server.IdleTimeout", "Transport.IdleConnTimeout", "Client.Timeout"),
    "aiohttp": Program(
        "keepalive_timeout of run_app()", "keepalive_timeout of TCPConnector()", "total of ClientTimeout()"
    ),
    "httpx": Program(upstream="keepalive_expiry of Limits()", request="timeout"),
}


def program(hop: str) -> Program:
    """The program that a hop is named after: `nginx`, `nginx-edge` and `Node.js` are; `engine` is none."""
    first = re.match(r"[a-z]*", hop.lower())
    return PROGRAMS.get(first[0] if first else "", Program())


def setting(hop: str, place: Place, towards: str) -> str:
    """What to look for in the hop's configuration."""
    named: str = getattr(program(hop), place)
    if named:
        return f"{hop}'s {named}"
    return f"{hop}'s request timeout" if place == "request" else f"{hop}'s idle timeout towards {towards}"


def moves_together(hop: str, place: Place) -> frozenset[Place]:
    """The hop's timeouts that are one setting with that one, it included."""
    known = program(hop)
    named: str = getattr(known, place)
    sides: tuple[Place, ...] = ("downstream", "upstream", "request")
    return frozenset(side for side in sides if named and getattr(known, side) == named) | {place}
