//! The marker file that the Python package filelock calls `SoftFileLock`, shared with live Python peers.
//!
//! # Theory
//!
//! Whoever has the file holds the lock. It says who that is: pid, machine, and when that process started. Nothing ends
//! with its holder here, so a contender must judge what it finds, and there is no room for a guess: to take a live
//! holder's marker makes two holders, and so does to take a dead one's in two steps. Three rules carry all:
//!
//! 1. **Complete before it has its name.** The record is written under a private name and then linked to the lock's
//!    (`temp_record`). A process that is killed anywhere leaves no marker that nobody can judge.
//! 2. **Break only on proof of death** ([`staleness`], [`observation`]), and read a record exactly as the peer does
//!    ([`marker`]). Another machine, another pid namespace, a start that cannot be read, an empty marker: held. What is
//!    no record at all is taken when this contender has seen it unchanged for two seconds ([`UNCHANGED_FOR`]).
//! 3. **Break by exchange** (`takeover`). A record of ours takes the place of the dead one in one step, and what came
//!    out is compared with what was judged. Breakers that die on the way leave names that either side reads and
//!    finishes (`recovery`).
//!
//! A release removes the file only if it is our own inode. If somebody has set it aside for a moment, our record is
//! overwritten through the descriptor that it was created with, so that it ages out wherever it comes back to.
//!
//! A contender that takes the same lock again keeps its file under the private name meanwhile, because to make one is
//! what takes the time (`reuse`).
//!
//! A lock can be taken for a child ([`SoftLock::for_process`]); then it counts as held for as long as that process
//! exists. Until it is reaped its number does, so let go first and reap second. After that others may have taken the
//! marker, and the release leaves it alone.
//!
//! # What it cannot promise
//!
//! - A lock that is held can be removed by a person, or by a peer that was told a `lifetime`. [`Guard::check`] says so.
//! - An empty marker, a dead holder on another machine and a dead holder in another pid namespace are held for ever.
//!   [`Lock::holder`] names what a person can do. A zombie counts as alive, as it does for the peer.
//! - Releases of the peer before 4.2.1 break by rename. Beside such a contender a live marker can be moved away when a
//!   holder has died, by whomever it was taken over. Before 3.30 they also remove a successor's marker when they
//!   release, and before 3.22 they write no record.
//! - A machine that is renamed makes its own markers foreign; who holds one still releases it.
//! - The pid namespace and the clock offset of a container are told from `/proc`; one that shows another namespace's
//!   processes misleads us as it misleads the peer.
//! - The lock's name must leave room for 52 more characters.
//! - A contender that is killed can leave a file beside the lock. Others sweep away those of which it is proven that
//!   nobody needs them; an empty one stays.
//! - The file system must have hard links. Where it cannot exchange names, nothing dead is ever taken.
//!
//! ```
//! # let directory = tempfile::tempdir()?;
//! # let path = directory.path().join("cache.lock");
//! use fm_watch::lock::{AnyLock, Attempt, Kind, Lock, Subject};
//!
//! let contender = || AnyLock::at(Kind::Soft, &path, Subject::Myself);
//! let Attempt::Taken(guard) = contender()?.try_acquire()? else { panic!("nobody has it") };
//! // `SoftFileLock(path, timeout=0).acquire()` in Python would time out now, and so does this:
//! let Attempt::Busy(holder) = contender()?.try_acquire()? else { panic!("it is held") };
//! assert_eq!(holder.pid, Some(std::process::id()));
//! drop(guard);
//! assert!(!path.exists());
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod decimal;
mod holder_info;
pub mod marker;
mod names;
pub mod observation;
pub mod process_id;
mod recovery;
mod reuse;
pub mod staleness;
mod takeover;
mod temp_record;

use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use self::marker::{Marker, RELEASED, Record};
use self::names::Trace;
use self::recovery::Recovery;
use self::reuse::Reuse;
use self::staleness::{UNCHANGED_FOR, Verdict, fingerprint};
use self::takeover::Takeover;
use self::temp_record::Own;
use super::location::{Location, description, found};
use super::unchanged::Unchanged;
use super::{Attempt, Guard, Holder, Lock, Loss, Once, Ownership};
use crate::base::error::{Context, Error, Result};
use crate::base::failpoint::Failpoint;
use crate::system::{Facts, Kind, Open, World};

