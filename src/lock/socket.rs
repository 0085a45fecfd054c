//! A Unix socket that is a lock: who is bound to the path holds.
//!
//! # Theory
//!
//! A daemon that claims its address needs no other lock: the kernel makes the name only if there is none, and knows for
//! as long as the daemon lives that somebody is bound to it. What goes wrong is the cleaning up. The name outlives its
//! daemon, so somebody must remove it; "connection refused, so remove it" removes the socket of a daemon that has bound
//! and does not listen yet, and a regular file as well; and of two who clean up, the slower one removes what the faster
//! one has just bound.
//!
//! So a socket is bound under a private name, listens, and is given its own name by a link, which never replaces
//! anything: until its release, the name never leads to a socket of ours that refuses. A stale name is replaced only under the
//! kernel's lock on `PATH.lock`, only if it stands for a socket, and only after the kernel has said that nobody is bound
//! to its inode ([`probe::binding`]), which is then true for ever. It is exchanged for ours in one step; what came out
//! must be the inode that was judged, or it is put back.
//!
//! Whoever holds keeps `PATH.lock` locked as well. So a name that somebody removes makes no room for a second holder of
//! this protocol. Others, who know nothing of that file, are kept off by the name alone.
//!
//! The holder can hand the listening socket to a command ([`SocketGuard::descriptor`]). The lock is then held until the
//! last process that has it has closed it: a guard that is dropped removes the name only if nobody is bound any more.
//! Who closes it last leaves the name, which is stale then.
//!
//! A process that dies at any step leaves one of: nothing; a private name, which the next takeover removes; a socket to
//! which nobody is bound, which is replaced.
//!
//! Limits. Who holds is whoever has the socket open, a stopped or a stuck process too: a timeout frees nothing. Programs
//! that remove a live socket and bind their own are not kept off; [`Guard::check`](super::Guard::check) sees it. The socket is known to
//! the kernel by its private name, so `ss` shows that, and cleaners of temporary directories that spare live sockets by
//! their bound name do not spare this one. A file system without exchange can be locked, but a stale socket on it is only
//! reported. A process that dies while it puts back what a third one had just bound leaves that under the private name.
//! `PATH.lock` stays.
//!
//! ```
//! # let directory = tempfile::tempdir()?;
//! # let path = directory.path().join("daemon.sock");
//! use std::os::unix::net::UnixStream;
//! use fm_watch::lock::{AnyLock, Attempt, Kind, Lock, Subject};
//!
//! let contender = || AnyLock::at(Kind::Socket, &path, Subject::Myself);
//! let Attempt::Taken(guard) = contender()?.try_acquire()? else { panic!("nobody has it") };
//! let _client = UnixStream::connect(&path)?;
//! assert!(matches!(contender()?.try_acquire()?, Attempt::Busy(_)));
//! drop(guard);
//! assert!(!path.exists());
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod exchange;
mod guard;
pub mod probe;

use std::ffi::OsStr;
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

pub use self::guard::SocketGuard;
use self::guard::{Claimed, Sidecar};
use self::probe::{Readiness, Stall, Stranger};
use super::kernel::KernelLock;
use super::location::{Location, Publication, description, found};
use super::temp_name::{self, PrivateName, Swap};
use super::{Attempt, Holder, Lock, Once, until_answered};
use crate::base::error::{Context, Error, Result};
use crate::base::failpoint::Failpoint;
use crate::system::storage;
use crate::system::{Binding, Facts, Kind, Open, Sockets};

/// How long a holder is given to accept a connection, when it is asked who it is.
const INTRODUCTION: Duration = Duration::from_millis(100);
/// How the private names of this kind end.
const KIND: &str = "socket";
/// How many leftovers one takeover looks at, at most.
const LEFTOVERS: usize = 1000;

/// A contender for a socket.
#[derive(Debug)]
pub struct SocketLock<W: Sockets> {
    location: Location<W>,
    sidecar: KernelLock<W>,
    obstacle: Option<Obstacle>,
}

/// Why a socket that nobody is bound to was not taken over at the last attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Obstacle {
    /// Somebody has locked `PATH.lock`.
    Locked,
    /// The file system has no exchange.
    NoExchange,
}

