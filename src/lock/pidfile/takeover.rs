//! Taking over a pid file whose owner is dead.
//!
//! It is done under the kernel's lock on the stale file itself; see [the module above](super). What a predecessor
//! left that died in the middle is mended first.

use std::ffi::OsStr;
use std::io;

use super::record::Record;
use super::sight::Sight;
use super::staleness::Verdict;
use super::{KIND, Obstacle, Once, PidfileLock};
use crate::base::error::{Context, Result};
use crate::base::failpoint::Failpoint;
use crate::lock::location::Spot;
use crate::lock::temp_name::{self, Judged, PrivateName, Swap};
use crate::system::storage;
use crate::system::{Claim as KernelClaim, Exchange, World};

/// How many leftovers one takeover looks at, at most.
const LEFTOVERS: usize = 1000;

/// One attempt to take over a file that was judged to be stale.
#[derive(Debug)]
pub(super) struct Takeover<'a, W: World> {
    pub(super) lock: &'a PidfileLock<W>,
    pub(super) stale: Sight<W>,
}

/// What a predecessor left.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Leftover {
    /// Nothing that anybody needs.
    Nothing,
    /// Somebody's file, which has its name again.
    PutBack,
}

impl<W: World> Takeover<'_, W> {
    pub(super) fn attempt(self) -> Result<Once<W>> {
        let Spot { world, path, .. } = &self.lock.spot;
        if !may_have(&**world, &self.stale).doing("lock", path)? {
            return Ok(Once::Busy(Some(Obstacle::Locked)));
        }
        world.reach(Failpoint::PidfileLocked).doing("lock", path)?;
        // Whoever had this lock before us may have replaced the file, or written into it.
        let is_as_judged = Sight::look(&self.lock.spot)?.is_some_and(|now| now.is_same_as(&self.stale));
        if !is_as_judged && world.is_protected(Failpoint::PidfileInodeCheck) {
            return Ok(Once::Again);
        }
        if self.mend().doing("examine what is beside", path)? == Leftover::PutBack {
            return Ok(Once::Again);
        }
        world.reach(Failpoint::PidfileJudged).doing("replace", path)?;
        self.replace()
    }

    fn replace(&self) -> Result<Once<W>> {
        let claim = self.lock.subject.claim(&self.lock.spot)?;
        let mut private = PrivateName::new(&self.lock.spot, claim.nonce, KIND);
        let claimed = self.lock.write(&private, &claim)?;
        match private.exchange(&claimed.facts, |name| self.judged(name))? {
            Swap::Replaced => Ok(Once::Again),
            Swap::Unsupported => Ok(Once::Busy(Some(Obstacle::NoExchange))),
            Swap::Done => {
                let guard = claimed.published();
                drop(private);
                // Best effort: what stays is found again.
                drop(sweep(&self.lock.spot));
                Ok(Once::Taken(guard))
            }
        }
    }

    /// Whether what came out is what was judged.
    fn judged(&self, name: &OsStr) -> io::Result<Judged> {
        let Spot { world, .. } = &self.lock.spot;
        if !world.is_protected(Failpoint::PidfileInodeCheck) {
            return Ok(Judged::Same);
        }
        let came_out = Sight::open(&self.lock.spot, name)?;
        Ok(Judged::from_sameness(came_out.is_some_and(|came_out| came_out.is_same_as(&self.stale))))
    }

    /// A predecessor that died while it took over has its own record, which is stale now, at the lock's name, and what
    /// it took out under the private name of that record. If that has an owner, the owner gets its name back.
    fn mend(&self) -> io::Result<Leftover> {
        let Record::Ours(claim) = &self.stale.record else { return Ok(Leftover::Nothing) };
        let Spot { world, directory, name, .. } = &self.lock.spot;
        let private = temp_name::name_of(claim.nonce, KIND);
        let Some(left) = Sight::open(&self.lock.spot, &private)? else { return Ok(Leftover::Nothing) };
        if left.facts.is_same_inode(&self.stale.facts) || is_over(&self.lock.spot, &left)? {
            storage::remove(&**world, directory, &private)?;
            return Ok(Leftover::Nothing);
        }
        if world.exchange(directory, &private, name)? == Exchange::Done {
            let came_out = Sight::open(&self.lock.spot, &private)?;
            if came_out.is_some_and(|came_out| came_out.is_same_as(&self.stale)) {
                storage::remove(&**world, directory, &private)?;
            }
        }
        Ok(Leftover::PutBack)
    }
}

/// Whether nobody has locked a file, in either of the two ways; now we have.
fn may_have<W: World>(world: &W, sight: &Sight<W>) -> io::Result<bool> {
    if !world.is_protected(Failpoint::PidfileStaleLock) {
        return Ok(true);
    }
    Ok(world.try_lock(&sight.node)? == KernelClaim::Taken && !world.is_marked(&sight.node)?)
}

/// Whether a file's owner is proven to be dead, and nobody has locked it.
fn is_over<W: World>(spot: &Spot<W>, sight: &Sight<W>) -> io::Result<bool> {
    Ok(matches!(sight.judge(spot), Verdict::Dead(_)) && may_have(&*spot.world, sight)?)
}

/// Removes private files of processes that died before they had published them, or after.
fn sweep<W: World>(spot: &Spot<W>) -> io::Result<()> {
    let names = spot.world.names(&spot.directory)?;
    for name in temp_name::of_kind(&names, KIND).take(LEFTOVERS) {
        if let Some(left) = Sight::open(spot, name)?
            && is_over(spot, &left)?
        {
            storage::remove(&*spot.world, &spot.directory, name)?;
        }
    }
    Ok(())
}
