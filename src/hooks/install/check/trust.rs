//! Whether a harness trusts the entries. Mostly only the harness knows.
//!
//! Codex writes it down: for each entry, under the file, the event and the numbers of its group and target, a hash of what
//! was trusted. That there is one is reported; whether it is the right one is not judged here.

use std::path::Path;

use super::finding::{Finding, Grade, Surroundings};
use crate::hooks::harness::{Harness, Trust};
use crate::hooks::install::file::{File, Way};
use crate::hooks::install::target::{Scope, Target};
use crate::hooks::install::{json, text_of};
use crate::system::World;

/// Whether the harness trusts the entries, where that can be read.
pub(super) fn trusted<W: World>(world: &W, target: &Target, file: &File<W>, around: &Surroundings<'_>) -> Finding {
    match target.harness.profile().trust {
        Trust::Recorded => recorded(world, target, file, around),
        Trust::Projects(why) | Trust::Unknown(why) => {
            Finding::new(Grade::Pass, "trusted", format!("cannot be read: {why}"))
        }
    }
}

fn recorded<W: World>(world: &W, target: &Target, file: &File<W>, around: &Surroundings<'_>) -> Finding {
    let user = Target::of(Harness::Codex, Scope::User, around.environment, around.project).ok();
    let config = user.and_then(|user| user.path.parent().map(|directory| directory.join("config.toml")));
    let read = config.and_then(|config| File::find(world, &config, Way::Leave).ok().flatten());
    let text = read.as_ref().and_then(File::content).and_then(|content| std::str::from_utf8(content).ok());
    let states = trusted_entries(text.unwrap_or_default());
    let (_, hooks) = text_of(file.content().unwrap_or_default()).unwrap_or_default();
    let found = json::installed(hooks, Harness::Codex).unwrap_or_default();
    let is_trusted = |found: &&json::Installed| {
        let event = plain(&found.name);
        let ours = |path: &Path| format!("{}:{event}:{}:{}", path.display(), found.group, found.handler);
        states.iter().any(|state| *state == ours(&target.path) || *state == ours(file.path()))
    };
    let trusted = found.iter().filter(is_trusted).count();
    if trusted == found.len() {
        Finding::new(Grade::Pass, "trusted", format!("Codex has a trusted hash for each of {trusted} entries"))
    } else {
        let text = format!("Codex has a trusted hash for {trusted} of {} entries, and skips the others", found.len());
        Finding::new(Grade::Warn, "trusted", text).with("start codex and review its hooks")
    }
}

/// The keys under which Codex trusts entries, with the name of the event in lower case and without `_`.
fn trusted_entries(config: &str) -> Vec<String> {
    let table = config.parse::<toml::Table>().unwrap_or_default();
    let states = table.get("hooks").and_then(|hooks| hooks.get("state")).and_then(toml::Value::as_table);
    let is_trusted = |state: &toml::Value| {
        state.get("trusted_hash").is_some() && state.get("enabled").and_then(toml::Value::as_bool) != Some(false)
    };
    let keys = states.into_iter().flatten().filter(|(_, state)| is_trusted(state)).map(|(key, _)| key);
    keys.filter_map(|key| {
        let mut parts = key.rsplitn(4, ':');
        let (handler, group, event, file) = (parts.next()?, parts.next()?, parts.next()?, parts.next()?);
        Some(format!("{file}:{}:{group}:{handler}", plain(event)))
    })
    .collect()
}

fn plain(event: &str) -> String {
    event.replace('_', "").to_ascii_lowercase()
}
