"""What another user of the machine can do. The first word says what; it is run by an ordinary user's right."""
import array, ctypes, errno, os, signal, socket, struct, subprocess, sys, time

libc = ctypes.CDLL(None, use_errno=True)
EXCHANGE = 2


def say(*words):
    print(*words, flush=True)


def wait_for_ever():
    open(os.environ["NOTHING"]).read()


def connected(address):
    notify = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    notify.connect("\0" + address[1:])
    return notify


def rights(descriptors):
    return (socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", descriptors))


def listen_at(path):
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    listener.bind(path)
    os.chmod(path, 0o777)
    listener.listen(64)
    return listener


def make(kind, path, content):
    if kind == "directory":
        os.mkdir(path)
        open(path + "/full", "w").close()
    elif kind == "fifo":
        os.mkfifo(path, 0o666)
        os.chmod(path, 0o666)
    elif kind == "socket":
        listen_at(path)
    elif kind == "file":
        with open(path, "w") as file:
            file.write(content)
        os.chmod(path, 0o644)
    elif kind == "hard":
        os.link(content, path, follow_symlinks=False)
    else:
        os.symlink(content, path)


def plant(kind, path, content):
    """One thing at one place, in the place of what was there."""
    try:
        if os.path.lexists(path):
            os.rename(path, path + ".away")
        make(kind, path, content)
        say("planted")
    except OSError as error:
        say(errno.errorcode[error.errno])


def serve():
    """Plants what it is told to, line by line."""
    for line in sys.stdin:
        plant(*line.rstrip("\n").encode().decode("unicode_escape").split("\t"))


def swap(directory, record, victim, count):
    """Each of the files and its evil twin change places, over and over."""
    twins = []
    for name in ["app.pid", "app.pid.record", "app.pid.sock", "app.pid.lock", "app.pid.new", "app.pid.record.new", "app.pid.sock.new"]:
        for twin, kind, content in [("evil", "file", record), ("link", "link", victim)]:
            twin = f"{directory}/{twin}.{name}"
            make(kind, twin, content)
            twins.append((twin.encode(), f"{directory}/{name}".encode()))
    say("swapping")
    done = 0
    for _ in range(int(count)):
        for one, other in twins:
            done += libc.renameat2(-100, one, -100, other, EXCHANGE) == 0
        time.sleep(0)
    say("swapped", done)


def impersonate(path, answer):
    """Somebody else's socket in the place of the keeper's: it lies, or is silent."""
    os.rename(path, path + ".away")
    listener = listen_at(path)
    say("listens")
    while True:
        caller, _ = listener.accept()
        say("a caller")
        if answer:
            caller.send(answer.encode().decode("unicode_escape").encode())


def reach(*paths):
    """Whether a keeper can be spoken to."""
    for path in paths:
        try:
            caller = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
            caller.connect(path)
            say("reached", path)
        except OSError as error:
            say(errno.errorcode[error.errno])


def forge(address, *messages):
    """Each message with a pipe's end; says when nobody has that end any more."""
    notify = connected(address)
    for message in messages:
        reading, writing = os.pipe()
        notify.sendmsg([message.encode().decode("unicode_escape").encode()], [rights([writing])])
        os.close(writing)
        os.read(reading, 1)
        os.close(reading)
    say("closed", len(messages))


def credentials(address, daemon):
    """The kernel vouches for what is said of the sender."""
    notify = connected(address)
    own, user = os.getpid(), os.getuid()
    for pid, uid in [(int(daemon), 0), (own, 0), (int(daemon), user), (1, 0), (2**22 - 2, user)]:
        control = (socket.SOL_SOCKET, 2, struct.pack("iII", pid, uid, user))
        try:
            notify.sendmsg([b"X_SEAMLESS=started"], [control])
            say("forged", pid, uid)
        except OSError as error:
            say(errno.errorcode[error.errno])


def leave(address, count):
    """From processes that have gone by the time they are looked at."""
    for _ in range(int(count)):
        if os.fork() == 0:
            connected(address).send(b"X_SEAMLESS=started")
            os._exit(0)
        os.wait()
    say("left", count)


def flood(kind, address, count):
    notify, nothing = connected(address), os.open("/dev/null", os.O_RDONLY)
    sent = 0
    while sent < int(count):
        pair = socket.socketpair()
        pair[0].sendmsg([b"x"], [rights([pair[1].fileno()])])
        bytes, control = {
            "plain": (b"READY=1", []),
            "empty": (b"", []),
            "huge": (b"=" * 150000, []),
            "descriptors": (b"READY=1", [rights([nothing] * 253)]),
            "flight": (b"READY=1", [rights([pair[0].fileno()])]),
        }[kind]
        try:
            notify.sendmsg([bytes], control)
            sent += 1
        except OSError as error:
            # Too many descriptors in flight, for this user.
            if error.errno != errno.ETOOMANYREFS:
                raise
        for one in pair:
            one.close()
    say("flooded", kind)


def borrow(address, program, message):
    """A set-user-ID program says it, whose stderr is the keeper's socket."""
    notify = connected(address)
    ended = subprocess.run([program, message], stderr=notify.fileno())
    say("borrowed", ended.returncode)


def slow(address, path):
    """Passes a descriptor of a file system whose owner never answers a close."""
    file = os.open(path, os.O_RDWR)
    connected(address).sendmsg([b"READY=1"], [rights([file])])
    say("passed")
    wait_for_ever()


def crowd(path, count):
    """Connections that say half of something, nonsense, or too much; that do not read; that go at once."""
    held = []
    said = [b"", b"seamless-control 1.0 sta", b"\xff\0\n", b"seamless-control 1.0 status\nwatch=1\n", b"x" * 199999, b"seamless-control 9.0 stop\n"]
    for number in range(int(count)):
        caller = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        caller.connect(path)
        text = said[number % len(said)]
        try:
            if text:
                caller.sendmsg([text], [rights([0] * (number % 3))] if number % 3 else [])
        except (BrokenPipeError, ConnectionResetError):
            pass
        held.append(caller)
    try:
        held[-1].send(b"x" * 10_000_000)
    except OSError as error:
        say(errno.errorcode[error.errno])
    say("crowded")
    wait_for_ever()


def come_and_go(path, count):
    for _ in range(int(count)):
        caller = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        caller.connect(path)
        caller.close()
    say("came", count)


globals()[sys.argv[1]](*sys.argv[2:])
