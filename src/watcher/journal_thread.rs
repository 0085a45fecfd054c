//! The recorder: the thread that writes wakes, so that a slow disk never stops the loop.
//!
//! Batches are written in the order in which they were handed over. Before each, the recorder asks whether this process
//! still is the holder: one who was evicted announces nothing more. What could not be written comes back, and the
//! loop decides whether its source will show it again or whether it has to be kept.

use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::JoinHandle;
use std::time::Duration;

use super::checkpoint::Seen;
use crate::base::wait_until::wait_until;
use crate::journal::Journal;
use crate::journal::record::{Draft, Wake};
use crate::lock::Ownership;
use crate::ownership::held_home::{Eviction, Holding};
use crate::system::World;

/// What the loop asks for.
#[derive(Debug)]
pub enum Request {
    /// Write these wakes.
    Record(Vec<Draft>),
    /// Write down what has been announced, and remove what nobody needs any more.
    Checkpoint(Box<Seen>),
}

/// What became of it.
#[derive(Debug)]
pub enum Report {
    /// These wakes are durable.
    Recorded(Vec<Wake>),
    /// These could not be written.
    Failed {
        /// What was to be written.
        drafts: Vec<Draft>,
        /// Why it was not.
        why: String,
    },
    /// The markers are on disk.
    Checkpointed,
    /// The markers could not be written; the journal still has them.
    NotCheckpointed(String),
    /// This process is no longer the holder; nothing was written.
    Evicted(Eviction),
}

/// The loop's end of the recorder.
#[derive(Debug)]
pub struct Recorder {
    requests: Option<Sender<Request>>,
    thread: Option<JoinHandle<()>>,
}

impl Recorder {
    /// Starts the thread.
    ///
    /// # Errors
    /// The system has no thread left.
    pub fn start<W: World>(
        world: Arc<W>,
        holding: Arc<Holding<W>>,
        journal: Journal<W>,
        report: impl Fn(Report) + Send + 'static,
    ) -> std::io::Result<Self> {
        let (requests, inbound) = channel();
        let mut desk = Desk { world, holding, journal, last_written: 0, saved: None };
        let thread =
            std::thread::Builder::new().name("recorder".to_owned()).spawn(move || desk.work(&inbound, &report))?;
        Ok(Self { requests: Some(requests), thread: Some(thread) })
    }

    /// Hands over a request. Its report comes later.
    pub fn ask(&self, request: Request) {
        // The thread ends only when this sender is dropped.
        if let Some(requests) = &self.requests
            && requests.send(request).is_err()
        {
            tracing::error!("the recorder has ended; nothing is written any more");
        }
    }

    /// Waits until everything handed over was dealt with, unless the disk or another process holds that up.
    pub fn finish(mut self) {
        const AT_MOST: Duration = Duration::from_millis(500);
        self.requests = None;
        let is_done = || self.thread.as_ref().is_none_or(JoinHandle::is_finished).then_some(());
        if wait_until(AT_MOST, Duration::from_millis(1), is_done).is_none() {
            tracing::warn!("leaving before everything was written; the next watcher will find it again");
        }
    }
}

struct Desk<W: World> {
    world: Arc<W>,
    holding: Arc<Holding<W>>,
    journal: Journal<W>,
    /// The number of the last wake that was written here.
    last_written: u64,
    /// The markers as they are on disk.
    saved: Option<Seen>,
}

impl<W: World> Desk<W> {
    fn work(&mut self, inbound: &Receiver<Request>, report: &dyn Fn(Report)) {
        for request in inbound {
            match self.holding.check() {
                Ok(Ownership::Held) => report(self.handle(request)),
                Ok(Ownership::Lost(eviction)) => report(Report::Evicted(eviction)),
                Err(error) => {
                    let why = format!("cannot make sure that this home is still held: {error}");
                    match request {
                        Request::Record(drafts) => report(Report::Failed { drafts, why }),
                        Request::Checkpoint(_) => report(Report::NotCheckpointed(why)),
                    }
                }
            }
        }
    }

    fn handle(&mut self, request: Request) -> Report {
        match request {
            Request::Record(drafts) => match self.journal.append(self.holding.owner().generation, &drafts) {
                Ok(wakes) => {
                    self.last_written = wakes.last().map_or(self.last_written, |wake| wake.seq);
                    Report::Recorded(wakes)
                }
                Err(error) => Report::Failed { drafts, why: error.to_string() },
            },
            Request::Checkpoint(seen) => match self.checkpoint(*seen) {
                Ok(()) => Report::Checkpointed,
                Err(why) => Report::NotCheckpointed(why),
            },
        }
    }

    fn checkpoint(&mut self, mut seen: Seen) -> Result<(), String> {
        // Only the holder announces, so if the markers know of the last wake written here, they know of all: what
        // others have added since carries none.
        if seen.through_seq >= self.last_written {
            let issued = self.journal.issued().map_err(|error| error.to_string())?;
            seen.through_seq = seen.through_seq.max(issued);
        }
        if self.saved.as_ref() != Some(&seen) {
            let saved = seen.save(self.world.as_ref(), self.holding.watch());
            saved.map_err(|error| format!("cannot write seen.json: {error}"))?;
            self.saved = Some(seen.clone());
        }
        let compacted = self.journal.compact(seen.through_seq).map_err(|error| error.to_string())?;
        for damaged in &compacted.set_aside {
            tracing::error!("damaged bytes of the journal were set aside in {damaged}");
        }
        Ok(())
    }
}
