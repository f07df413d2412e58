//! The demo, which is the first thing that anybody runs.

mod terminal;

use std::fs;

use nix::sys::signal::Signal;

use self::terminal::Terminal;
use crate::support::process::{self, Handle};
use crate::support::{self, Pid, Scratch, Spawn, Spawned};

/// Everything is built; under cargo it would build it again. What it leaves behind would be in the scratch directory.
fn of(scratch: &Scratch, spawn: Spawn) -> Spawn {
    let spawn = spawn.env_remove("CARGO").env("TMPDIR", scratch.path());
    // Of the machine that the test runs on.
    let spawn = spawn.env_remove("NO_COLOR").env_remove("COLORTERM");
    spawn.env("TERM", "xterm-256color").env("LC_ALL", "C.UTF-8")
}

/// On a terminal that is its own, as in a window that has been opened for it.
struct Demo {
    shell: Spawned,
    terminal: Terminal,
    /// Of the terminal, before anybody had it.
    settings: String,
}

impl Demo {
    fn start(scratch: &Scratch, arguments: &[&str], environment: &[(&str, &str)]) -> Demo {
        let demo = support::example("demo");
        let mut command = vec![demo.to_str().expect("its path is text")];
        command.extend(arguments);
        Demo::start_by(scratch, &command, environment)
    }

    fn start_by(scratch: &Scratch, command: &[&str], environment: &[(&str, &str)]) -> Demo {
        let terminal = Terminal::new(60, 100);
        let settings = terminal.settings();
        support::tool("setsid", "util-linux");
        // The shell stays outside, and says how the demo ended.
        let script = "setsid --ctty \"$@\"; code=$?; echo \"left with $code\"; exit $code";
        let mut shell = of(scratch, Spawn::new(scratch, "sh"))
            .args(["-c", script, "sh"])
            .args(command)
            .stdin(terminal.device())
            .stdout(terminal.device())
            .stderr(terminal.device());
        for (name, value) in environment {
            shell = shell.env(name, value);
        }
        Demo {
            shell: shell.start(),
            terminal,
            settings,
        }
    }

    fn pid(&self) -> Pid {
        let children = process::children(self.shell.pid());
        *children.first().expect("the demo runs")
    }

    /// Its status; and that the terminal is as it was, and nothing is left.
    fn finish(self, scratch: &Scratch) -> (Option<i32>, String) {
        let code = self.shell.finish().code();
        let all = |state: &terminal::State| state.printed.contains("left with ");
        let gone = format!("the picture has gone, and the shell with {code:?}");
        let state = self.terminal.wait(&gone, all);
        assert!(!state.hides_cursor, "{:?}", state.printed);
        assert_eq!(self.terminal.settings(), self.settings);
        nothing_is_left(scratch);
        (code, state.printed)
    }
}

#[track_caller]
fn nothing_is_left(scratch: &Scratch) {
    scratch.wait_only(&[]);
    let left = fs::read_dir(scratch.path()).unwrap();
    let left: Vec<_> = left
        .filter_map(Result::ok)
        .map(|entry| entry.file_name())
        .filter(|name| name.to_string_lossy().starts_with("seamless-demo"))
        .collect();
    assert!(left.is_empty(), "{left:?}");
}

#[test]
fn the_picture_moves_by_itself_to_its_end() {
    let scratch = Scratch::new();
    let demo = Demo::start(&scratch, &["--pace", "3"], &[]);
    for title in [
        " An HTTP server under load ",
        " Restart ",
        " A new version that crashes ",
        " It is mended ",
        " A new version that hangs ",
        " kill -9, the daemon ",
        " kill -9, the keeper ",
        " kill -9, the launcher ",
        " Stop ",
    ] {
        // It may have gone again before this test had its turn.
        demo.terminal
            .wait(title, |state| state.bytes.contains(title));
    }
    let (code, printed) = demo.finish(&scratch);
    assert_eq!(code, Some(0), "{printed}");
    assert!(printed.contains(" generations, 0 failed; "), "{printed}");
    assert!(printed.contains("nothing is left behind"), "{printed}");
}

