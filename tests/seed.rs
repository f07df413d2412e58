//! A daemon that speaks the Go library's protocol and nothing else, as it is (R12).

use nix::sys::signal::Signal;

use crate::stage::Stage;
use crate::support::process;

/// What `rs/seamless` does in a daemon, step by step, in sh.
const SEED: &str = r#"
    # Init: under a launcher already?
    [ "$SEAMLESS" = "$PPID" ] || { echo "it would launch itself"; exit 1; }
    prepared=
    trap 'echo "$$ prepares"; prepared=1; kill -CHLD $PPID' USR2
    trap 'echo "$$ got TERM"; [ -z "$prepared" ] || drain' TERM
    drain() { trap 'echo "$$ got TERM again"' TERM; read -r _ <"$HOLD"; echo "$$ drained"; exit 0; }
    exec 9<>"$NOTHING"
    # Started: read, remove, TERM, write.
    if old=$(cat "$SEAMLESS_PID_FILE" 2>/dev/null); then
        rm "$SEAMLESS_PID_FILE"
        kill -TERM "$old"
    fi
    printf %d $$ >"$SEAMLESS_PID_FILE"
    echo "up $$"
    while :; do read -r _ <&9; done
"#;

#[test]
fn it_is_restarted_again_and_again() {
    let stage = Stage::new();
    let mut previous: Option<(process::Pid, std::path::PathBuf)> = None;
    for generation in 1..=6 {
        // Draining takes until the test says so: two generations overlap for as long as it likes.
        let hold = stage.scratch.join(format!("hold{generation}"));
        nix::unistd::mkfifo(&hold, nix::sys::stat::Mode::S_IRWXU).unwrap();
        let launcher = stage
            .seamless_run(&[])
            .args(stage.sh(SEED))
            .env("HOLD", &hold)
            .start();
        let pid = stage.up();
        stage
            .log
            .wait_seen(&format!("generation {generation} (pid {pid}) is ready"));
        let text = std::fs::read_to_string(&stage.pid_file).unwrap();
        assert_eq!(text.trim(), pid.to_string());
        if let Some((old, hold)) = previous.take() {
            assert!(process::alive(old), "its drain was cut short");
            std::fs::write(&hold, "now\n").unwrap();
            stage.log.wait_for(&format!("{old} drained"));
            process::wait_exit(old);
        }
        launcher.signal(Signal::SIGTERM);
        stage.log.wait_for(&format!("{pid} prepares"));
        assert_eq!(launcher.finish().code(), Some(0));
        assert!(process::alive(pid));
        previous = Some((pid, hold));
    }
    assert_eq!(
        stage.log.count("got TERM again"),
        0,
        "{}",
        stage.log.listing()
    );
    assert_eq!(stage.log.count("got TERM"), 5);
}

/// Other ways to write a PID file: kept open, as pidfile(3) does, and linked into place.
#[test]
fn however_the_pid_file_is_written() {
    for write in [
        // The keeper has seen it empty by the time that the status is answered.
        r#"exec 8>"$SEAMLESS_PID_FILE"; "$SEAMLESS_RUN" notify status x; echo $$ >&8"#,
        r#"echo $$ >"$SEAMLESS_PID_FILE.own"; ln "$SEAMLESS_PID_FILE.own" "$SEAMLESS_PID_FILE""#,
        r#"echo $$ >"$SEAMLESS_PID_FILE.own"; mv "$SEAMLESS_PID_FILE.own" "$SEAMLESS_PID_FILE""#,
        r#"printf %s $$ >"$SEAMLESS_PID_FILE""#,
    ] {
        let stage = Stage::new();
        let code = format!("exec 9<>\"$NOTHING\"; {write}; echo \"up $$\"; read -r _ <&9");
        let launcher = stage.seamless_run(&[]).args(stage.sh(&code)).start();
        let pid = stage.up();
        stage.log.wait_seen(&format!("(pid {pid}) is ready after"));
        drop(launcher);
    }
}
