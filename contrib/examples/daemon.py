#!/usr/bin/env python3
"""An HTTP server in Python that takes part in seamless restarts. The standard library is all that it needs.

    mkdir -p /run/app; seamless-run --pid-file /run/app/app.pid --listen http=127.0.0.1:8080 -- python3 daemon.py
    curl 'http://127.0.0.1:8080/?delay=5000ms'

Restart it (under runit, say: `sv restart app`) while curl waits: curl gets its answer, and whoever comes next is answered by the new generation.

It runs without seamless-run too: it opens 127.0.0.1:8080 by itself, nobody is told anything, and TERM or Ctrl-C ends
it in the same way.
"""

import os
import re
import signal
import socket
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


def say(word):
    """Tells the keeper, our parent, and waits until that has taken effect. An error is no reason to stop serving."""
    if "SEAMLESS" not in os.environ:
        return
    ours, theirs = socket.socketpair()
    with ours, theirs, socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as keeper:
        try:
            keeper.connect("\0" + os.environ["NOTIFY_SOCKET"].removeprefix("@"))
            socket.send_fds(keeper, [f"X_SEAMLESS={word}".encode()], [theirs.fileno()])
            theirs.close()  # ours ends when the keeper's copy does
            ours.settimeout(10)
            answer = ours.recv(4096).decode()  # "ok", "error=" and why, or nothing: we were not believed
        except OSError as error:
            answer = str(error)
    if answer != "ok":
        sys.stderr.write(f"daemon.py: {word}: {answer or 'not believed'}; serving on\n")


class Answer(BaseHTTPRequestHandler):
    timeout = 5  # for a client that connects and asks nothing: a drain would wait for it

    def do_GET(self):
        delay = re.search(r"[?&]delay=(\d+)ms", self.path)
        time.sleep(int(delay[1]) / 1000 if delay else 0)
        body = f"pid {os.getpid()} generation {os.environ.get('SEAMLESS_GENERATION', '-')}\n".encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


class Server(ThreadingHTTPServer):
    daemon_threads = False  # or nobody would wait for them, and what is in hand would be cut off


def main():
    # First of all: USR2 kills a process that does not listen to it. Each signal comes as a byte, with its number: a
    # thread that waits for anything but a descriptor may sleep through one.
    signals, wakes = socket.socketpair()
    wakes.setblocking(False)
    signal.set_wakeup_fd(wakes.fileno())
    for number in (signal.SIGUSR2, signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: None)

    if os.environ.get("LISTEN_PID") == str(os.getpid()):
        server = Server(None, Answer, bind_and_activate=False)
        server.socket.close()
        server.socket = socket.socket(fileno=3)  # the first --listen; the next ones are 4, 5, …
    else:
        server = Server(("127.0.0.1", 8080), Answer)
    # All generations accept from one queue. Another one may be faster, and `accept` must not wait then.
    server.socket.setblocking(False)
    threading.Thread(target=server.serve_forever).start()

    say("started")  # all that can fail has been done: now the predecessor is told to drain
    while signals.recv(1)[0] == signal.SIGUSR2:
        say("prepared")  # a successor will come: go on serving

    # TERM: the successor serves, or this is a stop.
    server.shutdown()  # accept nobody any more: who waits in the queue is the successor's
    server.server_close()  # returns when all that was in hand has been answered


main()
