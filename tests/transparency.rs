//! A daemon under the launcher finds what it would find without (R1, R2).

use std::collections::BTreeMap;
use std::fs::File;
use std::os::fd::OwnedFd;

use nix::sys::signal::Signal;

use crate::stage::{BY_CHLD, STARTED, Stage};
use crate::support::process::{self, children, status_field};
use crate::support::{self, Spawn};

/// Run bare and under the launcher, with the same setting: what the command prints.
fn both(stage: &Stage, setting: &str, command: &str) -> [String; 2] {
    let under = format!(
        "{} -q -p {} --",
        support::program().display(),
        stage.pid_file.display()
    );
    ["", &under].map(|launcher| {
        let script = format!("{setting}\nexec {launcher} {command}");
        let shell = Spawn::new(&stage.scratch, "sh").args(["-c", &script]);
        // A descriptor that the supervisor meant for the daemon.
        let shell = shell.descriptor(7, OwnedFd::from(File::open("/dev/zero").unwrap()));
        shell
            .directory(stage.scratch.path())
            .finish()
            .expect_success()
            .stdout
    })
}

#[test]
fn descriptors_and_where_they_lead() {
    let stage = Stage::new();
    // A shell that lists its own descriptors; the folder that it reads is among them, bare as well.
    let command = r#"sh -c 'for f in /proc/$$/fd/*; do echo "${f##*/} $(readlink $f)"; done'"#;
    for setting in [
        "",
        "exec </dev/zero",
        "exec <&-",
        "exec 2>&-",
        "exec 8</dev/null 9</dev/full",
    ] {
        let [bare, under] = both(&stage, setting, command);
        let lines = |text: &str| -> Vec<String> {
            let mut lines: Vec<String> = text.lines().map(str::to_owned).collect();
            // The shell's own pipe to readlink has another number each time.
            for line in &mut lines {
                line.truncate(line.find("pipe:[").map_or(line.len(), |at| at + 5));
            }
            // stdout and stderr are files that the test makes anew for each run.
            lines.retain(|line| !line.ends_with("(deleted)"));
            lines.sort();
            lines
        };
        assert_eq!(lines(&bare), lines(&under), "{setting}");
        assert!(under.contains("7 /dev/zero"), "{under}");
    }
}

#[test]
fn closed_standard_descriptors_stay_closed() {
    let stage = Stage::new();
    for setting in ["", "exec <&-", "exec 2>&-", "exec <&- 2>&-"] {
        let [bare, under] = both(
            &stage,
            setting,
            "python3 -S -c 'import os; print(sorted(os.listdir(\"/proc/self/fd\"))[:3])'",
        );
        assert_eq!(bare, under, "{setting}");
    }
}

#[test]
fn signal_mask_and_dispositions() {
    let stage = Stage::new();
    let blocked = "exec python3 -S -c 'import os, signal, sys
signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGUSR1, signal.SIGRTMIN})
for name in (\"SIGPIPE\", \"SIGXFSZ\"): signal.signal(getattr(signal, name), signal.SIG_DFL)
os.execvp(sys.argv[1], sys.argv[1:])' ";
    let masks = "grep -E ^Sig[BIC] /proc/self/status";
    for setting in [
        "",
        "trap '' HUP",
        "trap '' INT QUIT PIPE TERM",
        "trap '' CHLD",
        "trap '' HUP CHLD PIPE",
    ] {
        let [bare, under] = both(&stage, setting, masks);
        assert_eq!(bare, under, "{setting}");
    }
    let under = format!(
        "{} -q -p {} --",
        support::program().display(),
        stage.pid_file.display()
    );
    let [bare, under] = ["", &under].map(|launcher| {
        let script = format!("{blocked} {launcher} {masks}");
        Spawn::new(&stage.scratch, "sh")
            .args(["-c", &script])
            .finish()
            .expect_success()
            .stdout
    });
    assert_eq!(bare, under);
    assert!(under.contains("SigBlk:\t0000000200000200"), "{under}");
}

