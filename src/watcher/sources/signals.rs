//! The signals: status files that grow and turns that end.
//!
//! A file is *changed* while its signature differs from the one that was announced last. So the source is
//! level-triggered: what was written while no watcher ran is found by the next one, and an event is only a reason to
//! look at one name sooner. If this were wrong, a finished task would wait for nobody.
//!
//! The signature of an announcement is taken from the open file before its content is read, so whatever is written
//! later differs from it. One gap remains: a rewrite of the same size may get the same time stamp while the clock that
//! stamps files has not ticked. For a file announced that soon after its modification a checksum is kept, and the file is
//! read once more when the tick is over.
//!
//! A task that finishes writes its status and ends its turn within moments of each other, and tasks often finish
//! together. One wake per file would cost a turn of an agent each, so after the first changed file a batch lingers
//! for the grace time. It ends early when nothing more is to come: every task in it has shown both its status and its
//! turn's end. If this were wrong, wakes would be late by at most the grace time, never lost: a file stays changed
//! until it is announced.
//!
//! Limits: the checksum covers the last megabyte and is lost with the process. Names that are not UTF-8 cannot be
//! recorded; they are counted and not watched.

use crate::base::escape;
use crate::journal::record::{Draft, Kind, Mark, Wake};
use crate::system::regular_file::{self, RegularFile, Signature, has_suffix};
use crate::system::{self, World};
use crate::watcher::degradations::{Condition, Part};
use crate::watcher::events::Tag;
use crate::watcher::source::{LoopContext, Progress, Source, Unrecorded};
use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::ffi::{OsStr, OsString};
use std::io;
use std::path::Path;
use std::time::Duration;

/// The end of a status file's name.
pub const STATUS: &str = ".status";
/// The end of the name of the file that says that a turn ended.
pub const TURN_ENDED: &str = ".turn-ended";

/// How much of an unsettled file is checked again, in bytes from its end.
const CHECKED: usize = 1024 * 1024;

/// So many files are read before the journal thread gets them.
const PORTION: usize = 256;

const NAME: &str = "signals";

/// The announced signatures, by file name.
pub type Announced = BTreeMap<String, Signature>;

/// What one look at the whole directory found.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Scan {
    /// The files that changed since they were announced, or never were, by name.
    pub changed: Vec<String>,
    /// Announced files that are no more. They are to be forgotten, so that they are announced when they come back.
    pub vanished: Vec<String>,
    /// How many signals cannot be watched because their names are not UTF-8.
    pub unreadable_names: usize,
}

/// What an observation of one file found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Observation {
    /// It differs from what was announced.
    Changed,
    /// It is as announced, or cannot be judged now.
    Unchanged,
    /// There is no such file.
    Gone,
}

/// What an announcement says of a file.
#[derive(Debug, PartialEq, Eq)]
pub struct Reading {
    /// What the file was before its content was read.
    pub signature: Signature,
    /// What was added to it.
    pub context: String,
}

/// The signal files, compared with what was announced.
#[derive(Debug, Default)]
pub struct Signals {
    /// Checksums of files that were announced while a rewrite could still get the same signature.
    unsettled: BTreeMap<String, u32>,
}

/// Whether a name in the state directory is a signal's.
pub fn is_signal(name: &OsStr) -> bool {
    has_suffix(name, STATUS) || has_suffix(name, TURN_ENDED)
}

impl Signals {
    /// Compares all signals among the names in the state directory with the announced signatures.
    pub fn scan<W: World>(&mut self, world: &W, state: &W::Node, names: &[OsString], announced: &Announced) -> Scan {
        let mut scan = Scan::default();
        let mut present = HashSet::new();
        for name in names.iter().filter(|name| is_signal(name)) {
            let Some(name) = name.to_str() else {
                scan.unreadable_names += 1;
                continue;
            };
            match self.observe(world, state, name, announced) {
                Observation::Gone => continue,
                Observation::Changed => scan.changed.push(name.to_owned()),
                Observation::Unchanged => {}
            }
            present.insert(name);
        }
        // As the scripts go through them: first all of one kind, then all of the other.
        scan.changed.sort_unstable_by_key(|name| (name.ends_with(TURN_ENDED), name.clone()));
        scan.vanished = announced.keys().filter(|name| !present.contains(name.as_str())).cloned().collect();
        for name in &scan.vanished {
            self.unsettled.remove(name);
        }
        scan
    }

