//! The suppression markers of firstmate's scripts: what a shell watcher has announced, as files.
//!
//! # Theory
//!
//! A shell watcher ends with each wake, so all it remembers lies in the state directory: `.seen-*` has size and time of a
//! signal file as it was announced, `.stale-*` the digest of a pane that was, `.hash-*` and `.count-*` what a pane showed
//! and for how many polls, `.heartbeat-streak` the heartbeats in a row; of `.last-check` and `.last-heartbeat` only the
//! time of modification counts.
//!
//! Ours begins with them ([`inherit`]), so it announces nothing that a shell watcher has announced, and keeps them current,
//! so a shell watcher that comes after it does the same. A marker moves only after the row of its wake is durable:
//! the other way round a death in between would hide a wake from the scripts for good.
//!
//! If this were wrong, one side would repeat what the other has told, or, worse, keep silent about news.
//!
//! # Limits
//!
//! - On Linux the scripts see whole seconds. A signal file that is rewritten within its second with as many bytes is the
//!   same to them. To ours it is not, unless only a marker tells what was announced.
//! - Names are not told apart where the scripts do not: `a.b.status` and `a_b.status` share a marker, and so do the
//!   windows `a:b` and `a/b`. The worst is that one of them is announced once more.
//! - The time of a marker is by the wall clock. One from the future counts as now.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::io;
use std::time::Duration;

use crate::base::failpoint::Failpoint;
use crate::journal::record::{Mark, Wake};
use crate::system::regular_file::Signature;
use crate::system::storage;
use crate::system::{Facts, Kind, Open, World};
use crate::watcher::checkpoint::{Moment, Seen};
use crate::watcher::sources::pane_tracker::{self, ENOUGH_FOR_SCRIPTS, PaneCapture, PaneTracker};
use crate::watcher::sources::signals::is_signal;

const LAST_CHECK: &str = ".last-check";
const LAST_HEARTBEAT: &str = ".last-heartbeat";
const STREAK: &str = ".heartbeat-streak";
/// The longest marker that is read, in bytes. None needs as many.
const LIMIT: usize = 256;

/// What is to become of a marker.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    /// It is to have this content.
    Write(String),
    /// Only its time is to be now.
    Touch,
}

/// Markers that are to move, by name. A later change of one takes the place of an earlier one.
pub type Changes = BTreeMap<OsString, Change>;

/// The markers of the panes: what was found at the beginning, and what is shown now.
#[derive(Debug, Default)]
pub struct PaneMarkers {
    /// What a shell watcher has announced, by the end of the marker's name.
    inherited: BTreeMap<String, String>,
    /// What a shell watcher has seen, and for how many polls, by the end of the markers' names.
    counted: BTreeMap<String, (String, u32)>,
    /// What each window showed at the last poll, and for how many polls without a change.
    shown: BTreeMap<String, (String, u32)>,
}

/// The name of the marker of a signal file.
pub fn seen_name(file: &str) -> OsString {
    format!(".seen-{}", file.replace('.', "_")).into()
}

/// The marker of a signal file with these facts: `size:mtime`, as the `stat` of this system prints it for the scripts.
pub fn seen_text(signature: &Signature) -> String {
    let (seconds, rest) = (signature.mtime_ns.div_euclid(1_000_000_000), signature.mtime_ns.rem_euclid(1_000_000_000));
    if cfg!(target_os = "macos") {
        format!("{}:{seconds}.{rest:09}", signature.size)
    } else {
        format!("{}:{seconds}", signature.size)
    }
}

/// Whether a signal file that is there now was announced by a shell watcher, of which we do not know yet. A marker that
/// says what we know ourselves is not news: ours is the finer reading, and it decides. But not by the inode alone: a home
/// that was copied, or restored, has others.
fn is_news(marker: &str, known: Option<&Signature>, now: &Signature) -> bool {
    let marker = marker.trim_ascii();
    let is_copy = |known: &Signature| known.mtime_ns == now.mtime_ns && known.size == now.size;
    let is_finer = |known: &Signature| seen_text(known) == marker && !is_copy(known);
    marker == seen_text(now) && known != Some(now) && !known.is_some_and(is_finer)
}

