import pytest
import trio

from faultkit import FaultServer, Live, sockets


@pytest.mark.trio
async def test_both_ends_in_one_loop(trio_fault_server: FaultServer) -> None:
    deaf = trio.Event()

    async def greets_and_is_gone(conn: Live) -> None:
        await conn.send(b"hello")
        conn.black_hole()
        deaf.set()
        await trio.sleep_forever()  # a handler that returns closes the connection

    server = trio_fault_server(answer=greets_and_is_gone)
    async with await trio.open_tcp_stream(*server.address) as client:
        assert await client.receive_some() == b"hello"
        await deaf.wait()
        sockets.user_timeout(client.socket, seconds=0.3)
        await client.send_all(b"anybody?")
        with trio.fail_after(5), pytest.raises(trio.BrokenResourceError) as lost:
            await client.receive_some()
        assert isinstance(lost.value.__cause__, TimeoutError)  # ETIMEDOUT, from the kernel
