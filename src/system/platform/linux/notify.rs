//! Both ends of `sd_notify(3)` on Linux.
//!
//! # The receiving end
//!
//! The socket on which a daemon says that it is ready is a datagram socket with a name in the abstract namespace,
//! made of bytes that nobody can guess: it has no file that could stay behind and no path that could be too long. The
//! kernel adds to each datagram who sent it, which the sender cannot forge unless it is privileged; the receiver
//! decides whether that is one of the daemon's processes.
//!
//! Descriptors that come with a message (`FDSTORE=1`, `BARRIER=1`) are closed unread, which is what a barrier waits for.
//!
//! Limits: the abstract namespace belongs to a network namespace, so a daemon that is started into another one cannot reach
//! it. A sender that has ended before its datagram was read is nobody's any more.
//!
//! # The sending end
//!
//! The way to a service manager is a datagram socket in the file system or, with
//! an `@` in front of its name, in the abstract namespace.
//!
//! A message is sent without waiting, unless the caller has nothing else to do. A manager that does not read (it is
//! being replaced, or its queue is full) must never hold up whoever speaks to it: the message is lost and the caller
//! hears so. The crate `sd-notify` waits in that case, and reads the variable from this process's environment, which
//! is an input here; so these lines are our own.

#![expect(unsafe_code, reason = "credentials of a datagram are not covered by the safe library")]

use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::path::Path;
use std::time::Duration;
use std::{io, mem};

/// The receiving end.
#[derive(Debug)]
pub struct NotifySocket {
    socket: UnixDatagram,
    name: String,
}

/// One message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Notice {
    /// The process that sent it.
    pub pid: u32,
    /// The user it acted as.
    pub uid: u32,
    /// What it said: lines of the form `NAME=VALUE`.
    pub text: Vec<u8>,
}

/// The longest message that is understood, in bytes; what is beyond is cut off.
const LONGEST: usize = 4096;

impl NotifySocket {
    /// Makes a socket of this name, which must be unguessable.
    ///
    /// # Errors
    /// Those of the system.
    pub fn bind(name: &str) -> io::Result<Self> {
        let socket = UnixDatagram::bind_addr(&SocketAddr::from_abstract_name(name)?)?;
        socket.set_nonblocking(true)?;
        let on: libc::c_int = 1;
        let size = libc::socklen_t::try_from(mem::size_of_val(&on)).map_err(io::Error::other)?;
        // SAFETY: the descriptor is open, and the value is an integer of the size given with it.
        let answer = unsafe {
            libc::setsockopt(socket.as_raw_fd(), libc::SOL_SOCKET, libc::SO_PASSCRED, (&raw const on).cast(), size)
        };
        if answer == -1 { Err(io::Error::last_os_error()) } else { Ok(Self { socket, name: name.to_owned() }) }
    }

    /// What `NOTIFY_SOCKET` has to be.
    pub fn variable(&self) -> String {
        format!("@{}", self.name)
    }