/// The end of the names of a window's markers.
fn window_key(window: &str) -> String {
    window.replace([':', '/', '.'], "_")
}

/// The digest by which the scripts know what a pane shows. They read it into a variable, which drops the last line ends.
fn pane_digest(shown: &str) -> String {
    format!("{:x}", md5::compute(shown.trim_end_matches('\n')))
}

/// The same time as one of the wall clock, by the clock of this boot. `None`: it was before this boot, or nobody can tell.
fn moment(mtime_ns: i64, now_ms: i64, now: &Moment) -> Option<Moment> {
    let age = now_ms.saturating_sub(mtime_ns.div_euclid(1_000_000)).max(0);
    let monotonic_ms = now.monotonic_ms.checked_sub(u64::try_from(age).ok()?)?;
    Some(Moment { boot_id: now.boot_id.clone(), monotonic_ms })
}

/// Who is believed where a marker says something else than we know.
#[derive(Debug, Clone, Copy)]
pub enum Authority<'a> {
    /// We are, for we know more. A marker only adds to that.
    Ours,
    /// The markers are, as they are to a script: people remove them to be told again. But a wake that nobody has
    /// acknowledged was announced, whatever became of its marker; these are the marks of those.
    Markers(&'a [Mark]),
}

/// The later of two times; one without an age is earlier than any.
fn later(known: Option<&Moment>, found: Option<Moment>, now: &Moment) -> Option<Moment> {
    let age = |moment: &Moment| moment.age(now).unwrap_or(Duration::MAX);
    match (known, found) {
        (Some(known), Some(found)) if age(&found) < age(known) => Some(found),
        (None, found) => found,
        (Some(known), _) => Some(known.clone()),
    }
}

/// Adds to what we know to be announced what the markers say, and gives those of the panes, which can be compared only
/// with what a pane shows. Says how many signals were news.
///
/// # Errors
/// The state directory cannot be listed. A marker that cannot be read says nothing.
pub fn inherit<W: World>(
    world: &W,
    state: &W::Node,
    seen: &mut Seen,
    authority: Authority<'_>,
) -> io::Result<(PaneMarkers, usize)> {
    let (mut panes, mut news) = (PaneMarkers::default(), 0);
    if let Authority::Markers(pending) = authority {
        news += forget_unmarked(world, state, seen, pending);
    }
    for name in world.names(state)? {
        let text = name.to_str();
        if let Some(window) = text.and_then(|name| name.strip_prefix(".stale-")) {
            panes.inherited.extend(read(world, state, &name).map(|digest| (window.to_owned(), digest)));
        } else if let Some(window) = text.and_then(|name| name.strip_prefix(".hash-")) {
            let count = read(world, state, format!(".count-{window}").as_ref());
            let polls = count.and_then(|count| count.parse().ok()).unwrap_or(0);
            panes.counted.extend(read(world, state, &name).map(|digest| (window.to_owned(), (digest, polls))));
        } else if let Some(file) = name.to_str().filter(|_| is_signal(&name)) {
            let facts = world.facts_at(state, &name).ok().filter(|facts| facts.kind == Kind::File);
            let marker = read(world, state, &seen_name(file));
            let Some((marker, now)) = marker.zip(facts.map(|facts| Signature::of(&facts))) else { continue };
            if is_news(&marker, seen.signals.get(file), &now) && world.is_protected(Failpoint::FirstmateMarkers) {
                seen.signals.insert(file.to_owned(), now);
                news += 1;
            }
        }
    }
    inherit_times(world, state, seen, authority);
    Ok((panes, news))
}

/// What we know to be announced, and no marker says so, is announced again. Says how much that is.
fn forget_unmarked<W: World>(world: &W, state: &W::Node, seen: &mut Seen, pending: &[Mark]) -> usize {
    let before = seen.signals.len() + seen.panes.len();
    seen.signals.retain(|file, known| {
        let is_pending = pending.iter().any(|mark| {
            matches!(mark, Mark::Signal { file: other, size, mtime_ns, inode } if other == file
                && Signature { size: *size, mtime_ns: *mtime_ns, inode: *inode } == *known)
        });
        is_pending || read(world, state, &seen_name(file)).as_deref() == Some(seen_text(known).as_str())
    });
    seen.panes.retain(|window, known| {
        let is_pending = pending
            .iter()
            .any(|mark| matches!(mark, Mark::Pane { window: other, digest } if other == window && digest == known));
        // Where there is a marker, it is compared with the pane itself, later on.
        is_pending && read(world, state, format!(".stale-{}", window_key(window)).as_ref()).is_none()
    });
    before - seen.signals.len() - seen.panes.len()
}

