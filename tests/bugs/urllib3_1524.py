# /// bug
# field = "HTTP"
# library = "urllib3"
# buggy = "1.25.11"
# fixed = "1.26.0"
# report = "urllib3/urllib3#1524"
# seen = "BrokenPipeError"
# ///
"""A body that meets EPIPE hides the answer that the server had given before it reset."""

from collections.abc import Iterator

import urllib3

from faultkit import FaultServer


def test_the_early_answer_is_read(fault_server: FaultServer) -> None:
    answer = b"HTTP/1.1 413 Content Too Large\r\nContent-Length: 0\r\n\r\n"
    server = fault_server("late-write", after_answers=1, answer=answer)

    def body() -> Iterator[bytes]:
        yield b"enough to be answered"
        server.wait_for_connection().wait_for_end()
        yield b"answered with RST"
        yield b"EPIPE"

    assert urllib3.PoolManager().request("POST", server.url, body=body(), retries=False).status == 413
