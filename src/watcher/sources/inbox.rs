//! The inbox: wakes that shell scripts drop in as files.
//!
//! A script writes a temporary file and renames it to a name ending in `.wake`; only such names are read, so a script
//! that dies while writing leaves nothing that is taken for whole. A file is removed only after its wake is durable: a
//! crash in between delivers it twice, never not at all. What cannot be read as a wake is renamed aside and reported by
//! a wake of its own, never dropped.
//!
//! The content is a JSON object (`text`, and perhaps `kind` and `key`), a line `kind<TAB>key<TAB>text`, or any text;
//! what fits none of the first two is the third.
//!
//! Limits: a tick takes a bounded number of files, but it lists the whole directory.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::io;
use std::time::Duration;

use serde::Deserialize;
use thiserror::Error;

use crate::base::escape;
use crate::journal::record::{Delivery, Draft, Kind, Mark, Wake};
use crate::layout::paths::names;
use crate::ownership::context::HomeContext;
use crate::system::regular_file::{self, Signature, has_suffix, head};
use crate::system::storage;
use crate::system::{self, World};
use crate::watcher::degradations::{Condition, Part};
use crate::watcher::events::Tag;
use crate::watcher::source::{LoopContext, Progress, Source, Unrecorded};

/// The end of the name of a file that is read.
const SUFFIX: &str = ".wake";
/// What is added to the name of a file that cannot be read as a wake.
const BAD: &str = ".bad";
/// What is added to the name of a temporary file that nobody will finish.
const ABANDONED: &str = ".abandoned";

/// The longest file, in bytes.
const LIMIT: u64 = 64 * 1024;
/// How many files one tick takes.
const PER_TICK: usize = 256;
/// How much of the content becomes the reason line, in bytes.
const TEXT_CAP: usize = 4096;
/// After how long, by the wall clock, a temporary file whose name does not say who writes it counts as abandoned.
const ABANDONED_AFTER: Duration = Duration::from_secs(24 * 60 * 60);

/// A file that was found, and the wake that it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DropIn {
    /// The wake.
    pub draft: Draft,
    /// The name of the file.
    pub name: OsString,
    /// What it was when it was read.
    pub signature: Signature,
    /// What is to become of it once the wake is durable.
    pub fate: Fate,
}

/// What is to become of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fate {
    /// It is removed: the wake says all that it said.
    Remove,
    /// It is renamed aside: the wake only reports it.
    SetAside,
}

/// What a tick found.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Intake {
    /// The wakes, oldest first.
    pub drop_ins: Vec<DropIn>,
    /// How many files are left for the next tick.
    pub left: usize,
}

/// The key of a wake that reports a file which is no wake.
pub const KEY: &str = "inbox";

/// Whether a name is one that a watcher will read.
pub fn is_drop_in(name: &OsStr) -> bool {
    has_suffix(name, SUFFIX)
}

/// The directory of drop-in wakes.
#[derive(Debug, Default)]
pub struct Inbox {
    /// Files whose wake is durable and that could not be removed or renamed.
    stuck: BTreeMap<OsString, (Signature, Fate)>,
}

impl Inbox {
    /// Reads the drop-ins of an inbox directory, but not those that the caller has taken already.
    ///
    /// # Errors
    /// The directory cannot be listed.
    pub fn read<W: World>(
        &mut self,
        world: &W,
        inbox: &W::Node,
        is_taken: impl Fn(&OsStr) -> bool,
    ) -> io::Result<Intake> {
        let mut names = world.names(inbox)?;
        names.retain(|name| has_suffix(name, SUFFIX) && !is_taken(name));
        names.sort_unstable();
        let mut intake = Intake::default();
        for name in names {
            if intake.drop_ins.len() == PER_TICK {
                intake.left += 1;
            } else {
                intake.drop_ins.extend(self.take(world, inbox, name));
            }
        }
        intake.drop_ins.sort_by_key(|drop_in| drop_in.signature.mtime_ns);
        Ok(intake)
    }

    fn take<W: World>(&mut self, world: &W, inbox: &W::Node, name: OsString) -> Option<DropIn> {
        let facts = world.facts_at(inbox, &name).ok()?;
        match self.stuck.get(&name) {
            Some(&(signature, fate)) if signature == Signature::of(&facts) => {
                self.put_away(world, inbox, &name, signature, fate);
                return None;
            }
            _ => {}
        }
        Some(match read_regular(world, inbox, &name, &facts) {
            Ok(text) => good(name, &facts, &text),
            Err(why) => bad(name, &facts, &why),
        })
    }

