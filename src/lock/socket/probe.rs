//! A probe: what is behind the name of a socket, without changing anything there.
//!
//! # Theory
//!
//! A server that does not answer is not a dead server. It may be stopped, its backlog may be full, it may be between
//! `bind` and `listen`, or it may speak another protocol; a regular file at the path refuses connections like a dead
//! server does. So a probe has five answers, and only [`Readiness::Absent`] permits anybody to start a server or to
//! remove the name. It rests on a proof by the kernel and never on time: a deadline that passes gives
//! [`Readiness::Stalled`].
//!
//! The inode at the name is pinned first and asked second, so a name that is re-pointed in between cannot mix two
//! servers into one answer. What was found is a value, [`Evidence`], and the answer is a pure function of it.
//!
//! A server must not notice more of it than a connection that is closed in good order ([`LingeringClose`]).
//!
//! What breaks if this is wrong: a live server loses its name and a second one is started beside it.
//!
//! Limits: without a question, `ready` says only that connections are accepted, which the kernel does also for a
//! process that is stopped. Who the peer is says who called `listen`; a descendant may serve the socket. Before Linux
//! 6.5 that process cannot be pinned, and its number may have been given away since.

use std::ffi::OsStr;
use std::fmt;
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use super::exchange::ask;
use crate::base::error::{Context, Error, Result};
use crate::base::failpoint::Failpoint;
use crate::lock::location::{Location, description, found};
use crate::system::identity::{Observation, Proof, Sameness};
use crate::system::platform;
use crate::system::{Binding, Facts, Kind, Open, Peer, Reached, Sockets};

#[cfg(feature = "test-support")]
pub use super::exchange::Reply;
pub use super::exchange::{Asked, Closing, LingeringClose, Question};

/// What a server is good for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Readiness {
    /// It accepts connections, and gave the right answer if it was asked.
    Ready(Server),
    /// A process is bound to the name and does not listen, or does not any more.
    Starting,
    /// It lives and does not do its work in time.
    Stalled(Stall),
    /// Something is there that is not ours to use, to replace or to remove.
    Foreign(Stranger),
    /// Nobody is there. Only this permits anything.
    Absent(Absence),
}

/// Who made a socket listen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Server {
    /// Its pid, if this pid namespace can see it.
    pub pid: Option<u32>,
    /// The user it acted as.
    pub uid: u32,
    /// Whether the process of that pid is still the one that called `listen`.
    pub identity: Sameness,
}

/// Why a server that lives is not ready.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Stall {
    /// No connection was accepted by the deadline: its backlog is full.
    NoConnection,
    /// It did not answer by the deadline.
    NoAnswer(Server),
    /// It closed the connection before it had answered in full.
    HungUp(Server),
}

/// What is at the name that is no server of ours.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Stranger {
    /// Not a socket at all.
    NotASocket(Kind),
    /// A socket that is not for streams.
    OtherType,
    /// A socket to which we may not connect.
    NotPermitted,
    /// A server of another user.
    OtherUser(Server),
    /// A server that speaks another protocol.
    WrongAnswer(Server),
}

/// In which way nobody is there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Absence {
    /// There is no such name.
    NoName,
    /// The name stands for a socket to which no process is bound, and to which none can ever be.
    Stale,
}

/// What was found out about one name, in the order in which it is asked for; what makes a later fact needless ends it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Evidence {
    /// There is no such name.
    NoName,
    /// The name stands for something of this kind, which is no socket.
    Thing(Kind),
    /// The socket refused a connection; then whether somebody is bound to it.
    Refused(Binding),
    /// Somebody is bound to it with a socket of another type.
    OtherType,
    /// It had no room for a connection until the deadline.
    Full,
    /// We may not connect to it.
    Denied,
    /// It gave a connection; then what came of the question.
    Connected(Server, Asked),
}