    /// Compares one file with its announced signature. A name that is no signal's is never there.
    pub fn observe<W: World>(&mut self, world: &W, state: &W::Node, name: &str, announced: &Announced) -> Observation {
        let facts = match world.facts_at(state, OsStr::new(name)) {
            Ok(facts) if facts.kind == system::Kind::File && is_signal(OsStr::new(name)) => facts,
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Observation::Unchanged,
            _ => return Observation::Gone,
        };
        let signature = Signature::of(&facts);
        if announced.get(name) != Some(&signature) {
            return Observation::Changed;
        }
        self.verify(world, state, name, signature)
    }

    /// Reads an unsettled file once more.
    fn verify<W: World>(&mut self, world: &W, state: &W::Node, name: &str, signature: Signature) -> Observation {
        let Some(&known) = self.unsettled.get(name) else { return Observation::Unchanged };
        // Taken before reading: a write that comes later gets another time stamp if the clock has ticked by now.
        let is_settled = signature.is_settled(world.now());
        let Ok(Some(file)) = regular_file::open(world, state, OsStr::new(name)) else { return Observation::Unchanged };
        match checksum(world, &file) {
            Ok(found) if found != known => Observation::Changed,
            Ok(_) if is_settled => {
                self.unsettled.remove(name);
                Observation::Unchanged
            }
            _ => Observation::Unchanged,
        }
    }

    /// The wake that announces a file, with at most `cap` bytes of what was added to it. `None` when it is gone.
    ///
    /// A file that cannot be opened or read is announced without context.
    pub fn announce<W: World>(
        &mut self,
        world: &W,
        state: (&Path, &W::Node),
        name: &str,
        announced: &Announced,
        cap: usize,
    ) -> Option<Draft> {
        let (path, node) = state;
        let before = announced.get(name).copied();
        let (signature, context) = if let Ok(reading) = self.read(world, node, name, before, cap) {
            reading.map(|reading| (reading.signature, Some(reading.context)))?
        } else {
            let facts = world.facts_at(node, OsStr::new(name)).ok();
            (Signature::of(&facts.filter(|facts| facts.kind == system::Kind::File)?), None)
        };
        let Signature { size, mtime_ns, inode } = signature;
        Some(Draft {
            context: context.filter(|context| !context.is_empty() && !name.ends_with(TURN_ENDED)),
            mark: Some(Mark::Signal { file: name.to_owned(), size, mtime_ns, inode }),
            ..Draft::new(Kind::Signal, name, format!("signal: {}", escape::word(&path.join(name).to_string_lossy())))
        })
    }

    fn read<W: World>(
        &mut self,
        world: &W,
        state: &W::Node,
        name: &str,
        before: Option<Signature>,
        cap: usize,
    ) -> io::Result<Option<Reading>> {
        let Some(file) = regular_file::open(world, state, OsStr::new(name))? else { return Ok(None) };
        self.unsettled.remove(name);
        if file.facts.size > 0 && !Signature::of(&file.facts).is_settled(world.now()) {
            // Before the context: a write between the two is then announced twice, and not the other way round never.
            self.unsettled.insert(name.to_owned(), checksum(world, &file)?);
        }
        read_context(world, &file, before, cap).map(Some)
    }
}

/// Reads what was added since the announced signature if the file only grew since, otherwise all of it; in
/// both cases its last `cap` bytes.
pub fn read_context<W: World>(
    world: &W,
    file: &RegularFile<W::Node>,
    announced: Option<Signature>,
    cap: usize,
) -> io::Result<Reading> {
    let signature = Signature::of(&file.facts);
    let start = match announced {
        Some(before) if before.inode == signature.inode && before.size < signature.size => before.size,
        _ => 0,
    };
    // A few bytes more than the cap, so that the start of a character can be told from its middle.
    let wanted = cap.saturating_add(4);
    let from = start.max(signature.size.saturating_sub(wanted as u64));
    let bytes = file.read(world, from, wanted)?;
    Ok(Reading { signature, context: regular_file::tail(&bytes, cap) })
}

fn checksum<W: World>(world: &W, file: &RegularFile<W::Node>) -> io::Result<u32> {
    let from = file.facts.size.saturating_sub(CHECKED as u64);
    Ok(crc32fast::hash(&file.read(world, from, CHECKED)?))
}

