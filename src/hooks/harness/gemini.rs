//! Gemini CLI: it takes every failure of a hook for a refusal, and reads stderr as the answer when stdout is empty.

use super::profile::{Form, Mark, Moment, Profile, Switch, Trust, UserFile};
use crate::hooks::answer::Answer;
use crate::hooks::decision::Decision;
use crate::hooks::event::Event;

pub(super) static PROFILE: Profile = Profile {
    word: "gemini",
    title: "Gemini CLI",
    mark: Some(Mark { rank: 5, any_of: &[&["hook_event_name", "timestamp"]], is_always_there: false }),
    own_names: &[
        (Event::UserPrompt, &["beforeagent"]),
        (Event::PreTool, &["beforetool"]),
        (Event::TurnEnd, &["afteragent"]),
    ],
    answer,
    empty_answer: "{}\n",
    user_file: UserFile::Movable("GEMINI_CLI_HOME", ".gemini/settings.json", ".gemini/settings.json"),
    project_file: Some(".gemini/settings.json"),
    moments: &[
        Moment::new(Event::SessionStart, "SessionStart"),
        Moment::new(Event::UserPrompt, "BeforeAgent"),
        Moment::of_tool(Event::PreTool, "BeforeTool", "run_shell_command"),
        Moment::new(Event::TurnEnd, "AfterAgent"),
    ],
    timeout_units: 1000,
    refuses_on_failure: true,
    switches: &[Switch { form: Form::Json, path: &["hooksConfig", "enabled"], off: false }],
    disabled: Some(&["hooksConfig", "disabled"]),
    runs_once: true,
    trust: Trust::Unknown("Gemini CLI asks again when a command has changed"),
    ..Profile::USUAL
};

fn answer(event: Event, decision: &Decision) -> Option<Answer> {
    Some(match (event, decision) {
        (Event::SessionStart, Decision::Tell(message)) => Answer::context("SessionStart", message),
        (Event::PreTool, Decision::Deny(message)) | (Event::TurnEnd, Decision::Hold(message)) => {
            Answer::decided("deny", message)
        }
        _ => return None,
    })
}
