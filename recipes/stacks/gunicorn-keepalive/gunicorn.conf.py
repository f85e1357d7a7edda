# In the foreground, with everything in this directory: gunicorn -c gunicorn.conf.py app
bind = "127.0.0.1:8081"
worker_class = "gthread"
threads = 2
loglevel = "warning"
keepalive = 1