/// The source of signals: what changed gathers in a batch, and is announced with it.
pub(crate) struct SignalSource {
    signals: Signals,
    coalescer: Coalescer,
    /// Files whose wakes are being written.
    in_flight: BTreeSet<String>,
}

impl SignalSource {
    pub(crate) fn new(grace: Duration) -> Self {
        Self { signals: Signals::default(), coalescer: Coalescer::new(grace), in_flight: BTreeSet::new() }
    }

    fn observe(&mut self, context: &mut LoopContext<'_>, name: &str) {
        match self.signals.observe(context.session.world.as_ref(), &context.state, name, &context.seen.signals) {
            Observation::Changed => self.add(name, context.now()),
            Observation::Gone => context.unsaved += usize::from(context.seen.signals.remove(name).is_some()),
            Observation::Unchanged => {}
        }
    }

    fn add(&mut self, name: &str, now: Duration) {
        // One whose wake is being written is observed again when that is done.
        if !self.in_flight.contains(name) {
            self.coalescer.add(name, now);
        }
    }
}

impl Source for SignalSource {
    fn name(&self) -> &'static str {
        NAME
    }

    fn poll(&mut self, context: &mut LoopContext<'_>, listed: Option<&[OsString]>) -> Progress {
        let Some(listed) = listed else { return Progress::Over };
        let scan = self.signals.scan(context.session.world.as_ref(), &context.state, listed, &context.seen.signals);
        context.degrade(
            Part::Names,
            match scan.unreadable_names {
                0 => Condition::Works,
                count => Condition::Impaired(format!(
                    "{count} signal files are not watched, because their names are not UTF-8"
                )),
            },
        );
        for name in scan.vanished {
            context.seen.signals.remove(&name);
            context.unsaved += 1;
        }
        let now = context.now();
        scan.changed.iter().for_each(|name| self.add(name, now));
        Progress::Over
    }

    fn is_concerned_by(&self, directory: Tag, name: &OsStr) -> bool {
        directory == Tag::State && is_signal(name)
    }

    fn event(&mut self, context: &mut LoopContext<'_>, name: &OsStr) {
        self.observe(context, &name.to_string_lossy());
    }

    fn deadline(&self) -> Option<Duration> {
        self.coalescer.due_at()
    }

    fn due(&mut self, context: &mut LoopContext<'_>) {
        let Some(files) = self.coalescer.take_if_due(context.now()) else { return };
        // In portions, so that the first are durable while the next are read, whatever becomes of this process.
        for portion in files.chunks(PORTION) {
            let (world, cap) = (context.session.world.as_ref(), context.context_cap());
            let state = (context.session.home.state(), &context.state);
            let mut drafts = Vec::new();
            for name in portion {
                if let Some(draft) = self.signals.announce(world, state, name, &context.seen.signals, cap) {
                    self.in_flight.insert(name.clone());
                    drafts.push(draft);
                }
            }
            context.record(NAME, 0, drafts);
        }
    }

    fn announced(&mut self, context: &mut LoopContext<'_>, wakes: &[Wake]) {
        let files = |wake: &Wake| match &wake.mark {
            Some(Mark::Signal { file, .. }) => Some(file.clone()),
            _ => None,
        };
        let files: Vec<String> = wakes.iter().filter_map(files).collect();
        for file in &files {
            self.in_flight.remove(file);
        }
        for file in &files {
            self.observe(context, file);
        }
    }

    fn not_recorded(&mut self, _: u64, draft: &Draft) -> Unrecorded {
        self.in_flight.remove(&draft.key);
        Unrecorded::FoundAgain
    }

    /// What lingers is still there and will be found again at once.
    fn reload(&mut self, context: &mut LoopContext<'_>) {
        self.coalescer = Coalescer::new(context.settings.signal_grace);
    }
}

/// The batch that is being gathered. Times are those of the monotonic clock.
#[derive(Debug)]
pub struct Coalescer {
    grace: Duration,
    /// In the order in which they were first seen.
    files: Vec<String>,
    members: BTreeSet<String>,
    /// How many of its two files each task still lacks; those that lack none are left out.
    lacking: BTreeMap<String, usize>,
    /// The end of the first file's grace.
    grace_ends: Option<Duration>,
    /// When the batch became complete, if it is.
    complete_since: Option<Duration>,
}

