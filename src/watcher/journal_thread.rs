//! The threads that write for the loop, so that a slow disk never stops it: one for the journal, one for `beat.json`.
//!
//! Batches of wakes are written in the order in which they were handed over. Before each, the thread asks whether this
//! process still is the holder: one who was evicted announces nothing more. What could not be written comes back, and
//! its source says whether it will show it again or whether it has to be kept.
//!
//! The loop itself publishes its beat in the kernel, which cannot block, and hands the record for people over to the
//! [`BeatWriter`]. A record that comes while the last one is still being written takes its place in a queue of one: a
//! stalled disk makes the file old, never the loop late.

use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, SyncSender, TrySendError, channel, sync_channel};
use std::thread::JoinHandle;
use std::time::Duration;

use super::checkpoint::Seen;
use super::degradations::Condition;
use crate::base::error::{Context, Result};
use crate::base::wait_until::wait_until;
use crate::journal::Journal;
use crate::journal::record::{Draft, Wake};
use crate::layout::paths::names;
use crate::lock::Ownership;
use crate::ownership::held_home::{Eviction, Holding};
use crate::ownership::records::Beat;
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

/// The loop's end of the journal thread.
#[derive(Debug)]
pub struct JournalThread {
    requests: Option<Sender<Request>>,
    thread: Option<JoinHandle<()>>,
}

impl JournalThread {
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
        let mut worker = Worker { world, holding, journal, last_written: 0, saved: None };
        let thread =
            std::thread::Builder::new().name("recorder".to_owned()).spawn(move || worker.work(&inbound, &report))?;
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
    pub fn finish(&mut self) {
        const AT_MOST: Duration = Duration::from_millis(500);
        self.requests = None;
        let is_done = || self.thread.as_ref().is_none_or(JoinHandle::is_finished).then_some(());
        if wait_until(AT_MOST, Duration::from_millis(1), is_done).is_none() {
            tracing::warn!("leaving before everything was written; the next watcher will find it again");
        }
    }
}

struct Worker<W: World> {
    world: Arc<W>,
    holding: Arc<Holding<W>>,
    journal: Journal<W>,
    /// The number of the last wake that was written here.
    last_written: u64,
    /// The markers as they are on disk.
    saved: Option<Seen>,
}

impl<W: World> Worker<W> {
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
                    for damage in self.journal.take_damage() {
                        tracing::error!("{damage}");
                    }
                    Report::Recorded(wakes)
                }
                Err(error) => Report::Failed { drafts, why: error.to_string() },
            },
            Request::Checkpoint(seen) => match self.checkpoint(*seen) {
                Ok(()) => Report::Checkpointed,
                Err(error) => Report::NotCheckpointed(error.to_string()),
            },
        }
    }

    fn checkpoint(&mut self, mut seen: Seen) -> Result<()> {
        // Only the holder announces, so if the markers know of the last wake written here, they know of all: what
        // others have added since carries none.
        if seen.through_seq >= self.last_written {
            seen.through_seq = seen.through_seq.max(self.journal.issued()?);
        }
        if self.saved.as_ref() != Some(&seen) {
            seen.save(self.world.as_ref(), self.holding.watch()).doing("write", names::SEEN)?;
            self.saved = Some(seen.clone());
        }
        let compacted = self.journal.compact(seen.through_seq)?;
        for damaged in &compacted.set_aside {
            tracing::error!("damaged bytes of the journal were set aside in {damaged}");
        }
        Ok(())
    }
}

/// The loop's end of the thread that writes `beat.json`.
#[derive(Debug)]
pub struct BeatWriter {
    records: Option<SyncSender<Beat>>,
    thread: JoinHandle<()>,
}

impl BeatWriter {
    /// Starts the thread. `report` hears of each failure, and of the first success after one.
    ///
    /// # Errors
    /// The system has no thread left.
    pub fn start<W: World>(
        holding: Arc<Holding<W>>,
        report: impl Fn(Condition) + Send + 'static,
    ) -> std::io::Result<Self> {
        let (records, inbound) = sync_channel::<Beat>(1);
        let thread = std::thread::Builder::new().name("beacon".to_owned()).spawn(move || {
            let mut is_failing = false;
            for beat in inbound {
                // One who was evicted must not touch the survivor's beacon.
                if !matches!(holding.check(), Ok(Ownership::Held)) {
                    continue;
                }
                match holding.write_beat(&beat) {
                    Ok(()) if !is_failing => {}
                    Ok(()) => {
                        is_failing = false;
                        report(Condition::Works);
                    }
                    Err(error) => {
                        is_failing = true;
                        report(Condition::Impaired(format!("cannot write beacon: {error}")));
                    }
                }
            }
        })?;
        Ok(Self { records: Some(records), thread })
    }

    /// Ends the thread, unless the disk holds it up: then it ends with the process.
    pub fn finish(&mut self) {
        const AT_MOST: Duration = Duration::from_millis(200);
        self.records = None;
        let ended = || self.thread.is_finished().then_some(());
        let _in_time = wait_until(AT_MOST, Duration::from_millis(1), ended);
    }

    /// Hands over the record of a beat.
    pub fn write(&self, beat: Beat) {
        let Some(records) = &self.records else { return };
        match records.try_send(beat) {
            Ok(()) | Err(TrySendError::Full(_)) => {}
            Err(TrySendError::Disconnected(_)) => tracing::error!("the beacon has ended; beat.json grows old"),
        }
    }
}
