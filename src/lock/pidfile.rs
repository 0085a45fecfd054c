//! A pid file that is a lock.
//!
//! # Theory
//!
//! A pid file is a claim by its name: whoever has made the file holds. That goes wrong in four ways, and each has its
//! answer here. *Checked, then written*: two find nothing and both write; here the name is made by a link, which never
//! replaces anything. *Created, then filled*: a death in between leaves an empty file that nobody can judge; here the
//! record is complete under a private name before it gets its own. *The pid alone*: it is given away again, and then a
//! stranger holds for ever; here the record proves its process ([`record`]), and a file is only taken over on proof of
//! death ([`staleness`](mod@staleness)). *Removed, then created*: two find a stale file, the slower one removes the faster one's new
//! file; here the stale file is exchanged for a complete new one in one step, and what came out must be the very inode
//! with the very bytes that were judged, or it is put back.
//!
//! Two who want to take over one stale file are kept apart by the kernel's lock *on that file*: whoever has it looks
//! again, and nobody replaces a file of this protocol without it. So it also keeps off the daemons that lock their pid
//! file before they write it (BSD's `pidfile_open`): a file that is locked, by `flock` or by a record lock on its first
//! byte, is never taken over, whatever it says. A guard keeps its own file locked for as long as it lives, for the same reason: a guard for another process,
//! such as a child that has just ended, is not robbed before it lets go.
//!
//! A process that dies at any step leaves one of: nothing; a private name, which the next takeover removes; a record
//! whose process is dead, which is taken over. If it dies while something that was not meant to come out is out, the
//! private name of its record, which its nonce tells, leads the next one to what must be put back.
//!
//! The first line is the bare pid, for programs that read pid files.
//!
//! Limits. Programs that write into a file that exists, or remove one and create another, are not kept off by any file:
//! that ours was overwritten or replaced is seen by [`Guard::check`](super::Guard::check). One that opened a stale file before it was taken
//! over and writes into it afterwards believes that it holds. A bare pid of a pid namespace that cannot be seen from
//! here looks dead. A file system without exchange can be locked, but a stale file on it is only reported. File systems
//! whose locks nobody measured are refused; so is process 1, whose record nobody could compare.
//!
//! ```
//! # let directory = tempfile::tempdir()?;
//! # let path = directory.path().join("daemon.pid");
//! use fm_watch::lock::{AnyLock, Attempt, Kind, Lock, Subject};
//!
//! let contender = || AnyLock::at(Kind::Pidfile, &path, Subject::Myself);
//! let Attempt::Taken(guard) = contender()?.try_acquire()? else { panic!("nobody has it") };
//! // The first line is the pid, for everybody.
//! let text = std::fs::read_to_string(&path)?;
//! assert_eq!(text.lines().next(), Some(std::process::id().to_string().as_str()));
//! // The others prove whose it is.
//! let Attempt::Busy(holder) = contender()?.try_acquire()? else { panic!("it is held") };
//! assert_eq!(holder.pid, Some(std::process::id()));
//! drop(guard);
//! assert!(!path.exists());
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod guard;
pub mod record;
pub mod staleness;
mod takeover;

use std::io;
use std::path::Path;
use std::sync::Arc;

pub use self::guard::PidfileGuard;
use self::guard::{Claimed, KIND, Subject};
use self::record::Claim;
use self::staleness::{SETTLES, Snapshot, Verdict};
use self::takeover::{Attempted, Obstacle, Takeover};
use super::location::{Location, Publication};
use super::temp_name::PrivateName;
use super::unchanged::Unchanged;
use super::{Attempt, Holder, Lock, Once, until_answered};
use crate::base::error::{Context, Error, Result};
use crate::base::failpoint::Failpoint;
use crate::system::FileSystem;
use crate::system::identity::Sameness;
use crate::system::{Facts, LockTaker, Open, World};

/// A contender for a pid file.
#[derive(Debug)]
pub struct PidfileLock<W: World> {
    location: Location<W>,
    subject: Subject<W>,
    /// What was seen of a file that must stay as it is for a while.
    unchanged: Unchanged<Facts>,
    obstacle: Option<Obstacle>,
}

impl<W: World> PidfileLock<W> {
    /// A contender for the pid file at this path, on behalf of this process. The directory must exist.
    ///
    /// # Errors
    /// Those of opening the directory, and one whose file system nobody measured.
    pub fn at(world: &Arc<W>, path: &Path) -> Result<Self> {
        let location = Location::open(world, path)?;
        if let FileSystem::Untrusted(found) = world.file_system(&location.directory).doing("examine", path)? {
            return Err(Error::refused(
                path,
                format!("is on {found}, which other machines may share: a pid says nothing there"),
                "use a pid file on a local file system",
            ));
        }
        Ok(Self { location, subject: Subject::Myself, unchanged: Unchanged::default(), obstacle: None })
    }

