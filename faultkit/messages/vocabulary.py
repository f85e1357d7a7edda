"""The words of the table: which call was told what, which end wrote the line, what else the line says. All of them are here."""

from __future__ import annotations

import re

# Errnos that end connections. The table's `{errno}` is any of them.
ERRNOS = (
    "ECONNRESET",
    "ECONNREFUSED",
    "ECONNABORTED",
    "ETIMEDOUT",
    "EPIPE",
    "EHOSTUNREACH",
    "ENETUNREACH",
    "EHOSTDOWN",
    "ENETDOWN",
    "ENETRESET",
    "EADDRNOTAVAIL",
    "EADDRINUSE",
    "ENOTCONN",
    "ESHUTDOWN",
    "ENOBUFS",
    "EACCES",
    "EPERM",
    "EMFILE",
    "EPROTO",
    "EIO",
)

# Calls that are told an errno. The last ones are for lines that do not say which call it was.
CALLS = ("connect", "accept", "recv", "send", "recv or send", "any")

# What else a program can be told, or tell itself.
OTHERWISE = {
    "EOF": "the other end's FIN, and the line does not say where in the conversation",
    "EOF before any answer": "the other end's FIN, where an answer was waited for",
    "EOF in the body": "the other end's FIN, with a part of the answer, or of what the client sends, still missing",
    "closed or reset": "the connection is gone, and the line does not say how",
    "connect failed": "no connection came about, and the line does not say why",
    "bad answer": "bytes came that mean nothing in this protocol",
    "bad gateway": "a proxy says that the server behind it refused, closed or answered wrongly: its own log says which",
    "unavailable": "a server, or a proxy before it, says that nobody is there to answer: its own log says why",
    "accept backlog": "the queue of connections that wait for accept() is full",
    "SYN queue": "the queue of connections that wait for the client's ACK is full",
    "SYNs dropped": "SYNs, or the ACKs that follow them, were dropped at a listening socket, whatever queue was full",
    "packets dropped here": "this kernel drops packets: a table or memory is full",
    "probes unanswered": "a heartbeat, a ping or a keepalive went unanswered",
    "own timer: connect": "the writer's own limit for connecting",
    "own timer: handshake": "the writer's own limit for the TLS or login handshake",
    "own timer: first byte": "the writer's own limit for the first byte of the answer",
    "own timer: between bytes": "the writer's own limit between two reads",
    "own timer: send": "the writer's own limit for sending",
    "own timer: idle": "the writer's own limit for a connection on which nobody says anything",
    "own timer: total": "the writer's own limit for the whole request",
    "own timer: request": "a server's own limit for its client's request",
    "own timer: pool": "the writer's own limit for a free connection of its pool",
}

TOLD = (*(f"{call} {name}" for call in CALLS for name in ERRNOS), *OTHERWISE)

WRITERS = {
    "client": "as a client",
    "server": "as a server, of its client",
    "upstream": "as a proxy, of the server behind it",
    "downstream": "as a proxy, of its client",
    "kernel": "as a kernel",
    "": "as a client or as a server: the line does not say",
}

POOLS = {
    "http": "keeps HTTP connections, and reuses them after a pause",
    "session": "keeps sessions for long: databases, brokers, RPC, ssh",
    "none": "takes a fresh connection each time",
    "": "not known",
}

WHEN = {
    "reused": "a connection that was used before",
    "idle": "after a pause",
    "first request": "nothing was answered on it before",
    "connecting": "while the connection came about",
    "tls handshake": "during the TLS handshake",
    "at login": "during the protocol's own handshake",
    "sending": "while sending",
    "uploading": "while sending a large body",
    "waiting for the answer": "after the request, before the first byte",
    "in the answer": "after the first byte of the answer",
    "between requests": "no request was under way",
    "in a transaction": "work was under way",
    "through a proxy": "a proxy stands between, by CONNECT or SOCKS",
    "stream": "a stream of HTTP/2, HTTP/3 or the like, not the connection",
    "goaway": "the other end said that it would end the connection",
    "by a limit": "an idle limit of the other end ended it, and it says so",
    "shutting down": "this or the other end was told to stop",
    "under load": "many connections at once",
    "tunnel": "bytes are passed on, whatever they are",
}


def unknown(told: str) -> bool:
    """Is that no word of `TOLD`? "{errno}" stands for every errno; "counter " and a kernel counter's name is one, too."""
    if re.fullmatch(r"counter (?:Tcp|TcpExt|MPTcpExt|Icmp)[A-Z]\w+", told):
        return False
    return told not in TOLD and re.sub(r"\{errno\}", "ECONNRESET", told) not in TOLD


# The more a line says, the more it decides.
_TELLS = (
    r"\w+( or send)? E[A-Z]+$",
    r"EOF .*|own timer: (connect|handshake|first byte|between bytes|idle|send|request|pool)|accept backlog",
    r"EOF|probes unanswered|bad answer|packets dropped here|SYN queue|SYNs dropped",
    r"own timer: total|connect failed",
    r"closed or reset|bad gateway|unavailable",
)
VAGUE = 3  # from there on an errno beside it says more


def tells(told: str) -> int:
    """How little it says: 0 is an errno."""
    return next((number for number, words in enumerate(_TELLS) if re.fullmatch(words, told)), len(_TELLS))
