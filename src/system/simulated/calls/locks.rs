//! The kernel's locks, and what is published with them.

use std::time::Duration;

use rustix::io::Errno;

use super::Answer;
use crate::system::simulated::machine::Machine;
use crate::system::simulated::openings::{Access, Description, Flock, Mark, Opening};
use crate::system::{Claim, Kind, LockTaker};

impl Machine {
    fn lockable(&mut self, node: Opening) -> Answer<&mut Description> {
        let description = self.openings.get_mut(node).ok_or(Errno::BADF)?;
        if description.access == Access::None { Err(Errno::BADF) } else { Ok(description) }
    }

    pub(crate) fn try_lock(&mut self, node: Opening) -> Answer<Claim> {
        let inode = self.lockable(node)?.inode;
        if self.openings.flock_of(inode).is_some_and(|holder| holder != node) {
            return Ok(Claim::Busy);
        }
        self.lockable(node)?.flock = Flock::Exclusive;
        Ok(Claim::Taken)
    }

    pub(crate) fn raise_mark(&mut self, node: Opening, kind: Kind) -> Answer<()> {
        let mark = if kind == Kind::Directory { Mark::Shared } else { Mark::Exclusive };
        let description = self.lockable(node)?;
        let may_lock = if mark == Mark::Shared { description.may_read() } else { description.may_write() };
        if !may_lock {
            return Err(Errno::BADF);
        }
        let inode = description.inode;
        let is_in_the_way = |other: &Description| match mark {
            Mark::Exclusive => other.mark != Mark::None,
            Mark::Shared | Mark::None => other.mark == Mark::Exclusive,
        };
        if self.openings.others(inode, node).any(|(_, other)| is_in_the_way(other)) {
            return Err(Errno::AGAIN);
        }
        self.lockable(node)?.mark = mark;
        Ok(())
    }

    pub(crate) fn is_marked(&mut self, node: Opening) -> Answer<bool> {
        let inode = self.lockable(node)?.inode;
        Ok(self.openings.others(inode, node).any(|(_, other)| other.mark != Mark::None))
    }

    pub(crate) fn publish_beat(&mut self, node: Opening, at: Duration) -> Answer<()> {
        let description = self.lockable(node)?;
        if !description.may_write() {
            return Err(Errno::BADF);
        }
        description.beat = Some(at);
        Ok(())
    }

    pub(crate) fn published_beat(&mut self, node: Opening) -> Answer<Option<Duration>> {
        let inode = self.lockable(node)?.inode;
        let beat = self.openings.others(inode, node).find_map(|(_, other)| other.beat);
        Ok(beat.map(|beat| Duration::from_millis(u64::try_from(beat.as_millis()).unwrap_or(u64::MAX))))
    }

    pub(crate) fn lock_taker(&self, node: Opening) -> Answer<LockTaker> {
        let holder = self.openings.flock_of(self.description(node)?.inode);
        Ok(holder.map_or(LockTaker::NotSeen, |holder| LockTaker::Taken(self.processes[holder.process].pid)))
    }
}