    /// Removes a file, or sets it aside, after its wake has become durable. One that was replaced meanwhile stays.
    pub fn settle<W: World>(&mut self, world: &W, inbox: &W::Node, drop_in: &DropIn) {
        self.put_away(world, inbox, &drop_in.name, drop_in.signature, drop_in.fate);
    }

    fn put_away<W: World>(&mut self, world: &W, inbox: &W::Node, name: &OsStr, signature: Signature, fate: Fate) {
        let is_same = world.facts_at(inbox, name).is_ok_and(|facts| Signature::of(&facts) == signature);
        let settled = match fate {
            _ if !is_same => Ok(()),
            Fate::Remove => world.unlink(inbox, name),
            Fate::SetAside => world.rename(inbox, name, &aside(name, signature.inode)),
        };
        if settled.is_ok() {
            self.stuck.remove(name);
        } else {
            self.stuck.insert(name.to_owned(), (signature, fate));
        }
    }

    /// At start: removes the file of a wake that the journal has, which a crash left behind. Inodes are used again soon,
    /// so one that differs in anything from what was recorded is another file and stays.
    ///
    /// # Errors
    /// The file cannot be removed.
    pub fn remove_recorded<W: World>(world: &W, inbox: &W::Node, name: &str, recorded: Signature) -> io::Result<()> {
        match world.facts_at(inbox, OsStr::new(name)) {
            Ok(facts) if Signature::of(&facts) == recorded => world.unlink(inbox, OsStr::new(name)),
            Ok(_) => Ok(()),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            Err(error) => Err(error),
        }
    }
}

/// Renames temporary files that nobody will finish, so that a script that died leaves a trace and no work. Says how many.
///
/// # Errors
/// The directory cannot be listed.
pub fn set_abandoned_aside<W: World>(world: &W, inbox: &W::Node) -> io::Result<usize> {
    let is_done = |name: &OsString| {
        let name = name.as_encoded_bytes();
        name.ends_with(BAD.as_bytes()) || name.ends_with(ABANDONED.as_bytes())
    };
    let mut count = 0;
    for name in world.names(inbox)?.into_iter().filter(|name| !has_suffix(name, SUFFIX) && !is_done(name)) {
        let Ok(facts) = world.facts_at(inbox, &name) else { continue };
        if storage::is_abandoned(world, &name, &facts, ABANDONED_AFTER) {
            let mut renamed = name.clone();
            renamed.push(ABANDONED);
            count += usize::from(world.rename(inbox, &name, &renamed).is_ok());
        }
    }
    Ok(count)
}

