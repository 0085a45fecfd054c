//! Runs an entry once, as its harness would: how long it takes, and whether it leaves what it should leave.
//!
//! Nothing is on stdin, so the program has nothing to say: what comes out then is somebody else's, such as the greeting in
//! the profile of a login shell, and it would be taken for an answer.

use std::process::Command;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use super::finding::{Finding, Grade, Surroundings};
use crate::hooks::event::Event;
use crate::hooks::harness::Harness;
use crate::hooks::install::target::Target;
use crate::system::bounded_command::{self, Ending, Outcome, Plan};
use crate::system::platform;
use crate::system::program::NAME;

/// How long an entry may take before a person would notice it.
const SOON: Duration = Duration::from_millis(300);

/// How long an entry is given.
const TIMEOUT: Duration = Duration::from_secs(2);

/// How a shell says that it has not found a program.
const NOT_FOUND: i32 = 127;

/// Runs all entries at the same time, so that many that hang take no longer than one.
pub(super) fn run_each(target: &Target, entries: &[(Event, &str)], around: &Surroundings<'_>) -> Vec<Finding> {
    std::thread::scope(|scope| {
        let begun = entries.iter().map(|&(event, command)| {
            let thread = std::thread::Builder::new().spawn_scoped(scope, move || run(target, event, command, around));
            (event, thread)
        });
        let begun: Vec<_> = begun.collect();
        let ended = begun.into_iter().map(|(event, thread)| match thread.map(std::thread::ScopedJoinHandle::join) {
            Ok(Ok(finding)) => finding,
            Ok(Err(_)) => Finding::new(Grade::Fail, "runs", format!("{event}: trying it broke off")),
            Err(error) => Finding::new(Grade::Fail, "runs", format!("{event} could not be started: {error}")),
        });
        ended.collect()
    })
}

/// Runs the command of an entry.
fn run(target: &Target, event: Event, command: &str, around: &Surroundings<'_>) -> Finding {
    let mut shell = shell(target.harness, around);
    shell.arg(command).env_clear().envs(around.environment.for_child(&[])).current_dir(around.project);
    let plan = Plan { command: shell, input: Vec::new(), deadline: TIMEOUT, stdout_limit: 4096, stderr_limit: 4096 };
    let begun = platform::monotonic();
    let outcome = bounded_command::run(plan, &AtomicBool::new(false));
    let took = platform::monotonic().saturating_sub(begun);
    let failed = |text: String| Finding::new(Grade::Fail, "runs", text).with(target.command_line("install"));
    match outcome {
        Err(error) => failed(format!("{event} could not be started: {error}")),
        Ok(Outcome { ending: Ending::Exited(0), stdout, .. }) if !stdout.trim_ascii().is_empty() => {
            let text = format!(
                "{event}: a shell says something of its own, which is taken for an answer: {}",
                first_line(&stdout)
            );
            Finding::new(Grade::Fail, "runs", text).with("keep its profile silent when it is not interactive")
        }
        Ok(Outcome { ending: Ending::Exited(0), .. }) if took <= SOON => {
            Finding::new(Grade::Pass, "runs", format!("{event} in {} ms", took.as_millis()))
        }
        Ok(Outcome { ending: Ending::Exited(0), .. }) => {
            Finding::new(Grade::Warn, "runs", format!("{event} in {} ms, which people notice", took.as_millis()))
        }
        // Writing the same entry again would not help.
        Ok(Outcome { ending: Ending::Exited(NOT_FOUND), .. }) if command.starts_with(&format!("{NAME} ")) => {
            let text = format!("{event}: the shell in which it runs does not find {NAME}");
            Finding::new(Grade::Fail, "runs", text).with(format!("put {NAME} on PATH in the profile of that shell"))
        }
        Ok(Outcome { ending, stderr, .. }) => failed(format!("{event} {}: {}", words(ending), first_line(&stderr))),
    }
}

/// The shell of a harness, up to the command.
fn shell(harness: Harness, around: &Surroundings<'_>) -> Command {
    let login_shell = harness.profile().has_login_shell;
    let own = login_shell.then(|| around.environment.path("SHELL")).flatten();
    let mut shell = Command::new(own.unwrap_or_else(|| "/bin/sh".into()));
    shell.arg(if login_shell { "-lc" } else { "-c" });
    shell
}

fn first_line(said: &[u8]) -> String {
    String::from_utf8_lossy(said).trim().lines().next().unwrap_or("nothing").to_owned()
}

fn words(ending: Ending) -> String {
    match ending {
        Ending::Exited(code) => format!("exited with {code}"),
        Ending::Signalled => "was ended by a signal".to_owned(),
        Ending::TimedOut => format!("took longer than {} s", TIMEOUT.as_secs()),
        Ending::Cancelled => "was cancelled".to_owned(),
    }
}