impl Coalescer {
    /// An empty batch that lingers for `grace` after its first file.
    pub fn new(grace: Duration) -> Self {
        Self {
            grace,
            files: Vec::new(),
            members: BTreeSet::new(),
            lacking: BTreeMap::new(),
            grace_ends: None,
            complete_since: None,
        }
    }

    /// Adds a changed file; one that is in the batch already changes nothing.
    pub fn add(&mut self, name: &str, now: Duration) {
        if !self.members.insert(name.to_owned()) {
            return;
        }
        self.files.push(name.to_owned());
        self.grace_ends.get_or_insert(now.saturating_add(self.grace));
        let task = task_of(name);
        let lacks = [STATUS, TURN_ENDED].iter().filter(|end| !self.members.contains(&format!("{task}{end}"))).count();
        if lacks == 0 {
            self.lacking.remove(task);
        } else {
            self.lacking.insert(task.to_owned(), lacks);
        }
        // A file may complete the batch, or open it again.
        self.complete_since = self.lacking.is_empty().then_some(now);
    }

    /// When the batch is to be taken. `None` while it is empty.
    pub fn due_at(&self) -> Option<Duration> {
        let grace_ends = self.grace_ends?;
        Some(self.complete_since.map_or(grace_ends, |complete| complete.min(grace_ends)))
    }

    /// The files of the batch in the order in which they were first seen, if it is due. The next batch is empty.
    pub fn take_if_due(&mut self, now: Duration) -> Option<Vec<String>> {
        if self.due_at()? > now {
            return None;
        }
        let next = Self::new(self.grace);
        Some(std::mem::replace(self, next).files)
    }
}

fn task_of(name: &str) -> &str {
    [STATUS, TURN_ENDED].iter().find_map(|end| name.strip_suffix(end)).unwrap_or(name)
}

#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "tests make and remove files of their own")]
mod tests {
    use std::fs::{self, File};
    use std::io::Write;
    use std::path::PathBuf;
    use std::time::{Duration, SystemTime};

    use super::*;
    use crate::system::Real;

    struct Fixture {
        directory: tempfile::TempDir,
        node: File,
        signals: Signals,
        announced: Announced,
    }

    impl Fixture {
        fn new() -> Self {
            let directory = tempfile::tempdir().unwrap();
            let node = Real.open_directory(directory.path()).unwrap();
            Self { directory, node, signals: Signals::default(), announced: Announced::new() }
        }

        fn path(&self, name: &str) -> PathBuf {
            self.directory.path().join(name)
        }

        fn write(&self, name: &str, text: &str) {
            fs::write(self.path(name), text).unwrap();
        }

        fn append(&self, name: &str, text: &str) {
            File::options().append(true).open(self.path(name)).unwrap().write_all(text.as_bytes()).unwrap();
        }

        fn set_time(&self, name: &str, time: SystemTime) {
            File::options().write(true).open(self.path(name)).unwrap().set_modified(time).unwrap();
        }

        fn scan(&mut self) -> Scan {
            let names = Real.names(&self.node).unwrap();
            let scan = self.signals.scan(&Real, &self.node, &names, &self.announced);
            for name in &scan.vanished {
                self.announced.remove(name);
            }
            scan
        }

        fn announce(&mut self, name: &str, cap: usize) -> Draft {
            let state = (self.directory.path(), &self.node);
            let draft = self.signals.announce(&Real, state, name, &self.announced, cap).unwrap();
            let Some(Mark::Signal { ref file, size, mtime_ns, inode }) = draft.mark else { panic!("{draft:?}") };
            self.announced.insert(file.clone(), Signature { size, mtime_ns, inode });
            draft
        }
    }

    #[test]
    fn a_file_is_changed_until_it_is_announced() {
        let mut fixture = Fixture::new();
        fixture.write("b.status", "one\n");
        fixture.write("a.turn-ended", "");
        let both = fixture.scan().changed;
        assert_eq!(both, ["b.status", "a.turn-ended"], "all of one kind, and then all of the other");
        assert_eq!(fixture.scan().changed.len(), 2);
        let draft = fixture.announce("b.status", 100);
        assert_eq!((draft.kind, draft.key.as_str()), (Kind::Signal, "b.status"));
        assert_eq!(draft.text, format!("signal: {}", fixture.path("b.status").display()));
        assert_eq!(draft.context.as_deref(), Some("one\n"));
        assert_eq!(fixture.announce("a.turn-ended", 100).context, None);
        assert_eq!(fixture.scan(), Scan::default());
    }

