//! Whether a file turns hooks off, this one or another that the harness reads.

use std::path::{Path, PathBuf};

use toml::Table;

use super::{Finding, Grade, Surroundings};
use crate::hooks::harness::Harness;
use crate::hooks::install::entry::event_of;
use crate::hooks::install::file::{File, Way};
use crate::hooks::install::target::{Form, Place, Scope};
use crate::hooks::install::{json, text_of};
use crate::system::World;

/// What turns the entries in a file off, if anything does.
pub(super) fn enabled<W: World>(world: &W, place: &Place, around: &Surroundings<'_>) -> Finding {
    let content = |path: &Path| {
        let file = File::find(world, path, Way::Leave).ok().flatten()?;
        Some(file.content()?.to_owned())
    };
    let is_off = |path: &PathBuf| content(path).is_some_and(|content| is_turned_off(place.harness, path, &content));
    let is_one_off = |path: &PathBuf| content(path).is_some_and(|content| has_turned_one_off(place.harness, &content));
    let switches = switches(place, around);
    if let Some(path) = switches.iter().find(|path| is_one_off(path)) {
        let text = format!("somebody has turned off entries of ours in {}, under hooksConfig.disabled", path.display());
        return Finding::new(Grade::Warn, "enabled", text).with("turn them on with /hooks in gemini");
    }
    match switches.into_iter().find(is_off) {
        None => Finding::new(Grade::Pass, "enabled", "no file turns its hooks off"),
        Some(path) => {
            let text = format!("{} turns all hooks off, so none of them runs", path.display());
            Finding::new(Grade::Fail, "enabled", text).with(format!("turn them on in {}", path.display()))
        }
    }
}

/// The files that can turn the entries off.
fn switches(place: &Place, around: &Surroundings<'_>) -> Vec<PathBuf> {
    let scopes = Scope::ALL.into_iter();
    let places = scopes.filter_map(|scope| Place::of(place.harness, scope, around.environment, around.project).ok());
    let mut files = vec![place.path.clone()];
    for other in places {
        match place.harness {
            Harness::Codex => files.push(other.path.with_file_name("config.toml")),
            Harness::Claude => files.push(other.path.with_file_name("settings.local.json")),
            _ => {}
        }
        files.extend((other.form == Form::Json).then_some(other.path));
    }
    files
}

fn has_turned_one_off(harness: Harness, content: &[u8]) -> bool {
    let disabled = text_of(content).ok().and_then(|(_, text)| json::disabled(text).ok()).unwrap_or_default();
    harness == Harness::Gemini && disabled.iter().any(|command| event_of(harness, command).is_some())
}

fn is_turned_off(harness: Harness, path: &Path, content: &[u8]) -> bool {
    let Ok((_, text)) = text_of(content) else { return false };
    if path.extension() == Some("toml".as_ref()) {
        let table = text.parse::<Table>().unwrap_or_default();
        let features = table.get("features");
        // The second is what it was called at first.
        let is_off = |name| features.and_then(|all| all.get(name)).and_then(toml::Value::as_bool) == Some(false);
        return harness == Harness::Codex && (is_off("hooks") || is_off("codex_hooks"));
    }
    json::is_turned_off(text, harness).unwrap_or(false)
}
