//! Every option that can be typed before a COMMAND, and what it means: the one table that is read, and that `--help`
//! is written from. The texts are looked at by whoever asks for them, and cost a start nothing.

/// An option.
#[derive(Debug)]
pub(crate) struct Opt {
    /// Without its dashes.
    pub(crate) long: &'static str,
    pub(crate) short: Option<char>,
    /// What its value is called; a flag has none.
    pub(crate) value: &'static str,
    /// Where it stands in the help.
    pub(crate) heading: &'static str,
    /// For `-h`: half a line.
    pub(crate) brief: &'static str,
    /// For `--help`: what else there is to say, in sentences.
    pub(crate) more: &'static str,
    /// Where it is not typed; empty where there is nothing to say about that.
    pub(crate) default: &'static str,
    /// As one would type it.
    pub(crate) example: &'static str,
    /// It may be typed more than once.
    pub(crate) repeats: bool,
    /// Its value may be any bytes: a file name.
    pub(crate) bytes: bool,
    /// Another one without which it has no meaning.
    pub(crate) needs: &'static str,
    /// Another one that it contradicts.
    pub(crate) excludes: &'static [&'static str],
}

impl Opt {
    /// To be filled in.
    pub(crate) const NEW: Opt = Opt {
        long: "",
        short: None,
        value: "",
        heading: "",
        brief: "",
        more: "",
        default: "",
        example: "",
        repeats: false,
        bytes: false,
        needs: "",
        excludes: &[],
    };
}

/// A way to call the program.
#[derive(Debug)]
pub(crate) struct Form {
    /// `seamless-run`, or with a verb behind it.
    pub(crate) name: &'static str,
    /// Behind the name, a line for each.
    pub(crate) usage: &'static [&'static str],
    /// The first line of the help.
    pub(crate) about: &'static str,
    /// More of it, for `--help`.
    pub(crate) more: &'static str,
    /// In their order; options with one heading stand together.
    pub(crate) options: &'static [&'static [Opt]],
    /// The first word that is no option begins a command, whose words are its own.
    pub(crate) has_command: bool,
    /// Behind the options, in both helps; and in the long one.
    pub(crate) after: &'static str,
    pub(crate) after_long: &'static str,
}

impl Form {
    pub(crate) fn all(&self) -> impl Iterator<Item = &'static Opt> {
        self.options.iter().copied().flatten()
    }
}

const SERVICE: &str = "The service";
const SOCKETS: &str = "Sockets";
const READINESS: &str = "Readiness";
const SIGNALS: &str = "Signals";
const LIMITS: &str = "Time limits";
const LOG: &str = "Log and help";

/// What is typed when a daemon is to be run.
pub(crate) static RUN: Form = Form {
    name: "seamless-run",
    usage: &[
        "seamless-run [OPTIONS] [--] COMMAND [ARG]...",
        "seamless-run status FILE... | restart FILE | stop FILE",
        "seamless-run notify WORD...",
        "seamless-run check [--unit UNIT | --service DIRECTORY | RUN OPTIONS]",
    ],
    about: "Makes the ordinary restart of a service supervisor a zero-downtime restart",
    more: "On TERM the daemon is told to prepare (USR2), and goes on serving, detached, while the supervisor starts its successor; when that one is ready, the old one is told to drain (TERM): it finishes what it has in hand, and exits.",
    options: &[RUN_OPTIONS, REHEARSAL],
    has_command: true,
    after: "Verbs, each with a --help of its own:\n\
        \x20 status   shows every generation of a running service\n\
        \x20 restart  restarts it, and waits for the verdict on the new generation\n\
        \x20 stop     ends every generation, or those that drain\n\
        \x20 notify   says to the launcher that this daemon has started, is prepared, ...\n\
        \x20 check    says what will go wrong with a service under its supervisor\n\
        They are verbs as the first word only: -- status is a command of that name.\n\
        \n\
        TIME is like 500ms, 5s, 2m or 1h; a bare number is seconds, 0 or none is never.\n\
        SIGNAL is like TERM, SIGTERM, 15 or RTMIN+1.\n\
        \n\
        Exit status: the daemon's own; 0 after a restart; 125 seamless-run itself\n\
        failed, 126 the command cannot be executed, 127 it was not found.",
    after_long: "Examples:\n\
        \x20 The run script of runit, daemontools or s6; restart with sv restart app:\n\
        \x20   #!/bin/sh\n\
        \x20   exec 2>&1\n\
        \x20   mkdir -p /run/app\n\
        \x20   exec seamless-run --pid-file /run/app/app.pid --listen http=:80 -- ./daemon\n\
        \n\
        \x20 A unit of systemd; restart with systemctl restart app, and ask\n\
        \x20 seamless-run check --unit app what is missing in it:\n\
        \x20   Type=notify\n\
        \x20   NotifyAccess=main\n\
        \x20   KillMode=process\n\
        \x20   Restart=always\n\
        \x20   ExecStart=/usr/local/bin/seamless-run --pid-file /run/app/app.pid \\\n\
        \x20       --listen http=:80 --ready-timeout 1m -- /usr/bin/daemon\n\
        \n\
        \x20 A server that knows nothing of this, unchanged:\n\
        \x20   exec seamless-run --pid-file /run/seamless/nginx.pid \\\n\
        \x20       --listen-env nginx --listen tcp4:80 --pre-start 'nginx -t -q' \\\n\
        \x20       --ready listen:80 --drain-signal QUIT -- nginx -g 'daemon off;'\n\
        \n\
        What would be done, without doing it: seamless-run --dry-run ... -- COMMAND",
};

