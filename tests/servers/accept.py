"""Serves the listening socket that is its stdin, until TERM; then it finishes what it has accepted."""

import os
import select
import signal
import socket
import sys

ours, wakes = socket.socketpair()
wakes.setblocking(False)
signal.set_wakeup_fd(wakes.fileno())
signal.signal(signal.SIGTERM, lambda *_: None)
listener = socket.socket(fileno=0)
# Another generation may be faster.
listener.setblocking(False)
body = f"pid {os.getpid()} generation {os.environ['SEAMLESS_GENERATION']} socket {sys.argv[1]}\n"
answer = f"HTTP/1.1 200 OK\r\nContent-Length: {len(body)}\r\nConnection: close\r\n\r\n{body}".encode()
while ours not in select.select([ours, listener], [], [])[0]:
    try:
        connection, _ = listener.accept()
    except BlockingIOError:
        continue
    with connection:
        connection.setblocking(True)
        request = b""
        while not request.endswith(b"\r\n\r\n"):
            more = connection.recv(4096)
            if not more:
                break
            request += more
        else:
            connection.sendall(answer)