    /// The next message that has come, if one has. One without its sender is left out.
    ///
    /// # Errors
    /// Those of the system.
    pub fn next(&self) -> io::Result<Option<Notice>> {
        loop {
            match self.receive() {
                Ok(Some(notice)) => return Ok(Some(notice)),
                Ok(None) => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(None),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
    }

    fn receive(&self) -> io::Result<Option<Notice>> {
        /// Room for credentials and no more, aligned as the kernel's structs are: descriptors do not fit and are closed.
        #[repr(align(8))]
        struct Control([u8; 64]);
        let mut text = vec![0_u8; LONGEST];
        let mut control = Control([0; 64]);
        let mut part = libc::iovec { iov_base: text.as_mut_ptr().cast(), iov_len: text.len() };
        // SAFETY: the struct is plain data for which all bits zero is valid; it is then told of buffers that outlive the
        // call, with their sizes, and the kernel writes into no others.
        let (taken, credentials) = unsafe {
            let mut message: libc::msghdr = mem::zeroed();
            message.msg_iov = &raw mut part;
            message.msg_iovlen = 1;
            message.msg_control = control.0.as_mut_ptr().cast();
            message.msg_controllen = libc::CMSG_SPACE(credentials_size()) as usize;
            let taken = libc::recvmsg(self.socket.as_raw_fd(), &raw mut message, libc::MSG_CMSG_CLOEXEC);
            (taken, if taken < 0 { None } else { sender(&message) })
        };
        let taken = usize::try_from(taken).map_err(|_| io::Error::last_os_error())?;
        text.truncate(taken);
        Ok(credentials.and_then(|sender| {
            Some(Notice { pid: u32::try_from(sender.pid).ok().filter(|&pid| pid > 0)?, uid: sender.uid, text })
        }))
    }
}

impl AsFd for NotifySocket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

#[expect(clippy::cast_possible_truncation, reason = "three integers")]
const fn credentials_size() -> libc::c_uint {
    mem::size_of::<libc::ucred>() as libc::c_uint
}

/// The credentials in the control data of a message.
///
/// # Safety
/// The message must be one that `recvmsg` has filled in, and its buffers must still be there.
unsafe fn sender(message: &libc::msghdr) -> Option<libc::ucred> {
    // SAFETY: the C library's macros stay within the control data whose length the kernel has set. Descriptors that came
    // along did not fit; should one have, it comes after the credentials, which are the first.
    unsafe {
        let header = libc::CMSG_FIRSTHDR(message);
        if header.is_null() {
            return None;
        }
        let is_it = (*header).cmsg_level == libc::SOL_SOCKET && (*header).cmsg_type == libc::SCM_CREDENTIALS;
        is_it.then(|| std::ptr::read_unaligned(libc::CMSG_DATA(header).cast()))
    }
}

/// The way to a service manager.
#[derive(Debug)]
pub struct NotifySender {
    socket: UnixDatagram,
    address: SocketAddr,
}

impl NotifySender {
    /// The ear that `NOTIFY_SOCKET` names.
    ///
    /// # Errors
    /// Those of the system, and a name that is neither an absolute path nor an abstract one.
    pub fn at(name: &Path) -> io::Result<Self> {
        let address = match name.as_os_str().as_bytes() {
            [b'/', ..] => SocketAddr::from_pathname(name)?,
            [b'@', hidden @ ..] => SocketAddr::from_abstract_name(hidden)?,
            _ => {
                return Err(io::Error::new(
                    io::ErrorKind::InvalidInput,
                    "neither an absolute path nor an abstract name",
                ));
            }
        };
        let socket = UnixDatagram::unbound()?;
        socket.set_nonblocking(true)?;
        Ok(Self { socket, address })
    }

    /// Sends one message: lines of the form `NAME=VALUE`.
    ///
    /// # Errors
    /// Nobody listens, or the listener's queue is full.
    pub fn tell(&self, text: &str) -> io::Result<()> {
        self.socket.send_to_addr(text.as_bytes(), &self.address).map(drop)
    }

    /// Sends one message, and waits until there is room for it, at most so long (which must not be zero).
    ///
    /// # Errors
    /// As [`NotifySender::tell`].
    pub fn tell_within(&self, text: &str, at_most: Duration) -> io::Result<()> {
        self.socket.set_write_timeout(Some(at_most))?;
        self.socket.set_nonblocking(false)?;
        let told = self.tell(text);
        self.socket.set_nonblocking(true)?;
        told
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_comes_with_its_sender() {
        let name = format!("fm-watch-test-{}-notify", std::process::id());
        let socket = NotifySocket::bind(&name).unwrap();
        assert_eq!(socket.variable(), format!("@{name}"));
        assert_eq!(socket.next().unwrap(), None);
        let sender = UnixDatagram::unbound().unwrap();
        let address = SocketAddr::from_abstract_name(&name).unwrap();
        sender.send_to_addr(b"READY=1\n", &address).unwrap();
        let notice = socket.next().unwrap().unwrap();
        assert_eq!((notice.pid, notice.text.as_slice()), (std::process::id(), b"READY=1\n".as_slice()));
        assert_eq!(notice.uid, crate::system::platform::effective_uid());
    }
}
