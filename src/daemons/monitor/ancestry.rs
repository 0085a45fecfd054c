//! Whether a process belongs to a daemon.
//!
//! A monitor is a subreaper: whatever the daemon starts stays below the monitor, so the line of parents of each of its
//! processes leads there. A monitor that has adopted a daemon is not its parent; then the line leads to the daemon itself,
//! or the session is the daemon's, or nobody can tell.

use crate::system::TableEntry;

/// The longest line of parents that is followed.
const GENERATIONS: usize = 256;

/// What is known of a daemon's processes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ancestry {
    /// Who all of them descend from.
    pub root: Root,
    /// The daemon's session.
    pub session: u32,
    /// Pids that its first processes had, which may have ended.
    pub known: Vec<u32>,
}

/// Who all processes of a daemon descend from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Root {
    /// This monitor, and nobody else does.
    Monitor(u32),
    /// Its first process, from which some may have been orphaned.
    Daemon(u32),
}

/// Whose a process is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Relation {
    /// The daemon's.
    Own,
    /// Somebody else's.
    Stranger,
    /// Nobody can tell.
    Unknown,
}

/// Says whose the process of this number is. `look` tells where a process stands now.
pub fn relation(pid: u32, ancestry: &Ancestry, look: impl Fn(u32) -> Option<TableEntry>) -> Relation {
    let (Root::Monitor(root) | Root::Daemon(root)) = ancestry.root;
    if ancestry.known.contains(&pid) {
        return Relation::Own;
    }
    let mut at = pid;
    for _ in 0..GENERATIONS {
        let Some(entry) = look(at) else { return Relation::Unknown };
        if entry.parent == root || entry.session == ancestry.session || ancestry.known.contains(&entry.parent) {
            return Relation::Own;
        }
        if entry.parent <= 1 {
            return match ancestry.root {
                Root::Monitor(_) => Relation::Stranger,
                Root::Daemon(_) => Relation::Unknown,
            };
        }
        at = entry.parent;
    }
    Relation::Unknown
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::system::Activity;

    /// 1 → 5 (the monitor) → 10 → 11; 1 → 20 → 21; 22 of the session 10 was orphaned.
    fn look(pid: u32) -> Option<TableEntry> {
        let (parent, session) = match pid {
            5 => (1, 5),
            10 => (5, 10),
            11 => (10, 11),
            20 => (1, 20),
            21 => (20, 20),
            22 => (1, 10),
            _ => return None,
        };
        Some(TableEntry { activity: Activity::Alive, parent, session })
    }

    fn ancestry(root: Root) -> Ancestry {
        Ancestry { root, session: 10, known: vec![10, 9] }
    }

    #[test]
    fn whoever_descends_from_the_monitor_is_the_daemons() {
        let of = |pid| relation(pid, &ancestry(Root::Monitor(5)), look);
        assert_eq!([of(9), of(10), of(11), of(22)], [Relation::Own; 4]);
        assert_eq!([of(20), of(21), of(5)], [Relation::Stranger; 3]);
        assert_eq!(of(99), Relation::Unknown, "it has ended");
    }

    #[test]
    fn of_an_adopted_daemon_nobody_can_tell_who_was_orphaned() {
        let of = |pid| relation(pid, &ancestry(Root::Daemon(10)), look);
        assert_eq!([of(10), of(11), of(22)], [Relation::Own; 3]);
        assert_eq!([of(20), of(21), of(99)], [Relation::Unknown; 3]);
    }
}