    #[test]
    fn the_context_is_what_was_added_and_no_more_than_the_cap() {
        let mut fixture = Fixture::new();
        fixture.write("a.status", "one\n");
        fixture.announce("a.status", 100);
        fixture.append("a.status", "two ä\n");
        assert_eq!(fixture.scan().changed, ["a.status"]);
        assert_eq!(fixture.announce("a.status", 100).context.unwrap(), "two ä\n");
        fixture.append("a.status", "three ää\n");
        assert_eq!(fixture.announce("a.status", 4).context.unwrap(), "ä\n", "a character is never cut");
        fixture.write("a.status", "new\n");
        assert_eq!(fixture.announce("a.status", 100).context.unwrap(), "new\n", "a shorter file is read whole");
    }

    #[test]
    fn what_is_written_after_the_reading_is_announced_next() {
        let mut fixture = Fixture::new();
        fixture.write("a.status", "one\n");
        let file = regular_file::open(&Real, &fixture.node, OsStr::new("a.status")).unwrap().unwrap();
        fixture.append("a.status", "two\n");
        let reading = read_context(&Real, &file, None, 100).unwrap();
        assert_eq!(reading.context, "one\n");
        fixture.announced.insert("a.status".into(), reading.signature);
        assert_eq!(fixture.scan().changed, ["a.status"]);
        assert_eq!(fixture.announce("a.status", 100).context.unwrap(), "two\n");
    }

    #[test]
    fn a_vanished_file_is_announced_again_when_it_comes_back() {
        let mut fixture = Fixture::new();
        let old = SystemTime::now() - Duration::from_secs(60);
        fixture.write("a.status", "x");
        fixture.set_time("a.status", old);
        fixture.announce("a.status", 100);
        fs::rename(fixture.path("a.status"), fixture.path("elsewhere")).unwrap();
        assert_eq!(fixture.scan().vanished, ["a.status"]);
        fs::rename(fixture.path("elsewhere"), fixture.path("a.status")).unwrap();
        assert_eq!(fixture.scan().changed, ["a.status"], "even with the same signature");
    }

    #[test]
    fn only_regular_files_are_signals_and_nothing_else_is_opened() {
        let mut fixture = Fixture::new();
        fixture.write("target", "secret");
        std::os::unix::fs::symlink("target", fixture.path("a.status")).unwrap();
        rustix::fs::mknodat(&fixture.node, "b.status", rustix::fs::FileType::Fifo, 0o600.into(), 0).unwrap();
        fs::create_dir(fixture.path("c.status")).unwrap();
        fixture.write(".d.status", "");
        fixture.write(".status", "");
        fixture.write("e.status.tmp", "");
        assert_eq!(fixture.scan(), Scan::default());
        let state = (fixture.directory.path(), &fixture.node);
        for name in ["a.status", "b.status", "c.status", "missing.status"] {
            assert_eq!(fixture.signals.announce(&Real, state, name, &fixture.announced, 9), None, "{name}");
            assert_eq!(fixture.signals.observe(&Real, &fixture.node, name, &fixture.announced), Observation::Gone);
        }
    }

    #[test]
    fn a_rewrite_of_the_same_size_within_one_tick_is_found_once() {
        let mut fixture = Fixture::new();
        let stamp = SystemTime::now();
        fixture.write("a.status", "one");
        fixture.set_time("a.status", stamp);
        fixture.announce("a.status", 100);
        assert_eq!(fixture.scan().changed, [""; 0]);
        fixture.write("a.status", "two");
        fixture.set_time("a.status", stamp);
        assert_eq!(fixture.scan().changed, ["a.status"]);
        assert_eq!(fixture.announce("a.status", 100).context.unwrap(), "two");
        assert_eq!(fixture.scan().changed, [""; 0]);
    }

    #[test]
    fn a_settled_file_is_verified_once_and_then_left_alone() {
        let mut fixture = Fixture::new();
        fixture.write("a.status", "one");
        fixture.announce("a.status", 100);
        assert_eq!(fixture.signals.unsettled.len(), 1);
        let old = SystemTime::now() - Duration::from_secs(60);
        fixture.set_time("a.status", old);
        let facts = Real.facts_at(&fixture.node, OsStr::new("a.status")).unwrap();
        fixture.announced.insert("a.status".into(), Signature::of(&facts));
        assert_eq!(fixture.scan().changed, [""; 0]);
        assert!(fixture.signals.unsettled.is_empty());
    }

