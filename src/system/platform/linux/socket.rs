//! Linux: Unix sockets by an open directory or a pinned inode, and whether anybody is behind one.
//!
//! **Names.** An address holds 108 bytes, a path may be longer, and a path can be re-pointed between two calls. So a
//! socket is bound as `/proc/self/fd/N/NAME`, where N is the open directory, and reached as `/proc/self/fd/N`, where N
//! is the pinned inode: both are short and name the same thing whatever happens to the path.
//!
//! **Is anybody behind it?** "Connection refused" is no answer: a socket that is bound and does not listen yet says the
//! same as one whose process is dead. But the kernel looks for a bound socket *before* it asks whether that listens, and
//! says `EPROTOTYPE` when the one it found is of another type. So a question of a type that the server does not have
//! tells whether there is a server, disturbs nobody, and needs no table: a server in another network namespace, which
//! `/proc/net/unix` does not show, is found as well. A socket of each of the three types is tried, because a server of
//! the same type that does not listen refuses as well; only when all are refused is nobody there. That is then final:
//! a process can only bind a socket of a new inode, never one that exists.
//!
//! Limits: inside `bind` the kernel makes the name first and enters the socket into its table second, while it holds
//! the directory. Whoever wants "nobody" to be true at the first look must have waited for the directory in between;
//! [`probe`](crate::lock::socket::probe) does. Kernels of before 2021 let go of the directory a moment too early. Without
//! `/proc` every call fails, which proves nothing.

#![expect(unsafe_code, reason = "what the kernel says of sockets is not covered by the safe library")]

use std::ffi::{OsStr, c_int};
use std::fs::File;
use std::io;
use std::mem::{offset_of, size_of};
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::time::Duration;

use rustix::fs::{Mode, OFlags};

use super::process::{Pinned, monotonic};
use crate::system::identity::Pid;
use crate::system::{Binding, Peer, Reached};

/// Makes a stream socket and binds it to a new name of mode 0600 in a directory. It does not listen yet.
///
/// # Errors
/// Those of the system; a name that exists is `AddrInUse`.
pub fn bind_socket(directory: &File, name: &OsStr) -> io::Result<UnixListener> {
    let socket = new_socket(libc::SOCK_STREAM)?;
    // A bound name gets the mode of its socket, less what the umask takes.
    rustix::fs::fchmod(&socket, Mode::RUSR | Mode::WUSR)?;
    let address = Address::of(&[number_path(directory).as_bytes(), b"/", name.as_bytes()])?;
    // SAFETY: the descriptor is open, and the address is a valid one of the length given with it.
    answer_of(unsafe { libc::bind(socket.as_raw_fd(), address.pointer(), address.length) })?;
    give_back_mode(directory, name)?;
    Ok(UnixListener::from(socket))
}

/// Undoes what a strict umask has taken from our own user. Nobody else can have got anything on the way.
fn give_back_mode(directory: &File, name: &OsStr) -> io::Result<()> {
    let mode = Mode::RUSR | Mode::WUSR;
    let pinned: File =
        rustix::fs::openat(directory, name, OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC, Mode::empty())?.into();
    if Mode::from_raw_mode(rustix::fs::fstat(&pinned)?.st_mode) == mode {
        return Ok(());
    }
    // What is only pinned has no mode to be changed through its descriptor, but its path in `/proc` leads to it.
    Ok(rustix::fs::chmod(number_path(&pinned), mode)?)
}

/// Lets a bound socket listen.
///
/// # Errors
/// Those of the system.
pub fn listen(socket: &UnixListener) -> io::Result<()> {
    // SAFETY: the descriptor is open for as long as it is borrowed.
    answer_of(unsafe { libc::listen(socket.as_raw_fd(), libc::SOMAXCONN) })
}

/// Whether a process has a socket that is bound to this pinned inode.
///
/// # Errors
/// Those of the system, which prove nothing.
pub fn binding(pinned: &File) -> io::Result<Binding> {
    // The server's own type comes last: by then the question has an answer on every kernel that was tried.
    for kind in [libc::SOCK_SEQPACKET, libc::SOCK_DGRAM, libc::SOCK_STREAM] {
        let socket = new_socket(kind | libc::SOCK_NONBLOCK)?;
        match classified(connect_once(&socket, pinned))? {
            Reached::Refused => {}
            Reached::Denied => return Ok(Binding::Denied),
            Reached::Connected(()) | Reached::OtherType | Reached::Full => return Ok(Binding::Bound),
        }
    }
    Ok(Binding::Unbound)
}

/// Connects to a pinned socket, waiting at most so long for room in its backlog.
///
/// # Errors
/// Those of the system that say nothing about the server.
pub fn connect(pinned: &File, at_most: Duration) -> io::Result<Reached<UnixStream>> {
    let end = monotonic() + at_most;
    let socket = new_socket(libc::SOCK_STREAM)?;
    loop {
        limit_sending(&socket, end.saturating_sub(monotonic()))?;
        match connect_once(&socket, pinned) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            tried => return classified(tried).map(|reached| reached.with(UnixStream::from(socket))),
        }
    }
}

