# /etc/gunicorn/gunicorn.conf.py
chdir = "/usr/local/share/app"
wsgi_app = "app:application"
workers = 4
# In threads, so that a long request is no hung worker, which gunicorn would KILL after `timeout`.
worker_class = "gthread"
threads = 4

# After TERM gunicorn KILLs what has not finished by then. No less than --drain-timeout of the run script.
graceful_timeout = 600

# No `pidfile`: the next master would find this one alive, and refuse to start.

# The application's environment; this is what it answers.
raw_env = ["ANSWER=generation 1"]