/// What has the lock's name.
#[derive(Debug)]
enum Occupant<W: Sockets> {
    Nothing,
    /// Somebody is bound to it, or nobody can tell.
    Holder,
    /// A socket to which nobody is bound, and its pin.
    Stale(W::Node, Facts),
}

/// What one attempt came to.
type Attempted<W> = Once<SocketGuard<W>, Option<Obstacle>>;

impl<W: Sockets> SocketLock<W> {
    /// A contender for the socket at this path, of whatever length. The directory must exist.
    ///
    /// # Errors
    /// Those of opening the directory.
    pub fn at(world: &Arc<W>, path: &Path) -> Result<Self> {
        let mut sidecar = path.as_os_str().to_owned();
        sidecar.push(".lock");
        Ok(Self {
            location: Location::open(world, path)?,
            sidecar: KernelLock::at(world, Path::new(&sidecar))?,
            obstacle: None,
        })
    }

    fn attempt_once(&mut self) -> Result<Attempted<W>> {
        // A contender that finds a holder leaves no trace.
        if matches!(self.occupant()?, Occupant::Holder) {
            return Ok(Once::Busy(None));
        }
        match self.take_sidecar()? {
            Attempt::Busy(()) => Ok(Once::Busy(Some(Obstacle::Locked))),
            Attempt::Taken(sidecar) => self.claim(sidecar),
        }
    }

    fn take_sidecar(&mut self) -> Result<Attempt<Sidecar<W>, ()>> {
        if self.location.world.is_protected(Failpoint::SocketRemovalLock) {
            Ok(self.sidecar.attempt()?.map(Sidecar::Held))
        } else {
            Ok(Attempt::Taken(Sidecar::Without))
        }
    }

    /// What has the lock's name now.
    fn occupant(&self) -> Result<Occupant<W>> {
        let Location { world, directory, name, path } = &self.location;
        let Some(pinned) = found(world.open(directory, name, Open::Pin)).doing("examine", path)? else {
            return Ok(Occupant::Nothing);
        };
        let facts = world.facts(&pinned).doing("examine", path)?;
        if facts.kind != Kind::Socket && world.is_protected(Failpoint::SocketIsSocket) {
            let next = "use the path of a socket or of nothing";
            return Err(Error::refused(path, description(facts.kind), next));
        }
        if !world.is_protected(Failpoint::SocketProbe) {
            return Ok(Occupant::Stale(pinned, facts));
        }
        Ok(match probe::binding(&**world, directory, name, &pinned).doing("probe", path)? {
            Binding::Unbound => Occupant::Stale(pinned, facts),
            Binding::Bound | Binding::Denied => Occupant::Holder,
        })
    }

    /// Makes a socket that listens, and gives it the lock's name.
    fn claim(&self, sidecar: Sidecar<W>) -> Result<Attempted<W>> {
        let Location { world, directory, path, .. } = &self.location;
        let nonce = world.nonce().doing("make a name beside", path)?;
        let mut private = PrivateName::new(&self.location, nonce, KIND);
        let listener = world.bind(directory, private.name()).doing("bind a socket beside", path)?;
        let pinned = world.open(directory, private.name(), Open::Pin).doing("examine a socket beside", path)?;
        let facts = world.facts(&pinned).doing("examine a socket beside", path)?;
        let claimed = Claimed::new(&self.location, pinned, facts, sidecar);
        let mut guard = SocketGuard { listener, claimed };
        world.reach(Failpoint::SocketBound).doing("make", path)?;
        if world.is_protected(Failpoint::SocketPublishAfterListen) {
            world.listen(&guard.listener).doing("listen on a socket beside", path)?;
            world.reach(Failpoint::SocketListening).doing("make", path)?;
        }
        match self.give_name(&mut private, &mut guard.claimed)? {
            Once::Taken(()) => {}
            Once::Busy(obstacle) => return Ok(Once::Busy(obstacle)),
            Once::Again => return Ok(Once::Again),
        }
        world.reach(Failpoint::SocketPublished).doing("make", path)?;
        if !world.is_protected(Failpoint::SocketPublishAfterListen) {
            world.listen(&guard.listener).doing("listen on", path)?;
        }
        Ok(Once::Taken(guard))
    }

