//! Whether the kernel's locks hold where this home's lock is, by the self-test of storms.

use std::time::Duration;

use super::finding::{Finding, Mend};
use crate::ownership::context::HomeContext;
use crate::storm::self_test::{self, FileSystem, Verdict, measure};
use crate::system::World;
use crate::system::platform;

const CHECK: &str = "lock";

/// Nothing depends on a fast answer here, and a busy machine must not be taken for a hanging file system.
const AT_MOST: Duration = Duration::from_secs(4);

/// What was found about the lock.
pub(super) struct Locks {
    pub(super) findings: Vec<Finding>,
    /// Whether whoever touches this file system may hang.
    pub(super) is_out_of_order: bool,
}

pub(super) fn examine(session: &HomeContext) -> Locks {
    let place = &session.place.directory;
    // Without a directory there is no lock to be tested; that it is missing is told with the places.
    if session.world.facts_of_path(place).is_err() {
        return Locks { findings: Vec::new(), is_out_of_order: false };
    }
    let measured = measure(&platform::own_program(), place, AT_MOST);
    Locks { findings: vec![judge(&measured)], is_out_of_order: measured.is_out_of_order() }
}

fn judge(measured: &self_test::Finding) -> Finding {
    let name = measured.file_system.as_ref().map_or("?", FileSystem::name);
    let found = format!("{} ({name}): {}", measured.directory.display(), measured.verdict);
    let mend = measured.remedy().map_or(Mend::Nothing, Mend::Command);
    match (&measured.verdict, &measured.file_system) {
        (Verdict::Holds, Some(FileSystem::Trusted(_))) => match &measured.left {
            None => Finding::pass(CHECK, found),
            Some(left) => Finding::warn(CHECK, format!("{found}; {} is left", left.display()), mend),
        },
        (Verdict::Untested(_), _) => Finding::warn(CHECK, found, mend),
        _ => Finding::fail(CHECK, found, mend),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::doctor::finding::Grade;

    fn grade(verdict: Verdict, file_system: FileSystem) -> Grade {
        judge(&self_test::Finding { directory: "/d".into(), file_system: Some(file_system), verdict, left: None }).grade
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
