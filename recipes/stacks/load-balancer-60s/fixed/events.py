# The HTTP server: an answer that is sent as it comes (text/event-stream), with something to tell after three minutes.
import os
import select
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

SECOND = float(os.environ.get("SECOND", "1"))  # a play's is shorter
QUIET = 20  # seconds between two lines


class Events(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream")
        self.send_header("Connection", "close")
        self.end_headers()
        try:
            for _ in range(180 // QUIET):
                if select.select([self.connection], [], [], QUIET * SECOND)[0]:
                    self.connection.recv(1)
                self.wfile.write(b": still here\n\n")
            self.wfile.write(b"data: news\n\n")
        except ConnectionResetError as error:
            print(f"ConnectionResetError: {error}", flush=True)


ThreadingHTTPServer(("127.0.0.1", 8091), Events).serve_forever()
