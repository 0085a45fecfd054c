//! Claude Code: the one that can be woken by a hook that ends.

use serde_json::json;

use super::profile::{Form, Mark, Moment, Profile, Switch, Trust, UserFile};
use crate::hooks::answer::Answer;
use crate::hooks::decision::{Decision, Waking};
use crate::hooks::event::Event;

pub(super) static PROFILE: Profile = Profile {
    word: "claude",
    title: "Claude Code",
    waking: Waking::ByWaiter,
    // Looked for before Gemini's: any harness may come to say when it speaks, and must not fall silent by that.
    mark: Some(Mark { rank: 4, any_of: &[&["prompt_id"], &["effort"]], is_always_there: false }),
    answer,
    user_file: UserFile::Movable("CLAUDE_CONFIG_DIR", "settings.json", ".claude/settings.json"),
    project_file: Some(".claude/settings.json"),
    moments: &[
        Moment::new(Event::SessionStart, "SessionStart"),
        Moment::new(Event::UserPrompt, "UserPromptSubmit"),
        Moment::of_tool(Event::PreTool, "PreToolUse", "Bash"),
        Moment::new(Event::TurnEnd, "Stop"),
        Moment::new(Event::Wait, "Stop"),
    ],
    switches: &[Switch { form: Form::Json, path: &["disableAllHooks"], off: true }],
    switches_beside: Some("settings.local.json"),
    trust: Trust::Unknown("Claude Code asks once for each folder"),
    ..Profile::USUAL
};

fn answer(event: Event, decision: &Decision) -> Option<Answer> {
    Some(match (event, decision) {
        (Event::SessionStart | Event::UserPrompt, Decision::Tell(message)) => Answer::text(message),
        (Event::PreTool, Decision::Deny(message)) => Answer::permission_denied(message),
        (Event::TurnEnd, Decision::Hold(message)) => Answer::decided("block", message),
        (Event::TurnEnd, Decision::LetGo(message)) => Answer::json(&json!({"systemMessage": message.as_str()})),
        (Event::Wait, Decision::Wake(message)) => Answer::held(message),
        _ => return None,
    })
}