fn inherit_times<W: World>(world: &W, state: &W::Node, seen: &mut Seen, authority: Authority<'_>) {
    let (now, wall) = (Moment::now(world), world.now().wall_ms);
    let found = |name: &str| -> Option<Facts> { world.facts_at(state, OsStr::new(name)).ok() };
    let at = |facts: Facts| moment(facts.mtime_ns, wall, &now);
    let streak: Option<u32> = read(world, state, OsStr::new(STREAK)).and_then(|text| text.parse().ok());
    let check = found(LAST_CHECK).and_then(at);
    // A heartbeat without a time begins to count now, and one from before this boot is due.
    let beginning = || Moment { boot_id: now.boot_id.clone(), monotonic_ms: 0 };
    let heartbeat = found(LAST_HEARTBEAT).map(|facts| at(facts).unwrap_or_else(beginning));
    match authority {
        Authority::Ours => {
            seen.last_check = later(seen.last_check.as_ref(), check, &now);
            seen.last_heartbeat = later(seen.last_heartbeat.as_ref(), heartbeat, &now);
            seen.streak = streak.unwrap_or(seen.streak);
        }
        Authority::Markers(_) => {
            (seen.last_check, seen.last_heartbeat) = (check, heartbeat);
            seen.streak = streak.unwrap_or(0);
        }
    }
}

/// A marker without blanks around it; `None` when there is none, or it is not one.
fn read<W: World>(world: &W, state: &W::Node, name: &OsStr) -> Option<String> {
    let bytes = storage::read(world, state, name, LIMIT).ok()??;
    Some(String::from_utf8(bytes).ok()?.trim_ascii().to_owned())
}

/// The markers that move because these wakes are recorded. The digests of the panes are those of the last capture.
pub fn of_wakes(wakes: &[Wake], panes: &PaneMarkers) -> Changes {
    let mut changes = Changes::new();
    for wake in wakes {
        let mut streak = 0;
        match &wake.mark {
            Some(Mark::Signal { file, size, mtime_ns, inode }) => {
                let signature = Signature { size: *size, mtime_ns: *mtime_ns, inode: *inode };
                changes.insert(seen_name(file), Change::Write(seen_text(&signature)));
            }
            Some(Mark::Pane { window, .. }) => {
                let shown = panes.shown.get(window).map(|(digest, _)| Change::Write(format!("{digest}\n")));
                changes.extend(shown.map(|change| (format!(".stale-{}", window_key(window)).into(), change)));
            }
            Some(Mark::Heartbeat { streak: beats }) => {
                streak = *beats;
                changes.insert(LAST_HEARTBEAT.into(), Change::Touch);
            }
            Some(Mark::Inbox { .. } | Mark::Row { .. }) | None => {}
        }
        changes.insert(STREAK.into(), Change::Write(format!("{streak}\n")));
    }
    changes
}

/// The marker that moves when a sweep of the checks is over.
pub fn of_sweep() -> Changes {
    Changes::from([(LAST_CHECK.into(), Change::Touch)])
}

/// All markers of signals that are to agree with what we know, for a beginning.
pub fn of_signals(seen: &Seen) -> Changes {
    let markers = seen.signals.iter().map(|(file, now)| (seen_name(file), Change::Write(seen_text(now))));
    markers.collect()
}