/// The number of the newest generation, if it serves.
fn serving(state: &terminal::State) -> Option<u32> {
    let head = state.row("   gen  phase")?;
    let newest = state.rows.get(head + 1)?;
    let mut words = newest.trim_start_matches([' ', '●']).split_whitespace();
    let number = words.next()?.parse().ok()?;
    (words.next() == Some("serving")).then_some(number)
}

#[test]
fn keys_make_it_happen() {
    let scratch = Scratch::new();
    let demo = Demo::start(&scratch, &[], &[]);
    let terminal = &demo.terminal;
    let serves_after = |generation: u32| {
        // Of a picture that is being drawn anew half may be there.
        let newer = |state: &terminal::State| {
            serving(state) > Some(generation) && state.row(" 0 failed; ").is_some()
        };
        let state = terminal.wait("a newer generation serves, 0 failed", newer);
        serving(&state).expect("it serves")
    };
    let all_in_flight = "4 slow in flight";
    let first = serves_after(0);
    terminal.wait_for(all_in_flight);
    terminal.press(" ");
    terminal.wait_for("paused at 1/10");

    terminal.press("r");
    let second = serves_after(first);
    terminal.press("b");
    terminal.wait_for("died before it was ready");
    terminal.press("h");
    terminal.wait_for("waits for a database");
    terminal.press("r");
    let third = serves_after(second);

    // An arrow is no key, though there are letters in it.
    terminal.press("\x1b[A\x1bOl");
    terminal.wait_for(all_in_flight);
    terminal.press("k");
    terminal.wait_for(" died in the hands of the killed daemon; ");
    let fourth = serves_after(third);
    terminal.press("K");
    terminal.wait_for("goes on in its place");
    terminal.wait("the same one serves on", |state| {
        serving(state) == Some(fourth)
    });
    terminal.press("l");
    serves_after(fourth);

    let last_row = |row: usize| move |state: &terminal::State| state.row(" q quit") == Some(row);
    terminal.wait("it fills the terminal", last_row(59));
    terminal.resize(24, 80);
    terminal.wait("it fits into the smaller one", last_row(23));
    terminal.press("s");
    terminal.wait_for(" r start it all once more  q quit");
    terminal.press("r");
    // What the first one has said, while the second one begins.
    let said = "died in the hands of a daemon that was killed";
    terminal.wait("all of it once more", |state| {
        state.printed.contains(said) && state.row("1/10, ").is_some()
    });
    terminal.press("q");
    let (code, printed) = demo.finish(&scratch);
    assert_eq!(code, Some(0), "{printed}");
    assert_eq!(printed.matches(" 0 failed; ").count(), 2, "{printed}");
}

/// Nobody serves, and the version to be started is broken: whoever waits is answered all the same.
#[test]
fn it_is_mended_before_it_is_left() {
    for (broken, leave) in [("b", "q"), ("h", "s"), ("b", "\x03")] {
        let scratch = Scratch::new();
        let demo = Demo::start(&scratch, &[], &[]);
        let terminal = &demo.terminal;
        terminal.wait_for("4 slow in flight");
        terminal.press(broken);
        terminal.wait_for(" r mend it b broken");
        terminal.wait_for("new version: ");
        terminal.press("k");
        terminal.wait_for("is still the broken one: r mends it.");
        terminal.wait_for(" died in the hands of the killed daemon; ");
        terminal.press(broken);
        terminal.wait_for(" Still the version that ");
        terminal.press(leave);
        if leave == "s" {
            terminal.wait_for(" r start it all once more  q quit");
            terminal.press("q");
        }
        let (code, printed) = demo.finish(&scratch);
        if leave == "\x03" {
            assert_eq!(code, Some(130), "{printed}");
            assert!(printed.contains("; a good version first"), "{printed}");
            continue;
        }
        assert_eq!(code, Some(0), "{printed}");
        assert!(
            printed.contains(" by 2 generations, 0 failed; "),
            "{printed}"
        );
    }
}