/// The answer to a probe, and what is left of it.
#[derive(Debug)]
pub struct Probed<W: Sockets> {
    /// The answer.
    pub readiness: Readiness,
    /// The socket that was asked.
    pub socket: Option<Facts>,
    /// The connection, if there was one. It is for whoever cannot wait until the server has closed it.
    pub lingering: Option<LingeringClose<W>>,
}

/// The answer to a probe. `own_uid` is the user who asks.
pub fn judge(evidence: Evidence, own_uid: u32) -> Readiness {
    match evidence {
        Evidence::NoName => Readiness::Absent(Absence::NoName),
        Evidence::Thing(kind) => Readiness::Foreign(Stranger::NotASocket(kind)),
        Evidence::Refused(Binding::Unbound) => Readiness::Absent(Absence::Stale),
        Evidence::Refused(Binding::Bound) => Readiness::Starting,
        Evidence::Refused(Binding::Denied) | Evidence::Denied => Readiness::Foreign(Stranger::NotPermitted),
        Evidence::OtherType => Readiness::Foreign(Stranger::OtherType),
        Evidence::Full => Readiness::Stalled(Stall::NoConnection),
        Evidence::Connected(server, _) if server.uid != own_uid => Readiness::Foreign(Stranger::OtherUser(server)),
        Evidence::Connected(server, asked) => match asked {
            Asked::Nothing | Asked::Right => Readiness::Ready(server),
            Asked::Wrong => Readiness::Foreign(Stranger::WrongAnswer(server)),
            Asked::Late => Readiness::Stalled(Stall::NoAnswer(server)),
            Asked::HungUp => Readiness::Stalled(Stall::HungUp(server)),
        },
    }
}

/// Probes a path of any length. All of it takes at most about as long as it may, and the short time of a [`LingeringClose`].
///
/// # Errors
/// Those of the system, which prove nothing: they permit as little as a server that is ready.
pub fn probe<W: Sockets>(
    world: &Arc<W>,
    path: &Path,
    question: Option<&Question<'_>>,
    at_most: Duration,
) -> Result<Readiness> {
    probe_and_keep(world, path, question, at_most).map(|probed| probed.readiness)
}

/// Probes a path like [`probe`], and leaves the end of the connection to the caller.
///
/// # Errors
/// As of [`probe`].
pub fn probe_and_keep<W: Sockets>(
    world: &Arc<W>,
    path: &Path,
    question: Option<&Question<'_>>,
    at_most: Duration,
) -> Result<Probed<W>> {
    let location = match Location::open(world, path) {
        Err(Error::System { source, .. }) if source.kind() == io::ErrorKind::NotFound => {
            let readiness = Readiness::Absent(Absence::NoName);
            return Ok(Probed { readiness, socket: None, lingering: None });
        }
        opened => opened?,
    };
    probe_in(world, &location.directory, &location.name, question, at_most).doing("probe", path)
}

/// Probes a name in an open directory like [`probe_and_keep`].
///
/// # Errors
/// Those of the system, which prove nothing.
pub fn probe_in<W: Sockets>(
    world: &Arc<W>,
    directory: &W::Node,
    name: &OsStr,
    question: Option<&Question<'_>>,
    at_most: Duration,
) -> io::Result<Probed<W>> {
    let end = world.now().monotonic + at_most;
    let probed = |evidence, socket, lingering| {
        let readiness = judge(evidence, platform::effective_uid());
        Probed { readiness, socket, lingering }
    };
    let Some(pinned) = found(world.open(directory, name, Open::Pin))? else {
        return Ok(probed(Evidence::NoName, None, None));
    };
    let facts = world.facts(&pinned)?;
    if facts.kind != Kind::Socket {
        return Ok(probed(Evidence::Thing(facts.kind), None, None));
    }
    let evidence = match world.connect(&pinned, at_most)? {
        Reached::Connected(connection) => {
            let met = converse(world.as_ref(), &connection, question, end);
            let lingering =
                world.is_protected(Failpoint::ProbeFarewell).then(|| LingeringClose::begin(world, connection));
            return met.map(|evidence| probed(evidence, Some(facts), lingering));
        }
        Reached::Refused => Evidence::Refused(binding(world.as_ref(), directory, name, &pinned)?),
        Reached::OtherType => Evidence::OtherType,
        Reached::Full => Evidence::Full,
        Reached::Denied => Evidence::Denied,
    };
    Ok(probed(evidence, Some(facts), None))
}

