//! What is said on a connection to a server: a question, what counts as its answer, and an end without harm.
//!
//! A server may send its answer in pieces, too slowly, too much, or for ever: no more is read than the answer needs, and
//! all of it has one deadline.
//!
//! A server may also greet whoever connects, and many die of writing to a connection that is gone: by `SIGPIPE`, or by
//! an error that nobody has thought of. So who only wanted to know whether a server is there says that it has nothing to
//! say (it closes its own direction, at which a server that reads sees the end), and then keeps the connection until the
//! server has closed it, or a time or an amount is over.
//!
//! Limits: a server that takes longer than that to write its greeting still writes to nobody.

use std::fmt;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use crate::system::handle::{AsHandle, HandleRef};
use crate::system::{Real, Sockets};

/// What an answer, or its beginning, is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reply {
    /// More of it is needed to say.
    Unfinished,
    /// It is the answer of the server that was meant.
    Right,
    /// It is not, and no more of it will change that.
    Wrong,
}

/// What came of asking.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Asked {
    /// Nothing was asked.
    Nothing,
    /// The right answer came.
    Right,
    /// Another answer came.
    Wrong,
    /// The answer was not complete by the deadline.
    Late,
    /// The connection ended before the answer was complete.
    HungUp,
}

/// What all bytes of an answer so far come to.
type Judge<'a> = dyn Fn(&[u8]) -> Reply + 'a;

/// What is sent to a server, and how its answer is judged.
pub struct Question<'a> {
    request: &'a [u8],
    limit: usize,
    judge: Box<Judge<'a>>,
}

impl fmt::Debug for Question<'_> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        // A request may hold a secret.
        formatter.debug_struct("Question").field("limit", &self.limit).finish_non_exhaustive()
    }
}

impl<'a> Question<'a> {
    /// A request to which the answer begins with these bytes.
    pub fn expecting(request: &'a [u8], answer: &'a [u8]) -> Self {
        Self::judged_by(request, answer.len(), move |come| compared(come, answer))
    }

    /// A request whose answer is judged by a function of all its bytes so far. An answer that is still unfinished
    /// after `limit` bytes is a wrong one.
    pub fn judged_by(request: &'a [u8], limit: usize, judge: impl Fn(&[u8]) -> Reply + 'a) -> Self {
        Self { request, limit, judge: Box::new(judge) }
    }
}

fn compared(come: &[u8], answer: &[u8]) -> Reply {
    match answer.strip_prefix(come) {
        Some([]) => Reply::Right,
        Some(_) => Reply::Unfinished,
        None => Reply::Wrong,
    }
}

/// Sends the request and reads the answer until it can be judged or the clock (`CLOCK_MONOTONIC`) shows `end`.
///
/// # Errors
/// Those of the system that are neither "too late" nor "hung up".
pub(super) fn ask<W: Sockets>(
    world: &W,
    connection: &W::Connection,
    question: &Question<'_>,
    end: Duration,
) -> io::Result<Asked> {
    match send_all(world, connection, question.request, end) {
        Ok(()) => {}
        // It may have answered before it closed its end, so what it said is read all the same.
        Err(error) if is_hang_up(&error) => {}
        Err(error) => return ended(error),
    }
    let mut come = Vec::new();
    loop {
        match (question.judge)(&come) {
            Reply::Right => return Ok(Asked::Right),
            Reply::Wrong => return Ok(Asked::Wrong),
            Reply::Unfinished if come.len() >= question.limit => return Ok(Asked::Wrong),
            Reply::Unfinished => {}
        }
        match receive_some(world, connection, question.limit - come.len(), end) {
            Ok(more) if more.is_empty() => return Ok(Asked::HungUp),
            Ok(more) => come.extend(more),
            Err(error) => return ended(error),
        }
    }
}

fn send_all<W: Sockets>(world: &W, connection: &W::Connection, mut bytes: &[u8], end: Duration) -> io::Result<()> {
    while !bytes.is_empty() {
        let sent = in_time(world, end, |left| world.send(connection, bytes, left))?;
        bytes = bytes.get(sent..).unwrap_or_default();
    }
    Ok(())
}