/// Why a file is no wake.
#[derive(Debug, Error)]
enum NoWake {
    #[error("it is not a regular file")]
    NotRegular,
    #[error("it is {0} bytes long, and at most {LIMIT} are taken")]
    TooLong(u64),
    #[error("it changed while it was opened")]
    Changed,
    #[error("it cannot be read: {0}")]
    Unreadable(#[from] io::Error),
}

fn read_regular<W: World>(world: &W, inbox: &W::Node, name: &OsStr, facts: &system::Facts) -> Result<String, NoWake> {
    if facts.kind != system::Kind::File {
        return Err(NoWake::NotRegular);
    }
    if facts.size > LIMIT {
        return Err(NoWake::TooLong(facts.size));
    }
    let file = regular_file::open(world, inbox, name)?.ok_or(NoWake::Changed)?;
    let bytes = file.read(world, 0, usize::try_from(LIMIT).unwrap_or(usize::MAX))?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

fn good(name: OsString, facts: &system::Facts, text: &str) -> DropIn {
    let lossy = name.to_string_lossy().into_owned();
    let (kind, key, text) = parse(lossy.strip_suffix(SUFFIX).unwrap_or(&lossy), text);
    let line = head(&escape::line(text.trim()), TEXT_CAP);
    let draft = Draft {
        kind,
        context: Some(text.clone()).filter(|_| line != text.trim()),
        text: if line.is_empty() { escape::line(&key) } else { line },
        key,
        // A name that is not UTF-8 cannot be recorded; a crash before its removal delivers it again.
        mark: name.to_str().map(|name| Mark::Inbox {
            name: name.to_owned(),
            inode: facts.inode,
            size: facts.size,
            mtime_ns: facts.mtime_ns,
        }),
        delivery: Delivery::Now,
    };
    DropIn { draft, name, signature: Signature::of(facts), fate: Fate::Remove }
}

fn bad(name: OsString, facts: &system::Facts, why: &NoWake) -> DropIn {
    let shown = escape::word(&name.to_string_lossy());
    let aside = escape::word(&aside(&name, facts.inode).to_string_lossy());
    let text = format!("inbox: {shown} is no wake: {why}; it was renamed to {aside}");
    let draft = Draft::new(Kind::Custom, KEY, text);
    DropIn { draft, name, signature: Signature::of(facts), fate: Fate::SetAside }
}

fn aside(name: &OsStr, inode: u64) -> OsString {
    let mut renamed = name.to_owned();
    renamed.push(format!(".{inode}{BAD}"));
    renamed
}

/// The kind, key and text of a drop-in whose name has this stem.
fn parse(stem: &str, content: &str) -> (Kind, String, String) {
    #[derive(Deserialize)]
    struct Written {
        kind: Option<String>,
        key: Option<String>,
        text: String,
    }
    let key_or_stem = |key: &str| if key.is_empty() { stem.to_owned() } else { key.to_owned() };
    if let Ok(Written { kind, key, text }) = serde_json::from_str(content) {
        let kind = kind.map_or(Some(Kind::Custom), |name| kind_named(&name));
        if let Some(kind) = kind {
            return (kind, key_or_stem(key.as_deref().unwrap_or_default()), text);
        }
    }
    let line = content.strip_suffix('\n').unwrap_or(content);
    let fields: Vec<&str> = line.splitn(3, '\t').collect();
    if let [name, key, text] = fields[..]
        && let Some(kind) = Kind::KNOWN.into_iter().find(|kind| kind.as_str() == name)
        && !line.contains('\n')
    {
        return (kind, key_or_stem(key), text.to_owned());
    }
    (Kind::Custom, stem.to_owned(), content.to_owned())
}

/// A kind by a name that a script may give it: a known one, or any short plain word.
fn kind_named(name: &str) -> Option<Kind> {
    let is_word = !name.is_empty()
        && name.len() <= 32
        && name
            .chars()
            .all(|character| character.is_ascii_lowercase() || character.is_ascii_digit() || character == '-');
    is_word.then(|| Kind::from_name(name))
}

/// Sets aside what scripts began to write into the inbox of a home and never finished.
pub(crate) fn tidy(session: &HomeContext) {
    let path = session.home.ours(names::INBOX);
    let world = session.world.as_ref();
    match world.open_directory(&path).and_then(|directory| set_abandoned_aside(world, &directory)) {
        Ok(0) => {}
        Ok(count) => tracing::warn!("{count} files in {} were begun and never finished", path.display()),
        Err(error) => tracing::debug!("cannot clear {}: {error}", path.display()),
    }
}

/// Removes a drop-in whose wake is in the journal already: its watcher died before it could.
pub(crate) fn remove_recorded(session: &HomeContext, wake: &Wake) {
    let Some(Mark::Inbox { name, inode, size, mtime_ns }) = &wake.mark else { return };
    let recorded = Signature { size: *size, mtime_ns: *mtime_ns, inode: *inode };
    let path = session.home.ours(names::INBOX);
    let world = session.world.as_ref();
    let removed =
        world.open_directory(&path).and_then(|directory| Inbox::remove_recorded(world, &directory, name, recorded));
    if let Err(error) = removed {
        tracing::warn!("cannot remove {name} from {}: {error}", path.display());
    }
}

/// The source of drop-in wakes.
#[derive(Debug, Default)]
pub(crate) struct InboxSource {
    inbox: Inbox,
    /// Something happened in the inbox since it was read last.
    is_touched: bool,
    /// Files whose wakes are being written, each with the ticket of its batch.
    taken: BTreeMap<OsString, (u64, DropIn)>,
    batches: u64,
}

impl Source for InboxSource {
    fn name(&self) -> &'static str {
        KEY
    }

    fn poll(&mut self, context: &mut LoopContext<'_>, _: Option<&[OsString]>) -> Progress {
        let path = context.session.home.ours(names::INBOX);
        let world = context.session.world.as_ref();
        let read = world
            .open_directory(&path)
            .and_then(|directory| self.inbox.read(world, &directory, |name| self.taken.contains_key(name)));
        match read {
            Ok(intake) => {
                context.degrade(Part::Inbox, Condition::Works);
                self.batches += 1;
                let drafts = intake.drop_ins.iter().map(|drop_in| drop_in.draft.clone()).collect();
                let batch = self.batches;
                self.taken.extend(intake.drop_ins.into_iter().map(|drop_in| (drop_in.name.clone(), (batch, drop_in))));
                context.record(KEY, batch, drafts);
            }
            Err(error) => {
                let why = format!("cannot read {}: {error}", path.display());
                context.degrade(Part::Inbox, Condition::Impaired(why));
            }
        }
        Progress::Over
    }

    fn is_concerned_by(&self, directory: Tag, _: &OsStr) -> bool {
        directory == Tag::Inbox
    }

    fn event(&mut self, _: &mut LoopContext<'_>, _: &OsStr) {
        self.is_touched = true;
    }

    fn deadline(&self) -> Option<Duration> {
        self.is_touched.then_some(Duration::ZERO)
    }

    fn due(&mut self, context: &mut LoopContext<'_>) {
        self.is_touched = false;
        self.poll(context, None);
    }

    /// The files of this batch have done their work.
    fn recorded(&mut self, context: &mut LoopContext<'_>, batch: u64) {
        let world = context.session.world.as_ref();
        let Ok(directory) = world.open_directory(&context.session.home.ours(names::INBOX)) else { return };
        let inbox = &mut self.inbox;
        self.taken.retain(|_, (of, drop_in)| {
            let is_done = *of == batch;
            if is_done {
                inbox.settle(world, &directory, drop_in);
            }
            !is_done
        });
        // Of very many only a part is read at a time.
        self.is_touched = true;
    }

    fn not_recorded(&mut self, batch: u64, _: &Draft) -> Unrecorded {
        self.taken.retain(|_, (of, _)| *of != batch);
        Unrecorded::FoundAgain
    }

    fn tidy(&mut self, context: &mut LoopContext<'_>) {
        tidy(context.session);
    }
}

#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "tests make and remove files of their own")]
mod tests {
    use std::fs::{self, File};
    use std::path::PathBuf;
    use std::time::{Duration, SystemTime};

