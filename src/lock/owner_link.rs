//! The lock of firstmate's shell scripts: a symbolic link to a directory that says who made it.
//!
//! # Theory
//!
//! A contender first makes an *owner directory* `<lock>.owner.XXXXXX` with its pid in the file `pid`, and reads it back.
//! Then it makes the lock: a symbolic link to that directory. A link comes into being complete and only where nothing is,
//! so making it chooses the winner, and no instant exists in which the lock is there and its owner unknown. The winner
//! looks once more (`.steal` is not there, the link is its own, the pid is its own) before it believes to hold.
//!
//! Nothing ends such a lock but its holder. One whose process died is *reclaimed*: a contender takes `<lock>.steal`, a
//! lock of the same make, looks again whether the very record that it judged is still there and still dead, and puts
//! its own link in its place. Who finds a `.steal` while it claims a free lock withdraws: a peer which removes by path
//! may be about to remove that very link.
//!
//! If this were wrong, there would be two holders, or none for ever. The parts:
//!
//! | file | its noun |
//! |---|---|
//! | `verdict` | may a record be taken over: pure |
//! | `identity` | what `pid-identity` proves: pure |
//! | `record`, `entry` | what is at a path, read without trusting it |
//! | `judge` | the facts for the verdict |
//! | `owner`, `claim` | our owner directory, our link, and their end |
//! | `swap`, `adoption` | taking over in one step: the name of a dead link, or the directory of a dead owner |
//! | [`claims`] | what a held lock tells of its owner |
//! | `steal` | the mutex, and how a dead one is taken over without a mutex of its own |
//!
//! # Beside shell peers
//!
//! Ours does what a peer may rely on, and is as strict as one wherever they differ, except for the last row:
//!
//! | where | the published protocol | here |
//! |---|---|---|
//! | pid of our owner directory | rewritten after the link, so it is empty for an instant | written before the link, then only read |
//! | last looks of a claim | link, then `.steal` | `.steal`, then link: who removed our link had `.steal`, so one of the looks sees it |
//! | removal of a dead record | by path, after a look | exchanged, checked by inode, given back if it is another |
//! | a dead `.steal` | reclaimed under `.steal.steal`, and so on | our pid replaces the dead one in its directory, unless a living peer has `.steal.steal`, which we never take |
//! | a dead `.steal` and no lock | each claim withdraws, for ever | `.steal` is taken over, so shell peers work again too |
//! | a pid that the caller may not signal | dead | alive |
//! | a lock without a pid | held for `FM_LOCK_STALE_AFTER`, at least 2 s | the same; by a clock that nobody sets if the files are from the future |
//! | a process that has ended and that nobody reaps | held | dead |
//! | a live pid | held, also when it was given to another process | held, unless `pid-identity`, written after the pid, proves another process |
//!
//! Every owner directory of ours carries `pid-identity`, so that later contenders of ours can prove what a pid cannot.
//! It carries no file of our own invention: peers remove the four files that they know and then the directory, and a
//! fifth would leave each dead owner's directory behind for ever.
//!
//! A lock in the older shape, a plain directory with a file `pid`, is read, judged and swapped out in the same way.
//!
//! # Limits
//!
//! - The record is a pid and nothing that tells machines, boots or pid namespaces apart. All contenders must share one.
//! - A peer that removes by path can remove a link that it never judged, if it sleeps between its look and its removal
//!   while the owner it judged withdraws by itself and a second shell peer claims and sleeps between *its* two looks.
//!   It takes three shell peers; where one of them is ours, the chain is broken.
//! - A peer that sleeps for more than the floor while its pid file is empty is reclaimed although it lives. It finds out
//!   by its last looks. One of the older shape, which has none, does not.
//! - A shell peer that is killed alone may leave a command of its own which still removes by path what the next one has
//!   made. Whoever kills one should kill its process group.
//! - A `.steal` that never got a pid is exchanged, not succeeded, for its owner may sleep. If a peer reclaims it in the
//!   same instant, and ours dies while it gives back what it swapped out by mistake, that peer's mutex is lost; should it
//!   sleep between its last look and its removal by path, it removes what the next one has made.
//! - A contender that is killed leaves its owner directory. Nothing points at it, nobody takes it for a lock, and nobody
//!   removes it.
//! - Anybody who may write in the directory can remove the lock. The holder sees that in [`Guard::check`].
//!
//! ```
//! # let directory = tempfile::tempdir()?;
//! # let path = directory.path().join("state.lock");
//! use fm_watch::lock::{AnyLock, Attempt, Kind, Lock, Subject};
//!
//! let contender = || AnyLock::at(Kind::OwnerLink, &path, Subject::Myself);
//! let Attempt::Taken(guard) = contender()?.try_acquire()? else { panic!("nobody has it") };
//! let pid = std::fs::read_to_string(path.join("pid"))?;
//! assert_eq!(pid, format!("{}\n", std::process::id()));
//!
//! let Attempt::Busy(holder) = contender()?.try_acquire()? else { panic!("it is held") };
//! assert_eq!(holder.pid, Some(std::process::id()));
//! drop(guard);
//! assert!(!path.exists());
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

