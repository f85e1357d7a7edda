# In the foreground, with everything in this directory: gunicorn -c gunicorn.conf.py app
bind = "127.0.0.1:8081"
workers = 1
loglevel = "warning"
graceful_timeout = 30
