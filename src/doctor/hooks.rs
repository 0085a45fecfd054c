//! The hooks that are installed: for this user, for the project in the home, and for the one in the current directory.
//!
//! Each installed entry is run once, with nothing on stdin, as `hooks check` does it. A harness without entries is not
//! mentioned: nobody has to use hooks, and nobody uses all harnesses.
//!
//! Limits: projects elsewhere are not looked for. A file with entries that hang costs two seconds.

use std::path::{Path, PathBuf};

use super::finding::{Finding, Mend};
use crate::hooks::harness::Harness;
use crate::hooks::install::check::{self, Grade, Surroundings};
use crate::hooks::install::target::{Scope, Target};
use crate::hooks::install::{self, entry};
use crate::ownership::context::HomeContext;

const CHECK: &str = "hooks";

/// The files with entries of ours, and what is to be said before any of them is examined.
pub(super) struct Found {
    /// The files.
    pub places: Vec<Target>,
    /// What is to be said.
    pub findings: Vec<Finding>,
}

pub(super) fn find(session: &HomeContext) -> Found {
    let (mut installed, mut unknown) = (Vec::new(), Vec::new());
    for place in places(session) {
        match install::has_entries(session.world.as_ref(), &place) {
            Ok(true) => installed.push(place),
            Ok(false) => {}
            Err(error) => unknown.push(error.to_string()),
        }
    }
    // One directory that cannot be read has the files of many harnesses.
    let findings = match unknown.first() {
        Some(first) => {
            let found = format!("whether {} file(s) have hooks is not known: {first}", unknown.len());
            vec![Finding::warn(CHECK, found, Mend::Nothing)]
        }
        None if installed.is_empty() => vec![Finding::pass(CHECK, "none are installed")],
        None => Vec::new(),
    };
    Found { places: installed, findings }
}

/// All files in which there may be entries, each once.
fn places(session: &HomeContext) -> Vec<Target> {
    let here = std::env::current_dir().ok();
    let projects: Vec<PathBuf> = here.into_iter().chain([session.home.root().to_owned()]).collect();
    let mut places: Vec<Target> = Vec::new();
    for harness in Harness::ALL {
        let project = |project: &PathBuf| Target::of(harness, Scope::Project, &session.environment, project).ok();
        let user = Target::of(harness, Scope::User, &session.environment, "".as_ref()).ok();
        for place in user.into_iter().chain(projects.iter().filter_map(project)) {
            let is_known = |other: &Target| real(&other.path) == real(&place.path);
            if !places.iter().any(is_known) {
                places.push(place);
            }
        }
    }
    places
}

fn real(path: &Path) -> PathBuf {
    path.canonicalize().unwrap_or_else(|_| path.to_owned())
}

/// What is wrong with the entries in a file, or one line that says that nothing is.
pub(super) fn examine(session: &HomeContext, place: &Target) -> Vec<Finding> {
    let unknown = |error: crate::base::error::Error| vec![Finding::warn(CHECK, error.to_string(), Mend::Nothing)];
    let program = match entry::this_program(&session.environment) {
        Ok(program) => program,
        Err(error) => return unknown(error),
    };
    let here = std::env::current_dir().unwrap_or_default();
    let project = place.project.as_deref().unwrap_or(&here);
    let around = Surroundings { environment: &session.environment, project, program: &program };
    match check::check(session.world.as_ref(), place, &around) {
        Ok(found) => sum_up(place, &found),
        Err(error) => unknown(error),
    }
}

fn sum_up(place: &Target, found: &[check::Finding]) -> Vec<Finding> {
    let title = place.harness.title();
    let wrong = found.iter().filter(|finding| finding.grade > Grade::Pass);
    let findings: Vec<_> = wrong
        .map(|finding| {
            let text = format!("{title}: {}: {}", finding.what, finding.text);
            let mend = finding.mend.clone().map_or(Mend::Nothing, Mend::Command);
            match finding.grade {
                Grade::Fail => Finding::fail(CHECK, text, mend),
                _ => Finding::warn(CHECK, text, mend),
            }
        })
        .collect();
    if findings.is_empty() {
        let ran = found.iter().filter(|finding| finding.what == "runs").count();
        return vec![Finding::pass(
            CHECK,
            format!("{title}: {} is well, and its {ran} entries run", place.path.display()),
        )];
    }
    findings
}
