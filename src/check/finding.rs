//! What was found, as data: what is wrong, what it leads to, and what to change.

/// How bad it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Level {
    /// It will go wrong.
    Error,
    /// It may.
    Warning,
    /// Worth knowing.
    Note,
}

impl Level {
    pub(super) fn name(self) -> &'static str {
        match self {
            Level::Error => "error",
            Level::Warning => "warning",
            Level::Note => "note",
        }
    }
}

/// One thing, in words that stand by themselves.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Finding {
    pub(super) level: Level,
    /// The unit, the file or the directory that it is about.
    pub(super) subject: String,
    /// A word for programs; `docs/verbs.md` promises it.
    pub(super) code: &'static str,
    /// The setting with its value.
    pub(super) found: String,
    /// What will happen.
    pub(super) consequence: String,
    /// What to do about it, in words; empty where there is nothing to do.
    pub(super) fix: String,
    /// The very line to write there, where one line does it.
    pub(super) line: Option<String>,
}

impl Finding {
    /// The line is to be set, whether or not it was there before.
    pub(super) fn set(mut self, line: impl Into<String>) -> Finding {
        let line = line.into();
        self.fix = format!("set {line}");
        self.line = Some(line);
        self
    }

    /// The same, in the place of another one.
    pub(super) fn write(mut self, line: impl Into<String>) -> Finding {
        let line = line.into();
        self.fix = format!("write: {line}");
        self.line = Some(line);
        self
    }

    pub(super) fn fix(mut self, words: impl Into<String>) -> Finding {
        self.fix = words.into();
        self
    }
}

/// Makes findings about one subject.
#[derive(Clone, Copy, Debug)]
pub(super) struct About<'a>(pub(super) &'a str);

impl About<'_> {
    pub(super) fn error(
        self,
        code: &'static str,
        found: impl Into<String>,
        consequence: impl Into<String>,
    ) -> Finding {
        self.finding(Level::Error, code, found.into(), consequence.into())
    }

    pub(super) fn warning(
        self,
        code: &'static str,
        found: impl Into<String>,
        consequence: impl Into<String>,
    ) -> Finding {
        self.finding(Level::Warning, code, found.into(), consequence.into())
    }

    pub(super) fn note(
        self,
        code: &'static str,
        found: impl Into<String>,
        consequence: impl Into<String>,
    ) -> Finding {
        self.finding(Level::Note, code, found.into(), consequence.into())
    }

    fn finding(
        self,
        level: Level,
        code: &'static str,
        found: String,
        consequence: String,
    ) -> Finding {
        Finding {
            level,
            subject: self.0.to_owned(),
            code,
            found,
            consequence,
            fix: String::new(),
            line: None,
        }
    }
}