/// Who called `listen` on the socket that this connection leads to, as the kernel recorded it then.
///
/// # Errors
/// Those of the system.
pub fn peer(stream: &UnixStream) -> io::Result<Peer<Pinned>> {
    let mut credentials = libc::ucred { pid: 0, uid: 0, gid: 0 };
    option(stream, libc::SO_PEERCRED, &mut credentials)?;
    // Zero stands for a process that this pid namespace cannot see.
    let pid = u32::try_from(credentials.pid).ok().filter(|&pid| pid != 0);
    Ok(Peer { pid, uid: credentials.uid, process: pid.and_then(Pid::new).and_then(|pid| peer_process(stream, pid)) })
}

/// The peer's own pidfd (Linux 6.5), which no reuse of its number can make another's.
fn peer_process(stream: &UnixStream, pid: Pid) -> Option<Pinned> {
    const SO_PEERPIDFD: c_int = 77;
    let mut number: c_int = -1;
    option(stream, SO_PEERPIDFD, &mut number).ok()?;
    if number < 0 {
        return None;
    }
    // SAFETY: the kernel has just opened this descriptor for us, and nothing else knows its number.
    Some(Pinned::new(pid, unsafe { OwnedFd::from_raw_fd(number) }))
}

fn new_socket(kind: c_int) -> io::Result<OwnedFd> {
    // SAFETY: the call takes three integers.
    let number = unsafe { libc::socket(libc::AF_UNIX, kind | libc::SOCK_CLOEXEC, 0) };
    answer_of(number)?;
    // SAFETY: the kernel has just opened this descriptor for us, and nothing else knows its number.
    Ok(unsafe { OwnedFd::from_raw_fd(number) })
}

fn connect_once(socket: &OwnedFd, pinned: &File) -> io::Result<()> {
    let address = Address::of(&[number_path(pinned).as_bytes()])?;
    // SAFETY: the descriptor is open, and the address is a valid one of the length given with it.
    answer_of(unsafe { libc::connect(socket.as_raw_fd(), address.pointer(), address.length) })
}

fn classified(tried: io::Result<()>) -> io::Result<Reached<()>> {
    match tried {
        Ok(()) => Ok(Reached::Connected(())),
        Err(error) => match error.raw_os_error() {
            Some(libc::ECONNREFUSED) => Ok(Reached::Refused),
            Some(libc::EPROTOTYPE) => Ok(Reached::OtherType),
            Some(libc::EAGAIN) => Ok(Reached::Full),
            // EPERM: a datagram socket that is connected to somebody else, or a rule of the system.
            Some(libc::EACCES | libc::EPERM) => Ok(Reached::Denied),
            _ => Err(error),
        },
    }
}

/// Bounds how long a `connect` may wait. Zero would mean "for ever".
fn limit_sending(socket: &OwnedFd, at_most: Duration) -> io::Result<()> {
    let at_most = at_most.max(Duration::from_millis(1));
    let limit = libc::timeval {
        tv_sec: libc::time_t::try_from(at_most.as_secs()).unwrap_or(libc::time_t::MAX),
        tv_usec: libc::suseconds_t::from(at_most.subsec_micros()),
    };
    let length = length_of::<libc::timeval>();
    // SAFETY: the descriptor is open, and the value is a struct of the length given with it.
    answer_of(unsafe {
        libc::setsockopt(socket.as_raw_fd(), libc::SOL_SOCKET, libc::SO_SNDTIMEO, (&raw const limit).cast(), length)
    })
}

/// Reads an option of a socket into a plain C value.
fn option<T: Copy>(stream: &UnixStream, name: c_int, value: &mut T) -> io::Result<()> {
    let mut length = length_of::<T>();
    let number = stream.as_fd().as_raw_fd();
    // SAFETY: the descriptor is open; the kernel writes at most `length` bytes into a plain value of that size, which is
    // an integer or a struct of integers, so that every content is a valid one.
    answer_of(unsafe { libc::getsockopt(number, libc::SOL_SOCKET, name, (&raw mut *value).cast(), &raw mut length) })
}

fn answer_of(answer: c_int) -> io::Result<()> {
    if answer < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

#[expect(clippy::cast_possible_truncation, reason = "addresses and options are far shorter than this type can say")]
const fn length_of<T>() -> libc::socklen_t {
    size_of::<T>() as libc::socklen_t
}

/// The path that leads to an open file, whatever its own path is by now.
fn number_path(node: &File) -> String {
    format!("/proc/self/fd/{}", node.as_raw_fd())
}

/// The address of a socket in the file system.
struct Address {
    raw: libc::sockaddr_un,
    length: libc::socklen_t,
}

impl Address {
    fn of(parts: &[&[u8]]) -> io::Result<Self> {
        // SAFETY: the struct holds integers only, for which all bits zero is a valid value.
        let mut raw: libc::sockaddr_un = unsafe { std::mem::zeroed() };
        raw.sun_family = libc::sa_family_t::try_from(libc::AF_UNIX).map_err(io::Error::other)?;
        let path = parts.concat();
        // One byte stays for the final zero.
        if path.len() >= raw.sun_path.len() {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "the name is too long for a socket"));
        }
        for (to, from) in raw.sun_path.iter_mut().zip(&path) {
            *to = libc::c_char::from_ne_bytes([*from]);
        }
        let length = offset_of!(libc::sockaddr_un, sun_path) + path.len() + 1;
        Ok(Self { raw, length: libc::socklen_t::try_from(length).map_err(io::Error::other)? })
    }

    fn pointer(&self) -> *const libc::sockaddr {
        (&raw const self.raw).cast()
    }
}
