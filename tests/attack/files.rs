//! What another user plants beside the PID file, in directories of every mode.

use std::collections::BTreeMap;
use std::hash::{DefaultHasher, Hasher};
use std::io::{BufRead, BufReader, Write};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;

use super::*;
use crate::stage::{assert_unharmed, innocent};

/// Where a newcomer's socket is made: a short name, that the path's length is no limit.
fn socket_in_the_making() -> String {
    let mut hasher = DefaultHasher::new();
    hasher.write(b"app.pid.sock.new");
    format!(".seamless-run.{:x}", hasher.finish())
}

/// The attacker, who plants what he is told to.
struct Planter {
    _process: Spawned,
    words: UnixStream,
    answers: BufReader<UnixStream>,
}

impl Planter {
    fn new(attack: &Attack) -> Planter {
        let (own, his) = UnixStream::pair().unwrap();
        let again: OwnedFd = his.try_clone().unwrap().into();
        let python = attack.by(STRANGER, python()).args(["-I", "-S"]);
        let process = python.arg(&attack.script).arg("serve");
        Planter {
            _process: process.stdin(OwnedFd::from(his)).stdout(again).start(),
            words: own.try_clone().unwrap(),
            answers: BufReader::new(own),
        }
    }

    fn plant(&mut self, kind: &str, path: &Path, content: &str) -> String {
        let content = content.replace('\n', "\\n");
        writeln!(self.words, "{kind}\\t{}\\t{content}", path.display()).unwrap();
        let mut answer = String::new();
        self.answers.read_line(&mut answer).unwrap();
        answer.trim_end().to_owned()
    }
}

/// A start, by that user, that comes as far as its commit; exit status and what was said.
fn start(attack: &Attack, user: u32) -> Finished {
    let user = user.to_string();
    Spawn::new(&attack.stage.scratch, tool("setpriv", "util-linux"))
        .args(["--reuid", &user, "--regid", &user, "--clear-groups", "--"])
        .arg(&attack.program)
        .arg("--pid-file")
        .arg(&attack.stage.pid_file)
        .arg("--")
        .arg(&attack.program)
        .args(["notify", "started"])
        .finish()
}

fn clear(directory: &Path) {
    for entry in fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        match fs::symlink_metadata(&path).unwrap().is_dir() {
            true => fs::remove_dir_all(path).unwrap(),
            false => fs::remove_file(path).unwrap(),
        }
    }
}

fn plant_everywhere(place: Place, user: u32) {
    let attack = Attack::new(place);
    let stage = &attack.stage;
    let directory = stage.pid_file.parent().unwrap();
    let stranger = innocent(stage);
    let mut planter = Planter::new(&attack);
    let record = record_of(&stranger, "ready");
    let pid = format!("{}\n", stranger.pid());
    let [secret, passwd, fifo, socket] =
        ["secret", "passwd", "fifo", "socket"].map(|name| attack.vault(name).display().to_string());
    let making = socket_in_the_making();
    let beside = |name: &str| match name.starts_with('.') && name.contains("run") {
        true => directory.join(name),
        false => stage.beside(name),
    };
    let mut outcomes: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for name in [
        "",
        ".lock",
        ".record",
        ".sock",
        ".new",
        ".record.new",
        ".sock.new",
        &making,
    ] {
        for (kind, content) in [
            ("link", secret.as_str()),
            ("link", &passwd),
            ("link", &fifo),
            ("link", &socket),
            ("link", "/dev/zero"),
            ("link", "dangling"),
            ("hard", &secret),
            ("hard", &passwd),
            ("directory", ""),
            ("fifo", ""),
            ("socket", ""),
            ("file", &pid),
            ("file", &record),
        ] {
            clear(directory);
            let planted = planter.plant(kind, &beside(name), content);
            if kind == "hard" {
                let allowed = fs::read_to_string("/proc/sys/fs/protected_hardlinks").unwrap();
                assert_eq!(
                    allowed.trim(),
                    "1",
                    "this machine lets users link what is not theirs"
                );
            }
            if planted != "planted" {
                outcomes.entry(planted).or_default().push(String::new());
                continue;
            }
            let told = attack.verb(&["status"]);
            let status = told.code().unwrap();
            // 2: a directory is no PID file.
            assert!([2, 3, 4].contains(&status), "{name} {kind}: {told:?}");
            assert!(!format!("{told:?}").contains(SECRET), "{told:?}");
            let ended = start(&attack, user);
            assert!(!ended.stderr.contains(SECRET), "{}", ended.stderr);
            let outcome = match ended.code() {
                Some(0) => "as if nothing were there",
                // One line says so, and names what is in the way.
                Some(125) => {
                    let said = |line: &&str| line.starts_with("seamless-run: ");
                    let said: Vec<_> = ended.stderr.lines().filter(said).collect();
                    assert_eq!(said.len(), 1, "{}", ended.stderr);
                    assert!(said[0].contains("app.pid"), "{}", ended.stderr);
                    "125, one line"
                }
                // It serves, and *started* was answered with what cannot be written (R4).
                Some(1) if ended.stderr.contains("is ready after") => "it serves, with a warning",
                other => panic!("{place:?} {name} {kind}: {other:?}: {}", ended.stderr),
            };
            let what = format!(
                "{kind} at {}",
                if name.is_empty() { "app.pid" } else { name }
            );
            outcomes.entry(outcome.to_owned()).or_default().push(what);
            attack.assert_untouched();
        }
    }
    drop(planter);
    assert_unharmed(stage, &stranger);
    let whose = if user == 0 { "root's" } else { "somebody's" };
    for (outcome, mut what) in outcomes {
        let count = what.len();
        what.dedup();
        let names = if !outcome.contains("nothing") && !outcome.starts_with('E') {
            what.join(", ")
        } else {
            String::new()
        };
        row(
            &format!("{place:?}, {whose} service: {count} times: {outcome}"),
            &names,
        );
    }
}

