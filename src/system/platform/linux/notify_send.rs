//! The way to a service manager, as `sd_notify(3)` describes it, on Linux: a datagram socket in the file system or, with
//! an `@` in front of its name, in the abstract namespace.
//!
//! A message is sent without waiting, unless the caller has nothing else to do. A manager that does not read (it is being
//! replaced, or its queue is full) must never hold up whoever speaks to it: the message is lost and the caller hears so.
//! The crate `sd-notify` waits in that case, and reads the variable from this process's environment, which is an input here;
//! so these lines are our own.

use std::io;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::path::Path;
use std::time::Duration;

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
