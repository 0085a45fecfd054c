//! What the machine under a home offers: locks that hold, file events, clocks, and ways to recognise a process.
//!
//! Whether the kernel's locks hold where this home's lock is, the self-test of storms measures.

use std::sync::mpsc::channel;
use std::time::Duration;

use super::finding::{Finding, Mend};
use crate::layout::paths::names;
use crate::ownership::context::HomeContext;
use crate::ownership::verdict::OwnerEvidence;
use crate::storm::self_test::{self, FileSystem, Verdict, measure};
use crate::system::World;
use crate::system::identity::{Observation, Pid};
use crate::system::platform;
use crate::watcher::events::{Events, Tag};
use crate::watcher::source::Message;

const LOCK: &str = "lock";
const EVENTS: &str = "events";
const CLOCK: &str = "clock";
const IDENTITY: &str = "identity";

/// A wall clock before this, in milliseconds since 1970 (the year 2020), was never set.
const NEVER_SET: i64 = 1_577_836_800_000;
/// A record may be from so much later than now, in milliseconds: clocks are corrected by a little all the time.
const CORRECTED_BY: i64 = 60_000;

/// Whether file events can be had: not by reading limits, of which others may have used up any part, but by asking for
/// what a watcher asks for.
pub(super) fn events(session: &HomeContext) -> Vec<Finding> {
    let world = session.world.as_ref();
    let places = [
        (session.home.state().to_owned(), Tag::State),
        (session.home.watch(), Tag::Watch),
        (session.home.ours(names::INBOX), Tag::Inbox),
    ];
    let existing: Vec<_> = places.into_iter().filter(|(path, _)| world.facts_of_path(path).is_ok()).collect();
    let (sender, _listener) = channel::<Message>();
    vec![match Events::watch(&existing, &[], sender) {
        Ok(_events) => Finding::pass(EVENTS, format!("to be had{}", limits())),
        Err(degraded) => Finding::warn(EVENTS, format!("{degraded}{}", limits()), Mend::command(MORE)),
    }]
}

const MORE: &str = "sudo sysctl fs.inotify.max_user_instances=1024 fs.inotify.max_user_watches=524288 (without events, \
                    changes are found at the next poll)";

/// The limits for this user, as far as they can be read.
fn limits() -> String {
    let limit = |name: &str| std::fs::read_to_string(format!("/proc/sys/fs/inotify/{name}")).ok();
    match (limit("max_user_watches"), limit("max_user_instances")) {
        (Some(watches), Some(instances)) => {
            format!(" (limits: {} watches, {} instances)", watches.trim(), instances.trim())
        }
        _ => String::new(),
    }
}

pub(super) fn examine(session: &HomeContext) -> Vec<Finding> {
    let world = session.world.as_ref();
    let (evidence, _) = session.verdict();
    let since = match &evidence.owner {
        OwnerEvidence::Recorded(owner, _) => Some(owner.since),
        OwnerEvidence::None | OwnerEvidence::Damaged(_) => None,
    };
    vec![clock(world.now().wall_ms, since, world.boot_id().as_deref()), identity(world)]
}

fn clock(wall_ms: i64, recorded: Option<i64>, boot: Option<&str>) -> Finding {
    let Some(boot) = boot else {
        let found = "the system does not tell the id of this boot; a restart of the machine is harder to recognise";
        return Finding::warn(CLOCK, found, Mend::command("mount /proc where this runs"));
    };
    if wall_ms < NEVER_SET {
        let found = "the wall clock is not set; ages are right all the same, dates are not";
        return Finding::warn(CLOCK, found, Mend::command("set the clock, or start a time service"));
    }
    if recorded.is_some_and(|recorded| recorded > wall_ms.saturating_add(CORRECTED_BY)) {
        let found = "the wall clock was set back since the watcher began; ages are right all the same, dates are not";
        return Finding::warn(CLOCK, found, Mend::Nothing);
    }
    Finding::pass(CLOCK, format!("set, and this boot has the id {boot}"))
}

fn identity<W: World>(world: &W) -> Finding {
    let Some(own) = Pid::new(world.own_pid()) else {
        return Finding::warn(IDENTITY, "this is the first process here, which cannot examine itself", Mend::Nothing);
    };
    let seen = match world.pin(own) {
        Ok(Some(process)) => world.observe(&process),
        Ok(None) => Observation::Gone,
        Err(error) => Observation::Unreadable(format!("no pidfd: {error}")),
    };
    judge_identity(&seen)
}