    use proptest::prelude::*;

    use super::*;
    use crate::system::Real;

    struct Fixture {
        directory: tempfile::TempDir,
        node: File,
        inbox: Inbox,
    }

    impl Fixture {
        fn new() -> Self {
            let directory = tempfile::tempdir().unwrap();
            let node = Real.open_directory(directory.path()).unwrap();
            Self { directory, node, inbox: Inbox::default() }
        }

        fn path(&self, name: &str) -> PathBuf {
            self.directory.path().join(name)
        }

        fn put(&self, name: &str, content: impl AsRef<[u8]>) {
            fs::write(self.path(name), content).unwrap();
        }

        fn read(&mut self) -> Vec<DropIn> {
            self.inbox.read(&Real, &self.node, |_| false).unwrap().drop_ins
        }

        fn settle(&mut self, drop_ins: &[DropIn]) {
            for drop_in in drop_ins {
                self.inbox.settle(&Real, &self.node, drop_in);
            }
        }

        fn names(&self) -> Vec<String> {
            let mut names: Vec<_> =
                Real.names(&self.node).unwrap().into_iter().map(|name| name.into_string().unwrap()).collect();
            names.sort();
            names
        }
    }

    fn parsed(content: &str) -> (String, String, String) {
        let (kind, key, text) = parse("stem", content);
        (kind.to_string(), key, text)
    }