impl PaneMarkers {
    /// Adds to the announced digests (ours, by window) those panes that show what a shell watcher has announced, and has
    /// the tracker go on counting the polls at which one has shown the same.
    pub fn hand_over(
        &mut self,
        capture: &PaneCapture,
        announced: &mut BTreeMap<String, String>,
        tracker: &mut PaneTracker,
    ) {
        for (window, content) in &capture.panes {
            let key = window_key(window);
            let marker = pane_digest(capture.whole.get(window).unwrap_or(content));
            if self.inherited.remove(&key).is_some_and(|announced| announced == marker) {
                announced.insert(window.clone(), pane_tracker::digest(content));
            }
            if let Some((_, polls)) = self.counted.remove(&key).filter(|(counted, _)| *counted == marker) {
                tracker.resume(window, pane_tracker::digest(content), polls);
                self.shown.insert(window.clone(), (marker, polls));
            }
        }
    }

    /// Takes note of what the panes show and gives the markers that move with it.
    pub fn observe(&mut self, capture: &PaneCapture) -> Changes {
        let mut changes = Changes::new();
        self.shown.retain(|window, _| capture.asked.contains(window));
        for (window, shown) in &capture.whole {
            let digest = pane_digest(shown);
            let polls = match self.shown.get(window) {
                Some((before, polls)) if *before == digest => (*polls + 1).min(ENOUGH_FOR_SCRIPTS),
                _ => 0,
            };
            let key = window_key(window);
            let before = self.shown.insert(window.clone(), (digest.clone(), polls));
            if before.as_ref().is_none_or(|(before, _)| *before != digest) {
                changes.insert(format!(".hash-{key}").into(), Change::Write(format!("{digest}\n")));
            }
            if before.is_none_or(|(_, before)| before != polls) {
                changes.insert(format!(".count-{key}").into(), Change::Write(format!("{polls}\n")));
            }
        }
        changes
    }
}

/// Moves one marker. A marker that says so already is left alone.
///
/// # Errors
/// Those of the file system, and a name that is no regular file.
pub fn apply<W: World>(world: &W, state: &W::Node, name: &OsStr, change: &Change) -> io::Result<()> {
    let content = match change {
        Change::Write(content) if read(world, state, name).as_deref() == Some(content.trim_ascii()) => return Ok(()),
        Change::Write(content) => content.as_bytes(),
        // Making a file as long as it is counts as a modification of it.
        Change::Touch => b"",
    };
    let node = world.open(state, name, Open::Lock)?;
    if world.facts(&node)?.kind != Kind::File {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "not a regular file"));
    }
    world.overwrite(&node, content)
}

/// Makes `.last-heartbeat` where it is missing: since then a heartbeat is waited for.
///
/// # Errors
/// Those of the file system.
pub fn begin_heartbeat<W: World>(world: &W, state: &W::Node) -> io::Result<()> {
    match world.facts_at(state, OsStr::new(LAST_HEARTBEAT)) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            apply(world, state, OsStr::new(LAST_HEARTBEAT), &Change::Touch)
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "tests make and remove files of their own")]
mod tests {
    use std::fs;

    use super::*;
    use crate::journal::codec::tests::wake;
    use crate::system::Real;

    fn signature(size: u64, mtime_ns: i64) -> Signature {
        Signature { size, mtime_ns, inode: 1 }
    }

    #[test]
    fn a_marker_tells_what_is_not_known_and_never_overrules_a_finer_reading() {
        let now = signature(5, 1_700_000_000_200_000_000);
        let marker = seen_text(&now);
        let (earlier, other) = (signature(5, 1_700_000_000_100_000_000), signature(4, 1_600_000_000_000_000_000));
        let copied = Signature { inode: 7, ..now };
        for (marker, known, expected) in [
            (marker.as_str(), None, true),
            (&format!("{marker}\n"), None, true),
            (&marker, Some(&other), true),
            (&marker, Some(&copied), true),
            (&marker, Some(&now), false),
            ("5:1700000001", None, false),
            ("4:1700000000", None, false),
            ("", None, false),
            ("garbage", Some(&other), false),
        ] {
            assert_eq!(is_news(marker, known, &now), expected, "{marker} {known:?}");
        }
        if !cfg!(target_os = "macos") {
            assert!(!is_news(&marker, Some(&earlier), &now), "rewritten within the second of its own announcement");
        }
    }

