"""What the servers answer when they are healthy: the request's own name, so that a late answer to another one shows."""

from __future__ import annotations

import h11

from faultkit import Live

LARGE = 10**18  # makes an answer long enough to be cut, and for `sockets.hold_back`


async def http(conn: Live) -> None:
    """HTTP/1.1 with keep-alive: the body is the request's target."""
    server = h11.Connection(h11.SERVER)
    target = b""
    while True:
        event = server.next_event()
        if event is h11.NEED_DATA:
            server.receive_data(await conn.receive())
        elif isinstance(event, h11.Request):
            target = event.target
        elif isinstance(event, h11.EndOfMessage):
            await conn.request()
            head = server.send(h11.Response(status_code=200, headers=[("Content-Length", str(len(target)))]))
            await conn.answer(server.send(h11.Data(target)) or b"", head or b"")
            server.send(h11.EndOfMessage())
            server.start_next_cycle()
        elif isinstance(event, h11.ConnectionClosed):
            return


async def redis(conn: Live) -> None:
    """RESP, as much as redis-py needs (https://redis.io/docs/latest/develop/reference/protocol-spec/): GET gives the key's
    own name, INCRBY a number made of the one that ends it. What a client says about itself first is no request."""
    heard = b""
    while True:
        taken = _command(heard)
        if taken is None:
            if not (data := await conn.receive()):
                return
            heard += data
            continue
        words, heard = taken
        if words[0] == b"GET":
            await conn.request()
            await conn.answer(words[1] + b"\r\n", b"$%d\r\n" % len(words[1]))
        elif words[0] == b"INCRBY":
            await conn.request()
            await conn.answer(b"%d\r\n" % (LARGE + int(words[1].rpartition(b"/")[2])), b":")
        elif words[0] == b"HELLO":
            await conn.send(b"%1\r\n$5\r\nproto\r\n:3\r\n")
        elif words[0] == b"CLIENT":
            await conn.send(b"+OK\r\n")
        else:
            await conn.send(b"-ERR unknown command\r\n")


def _command(heard: bytes) -> tuple[list[bytes], bytes] | None:
    """The first command, an array of bulk strings, and what comes after it. None where it is not all there."""
    head, *lines = heard.split(b"\r\n")
    count = 2 * int(head[1:] or b"0")
    if not head or len(lines) <= count:
        return None
    return lines[1:count:2], b"\r\n".join(lines[count:])