pub mod claims;
pub(crate) mod entry;
mod exchange;
mod identity;
mod judge;
mod owner;
mod path;
mod published;
mod record;
mod steal;
mod verdict;

use std::ffi::OsStr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use super::{Attempt, Guard, Holder, Lock, Ownership};
use crate::base::error::{Context, Result};
use crate::base::failpoint::Failpoint;
use crate::system::World;
use crate::system::identity::Sameness;
use exchange::Swap;
use identity::Belief;
use judge::{Judge, Judged};
use owner::{Owner, Signature};
use path::LinkPath;
use published::{Claim, Undo};
use record::Record;
use verdict::{Held, Next, Stale, Verdict};

/// A contender for the lock at a path.
#[derive(Debug)]
pub struct OwnerLinkLock<W: World> {
    at: LinkPath<W>,
    signature: Signature,
    judge: Judge,
}

/// The held lock.
#[derive(Debug)]
pub struct OwnerLinkGuard<W: World> {
    claim: Claim<W>,
}

impl<W: World> OwnerLinkLock<W> {
    /// A contender for the lock at this path, which need not exist; its directory must. It acts for this process.
    ///
    /// # Errors
    /// Those of opening the directory, and a relative path without a working directory.
    pub fn at(world: &Arc<W>, path: &Path) -> Result<Self> {
        Ok(Self {
            at: LinkPath::of_lock(world, path)?,
            signature: Signature::of(world.own_pid()),
            judge: Judge::patient_for(verdict::FLOOR),
        })
    }

    /// Records another process as the owner: one that lives now, and for which the lock is taken. The guard still
    /// belongs to this process; if it ends without dropping the guard, the lock lives on with that process.
    #[must_use]
    pub fn for_process(mut self, pid: u32) -> Self {
        self.signature.pid = pid;
        self
    }

    /// Also tells readers which home the owner serves (file `fm-home`). They compare it as plain text.
    #[must_use]
    pub fn with_home(mut self, home: &OsStr) -> Self {
        self.signature.home = Some(home.to_owned());
        self
    }

    /// Also tells readers which program the owner runs (file `watcher-path`). They compare it as plain text.
    #[must_use]
    pub fn with_watcher_path(mut self, path: &Path) -> Self {
        self.signature.watcher_path = Some(path.to_owned());
        self
    }

    /// For how long a lock without a pid is left to whoever is taking it (`FM_LOCK_STALE_AFTER`). Less than two seconds
    /// counts as two seconds.
    #[must_use]
    pub fn stale_after(mut self, age: Duration) -> Self {
        self.judge = Judge::patient_for(age);
        self
    }

    /// Takes the lock also from a live process that runs another command than the one that was recorded: that was enough
    /// for firstmate's scripts to clear a record. It is for somebody who knows that the record is one of its own kind.
    #[must_use]
    pub fn believing_the_command(mut self) -> Self {
        self.judge = self.judge.believing(Belief::Command);
        self
    }

    /// Takes a lock that nobody has.
    fn claim(&mut self) -> Result<Attempt<OwnerLinkGuard<W>, ()>> {
        let owner = Owner::prepare(&self.at, &self.signature)?;
        let Some(claim) = Claim::publish(&self.at, owner)? else { return Ok(Attempt::Busy(())) };
        let world = self.at.world();
        let steal = self.at.steal();
        // In this order: who removed our link by its path had `.steal` from before our link was there until after it was
        // gone. If `.steal` is not there now, either nobody has removed the link and nobody will, or the next look sees it.
        if world.is_protected(Failpoint::OwnerLinkRefuseWhileSteal)
            && steal.location().facts().doing("examine", steal.path())?.is_some()
        {
            return Ok(Attempt::Busy(()));
        }
        taken(claim)
    }

