"""A daemon that does what the test tells it, line by line of Python, at the moment that the test wants.

It reads the lines from a FIFO of its own, $PIPES/PID, says `PID does N LINE` before and `PID did N` after each one, and
nothing of readiness by itself. In its environment: TRAPS, the signals that it catches (TERM); EXITS, those of them that
end it (TERM); FIRST, a line to begin with."""

import array
import os
import select
import signal
import socket
import sys
import time


def say(*words):
    # One write for a line: the log has several writers.
    os.write(1, (" ".join(str(word) for word in words) + "\n").encode())


def notify(text):
    """To the keeper; returns its answer."""
    ours, theirs = socket.socketpair()
    keeper = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    passed = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", [theirs.fileno()]))]
    keeper.sendmsg([text.encode()], passed, 0, "\0" + os.environ["NOTIFY_SOCKET"][1:])
    theirs.close()
    return ours.recv(4096).decode()


KINDS = {
    "tcp": (socket.AF_INET, socket.SOCK_STREAM),
    "tcp6": (socket.AF_INET6, socket.SOCK_STREAM),
    "udp": (socket.AF_INET, socket.SOCK_DGRAM),
    "udp6": (socket.AF_INET6, socket.SOCK_DGRAM),
    "unix": (socket.AF_UNIX, socket.SOCK_STREAM),
    "unix-dgram": (socket.AF_UNIX, socket.SOCK_DGRAM),
    "unix-seqpacket": (socket.AF_UNIX, socket.SOCK_SEQPACKET),
}
opened = {}


def bind(name, kind, address, only6=True):
    family, type = KINDS[kind]
    one = socket.socket(family, type)
    if family != socket.AF_UNIX:
        one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    if family == socket.AF_INET6:
        one.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, int(only6))
    one.bind(address)
    opened[name] = one


def listen(name, kind, address, only6=True):
    bind(name, kind, address, only6)
    if KINDS[kind][1] != socket.SOCK_DGRAM:
        opened[name].listen()


def close(name):
    opened.pop(name).close()


def write(path, text):
    with open(path, "w") as file:
        file.write(text)


def tell(text):
    """To the keeper, without a wish for an answer."""
    keeper = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    keeper.sendto(text.encode(), "\0" + os.environ["NOTIFY_SOCKET"][1:])


def child(session=False, group=False, orphan=False):
    """Another puppet: a child; or an orphan, since its parent has ended."""
    number = os.fork()
    if number:
        if orphan:
            os.waitpid(number, 0)
        return
    # Before anybody hears of it: an orphan is nobody's child any more.
    if session:
        os.setsid()
    if group:
        os.setpgid(0, 0)
    if orphan:
        before = os.getpid()
        if os.fork():
            os._exit(0)
        while os.getppid() == before:
            time.sleep(0.001)
    be_puppet()


def error_of(does):
    try:
        does()
    except OSError as error:
        return error


def leave(code=0):
    os._exit(code)


def caught(number, _):
    name = signal.Signals(number).name if number < signal.SIGRTMIN else f"SIGRTMIN+{number - signal.SIGRTMIN}"
    say(os.getpid(), "got", name[3:])
    if number in exits:
        os._exit(0)


def signals(names):
    for name in names.split():
        yield signal.SIGRTMIN + int(name[6:]) if name.startswith("RTMIN+") else signal.Signals["SIG" + name]


def be_puppet():
    """Never returns."""
    pid = os.getpid()
    path = f"{os.environ['PIPES']}/{pid}"
    os.mkfifo(path)
    lines = os.open(path, os.O_RDWR | os.O_CLOEXEC)
    wake_reader, wake_writer = os.pipe()
    os.set_blocking(wake_reader, False)
    os.set_blocking(wake_writer, False)
    signal.set_wakeup_fd(wake_writer)
    # Out of the way of numbers that a test chooses.
    lines, wake_reader = [high(one) for one in (lines, wake_reader)]
    say("up", pid, os.environ.get("SEAMLESS_GENERATION", "-"), "child of", os.getppid())
    rest, done = b"", 0
    while True:
        if wake_reader in select.select([lines, wake_reader], [], [])[0]:
            os.read(wake_reader, 64)
            continue
        rest += os.read(lines, 4096)
        *whole, rest = rest.split(b"\n")
        for line in whole:
            done += 1
            say(pid, "does", done, line.decode())
            outcome = "ok"
            try:
                exec(line.decode(), globals())
            except Exception as error:
                outcome = repr(error)
            if os.getpid() != pid:
                leave()
            say(pid, "did", done, outcome)


def high(number):
    import fcntl

    copy = fcntl.fcntl(number, fcntl.F_DUPFD_CLOEXEC, 100)
    os.close(number)
    return copy


exits = set(signals(os.environ.get("EXITS", "TERM")))
for one in signals(os.environ.get("TRAPS", "TERM")):
    signal.signal(one, caught)
if "FIRST" in os.environ:
    exec(os.environ["FIRST"], globals())
be_puppet()
