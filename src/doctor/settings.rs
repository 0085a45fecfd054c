//! Whether the settings can be understood and used.

use super::finding::{Finding, Mend};
use crate::commands::config;
use crate::commands::context::Session;
use crate::error::Error;

const CHECK: &str = "settings";

pub(super) fn examine(session: &Session, broken: &[Error]) -> Vec<Finding> {
    let mend = || Mend::command(format!("correct it, then: {}", session.command_line("config check")));
    let loaded = if broken.is_empty() { config::findings(&session.loaded) } else { Vec::new() };
    let wrong: Vec<Finding> =
        broken.iter().chain(&loaded).map(|error| Finding::fail(CHECK, error.to_string(), mend())).collect();
    if wrong.is_empty() {
        return vec![Finding::pass(CHECK, format!("{} is understood", session.home.settings_file().display()))];
    }
    wrong
}
