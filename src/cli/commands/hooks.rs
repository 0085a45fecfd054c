//! `hooks`: the entries in the settings of a harness.

use serde_json::json;

use crate::base::console::{Console, Format};
use crate::base::environment::Environment;
use crate::base::error::{Context, Result};
use crate::base::exit;
use crate::cli::args::{self, Global};
use crate::hooks::harness::Harness;
use crate::hooks::install::check::{self, Finding, Grade, Surroundings};
use crate::hooks::install::entry;
use crate::hooks::install::target::{Place, Scope};
use crate::hooks::install::{self, Outcome};
use crate::system::Real;
use crate::system::program::Program;

/// Installs, removes, prints or checks the hooks of a harness, and gives the exit code.
///
/// # Errors
/// The file cannot be understood or replaced, or nobody reads. The file is then as it was.
pub fn hooks(global: &Global, command: &args::Hooks) -> Result<u8> {
    let console = Console::new(global);
    let environment = Environment::of_this_process();
    let project = std::env::current_dir().doing("find", "the current directory")?;
    let target = match command {
        args::Hooks::Install(target)
        | args::Hooks::Uninstall(target)
        | args::Hooks::Print(target)
        | args::Hooks::Check(target) => target,
    };
    let scope = if target.project { Scope::Project } else { Scope::User };
    let place = Place::of(target.harness, scope, &environment, &project)?;
    match command {
        args::Hooks::Install(_) => {
            let program = entry::this_program(&environment)?;
            let outcome = install::install(&Real, &place, &program)?;
            say(console, &place, "installed", &outcome)?;
            advise(console, &place, &program);
            Ok(exit::OK)
        }
        args::Hooks::Uninstall(_) => {
            let outcome = install::uninstall(&Real, &place)?;
            say(console, &place, "uninstalled", &outcome)?;
            if place.harness == Harness::Codex && matches!(outcome, Outcome::Written { .. }) {
                console.note(
                    "codex knows hooks by their number, and may want those that stood behind ours reviewed again",
                );
            }
            Ok(exit::OK)
        }
        args::Hooks::Print(_) => print(console, &place, &entry::this_program(&environment)?),
        args::Hooks::Check(_) => {
            let program = entry::this_program(&environment)?;
            let around = Surroundings { environment: &environment, project: &project, program: &program };
            show(console, &place, &check::check(&Real, &place, &around)?)
        }
    }
}

/// Says what became of the file, in one line, and where its old content is.
fn say(console: Console, place: &Place, done: &str, outcome: &Outcome) -> Result<()> {
    let (what, path, backup) = match outcome {
        Outcome::Written { path, backup } => ("written", path, backup.as_deref()),
        Outcome::Removed { path, backup } => ("removed", path, backup.as_deref()),
        Outcome::Unchanged(path) => ("unchanged", path, None),
    };
    if let Some(backup) = backup {
        console.note(format!("its content of before is in {}", backup.display()));
    }
    match console.format {
        Format::Lines => console.data(&format!("hooks: {done} {} {what} {}", place.harness, path.display())),
        Format::Json => console.json(&json!({
            "schema": 1, "event": done, "harness": place.harness, "file": what, "path": path, "backup": backup,
        })),
    }
}

/// Tells a person what else is to be done before the entries run, and when an update may leave them behind.
fn advise(console: Console, place: &Place, program: &Program) {
    let trust = match (place.harness, &place.project) {
        (Harness::Codex, _) => Some("codex skips them until a person has reviewed them; start it once"),
        (Harness::Cursor | Harness::Grok | Harness::Pi, Some(_)) => {
            Some("they run only in a project that a person has declared trusted")
        }
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

fn print(console: Console, place: &Place, program: &Program) -> Result<u8> {
    let text = install::print(place, program)?;
    match console.format {
        Format::Lines => {
            console.note(format!("for {}", place.path.display()));
            console.data(text.trim_end())?;
        }
        Format::Json => console.json(&json!({
            "schema": 1, "harness": place.harness, "path": place.path, "content": text,
        }))?,
    }
    Ok(exit::OK)
}

fn show(console: Console, place: &Place, findings: &[Finding]) -> Result<u8> {
    for Finding { grade, what, text, mend } in findings {
        match console.format {
            Format::Lines => {
                let next = mend.as_ref().map(|mend| format!(" -> {mend}")).unwrap_or_default();
                console.data(&crate::base::escape::line(&format!("{grade} {what}: {text}{next}")))?;
            }
            Format::Json => console.json(&json!({
                "schema": 1, "harness": place.harness, "grade": grade.to_string(), "what": what, "text": text,
                "mend": mend,
            }))?,
        }
    }
    let has_failed = findings.iter().any(|finding| finding.grade == Grade::Fail);
    Ok(if has_failed { exit::FAILED } else { exit::OK })
}
