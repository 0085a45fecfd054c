//! Leaving a server without harm.
//!
//! A server may greet whoever connects, and many die of writing to a connection that is gone: by `SIGPIPE`, or by an
//! error that nobody has thought of. So who only wanted to know whether a server is there says that it has nothing to say
//! (it closes its own direction, at which a server that reads sees the end), and then keeps the connection until the server
//! has closed it, or a time or an amount is over.
//!
//! Limits: a server that takes longer than that to write its greeting still writes to nobody.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use crate::system::handle::{AsHandle, HandleRef};
use crate::system::{Real, Sockets};

/// How long dropping one waits for the server at most.
const PATIENCE: Duration = Duration::from_millis(50);
/// How many bytes of a server are heard out.
const HEARD_OUT: usize = 64 * 1024;

/// A connection that waits for its server to close it. Dropping it waits for that, a short time at most.
#[derive(Debug)]
pub struct Farewell<W: Sockets> {
    world: Arc<W>,
    connection: W::Connection,
    unheard: usize,
    patience: Duration,
}

/// Whether the server is done with a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Parting {
    /// It is, or nothing more is heard of it.
    Over,
    /// It may still write.
    NotYet,
}

impl<W: Sockets> Farewell<W> {
    /// Says that nothing more comes from this side.
    pub(super) fn begin(world: &Arc<W>, connection: W::Connection) -> Self {
        // It fails if the server has closed the connection already.
        let _closed = world.finish(&connection);
        Self { world: Arc::clone(world), connection, unheard: HEARD_OUT, patience: PATIENCE }
    }

    /// Reads what there is, waiting at most so long for it.
    pub fn listen(&mut self, at_most: Duration) -> Parting {
        let mut buffer = [0; 4096];
        match self.world.receive(&self.connection, &mut buffer, at_most) {
            Ok(0) => Parting::Over,
            Ok(heard) => {
                self.unheard = self.unheard.saturating_sub(heard);
                if self.unheard == 0 { Parting::Over } else { Parting::NotYet }
            }
            Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted) => {
                Parting::NotYet
            }
            Err(_) => Parting::Over,
        }
    }

    /// Ends it now.
    pub fn end(mut self) {
        self.patience = Duration::ZERO;
    }
}

impl<W: Sockets> Drop for Farewell<W> {
    fn drop(&mut self) {
        let end = self.world.now().monotonic + self.patience;
        let mut left = self.patience;
        while !left.is_zero() && self.listen(left) == Parting::NotYet {
            left = end.saturating_sub(self.world.now().monotonic);
        }
    }
}

impl AsHandle for Farewell<Real> {
    fn as_handle(&self) -> HandleRef<'_> {
        self.connection.as_handle()
    }
}
