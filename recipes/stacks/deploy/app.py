# The application: POST /slow is answered when there is a byte in the pipe "go", everything else at once.
import os


def application(environ, start_response):
    if environ["PATH_INFO"] == "/slow":
        os.write(1, b"POST /slow is being worked on\n")
        with open("go", "rb", buffering=0) as go:
            go.read(1)
    environ["wsgi.input"].read()
    start_response("200 OK", [("Content-Length", "4")])
    return [environ["SERVER_PORT"].encode()]
