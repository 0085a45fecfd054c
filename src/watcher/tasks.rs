//! The tasks in flight: the `*.meta` files of the state directory.
//!
//! Each file holds `key=value` lines of which `window` and `kind` matter; the last line of a key wins, and everything
//! else is skipped. A file is read again only when its signature changed, so an idle poll costs one `stat` per
//! task. A wrong answer here means a pane nobody watches, or a guard that is silent while work is in flight: a file that
//! cannot be read is therefore still a task, only one without a window.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::io;

use crate::system::regular_file::{self, Signature, has_suffix};
use crate::system::{Kind, World};

/// The end of a meta file's name.
const SUFFIX: &str = ".meta";

/// How much of a meta file is read, in bytes.
const LIMIT: usize = 64 * 1024;

/// One task.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Task {
    /// The name of the meta file without its suffix.
    pub id: String,
    /// The tmux window it works in.
    pub window: Option<String>,
    /// What kind of task it is.
    pub kind: Option<String>,
}

/// Whether a name is that of a task's meta file.
pub fn is_meta(name: &OsStr) -> bool {
    has_suffix(name, SUFFIX)
}

/// The tasks as of the last look.
#[derive(Debug, Default)]
pub struct Tasks {
    known: BTreeMap<OsString, Known>,
}

#[derive(Debug)]
struct Known {
    /// What the file was when it was read; `None` when it must be read again in any case.
    signature: Option<Signature>,
    task: Task,
}

impl Tasks {
    /// Looks at the meta files among the names in the state directory and reads those that changed.
    pub fn refresh<W: World>(&mut self, world: &W, state: &W::Node, names: &[OsString]) {
        let mut known = BTreeMap::new();
        for name in names.iter().filter(|name| has_suffix(name, SUFFIX)) {
            let before = self.known.remove(name);
            if let Some(now) = look(world, state, name, before) {
                known.insert(name.clone(), now);
            }
        }
        self.known = known;
    }

    /// The tasks, by id.
    pub fn iter(&self) -> impl Iterator<Item = &Task> {
        self.known.values().map(|known| &known.task)
    }

    /// How many there are.
    pub fn count(&self) -> usize {
        self.known.len()
    }
}

fn look<W: World>(world: &W, state: &W::Node, name: &OsStr, before: Option<Known>) -> Option<Known> {
    let facts = match world.facts_at(state, name) {
        Ok(facts) => facts,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return None,
        // Nobody knows, so what was known stays.
        Err(_) => return before.or_else(|| Some(Known { signature: None, task: parse(name, "") })),
    };
    if facts.kind != Kind::File {
        return None;
    }
    match before {
        Some(known) if known.signature == Some(Signature::of(&facts)) => Some(known),
        _ => Some(read(world, state, name).unwrap_or_else(|_| Known { signature: None, task: parse(name, "") })),
    }
}

fn read<W: World>(world: &W, state: &W::Node, name: &OsStr) -> io::Result<Known> {
    let file = regular_file::open(world, state, name)?.ok_or_else(|| io::Error::from(io::ErrorKind::NotFound))?;
    let bytes = file.read(world, 0, LIMIT)?;
    let signature = Signature::of(&file.facts);
    let signature = signature.is_settled(world.now()).then_some(signature);
    Ok(Known { signature, task: parse(name, &String::from_utf8_lossy(&bytes)) })
}

fn parse(name: &OsStr, text: &str) -> Task {
    let name = name.to_string_lossy();
    let id = name.strip_suffix(SUFFIX).unwrap_or(&name).to_owned();
    let mut task = Task { id, window: None, kind: None };
    for (key, value) in text.lines().filter_map(|line| line.split_once('=')) {
        let value = Some(value.trim().to_owned()).filter(|value| !value.is_empty());
        match key.trim() {
            "window" => task.window = value,
            "kind" => task.kind = value,
            _ => {}
        }
    }
    task
}