fn receive_some<W: Sockets>(
    world: &W,
    connection: &W::Connection,
    at_most: usize,
    end: Duration,
) -> io::Result<Vec<u8>> {
    let mut buffer = vec![0; at_most.min(4096)];
    let taken = in_time(world, end, |left| world.receive(connection, &mut buffer, left))?;
    buffer.truncate(taken);
    Ok(buffer)
}

/// Calls with what is left of the time, again after an interruption, and not at all when nothing is left.
fn in_time<W: Sockets>(
    world: &W,
    end: Duration,
    mut call: impl FnMut(Duration) -> io::Result<usize>,
) -> io::Result<usize> {
    loop {
        let left = end.saturating_sub(world.now().monotonic);
        if left.is_zero() {
            return Err(io::ErrorKind::TimedOut.into());
        }
        match call(left) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            done => return done,
        }
    }
}

fn ended(error: io::Error) -> io::Result<Asked> {
    match error.kind() {
        io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut => Ok(Asked::Late),
        _ if is_hang_up(&error) => Ok(Asked::HungUp),
        _ => Err(error),
    }
}

fn is_hang_up(error: &io::Error) -> bool {
    use io::ErrorKind::{BrokenPipe, ConnectionReset, NotConnected};
    matches!(error.kind(), BrokenPipe | ConnectionReset | NotConnected)
}

/// How long dropping one waits for the server at most.
const PATIENCE: Duration = Duration::from_millis(50);
/// How many bytes of a server are heard out.
const HEARD_OUT: usize = 64 * 1024;

/// A connection that waits for its server to close it. Dropping it waits for that, a short time at most.
#[derive(Debug)]
pub struct LingeringClose<W: Sockets> {
    world: Arc<W>,
    connection: W::Connection,
    unheard: usize,
    patience: Duration,
}

/// Whether the server is done with a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Closing {
    /// It is, or nothing more is heard of it.
    Over,
    /// It may still write.
    NotYet,
}

impl<W: Sockets> LingeringClose<W> {
    /// Says that nothing more comes from this side.
    pub(super) fn begin(world: &Arc<W>, connection: W::Connection) -> Self {
        // It fails if the server has closed the connection already.
        let _closed = world.finish(&connection);
        Self { world: Arc::clone(world), connection, unheard: HEARD_OUT, patience: PATIENCE }
    }

    /// Reads what there is, waiting at most so long for it.
    pub fn listen(&mut self, at_most: Duration) -> Closing {
        let mut buffer = [0; 4096];
        match self.world.receive(&self.connection, &mut buffer, at_most) {
            Ok(0) => Closing::Over,
            Ok(heard) => {
                self.unheard = self.unheard.saturating_sub(heard);
                if self.unheard == 0 { Closing::Over } else { Closing::NotYet }
            }
            Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted) => {
                Closing::NotYet
            }
            Err(_) => Closing::Over,
        }
    }

    /// Ends it now.
    pub fn end(mut self) {
        self.patience = Duration::ZERO;
    }
}

impl<W: Sockets> Drop for LingeringClose<W> {
    fn drop(&mut self) {
        let end = self.world.now().monotonic + self.patience;
        let mut left = self.patience;
        while !left.is_zero() && self.listen(left) == Closing::NotYet {
            left = end.saturating_sub(self.world.now().monotonic);
        }
    }
}

impl AsHandle for LingeringClose<Real> {
    fn as_handle(&self) -> HandleRef<'_> {
        self.connection.as_handle()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_is_judged_as_it_comes() {
        assert_eq!(compared(b"", b"pong"), Reply::Unfinished);
        assert_eq!(compared(b"po", b"pong"), Reply::Unfinished);
        assert_eq!(compared(b"pong", b"pong"), Reply::Right);
        assert_eq!(compared(b"pa", b"pong"), Reply::Wrong);
        assert_eq!(compared(b"pongs", b"pong"), Reply::Wrong);
        assert_eq!(compared(b"", b""), Reply::Right);
    }

    #[test]
    fn a_question_does_not_show_its_request() {
        assert!(!format!("{:?}", Question::expecting(b"secret", b"x")).contains("secret"));
    }
}
