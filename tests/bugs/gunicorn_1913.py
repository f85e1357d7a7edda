# /// bug
# field = "HTTP servers"
# library = "gunicorn"
# buggy = "20.0.4"
# fixed = "20.1.0"
# report = "benoitc/gunicorn#1913"
# seen = "[ERROR]"
# beside = ["setuptools<80"]
# ///
"""A client that is gone before accept() is logged as an error, with a traceback."""

import http.client
import socket
import subprocess
import sys
from pathlib import Path

from faultkit import sockets

APP = "def app(environ, start):\n    start('200 OK', [])\n    return [b'hello']\n"


def test_a_client_that_is_gone_before_accept(tmp_path: Path) -> None:
    (tmp_path / "app.py").write_text(APP)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        client = socket.create_connection(listener.getsockname())
        client.sendall(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        sockets.abort(client)
        number = listener.fileno()
        command = [sys.executable, "-m", "gunicorn.app.wsgiapp", "--bind", f"fd://{number}", "app:app"]
        server = subprocess.Popen(command, cwd=tmp_path, pass_fds=[number], stderr=subprocess.PIPE, text=True)
        try:
            healthy = http.client.HTTPConnection("127.0.0.1", listener.getsockname()[1], timeout=10)
            healthy.request("GET", "/")
            healthy.getresponse().read()
        finally:
            server.terminate()
            log = server.communicate(timeout=10)[1]
        assert "[ERROR]" not in log
