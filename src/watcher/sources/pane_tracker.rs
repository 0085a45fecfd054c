//! Which panes stand still: a pure fold over the captures.
//!
//! A pane is stale when its last lines are the same at so many polls in a row (two, for a watcher of ours) and the lowest of them show no sign of work.
//! Each such state is announced once; what shows that it was is kept with the other announcements, so it survives this
//! process. Changed content makes the pane ready to be announced again, even with a content it had before. A
//! window that could not be captured proves nothing: its two polls begin anew, and it is not announced for being away.

use std::collections::BTreeMap;

use regex_lite::Regex;

use crate::base::escape;
use crate::journal::record::{Draft, Kind, Mark};
use crate::system::regular_file;

/// At so many polls without a change a pane is stale to the scripts of a firstmate home.
pub const ENOUGH_FOR_SCRIPTS: u32 = 2;

/// How many of the last lines that are not blank may show the busy mark.
const BUSY_LINES: usize = 6;

/// What one poll of all windows gave.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PaneCapture {
    /// The windows that were asked for.
    pub asked: Vec<String>,
    /// The last lines of each window that could be captured.
    pub panes: BTreeMap<String, String>,
    /// All that was captured of the same windows, as tmux printed it, without the end of the last line.
    pub whole: BTreeMap<String, String>,
    /// Why nothing, or not everything, could be captured. A window that does not exist is no problem.
    pub problem: Option<String>,
}

/// The announced digests, by window.
pub type AnnouncedPanes = BTreeMap<String, String>;

/// What follows from one capture.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Observed {
    /// The panes that stand still and were not announced yet.
    pub drafts: Vec<Draft>,
    /// The windows whose announcement is over: their content changed, or no task records them any more.
    pub forget: Vec<String>,
}

/// What the panes showed at the poll before.
#[derive(Debug)]
pub struct PaneTracker {
    busy: Regex,
    context_cap: usize,
    enough: u32,
    /// What each window showed, and at how many polls it has shown nothing else since.
    last: BTreeMap<String, (String, u32)>,
}

impl PaneTracker {
    /// A tracker that has seen nothing yet. `context_cap` is in bytes. A pane stands still that has not changed for
    /// `enough` polls after the one that showed it first.
    pub fn new(busy: Regex, context_cap: usize, enough: u32) -> Self {
        Self { busy, context_cap, enough, last: BTreeMap::new() }
    }

    /// Goes on where another life ended, in which a window had shown this for so many polls.
    pub fn resume(&mut self, window: &str, digest: String, polls: u32) {
        self.last.entry(window.to_owned()).or_insert((digest, polls));
    }

    /// Compares a capture with the one before and with what was announced.
    pub fn observe(&mut self, capture: &PaneCapture, announced: &AnnouncedPanes) -> Observed {
        let mut observed = Observed::default();
        let mut last = BTreeMap::new();
        for (window, content) in &capture.panes {
            let digest = digest(content);
            let was_announced = announced.get(window);
            if was_announced.is_some_and(|before| *before != digest) {
                observed.forget.push(window.clone());
            }
            let polls = match self.last.get(window) {
                Some((before, polls)) if *before == digest => polls.saturating_add(1),
                _ => 0,
            };
            let stands_still = polls >= self.enough;
            if stands_still && was_announced != Some(&digest) && !self.is_busy(content) {
                observed.drafts.push(self.draft(window, content, &digest));
            }
            last.insert(window.clone(), (digest, polls));
        }
        self.last = last;
        observed.forget.extend(announced.keys().filter(|window| !capture.asked.contains(window)).cloned());
        observed
    }

    fn is_busy(&self, content: &str) -> bool {
        let lines = content.lines().rev().filter(|line| !line.trim().is_empty());
        lines.take(BUSY_LINES).any(|line| self.busy.is_match(line))
    }

    fn draft(&self, window: &str, content: &str, digest: &str) -> Draft {
        Draft {
            context: Some(regular_file::tail(content.as_bytes(), self.context_cap)).filter(|text| !text.is_empty()),
            mark: Some(Mark::Pane { window: window.to_owned(), digest: digest.to_owned() }),
            ..Draft::new(Kind::Stale, window, format!("stale: {}", escape::word(window)))
        }
    }
}

