//! File events: hints that one name is worth a look before the next poll.
//!
//! Nothing depends on an event: every poll looks at everything. Events only make a wake quick, so whatever goes wrong
//! with them ends in a word to the loop (look at everything; events are lost) and never in silence.
//!
//! What this program itself causes all the time (its beat, its checkpoint, temporary files, mere reading) is sorted out
//! in the thread that receives it, or the loop would wake itself for ever.

use std::collections::HashMap;
use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Sender, channel};
use std::thread;
use std::time::Duration;

use notify::event::{ModifyKind, RenameMode};
use notify::{ErrorKind, EventKind, RecommendedWatcher, RecursiveMode, Watcher};
use thiserror::Error;

use crate::layout::paths::names;
use crate::system::platform::{self, WatchLimit};

/// How long it may take until all directories are watched.
const WATCHING_TAKES: Duration = Duration::from_secs(1);

/// The files that the watcher writes all the time, and that nobody waits for.
const OWN: [&str; 3] = [names::BEAT, names::SEEN, names::HISTORY];

/// Which of the watched directories an event is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Tag {
    /// The state directory.
    State,
    /// Our own directory inside it.
    Watch,
    /// The inbox.
    Inbox,
}

/// What happened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// Something happened to a name in a directory: made, changed, renamed or removed.
    Touched {
        /// The directory.
        directory: Tag,
        /// The name in it.
        name: OsString,
    },
    /// The kernel dropped events: look at everything.
    Overflow,
    /// No more events come from some directory, and why.
    Lost(String),
}

/// Why there are no events. The text is one line that says what to do.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("{reason}")]
pub struct Degraded {
    /// The line.
    pub reason: String,
}

/// Events of some directories, for as long as this value lives.
#[derive(Debug)]
pub struct Events {
    _watcher: RecommendedWatcher,
}

impl Events {
    /// Watches directories, not what is below them, nor these names, which another program writes again and again. Events
    /// are sent as messages of the receiver's own type.
    ///
    /// # Errors
    /// A limit of the system, a directory that cannot be watched, or events that come faster than they can be read; then
    /// there are no events at all.
    pub fn watch<M>(
        directories: &[(PathBuf, Tag)],
        ignored: &'static [(Tag, &'static str)],
        sender: Sender<M>,
    ) -> Result<Self, Degraded>
    where
        M: From<Event> + Send + 'static,
    {
        let tags: HashMap<PathBuf, Tag> = directories.iter().cloned().collect();
        let is_wanted = move |event: &Event| match event {
            Event::Touched { directory, name } => !ignored.iter().any(|(of, other)| of == directory && name == other),
            Event::Overflow | Event::Lost(_) => true,
        };
        let receive = move |received: notify::Result<notify::Event>| {
            for event in translate(&tags, received).into_iter().filter(is_wanted) {
                // Without a receiver the loop has ended, and nobody is to be told.
                let _nobody_listens = sender.send(M::from(event));
            }
        };
        let mut watcher = notify::recommended_watcher(receive).map_err(|error| degraded(&error, None))?;
        let paths: Vec<PathBuf> = directories.iter().map(|(path, _)| path.clone()).collect();
        let (done, receiver) = channel();
        // notify answers a request between two batches of events. While a flood of them keeps it busy it never does, and a
        // start must not wait for that.
        let add = move || {
            let outcome = paths.iter().try_for_each(|path| {
                watcher.watch(path, RecursiveMode::NonRecursive).map_err(|error| degraded(&error, Some(path)))
            });
            let _nobody_waits = done.send(outcome.map(|()| Self { _watcher: watcher }));
        };
        let started = thread::Builder::new().name("events".to_owned()).spawn(add);
        started.map_err(|error| without_events(None, &error.to_string()))?;
        receiver.recv_timeout(WATCHING_TAKES).unwrap_or_else(|_| Err(without_events(None, "they come too fast")))
    }
}