#[test]
fn working_directory_umask_limits_and_niceness() {
    let stage = Stage::new();
    let setting = "umask 027; ulimit -n 333; ulimit -c 0; ulimit -s 4096; cd /usr/lib";
    for (command, part) in [
        ("pwd", "/usr/lib"),
        ("grep Umask /proc/self/status", "0027"),
        ("cat /proc/self/limits", "333"),
        ("nice", "\n"),
    ] {
        let [bare, under] = both(&stage, setting, command);
        assert_eq!(bare, under, "{command}");
        assert!(under.contains(part), "{under}");
    }
    // More by five than whatever the tests themselves run with.
    let under = format!(
        "{} -q -p {}",
        support::program().display(),
        stage.pid_file.display()
    );
    let [bare, under] = ["", &under].map(|launcher| {
        let script = format!("exec nice -n 5 {launcher} nice");
        let nice = Spawn::new(&stage.scratch, "sh").args(["-c", &script]);
        nice.finish().expect_success().stdout
    });
    assert_eq!(bare, under);
}

#[test]
fn the_environment_but_for_our_variables() {
    let stage = Stage::new();
    let setting = "export A=1 EMPTY= NOTIFY_SOCKET=/run/outer SEAMLESS=1 SEAMLESS_DRAIN_SIGNAL=HUP WATCHDOG_PID=$$ LISTEN_PID=1 LISTEN_FDS=2";
    let [bare, under] = both(
        &stage,
        setting,
        "sh -c 'cat /proc/self/environ; echo \"ME=$$\" | tr \"\\n\" \"\\0\"'",
    );
    let variables = |text: &str| -> BTreeMap<String, String> {
        let pairs = text.split('\0').filter_map(|pair| pair.split_once('='));
        pairs
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
            .collect()
    };
    let (mut bare, mut under) = (variables(&bare), variables(&under));
    for name in ["ME", "NOTIFY_SOCKET", "SEAMLESS", "WATCHDOG_PID"] {
        assert_ne!(bare.remove(name), under.get(name).cloned(), "{name}");
    }
    bare.remove("SEAMLESS_DRAIN_SIGNAL")
        .expect("another launcher's");
    // The supervisor's main process was the launcher, and is meant to be the daemon.
    assert_eq!(under.remove("WATCHDOG_PID"), under.remove("ME"));
    assert_eq!(under.remove("SEAMLESS_GENERATION").unwrap(), "1");
    assert_eq!(
        under.remove("SEAMLESS_PID_FILE").unwrap(),
        stage.pid_file.to_str().unwrap()
    );
    assert!(under.remove("NOTIFY_SOCKET").unwrap().starts_with('@'));
    assert!(under.remove("SEAMLESS").is_some());
    assert_eq!(bare, under);
}

#[test]
fn the_daemon_leads_a_session_and_its_parent_is_the_keeper() {
    let stage = Stage::new();
    let code = "read pid comm state parent group session rest </proc/$$/stat; echo $pid $parent $group $session $SEAMLESS";
    let ended = Spawn::new(&stage.scratch, support::program())
        .args([
            "-q",
            "-p",
            stage.pid_file.to_str().unwrap(),
            "sh",
            "-c",
            code,
        ])
        .finish()
        .expect_success();
    let words: Vec<&str> = ended.stdout.split_whitespace().collect();
    assert_eq!(words[0], words[2], "a group of its own");
    assert_eq!(words[0], words[3], "a session of its own");
    assert_eq!(words[1], words[4], "SEAMLESS is the parent's PID");
}

