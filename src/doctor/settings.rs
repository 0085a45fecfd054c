//! Whether the settings can be understood and used.

use std::path::Path;

use super::finding::{Finding, Mend};
use crate::base::error::Error;
use crate::ownership::context::HomeContext;
use crate::system::platform;
use crate::system::{Facts, Kind, World};

const CHECK: &str = "settings";

pub(super) fn examine(session: &HomeContext, broken: &[Error]) -> Vec<Finding> {
    let mend = || Mend::command(format!("correct it, then: {}", session.command_line("config check")));
    let loaded = if broken.is_empty() { session.loaded.findings() } else { Vec::new() };
    let wrong: Vec<Finding> =
        broken.iter().chain(&loaded).map(|error| Finding::fail(CHECK, error.to_string(), mend())).collect();
    let mut findings = wrong;
    findings.extend(exposed(session));
    if findings.is_empty() {
        let file = session.home.settings_file();
        let has_file = session.world.facts_of_path(&file).is_ok();
        let found = if has_file { "is understood" } else { "is not there; the defaults count" };
        return vec![Finding::pass(CHECK, format!("{} {found}", file.display()))];
    }
    findings
}

/// What others could do to the settings, which name the programs that run as this user.
fn exposed(session: &HomeContext) -> Vec<Finding> {
    let file = session.home.settings_file();
    let directory = file.parent().map(Path::to_owned);
    let places = directory.into_iter().chain([file]);
    places
        .filter_map(|path| judge(&path, &session.world.facts_of_path(&path).ok()?, platform::effective_uid()))
        .collect()
}

fn judge(path: &Path, facts: &Facts, own: u32) -> Option<Finding> {
    const ROOT: u32 = 0;
    let shown = path.display();
    if facts.uid != own && facts.uid != ROOT {
        let found = format!("{shown} belongs to uid {}, who thereby chooses what runs as uid {own}", facts.uid);
        return Some(Finding::fail(CHECK, found, Mend::command(format!("sudo chown {own} {shown}"))));
    }
    // A link's own mode says nothing.
    if facts.kind == Kind::Link || !facts.is_writable_by_others() {
        return None;
    }
    let found = format!("{shown} has mode {:o}: others choose what runs as uid {own}", facts.mode & 0o7777);
    let mend = Mend::command(format!("chmod go-w {shown}"));
    // On many systems each user has a group to which nobody else belongs.
    let is_for_all = facts.mode & 0o002 != 0;
    Some(if is_for_all { Finding::fail(CHECK, found, mend) } else { Finding::warn(CHECK, found, mend) })
}
