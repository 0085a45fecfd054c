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
//! Limits: the checksum covers the last megabyte and is lost with the process. Names that are not UTF-8 cannot be
//! recorded; they are counted and not watched.

use std::collections::{BTreeMap, HashSet};
use std::ffi::{OsStr, OsString};
use std::io;
use std::path::Path;

use crate::base::escape;
use crate::journal::record::{Delivery, Draft, Kind, Mark};
use crate::system::regular_file::{self, RegularFile, Signature, has_suffix};
use crate::system::{self, World};

/// The end of a status file's name.
pub const STATUS: &str = ".status";
/// The end of the name of the file that says that a turn ended.
pub const TURN_ENDED: &str = ".turn-ended";

/// How much of an unsettled file is checked again, in bytes from its end.
const CHECKED: usize = 1024 * 1024;

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

/// What one look at one file found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Look {
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

/// The source of signals.
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
            match self.look_at(world, state, name, announced) {
                Look::Gone => continue,
                Look::Changed => scan.changed.push(name.to_owned()),
                Look::Unchanged => {}
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
    pub fn look_at<W: World>(&mut self, world: &W, state: &W::Node, name: &str, announced: &Announced) -> Look {
        let facts = match world.facts_at(state, OsStr::new(name)) {
            Ok(facts) if facts.kind == system::Kind::File && is_signal(OsStr::new(name)) => facts,
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Look::Unchanged,
            _ => return Look::Gone,
        };
        let signature = Signature::of(&facts);
        if announced.get(name) != Some(&signature) {
            return Look::Changed;
        }
        self.verify(world, state, name, signature)
    }

    /// Reads an unsettled file once more.
    fn verify<W: World>(&mut self, world: &W, state: &W::Node, name: &str, signature: Signature) -> Look {
        let Some(&known) = self.unsettled.get(name) else { return Look::Unchanged };
        // Taken before reading: a write that comes later gets another time stamp if the clock has ticked by now.
        let is_settled = signature.is_settled(world.now());
        let Ok(Some(file)) = regular_file::open(world, state, OsStr::new(name)) else { return Look::Unchanged };
        match checksum(world, &file) {
            Ok(found) if found != known => Look::Changed,
            Ok(_) if is_settled => {
                self.unsettled.remove(name);
                Look::Unchanged
            }
            _ => Look::Unchanged,
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
            kind: Kind::Signal,
            key: name.to_owned(),
            text: format!("signal: {}", escape::word(&path.join(name).to_string_lossy())),
            context: context.filter(|context| !context.is_empty() && !name.ends_with(TURN_ENDED)),
            mark: Some(Mark::Signal { file: name.to_owned(), size, mtime_ns, inode }),
            delivery: Delivery::Now,
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

#[cfg(test)]
#[allow(clippy::disallowed_methods)]
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
            assert_eq!(fixture.signals.look_at(&Real, &fixture.node, name, &fixture.announced), Look::Gone);
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