#[test]
fn what_is_planted_in_a_directory_of_roots() {
    plant_everywhere(Place::Roots, 0);
}

#[test]
fn what_is_planted_in_a_sticky_directory() {
    plant_everywhere(Place::Sticky, 0);
    plant_everywhere(Place::Sticky, SOMEBODY);
}

#[test]
fn what_is_planted_where_everybody_may_write() {
    plant_everywhere(Place::Everybodys, 0);
    plant_everywhere(Place::Everybodys, SOMEBODY);
}

#[test]
fn what_is_planted_where_the_attackers_group_may_write() {
    plant_everywhere(Place::Groups, 0);
}

#[test]
fn what_is_planted_in_the_attackers_own_directory() {
    plant_everywhere(Place::Theirs, 0);
}

/// Where `fs.protected_hardlinks` is 0, as the kernel has it by itself, everybody can link what is not his;
/// and who may write in two directories can move a file of root's from one to the other.
#[test]
fn a_file_of_roots_in_the_place_of_the_lock_is_not_written_to() {
    for moved in [false, true] {
        let attack = Attack::new(Place::Everybodys);
        let content = format!("{SECRET}\n");
        let victim = match moved {
            true => attack.stage.beside(".lock"),
            false => attack.vault("secret"),
        };
        match moved {
            true => fs::write(&victim, &content).unwrap(),
            false => fs::hard_link(&victim, attack.stage.beside(".lock")).unwrap(),
        }
        let ended = start(&attack, 0);
        assert_eq!(
            fs::read_to_string(&victim).unwrap(),
            content,
            "moved: {moved}"
        );
        assert_eq!(ended.code(), Some(125), "{}", ended.stderr);
        assert_eq!(ended.stderr.lines().count(), 1, "{}", ended.stderr);
        assert!(!ended.stderr.contains(SECRET), "{}", ended.stderr);
    }
}

/// A probe that looks into a file of the attacker's: what it leads to is not read to him.
#[test]
fn a_probe_of_a_pid_file_does_not_tell_what_it_leads_to() {
    let attack = Attack::new(Place::Theirs);
    let stage = &attack.stage;
    let number = "73137313";
    let secret = attack.vault("number");
    fs::write(&secret, format!("{number}\n")).unwrap();
    fs::set_permissions(&secret, Permissions::from_mode(0o600)).unwrap();
    let own = stage.pid_file.with_file_name("own.pid");
    let planted = attack.attack(&[
        "plant",
        "link",
        own.to_str().unwrap(),
        secret.to_str().unwrap(),
    ]);
    assert_eq!(planted, "planted");
    let ready = format!("--ready=pid-file:{}", own.display());
    let (launcher, _, _) = attack.daemon(&[&ready, "--ready-timeout=3s"], "");
    stage.log.wait_for("was not ready within the ready timeout");
    launcher.finish();
    assert_eq!(stage.log.count(number), 0, "{}", stage.log.listing());
}
