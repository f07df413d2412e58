//! What a flood of forged messages does to a daemon's own (R22): another user sends datagrams to the notify socket as fast
//! as it can, and meanwhile the daemon says *started* again and again, and waits for each answer.
//!
//!     cargo run --release --example flood
//!     cargo run --release --example flood -- --queue 512 --processes 8 --samples 1000
//!
//! It needs root: another user has to be somebody else.
#![expect(clippy::print_stderr, reason = "it is run by people")]

use std::{
    env,
    fmt::Write as _,
    fs::{self, File, Permissions},
    io::{self, BufRead, BufReader, IoSlice, Read, Write},
    os::{
        fd::{AsFd, AsRawFd, RawFd},
        linux::net::SocketAddrExt,
        unix::{
            fs::PermissionsExt,
            net::{SocketAddr, UnixDatagram, UnixStream},
            process::CommandExt,
        },
    },
    path::{Path, PathBuf},
    process::{Child, ChildStdin, ChildStdout, Command, ExitCode, Stdio},
    thread,
    time::{Duration, Instant},
};

use clap::Parser;
use nix::{
    errno::Errno,
    poll::{PollFd, PollFlags, PollTimeout, poll},
    sched::{CloneFlags, unshare},
    sys::{
        signal::{Signal, kill},
        socket::{ControlMessage, MsgFlags, sendmsg},
    },
    unistd::Pid,
};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

type Outcome<T> = Result<T, Box<dyn std::error::Error>>;

/// Whoever it is that has no business here.
const STRANGER: u32 = 65534;
/// Between two of the daemon's own messages.
const PACE: Duration = Duration::from_millis(1);
/// As many descriptors as one message can bring.
const MOST_DESCRIPTORS: usize = 253;
/// Less than what a socket takes at once (`net.core.wmem_default` is 212992).
const HUGE: usize = 150_000;
/// A flood ends by itself, too.
const LIMIT: Duration = Duration::from_secs(60);

/// Floods the notify socket of a daemon that does nothing but ask, and prints how long its own messages took.
#[derive(Debug, Parser)]
#[command(name = "flood")]
struct Options {
    /// Datagrams of each flood, at least
    #[arg(long, value_name = "N", default_value_t = 10_000)]
    messages: u64,
    /// Own messages of the daemon, in each row
    #[arg(long, value_name = "N", default_value_t = 300)]
    samples: usize,
    /// Processes that send at once
    #[arg(long, value_name = "N", default_value_t = 4)]
    processes: usize,
    /// net.unix.max_dgram_qlen: the kernel's own is 10, systemd sets 512
    #[arg(
        long,
        value_name = "N",
        value_delimiter = ',',
        default_value = "10,512"
    )]
    queue: Vec<u32>,
}

#[derive(Clone, Copy, Debug)]
enum Flood {
    Forged,
    Nonblocking,
    Empty,
    Huge,
    Descriptors,
    InFlight,
}