fn translate(tags: &HashMap<PathBuf, Tag>, received: notify::Result<notify::Event>) -> Vec<Event> {
    let event = match received {
        Ok(event) => event,
        Err(error) => return vec![Event::Lost(degraded(&error, None).reason)],
    };
    if event.need_rescan() {
        return vec![Event::Overflow];
    }
    let ends_a_name = match event.kind {
        // Reading changes nothing, and the closing after a change and the halves of a rename are told by themselves.
        EventKind::Access(_) | EventKind::Modify(ModifyKind::Name(RenameMode::Both)) => return Vec::new(),
        EventKind::Remove(_) | EventKind::Modify(ModifyKind::Name(RenameMode::From)) => true,
        _ => false,
    };
    event.paths.iter().filter_map(|path| about(tags, path, ends_a_name)).collect()
}

fn about(tags: &HashMap<PathBuf, Tag>, path: &Path, ends_a_name: bool) -> Option<Event> {
    if ends_a_name && tags.contains_key(path) {
        return Some(Event::Lost(format!("{} was removed or renamed", path.display())));
    }
    let directory = *tags.get(path.parent()?)?;
    let name = path.file_name().filter(|name| !is_own(directory, name))?;
    Some(Event::Touched { directory, name: name.to_owned() })
}

/// Whether a name is one that this program writes again and again, or one that is not finished.
fn is_own(directory: Tag, name: &OsStr) -> bool {
    let bytes = name.as_encoded_bytes();
    let is_temporary = bytes.starts_with(b".") && bytes.ends_with(b".tmp");
    is_temporary || directory == Tag::Watch && OWN.iter().any(|own| name == *own)
}

fn degraded(error: &notify::Error, path: Option<&Path>) -> Degraded {
    let path = path.or_else(|| error.paths.first().map(PathBuf::as_path));
    let limit = match &error.kind {
        ErrorKind::MaxFilesWatch => Some(WatchLimit::Watches),
        ErrorKind::Io(source) => platform::watch_limit(source),
        _ => None,
    };
    let why = match &error.kind {
        _ if limit == Some(WatchLimit::Watches) => {
            "the limit fs.inotify.max_user_watches is reached; raise it with sysctl".to_owned()
        }
        _ if limit == Some(WatchLimit::Instances) => {
            "the limit fs.inotify.max_user_instances (or of open files, ulimit -n) is reached; raise it".to_owned()
        }
        ErrorKind::PathNotFound => "there is no such directory".to_owned(),
        ErrorKind::Generic(text) => text.clone(),
        ErrorKind::Io(source) => source.to_string(),
        other => format!("{other:?}"),
    };
    without_events(path, &why)
}

fn without_events(path: Option<&Path>, why: &str) -> Degraded {
    let place = path.map(|path| format!(" for {}", path.display())).unwrap_or_default();
    Degraded { reason: format!("no file events{place}: {why}; polling instead") }
}

#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "tests make and remove files of their own")]
mod tests {
    use std::fs;
    use std::sync::mpsc::{Receiver, channel};
    use std::time::Duration;

    use notify::event::{AccessKind, Flag, RemoveKind};

    use super::*;

    fn next(events: &Receiver<Event>) -> Event {
        events.recv_timeout(Duration::from_secs(10)).unwrap()
    }

    /// All events up to the one that this call causes itself.
    fn until_now(events: &Receiver<Event>, directory: &Path) -> Vec<Event> {
        fs::create_dir(directory.join("now")).unwrap();
        let is_before = |event: &Event| !matches!(event, Event::Touched { name, .. } if name == "now");
        let before = std::iter::from_fn(|| Some(next(events))).take_while(is_before).collect();
        fs::remove_dir(directory.join("now")).unwrap();
        assert!(!is_before(&next(events)));
        before
    }