/// Finds out who is at the other end, and asks the question.
fn converse<W: Sockets>(
    world: &W,
    connection: &W::Connection,
    question: Option<&Question<'_>>,
    end: Duration,
) -> io::Result<Evidence> {
    let server = server_of(world, &world.peer(connection)?);
    // Another user's server is told nothing.
    let asked = match question.filter(|_| server.uid == platform::effective_uid()) {
        Some(question) => ask(world, connection, question, end)?,
        None => Asked::Nothing,
    };
    Ok(Evidence::Connected(server, asked))
}

/// Whether anybody is bound to a pinned socket that was found under this name. A server notices nothing of it, and
/// "unbound" is true for ever.
///
/// # Errors
/// Those of the system, which prove nothing.
pub fn binding<W: Sockets>(world: &W, directory: &W::Node, name: &OsStr, pinned: &W::Node) -> io::Result<Binding> {
    match world.binding(pinned)? {
        Binding::Unbound => {
            wait_for_binder(world, directory, name)?;
            world.binding(pinned)
        }
        known => Ok(known),
    }
}

/// Inside `bind` a name is there an instant before its socket is. The kernel holds the directory for that long, as it
/// does for each making of a name; so to fail at making a name that exists is to have waited for it.
fn wait_for_binder<W: Sockets>(world: &W, directory: &W::Node, name: &OsStr) -> io::Result<()> {
    match world.link(directory, name, name) {
        // It was removed since, for which the directory is held as well.
        Err(error) if matches!(error.kind(), io::ErrorKind::AlreadyExists | io::ErrorKind::NotFound) => Ok(()),
        linked => linked,
    }
}

fn server_of<W: Sockets>(world: &W, peer: &Peer<W::Process>) -> Server {
    let identity = match (&peer.process, peer.pid) {
        (Some(process), _) => match world.observe(process) {
            Observation::Gone => {
                Sameness::Unknown("it has ended; a process that inherited the socket serves it".to_owned())
            }
            Observation::Seen(_) => Sameness::Same(Proof::LockTaker),
            Observation::Unreadable(why) => Sameness::Unknown(why),
        },
        (None, Some(_)) => Sameness::Unknown("this kernel does not tell whose the number is now".to_owned()),
        (None, None) => Sameness::Unknown("it lives in another pid namespace".to_owned()),
    };
    Server { pid: peer.pid, uid: peer.uid, identity }
}

/// A phrase that goes on after a path: `is served by pid 12`.
impl fmt::Display for Readiness {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Ready(server) => write!(formatter, "is served by {server}"),
            Self::Starting => formatter.write_str("belongs to a process that does not listen yet"),
            Self::Stalled(stall) => stall.fmt(formatter),
            Self::Foreign(stranger) => stranger.fmt(formatter),
            Self::Absent(Absence::NoName) => formatter.write_str("does not exist"),
            Self::Absent(Absence::Stale) => formatter.write_str("is a socket that nobody serves any more"),
        }
    }
}

impl fmt::Display for Stall {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoConnection => formatter.write_str("belongs to a process that accepts no more connections"),
            Self::NoAnswer(server) => write!(formatter, "is served by {server}, who did not answer in time"),
            Self::HungUp(server) => write!(formatter, "is served by {server}, who hung up without an answer"),
        }
    }
}

impl fmt::Display for Stranger {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotASocket(kind) => formatter.write_str(description(*kind)),
            Self::OtherType => formatter.write_str("is a socket of another type"),
            Self::NotPermitted => formatter.write_str("is a socket to which this user may not connect"),
            Self::OtherUser(server) => write!(formatter, "is served by {server} of user {}", server.uid),
            Self::WrongAnswer(server) => write!(formatter, "is served by {server}, who speaks another protocol"),
        }
    }
}

