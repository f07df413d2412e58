//! `--ready`: each kind where it is right, and where it comes late, never, or comes and goes (R12, R13). What a look of
//! the keeper has seen is known by a second condition, the mark, which holds from a moment that the test chooses.

mod after;
mod combined;
mod descriptor;
mod listen;
mod lost;
mod pid_file;
mod probe;
mod probe_faults;
mod refusals;
mod waiting;

use std::fs;
use std::path::PathBuf;

use crate::puppet::Generation;
use crate::stage::Stage;

/// A condition that the test makes true: what `status` waits for then has been looked at since.
pub(crate) struct Mark {
    path: PathBuf,
    pub(crate) option: String,
}

impl Mark {
    pub(crate) fn new(stage: &Stage) -> Mark {
        let path = stage.scratch.join("mark.pid");
        fs::remove_file(&path).ok();
        let option = format!("--ready=pid-file:{}", path.display());
        Mark { path, option }
    }

    /// The mark holds, and somebody has looked since; the other condition does not hold.
    #[track_caller]
    pub(crate) fn assert_waits(&self, stage: &Stage, one: &Generation, other: &str) {
        let beside = self.path.with_extension("new");
        fs::write(&beside, format!("{}\n", one.daemon.pid)).unwrap();
        fs::rename(&beside, &self.path).unwrap();
        let waits = stage.wait_waits(self.path.to_str().unwrap(), false);
        assert!(waits.contains(other), "{waits}");
        assert!(!stage.is_ready(&one.daemon), "{}", stage.log.listing());
    }

    /// The mark does not hold, and somebody has looked since.
    pub(crate) fn withdraw(&self, stage: &Stage) {
        fs::remove_file(&self.path).unwrap();
        stage.wait_waits(self.path.to_str().unwrap(), true);
    }
}
