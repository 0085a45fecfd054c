//! What a monitor observes of its daemon: gathered here, judged elsewhere.

use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use super::ancestry::{Ancestry, Relation, relation};
use super::readiness::{Heard, Observed, PidfileState};
use crate::base::error::Error;
use crate::daemons::observe;
use crate::daemons::records::SocketInode;
use crate::lock::location::Location;
use crate::lock::socket::probe::{LingeringClose, Probed, Readiness, Server, Stall};
use crate::settings::daemon_definition::{Definition, Ready};
use crate::system::identity::Sameness;
use crate::system::platform;
use crate::system::storage;
use crate::system::{Activity, Real};

/// The longest pid file that is read, in bytes.
const LONGEST_PIDFILE: usize = 4096;
/// How long a ready socket has to answer at a time.
const ANSWERS_WITHIN: Duration = Duration::from_secs(1);

/// The life that is observed.
pub(super) struct Subject<'a> {
    /// The outside.
    pub world: &'a Arc<Real>,
    /// What was started.
    pub definition: &'a Definition,
    /// What is known of its processes.
    pub ancestry: Ancestry,
    /// How long it has lived.
    pub lived: Duration,
    /// What has come from it.
    pub heard: Heard,
}

/// A server that was met at the ready socket.
#[derive(Debug)]
pub(super) struct Met {
    /// The socket.
    pub socket: SocketInode,
    /// The connection to it.
    pub lingering: LingeringClose<Real>,
}

/// What is observed of the kind that the definition asks for.
pub(super) fn observed(subject: &Subject<'_>) -> (Observed, Option<Met>) {
    let whose = |pid: u32| relation(pid, &subject.ancestry, platform::table_entry);
    let observed = match &subject.definition.ready {
        Ready::Socket { .. } => match observe::probe(subject.world, subject.definition, ANSWERS_WITHIN) {
            Some(Ok(Probed { readiness, socket, lingering })) => {
                let met = socket.zip(lingering);
                let met = met.map(|(facts, lingering)| Met { socket: SocketInode::of(&facts), lingering });
                let relation = server_in(&readiness).map_or(Relation::Unknown, |server| relation_of(server, whose));
                return (Observed::Socket(readiness, relation), met);
            }
            Some(Err(error)) => Observed::NoSocket(error.to_string()),
            None => Observed::Heard(Heard::Nothing),
        },
        Ready::Pidfile(path) => {
            let state = pidfile_state(subject.world, path);
            let relation = if let PidfileState::Names(pid) = state { whose(pid) } else { Relation::Unknown };
            Observed::Pidfile(state, relation)
        }
        Ready::Delay(_) => Observed::Lived(subject.lived),
        Ready::Descriptor | Ready::Notify | Ready::LogLine(_) => Observed::Heard(subject.heard),
    };
    (observed, None)
}

/// The process that the daemon's pid file or socket names.
pub(super) fn named(world: &Arc<Real>, definition: &Definition) -> Option<u32> {
    match &definition.ready {
        Ready::Pidfile(path) => match pidfile_state(world, path) {
            PidfileState::Names(pid) => Some(pid),
            _ => None,
        },
        Ready::Socket { .. } => {
            let probed = observe::probe(world, definition, ANSWERS_WITHIN)?.ok()?;
            server_in(&probed.readiness)?.pid
        }
        _ => None,
    }
}

/// The living children of this process.
///
/// One that forks and ends while they are listed could have been passed when it lived and its child when it did not exist
/// yet. So they are listed until two lists in a row are the same, with those that have ended: nobody who had ended by the
/// first one can have forked since.
///
/// # Errors
/// `/proc` cannot be read.
pub(super) fn children() -> io::Result<Vec<u32>> {
    /// More than any chain of forks that ends.
    const LISTS: usize = 100;
    let mut last = list_children()?;
    for _ in 0..LISTS {
        let next = list_children()?;
        if next == last {
            break;
        }
        last = next;
    }
    Ok(last.into_iter().filter(|(_, activity)| *activity != Activity::Ended).map(|(pid, _)| pid).collect())
}