/// How often an attempt looks again when what it saw is gone before it could be judged.
const LOOKS: usize = 3;
/// How long a breaker that lives may have our marker before that counts as a loss.
const PATIENCE: Duration = Duration::from_millis(20);

/// A contender for a marker file.
#[derive(Debug)]
pub struct SoftLock<W: World> {
    location: Location<W>,
    signer: Signer,
    /// Our own pid and when it started, once they were asked for. Neither changes for as long as we are this process;
    /// everything else in a record can.
    started: Option<(u32, u64)>,
    unchanged: Unchanged<(i64, u64, i64)>,
    reuse: Arc<Reuse<W>>,
    /// Why the last attempt did not take a marker that may be taken.
    hindrance: Option<String>,
}

/// Whom our record names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Signer {
    Myself,
    Process(u32),
}

/// The held lock.
#[derive(Debug)]
pub struct SoftGuard<W: World> {
    location: Location<W>,
    /// Who took it. A copy of the guard in a forked child is not the holder.
    acting: u32,
    signer: Signer,
    reuse: Arc<Reuse<W>>,
    /// `None` once it was released.
    own: Option<Own<W>>,
}

impl<W: World> SoftLock<W> {
    /// A contender for the marker at this path; its directory must exist.
    ///
    /// # Errors
    /// Those of opening the directory.
    pub fn at(world: &Arc<W>, path: &Path) -> Result<Self> {
        let location = Location::open(world, path)?;
        let reuse = Arc::new(Reuse::new(location.clone()));
        let unchanged = Unchanged::default();
        Ok(Self { location, signer: Signer::Myself, started: None, unchanged, reuse, hindrance: None })
    }

    /// The same contender, but its record names another process, which lives and is a child of this one. To others the
    /// lock is held for as long as that process exists.
    #[must_use]
    pub fn for_process(self, pid: u32) -> Self {
        Self { signer: Signer::Process(pid), ..self }
    }

    /// The record that we leave. That its process is alive is asked each time: a record of a dead one is nobody's.
    fn record(&mut self) -> Result<Record> {
        let Location { world, path, .. } = &self.location;
        match self.signer {
            Signer::Myself => {
                let pid = world.own_pid();
                let known = self.started.filter(|&(of, _)| of == pid).map(|(_, ticks)| ticks);
                let ticks = known.or_else(|| world.start_ticks(pid));
                self.started = ticks.map(|ticks| (pid, ticks));
                Ok(observation::record_with(&**world, pid, || ticks))
            }
            Signer::Process(pid) if world.exists(pid).doing("take for another process", path)? => {
                Ok(observation::record_of(&**world, pid))
            }
            Signer::Process(pid) => Err(Error::refused(
                path,
                format!("cannot be taken for pid {pid}, which does not exist"),
                "take it while that process lives",
            )),
        }
    }

    fn publish(&mut self) -> Result<Attempt<SoftGuard<W>, ()>> {
        let record = self.record()?;
        let Location { world, path, .. } = &self.location;
        let published = if world.is_protected(Failpoint::SoftCompleteBeforeName) {
            self.reuse.publish(&record)
        } else {
            temp_record::create_then_fill(&self.location, &record)
        };
        let Some(own) = published.doing("make the lock", path)? else { return Ok(Attempt::Busy(())) };
        let guard = self.guard(own);
        world.reach(Failpoint::SoftPublished).doing("make the lock", path)?;
        Ok(Attempt::Taken(guard))
    }

    fn guard(&self, own: Own<W>) -> SoftGuard<W> {
        let (location, reuse) = (self.location.clone(), Arc::clone(&self.reuse));
        SoftGuard { acting: location.world.own_pid(), signer: self.signer, reuse, own: Some(own), location }
    }

