"""What packets alone cannot tell apart, and why: one table, which the documentation shows and the tests hold the rules against.

A cause is written as it is typed after `faultkit`: with options it stands for every variant that has these, with `*` for every
variant, alone for the cause as it is without options.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Alike:
    """Causes that leave the same packets behind."""

    seen: str
    causes: tuple[str, ...]
    why: str
    tell: str  # what tells them apart

    def holds(self, words: str) -> bool:
        """Is what was typed, a cause and its options, one of these?"""
        return any(fits(cause, words) for cause in self.causes)


def fits(cause: str, words: str) -> bool:
    """Is `words` that cause, in that variant?"""
    name, *options = cause.split()
    typed, *chosen = words.split()
    if typed != name:
        return False
    return options == ["*"] or (set(options) <= set(chosen) if options else not chosen)


ALIKE: tuple[Alike, ...] = (
    Alike(
        "RST,ACK with a window, after data that was not answered",
        (
            "unread",
            "linger *",
            "crash",
            "crash --restart",
            "disconnect",
            "listener-closed",
            "listener-closed --connections",
            "half-open --vanish-by deaf",
        ),
        "The kernel aborts a socket with the same segment for each of these: close() with data unread, SO_LINGER 0, "
        "connect(AF_UNSPEC), a program that is killed, a listener that closes with connections that nobody accepted",
        "the calls at that end (strace, faultkit which --saw); nstat: TcpExtTCPAbortOnClose for unread and crash, "
        "TcpExtTCPAbortOnData for linger",
    ),
    Alike(
        "RST,ACK with a window, after the same end's FIN",
        (
            "unread",
            "linger *",
            "fin-wait-timeout --end aborted",
            "fin-wait-timeout --end lowered",
            "disconnect --state last-ack",
        ),
        "After shutdown() or close() a socket may still be aborted, by the program or by the end of its time in FIN-WAIT-2, and "
        "the RST does not say which",
        "nstat: TcpExtTCPAbortOnLinger counts those whose time was over; the calls at that end",
    ),
    Alike(
        "a bare RST that answers data sent after the FIN",
        ("late-write *", "fin-wait-timeout", "fin-wait-timeout --by", "crash --request read", "time-wait"),
        "Whether the program had closed, was killed after it had read, or the kernel had shortened what was left of the "
        "connection: no socket is there any more, and the answer is the same",
        "the reset reason at that end (faultkit reasons): TCP_TIMEWAIT_SOCKET or NO_SOCKET; the program's own log",
    ),
    Alike(
        "the same segments again and no answer",
        (
            "retransmit-timeout",
            "retransmit-timeout --ended-by user-timeout",
            "firewall-reset --answer --user-timeout",
            "reject --at established --answer",
            "idle-firewall --no-heal",
            "keepalive-timeout --with-data",
        ),
        "Silence is silence: a firewall that drops, a host that has gone and a cable that is cut look alike from here. One that "
        "says so sends ICMP, which a capture of TCP alone does not have",
        "a capture at the other end, with ICMP: tcpdump 'tcp or icmp or icmp6'",
    ),
    Alike(
        "keepalive probes and no answer",
        ("keepalive-timeout --count", "idle-firewall *"),
        "The host has gone, or something in between drops what belongs to a connection that it has forgotten",
        "a capture at the other end: do the probes arrive there?",
    ),
    Alike(
        "RST,ACK that answers the SYN",
        ("closed-port *", "reject", "reject --tool"),
        "A firewall's REJECT --reject-with tcp-reset is made to look like a port on which nobody listens, and on the server "
        "itself it has the same TTL",
        "ss -ltn, and iptables -L -v -n or nft list ruleset, at the server",
    ),
    Alike(
        "a SYN and no answer",
        ("connect-timeout", "connect-timeout --drop-with", "connect-timeout --ended-by own-timeout", "reject --answer"),
        "A SYN that was dropped on the way and one that a full accept queue dropped leave the same trace. A firewall that "
        "refuses with ICMP is seen only where ICMP was captured",
        "nstat at the server: TcpExtListenOverflows; a capture with ICMP",
    ),
    Alike(
        "a bare RST to the first data of a connection that was just made",
        (
            "backlog-full --ended-by abort",
            "listener-closed --deferred",
        ),
        "The server's kernel has no such connection any more: its accept queue was full, or its listener was closed before the "
        "connection was handed over",
        "nstat at the server: TcpExtListenOverflows; the reset reason there (faultkit reasons)",
    ),
    Alike(
        "a bare RST that answers a segment, without a FIN before it",
        ("half-open", "half-open --found-by restarted", "load-balancer-idle --expires forget", "bad-segment"),
        "Whoever answers knows nothing of the connection: a host that was restarted, or something in between that has forgotten "
        "it and has the host's own address and TTL",
        "a capture at the other end: does the segment arrive there, and does its kernel send the RST?",
    ),
    Alike(
        "a RST that was made in between",
        ("firewall-reset", "firewall-reset --forgets", "firewall-reset --tool", "firewall-reset --first"),
        "A firewall that has lost its state, a rule that rejects and an injector that copies the TTL send what they like; none "
        "of them signs",
        "the rules on the way: iptables -L -v -n, nft list ruleset; captures on both sides of each box",
    ),
    Alike(
        "a SYN that an old connection acknowledges",
        (
            "time-wait --arrives old-syn",
            "time-wait --arrives old-timestamp",
            "time-wait --arrives stale-data --rfc1337",
        ),
        "The old connection's TIME-WAIT answers a number that is too old and a timestamp that is too old with the same "
        "acknowledgement; where the old connection was not captured, one that is still open does too",
        "the timestamps of both SYNs; ss -tan at the server",
    ),
    Alike(
        "nothing",
        (
            "half-open --found-by nobody",
            "reject --recverr",
            "nat-expiry --renewed-by",
            "load-balancer-idle --heartbeat",
            "retransmit-timeout --ended-by healing",
            "zero-window --ended-by reading",
            "backlog-full --ended-by accept",
            "early-response --lingering",
            "keepalive-race --sweep",
            "time-wait --arrives reconnect",
        ),
        "Either it was prevented or went well, and a connection that works looks as it should; or one end only knows of it and "
        "has sent nothing",
        "nothing needs to be told where nothing failed; else the program's own log",
    ),
)


def alike(cause: str, words: str) -> bool:
    """Do packets alone leave it open which of the two it was?"""
    return any(group.holds(cause) and group.holds(words) for group in ALIKE)