    /// The same contender on behalf of another process, which lives now and whose number cannot be given away before
    /// this returns: a child that was not waited for. The file then says its pid, and is stale when it has ended and
    /// the guard is gone.
    ///
    /// # Errors
    /// A process that has ended, or that the system does not let us pin.
    pub fn for_process(self, pid: u32) -> Result<Self> {
        Ok(Self { subject: Subject::other(&self.location, pid)?, ..self })
    }

    fn attempt_once(&mut self) -> Result<Attempted<W>> {
        let Some(snapshot) = Snapshot::take(&self.location)? else { return self.create() };
        let verdict = snapshot.judge(&self.location);
        match verdict {
            Verdict::Held(..) => Ok(Once::Busy(None)),
            Verdict::DeadOnceStill(_) if !self.is_still(&snapshot.facts) => Ok(Once::Busy(Some(Obstacle::NotStill))),
            Verdict::Dead(_) | Verdict::DeadOnceStill(_) => {
                Takeover { location: &self.location, subject: &self.subject, stale: snapshot }.attempt()
            }
        }
    }

    /// Whether a file has stayed as it is for long enough.
    fn is_still(&mut self, facts: &Facts) -> bool {
        self.unchanged.watch(*facts, self.location.world.now().monotonic) >= SETTLES
    }

    /// Makes the file where there is none.
    fn create(&self) -> Result<Attempted<W>> {
        let Location { world, path, .. } = &self.location;
        let claim = self.subject.claim(&self.location)?;
        if !world.is_protected(Failpoint::PidfileCompleteBeforeName) {
            return self.create_then_fill(&claim);
        }
        let private = PrivateName::new(&self.location, claim.nonce, KIND);
        let claimed = Claimed::write(&self.location, &private, &claim)?;
        world.reach(Failpoint::PidfileWritten).doing("make", path)?;
        if private.publish()? == Publication::NameTaken {
            return Ok(Once::Again);
        }
        let guard = claimed.published();
        world.reach(Failpoint::PidfilePublished).doing("make", path)?;
        Ok(Once::Taken(guard))
    }

    /// What must not be done, for the test that shows why.
    fn create_then_fill(&self, claim: &Claim) -> Result<Attempted<W>> {
        let Location { world, directory, name, path } = &self.location;
        let node = match world.open(directory, name, Open::CreateNew) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => return Ok(Once::Again),
            opened => opened.doing("make", path)?,
        };
        world.reach(Failpoint::PidfileCreated).doing("make", path)?;
        let claimed = Claimed::fill(&self.location, node, claim)?;
        Ok(Once::Taken(claimed.published()))
    }

    fn holder_of(&self, snapshot: &Snapshot<W>) -> Holder {
        let path = self.location.path.display();
        let since = self.location.age(snapshot.facts.mtime_ns);
        let (pid, identity) = match snapshot.judge(&self.location) {
            Verdict::Held(pid, identity) => {
                let remedy = match (&identity, pid) {
                    (Sameness::Unknown(_), Some(pid)) => Some(format!("if pid {pid} is not its owner, remove {path}")),
                    (Sameness::Unknown(_), None) => Some(format!("if no running program wrote it, remove {path}")),
                    _ => None,
                };
                return Holder { pid, identity, since, remedy, host: None };
            }
            Verdict::Dead(difference) | Verdict::DeadOnceStill(difference) => {
                (snapshot.pid(), Sameness::Different(difference))
            }
        };
        let known = Holder { pid, identity, since, host: None, remedy: None };
        match self.obstacle {
            Some(Obstacle::NoExchange) => {
                Holder { remedy: Some(format!("this file system cannot swap two names; remove {path}")), ..known }
            }
            Some(Obstacle::NotStill) => {
                let wait = format!("its line has no end yet; wait {} s", SETTLES.as_secs());
                Holder { remedy: Some(wait), ..known }
            }
            Some(Obstacle::Locked) => Holder { since, ..locker_of(&self.location, snapshot) },
            None => known,
        }
    }
}

/// Whoever has locked a file whose recorded owner is dead: it is taking it over, or letting go of it.
fn locker_of<W: World>(location: &Location<W>, snapshot: &Snapshot<W>) -> Holder {
    let holder = Holder::unknown("the process that it names has ended, and another one has locked the file");
    match location.world.lock_taker(&snapshot.node) {
        Ok(LockTaker::Taken(pid)) => Holder { pid: Some(pid), ..holder },
        Ok(LockTaker::NotSeen) | Err(_) => holder,
    }
}

impl<W: World> Lock for PidfileLock<W> {
    type Guard = PidfileGuard<W>;

    fn path(&self) -> &Path {
        &self.location.path
    }

    fn attempt(&mut self) -> Result<Attempt<PidfileGuard<W>, ()>> {
        let answer = until_answered(self.location.path.clone(), "judged", || self.attempt_once())?;
        Ok(answer.map_busy(|obstacle| {
            self.obstacle = obstacle;
        }))
    }

    fn holder(&self) -> Holder {
        match Snapshot::take(&self.location) {
            Ok(Some(snapshot)) => self.holder_of(&snapshot),
            Ok(None) => Holder::unknown("it has just let go"),
            Err(error) => Holder::unknown(error.to_string()),
        }
    }
}