    /// Takes a lock whose holder is dead, or one that nobody has beside a dead mutex.
    fn reclaim(&mut self, dead: Option<Record<W>>) -> Result<Attempt<OwnerLinkGuard<W>, ()>> {
        self.at.world().reach(Failpoint::OwnerLinkJudged).doing("lock", self.at.path())?;
        if !self.at.world().is_protected(Failpoint::OwnerLinkStealMutex) {
            return self.reclaim_under(None, dead);
        }
        let Some(mut steal) = steal::take(&mut self.judge, &self.at)? else {
            return Ok(Attempt::Busy(()));
        };
        let outcome = self.reclaim_under(Some(&steal), dead)?;
        // A mutex that cannot be given back is dead as soon as this process is, and judged then; the lock is taken.
        let _whoever_is_next_judges_it = steal.withdraw();
        Ok(outcome)
    }

    fn reclaim_under(
        &mut self,
        steal: Option<&Claim<W>>,
        dead: Option<Record<W>>,
    ) -> Result<Attempt<OwnerLinkGuard<W>, ()>> {
        let now = self.judge.observe(&self.at)?;
        let is_protected = self.at.world().is_protected(Failpoint::OwnerLinkStealRevalidation);
        let claim = match (dead, now) {
            (None, Judged::Nothing) => self.publish_under(steal)?,
            (Some(dead), Judged::Stale(now, _)) if now.is_same(&dead) => self.swap_under(steal, now)?,
            (Some(_), Judged::Held(now, _) | Judged::Stale(now, _)) if !is_protected => self.swap_under(steal, now)?,
            // What was judged is not there any more.
            _ => None,
        };
        claim.map_or(Ok(Attempt::Busy(())), taken)
    }

    fn publish_under(&self, steal: Option<&Claim<W>>) -> Result<Option<Claim<W>>> {
        let owner = Owner::prepare(&self.at, &self.signature)?;
        let Some(claim) = Claim::publish(&self.at, owner)? else { return Ok(None) };
        Ok(is_still_ours(steal)?.then_some(claim))
    }

    fn swap_under(&mut self, steal: Option<&Claim<W>>, dead: Record<W>) -> Result<Option<Claim<W>>> {
        let owner = Owner::prepare(&self.at, &self.signature)?;
        let Some(swap) = Swap::make(&mut self.judge, owner, dead, &self.at)? else { return Ok(None) };
        // After the exchange: if the mutex is ours now, no peer is between its last look at the lock and its removal.
        match is_still_ours(steal) {
            Ok(true) if swap.claim().ownership()?.is_held() => Ok(Some(swap.settle())),
            Ok(_) => swap.undo().map(|()| None),
            Err(error) => swap.undo().and(Err(error)),
        }
    }
}

/// Whether we still have the mutex. Without one, a test has taken that protection away.
fn is_still_ours<W: World>(steal: Option<&Claim<W>>) -> Result<bool> {
    let Some(steal) = steal.filter(|steal| steal.at.world().is_protected(Failpoint::OwnerLinkStealRecheck)) else {
        return Ok(true);
    };
    Ok(steal.ownership()?.is_held())
}

/// The last look of a claim: the link and the pid are still ours, and the path leads to them.
fn taken<W: World>(claim: Claim<W>) -> Result<Attempt<OwnerLinkGuard<W>, ()>> {
    let guard = OwnerLinkGuard { claim };
    let is_protected = guard.claim.at.world().is_protected(Failpoint::OwnerLinkClaimRecheck);
    if is_protected && !guard.check()?.is_held() {
        return Ok(Attempt::Busy(()));
    }
    Ok(Attempt::Taken(guard))
}

impl<W: World> Lock for OwnerLinkLock<W> {
    type Guard = OwnerLinkGuard<W>;

    fn path(&self) -> &Path {
        self.at.path()
    }

