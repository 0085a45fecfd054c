//! Kimi Code: its settings are TOML, it has none of a project, and it goes by the exit code.

use super::profile::{Form, Mark, Profile, USUAL_MOMENTS, UserFile};
use crate::hooks::answer::Answer;
use crate::hooks::decision::Decision;
use crate::hooks::event::Event;

pub(super) static PROFILE: Profile = Profile {
    word: "kimi",
    title: "Kimi Code",
    mark: Some(Mark { rank: 3, any_of: &[&["client_type"]], is_always_there: false }),
    answer,
    form: Form::Toml,
    user_file: UserFile::Movable("KIMI_CODE_HOME", "config.toml", ".kimi-code/config.toml"),
    moments: USUAL_MOMENTS,
    runs_once: true,
    ..Profile::USUAL
};

fn answer(event: Event, decision: &Decision) -> Option<Answer> {
    Some(match (event, decision) {
        (Event::UserPrompt, Decision::Tell(message)) => Answer::text(message),
        (Event::PreTool, Decision::Deny(message)) | (Event::TurnEnd, Decision::Hold(message)) => Answer::held(message),
        _ => return None,
    })
}
