//! What a check said, and what follows from it.
//!
//! Output is a reason to wake, whatever the exit status. Silence with a failure is not the same as silence: a broken
//! check would look like a quiet one for ever, so three failures in a row are a wake of their own, once per row.
//! A script that is refused is reported once for each state of the file.

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::base::escape;
use crate::journal::record::{Draft, Kind};
use crate::system::regular_file::{Signature, head};

/// How many silent failures in a row are a wake.
const FAILURES_THAT_WAKE: u32 = 3;

/// How much of an output becomes part of the reason line, in bytes. The context has all that was kept.
const TEXT_CAP: usize = 4096;

/// How a check ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum How {
    /// With this exit status.
    Exited(i32),
    /// By a signal.
    Signalled,
    /// By us, after this time.
    TimedOut(Duration),
    /// It was not run, because of what the file is.
    Refused {
        /// Why.
        why: String,
        /// The file that was refused.
        signature: Signature,
    },
    /// It could not be run.
    Failed(String),
    /// It was cut off because the watcher leaves.
    Cancelled,
}

/// One run of a check.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CheckResult {
    /// The full path of the script.
    pub script: PathBuf,
    /// What it wrote to standard output, capped.
    pub output: String,
    /// The end of what it wrote to standard error.
    pub complaint: String,
    /// How it ended.
    pub how: How,
}

/// What is remembered of a check between its runs.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct CheckMemory {
    /// How many silent failures there were in a row.
    pub failures: u32,
    /// The refusal that was reported last.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub refused: Option<(String, Signature)>,
}

/// How an output becomes a reason.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wording {
    /// As one short line that is safe for a terminal; the context has all of it.
    Line,
    /// As the watcher script of a firstmate home has it: all of it as it is, but for the last line ends.
    Whole,
}

/// What follows from a result. The memory is to be kept once the wake, if there is one, is durable.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Judgement {
    /// What to remember.
    pub memory: CheckMemory,
    /// The wake.
    pub draft: Option<Draft>,
}

impl CheckResult {
    /// The name under which [`crate::watcher::checkpoint::Seen::checks`] remembers this check.
    pub fn name(&self) -> String {
        self.script.file_name().unwrap_or_default().to_string_lossy().into_owned()
    }

    /// Decides what follows, given what is remembered of the earlier runs.
    pub fn judge(&self, memory: Option<&CheckMemory>, wording: Wording) -> Judgement {
        let before = memory.cloned().unwrap_or_default();
        match &self.how {
            How::Cancelled => Judgement { memory: before, draft: None },
            How::Refused { why, signature } => {
                let refusal = Some((why.clone(), *signature));
                let draft = (before.refused != refusal).then(|| self.draft(&format!("refused: {why}"), None));
                Judgement { memory: CheckMemory { failures: 0, refused: refusal }, draft }
            }
            _ if !self.reason(wording).is_empty() => {
                Judgement { memory: CheckMemory::default(), draft: Some(self.draft_of_output(wording)) }
            }
            How::Exited(0) => Judgement { memory: CheckMemory::default(), draft: None },
            how => self.judge_failure(&before, how),
        }
    }

    fn reason(&self, wording: Wording) -> &str {
        match wording {
            Wording::Line => self.output.trim(),
            Wording::Whole => self.output.trim_end_matches('\n'),
        }
    }

    fn draft_of_output(&self, wording: Wording) -> Draft {
        match wording {
            Wording::Line => {
                let text = head(&escape::line(self.reason(wording)), TEXT_CAP);
                self.draft(&text, Some(self.output.clone()))
            }
            Wording::Whole => {
                let text = format!("check: {}: {}", self.script.display(), self.reason(wording));
                Draft { text, ..self.draft("", None) }
            }
        }
    }

    fn judge_failure(&self, before: &CheckMemory, how: &How) -> Judgement {
        let failures = before.failures.saturating_add(1);
        let draft = (failures == FAILURES_THAT_WAKE).then(|| {
            let complaint = self.complaint.trim();
            let last_line = complaint.lines().last().map(|line| format!(": {}", escape::line(line)));
            let reason = format!("{how}{}", last_line.unwrap_or_default());
            let context = Some(self.complaint.clone()).filter(|_| !complaint.is_empty());
            self.draft(&format!("failed {FAILURES_THAT_WAKE} times in a row: {reason}"), context)
        });
        Judgement { memory: CheckMemory { failures, refused: None }, draft }
    }

    fn draft(&self, what: &str, context: Option<String>) -> Draft {
        let path = self.script.to_string_lossy();
        let text = format!("check: {}: {what}", escape::word(&path));
        Draft { context, ..Draft::new(Kind::Check, path, text) }
    }
}

