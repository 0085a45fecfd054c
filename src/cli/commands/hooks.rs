//! `hooks`: the entries in the settings of a harness.

use serde_json::json;

use crate::base::console::{Console, Format};
use crate::base::environment::Environment;
use crate::base::error::{Context, Result};
use crate::base::exit;
use crate::cli::args::{self, Global};
use crate::hooks::harness::Trust;
use crate::hooks::install::check::{self, Finding, Grade, Surroundings};
use crate::hooks::install::entry;
use crate::hooks::install::target::{Scope, Target};
use crate::hooks::install::{self, Outcome};
use crate::system::Real;
use crate::system::program::Program;

/// Installs, removes, prints or checks the hooks of a harness, and gives the exit code.
///
/// # Errors
/// The file cannot be understood or replaced, or nobody reads. The file is then as it was.
pub fn hooks(global: &Global, command: &args::Hooks) -> Result<u8> {
    let console = global.console();
    let environment = Environment::of_this_process();
    let project = std::env::current_dir().doing("find", "the current directory")?;
    let asked = match command {
        args::Hooks::Install(asked)
        | args::Hooks::Uninstall(asked)
        | args::Hooks::Print(asked)
        | args::Hooks::Check(asked) => asked,
    };
    let scope = if asked.project { Scope::Project } else { Scope::User };
    let target = Target::of(asked.harness, scope, &environment, &project)?;
    match command {
        args::Hooks::Install(_) => {
            let program = entry::this_program(&environment)?;
            let outcome = install::install(&Real, &target, &program)?;
            say(console, &target, "installed", &outcome)?;
            advise(console, &target, &program);
            Ok(exit::OK)
        }
        args::Hooks::Uninstall(_) => {
            let outcome = install::uninstall(&Real, &target)?;
            say(console, &target, "uninstalled", &outcome)?;
            if target.harness.profile().trust == Trust::Recorded && matches!(outcome, Outcome::Written { .. }) {
                console.note(
                    "codex knows hooks by their number, and may want those that stood behind ours reviewed again",
                );
            }
            Ok(exit::OK)
        }
        args::Hooks::Print(_) => print(console, &target, &entry::this_program(&environment)?),
        args::Hooks::Check(_) => {
            let program = entry::this_program(&environment)?;
            let around = Surroundings { environment: &environment, project: &project, program: &program };
            show(console, &target, &check::check(&Real, &target, &around)?)
        }
    }
}

/// Says what became of the file, in one line, and where its old content is.
fn say(console: Console, target: &Target, done: &str, outcome: &Outcome) -> Result<()> {
    let (what, path, backup) = match outcome {
        Outcome::Written { path, backup } => ("written", path, backup.as_deref()),
        Outcome::Removed { path, backup } => ("removed", path, backup.as_deref()),
        Outcome::Unchanged(path) => ("unchanged", path, None),
    };
    if let Some(backup) = backup {
        console.note(format!("its content of before is in {}", backup.display()));
    }
    match console.format {
        Format::Lines => console.data(&format!("hooks: {done} {} {what} {}", target.harness, path.display())),
        Format::Json => console.json(&json!({
            "schema": 1, "event": done, "harness": target.harness, "file": what, "path": path, "backup": backup,
        })),
    }
}

/// Tells a person what else is to be done before the entries run, and when an update may leave them behind.
fn advise(console: Console, target: &Target, program: &Program) {
    let trust = match (target.harness.profile().trust, &target.project) {
        (Trust::Recorded, _) => Some("codex skips them until a person has reviewed them; start it once"),
        (Trust::Projects(_), Some(_)) => Some("they run only in a project that a person has declared trusted"),
        _ => None,
    };
    if let Some(trust) = trust {
        console.note(trust);
    }
    if let Program::At(path) = program {
        console.note(format!(
            "the entries name {}, because no `fm-watch` on PATH is this program; install again when it moves",
            path.display()
        ));
    }
}

fn print(console: Console, target: &Target, program: &Program) -> Result<u8> {
    let text = install::print(target, program)?;
    match console.format {
        Format::Lines => {
            console.note(format!("for {}", target.path.display()));
            console.data(text.trim_end())?;
        }
        Format::Json => console.json(&json!({
            "schema": 1, "harness": target.harness, "path": target.path, "content": text,
        }))?,
    }
    Ok(exit::OK)
}

fn show(console: Console, target: &Target, findings: &[Finding]) -> Result<u8> {
    for Finding { grade, what, text, mend } in findings {
        match console.format {
            Format::Lines => {
                let next = mend.as_ref().map(|mend| format!(" -> {mend}")).unwrap_or_default();
                console.data(&crate::base::escape::line(&format!("{grade} {what}: {text}{next}")))?;
            }
            Format::Json => console.json(&json!({
                "schema": 1, "harness": target.harness, "grade": grade.to_string(), "what": what, "text": text,
                "mend": mend,
            }))?,
        }
    }
    let has_failed = findings.iter().any(|finding| finding.grade == Grade::Fail);
    Ok(if has_failed { exit::FAILED } else { exit::OK })
}
