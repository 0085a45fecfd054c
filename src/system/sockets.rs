//! What the lock of the kind `socket` and the probe need of the outside, beyond what every protocol needs.
//!
//! It is a contract of its own, so that a world without sockets stays a world. As with files, a socket is named by an
//! open directory or by a pinned node, never by a path.

use std::ffi::OsStr;
use std::fmt;
use std::fs::File;
use std::io::{self, Read, Write};
use std::net::Shutdown;
use std::os::unix::net::{UnixListener, UnixStream};
use std::time::Duration;

use super::platform;
use super::{Real, World};

/// Whether a process stands behind the inode of a socket.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Binding {
    /// A process has a socket that is bound to it, of whatever type, listening or not.
    Bound,
    /// Nobody has, and nobody ever will: a socket is always bound to a new inode. For an inode that came into being an
    /// instant ago it may be too early to say so; see [`crate::lock::socket::probe::binding`].
    Unbound,
    /// We may not ask.
    Denied,
}

/// What came of connecting.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reached<C> {
    /// A connection, which the server need not have noticed yet.
    Connected(C),
    /// Nobody is bound, or who is bound does not listen.
    Refused,
    /// A socket of another type, such as one for datagrams, is bound.
    OtherType,
    /// Nobody has made room in the backlog by the deadline.
    Full,
    /// We may not connect.
    Denied,
}

impl Reached<()> {
    /// The same with what the connection is.
    pub fn with<C>(self, connection: C) -> Reached<C> {
        match self {
            Self::Connected(()) => Reached::Connected(connection),
            Self::Refused => Reached::Refused,
            Self::OtherType => Reached::OtherType,
            Self::Full => Reached::Full,
            Self::Denied => Reached::Denied,
        }
    }
}

/// Who made a socket listen. A descendant that inherited the socket may be who serves it now.
#[derive(Debug)]
pub struct Peer<P> {
    /// Its pid, if this pid namespace can see it.
    pub pid: Option<u32>,
    /// The user it acted as.
    pub uid: u32,
    /// The process itself, pinned, where the kernel tells (Linux 6.5).
    pub process: Option<P>,
}

/// Sockets, as the protocols see them. Every waiting has a bound.
pub trait Sockets: World {
    /// A bound socket. Dropping it closes it; its name stays.
    type Listener: fmt::Debug + Send + Sync + 'static;
    /// A connection.
    type Connection: fmt::Debug;

    /// Binds a stream socket to a new name of mode 0600; an existing name is `AddrInUse`. It does not listen yet.
    fn bind(&self, directory: &Self::Node, name: &OsStr) -> io::Result<Self::Listener>;
    /// Lets it listen.
    fn listen(&self, socket: &Self::Listener) -> io::Result<()>;
    /// Whether anybody is bound to a pinned socket. A stream server notices nothing of the question.
    fn binding(&self, pinned: &Self::Node) -> io::Result<Binding>;
    /// Connects to a pinned socket, waiting at most so long.
    fn connect(&self, pinned: &Self::Node, at_most: Duration) -> io::Result<Reached<Self::Connection>>;
    /// Who made it listen.
    fn peer(&self, connection: &Self::Connection) -> io::Result<Peer<Self::Process>>;
    /// Sends bytes, waiting at most so long, and says how many were taken. Too late is `WouldBlock`.
    fn send(&self, connection: &Self::Connection, bytes: &[u8], at_most: Duration) -> io::Result<usize>;
    /// Receives bytes, waiting at most so long; 0 is the end. Too late is `WouldBlock`.
    fn receive(&self, connection: &Self::Connection, buffer: &mut [u8], at_most: Duration) -> io::Result<usize>;
    /// Ends what this side says; the other side may go on.
    fn finish(&self, connection: &Self::Connection) -> io::Result<()>;
}

impl Sockets for Real {
    type Listener = UnixListener;
    type Connection = UnixStream;

    fn bind(&self, directory: &File, name: &OsStr) -> io::Result<UnixListener> {
        platform::bind_socket(directory, name)
    }

    fn listen(&self, socket: &UnixListener) -> io::Result<()> {
        platform::listen(socket)
    }

    fn binding(&self, pinned: &File) -> io::Result<Binding> {
        platform::binding(pinned)
    }

    fn connect(&self, pinned: &File, at_most: Duration) -> io::Result<Reached<UnixStream>> {
        platform::connect(pinned, at_most)
    }

    fn peer(&self, connection: &UnixStream) -> io::Result<Peer<platform::Pinned>> {
        platform::peer(connection)
    }

    fn send(&self, mut connection: &UnixStream, bytes: &[u8], at_most: Duration) -> io::Result<usize> {
        connection.set_write_timeout(Some(at_most.max(SHORTEST)))?;
        connection.write(bytes)
    }

    fn receive(&self, mut connection: &UnixStream, buffer: &mut [u8], at_most: Duration) -> io::Result<usize> {
        connection.set_read_timeout(Some(at_most.max(SHORTEST)))?;
        connection.read(buffer)
    }

    fn finish(&self, connection: &UnixStream) -> io::Result<()> {
        connection.shutdown(Shutdown::Write)
    }
}

/// Zero would mean "for ever".
const SHORTEST: Duration = Duration::from_millis(1);