    #[test]
    fn spaces_and_controls_in_a_name_are_escaped_in_the_line() {
        let mut fixture = Fixture::new();
        fixture.write("a b\n.status", "");
        let draft = fixture.announce("a b\n.status", 10);
        assert!(draft.text.ends_with("/a\\040b\\012.status"), "{}", draft.text);
    }
}

#[cfg(test)]
mod batch_tests {
    use proptest::prelude::*;

    use super::*;

    const fn seconds(number: u64) -> Duration {
        Duration::from_secs(number)
    }

    #[test]
    fn a_batch_lingers_from_its_first_file_and_keeps_the_order() {
        let mut batch = Coalescer::new(seconds(30));
        assert_eq!(batch.due_at(), None);
        assert_eq!(batch.take_if_due(seconds(999)), None);
        batch.add("b.status", seconds(10));
        batch.add("a.turn-ended", seconds(20));
        batch.add("b.status", seconds(25));
        assert_eq!(batch.due_at(), Some(seconds(40)));
        assert_eq!(batch.take_if_due(seconds(39)), None);
        assert_eq!(batch.take_if_due(seconds(40)).unwrap(), ["b.status", "a.turn-ended"]);
        assert_eq!(batch.due_at(), None);
    }

    #[test]
    fn it_ends_early_when_every_task_has_shown_both_files() {
        let mut batch = Coalescer::new(seconds(30));
        batch.add("a.status", seconds(1));
        batch.add("b.status", seconds(2));
        batch.add("a.turn-ended", seconds(3));
        assert_eq!(batch.due_at(), Some(seconds(31)));
        batch.add("b.turn-ended", seconds(4));
        assert_eq!(batch.due_at(), Some(seconds(4)));
        assert_eq!(batch.take_if_due(seconds(4)).unwrap().len(), 4);
    }

    #[test]
    fn a_newcomer_opens_a_complete_batch_again() {
        let mut batch = Coalescer::new(seconds(30));
        batch.add("a.status", seconds(1));
        batch.add("a.turn-ended", seconds(1));
        batch.add("b.status", seconds(1));
        assert_eq!(batch.due_at(), Some(seconds(31)));
    }

    #[test]
    fn without_grace_a_batch_is_due_at_once_and_an_endless_one_does_not_overflow() {
        let mut batch = Coalescer::new(Duration::ZERO);
        batch.add("a.status", seconds(7));
        assert_eq!(batch.take_if_due(seconds(7)).unwrap(), ["a.status"]);
        let mut batch = Coalescer::new(Duration::MAX);
        batch.add("a.status", seconds(7));
        assert_eq!(batch.due_at(), Some(Duration::MAX));
    }

    proptest! {
        #[test]
        fn every_file_is_in_exactly_one_batch_and_never_later_than_its_grace(
            steps in prop::collection::vec((0..6u8, any::<bool>(), 0..20u64), 0..60),
            grace in 0..40u64,
        ) {
            let grace = seconds(grace);
            let mut batch = Coalescer::new(grace);
            let mut now = Duration::ZERO;
            let mut waiting: BTreeMap<String, Duration> = BTreeMap::new();
            for (task, is_status, pause) in steps {
                now += seconds(pause);
                if let Some(files) = batch.take_if_due(now) {
                    prop_assert_eq!(files.iter().collect::<BTreeSet<_>>().len(), files.len());
                    prop_assert_eq!(files.iter().cloned().collect::<BTreeSet<_>>(), waiting.into_keys().collect());
                    waiting = BTreeMap::new();
                }
                let name = format!("t{task}{}", if is_status { STATUS } else { TURN_ENDED });
                batch.add(&name, now);
                waiting.entry(name).or_insert(now);
                let first = waiting.values().min().copied().unwrap();
                prop_assert!(batch.due_at().unwrap() <= first + grace);
                let is_whole = waiting.keys().all(|name| {
                    [STATUS, TURN_ENDED].iter().all(|end| waiting.contains_key(&format!("{}{end}", task_of(name))))
                });
                prop_assert_eq!(is_whole || first + grace <= now, batch.due_at().unwrap() <= now);
            }
        }
    }
}