impl fmt::Display for How {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Exited(code) => write!(formatter, "exit status {code}"),
            Self::Signalled => formatter.write_str("ended by a signal"),
            Self::TimedOut(after) => write!(formatter, "no end after {}", humantime::format_duration(*after)),
            Self::Refused { why, .. } => write!(formatter, "refused: {why}"),
            Self::Failed(why) => formatter.write_str(why),
            Self::Cancelled => formatter.write_str("cut off"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn result(output: &str, how: How) -> CheckResult {
        let (output, complaint) = (output.to_owned(), "first\nlast \u{1b}[1m\n".to_owned());
        CheckResult { script: "/home/a b/state/x.check.sh".into(), output, complaint, how }
    }

    #[test]
    fn output_is_a_wake_whatever_the_status() {
        for how in [How::Exited(0), How::Exited(9), How::TimedOut(Duration::from_secs(1)), How::Signalled] {
            let draft = result("one\ntwo\u{7}\n", how).judge(None, Wording::Line).draft.unwrap();
            assert_eq!(draft.text, "check: /home/a\\040b/state/x.check.sh: one two\\007");
            assert_eq!(draft.key, "/home/a b/state/x.check.sh");
            assert_eq!(draft.context.as_deref(), Some("one\ntwo\u{7}\n"));
        }
    }

    #[test]
    fn the_script_tells_all_of_an_output() {
        let text =
            |output: &str| result(output, How::Exited(0)).judge(None, Wording::Whole).draft.map(|draft| draft.text);
        assert_eq!(text(" one\ntwo\u{7}\n\n").unwrap(), "check: /home/a b/state/x.check.sh:  one\ntwo\u{7}");
        assert_eq!(text(" ").unwrap(), "check: /home/a b/state/x.check.sh:  ", "blanks are something");
        assert_eq!(text("\n\n"), None);
        assert_eq!(text(&"z".repeat(60_000)).unwrap().len(), 60_000 + "check: /home/a b/state/x.check.sh: ".len());
    }

    #[test]
    fn silence_with_success_is_nothing_and_ends_a_row_of_failures() {
        let memory = CheckMemory { failures: 2, refused: None };
        let judgement = result(" \n", How::Exited(0)).judge(Some(&memory), Wording::Line);
        assert_eq!(judgement, Judgement { memory: CheckMemory::default(), draft: None });
    }

    #[test]
    fn three_silent_failures_in_a_row_are_one_wake() {
        let mut memory = CheckMemory::default();
        let mut texts = Vec::new();
        let hows = [How::Exited(1), How::TimedOut(Duration::from_secs(30)), How::Exited(2), How::Exited(2)];
        for how in hows.iter().cycle().take(8) {
            let judgement = result("", how.clone()).judge(Some(&memory), Wording::Line);
            memory = judgement.memory;
            texts.extend(judgement.draft.map(|draft| draft.text));
        }
        let expected = "failed 3 times in a row: exit status 2: last \\033[1m";
        assert_eq!(texts, [format!("check: /home/a\\040b/state/x.check.sh: {expected}")]);
    }

    #[test]
    fn a_refusal_is_reported_once_for_each_state_of_the_file() {
        let refused = |why: &str, size| {
            let signature = Signature { size, mtime_ns: 0, inode: 1 };
            result("", How::Refused { why: why.into(), signature })
        };
        let first = refused("others can write it", 1).judge(None, Wording::Line);
        assert!(first.draft.unwrap().text.ends_with(": refused: others can write it"));
        assert_eq!(refused("others can write it", 1).judge(Some(&first.memory), Wording::Line).draft, None);
        assert!(refused("others can write it", 2).judge(Some(&first.memory), Wording::Line).draft.is_some());
        assert!(refused("a link", 1).judge(Some(&first.memory), Wording::Line).draft.is_some());
    }

    #[test]
    fn a_run_that_was_cut_off_says_nothing() {
        let memory = CheckMemory { failures: 2, refused: None };
        let judgement = result("half", How::Cancelled).judge(Some(&memory), Wording::Line);
        assert_eq!(judgement, Judgement { memory, draft: None });
    }

    #[test]
    fn a_long_output_is_cut_in_the_line_and_kept_in_the_context() {
        let draft = result(&"ä".repeat(40_000), How::Exited(0)).judge(None, Wording::Line).draft.unwrap();
        assert!(draft.text.len() < TEXT_CAP + 100);
        assert_eq!(draft.context.unwrap().len(), 80_000);
    }
}