fn judge_identity(seen: &Observation) -> Finding {
    match seen {
        Observation::Seen(identity) if identity.pidfd_inode.is_some() => {
            Finding::pass(IDENTITY, "pidfds are there, and each process has an inode of its own")
        }
        Observation::Seen(_) => {
            let found =
                "pidfds are there, but processes have no inode of their own; they are told apart by start and program";
            Finding::warn(IDENTITY, found, Mend::command("Linux 6.9 or later has them"))
        }
        Observation::Unreadable(why) => {
            let found = format!("this process cannot be recognised ({why}); no watcher can be replaced or stopped");
            Finding::fail(IDENTITY, found, Mend::command("Linux 5.3 or later, with /proc mounted"))
        }
        Observation::Gone => {
            Finding::fail(IDENTITY, "this process is not in /proc", Mend::command("mount /proc of this pid namespace"))
        }
    }
}

/// Nothing depends on a fast answer here, and a busy machine must not be taken for a hanging file system.
const SELF_TEST_TIMEOUT: Duration = Duration::from_secs(4);

/// What was found about the lock.
pub(super) struct Locks {
    pub(super) findings: Vec<Finding>,
    /// Whether whoever touches this file system may hang.
    pub(super) is_out_of_order: bool,
}

pub(super) fn locks(session: &HomeContext) -> Locks {
    let place = &session.place.directory;
    // Without a directory there is no lock to be tested; that it is missing is told with the places.
    if session.world.facts_of_path(place).is_err() {
        return Locks { findings: Vec::new(), is_out_of_order: false };
    }
    let measured = measure(&platform::own_program(), place, SELF_TEST_TIMEOUT);
    Locks { findings: vec![judge_locks(&measured)], is_out_of_order: measured.is_out_of_order() }
}

fn judge_locks(measured: &self_test::Finding) -> Finding {
    let name = measured.file_system.as_ref().map_or("?", FileSystem::name);
    let found = format!("{} ({name}): {}", measured.directory.display(), measured.verdict);
    let mend = measured.remedy().map_or(Mend::Nothing, Mend::Command);
    match (&measured.verdict, &measured.file_system) {
        (Verdict::Holds, Some(FileSystem::Trusted(_))) => match &measured.left {
            None => Finding::pass(LOCK, found),
            Some(left) => Finding::warn(LOCK, format!("{found}; {} is left", left.display()), mend),
        },
        (Verdict::Untested(_), _) => Finding::warn(LOCK, found, mend),
        _ => Finding::fail(LOCK, found, mend),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::doctor::finding::Grade;

    #[test]
    fn a_clock_is_doubted_only_for_a_reason() {
        let now = NEVER_SET + 1_000_000_000;
        let grade = |wall, recorded, boot| clock(wall, recorded, boot).grade;
        assert_eq!(grade(now, Some(now + CORRECTED_BY), Some("b")), Grade::Pass);
        assert_eq!(grade(now, Some(now + CORRECTED_BY + 1), Some("b")), Grade::Warn);
        assert_eq!(grade(NEVER_SET - 1, None, Some("b")), Grade::Warn);
        assert_eq!(grade(now, None, None), Grade::Warn);
    }

    #[test]
    fn a_process_that_cannot_be_recognised_is_a_failure() {
        assert_eq!(judge_identity(&Observation::Gone).grade, Grade::Fail);
        assert_eq!(judge_identity(&Observation::Unreadable("why".to_owned())).grade, Grade::Fail);
    }

    fn grade(verdict: Verdict, file_system: FileSystem) -> Grade {
        judge_locks(&self_test::Finding { directory: "/d".into(), file_system: Some(file_system), verdict, left: None })
            .grade
    }

    #[test]
    fn only_measured_locks_that_hold_are_good_enough() {
        let trusted = || FileSystem::Trusted("ext4".to_owned());
        assert_eq!(grade(Verdict::Holds, trusted()), Grade::Pass);
        assert_eq!(grade(Verdict::Holds, FileSystem::Untrusted("nfs".to_owned())), Grade::Fail);
        assert_eq!(grade(Verdict::NoOp, trusted()), Grade::Fail);
        assert_eq!(grade(Verdict::Untested("no process".to_owned()), trusted()), Grade::Warn);
    }
}
