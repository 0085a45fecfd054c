//! Observing a daemon as the keeper does, and holding on to the processes that it waits for.

use std::sync::Arc;

use super::decide::{Begun, Care, Observation, Presence};
use crate::daemons::observe;
use crate::daemons::paths::{self, DaemonPaths};
use crate::daemons::records::{self, Ended, Keeping, Life, Read, StopRequest};
use crate::daemons::state::{self, Evidence, LockState, State};
use crate::system::identity::{Identity, Sameness, Standpoint};
use crate::system::{Sockets, World};

/// Everything about a daemon that the keeper needs.
#[derive(Debug)]
pub(super) struct View<P> {
    /// What decides.
    pub seen: Observation,
    /// What was remembered of it on disk.
    pub keeping: Option<Keeping>,
    /// The recorded life.
    pub life: Option<Box<Life>>,
    /// The process whose end is the next thing to happen, if it can be pinned.
    pub awaited: Option<P>,
}

/// Looks at a daemon. Its socket is not asked: whether a daemon is well is no matter of the keeper's, and the monitor asks
/// before it starts one.
pub(super) fn view<W: World + Sockets>(world: &Arc<W>, paths: &DaemonPaths, here: &Standpoint) -> View<W::Process> {
    let evidence = observe::evidence(world.as_ref(), paths, here);
    // Records are read after the locks were seen free: whoever held them has written by then.
    let rest = Rest::read(world.as_ref(), paths);
    let life = evidence.life.known().map(|(life, _)| life.clone());
    let presence = match rest.damage() {
        Some(why) => Presence::Unknown(why),
        None => presence(&evidence, life.as_deref()),
    };
    let awaited = awaited(world.as_ref(), &presence, &evidence, here);
    let begun = life.as_deref().map(|life| Begun {
        generation: life.generation,
        boot_id: life.process.boot_id.clone(),
        since_ms: life.since_monotonic_ms,
    });
    let stopped = rest.stop.known().map(|request| request.generation);
    let seen = Observation { presence, begun, end: rest.end.known().cloned(), stopped };
    View { seen, keeping: rest.keeping.known().cloned(), life, awaited }
}

/// The records besides the life.
struct Rest {
    end: Read<Ended>,
    stop: Read<StopRequest>,
    keeping: Read<Keeping>,
}

impl Rest {
    fn read<W: World>(world: &W, paths: &DaemonPaths) -> Self {
        // Whatever keeps the directory from being opened is in the evidence.
        Self {
            end: records::read_in(world, paths, paths::END),
            stop: records::read_in(world, paths, paths::STOP),
            keeping: records::read_in(world, paths, paths::KEEP),
        }
    }

    /// Why nobody can tell what a person wanted, or what was remembered. A damaged end is only an end that nobody saw.
    fn damage(&self) -> Option<String> {
        match (&self.stop, &self.keeping) {
            (Read::Damaged(why), _) | (_, Read::Damaged(why)) => Some(why.clone()),
            _ => None,
        }
    }
}

fn presence(evidence: &Evidence, life: Option<&Life>) -> Presence {
    let care = if evidence.monitor == LockState::Free { Care::Alone } else { Care::Attended };
    match (state::judge(evidence), life) {
        (State::Absent | State::Leftover { .. }, _) => Presence::Gone,
        (State::Starting { pid: Some(_) } | State::Ready { .. } | State::Stalled { .. }, Some(life)) => {
            Presence::Alive { generation: life.generation, care }
        }
        (State::Starting { .. }, _) => Presence::InHand,
        (other, _) => Presence::Unknown(other.to_string()),
    }
}

/// The monitor, because it ends after the daemon and has written down how; without one, the daemon itself.
fn awaited<W: World>(world: &W, presence: &Presence, evidence: &Evidence, here: &Standpoint) -> Option<W::Process> {
    let (life, _) = evidence.life.known()?;
    match presence {
        Presence::Alive { care: Care::Attended, .. } | Presence::InHand => {
            pin_if_same(world, &life.monitor, here).or_else(|| pin_if_same(world, &life.process, here))
        }
        Presence::Alive { care: Care::Alone, .. } => pin_if_same(world, &life.process, here),
        Presence::Gone | Presence::Unknown(_) => None,
    }
}

fn pin_if_same<W: World>(world: &W, recorded: &Identity, here: &Standpoint) -> Option<W::Process> {
    match observe::pin_recorded(world, recorded, here) {
        Ok((process, Sameness::Same(_))) => process,
        _ => None,
    }
}
