//! The directories of a home: there, ours, private, and with room for a wake.

use std::io::ErrorKind;
use std::path::Path;

use super::finding::{Finding, Mend, Repair};
use crate::base::failpoint::Failpoint;
use crate::layout::paths::names;
use crate::ownership::context::HomeContext;
use crate::system::platform::{self, Space};
use crate::system::{Facts, Kind, World};

/// The directories of the home and what lies in them.
const DIRECTORIES: &str = "directories";
/// The room on their file system.
const SPACE: &str = "space";
/// With less room than this, in bytes, a busy home soon has none.
const LITTLE: u64 = 64 * 1024 * 1024;

/// What was found about the directories.
pub(super) struct Directories {
    pub(super) findings: Vec<Finding>,
    /// Whether there is a state directory that can be looked into.
    pub(super) has_state: bool,
}

pub(super) fn examine(session: &HomeContext) -> Directories {
    let (world, state) = (session.world.as_ref(), session.home.state());
    let facts = match world.facts_of_path(state) {
        Ok(facts) => facts,
        Err(error) if error.kind() == ErrorKind::NotFound => {
            let found = format!("{} does not exist yet", state.display());
            let mend = Mend::command(session.command_line("arm --no-wait"));
            return Directories { findings: vec![Finding::warn(DIRECTORIES, found, mend)], has_state: false };
        }
        Err(error) => {
            let found = format!("cannot examine {}: {error}", state.display());
            return Directories { findings: vec![Finding::fail(DIRECTORIES, found, Mend::Nothing)], has_state: false };
        }
    };
    let mut findings: Vec<_> = judge_ours(world, state, &facts, Privacy::NotWritable).into_iter().collect();
    findings.extend(ours(session));
    if findings.is_empty() {
        findings.push(Finding::pass(DIRECTORIES, format!("{} is ours, and private", state.display())));
    }
    findings.push(space(state));
    Directories { findings, has_state: facts.kind == Kind::Directory }
}

/// Our own directory, and all that is in it.
fn ours(session: &HomeContext) -> Vec<Finding> {
    let (world, watch, own) = (session.world.as_ref(), session.home.watch(), platform::effective_uid());
    // Without it no watcher has been here yet.
    let Ok(facts) = world.facts_of_path(&watch) else { return Vec::new() };
    let mut findings: Vec<_> = judge_ours(world, &watch, &facts, Privacy::OursAlone).into_iter().collect();
    let Ok(directory) = world.open_directory(&watch) else { return findings };
    for name in [names::WAKES, names::INBOX, names::WAITERS, names::LOG_DIRECTORY] {
        let path = session.home.ours(name);
        findings.extend(match world.facts_of_path(&path) {
            Ok(facts) => judge_ours(world, &path, &facts, Privacy::OursAlone),
            Err(error) if error.kind() == ErrorKind::NotFound => {
                let found = format!("{} is missing", path.display());
                Some(Finding::warn(DIRECTORIES, found, Mend::Safe(Repair::MakeDirectories { path })))
            }
            Err(error) => {
                let found = format!("cannot examine {}: {error}", path.display());
                Some(Finding::fail(DIRECTORIES, found, Mend::Nothing))
            }
        });
    }
    for name in world.names(&directory).unwrap_or_default() {
        let path = watch.join(&name);
        if let Ok(facts) = world.facts_at(&directory, &name)
            && facts.uid != own
        {
            findings.push(foreign(&path, facts.uid, own));
        }
    }
    if let Ok(lock) = world.facts_of_path(&session.place.file())
        && (lock.kind != Kind::File || lock.links > 1)
    {
        let path = session.place.file();
        let mend = Mend::command("look at it, move it away if nobody needs it, and arm again");
        findings.push(Finding::fail(DIRECTORIES, format!("{} is not our lock file", path.display()), mend));
    }
    findings.dedup();
    findings
}

/// Who else may do what in a directory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Privacy {
    /// Others may read it.
    NotWritable,
    /// Others may do nothing.
    OursAlone,
}

/// What is wrong with a directory of ours, if anything.
fn judge_ours<W: World>(world: &W, path: &Path, facts: &Facts, privacy: Privacy) -> Option<Finding> {
    let own = if world.is_protected(Failpoint::DoctorOwner) { platform::effective_uid() } else { facts.uid };
    judge(path, facts, own, privacy)
}