/// R2: what launcher and keeper keep open would keep a log pipe or a lock alive.
#[test]
fn launcher_and_keeper_let_go_of_what_they_inherited() {
    let stage = Stage::new();
    let zero = || OwnedFd::from(File::open("/dev/zero").unwrap());
    let launcher = stage
        .seamless_run(&["--"])
        .args(stage.sh(crate::stage::DAEMON))
        .env("READY", STARTED)
        .env("PREPARE", BY_CHLD)
        .descriptor(5, zero())
        .descriptor(77, zero())
        .start();
    stage.log.wait_for("is started");
    let keeper = children(launcher.pid())[0];
    for process in [launcher.pid(), keeper] {
        let mut open = Vec::new();
        for entry in std::fs::read_dir(format!("/proc/{process}/fd")).unwrap() {
            let entry = entry.unwrap();
            let name = entry.file_name().into_string().unwrap();
            // The connection of whoever said *started* may be closed at this moment.
            let Ok(leads_to) = std::fs::read_link(entry.path()) else {
                continue;
            };
            open.push(format!("{name} {}", leads_to.to_str().unwrap()));
        }
        for line in &open {
            let [number, leads_to] = line.splitn(2, ' ').collect::<Vec<_>>()[..] else {
                panic!()
            };
            let fine = match number {
                "0" | "1" => leads_to == "/dev/null",
                "2" => leads_to == stage.log.path().to_str().unwrap(),
                _ => {
                    leads_to.starts_with("socket:")
                        || leads_to == "anon_inode:[signalfd]"
                        || leads_to.ends_with("/app.pid.lock")
                        || leads_to.ends_with("/app.pid.sock")
                        || leads_to == "/dev/null"
                        // The daemon, whom it looks at.
                        || (leads_to.starts_with("/proc/")
                            && (leads_to.ends_with("/stat") || leads_to.ends_with("/status")))
                }
            };
            assert!(fine, "{process}: {open:?}");
        }
        assert_eq!(
            std::fs::read_link(format!("/proc/{process}/cwd"))
                .unwrap()
                .to_str(),
            Some("/")
        );
        assert_eq!(status_field(process, "Threads").unwrap(), "1");
    }
    assert_eq!(status_field(keeper, "Name").unwrap(), "seamless-keeper");
    launcher.signal(Signal::SIGTERM);
    assert_eq!(launcher.finish().code(), Some(0));
}

/// Promise 4: whoever waits uses no time at all, in front of the supervisor and in standby.
#[test]
fn launcher_and_keeper_are_idle_while_nothing_happens() {
    let stage = Stage::new();
    let (launcher, daemon) = stage.daemon(&[], STARTED, BY_CHLD);
    let keeper = children(launcher.pid())[0];
    // The CPU time so far, in nanoseconds.
    let used = |pid| std::fs::read_to_string(format!("/proc/{pid}/schedstat")).unwrap();
    let idle = |pids: &[process::Pid]| {
        let all_used = || pids.iter().map(|pid| used(*pid)).collect::<Vec<_>>();
        // Something goes on elsewhere meanwhile, so that there is time to use.
        let elsewhere = || {
            for _ in 0..50 {
                Spawn::new(&stage.scratch, "true").finish().expect_success();
            }
        };
        // What happened last may still be under way in the first look.
        elsewhere();
        let before = all_used();
        elsewhere();
        assert_eq!(before, all_used());
    };
    idle(&[launcher.pid(), keeper]);
    launcher.signal(Signal::SIGTERM);
    assert_eq!(launcher.finish().code(), Some(0));
    idle(&[keeper]);

    // A launcher that was killed leaves its end of the line closed.
    let (mut launcher, second) = stage.daemon(&[], STARTED, BY_CHLD);
    process::wait_exit(daemon);
    let keeper = children(launcher.pid())[0];
    launcher.kill();
    stage.log.wait_for("the launcher of generation 2");
    // It is told to prepare, and answers.
    stage.log.wait_seen(&format!("{second} got USR2"));
    idle(&[keeper]);
}

/// What has no name, or no value, is in an environment as well.
#[test]
fn odd_entries_of_the_environment_are_kept() {
    let stage = Stage::new();
    let code = r#"
import ctypes, sys
words = [word.encode() for word in sys.argv[1:]]
argv = (ctypes.c_char_p * (len(words) + 1))(*words, None)
envp = (ctypes.c_char_p * 6)(b"NOEQUALS", b"=noname", b"A=1", b"A=2", b"SEAMLESS=1", None)
ctypes.CDLL(None).execve(words[0], argv, envp)
"#;
    for options in [&[][..], &["-q", "-p", stage.pid_file.to_str().unwrap()]] {
        let ended = Spawn::new(&stage.scratch, "python3")
            .args(["-c", code, support::program().to_str().unwrap()])
            .args(options)
            .args(["--", "/bin/cat", "/proc/self/environ"])
            .finish()
            .expect_success();
        for entry in ["NOEQUALS", "=noname", "A=1", "A=2"] {
            assert!(
                ended.stdout.split('\0').any(|found| found == entry),
                "{entry}: {ended:?}"
            );
        }
    }
}