#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "tests make and remove files of their own")]
mod tests {
    use std::fs::{self, File};
    use std::time::{Duration, SystemTime};

    use proptest::prelude::*;

    use super::*;
    use crate::system::Real;

    struct Fixture {
        directory: tempfile::TempDir,
        node: File,
        tasks: Tasks,
    }

    impl Fixture {
        fn new() -> Self {
            let directory = tempfile::tempdir().unwrap();
            let node = Real.open_directory(directory.path()).unwrap();
            Self { directory, node, tasks: Tasks::default() }
        }

        fn write(&self, name: &str, text: &str) {
            fs::write(self.directory.path().join(name), text).unwrap();
        }

        fn refresh(&mut self) -> Vec<Task> {
            let names = Real.names(&self.node).unwrap();
            self.tasks.refresh(&Real, &self.node, &names);
            self.tasks.iter().cloned().collect()
        }
    }

    fn task(id: &str, window: Option<&str>, kind: Option<&str>) -> Task {
        Task { id: id.into(), window: window.map(Into::into), kind: kind.map(Into::into) }
    }

    #[test]
    fn window_and_kind_are_read_and_the_rest_is_skipped() {
        let parsed = parse(OsStr::new("t1.meta"), "# x\nwindow=fm:a=b \r\nproject=p\nkind=\nkind=ship\nnonsense\n");
        assert_eq!(parsed, task("t1", Some("fm:a=b"), Some("ship")));
        assert_eq!(parse(OsStr::new("t1.meta"), "window=a\nwindow=\n"), task("t1", None, None));
    }

    #[test]
    fn only_regular_files_that_are_not_hidden_are_tasks() {
        let mut fixture = Fixture::new();
        fixture.write("a.meta", "window=w\n");
        fixture.write(".b.meta", "");
        fs::create_dir(fixture.directory.path().join("c.meta")).unwrap();
        std::os::unix::fs::symlink("a.meta", fixture.directory.path().join("d.meta")).unwrap();
        rustix::fs::mknodat(&fixture.node, "e.meta", rustix::fs::FileType::Fifo, 0o600.into(), 0).unwrap();
        assert_eq!(fixture.refresh(), [task("a", Some("w"), None)]);
    }

    #[test]
    fn a_changed_file_is_read_again_and_an_old_unchanged_one_is_not() {
        let mut fixture = Fixture::new();
        fixture.write("a.meta", "window=1\n");
        assert_eq!(fixture.refresh(), [task("a", Some("1"), None)]);
        // The same size within the same tick of the clock: only a second reading can find it.
        fixture.write("a.meta", "window=2\n");
        assert_eq!(fixture.refresh(), [task("a", Some("2"), None)]);

        let path = fixture.directory.path().join("a.meta");
        let old = SystemTime::now() - Duration::from_secs(60);
        let set_old = || File::options().write(true).open(&path).unwrap().set_modified(old).unwrap();
        set_old();
        fixture.refresh();
        fixture.write("a.meta", "window=3\n");
        set_old();
        assert_eq!(fixture.refresh(), [task("a", Some("2"), None)], "the signature is the same, so nothing was read");
        fs::remove_file(&path).unwrap();
        assert_eq!(fixture.refresh(), []);
    }

    #[test]
    fn a_huge_file_is_read_in_part() {
        let mut fixture = Fixture::new();
        fixture.write("a.meta", &format!("kind=x\n{}\nwindow=w\n", "y".repeat(LIMIT)));
        assert_eq!(fixture.refresh(), [task("a", None, Some("x"))]);
    }

    proptest! {
        #[test]
        fn any_text_is_a_task(text in ".{0,200}") {
            let parsed = parse(OsStr::new("t.meta"), &text);
            prop_assert_eq!(parsed.id, "t");
            prop_assert!(parsed.window.is_none_or(|window| !window.is_empty()));
        }
    }
}