    #[test]
    fn each_form_is_understood_and_the_rest_is_text() {
        let expect = |content: &str, kind: &str, key: &str, text: &str| {
            assert_eq!(parsed(content), (kind.into(), key.into(), text.into()), "{content}");
        };
        expect(r#"{"text":"t"}"#, "custom", "stem", "t");
        expect(r#"{"kind":"check","key":"k","text":"t"}"#, "check", "k", "t");
        expect(r#"{"kind":"deploy","text":"t"}"#, "deploy", "stem", "t");
        expect(r#"{"kind":"No Kind","text":"t"}"#, "custom", "stem", r#"{"kind":"No Kind","text":"t"}"#);
        expect(r#"{"key":"k"}"#, "custom", "stem", r#"{"key":"k"}"#);
        expect("signal\tk\tt\tu\n", "signal", "k", "t\tu");
        expect("signal\t\tt", "signal", "stem", "t");
        expect("other\tk\tt\n", "custom", "stem", "other\tk\tt\n");
        expect("plain text\n", "custom", "stem", "plain text\n");
    }

    #[test]
    fn a_file_is_removed_only_when_its_wake_is_settled() {
        let mut fixture = Fixture::new();
        fixture.put("a.wake", "one\ntwo\n");
        fixture.put("b.tmp", "half");
        fixture.put(".c.wake", "hidden");
        let found = fixture.read();
        assert_eq!(found, fixture.read());
        let draft = &found[0].draft;
        assert_eq!((draft.key.as_str(), draft.text.as_str()), ("a", "one two"));
        assert_eq!(draft.context.as_deref(), Some("one\ntwo\n"));
        assert!(matches!(&draft.mark, Some(Mark::Inbox { name, .. }) if name == "a.wake"));
        fixture.settle(&found);
        assert_eq!(fixture.names(), [".c.wake", "b.tmp"]);
        assert_eq!(fixture.read(), []);
    }

    #[test]
    fn a_file_that_was_replaced_after_the_reading_stays() {
        let mut fixture = Fixture::new();
        fixture.put("a.wake", "one");
        let found = fixture.read();
        fixture.put("new", "other");
        fs::rename(fixture.path("new"), fixture.path("a.wake")).unwrap();
        fixture.settle(&found);
        assert_eq!(fixture.read()[0].draft.text, "other");
    }

    #[test]
    fn what_is_no_wake_is_reported_and_set_aside() {
        let mut fixture = Fixture::new();
        fixture.put("target", "secret");
        std::os::unix::fs::symlink("target", fixture.path("link.wake")).unwrap();
        rustix::fs::mknodat(&fixture.node, "fifo.wake", rustix::fs::FileType::Fifo, 0o600.into(), 0).unwrap();
        fs::create_dir(fixture.path("directory.wake")).unwrap();
        fixture.put("long.wake", vec![b'x'; 65 * 1024]);
        fixture.put("lossy.wake", b"a\xffb");
        let found = fixture.read();
        assert_eq!(found.iter().filter(|drop_in| drop_in.fate == Fate::SetAside).count(), 4);
        assert!(found.iter().all(|drop_in| !drop_in.draft.text.contains("secret")));
        fixture.settle(&found);
        assert_eq!(fixture.read(), []);
        assert_eq!(fixture.names().iter().filter(|name| name.contains(".wake.")).count(), 4);
        assert_eq!(fs::read_to_string(fixture.path("target")).unwrap(), "secret");
    }

    #[test]
    fn an_empty_file_is_a_wake_that_says_its_name() {
        let mut fixture = Fixture::new();
        fixture.put("build-done.wake", "");
        let draft = fixture.read().remove(0).draft;
        assert_eq!((draft.key.as_str(), draft.text.as_str()), ("build-done", "build-done"));
    }

    #[test]
    fn a_tick_takes_a_bounded_number_of_files() {
        let mut fixture = Fixture::new();
        for number in 0..300 {
            fixture.put(&format!("{number}.wake"), "x");
        }
        let intake = fixture.inbox.read(&Real, &fixture.node, |_| false).unwrap();
        assert_eq!((intake.drop_ins.len(), intake.left), (PER_TICK, 300 - PER_TICK));
        fixture.settle(&intake.drop_ins);
        assert_eq!(fixture.read().len(), 300 - PER_TICK);
    }

    #[test]
    fn a_file_that_a_crash_left_behind_is_removed_but_a_newer_one_is_not() {
        let mut fixture = Fixture::new();
        fixture.put("a.wake", "one");
        let signature = fixture.read()[0].signature;
        let remove = |name, recorded| Inbox::remove_recorded(&Real, &fixture.node, name, recorded).unwrap();
        remove("a.wake", Signature { mtime_ns: signature.mtime_ns - 1, ..signature });
        remove("a.wake", Signature { inode: signature.inode + 1, ..signature });
        remove("a.wake", Signature { size: signature.size + 1, ..signature });
        remove("b.wake", signature);
        assert_eq!(fixture.names(), ["a.wake"]);
        remove("a.wake", signature);
        assert_eq!(fixture.names(), [""; 0]);
    }

    #[test]
    fn temporary_files_older_than_a_day_are_set_aside() {
        let fixture = Fixture::new();
        for name in ["old.tmp", "new.tmp", "old.bad", "old.wake"] {
            fixture.put(name, "");
        }
        let old = SystemTime::now() - Duration::from_secs(25 * 60 * 60);
        for name in ["old.tmp", "old.bad", "old.wake"] {
            File::options().write(true).open(fixture.path(name)).unwrap().set_modified(old).unwrap();
        }
        assert_eq!(set_abandoned_aside(&Real, &fixture.node).unwrap(), 1);
        assert_eq!(set_abandoned_aside(&Real, &fixture.node).unwrap(), 0);
        assert_eq!(fixture.names(), ["new.tmp", "old.bad", "old.tmp.abandoned", "old.wake"]);
    }

    proptest! {
        #[test]
        fn any_content_is_a_wake_with_a_key_and_one_line(content in any::<String>()) {
            let facts = Real.facts_of_path(std::path::Path::new("/")).unwrap();
            let drop_in = good("stem.wake".into(), &facts, &content);
            prop_assert!(!drop_in.draft.key.is_empty());
            prop_assert!(!drop_in.draft.text.is_empty());
            prop_assert!(!drop_in.draft.text.contains(char::is_control));
        }
    }
}
