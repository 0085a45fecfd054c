//! What the world tells of the owner of a record.
//!
//! The order matters. That a process exists is asked first and its start read second: a pid that is given away in
//! between then shows another start, never the old one.

use super::marker::{Content, Record};
use super::process_id::{self, Boot, Start};
use super::staleness::{self, Clocks, Held, Here, Life, Owner, Verdict};
use crate::base::failpoint::Failpoint;
use crate::system::World;
use crate::system::identity::Difference;

/// From where a world judges. It is asked each time: machines are renamed, and processes move between namespaces.
pub fn here<W: World>(world: &W) -> Here {
    let standpoint = world.standpoint();
    Here {
        host: process_id::host(&world.host_name(), standpoint.pid_namespace),
        boot: Boot::of(standpoint.boot_id.as_deref()),
        clocks: if world.has_common_start_times() { Clocks::Common } else { Clocks::Shifted },
    }
}

/// The record of a process that lives now.
pub fn record_of<W: World>(world: &W, pid: u32) -> Record {
    record_with(world, pid, || world.start_ticks(pid))
}

/// The same, with another way to get at its start.
pub fn record_with<W: World>(world: &W, pid: u32, ticks: impl FnOnce() -> Option<u64>) -> Record {
    let here = here(world);
    let start = match here.clocks {
        Clocks::Common => ticks().map(|ticks| Start::new(here.boot, ticks)),
        Clocks::Shifted => None,
    };
    Record { pid, host: here.host, start }
}

/// The verdict on what is at a lock's name.
pub fn verdict<W: World>(world: &W, content: &Content) -> Verdict {
    if *content == Content::Empty && !world.is_protected(Failpoint::SoftEmptyIsHeld) {
        let breaker = super::decimal::Decimal::from(world.own_pid());
        return Verdict::Gone { how: Difference::Gone, breaker };
    }
    staleness::verdict(content, |record| judged_owner(world, &here(world), record))
}

/// Whether a process of this number runs here, as far as a number alone can tell.
pub fn is_gone<W: World>(world: &W, pid: u32) -> bool {
    matches!(world.exists(pid), Ok(false))
}

fn judged_owner<W: World>(world: &W, here: &Here, record: &Record) -> Result<Difference, Held> {
    // Nothing is asked about a number of another machine's.
    let life = if record.host == here.host { life(world, here, record.pid) } else { Life::Alive(None) };
    match staleness::owner(record, here, &life) {
        Owner::Held(why) => Err(why),
        Owner::GoneUnlessElsewhere(_) if runs_elsewhere(world, here, record) => Err(Held::Elsewhere),
        Owner::Gone(how) | Owner::GoneUnlessElsewhere(how) => Ok(how),
    }
}

fn life<W: World>(world: &W, here: &Here, pid: u32) -> Life {
    match world.exists(pid) {
        Ok(false) => Life::Gone,
        Ok(true) if !world.is_protected(Failpoint::SoftStart) => Life::Alive(None),
        Ok(true) => Life::Alive(start_of(world, here, pid)),
        Err(error) => Life::Unknown(error.to_string()),
    }
}

fn start_of<W: World>(world: &W, here: &Here, pid: u32) -> Option<Start> {
    match here.clocks {
        Clocks::Common => Some(Start::new(here.boot, world.start_ticks(pid)?)),
        Clocks::Shifted => None,
    }
}

/// Whether the owner runs in another pid namespace, where the recorded number is its own. If the processes cannot be
/// listed, that proves nothing either way, and the number alone has decided; so does the peer.
fn runs_elsewhere<W: World>(world: &W, here: &Here, record: &Record) -> bool {
    if !world.is_protected(Failpoint::SoftElsewhere) {
        return false;
    }
    world.processes().unwrap_or_default().into_iter().any(|task| {
        // Nearly all processes share our namespace, and there a process has one number only.
        if world.has_one_number(task) {
            return false;
        }
        let start = start_of(world, here, task);
        staleness::can_be_owner(task, start.as_ref(), record, here.clocks)
            && world.innermost_pid(task) == Some(record.pid)
    })
}