/// The 64-bit FNV-1a hash: it tells states of one pane apart, and nobody gains by a collision.
pub(crate) fn digest(content: &str) -> String {
    const BASIS: u64 = 0xcbf2_9ce4_8422_2325;
    const PRIME: u64 = 0x0100_0000_01b3;
    let hash = content.bytes().fold(BASIS, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(PRIME));
    format!("{hash:016x}")
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    struct Fixture {
        tracker: PaneTracker,
        announced: AnnouncedPanes,
    }

    impl Fixture {
        fn new() -> Self {
            let busy = Regex::new(r"esc (to )?interrupt|Working\.\.\.").unwrap();
            Self { tracker: PaneTracker::new(busy, 8, 1), announced: AnnouncedPanes::new() }
        }

        /// Shows one window's content, or nothing, and says which wakes follow.
        fn show(&mut self, content: Option<&str>) -> Vec<Draft> {
            let panes = content.map(|text| ("w".to_owned(), text.to_owned())).into_iter().collect();
            let capture = PaneCapture { asked: vec!["w".into()], panes, ..PaneCapture::default() };
            let observed = self.tracker.observe(&capture, &self.announced);
            observed.forget.iter().for_each(|window| drop(self.announced.remove(window)));
            for draft in &observed.drafts {
                let Some(Mark::Pane { window, digest }) = draft.mark.clone() else { panic!("{draft:?}") };
                self.announced.insert(window, digest);
            }
            observed.drafts
        }

        fn texts(&mut self, contents: &[Option<&str>]) -> Vec<usize> {
            contents.iter().map(|content| self.show(*content).len()).collect()
        }
    }

    #[test]
    fn a_pane_is_stale_at_the_second_same_poll_and_only_once() {
        let mut fixture = Fixture::new();
        assert_eq!(fixture.texts(&[Some("a"), Some("a"), Some("a"), Some("a")]), [0, 1, 0, 0]);
        assert_eq!(fixture.texts(&[Some("b"), Some("a"), Some("a")]), [0, 0, 1], "a change makes it ready again");
    }

    #[test]
    fn a_busy_pane_is_never_stale() {
        let mut fixture = Fixture::new();
        let busy = "x\n\nesc to interrupt\n1\n2\n3\n\n4\n5";
        assert_eq!(fixture.texts(&[Some(busy), Some(busy), Some(busy)]), [0, 0, 0]);
        let idle = "x\nWorking...\n1\n2\n3\n4\n5\n6";
        assert_eq!(fixture.texts(&[Some(idle), Some(idle)]), [0, 1], "the seventh line from below does not count");
    }

    #[test]
    fn a_window_that_is_away_begins_anew_but_is_not_announced_twice() {
        let mut fixture = Fixture::new();
        assert_eq!(fixture.texts(&[Some("a"), None, Some("a"), Some("a")]), [0, 0, 0, 1]);
        assert_eq!(fixture.texts(&[None, Some("a"), Some("a")]), [0, 0, 0]);
    }

    #[test]
    fn what_an_earlier_process_announced_is_not_announced_again() {
        let mut fixture = Fixture::new();
        fixture.announced.insert("w".into(), digest("a"));
        fixture.announced.insert("gone".into(), digest("a"));
        assert_eq!(fixture.texts(&[Some("a"), Some("a")]), [0, 0]);
        assert_eq!(fixture.announced.keys().collect::<Vec<_>>(), ["w"], "windows without a task are forgotten");
    }

    #[test]
    fn the_wake_names_the_window_and_carries_its_last_lines() {
        let mut fixture = Fixture::new();
        fixture.show(Some("first line\nlast ä"));
        let draft = fixture.show(Some("first line\nlast ä")).remove(0);
        assert_eq!((draft.kind, draft.key.as_str(), draft.text.as_str()), (Kind::Stale, "w", "stale: w"));
        assert_eq!(draft.context.as_deref(), Some("\nlast ä"));
    }

    proptest! {
        #[test]
        fn no_state_is_announced_twice_without_a_change_in_between(shown in prop::collection::vec(0..4u8, 0..40)) {
            let mut fixture = Fixture::new();
            let mut announced = None;
            let mut before = None;
            for state in shown {
                // State 0: the window cannot be captured.
                let content = (state > 0).then(|| state.to_string());
                let drafts = fixture.show(content.as_deref());
                if content.is_some() && announced != content {
                    announced = None;
                }
                let is_expected = content.is_some() && before == content && announced.is_none();
                prop_assert_eq!(drafts.len(), usize::from(is_expected));
                if is_expected {
                    announced = content.clone();
                }
                before = content;
            }
        }
    }
}
