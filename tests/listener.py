"""A daemon for the tests of held sockets. It says what it was given, and serves it.

In its environment: SERVE=0, it accepts nobody; STARTED=0, it never says that it is ready, usr1: when it gets USR1,
file: in the PID file; BIND=PATH, it opens a Unix socket by itself;
PREPARES=0, it does not answer USR2, none: it does not catch it; CRASH=N, it exits with N when it is up; LEAVE=N, when it
gets ALRM; LINGER=FIFO, it drains until somebody has written there; DUMPABLE=0, nobody may look into it;
SHUT=1, when it gets TERM it calls shutdown on its sockets, which others have as well."""

import array
import os
import select
import signal
import socket
import sys


def say(*words):
    # One write for a line: the log has several writers.
    os.write(1, (" ".join(str(word) for word in words) + "\n").encode())


def tell(text):
    """To the keeper; returns its answer."""
    ours, theirs = socket.socketpair()
    keeper = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    passed = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", [theirs.fileno()]))]
    try:
        keeper.sendmsg([text.encode()], passed, 0, "\0" + os.environ["NOTIFY_SOCKET"][1:])
    except OSError as error:
        return str(error)
    theirs.close()
    return ours.recv(4096).decode()


def given():
    count = int(os.environ.get("LISTEN_FDS", "0"))
    names = os.environ.get("LISTEN_FDNAMES", "").split(":")
    for number in range(3, 3 + count):
        yield names[number - 3], socket.socket(fileno=number)


pid, generation = os.getpid(), os.environ.get("SEAMLESS_GENERATION", "-")
over = [False]
wake_reader, wake_writer = os.pipe()
os.set_blocking(wake_writer, False)
signal.set_wakeup_fd(wake_writer)


def end(*_):
    say(pid, "got TERM")
    over[0] = True
    for _, one in sockets if "SHUT" in os.environ else []:
        one.shutdown(socket.SHUT_RDWR)


signal.signal(signal.SIGTERM, end)
prepares = os.environ.get("PREPARES", "1")
if prepares == "1":
    signal.signal(signal.SIGUSR2, lambda *_: say(pid, "prepared", tell("X_SEAMLESS=prepared")))
elif prepares == "0":
    signal.signal(signal.SIGUSR2, lambda *_: say(pid, "got USR2"))
started = os.environ.get("STARTED", "1")
if started == "usr1":
    signal.signal(signal.SIGUSR1, lambda *_: say(pid, "is started", tell("X_SEAMLESS=started")))
if "LEAVE" in os.environ:
    signal.signal(signal.SIGALRM, lambda *_: os._exit(int(os.environ["LEAVE"])))

sockets = list(given())
if "BIND" in os.environ:
    own = socket.socket(socket.AF_UNIX)
    own.bind(os.environ["BIND"])
    own.listen()
    sockets.append(("own", own))
kinds = {socket.SOCK_STREAM: "stream", socket.SOCK_DGRAM: "dgram", socket.SOCK_SEQPACKET: "seqpacket"}
for name, one in sockets:
    family = {socket.AF_INET: "inet", socket.AF_INET6: "inet6", socket.AF_UNIX: "unix"}[one.family]
    address = one.getsockname()
    if isinstance(address, bytes):
        address = "@" + address[1:].decode()
    if isinstance(address, tuple):
        address = f"{address[0]}/{address[1]}"
    inode = os.fstat(one.fileno()).st_ino
    say(pid, "has", one.fileno(), name, family, kinds[one.type], address, inode)
for name in ["LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES", "NGINX", "SERVER_STARTER_PORT", "SERVER_STARTER_GENERATION"]:
    if name in os.environ:
        say(pid, "env", f"{name}={os.environ[name]}")
if "DUMPABLE" in os.environ:
    import ctypes

    ctypes.CDLL(None).prctl(4, int(os.environ["DUMPABLE"]), 0, 0, 0)
say("up", pid, generation)
if os.environ.get("CRASH"):
    sys.exit(int(os.environ["CRASH"]))
if started == "1":
    say(pid, "is started", tell("X_SEAMLESS=started"))
elif started == "file":
    with open(os.environ["SEAMLESS_PID_FILE"], "w") as file:
        file.write(f"{pid}\n")

serves = os.environ.get("SERVE", "1") == "1"
while not over[0]:
    wanted = [one for _, one in sockets if serves] + [wake_reader]
    for ready in select.select(wanted, [], [])[0]:
        if ready == wake_reader:
            os.read(wake_reader, 64)
        elif ready.type == socket.SOCK_DGRAM:
            # Another generation may have been faster.
            ready.setblocking(False)
            try:
                text, sender = ready.recvfrom(4096)
            except BlockingIOError:
                continue
            if sender:
                ready.sendto(f"{pid} {generation} {text.decode()}".encode(), sender)
            else:
                say(pid, "received", text.decode())
        else:
            ready.setblocking(False)
            try:
                caller, _ = ready.accept()
            except BlockingIOError:
                continue
            caller.setblocking(True)
            try:
                caller.sendall(f"{pid} {generation}\n".encode())
            except OSError:
                # It did not wait.
                pass
            caller.close()
for _, one in sockets:
    one.close()
if os.environ.get("LINGER"):
    # Drains until it is told that it is enough.
    with open(os.environ["LINGER"]) as fifo:
        fifo.read()
say(pid, "ends")