/// What is wrong with a directory that should be of this user, if anything.
fn judge(path: &Path, facts: &Facts, own: u32, privacy: Privacy) -> Option<Finding> {
    let shown = path.display();
    if facts.kind != Kind::Directory {
        let (what, mend) = match facts.kind {
            Kind::Link => ("a symbolic link, which could be led elsewhere", "give the directory itself, with --state"),
            _ => ("no directory", "look at it, and move it away if nobody needs it"),
        };
        return Some(Finding::fail(DIRECTORIES, format!("{shown} is {what}"), Mend::command(mend)));
    }
    if facts.uid != own {
        return Some(foreign(path, facts.uid, own));
    }
    let forbidden = match privacy {
        Privacy::NotWritable => 0o022,
        Privacy::OursAlone => 0o077,
    };
    let mode = facts.mode & 0o7777;
    let wanted = (mode & !forbidden) | 0o700;
    if mode == wanted {
        return None;
    }
    let mend = Mend::Safe(Repair::SetMode { path: path.to_owned(), mode: wanted });
    let found = format!("{shown} has mode {mode:o}");
    // A watcher refuses what others can write to, and what it cannot use itself.
    let is_refused = mode & 0o022 != 0 || mode & 0o700 != 0o700;
    Some(if is_refused {
        Finding::fail(DIRECTORIES, found, mend)
    } else {
        Finding::warn(DIRECTORIES, format!("{found}: others can read it"), mend)
    })
}

fn foreign(path: &Path, uid: u32, own: u32) -> Finding {
    let mend = Mend::command(format!("run as its owner, or: sudo chown {own} {}", path.display()));
    Finding::fail(DIRECTORIES, format!("{} belongs to uid {uid}, not to uid {own}", path.display()), mend)
}

fn space(state: &Path) -> Finding {
    match platform::space(state) {
        Ok(Space::ReadOnly) => {
            Finding::fail(SPACE, format!("{} is on a file system that is read-only", state.display()), Mend::Nothing)
        }
        Ok(Space::Free(free)) => room(state, free),
        Err(error) => Finding::warn(SPACE, format!("cannot be told: {error}"), Mend::Nothing),
    }
}

fn room(state: &Path, free: u64) -> Finding {
    let found = format!("{} MiB are free for {}", free / (1024 * 1024), state.display());
    let mend = Mend::command("make room: a wake that cannot be written is not delivered");
    match free {
        0 => Finding::fail(SPACE, found, mend),
        free if free < LITTLE => Finding::warn(SPACE, found, mend),
        _ => Finding::pass(SPACE, found),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::doctor::finding::Grade;

    fn directory(mode: u32) -> Facts {
        let (device, inode, size, links) = (1, 2, 0, 1);
        Facts { kind: Kind::Directory, device, inode, size, mtime_ns: 0, ctime_ns: 0, links, uid: 7, mode }
    }

    fn grade_and_mode(mode: u32, privacy: Privacy) -> Option<(Grade, u32)> {
        let finding = judge(Path::new("/d"), &directory(mode), 7, privacy)?;
        let Mend::Safe(Repair::SetMode { mode, .. }) = finding.mend else { panic!("{finding}") };
        Some((finding.grade, mode))
    }

    #[test]
    fn permissions_are_only_ever_taken_from_others() {
        assert_eq!(grade_and_mode(0o755, Privacy::NotWritable), None);
        assert_eq!(grade_and_mode(0o775, Privacy::NotWritable), Some((Grade::Fail, 0o755)));
        assert_eq!(grade_and_mode(0o2777, Privacy::NotWritable), Some((Grade::Fail, 0o2755)));
        assert_eq!(grade_and_mode(0o500, Privacy::OursAlone), Some((Grade::Fail, 0o700)));
        assert_eq!(grade_and_mode(0o750, Privacy::OursAlone), Some((Grade::Warn, 0o700)));
        assert_eq!(grade_and_mode(0o700, Privacy::OursAlone), None);
    }

    #[test]
    fn what_is_not_ours_or_no_directory_is_never_mended_by_itself() {
        let foreign = Facts { uid: 8, ..directory(0o777) };
        let link = Facts { kind: Kind::Link, ..directory(0o777) };
        for facts in [foreign, link] {
            let finding = judge(Path::new("/d"), &facts, 7, Privacy::OursAlone).unwrap();
            assert!(finding.grade == Grade::Fail && matches!(finding.mend, Mend::Command(_)), "{finding}");
        }
    }

    #[test]
    fn no_room_fails_and_little_room_warns() {
        let grade = |free| room(Path::new("/d"), free).grade;
        assert_eq!((grade(0), grade(LITTLE - 1), grade(LITTLE)), (Grade::Fail, Grade::Warn, Grade::Pass));
    }
}
