//! Whether a harness trusts the entries. Mostly only the harness knows.
//!
//! Codex writes it down: for each entry, under the file, the event and the numbers of its group and place, a hash of what
//! was trusted. That there is one is reported; whether it is the right one is not judged here.

use std::path::Path;

use super::{Finding, Grade, Surroundings};
use crate::hooks::harness::Harness;
use crate::hooks::install::file::{File, Way};
use crate::hooks::install::target::{Place, Scope};
use crate::hooks::install::{json, text_of};
use crate::system::World;

/// Whether the harness trusts the entries, where that can be read.
pub(super) fn trusted<W: World>(world: &W, place: &Place, file: &File<W>, around: &Surroundings<'_>) -> Finding {
    let unknown = |why: &str| Finding::new(Grade::Pass, "trusted", format!("cannot be read: {why}"));
    match place.harness {
        Harness::Codex => codex_trust(world, place, file, around),
        Harness::Claude => unknown("Claude Code asks once for each folder"),
        Harness::Cursor => unknown("Cursor runs hooks of a project only when it is trusted (--trust)"),
        Harness::Gemini => unknown("Gemini CLI asks again when a command has changed"),
        Harness::Grok => unknown("Grok runs hooks of a project only when it is trusted (/hooks-trust)"),
        Harness::Pi => unknown("Pi runs extensions of a project only when it is trusted"),
        Harness::Kimi | Harness::OpenCode => unknown("nothing is known of a trust in hooks"),
    }
}

fn codex_trust<W: World>(world: &W, place: &Place, file: &File<W>, around: &Surroundings<'_>) -> Finding {
    let user = Place::of(Harness::Codex, Scope::User, around.environment, around.project).ok();
    let config = user.and_then(|user| user.path.parent().map(|directory| directory.join("config.toml")));
    let read = config.and_then(|config| File::find(world, &config, Way::Leave).ok().flatten());
    let text = read.as_ref().and_then(File::content).and_then(|content| std::str::from_utf8(content).ok());
    let states = trusted_entries(text.unwrap_or_default());
    let (_, hooks) = text_of(file.content().unwrap_or_default()).unwrap_or_default();
    let found = json::installed(hooks, Harness::Codex).unwrap_or_default();
    let is_trusted = |found: &&json::Installed| {
        let event = plain(&found.name);
        let ours = |path: &Path| format!("{}:{event}:{}:{}", path.display(), found.group, found.handler);
        states.iter().any(|state| *state == ours(&place.path) || *state == ours(file.path()))
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