    fn attempt(&mut self) -> Result<Attempt<OwnerLinkGuard<W>, ()>> {
        let lock = self.judge.observe(&self.at)?;
        if matches!(lock, Judged::Held(..) | Judged::Changing) {
            return Ok(Attempt::Busy(()));
        }
        let steal = self.judge.observe(&self.at.steal())?;
        if matches!(steal, Judged::Changing) {
            return Ok(Attempt::Busy(()));
        }
        match verdict::next(lock.verdict(), steal.verdict()) {
            Next::Wait => Ok(Attempt::Busy(())),
            Next::Claim => self.claim(),
            Next::Reclaim => {
                drop(steal);
                self.reclaim(lock.into_stale())
            }
        }
    }

    fn holder(&self) -> Holder {
        // A judge of its own: looking for people's sake must not count as watching.
        let mut judge = self.judge.clone();
        match judge.observe(&self.at) {
            Ok(Judged::Nothing) => match judge.observe(&self.at.steal()) {
                Ok(Judged::Held(record, verdict) | Judged::Stale(record, verdict)) => {
                    reclaimer(describe(&self.at.steal(), &record, &verdict))
                }
                Ok(Judged::Nothing | Judged::Changing) => Holder::unknown("it has let go just now"),
                Err(error) => Holder::unknown(error.to_string()),
            },
            Ok(Judged::Changing) => Holder::unknown("it changes hands just now"),
            Ok(Judged::Held(record, verdict) | Judged::Stale(record, verdict)) => describe(&self.at, &record, &verdict),
            Err(error) => Holder::unknown(error.to_string()),
        }
    }
}

/// Somebody who has the mutex and not yet the lock.
fn reclaimer(holder: Holder) -> Holder {
    let identity = match holder.identity {
        Sameness::Same(_) => Sameness::Unknown("it is reclaiming the lock of a dead holder".to_owned()),
        other => other,
    };
    Holder { identity, ..holder }
}

fn describe<W: World>(at: &LinkPath<W>, record: &Record<W>, verdict: &Verdict) -> Holder {
    let since = at.location().age(record.facts.mtime_ns);
    let removal = || format!("rm {}", at.path().display());
    let by_hand = |pid: u32| format!("if pid {pid} does not use {}: {}", at.path().display(), removal());
    let (pid, identity, remedy) = match verdict {
        Verdict::Held(Held::Lives(pid, same @ Sameness::Same(_))) => (Some(*pid), same.clone(), None),
        Verdict::Held(Held::Lives(pid, unsure)) => (Some(*pid), unsure.clone(), Some(by_hand(*pid))),
        Verdict::Held(Held::BeingTaken(_)) => {
            (None, Sameness::Unknown("it has not written its pid yet".to_owned()), None)
        }
        Verdict::Held(Held::Unjudged(why)) => (None, Sameness::Unknown(why.clone()), Some(removal())),
        Verdict::Stale(Stale::Died(pid, difference)) => {
            (Some(*pid), Sameness::Different(difference.clone()), Some(removal()))
        }
        Verdict::Stale(Stale::NeverTaken) => {
            (None, Sameness::Unknown("it never wrote its pid".to_owned()), Some(removal()))
        }
    };
    Holder { pid, host: None, since, identity, remedy }
}

impl<W: World> OwnerLinkGuard<W> {
    /// Writes `pid-identity` anew if `ps` would not print it any more: the start of a process is told by the wall clock,
    /// so it moves when somebody sets that. Readers compare it as text, and would take the holder for another process.
    ///
    /// # Errors
    /// Those of looking whether the lock is still ours; nothing is written then, nor if it is not.
    pub fn renew_identity(&self) -> Result<()> {
        if self.check()?.is_held() {
            self.claim.owner.renew_identity();
        }
        Ok(())
    }
}

impl<W: World> Guard for OwnerLinkGuard<W> {
    fn path(&self) -> &Path {
        self.claim.at.path()
    }

    fn check(&self) -> Result<Ownership> {
        let by_path = self.claim.at.location().facts_by_path().doing("examine", self.path())?;
        match Ownership::by_inode(by_path, &self.claim.facts) {
            Ownership::Held => self.claim.ownership(),
            lost @ Ownership::Lost(_) => Ok(lost),
        }
    }

    fn release(mut self) -> Result<()> {
        self.claim.withdraw()
    }
}