impl Flood {
    const ALL: [(&'static str, Flood); 6] = [
        ("forged", Flood::Forged),
        ("forged, never waiting", Flood::Nonblocking),
        ("empty", Flood::Empty),
        ("huge (150 kB)", Flood::Huge),
        ("with 253 descriptors", Flood::Descriptors),
        ("with sockets in flight", Flood::InFlight),
    ];
}

fn main() -> ExitCode {
    let words: Vec<String> = env::args().skip(1).collect();
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    let done = match words[..] {
        ["daemon"] => daemon(),
        ["send", number, least, address] => send(number, least, address),
        _ => run(&Options::parse()),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("flood: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Says where it is to be reached, and then, for each number that it reads, so often *started*.
fn daemon() -> Outcome<()> {
    let address = env::var("NOTIFY_SOCKET")?;
    let (mut output, input) = (io::stdout().lock(), io::stdin().lock());
    writeln!(output, "{address} {}", env::var("SEAMLESS")?)?;
    let socket = connect(&address)?;
    for line in input.lines() {
        for _ in 0..line?.parse::<usize>()? {
            writeln!(output, "{}", ask(&socket)?.as_micros())?;
            thread::sleep(PACE);
        }
        writeln!(output)?;
    }
    Ok(())
}

/// From before the message to its answer.
fn ask(socket: &UnixDatagram) -> Outcome<Duration> {
    let (mut own, other) = UnixStream::pair()?;
    let begun = Instant::now();
    pass(
        socket,
        b"X_SEAMLESS=started",
        &[other.as_raw_fd()],
        MsgFlags::empty(),
    )?;
    drop(other);
    let mut answer = String::new();
    own.read_to_string(&mut answer)?;
    match answer.as_str() {
        "ok" => Ok(begun.elapsed()),
        other => Err(format!("the answer is {other:?}").into()),
    }
}

fn connect(address: &str) -> Outcome<UnixDatagram> {
    let name = address.strip_prefix('@').ok_or("an abstract address?")?;
    let socket = UnixDatagram::unbound()?;
    socket.connect_addr(&SocketAddr::from_abstract_name(name)?)?;
    Ok(socket)
}

fn pass(
    socket: &UnixDatagram,
    bytes: &[u8],
    descriptors: &[RawFd],
    flags: MsgFlags,
) -> nix::Result<()> {
    let control = [ControlMessage::ScmRights(descriptors)];
    let control = if descriptors.is_empty() {
        &control[..0]
    } else {
        &control[..]
    };
    sendmsg::<()>(
        socket.as_raw_fd(),
        &[IoSlice::new(bytes)],
        control,
        flags,
        None,
    )
    .map(drop)
}

/// Sends until its stdin ends, and at least so many, and says how many went out.
fn send(number: &str, least: &str, address: &str) -> Outcome<()> {
    let least: u64 = least.parse()?;
    // Which is how many descriptors a user may have in flight.
    let Rlimit { maximum, .. } = getrlimit(Resource::Nofile);
    setrlimit(
        Resource::Nofile,
        Rlimit {
            current: maximum,
            maximum,
        },
    )?;
    let (_, flood) = *Flood::ALL
        .get(number.parse::<usize>()?)
        .ok_or("which flood?")?;
    let socket = connect(address)?;
    let nothing = File::open("/dev/null")?;
    let (huge, mut sent, begun) = (vec![b'='; HUGE], 0_u64, Instant::now());
    let stdin = io::stdin();
    loop {
        let held: Option<[UnixStream; 2]> = match flood {
            Flood::InFlight => Some(UnixStream::pair()?.into()),
            Flood::Forged
            | Flood::Nonblocking
            | Flood::Empty
            | Flood::Huge
            | Flood::Descriptors => None,
        };
        let held: Vec<RawFd> = held.iter().flatten().map(AsRawFd::as_raw_fd).collect();
        let many = [nothing.as_raw_fd(); MOST_DESCRIPTORS];
        let (bytes, descriptors, flags) = match flood {
            Flood::Forged => (&b"READY=1"[..], &[][..], MsgFlags::empty()),
            Flood::Nonblocking => (&b"READY=1"[..], &[][..], MsgFlags::MSG_DONTWAIT),
            Flood::Empty => (&[][..], &[][..], MsgFlags::empty()),
            Flood::Huge => (&huge[..], &[][..], MsgFlags::empty()),
            Flood::Descriptors => (&b"READY=1"[..], &many[..], MsgFlags::empty()),
            Flood::InFlight => (&b"READY=1"[..], &held[..], MsgFlags::empty()),
        };
        match pass(&socket, bytes, descriptors, flags) {
            Ok(()) => sent += 1,
            // Nobody may have more in flight than his limit.
            Err(Errno::EAGAIN | Errno::ETOOMANYREFS | Errno::EINTR) => {}
            Err(errno) => return Err(errno.into()),
        }
        let mut over = [PollFd::new(stdin.as_fd(), PollFlags::POLLIN)];
        let ended = poll(&mut over, PollTimeout::ZERO)? > 0;
        if (ended && sent >= least) || begun.elapsed() > LIMIT {
            writeln!(io::stdout(), "{sent}")?;
            return Ok(());
        }
    }
}

fn run(options: &Options) -> Outcome<()> {
    let seamless_run = seamless_run()?;
    // Abstract addresses and the length of their queues belong to a network.
    unshare(CloneFlags::CLONE_NEWNET)
        .map_err(|error| format!("a network of its own (are we root?): {error}"))?;
    let scratch = tempfile::Builder::new()
        .prefix("seamless-flood-")
        .tempdir()?;
    fs::set_permissions(scratch.path(), Permissions::from_mode(0o755))?;
    let stranger = scratch.path().join("flood");
    // Where everybody can run it.
    fs::copy(env::current_exe()?, &stranger)?;
    let (processes, samples) = (options.processes, options.samples);
    eprintln!(
        "{processes} processes of user {STRANGER}, at least {} datagrams; {samples} own messages\n",
        options.messages
    );
    println(&format!(
        "{:>5}  {:<24} {:>9} {:>10} {:>9} {:>9} {:>9} {:>9} {:>11} {:>6}",
        "queue",
        "flood",
        "datagrams",
        "a second",
        "median",
        "p99",
        "max",
        "CPU",
        "a datagram",
        "kept"
    ))?;
    for queue in &options.queue {
        fs::write("/proc/sys/net/unix/max_dgram_qlen", queue.to_string())?;
        let mut service = Service::start(scratch.path(), &seamless_run, &stranger)?;
        let idle = service.measure(samples)?;
        println(&format!(
            "{queue:>5}  {:<24} {:>9} {:>10} {}",
            "none",
            "-",
            "-",
            shown(&idle)
        ))?;
        for (number, (name, _)) in Flood::ALL.iter().enumerate() {
            let row = service.under(number, options, &stranger)?;
            println(&format!("{queue:>5}  {name:<24} {row}"))?;
        }
    }
    Ok(())
}

/// It lies beside this one's directory. Under `cargo run`, cargo sees to it that it is of the same age.
fn seamless_run() -> Outcome<PathBuf> {
    let this = env::current_exe()?;
    let examples = this.parent().and_then(Path::parent);
    let profile = examples.ok_or("where am I?")?;
    if let (Some(cargo), Some(package)) = (env::var_os("CARGO"), env::var_os("CARGO_MANIFEST_DIR"))
    {
        let mut build = Command::new(cargo);
        build
            .args(["build", "--bin", "seamless-run"])
            .current_dir(package);
        if profile.ends_with("release") {
            build.arg("--release");
        }
        let status = build.status()?;
        if !status.success() {
            return Err(format!("cargo build: {status}").into());
        }
    }
    let program = profile.join("seamless-run");
    match program.is_file() {
        true => Ok(program),
        false => Err(format!("{} is not there: cargo build it first", program.display()).into()),
    }
}

struct Service {
    launcher: Child,
    input: ChildStdin,
    output: BufReader<ChildStdout>,
    address: String,
    keeper: i32,
}

impl Service {
    fn start(directory: &Path, seamless_run: &Path, daemon: &Path) -> Outcome<Service> {
        let mut launcher = Command::new(seamless_run)
            .arg("--pid-file")
            .arg(directory.join("app.pid"))
            .arg("-q")
            .arg("--")
            .arg(daemon)
            .arg("daemon")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()?;
        let input = launcher.stdin.take().ok_or("no stdin")?;
        let mut output = BufReader::new(launcher.stdout.take().ok_or("no stdout")?);
        let mut line = String::new();
        output.read_line(&mut line)?;
        let (address, keeper) = line
            .trim()
            .split_once(' ')
            .ok_or("the daemon did not start")?;
        Ok(Service {
            address: address.to_owned(),
            keeper: keeper.parse()?,
            launcher,
            input,
            output,
        })
    }

    /// How long so many of the daemon's own messages take, sorted.
    fn measure(&mut self, samples: usize) -> Outcome<Vec<Duration>> {
        writeln!(self.input, "{samples}")?;
        let mut times = Vec::new();
        for line in self.output.by_ref().lines() {
            match line?.as_str() {
                "" => {
                    times.sort();
                    return Ok(times);
                }
                text => times.push(Duration::from_micros(text.parse()?)),
            }
        }
        Err("the daemon has died".into())
    }

    /// A row of the table.
    fn under(&mut self, number: usize, options: &Options, stranger: &PathBuf) -> Outcome<String> {
        let descriptors = || fs::read_dir(format!("/proc/{}/fd", self.keeper)).map(Iterator::count);
        let (before, used, begun) = (descriptors()?, self.processor_time()?, Instant::now());
        let least = options.messages.div_ceil(options.processes as u64);
        let mut flooders = Vec::new();
        for _ in 0..options.processes {
            flooders.push(
                Command::new(stranger)
                    .args(["send", &number.to_string(), &least.to_string()])
                    .arg(&self.address)
                    .uid(STRANGER)
                    .gid(STRANGER)
                    .stdin(Stdio::piped())
                    .stdout(Stdio::piped())
                    .spawn()?,
            );
        }
        let mut times = self.measure(options.samples)?;
        let rate = |flooders: u64, time: Duration| flooders as f64 / time.as_secs_f64();
        let mut sent = 0;
        for flooder in &mut flooders {
            drop(flooder.stdin.take());
        }
        for flooder in flooders {
            let said = flooder.wait_with_output()?;
            sent += String::from_utf8(said.stdout)?.trim().parse::<u64>()?;
        }
        // Whatever is left in the queue comes before this one.
        times.extend(self.measure(1)?);
        times.sort();
        let (time, used) = (begun.elapsed(), self.processor_time()?.saturating_sub(used));
        let kept =
            fs::read_dir(format!("/proc/{}/fd", self.keeper))?.count() as i64 - before as i64;
        let each = used.as_secs_f64() * 1e6 / sent.max(1) as f64;
        let share = 100.0 * used.as_secs_f64() / time.as_secs_f64();
        let mut row = String::new();
        write!(
            row,
            "{sent:>9} {:>10.0} {} {share:>7.0} % {each:>8.1} us {kept:>6}",
            rate(sent, time),
            shown(&times)
        )?;
        Ok(row)
    }

    /// Of the keeper. /proc counts in hundredths of a second.
    fn processor_time(&self) -> Outcome<Duration> {
        let text = fs::read_to_string(format!("/proc/{}/stat", self.keeper))?;
        let (_, fields) = text.rsplit_once(')').ok_or("/proc/PID/stat?")?;
        let mut fields = fields.split_whitespace().skip(11).take(2);
        let ticks = fields.try_fold(0, |sum, field| {
            field.parse::<u64>().map(|ticks| sum + ticks)
        })?;
        Ok(Duration::from_millis(10 * ticks))
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        let launcher = i32::try_from(self.launcher.id()).map(Pid::from_raw);
        let _ = launcher.map(|launcher| kill(launcher, Signal::SIGINT));
        let _ = self.launcher.wait();
    }
}

/// Median, 99th percentile, and the longest.
fn shown(sorted: &[Duration]) -> String {
    let at = |share: usize| {
        let index = (sorted.len() * share / 100).min(sorted.len().saturating_sub(1));
        let time = sorted.get(index).copied().unwrap_or_default();
        format!("{:.2} ms", time.as_secs_f64() * 1000.0)
    };
    format!("{:>9} {:>9} {:>9}", at(50), at(99), at(100))
}

fn println(line: &str) -> io::Result<()> {
    writeln!(io::stdout(), "{line}")
}