    /// Judges what is there, and takes its place if that may be.
    fn contest(&mut self) -> Result<Once<SoftGuard<W>>> {
        let Location { world, directory, name, path } = &self.location;
        // From here on the inode number of what is judged means nothing else.
        let Some(pin) = found(world.open(directory, name, Open::Pin)).doing("examine", path)? else {
            return Ok(Once::Again);
        };
        let pinned = world.facts(&pin).doing("examine", path)?;
        let judged = match marker::read(&self.location, name) {
            Ok(Some(marker)) if marker.facts.is_same_inode(&pinned) => marker,
            Ok(_) => return Ok(Once::Again),
            // What cannot be read cannot be judged.
            Err(_) => return Ok(Once::Busy(())),
        };
        let breaker = match observation::verdict(&**world, &judged.content) {
            Verdict::Held(_) => return Ok(Once::Busy(())),
            Verdict::Gone { breaker, .. } => Some(breaker),
            Verdict::Malformed { breaker, .. } => {
                let unchanged_for = self.unchanged.watch(fingerprint(&judged.facts), world.now().monotonic);
                if unchanged_for < UNCHANGED_FOR && world.is_protected(Failpoint::SoftStillness) {
                    return Ok(Once::Busy(()));
                }
                breaker
            }
        };
        world.reach(Failpoint::SoftJudged).doing("lock", path)?;
        self.take_over(&judged, breaker.as_ref())
    }

    fn take_over(&mut self, judged: &Marker, breaker: Option<&decimal::Decimal>) -> Result<Once<SoftGuard<W>>> {
        let record = self.record()?;
        if let Some(breaker) = breaker {
            match recovery::recover(&self.location, breaker, judged) {
                Ok(Recovery::Nothing) => {}
                Ok(Recovery::Held) => return Ok(Once::Busy(())),
                Err(error) => return Ok(self.hindered(format!("what a dead breaker took cannot be found: {error}"))),
            }
        }
        match takeover::take_over(&self.location, judged, &record).doing("make the lock", &self.location.path)? {
            Takeover::Done(own) => {
                let guard = self.guard(own);
                recovery::sweep(&self.location);
                Ok(Once::Taken(guard))
            }
            Takeover::Overtaken => Ok(Once::Busy(())),
            Takeover::Impossible(why) => Ok(self.hindered(why)),
        }
    }

    fn hindered(&mut self, why: String) -> Once<SoftGuard<W>> {
        self.hindrance = Some(why);
        Once::Busy(())
    }

    /// What the peer refuses as well: a path that no marker can ever be at, or that nobody may lock.
    fn refuse_the_impossible(&self, facts: &Facts) -> Result<()> {
        const OWNER_MAY_WRITE: u32 = 0o200;
        let Location { world, directory, name, path } = &self.location;
        if facts.kind == Kind::Directory {
            return Err(Error::refused(path, description(facts.kind), "give a path at which a file can be made"));
        }
        if facts.mode & OWNER_MAY_WRITE == 0 {
            let may_write = found(world.may_write(directory, name)).doing("examine", path)?;
            if may_write == Some(false) {
                return Err(Error::refused(
                    path,
                    "is write-protected, which filelock takes for a path that must not be locked",
                    "find out who protected it, or lock another path",
                ));
            }
        }
        Ok(())
    }
}

impl<W: World> Lock for SoftLock<W> {
    type Guard = SoftGuard<W>;

    fn path(&self) -> &Path {
        &self.location.path
    }

    fn attempt(&mut self) -> Result<Attempt<SoftGuard<W>, ()>> {
        self.hindrance = None;
        for _ in 0..LOOKS {
            let Some(facts) = self.location.facts().doing("examine", &self.location.path)? else {
                return self.publish();
            };
            self.refuse_the_impossible(&facts)?;
            match self.contest()? {
                Once::Taken(guard) => return Ok(Attempt::Taken(guard)),
                Once::Busy(()) => break,
                Once::Again => {}
            }
        }
        Ok(Attempt::Busy(()))
    }

    fn holder(&self) -> Holder {
        holder_info::holder(&self.location, self.hindrance.as_deref())
    }
}

/// What becomes of a marker's file at the end of a hold.
enum Fate {
    /// It has none but its private name.
    Reusable,
    /// It has another name in somebody's hands, or its record is no longer true.
    Discarded,
}

impl<W: World> SoftGuard<W> {
    fn let_go(&mut self) -> io::Result<()> {
        let Some(own) = self.own.take() else { return Ok(()) };
        if self.location.world.own_pid() != self.acting {
            return Ok(());
        }
        let let_go = if self.is_nobodys() { Ok(Fate::Discarded) } else { self.give_up_the_name(&own) };
        match let_go {
            Ok(Fate::Reusable) => self.reuse.put_back(own),
            Ok(Fate::Discarded) | Err(_) => self.reuse.discard(&own),
        }
        let_go.map(drop)
    }

