# A web application with redis behind it: each path asks redis in another way. A failure is answered 500 and logged.
from http.server import BaseHTTPRequestHandler, HTTPServer

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

SERVER = {"host": "127.0.0.1", "port": 6379}
pooled = redis.Redis(**SERVER)
single = redis.Redis(**SERVER, single_connection_client=True)
# What redis-py was before version 6: nothing is tried again.
once = redis.Redis(**SERVER, single_connection_client=True, retry=Retry(NoBackoff(), 0))
watching = pooled.pipeline()


def watch() -> None:
    watching.watch("key")


def execute() -> None:
    watching.multi()
    watching.set("key", "value")
    watching.execute()


PATHS = {
    "/pooled": lambda: pooled.get("key"),
    "/single": lambda: single.get("key"),
    "/once": lambda: once.get("key"),
    "/watch": watch,
    "/execute": execute,
}


class Application(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        status = 200
        try:
            PATHS[self.path]()
        except redis.RedisError as error:
            kind = type(error)
            print(f"{self.path}: {kind.__module__}.{kind.__name__}: {error}", flush=True)
            status = 500
        self.send_response(status)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_request(self, *_: object) -> None:
        """Only what fails is logged."""


HTTPServer(("127.0.0.1", 8080), Application).serve_forever()
