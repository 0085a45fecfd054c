//! The wakes of a home, as its own commands show them, and the files they are kept in.

use std::fs;
use std::path::PathBuf;

use serde_json::Value;

use super::home::TestHome;
use super::{SOON, wait_until};

/// One line of `drain`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Shown {
    /// Seconds since 1970.
    pub epoch: u64,
    /// The number to acknowledge.
    pub seq: u64,
    /// What kind of wake.
    pub kind: String,
    /// What it is about.
    pub key: String,
    /// The reason line.
    pub text: String,
}

impl Shown {
    /// Reads a line; a line of any other form fails the test.
    #[track_caller]
    pub fn parse(line: &str) -> Self {
        let fields: Vec<_> = line.split('\t').collect();
        let [epoch, seq, kind, key, text] = fields[..] else { panic!("{line:?} has not five fields") };
        let number = |text: &str| text.parse().unwrap_or_else(|error| panic!("{error} in {line:?}"));
        Self {
            epoch: number(epoch),
            seq: number(seq),
            kind: kind.to_owned(),
            key: key.to_owned(),
            text: text.to_owned(),
        }
    }
}

impl TestHome {
    /// What `drain` shows.
    #[track_caller]
    pub fn drain(&self) -> Vec<Shown> {
        self.ask(&["drain"]).expect_code(0).stdout.lines().map(Shown::parse).collect()
    }

    /// What `drain --json` shows: the wakes.
    #[track_caller]
    pub fn drain_json(&self) -> Vec<Value> {
        let answer = self.ask(&["drain", "--json"]).expect_code(0);
        wakes_in(&answer.stdout)
    }

    /// The keys of the pending wakes, in the order of `drain`.
    #[track_caller]
    pub fn pending_keys(&self) -> Vec<String> {
        self.drain().into_iter().map(|shown| shown.key).collect()
    }

    /// Adds a wake from outside and gives its number.
    #[track_caller]
    pub fn wake(&self, kind: &str, key: &str, text: &str) -> u64 {
        let answer = self.ask(&["wake", kind, key, text]).expect_code(0);
        answer.stdout.trim().parse().unwrap_or_else(|error| panic!("{error} in {answer:?}"))
    }

    /// Acknowledges.
    #[track_caller]
    pub fn ack(&self, seq: u64) {
        self.ask(&["ack", &seq.to_string()]).expect_code(0);
    }

    /// Waits for a pending wake of this kind and key, and gives it as JSON.
    #[track_caller]
    pub fn wait_for_wake(&self, kind: &str, key: &str) -> Value {
        wait_until(SOON, &format!("a wake {kind} {key} is pending"), || {
            self.drain_json().into_iter().find(|wake| wake["kind"] == kind && wake["key"] == key)
        })
    }

    /// Waits until a pending wake about this signal file carries exactly this text, and gives its number. A file that is
    /// made and then written may be told of twice, first while it is empty.
    #[track_caller]
    pub fn wait_for_context(&self, key: &str, text: &str) -> u64 {
        let mut last = Vec::new();
        let found = fm_watch::base::wait_until::wait_until(SOON, std::time::Duration::from_millis(2), || {
            last = self.drain_json();
            let wake = last.iter().find(|wake| wake["key"] == key && wake["context"] == text)?;
            wake["seq"].as_u64()
        });
        found.unwrap_or_else(|| panic!("waited in vain until a wake about {key} carries {text:?}: {last:?}"))
    }

    /// Makes or replaces `<name>.status` in one step, so that nobody sees it half written.
    pub fn put_status(&self, name: &str, text: &str) {
        self.make_state();
        let temporary = self.scratch().join("unfinished");
        fs::write(&temporary, text).unwrap();
        fs::rename(temporary, self.state().join(format!("{name}.status"))).unwrap();
    }

    /// The segments of the journal, in order.
    pub fn segments(&self) -> Vec<PathBuf> {
        let entries = fs::read_dir(self.watch("wakes")).unwrap().flatten().map(|entry| entry.path());
        let mut segments: Vec<_> = entries.filter(|path| path.extension().is_some_and(|end| end == "log")).collect();
        segments.sort();
        segments
    }

    /// The only segment of the journal.
    #[track_caller]
    pub fn only_segment(&self) -> PathBuf {
        let mut segments = self.segments();
        assert_eq!(segments.len(), 1, "{segments:?}");
        segments.remove(0)
    }

    /// A file in the inbox, made as a careful script makes it: written under a temporary name, then renamed.
    pub fn drop_in(&self, name: &str, content: &str) {
        let inbox = self.watch("inbox");
        super::home::make_private(&inbox);
        let temporary = inbox.join(format!(".{name}.unfinished"));
        fs::write(&temporary, content).unwrap();
        fs::rename(temporary, inbox.join(format!("{name}.wake"))).unwrap();
    }
}

/// The wakes in an answer of `drain --json`: an object on each line.
#[track_caller]
pub fn wakes_in(stdout: &str) -> Vec<Value> {
    let wake = |line: &str| -> Value {
        let wake: Value = serde_json::from_str(line).unwrap_or_else(|error| panic!("{error} in {line:?}"));
        assert_eq!(wake["schema"], 1, "{line}");
        wake
    };
    stdout.lines().map(wake).collect()
}