impl fmt::Display for Server {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.pid {
            Some(pid) => write!(formatter, "pid {pid}"),
            None => formatter.write_str("a process of another pid namespace"),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixListener;

    use super::*;
    use crate::system::Real;

    fn server(uid: u32) -> Server {
        Server { pid: Some(7), uid, identity: Sameness::Same(Proof::LockTaker) }
    }

    #[test]
    fn a_server_is_absent_ready_stalled_and_absent_again() -> Result<()> {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("daemon.sock");
        let (world, soon) = (Arc::new(Real), Duration::from_millis(100));
        assert!(matches!(probe(&world, &path, None, soon)?, Readiness::Absent(_)));
        let listener = UnixListener::bind(&path).unwrap();
        assert!(matches!(probe(&world, &path, None, soon)?, Readiness::Ready { .. }));
        // Nobody accepts connections here, so nobody answers either.
        let question = Question::expecting(b"ping\n", b"pong\n");
        assert!(matches!(probe(&world, &path, Some(&question), soon)?, Readiness::Stalled { .. }));
        drop(listener);
        assert!(matches!(probe(&world, &path, None, soon)?, Readiness::Absent(_)));
        Ok(())
    }

    #[test]
    fn only_no_name_and_an_unbound_socket_are_absent() {
        let all_asked = [Asked::Nothing, Asked::Right, Asked::Wrong, Asked::Late, Asked::HungUp];
        let connected =
            all_asked.into_iter().flat_map(|asked| [1, 2].map(|uid| Evidence::Connected(server(uid), asked)));
        let things = [Kind::File, Kind::Directory, Kind::Link, Kind::Fifo, Kind::Other].map(Evidence::Thing);
        let refused = [Binding::Bound, Binding::Denied].map(Evidence::Refused);
        let others = [Evidence::OtherType, Evidence::Full, Evidence::Denied];
        for evidence in connected.chain(things).chain(refused).chain(others) {
            assert!(!matches!(judge(evidence.clone(), 1), Readiness::Absent(_)), "{evidence:?}");
        }
        assert_eq!(judge(Evidence::NoName, 1), Readiness::Absent(Absence::NoName));
        assert_eq!(judge(Evidence::Refused(Binding::Unbound), 1), Readiness::Absent(Absence::Stale));
    }

    #[test]
    fn a_server_is_judged_by_its_user_first_and_its_answer_second() {
        let judged = |uid, asked| judge(Evidence::Connected(server(uid), asked), 1);
        assert_eq!(judged(2, Asked::Right), Readiness::Foreign(Stranger::OtherUser(server(2))));
        assert_eq!(judged(1, Asked::Right), Readiness::Ready(server(1)));
        assert_eq!(judged(1, Asked::Nothing), Readiness::Ready(server(1)));
        assert_eq!(judged(1, Asked::Wrong), Readiness::Foreign(Stranger::WrongAnswer(server(1))));
        assert_eq!(judged(1, Asked::Late), Readiness::Stalled(Stall::NoAnswer(server(1))));
        assert_eq!(judged(1, Asked::HungUp), Readiness::Stalled(Stall::HungUp(server(1))));
    }

    #[test]
    fn what_gives_no_connection_is_told_apart() {
        assert_eq!(judge(Evidence::Refused(Binding::Bound), 1), Readiness::Starting);
        assert_eq!(judge(Evidence::Full, 1), Readiness::Stalled(Stall::NoConnection));
        assert_eq!(judge(Evidence::OtherType, 1), Readiness::Foreign(Stranger::OtherType));
        assert_eq!(judge(Evidence::Denied, 1), Readiness::Foreign(Stranger::NotPermitted));
        assert_eq!(judge(Evidence::Refused(Binding::Denied), 1), Readiness::Foreign(Stranger::NotPermitted));
        assert_eq!(judge(Evidence::Thing(Kind::Fifo), 1), Readiness::Foreign(Stranger::NotASocket(Kind::Fifo)));
    }
}