/// The children of this process, also those that have ended and are not reaped.
fn list_children() -> io::Result<Vec<(u32, Activity)>> {
    let own = std::process::id();
    let child = |pid| {
        let entry = platform::table_entry(pid).filter(|entry| entry.parent == own)?;
        // One that was stopped lives, and can go on while the next list is made.
        Some((pid, if entry.activity == Activity::Ended { Activity::Ended } else { Activity::Alive }))
    };
    let mut children: Vec<_> = platform::processes()?.into_iter().filter_map(child).collect();
    children.sort_by_key(|(pid, _)| *pid);
    Ok(children)
}

fn server_in(answer: &Readiness) -> Option<&Server> {
    match answer {
        Readiness::Ready(server) | Readiness::Stalled(Stall::NoAnswer(server) | Stall::HungUp(server)) => Some(server),
        _ => None,
    }
}

/// Whose a server is. One that this pid namespace cannot see descends from nobody in it; one that has ended and left its
/// socket to another may have been any process of the daemon's start.
fn relation_of(server: &Server, whose: impl Fn(u32) -> Relation) -> Relation {
    match (server.pid, &server.identity) {
        (None, _) => Relation::Stranger,
        (Some(pid), Sameness::Same(_)) => whose(pid),
        (Some(pid), _) => match whose(pid) {
            Relation::Own => Relation::Own,
            Relation::Stranger | Relation::Unknown => Relation::Unknown,
        },
    }
}

fn pidfile_state(world: &Arc<Real>, path: &Path) -> PidfileState {
    let spot = match Location::open(world, path) {
        Ok(spot) => spot,
        Err(Error::System { source, .. }) if source.kind() == io::ErrorKind::NotFound => return PidfileState::Missing,
        Err(error) => return PidfileState::Unreadable(error.to_string()),
    };
    match storage::read(world.as_ref(), &spot.directory, &spot.name, LONGEST_PIDFILE) {
        Ok(None) => PidfileState::Missing,
        Ok(Some(content)) => whole_pid(&content).map_or(PidfileState::Unfinished, PidfileState::Names),
        Err(error) => PidfileState::Unreadable(error.to_string()),
    }
}

/// The first line as a pid.
fn whole_pid(content: &[u8]) -> Option<u32> {
    let line = std::str::from_utf8(content).ok()?.lines().next()?;
    line.trim().parse().ok().filter(|&pid| pid > 1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::system::identity::Proof;

    #[test]
    fn a_pid_file_holds_a_pid_in_its_first_line() {
        assert_eq!(whole_pid(b"123\n"), Some(123));
        assert_eq!(whole_pid(b" 123 \nmore\n"), Some(123));
        assert_eq!(whole_pid(b""), None);
        assert_eq!(whole_pid(b"12x"), None);
        assert_eq!(whole_pid(b"0\n"), None);
        assert_eq!(whole_pid(b"\xff"), None);
    }

    #[test]
    fn a_server_that_nobody_can_see_is_a_stranger() {
        let same = Sameness::Same(Proof::LockTaker);
        let gone = Sameness::Unknown("it has ended".to_owned());
        let server = |pid, identity: &Sameness| Server { pid, uid: 1, identity: identity.clone() };
        assert_eq!(relation_of(&server(None, &same), |_| Relation::Own), Relation::Stranger);
        assert_eq!(relation_of(&server(Some(9), &same), |_| Relation::Stranger), Relation::Stranger);
        assert_eq!(relation_of(&server(Some(9), &gone), |_| Relation::Stranger), Relation::Unknown);
        assert_eq!(relation_of(&server(Some(9), &gone), |_| Relation::Own), Relation::Own);
    }
}