/// Whoever takes a terminal from there is stopped by it, and nobody sees why.
#[test]
fn in_the_background_it_leaves_the_terminal_alone() {
    let scratch = Scratch::new();
    let demo = support::example("demo");
    let demo = demo.to_str().expect("its path is text");
    let command = ["sh", "-c", "set -m; \"$@\" & wait $!", "sh", demo];
    let demo = Demo::start_by(&scratch, &command, &[]);
    demo.terminal.wait_for("restart   pid ");
    assert!(!demo.terminal.state().bytes.contains('\x1b'));
    let shell = demo.pid();
    let children = process::children(shell);
    let handle = Handle::open(*children.first().expect("the demo runs"));
    handle.expect("the demo runs").signal(Signal::SIGTERM);
    assert_eq!(demo.finish(&scratch).0, Some(143));
}

/// However it is left, the terminal is as it was, and nothing runs on.
#[test]
fn it_can_be_left_at_any_time() {
    let quit: fn(&Demo) = |demo| demo.terminal.press("q");
    let interrupt: fn(&Demo) = |demo| demo.terminal.press("\x03");
    let terminate: fn(&Demo) = |demo| {
        let handle = Handle::open(demo.pid()).expect("the demo runs");
        handle.signal(Signal::SIGTERM);
    };
    for (leave, status) in [(quit, 0), (interrupt, 130), (terminate, 143)] {
        let scratch = Scratch::new();
        let demo = Demo::start(&scratch, &[], &[]);
        demo.terminal.wait_for("4 slow in flight");
        assert_ne!(demo.terminal.settings(), demo.settings);
        leave(&demo);
        let (code, printed) = demo.finish(&scratch);
        assert_eq!(code, Some(status), "{printed}");
        assert!(printed.contains("is stopped, and finishes"), "{printed}");
    }
}

#[test]
fn a_terminal_that_is_closed_ends_it() {
    let scratch = Scratch::new();
    let demo = Demo::start(&scratch, &[], &[]);
    demo.terminal.wait_for("4 slow in flight");
    let Demo {
        shell, terminal, ..
    } = demo;
    drop(terminal);
    assert_eq!(shell.finish().code(), Some(129));
    nothing_is_left(&scratch);
}

#[test]
fn without_colours_there_are_none() {
    let scratch = Scratch::new();
    let demo = Demo::start(&scratch, &[], &[("NO_COLOR", "1")]);
    let state = demo
        .terminal
        .wait("a chart", |state| state.row("11111111").is_some());
    demo.terminal.press("q");
    for piece in state.bytes.split("\x1b[").skip(1) {
        let codes = piece.trim_start_matches(|char: char| char.is_ascii_digit() || char == ';');
        let sequence = &piece[..piece.len() - codes.len()];
        // Bold, faint, the other way round, and as before are no colours.
        let mut numbers = sequence.split(';');
        let colourless = numbers.all(|number| matches!(number, "" | "0" | "1" | "2" | "7"));
        assert!(!codes.starts_with('m') || colourless, "{sequence}");
    }
    assert_eq!(demo.finish(&scratch).0, Some(0));
}

/// A terminal that cannot show a picture, a pipe, a file.
#[test]
fn elsewhere_it_is_a_line_for_each_restart() {
    let scratch = Scratch::new();
    let demo = Demo::start(&scratch, &[], &[("TERM", "dumb")]);
    demo.terminal.wait_for("restart   pid ");
    demo.terminal.press("\x03");
    assert!(!demo.terminal.state().bytes.contains('\x1b'));
    assert_eq!(demo.finish(&scratch).0, Some(130));

    let scratch = Scratch::new();
    let demo = of(&scratch, Spawn::new(&scratch, support::example("demo")));
    let printed = demo.finish().expect_success().stdout;
    let restarts = printed.lines().filter(|line| line.contains(" → "));
    assert_eq!(restarts.count(), 5, "{printed}");
    assert!(printed.contains(" 0 failed; "), "{printed}");
    assert!(printed.contains("nothing is left behind"), "{printed}");
    nothing_is_left(&scratch);
}