    /// Gives a socket of ours the lock's name.
    fn give_name(&self, private: &mut PrivateName<W>, claimed: &mut Claimed<W>) -> Result<Once<(), Option<Obstacle>>> {
        if private.publish()? == Publication::Published {
            claimed.note_published();
            return Ok(Once::Taken(()));
        }
        let (stale, facts) = match self.occupant()? {
            Occupant::Nothing => return Ok(Once::Again),
            Occupant::Holder => return Ok(Once::Busy(None)),
            Occupant::Stale(pinned, facts) => (pinned, facts),
        };
        self.location.world.reach(Failpoint::SocketJudged).doing("replace", &self.location.path)?;
        let swap = private.exchange(&claimed.facts, |name| self.is_judged(name, &facts))?;
        // Pinned until here, so that its inode's number could not become another's.
        drop(stale);
        Ok(match swap {
            Swap::Replaced => Once::Again,
            Swap::Unsupported => Once::Busy(Some(Obstacle::NoExchange)),
            Swap::Done => {
                claimed.note_published();
                // Best effort: what stays is found again.
                drop(self.sweep(private.name()));
                Once::Taken(())
            }
        })
    }

    /// Whether what came out is what was judged.
    fn is_judged(&self, name: &OsStr, stale: &Facts) -> io::Result<bool> {
        let Location { world, directory, .. } = &self.location;
        if !world.is_protected(Failpoint::SocketInodeCheck) {
            return Ok(true);
        }
        Ok(world.facts_at(directory, name)?.is_same_inode(stale))
    }

    /// Removes private sockets of processes that have died. Nobody is bound to them, so nobody ever will be.
    fn sweep(&self, own: &OsStr) -> io::Result<()> {
        let Location { world, directory, .. } = &self.location;
        let names = world.names(directory)?;
        for name in temp_name::of_kind(&names, KIND).filter(|&name| name != own).take(LEFTOVERS) {
            let Some(pinned) = found(world.open(directory, name, Open::Pin))? else { continue };
            let is_socket = world.facts(&pinned)?.kind == Kind::Socket;
            if is_socket && probe::binding(&**world, directory, name, &pinned)? == Binding::Unbound {
                storage::remove(&**world, directory, name)?;
            }
        }
        Ok(())
    }

    /// How old the name's socket is.
    fn age(&self) -> Option<Duration> {
        self.location.age(self.location.facts().ok()??.mtime_ns)
    }

    fn holder_of(&self, readiness: &Readiness) -> Holder {
        let server = match readiness {
            Readiness::Ready(server)
            | Readiness::Stalled(Stall::NoAnswer(server) | Stall::HungUp(server))
            | Readiness::Foreign(Stranger::OtherUser(server) | Stranger::WrongAnswer(server)) => Some(server),
            _ => None,
        };
        let path = self.location.path.display();
        match (server, readiness, self.obstacle) {
            (Some(server), _, _) => {
                Holder { pid: server.pid, identity: server.identity.clone(), ..Holder::unknown("") }
            }
            (None, Readiness::Absent(_), Some(Obstacle::NoExchange)) => Holder {
                remedy: Some(format!("this file system cannot swap two names; remove {path}")),
                ..Holder::unknown("nobody serves the socket any more")
            },
            (None, Readiness::Absent(_), _) => Holder::unknown("it has just let go"),
            (None, held, _) => Holder::unknown(format!("the path {held}")),
        }
    }
}

impl<W: Sockets> Lock for SocketLock<W> {
    type Guard = SocketGuard<W>;

    fn path(&self) -> &Path {
        &self.location.path
    }

    fn attempt(&mut self) -> Result<Attempt<SocketGuard<W>, ()>> {
        let answer = until_answered(self.location.path.clone(), "judged", || self.attempt_once())?;
        Ok(answer.map_busy(|obstacle| {
            self.obstacle = obstacle;
        }))
    }

    fn holder(&self) -> Holder {
        let Location { world, directory, name, .. } = &self.location;
        // A holder of this protocol is known without a connection, which would stay in the backlog of one that does not
        // accept any.
        let keeper = self.sidecar.holder();
        if keeper.pid.is_some() {
            return Holder { since: self.age(), ..keeper };
        }
        match probe::probe_in(world, directory, name, None, INTRODUCTION) {
            Ok(probed) => Holder { since: self.age(), ..self.holder_of(&probed.readiness) },
            Err(error) => Holder::unknown(format!("the socket cannot be probed: {error}")),
        }
    }
}
