//! Whether the settings can be understood and used.

use super::finding::{Finding, Mend};
use crate::commands::config;
use crate::commands::context::Session;
use crate::error::Error;
use crate::world::World;

const CHECK: &str = "settings";

pub(super) fn examine(session: &Session, broken: &[Error]) -> Vec<Finding> {
    let mend = || Mend::command(format!("correct it, then: {}", session.command_line("config check")));
    let loaded = if broken.is_empty() { config::findings(&session.loaded) } else { Vec::new() };
    let wrong: Vec<Finding> =
        broken.iter().chain(&loaded).map(|error| Finding::fail(CHECK, error.to_string(), mend())).collect();
    if wrong.is_empty() {
        let file = session.home.settings_file();
        let has_file = session.world.facts_of_path(&file).is_ok();
        let found = if has_file { "is understood" } else { "is not there; the defaults count" };
        return vec![Finding::pass(CHECK, format!("{} {found}", file.display()))];
    }
    wrong
}
