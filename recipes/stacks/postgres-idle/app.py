# A web application with PostgreSQL behind it: each path has a connection of its own. A failure is answered 500 and logged.
from http.server import BaseHTTPRequestHandler, HTTPServer

import psycopg

WHERE = "host=127.0.0.1 dbname=postgres user=app sslmode=disable gssencmode=disable"
connections: dict[str, psycopg.Connection] = {}


def lend(path: str) -> psycopg.Connection:
    kept = connections.get(path)
    if kept is None:
        # A session may set its own: /hold is idle for as long as it likes.
        options = "-c idle_session_timeout=0" if path == "/hold" else ""
        kept = connections[path] = psycopg.connect(WHERE, options=options, autocommit=True)
    return kept


def ask(path: str) -> None:
    if path == "/terminate":
        with psycopg.connect(WHERE, autocommit=True) as admin:
            admin.execute("SELECT pg_terminate_backend(%s)", [connections["/report"].info.backend_pid])
    else:
        lend(path).execute("SELECT 1")


class Application(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        status = 200
        try:
            ask(self.path)
        except psycopg.Error as error:
            kind = type(error)
            print(f"{self.path}: {kind.__module__}.{kind.__name__}: {str(error).splitlines()[0]}", flush=True)
            status = 500
        self.send_response(status)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_request(self, *_: object) -> None:
        """Only what fails is logged."""


HTTPServer(("127.0.0.1", 8080), Application).serve_forever()
