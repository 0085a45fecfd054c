//! `storm`: many processes contend for one lock, and the table says whether it excludes.

use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use serde_json::json;

use crate::base::console::{Console, Format, Note};
use crate::base::environment::Environment;
use crate::base::error::{Context, Error, Result};
use crate::base::exit;
use crate::cli::args;
use crate::storm::coordinator;
use crate::storm::plan::Plan;
use crate::storm::plan::Protocol;
use crate::storm::report;
use crate::storm::self_test::{self, Finding, measure};
use crate::storm::summary::{Progress, Summary, Verdict};
use crate::storm::temp_dir::{Left, TempDir};
use crate::storm::worker::{Assignment, work};
use crate::system::platform;
use crate::system::requests::{self, Cause};

/// How long nobody may get the lock before a storm has failed, unless `--patience` says otherwise.
const PATIENCE: Duration = Duration::from_secs(30);
/// Before a storm the self-test may take longer than when a person asks for it: nothing depends on a fast answer, and a
/// busy machine must not be taken for a hanging file system.
const SELF_TEST_BEFORE: Duration = Duration::from_secs(5);

/// Makes storms, one kind after the other, or tests the file system.
///
/// # Errors
/// No directory to work in, options that make no sense, and nobody who reads.
pub fn storm(console: Console, options: &args::Storm) -> Result<u8> {
    let directory = directory(options)?;
    if options.self_test {
        let at_most = options.patience.unwrap_or(self_test::AT_MOST);
        return tell_finding(console, &measure(&platform::own_program(), &directory, at_most));
    }
    let plan = plan(options)?;
    let protocols = if options.kind.is_empty() { Protocol::promising() } else { options.kind.clone() };
    let signal = Signal::listen()?;
    // Before anything of this process touches the file system: it may be one on which calls hang.
    let finding = measure(&plan.program, &directory, SELF_TEST_BEFORE);
    if finding.is_out_of_order() {
        return Err(Error::Failed(finding.to_string()));
    }
    let mut temporary = TempDir::make(&directory)?;
    let mut summaries = Vec::new();
    for protocol in protocols {
        if signal.code().is_some() {
            break;
        }
        summaries.push(one(console, &plan, protocol, &finding, &temporary, &signal)?);
    }
    let has_failed = summaries.iter().any(|summary| summary.verdict.is_failure());
    if has_failed {
        temporary.keep();
    }
    let left = temporary.leave();
    tell(console, &plan, &summaries, left.as_ref())?;
    Ok(signal.code().filter(|_| !has_failed).unwrap_or(if has_failed { exit::FAILED } else { exit::OK }))
}

/// Is a worker.
///
/// # Errors
/// Those of the lock.
pub fn worker(options: &args::StormWorker) -> Result<u8> {
    let args::StormWorker { kind, rounds, seed, silence, path } = options;
    work(&Assignment { protocol: *kind, path: path.clone(), rounds: *rounds, seed: *seed, silence: *silence })?;
    Ok(exit::OK)
}

/// Is a process of a self-test.
///
/// # Errors
/// Nobody listens.
pub fn probe(options: &args::StormProbe) -> Result<u8> {
    crate::storm::lock_process::serve(&options.directory, &options.name)?;
    Ok(exit::OK)
}

/// Where the storm is made. Nothing there is touched yet.
fn directory(options: &args::Storm) -> Result<PathBuf> {
    let given = options.dir.clone();
    let directory = given.or_else(|| Environment::of_this_process().path("TMPDIR")).unwrap_or_else(|| "/tmp".into());
    std::path::absolute(&directory).doing("find", &directory)
}

fn plan(options: &args::Storm) -> Result<Plan> {
    if options.kill == Some(Duration::ZERO) {
        return Err(Error::Usage("--kill: the interval must be longer than nothing".to_owned()));
    }
    let seed = match options.seed {
        Some(seed) => seed,
        None => u64::from_le_bytes(std::array::from_fn({
            let nonce = platform::nonce().doing("read", Path::new("random bytes"))?;
            move |index| nonce[index]
        })),
    };
    Ok(Plan {
        workers: options.workers,
        rounds: options.rounds,
        kill_interval: options.kill,
        peer: options.peer.clone(),
        seed,
        patience: options.patience.unwrap_or(PATIENCE),
        program: platform::own_program(),
    })
}