    #[test]
    fn names_are_those_of_the_scripts() {
        assert_eq!(seen_name("t1.status"), ".seen-t1_status");
        assert_eq!(seen_name("t1.turn-ended"), ".seen-t1_turn-ended");
        assert_eq!(window_key("fm:a/b.c"), "fm_a_b_c");
        if !cfg!(target_os = "macos") {
            assert_eq!(seen_text(&signature(12, 1_700_000_000_999_999_999)), "12:1700000000");
        }
    }

    #[test]
    fn each_wake_moves_its_markers_and_ends_the_row_of_heartbeats() {
        let signal = Mark::Signal { file: "a.status".into(), size: 1, mtime_ns: 2_000_000_000, inode: 3 };
        let changes = of_wakes(&[Wake { mark: Some(signal), ..wake(1) }], &PaneMarkers::default());
        assert_eq!(changes[OsStr::new(STREAK)], Change::Write("0\n".into()));
        assert!(changes.contains_key(OsStr::new(".seen-a_status")));
        let beat = Wake { mark: Some(Mark::Heartbeat { streak: 3 }), ..wake(2) };
        let changes = of_wakes(&[beat], &PaneMarkers::default());
        assert_eq!(changes[OsStr::new(STREAK)], Change::Write("3\n".into()));
        assert_eq!(changes[OsStr::new(LAST_HEARTBEAT)], Change::Touch);
    }

    fn capture(shown: &str) -> PaneCapture {
        let panes: BTreeMap<_, _> = [("fm:a".to_owned(), shown.to_owned())].into();
        PaneCapture { asked: vec!["fm:a".into()], whole: panes.clone(), panes, problem: None }
    }

    #[test]
    fn a_pane_is_counted_until_it_is_stale_and_anew_after_a_change() {
        let mut panes = PaneMarkers::default();
        let mut names = |shown: &str| {
            let changes = panes.observe(&capture(shown));
            changes.into_iter().map(|(name, change)| (name.into_string().unwrap(), change)).collect::<Vec<_>>()
        };
        let count = |polls: u32| (".count-fm_a".to_owned(), Change::Write(format!("{polls}\n")));
        let hash = |shown: &str| (".hash-fm_a".to_owned(), Change::Write(format!("{}\n", pane_digest(shown))));
        assert_eq!(names("x"), [count(0), hash("x")]);
        assert_eq!(names("x\n"), [count(1)]);
        assert_eq!(names("x"), [count(2)]);
        assert_eq!(names("x"), []);
        assert_eq!(names("y"), [count(0), hash("y")]);
    }

    #[test]
    fn a_pane_that_a_shell_watcher_has_announced_is_announced() {
        let mut panes = PaneMarkers::default();
        panes.inherited.insert("fm_a".into(), pane_digest("x"));
        let (mut announced, mut tracker) = (BTreeMap::new(), tracker());
        panes.hand_over(&capture("x\n"), &mut announced, &mut tracker);
        assert_eq!(announced["fm:a"], pane_tracker::digest("x\n"));
        announced.clear();
        panes.hand_over(&capture("x"), &mut announced, &mut tracker);
        assert!(announced.is_empty(), "what was found at the beginning is used once");
    }

    fn tracker() -> PaneTracker {
        PaneTracker::new(regex_lite::Regex::new("busy").unwrap(), 8, ENOUGH_FOR_SCRIPTS)
    }

    #[test]
    fn polls_that_a_shell_watcher_has_counted_count() {
        for (marker, polls, expected) in [("x", 1, 1), ("x", 0, 0), ("y", 1, 0)] {
            let mut panes = PaneMarkers::default();
            panes.counted.insert("fm_a".into(), (pane_digest(marker), polls));
            let (mut announced, mut tracker) = (BTreeMap::new(), tracker());
            panes.hand_over(&capture("x"), &mut announced, &mut tracker);
            panes.observe(&capture("x"));
            assert_eq!(tracker.observe(&capture("x"), &announced).drafts.len(), expected, "{marker} {polls}");
            assert_eq!(panes.shown["fm:a"].1, if marker == "x" { polls + 1 } else { 0 });
        }
    }

