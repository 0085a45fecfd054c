//! Taking over a pid file whose owner is dead.
//!
//! It is done under the kernel's lock on the stale file itself; see [the module above](super). What a predecessor
//! left that died in the middle is mended first.

use std::ffi::OsStr;
use std::io;

use super::guard::{Claimed, KIND, PidfileGuard, Subject};
use super::record::Record;
use super::staleness::{Snapshot, Verdict};
use crate::base::error::{Context, Result};
use crate::base::failpoint::Failpoint;
use crate::lock::Once;
use crate::lock::location::Location;
use crate::lock::temp_name::{self, PrivateName, Swap};
use crate::system::storage;
use crate::system::{Claim as KernelClaim, Exchange, World};

/// What one attempt came to.
pub(super) type Attempted<W> = Once<PidfileGuard<W>, Option<Obstacle>>;

/// Why a file whose owner is dead was not taken over at the last attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Obstacle {
    /// The file itself is locked.
    Locked,
    /// It has not been watched for long enough.
    NotStill,
    /// The file system has no exchange.
    NoExchange,
}

/// How many leftovers one takeover looks at, at most.
const LEFTOVERS: usize = 1000;

/// One attempt to take over a file that was judged to be stale.
#[derive(Debug)]
pub(super) struct Takeover<'a, W: World> {
    pub(super) location: &'a Location<W>,
    pub(super) subject: &'a Subject<W>,
    pub(super) stale: Snapshot<W>,
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
    pub(super) fn attempt(self) -> Result<Attempted<W>> {
        let Location { world, path, .. } = self.location;
        if !may_have(&**world, &self.stale).doing("lock", path)? {
            return Ok(Once::Busy(Some(Obstacle::Locked)));
        }
        world.reach(Failpoint::PidfileLocked).doing("lock", path)?;
        // Whoever had this lock before us may have replaced the file, or written into it.
        let is_as_judged = Snapshot::take(self.location)?.is_some_and(|now| now.is_same_as(&self.stale));
        if !is_as_judged && world.is_protected(Failpoint::PidfileInodeCheck) {
            return Ok(Once::Again);
        }
        if self.mend().doing("examine what is beside", path)? == Leftover::PutBack {
            return Ok(Once::Again);
        }
        world.reach(Failpoint::PidfileJudged).doing("replace", path)?;
        self.replace()
    }

    fn replace(&self) -> Result<Attempted<W>> {
        let claim = self.subject.claim(self.location)?;
        let mut private = PrivateName::new(self.location, claim.nonce, KIND);
        let claimed = Claimed::write(self.location, &private, &claim)?;
        match private.exchange(&claimed.facts, |name| self.is_judged(name))? {
            Swap::Replaced => Ok(Once::Again),
            Swap::Unsupported => Ok(Once::Busy(Some(Obstacle::NoExchange))),
            Swap::Done => {
                let guard = claimed.published();
                drop(private);
                // Best effort: what stays is found again.
                drop(sweep(self.location));
                Ok(Once::Taken(guard))
            }
        }
    }

    /// Whether what came out is what was judged.
    fn is_judged(&self, name: &OsStr) -> io::Result<bool> {
        let Location { world, .. } = self.location;
        if !world.is_protected(Failpoint::PidfileInodeCheck) {
            return Ok(true);
        }
        let came_out = Snapshot::open(self.location, name)?;
        Ok(came_out.is_some_and(|came_out| came_out.is_same_as(&self.stale)))
    }

    /// A predecessor that died while it took over has its own record, which is stale now, at the lock's name, and what
    /// it took out under the private name of that record. If that has an owner, the owner gets its name back.
    fn mend(&self) -> io::Result<Leftover> {
        let Record::Ours(claim) = &self.stale.record else { return Ok(Leftover::Nothing) };
        let Location { world, directory, name, .. } = self.location;
        let private = temp_name::name_of(claim.nonce, KIND);
        let Some(left) = Snapshot::open(self.location, &private)? else { return Ok(Leftover::Nothing) };
        if left.facts.is_same_inode(&self.stale.facts) || is_over(self.location, &left)? {
            storage::remove(&**world, directory, &private)?;
            return Ok(Leftover::Nothing);
        }
        if world.exchange(directory, &private, name)? == Exchange::Done {
            let came_out = Snapshot::open(self.location, &private)?;
            if came_out.is_some_and(|came_out| came_out.is_same_as(&self.stale)) {
                storage::remove(&**world, directory, &private)?;
            }
        }
        Ok(Leftover::PutBack)
    }
}

/// Whether nobody has locked a file, in either of the two ways; now we have.
fn may_have<W: World>(world: &W, snapshot: &Snapshot<W>) -> io::Result<bool> {
    if !world.is_protected(Failpoint::PidfileStaleLock) {
        return Ok(true);
    }
    Ok(world.try_lock(&snapshot.node)? == KernelClaim::Taken && !world.is_marked(&snapshot.node)?)
}

/// Whether a file's owner is proven to be dead, and nobody has locked it.
fn is_over<W: World>(location: &Location<W>, snapshot: &Snapshot<W>) -> io::Result<bool> {
    Ok(matches!(snapshot.judge(location), Verdict::Dead(_)) && may_have(&*location.world, snapshot)?)
}

/// Removes private files of processes that died before they had published them, or after.
fn sweep<W: World>(location: &Location<W>) -> io::Result<()> {
    let names = location.world.names(&location.directory)?;
    for name in temp_name::of_kind(&names, KIND).take(LEFTOVERS) {
        if let Some(left) = Snapshot::open(location, name)?
            && is_over(location, &left)?
        {
            storage::remove(&*location.world, &location.directory, name)?;
        }
    }
    Ok(())
}
