# Each instance, in the foreground: gunicorn -c gunicorn.conf.py -b 127.0.0.1:PORT app
loglevel = "warning"
workers = 1
graceful_timeout = 30