/// One storm in a directory of its own.
fn one(
    console: Console,
    plan: &Plan,
    protocol: Protocol,
    finding: &Finding,
    temporary: &TempDir,
    signal: &Signal,
) -> Result<Summary> {
    if protocol.stands_on_kernel_locks() && finding.verdict != self_test::Verdict::Holds {
        return Ok(Summary::not_begun(protocol, finding.to_string()));
    }
    let path = temporary.make_inside(&protocol.to_string())?.join("lock");
    let mut shown = Shown { console, at: Instant::now() };
    let record = coordinator::run(plan, protocol, &path, &mut |progress| {
        shown.progress(progress);
        if signal.code().is_some() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    });
    console.progress("");
    Ok(Summary::of(protocol, &record))
}

/// The line that says how far a storm is.
struct Shown {
    console: Console,
    at: Instant,
}

impl Shown {
    fn progress(&mut self, progress: &Progress) {
        if self.at.elapsed() < self.console.progress_pause() {
            return;
        }
        self.at = Instant::now();
        let Progress { protocol, holds, of, kills, took } = progress;
        self.console.progress(&format!("{protocol}: {holds} of {of} holds, {kills} kills, {} s", took.as_secs()));
    }
}

fn tell(console: Console, plan: &Plan, summaries: &[Summary], left: Option<&Left>) -> Result<()> {
    let directory = left.map(|left| left.path.as_path());
    match console.format {
        Format::Json => {
            summaries.iter().try_for_each(|summary| console.json(&report::object(plan, summary, directory)))?;
        }
        Format::Lines => report::table(plan, summaries).iter().try_for_each(|line| console.data(line))?,
    }
    console.tell(Note::Detail(format!("seed {}", plan.seed)));
    for summary in summaries {
        if let Verdict::Failed(reasons) = &summary.verdict {
            for reason in reasons {
                console.error(format!("{}: {reason}", summary.protocol));
            }
        }
    }
    if let Some(left) = left {
        console.error(left);
    }
    Ok(())
}

fn tell_finding(console: Console, finding: &Finding) -> Result<u8> {
    let holds = finding.verdict == self_test::Verdict::Holds;
    match console.format {
        Format::Json => console.json(&json!({
            "schema": 1,
            "event": "self-test",
            "directory": finding.directory.to_string_lossy(),
            "file_system": finding.file_system.as_ref().map(self_test::FileSystem::name),
            "trusted": matches!(finding.file_system, Some(self_test::FileSystem::Trusted(_))),
            "verdict": finding.verdict.name(),
            "found": finding.verdict.to_string(),
            "remedy": finding.remedy(),
        }))?,
        Format::Lines => console.data(&crate::base::escape::line(&finding.to_string()))?,
    }
    if let Some(left) = &finding.left {
        console.note(format!("{} could not be removed", left.display()));
    }
    Ok(if holds { exit::OK } else { exit::FAILED })
}

/// The exit code of the signal that asked for an early end; 0 while none has.
struct Signal(Arc<AtomicUsize>);

impl Signal {
    /// INT comes through ctrlc, TERM and HUP through signal-hook, as everywhere in this program.
    fn listen() -> Result<Self> {
        let asked = Arc::new(AtomicUsize::new(0));
        let interrupted = Arc::clone(&asked);
        requests::on_interrupt(move || interrupted.store(Cause::Interrupted.exit_code().into(), Ordering::Relaxed))
            .map_err(|error| Error::Failed(format!("cannot listen to signals: {error}")))?;
        for cause in [Cause::Terminated, Cause::HungUp] {
            requests::note_exit_code(cause, &asked).doing("listen to", "signals")?;
        }
        Ok(Self(asked))
    }

    fn code(&self) -> Option<u8> {
        u8::try_from(self.0.load(Ordering::Relaxed)).ok().filter(|&code| code != 0)
    }
}