/// They are those of `check`, too.
pub(crate) const RUN_OPTIONS: &[Opt] = &[
    Opt {
        long: "pid-file",
        short: Some('p'),
        value: "FILE",
        heading: SERVICE,
        brief: "names the service; without it nothing is seamless",
        more: "Lock, record and control socket lie beside it, in a directory that only root or the service's own user can write.",
        example: "--pid-file /run/app/app.pid",
        bytes: true,
        ..Opt::NEW
    },
    Opt {
        long: "name",
        value: "NAME",
        heading: SERVICE,
        brief: "what it is called in log lines",
        default: "from the PID file",
        example: "--name shop",
        ..Opt::NEW
    },
    Opt {
        long: "pre-start",
        value: "COMMAND",
        heading: SERVICE,
        brief: "run this before the daemon; it may say no",
        more: "By /bin/sh, before each start. If it fails, this generation ends, and its predecessor serves on.",
        example: "--pre-start 'nginx -t -q'",
        needs: "pid-file",
        ..Opt::NEW
    },
    Opt {
        long: "post-start",
        value: "COMMAND",
        heading: SERVICE,
        brief: "run this once the daemon has been started",
        more: "By /bin/sh, with SEAMLESS_PID and SEAMLESS_GENERATION set. A failure is only logged.",
        example: "--post-start 'renice -n 5 $SEAMLESS_PID'",
        needs: "pid-file",
        ..Opt::NEW
    },
    Opt {
        long: "listen",
        short: Some('l'),
        value: "[NAME=]ADDR[,OPT...]",
        heading: SOCKETS,
        brief: "open this socket, hold it through every restart and crash, and pass it to the daemon, from fd 3 on",
        more: "Once for each socket. ADDR is 8080, 127.0.0.1:8080, [::]:443, udp:53, /run/app.sock, @abstract, ...; OPT is backlog, mode, owner, group, reuseport, v6only, freebind, device, keepalive.",
        example: "--listen http=:8080 --listen /run/app/app.sock,mode=660",
        repeats: true,
        bytes: true,
        ..Opt::NEW
    },
    Opt {
        long: "listen-env",
        value: "CONVENTION",
        heading: SOCKETS,
        brief: "how it is told of them: systemd, nginx, server-starter",
        more: "LISTEN_FDS is always set; nginx finds NGINX beside it (and gets no prepare signal), the daemons of start_server SERVER_STARTER_PORT.",
        default: "systemd",
        example: "--listen-env nginx",
        ..Opt::NEW
    },
    Opt {
        long: "ready",
        short: Some('r'),
        value: "WHEN",
        heading: READINESS,
        brief: "when a new generation is taken for ready; repeated: all of it must hold",
        more: "notify: it says so, to NOTIFY_SOCKET or by seamless-run notify started. listen:ADDR: it listens there, or waits for connections at a socket of --listen. pid-file:PATH: its own PID file names it. exec:COMMAND: this succeeds (make sure that a predecessor cannot answer it; SEAMLESS_PID and SEAMLESS_GENERATION are set). fd:N: it writes a line to this descriptor (s6's way). after:TIME: it lives that long.",
        default: "notify",
        example: "--ready listen:80",
        repeats: true,
        needs: "pid-file",
        ..Opt::NEW
    },
    Opt {
        long: "notification-fd",
        value: "N",
        heading: READINESS,
        brief: "pass readiness on to s6, at this descriptor",
        more: "A newline is written there when the daemon is ready: the number is in the file notification-fd of the service directory.",
        example: "--notification-fd 3",
        needs: "pid-file",
        ..Opt::NEW
    },
    Opt {
        long: "on",
        value: "SIGNAL=ACTION",
        heading: SIGNALS,
        brief: "what a signal to the launcher means: auto, restart, stop, forward, ignore, or another signal",
        more: "auto is what the supervisor wants, or a restart where that cannot be told.",
        default: "TERM=auto, INT=stop, others forwarded",
        example: "--on HUP=restart",
        repeats: true,
        needs: "pid-file",
        ..Opt::NEW
    },
    Opt {
        long: "prepare-signal",
        value: "SIGNAL",
        heading: SIGNALS,
        brief: "tells the daemon that a successor will come: auto, none, or a name",
        more: "auto is USR2 to a daemon that speaks our protocol, or has said nothing and handles it by itself; a daemon that would die of it never gets it.",
        default: "auto",
        example: "--prepare-signal USR1",
        ..Opt::NEW
    },
    Opt {
        long: "detach-signal",
        value: "SIGNAL",
        heading: SIGNALS,
        brief: "by which the daemon may answer that it is prepared",
        more: "It sends it to its parent, beside a message (seamless-run notify prepared).",
        default: "CHLD",
        example: "--detach-signal USR1",
        ..Opt::NEW
    },
    Opt {
        long: "drain-signal",
        value: "SIGNAL",
        heading: SIGNALS,
        brief: "tells the daemon to finish what it has in hand, and exit",
        more: "At a stop, and when its successor is ready. One that would die of it, or ignores it, gets TERM.",
        default: "TERM",
        example: "--drain-signal QUIT",
        needs: "pid-file",
        ..Opt::NEW
    },
    Opt {
        long: "drain-group",
        heading: SIGNALS,
        brief: "send that to its whole process group",
        more: "For a script that does not pass it on.",
        example: "--drain-group",
        needs: "pid-file",
        ..Opt::NEW
    },
    Opt {
        long: "ready-timeout",
        value: "TIME",
        heading: LIMITS,
        brief: "stop a new generation that is not ready by then",
        more: "Its predecessor serves on.",
        default: "none",
        example: "--ready-timeout 1m",
        ..Opt::NEW
    },
    Opt {
        long: "probe-timeout",
        value: "TIME",
        heading: LIMITS,
        brief: "for one run of --ready exec:COMMAND",
        more: "Then it is killed, and counts as failed.",
        default: "5s",
        example: "--probe-timeout 500ms",
        needs: "pid-file",
        ..Opt::NEW
    },
    Opt {
        long: "prepare-timeout",
        value: "TIME",
        heading: LIMITS,
        brief: "for the answer to the prepare signal",
        more: "Then a daemon that is ready is detached all the same.",
        default: "5s",
        example: "--prepare-timeout 10s",
        ..Opt::NEW
    },
    Opt {
        long: "drain-timeout",
        value: "TIME",
        heading: LIMITS,
        brief: "KILL a replaced generation that still drains",
        more: "Counted from the moment when its successor was ready.",
        default: "10m",
        example: "--drain-timeout 1h",
        ..Opt::NEW
    },
    Opt {
        long: "stop-timeout",
        value: "TIME",
        heading: LIMITS,
        brief: "KILL at a stop; shorter than the supervisor's patience",
        more: "TimeoutStopSec= of systemd and stopwaitsecs of supervisord are such patience.",
        default: "30s",
        example: "--stop-timeout 8s",
        ..Opt::NEW
    },
    Opt {
        long: "orphan-timeout",
        value: "TIME",
        heading: LIMITS,
        brief: "a detached generation waits that long for a successor",
        more: "Then it was a stop; only where the supervisor cannot be asked what it wants.",
        default: "60s",
        example: "--orphan-timeout 5m",
        ..Opt::NEW
    },
    Opt {
        long: "hold-timeout",
        value: "TIME",
        heading: LIMITS,
        brief: "keep the sockets of a daemon that has died",
        more: "Connections wait meanwhile for its successor. 0: not at all.",
        default: "60s",
        example: "--hold-timeout 0",
        ..Opt::NEW
    },
    Opt {
        long: "quiet",
        short: Some('q'),
        heading: LOG,
        brief: "log warnings only",
        example: "-q",
        excludes: &["verbose"],
        ..Opt::NEW
    },
    Opt {
        long: "verbose",
        short: Some('v'),
        heading: LOG,
        brief: "log what the daemon says, too",
        more: "Each message of its, with who sent it.",
        example: "-v",
        excludes: &["quiet"],
        ..Opt::NEW
    },
];

const REHEARSAL: &[Opt] = &[Opt {
    long: "dry-run",
    heading: LOG,
    brief: "say what would be done, and do nothing",
    more: "Files, supervisor, sockets, environment, conditions, limits, signals, the command as it is found. Nothing is opened, bound, written or signalled. What will go wrong says seamless-run check.",
    example: "--dry-run -p /run/app/app.pid -- ./daemon",
    ..Opt::NEW
}];

/// Every form has them.
pub(crate) const HELP: &[Opt] = &[
    Opt {
        long: "help",
        short: Some('h'),
        heading: LOG,
        brief: "this; -h is the short one, --help says more",
        ..Opt::NEW
    },
    Opt {
        long: "version",
        short: Some('V'),
        heading: LOG,
        brief: "the version",
        ..Opt::NEW
    },
];