    #[test]
    fn the_times_of_markers_become_moments_of_this_boot() {
        let now = Moment { boot_id: "b".into(), monotonic_ms: 10_000 };
        let at = |ms: i64| moment(ms * 1_000_000, 100_000, &now).map(|moment| moment.monotonic_ms);
        assert_eq!((at(99_000), at(90_000), at(89_999)), (Some(9_000), Some(0), None));
        assert_eq!(at(200_000), Some(10_000), "a time from the future is now");
        let moment = |monotonic_ms| Moment { boot_id: "b".into(), monotonic_ms };
        assert_eq!(later(Some(&moment(5)), Some(moment(6)), &now), Some(moment(6)));
        assert_eq!(later(Some(&moment(7)), Some(moment(6)), &now), Some(moment(7)));
        assert_eq!(later(None, Some(moment(6)), &now), Some(moment(6)));
        assert_eq!(later(Some(&moment(7)), None, &now), Some(moment(7)));
    }

    #[test]
    fn markers_are_read_and_written_in_place() {
        let directory = tempfile::tempdir().unwrap();
        let node = Real.open_directory(directory.path()).unwrap();
        let path = |name: &str| directory.path().join(name);
        fs::write(path("a.status"), "12345").unwrap();
        let now = Signature::of(&Real.facts_of_path(&path("a.status")).unwrap());
        apply(&Real, &node, &seen_name("a.status"), &Change::Write(seen_text(&now))).unwrap();
        fs::write(path("b.status"), "1").unwrap();
        fs::write(path(".seen-b_status"), "a marker of something else, which is longer").unwrap();
        fs::write(path(STREAK), "4\n").unwrap();
        fs::write(path(".stale-fm_a"), "0123\n").unwrap();
        begin_heartbeat(&Real, &node).unwrap();
        let mut seen = Seen::default();
        let (panes, news) = inherit(&Real, &node, &mut seen, Authority::Ours).unwrap();
        assert_eq!((news, seen.streak, seen.last_check.is_some()), (1, 4, false));
        assert_eq!(seen.signals, BTreeMap::from([("a.status".to_owned(), now)]));
        assert!(seen.last_heartbeat.is_some() && panes.inherited["fm_a"] == "0123");
        // People remove markers to be told again; what nobody has acknowledged was announced all the same.
        fs::remove_file(path(".seen-a_status")).unwrap();
        let mark = Mark::Signal { file: "a.status".into(), size: now.size, mtime_ns: now.mtime_ns, inode: now.inode };
        for (pending, expected) in [(&[mark][..], 1), (&[], 0)] {
            let mut again = Seen { streak: 51, last_check: seen.last_heartbeat.clone(), ..seen.clone() };
            inherit(&Real, &node, &mut again, Authority::Markers(pending)).unwrap();
            assert_eq!((again.signals.len(), again.streak, again.last_check.is_some()), (expected, 4, false));
        }
        // What a pane's marker says is compared with the pane, and not with what we know.
        let pane = |window: &str| (window.to_owned(), "ours".to_owned());
        let mark = |window: &str| Mark::Pane { window: window.into(), digest: "ours".into() };
        let mut again = Seen { panes: [pane("fm:a"), pane("fm:b"), pane("fm:c")].into(), ..Seen::default() };
        inherit(&Real, &node, &mut again, Authority::Markers(&[mark("fm:a"), mark("fm:b")])).unwrap();
        assert_eq!(again.panes.into_keys().collect::<Vec<_>>(), ["fm:b"]);
        for (name, change) in of_signals(&seen) {
            apply(&Real, &node, &name, &change).unwrap();
        }
        apply(&Real, &node, &seen_name("b.status"), &Change::Write("1:2".into())).unwrap();
        assert_eq!(fs::read_to_string(path(".seen-b_status")).unwrap(), "1:2");
        let old = std::time::UNIX_EPOCH;
        fs::File::options().write(true).open(path(LAST_HEARTBEAT)).unwrap().set_modified(old).unwrap();
        apply(&Real, &node, OsStr::new(LAST_HEARTBEAT), &Change::Touch).unwrap();
        assert_ne!(fs::metadata(path(LAST_HEARTBEAT)).unwrap().modified().unwrap(), old);
        fs::create_dir(path(".seen-d_status")).unwrap();
        assert!(apply(&Real, &node, &seen_name("d.status"), &Change::Touch).is_err());
    }
}
