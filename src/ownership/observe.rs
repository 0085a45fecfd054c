//! Gathering the evidence for a verdict, without touching anything.
//!
//! No lock is taken, nothing is written, nothing is created. What cannot be read becomes "unknown" in the evidence.

use std::ffi::OsStr;
use std::sync::Arc;
use std::time::Duration;

use super::foreign_holder::ForeignHolder;
use super::home_lock::{self, LockLocation, LockObservation};
use super::records::{self, Beat, Owner, StopRequest};
use super::verdict::{Ending, Evidence, OwnerEvidence, Verdict, judge};
use crate::base::wait_until::wait_until;
use crate::layout::paths::{Home, names};
use crate::system::World;
use crate::system::identity::{self, Observation, Sameness, Standpoint};
use crate::system::storage;

/// A verdict that a moment can change is only believed if it stands for so long.
const SECOND_LOOK: Duration = Duration::from_millis(100);

/// Looks at a home once. It may be held by a foreign watcher, too.
pub fn evidence<W: World>(
    shared: &Arc<W>,
    (home, foreign): (&Home, Option<&dyn ForeignHolder<W>>),
    place: &LockLocation,
    here: &Standpoint,
    stuck_after: Option<Duration>,
) -> Evidence {
    let world = shared.as_ref();
    let mut lock = home_lock::observe(world, place);
    let holder = match &lock {
        // A home that ours hold has no other holder.
        LockObservation::Free | LockObservation::Absent => foreign.and_then(|foreign| foreign.observe(shared)),
        LockObservation::Marked { .. } | LockObservation::Unmarked { .. } | LockObservation::Unknown(_) => None,
    };
    if holder.is_some() {
        // One of ours that has taken the home since shows the foreign lock as well, and is no foreign watcher.
        lock = home_lock::observe(world, place);
    }
    let watch = world.open_directory(&home.watch()).ok();
    let read = |name: &str, limit: usize| match &watch {
        Some(watch) => storage::read(world, watch, OsStr::new(name), limit),
        None => Ok(None),
    };
    let owner = match read(names::OWNER, records::LIMIT) {
        Ok(None) => OwnerEvidence::None,
        Ok(Some(bytes)) => match Owner::parse(&bytes) {
            Ok(owner) => {
                let sameness = sameness_of(world, &owner, here);
                OwnerEvidence::Recorded(Box::new(owner), sameness)
            }
            Err(error) => OwnerEvidence::Damaged(format!("damaged: {error}")),
        },
        Err(error) => OwnerEvidence::Damaged(error.to_string()),
    };
    let request = watch.as_ref().and_then(|watch| stop_request(world, watch));
    let last_beat_ns = foreign.and_then(|foreign| foreign.last_beat_ns(world));
    Evidence {
        beat: read(names::BEAT, records::LIMIT).ok().flatten().as_deref().and_then(Beat::parse),
        last_life: match (&lock, &watch) {
            // Only of interest where nobody holds the home.
            (LockObservation::Free | LockObservation::Absent, Some(watch)) => {
                records::last_life(world, watch).ok().flatten()
            }
            _ => None,
        },
        stop_requested: request.as_ref().and_then(StopRequest::acquisition),
        stopped_foreign: request.and_then(|request| request.stopped_foreign(owner.generation(), last_beat_ns)),
        owner,
        lock,
        now: world.now(),
        runtime_dir: place.runtime_dir().map(ToOwned::to_owned),
        boot_id: here.boot_id.clone(),
        time_namespace: here.time_namespace,
        stuck_after,
        foreign: holder,
    }
}

/// The acquisition that a person asked to stop.
pub fn stop_requested<W: World>(world: &W, watch: &W::Node) -> Option<u64> {
    stop_request(world, watch)?.acquisition()
}

fn stop_request<W: World>(world: &W, watch: &W::Node) -> Option<StopRequest> {
    let bytes = storage::read(world, watch, OsStr::new(names::STOP), records::LIMIT).ok()??;
    serde_json::from_slice(&bytes).ok()
}

/// Compares the recorded holder with what lives under its pid now.
pub fn sameness_of<W: World>(world: &W, owner: &Owner, here: &Standpoint) -> Sameness {
    let seen = match world.pin(owner.pid()) {
        Ok(Some(process)) => world.observe(&process),
        Ok(None) => Observation::Gone,
        Err(error) => Observation::Unreadable(format!("pid {} cannot be examined: {error}", owner.pid())),
    };
    identity::compare(&owner.identity, &seen, here)
}

/// Whether a moment may change it: a whole machine that was frozen and thawed shows an old beat until the loop has had
/// its turn, a process that is being killed lets go of its lock shortly before it is gone, and a watcher that starts shows
/// its mark shortly after it has the lock.
fn is_fleeting(verdict: &Verdict) -> bool {
    matches!(verdict, Verdict::Stuck { .. } | Verdict::Dead { how: Ending::LetGo, .. } | Verdict::Foreign { .. })
}

/// The evidence and the verdict on it. A fleeting verdict is confirmed by a second look.
pub fn verdict<W: World>(
    world: &Arc<W>,
    home: (&Home, Option<&dyn ForeignHolder<W>>),
    place: &LockLocation,
    here: &Standpoint,
    stuck_after: Option<Duration>,
) -> (Evidence, Verdict) {
    let look = || {
        let evidence = evidence(world, home, place, here, stuck_after);
        let verdict = judge(&evidence);
        (evidence, verdict)
    };
    let first = look();
    if !is_fleeting(&first.1) {
        return first;
    }
    let moved = wait_until(SECOND_LOOK, SECOND_LOOK / 5, || Some(look()).filter(|(_, verdict)| !is_fleeting(verdict)));
    moved.unwrap_or(first)
}
