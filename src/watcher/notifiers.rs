//! Programs that are told about wakes, each in a thread of its own, so that a slow one delays nobody.
//!
//! While a program runs, new wakes for it gather and go out together when it is done. It fails open: what a program
//! could not be told is in the journal all the same.

use std::ffi::OsString;
use std::path::PathBuf;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::JoinHandle;
use std::time::Duration;

use thiserror::Error;

use super::degradations::Condition;
use crate::base::error::Error as Failure;
use crate::base::wait_until::wait_until;
use crate::journal::record::{Delivery, Wake};
use crate::journal::render;
use crate::layout::paths::Home;
use crate::settings::{Notify, Settings, check_program};
use crate::system::bounded_command::{self, Ending, Plan};

/// The most wakes that wait for one program; of more, the oldest are in the journal only.
const AT_MOST: usize = 1000;
/// How much of a program's complaints is reported, in bytes.
const COMPLAINT_LIMIT: usize = 1024;
/// How long leaving waits for programs that were killed.
const STOP_WITHIN: Duration = Duration::from_secs(1);

/// All programs of the settings.
#[derive(Debug)]
pub struct Notifiers {
    programs: Vec<(Notify, Sender<Vec<Wake>>)>,
    threads: Vec<JoinHandle<()>>,
    cancelled: Arc<AtomicBool>,
}

/// One program, and all that it needs to run.
struct Program {
    argv: Vec<String>,
    timeout: Duration,
    home: PathBuf,
    environment: Vec<(String, OsString)>,
    cancelled: Arc<AtomicBool>,
}

/// Why a program was not told.
#[derive(Debug, Error)]
enum Untold {
    #[error("no program is named")]
    Unnamed,
    #[error(transparent)]
    Unusable(#[from] Failure),
    #[error(transparent)]
    Unwritable(#[from] serde_json::Error),
    #[error(transparent)]
    NotRun(#[from] std::io::Error),
    #[error("exit code {code}: {complaint}")]
    Exited { code: i32, complaint: String },
    #[error("ended by a signal: {complaint}")]
    Signalled { complaint: String },
    #[error("killed after {0:?}")]
    TimedOut(Duration),
}

impl Notifiers {
    /// Starts a thread for each program. `report` hears how each run went.
    ///
    /// # Errors
    /// The system has no thread left.
    pub fn start(
        settings: &Settings,
        home: &Home,
        environment: &[(String, OsString)],
        report: impl Fn(Condition) + Clone + Send + 'static,
    ) -> std::io::Result<Self> {
        let mut all = Self { programs: Vec::new(), threads: Vec::new(), cancelled: Arc::default() };
        for notify in &settings.notify {
            let (sender, batches) = channel();
            let program = Program {
                argv: notify.exec.clone(),
                timeout: settings.timeout_of(notify),
                home: home.root().to_owned(),
                environment: environment.to_vec(),
                cancelled: Arc::clone(&all.cancelled),
            };
            let report = report.clone();
            let thread = std::thread::Builder::new().name("notifier".to_owned()).spawn(move || {
                while let Some(wakes) = next_batch(&batches) {
                    let name = notifier_name(&program.argv);
                    let outcome = program.tell(&wakes);
                    report(Condition::of(outcome.map_err(|error| format!("notifier {name}: {error}"))));
                }
            })?;
            all.threads.push(thread);
            all.programs.push((notify.clone(), sender));
        }
        Ok(all)
    }

    /// Hands over what was recorded.
    pub fn tell(&self, wakes: &[Wake]) {
        for (program, sender) in &self.programs {
            let wanted = |wake: &&Wake| wake.delivery != Delivery::Never && program.wants(&wake.kind);
            let batch: Vec<Wake> = wakes.iter().filter(wanted).cloned().collect();
            if !batch.is_empty() && sender.send(batch).is_err() {
                tracing::error!("a notifier has ended");
            }
        }
    }

    /// Kills what runs.
    pub fn cancel(&self) {
        self.cancelled.store(true, Ordering::Release);
    }

    /// Kills what runs, and waits a moment for the killed to be reaped.
    pub fn stop(&mut self) {
        self.programs.clear();
        self.cancel();
        let all_ended = || self.threads.iter().all(JoinHandle::is_finished).then_some(());
        // Whoever cannot be killed now is left to the kernel.
        let _some_may_be_left = wait_until(STOP_WITHIN, Duration::from_millis(5), all_ended);
    }
}

impl Drop for Notifiers {
    fn drop(&mut self) {
        self.cancel();
    }
}

impl Program {
    fn tell(&self, wakes: &[Wake]) -> Result<(), Untold> {
        let (name, arguments) = self.argv.split_first().ok_or(Untold::Unnamed)?;
        check_program(name.as_ref())?;
        let all: Vec<&Wake> = wakes.iter().collect();
        let document = render::batch_document(&self.home.to_string_lossy(), &all)?;
        let mut command = Command::new(name);
        command.args(arguments).env_clear().envs(self.environment.iter().cloned()).current_dir(&self.home);
        let plan = Plan {
            command,
            input: document.into_bytes(),
            deadline: self.timeout,
            stdout_limit: 0,
            stderr_limit: COMPLAINT_LIMIT,
        };
        let outcome = bounded_command::run(plan, &self.cancelled)?;
        let complaint = String::from_utf8_lossy(&outcome.stderr).trim().to_owned();
        match outcome.ending {
            Ending::Exited(0) | Ending::Cancelled => Ok(()),
            Ending::Exited(code) => Err(Untold::Exited { code, complaint }),
            Ending::Signalled => Err(Untold::Signalled { complaint }),
            Ending::TimedOut => Err(Untold::TimedOut(self.timeout)),
        }
    }
}

fn notifier_name(argv: &[String]) -> &str {
    argv.first().map_or("without a program", String::as_str)
}

/// Everything that waits; `None` when no more will come.
fn next_batch(batches: &Receiver<Vec<Wake>>) -> Option<Vec<Wake>> {
    let mut wakes = batches.recv().ok()?;
    wakes.extend(batches.try_iter().flatten());
    let surplus = wakes.len().saturating_sub(AT_MOST);
    wakes.drain(..surplus);
    Some(wakes)
}