    fn give_up_the_name(&self, own: &Own<W>) -> io::Result<Fate> {
        let Location { world, directory, name, .. } = &self.location;
        world.reach(Failpoint::SoftReleasing)?;
        let is_ours = self.location.is_at(name, &own.facts)?;
        if is_ours || !world.is_protected(Failpoint::SoftOwnInodeOnRelease) {
            found(world.unlink(directory, name))?;
        }
        if own.has_a_public_name(world)? {
            // Somebody has set it aside and will put it back.
            world.overwrite(&own.node, RELEASED)?;
            return Ok(Fate::Discarded);
        }
        Ok(if is_ours { Fate::Reusable } else { Fate::Discarded })
    }

    /// Whether our record names a process that is gone. Then anybody may be about to take its place, and between a look
    /// and an unlink the name can come to be somebody else's.
    fn is_nobodys(&self) -> bool {
        matches!(self.signer, Signer::Process(pid) if observation::is_gone(&*self.location.world, pid))
    }

    /// The name of a breaker, or of somebody who puts things back, under which our marker stands.
    fn set_aside(&self, own: &Own<W>) -> io::Result<Option<Trace>> {
        let Location { world, directory, name: lock, .. } = &self.location;
        if !own.has_a_public_name(world)? {
            return Ok(None);
        }
        for name in world.names(directory)? {
            let Some(trace @ (Trace::Aside(_) | Trace::Claim(_))) = names::trace(lock, &name) else { continue };
            if self.location.is_at(&name, &own.facts)? {
                return Ok(Some(trace));
            }
        }
        Ok(None)
    }

    /// Whether whoever takes what is at the lock's name now must put our marker back instead. Until then nobody holds.
    fn goes_back(&self, from: &Trace) -> io::Result<bool> {
        let Some(there) = marker::read(&self.location, &self.location.name)? else { return Ok(false) };
        let breaker = match observation::verdict(&*self.location.world, &there.content) {
            Verdict::Gone { breaker, .. } | Verdict::Malformed { breaker: Some(breaker), .. } => breaker,
            Verdict::Held(_) | Verdict::Malformed { .. } => return Ok(false),
        };
        Ok(match from {
            Trace::Aside(digits) => breaker.as_str() == digits,
            Trace::Claim(_) => true,
            Trace::Private(_) => false,
        })
    }

    /// What has become of our marker when something else is at the lock's name. A breaker that was overtaken has it for
    /// a moment, and a dead one until somebody comes; anything else is a loss.
    fn whereabouts(&self, own: &Own<W>) -> io::Result<Ownership> {
        let world = &self.location.world;
        let deadline = world.now().monotonic + PATIENCE;
        let mut misses = 0;
        loop {
            let stands = self.set_aside(own)?;
            let by_path = Ownership::by_inode(self.location.facts_by_path()?, &own.facts);
            if by_path != Ownership::Lost(Loss::Replaced) {
                return Ok(by_path);
            }
            let is_over = world.now().monotonic >= deadline;
            match stands {
                Some(trace) if is_over => return Ok(if self.goes_back(&trace)? { Ownership::Held } else { by_path }),
                Some(_) => {}
                // It may have been moved while the names were read.
                None if misses < LOOKS => misses += 1,
                None => return Ok(by_path),
            }
            world.pause(PATIENCE / 20);
        }
    }
}

impl<W: World> Guard for SoftGuard<W> {
    fn path(&self) -> &Path {
        &self.location.path
    }

    fn check(&self) -> Result<Ownership> {
        let path = &self.location.path;
        let Some(own) = &self.own else { return Ok(Ownership::Lost(Loss::Removed)) };
        match Ownership::by_inode(self.location.facts_by_path().doing("examine", path)?, &own.facts) {
            Ownership::Lost(Loss::Replaced) => self.whereabouts(own).doing("examine", path),
            known => Ok(known),
        }
    }

    fn release(mut self) -> Result<()> {
        self.let_go().doing("release", &self.location.path)
    }
}

impl<W: World> Drop for SoftGuard<W> {
    fn drop(&mut self) {
        // What stays is dead as soon as this process is.
        let _left_behind = self.let_go();
    }
}
