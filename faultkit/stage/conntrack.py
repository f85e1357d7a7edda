"""The connection tracking table of our own namespace, over netlink: conntrack(8) is not needed, and often not there.

Numbers from include/uapi/linux/netfilter/nfnetlink.h and nfnetlink_conntrack.h.
"""

from __future__ import annotations

import errno
import os
import socket
import struct
from collections.abc import Iterator

from faultkit.errors import Unable
from faultkit.stage.namespace import Namespace

_NETLINK_NETFILTER = 12
_SUBSYSTEM = 1 << 8  # NFNL_SUBSYS_CTNETLINK
_GET, _DELETE = 1, 2  # IPCTNL_MSG_CT_GET, IPCTNL_MSG_CT_DELETE
_NLM_F_REQUEST, _NLM_F_ACK, _NLM_F_DUMP = 0x1, 0x4, 0x300
_NLMSG_ERROR, _NLMSG_DONE = 2, 3
_HEADER = struct.Struct("=IHHII")  # struct nlmsghdr: length, type, flags, sequence number, port id


def flush(own: Namespace) -> None:
    """Forget every connection: `conntrack -F`."""
    for _ in _ask(own, _DELETE, _NLM_F_ACK, socket.AF_UNSPEC):
        pass


def entries(own: Namespace, family: int) -> int:
    """How many connections are known: the lines of `conntrack -L`. One whose time has run out is not."""
    return sum(1 for _ in _ask(own, _GET, _NLM_F_DUMP, family))


def _ask(own: Namespace, message: int, flags: int, family: int) -> Iterator[bytes]:
    """Send one request about the whole table and give the answers."""
    if not own.holds():
        raise Unable("connection tracking is not touched: this process is not inside a namespace that faultkit made")
    body = struct.pack("=BBH", family, 0, 0)  # struct nfgenmsg
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, _NETLINK_NETFILTER) as link:
        header = _HEADER.pack(_HEADER.size + len(body), _SUBSYSTEM | message, _NLM_F_REQUEST | flags, 1, 0)
        link.send(header + body)
        while True:
            answers = link.recv(1 << 16)
            while answers:
                length, kind, *_ = _HEADER.unpack_from(answers)
                payload, answers = answers[_HEADER.size : length], answers[length + 3 & ~3 :]
                if kind == _NLMSG_DONE:
                    return
                if kind == _NLMSG_ERROR:
                    number = -struct.unpack_from("=i", payload)[0]
                    if number:
                        raise Unable(
                            f"this kernel refuses the connection tracking table ({errno.errorcode.get(number, number)}: "
                            f"{os.strerror(number)}): modprobe nf_conntrack_netlink"
                        )
                    return
                yield payload
