//! The beacon: `beat.json`, written beside the loop.
//!
//! The loop itself publishes its beat in the kernel, which cannot block, and hands the record for people over to this
//! thread. A record that comes while the last one is still being written takes its place in the queue of one: a stalled
//! disk makes the file old, never the loop late.

use std::sync::Arc;
use std::sync::mpsc::{SyncSender, TrySendError, sync_channel};
use std::thread::JoinHandle;
use std::time::Duration;

use crate::base::wait_until::wait_until;
use crate::lock::Ownership;
use crate::ownership::beat::Beat;
use crate::ownership::held_home::Holding;
use crate::system::World;

/// The loop's end of the beacon.
#[derive(Debug)]
pub struct Beacon {
    records: Option<SyncSender<Beat>>,
    thread: JoinHandle<()>,
}

impl Beacon {
    /// Starts the thread. `report` hears of each failure, and of the first success after one.
    ///
    /// # Errors
    /// The system has no thread left.
    pub fn start<W: World>(
        holding: Arc<Holding<W>>,
        report: impl Fn(Result<(), String>) + Send + 'static,
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
                        report(Ok(()));
                    }
                    Err(error) => {
                        is_failing = true;
                        report(Err(format!("cannot write beacon: {error}")));
                    }
                }
            }
        })?;
        Ok(Self { records: Some(records), thread })
    }

    /// Ends the thread, unless the disk holds it up: then it ends with the process.
    pub fn finish(mut self) {
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
