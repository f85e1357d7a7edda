# The application: it answers a request when it gets a byte through the pipe "go".
import os


def say(what):
    os.write(1, f"{what}\n".encode())  # in one piece: the workers share it


def application(environ, start_response):
    say(f"{environ['REQUEST_METHOD']} {environ['PATH_INFO']} is being worked on")
    with open("go", "rb", buffering=0) as go:
        go.read(1)
    environ["wsgi.input"].read()
    start_response("200 OK", [("Content-Length", "3")])
    return [b"ok\n"]


say("ready")
