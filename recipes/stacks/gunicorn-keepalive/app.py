# The application: it answers with the port that nginx's connection came from.
def application(environ, start_response):
    environ["wsgi.input"].read()
    body = environ["REMOTE_PORT"].encode()
    start_response("200 OK", [("Content-Length", str(len(body)))])
    return [body]