    #[test]
    fn changes_are_told_and_reading_is_not() {
        let home = tempfile::tempdir().unwrap();
        let state = home.path();
        let watch = state.join("watch");
        fs::create_dir(&watch).unwrap();
        let (sender, events) = channel::<Event>();
        let _events = Events::watch(&[(state.into(), Tag::State), (watch.clone(), Tag::Watch)], &[], sender).unwrap();
        fs::write(state.join("a.status"), "x").unwrap();
        let touched = until_now(&events, state);
        let expected = Event::Touched { directory: Tag::State, name: "a.status".into() };
        assert!(!touched.is_empty() && touched.iter().all(|event| *event == expected), "{touched:?}");

        fs::read(state.join("a.status")).unwrap();
        fs::read_dir(state).unwrap().for_each(drop);
        fs::write(watch.join(".owner.json.1.tmp"), "x").unwrap();
        fs::write(watch.join("beat.json"), "x").unwrap();
        assert_eq!(until_now(&events, state), []);

        fs::rename(watch.join(".owner.json.1.tmp"), watch.join("owner.json")).unwrap();
        assert_eq!(next(&events), Event::Touched { directory: Tag::Watch, name: "owner.json".into() });
    }

    #[test]
    fn a_touch_is_told() {
        let state = tempfile::tempdir().unwrap();
        let file = fs::File::create(state.path().join("a.turn-ended")).unwrap();
        let (sender, events) = channel::<Event>();
        let _events = Events::watch(&[(state.path().into(), Tag::State)], &[], sender).unwrap();
        file.set_modified(std::time::SystemTime::UNIX_EPOCH).unwrap();
        assert_eq!(next(&events), Event::Touched { directory: Tag::State, name: "a.turn-ended".into() });
    }

    #[test]
    fn the_end_of_a_directory_is_told() {
        for end in [
            |path: &Path| fs::remove_dir(path).unwrap(),
            |path: &Path| {
                fs::rename(path, path.with_extension("moved")).unwrap();
            },
        ] {
            let home = tempfile::tempdir().unwrap();
            let state = home.path().join("state");
            fs::create_dir(&state).unwrap();
            let (sender, events) = channel::<Event>();
            let _events = Events::watch(&[(state.clone(), Tag::State)], &[], sender).unwrap();
            end(&state);
            let lost = std::iter::from_fn(|| Some(next(&events))).find(|event| matches!(event, Event::Lost(_)));
            assert_eq!(lost, Some(Event::Lost(format!("{} was removed or renamed", state.display()))));
        }
    }

    #[test]
    fn a_missing_directory_and_each_limit_are_explained_in_one_line() {
        let (sender, _events) = channel::<Event>();
        let missing = Events::watch(&[("/nonexistent".into(), Tag::State)], &[], sender).unwrap_err();
        assert_eq!(missing.reason, "no file events for /nonexistent: there is no such directory; polling instead");
        let by_number = |number| notify::Error::io(std::io::Error::from_raw_os_error(number));
        let watches = [notify::Error::new(ErrorKind::MaxFilesWatch), by_number(libc::ENOSPC)];
        for error in watches {
            assert!(degraded(&error, None).reason.contains("fs.inotify.max_user_watches"));
        }
        assert!(degraded(&by_number(libc::EMFILE), None).reason.contains("fs.inotify.max_user_instances"));
    }

    #[test]
    fn an_overflow_asks_for_a_look_at_everything() {
        let tags = HashMap::from([(PathBuf::from("/s"), Tag::State)]);
        let overflow = notify::Event::new(EventKind::Other).set_flag(Flag::Rescan);
        assert_eq!(translate(&tags, Ok(overflow)), [Event::Overflow]);
        let access = notify::Event::new(EventKind::Access(AccessKind::Any)).add_path("/s/a".into());
        assert_eq!(translate(&tags, Ok(access)), []);
        let stranger = notify::Event::new(EventKind::Remove(RemoveKind::File)).add_path("/other/a".into());
        assert_eq!(translate(&tags, Ok(stranger)), []);
    }
}
