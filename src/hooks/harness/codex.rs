//! Codex CLI: it skips what a person has not reviewed, and knows hooks by their number.

use super::profile::{Form, Mark, Profile, Switch, Trust, USUAL_MOMENTS, UserFile};
use crate::hooks::answer::Answer;
use crate::hooks::decision::Decision;
use crate::hooks::event::Event;

pub(super) static PROFILE: Profile = Profile {
    word: "codex",
    title: "Codex CLI",
    mark: Some(Mark { rank: 2, any_of: &[&["turn_id"]], is_always_there: false }),
    answer,
    user_file: UserFile::Movable("CODEX_HOME", "hooks.json", ".codex/hooks.json"),
    project_file: Some(".codex/hooks.json"),
    moments: USUAL_MOMENTS,
    switches: &[
        Switch { form: Form::Toml, path: &["features", "hooks"], off: false },
        // What it was called at first.
        Switch { form: Form::Toml, path: &["features", "codex_hooks"], off: false },
    ],
    switches_beside: Some("config.toml"),
    trust: Trust::Recorded,
    has_login_shell: true,
    ..Profile::USUAL
};

fn answer(event: Event, decision: &Decision) -> Option<Answer> {
    Some(match (event, decision) {
        (Event::SessionStart, Decision::Tell(message)) => Answer::context("SessionStart", message),
        (Event::UserPrompt, Decision::Tell(message)) => Answer::context("UserPromptSubmit", message),
        (Event::PreTool, Decision::Deny(message)) => Answer::permission_denied(message),
        (Event::TurnEnd, Decision::Hold(message)) => Answer::decided("block", message),
        _ => return None,
    })
}
