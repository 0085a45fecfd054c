//! Cursor, the editor and `cursor-agent`: it also runs what stands in Claude Code's settings.

use serde_json::json;

use super::profile::{Harness, Layout, Mark, Moment, Profile, Trust, UserFile};
use crate::hooks::answer::Answer;
use crate::hooks::decision::Decision;
use crate::hooks::event::Event;

pub(super) static PROFILE: Profile = Profile {
    word: "cursor",
    title: "Cursor",
    // It names its session only at the start, and the conversation always.
    session_fields: &["conversation_id"],
    mark: Some(Mark { rank: 0, any_of: &[&["cursor_version"]], is_always_there: true }),
    own_names: &[
        (Event::UserPrompt, &["beforesubmitprompt"]),
        (Event::PreTool, &["pretooluse", "beforeshellexecution"]),
    ],
    answer,
    user_file: UserFile::InHome(".cursor/hooks.json"),
    project_file: Some(".cursor/hooks.json"),
    moments: &[
        Moment::new(Event::SessionStart, "sessionStart"),
        Moment::new(Event::UserPrompt, "beforeSubmitPrompt"),
        Moment::new(Event::PreTool, "beforeShellExecution"),
        Moment::new(Event::TurnEnd, "stop"),
    ],
    layout: Layout::Flat,
    also_reads: &[Harness::Claude],
    trust: Trust::Projects("Cursor runs hooks of a project only when it is trusted (--trust)"),
    ..Profile::USUAL
};

fn answer(event: Event, decision: &Decision) -> Option<Answer> {
    let value = match (event, decision) {
        (Event::SessionStart, Decision::Tell(message)) => json!({"additional_context": message.as_str()}),
        (Event::PreTool, Decision::Deny(message)) => {
            json!({"permission": "deny", "user_message": message.as_str(), "agent_message": message.as_str()})
        }
        (Event::TurnEnd, Decision::Hold(message)) => json!({"followup_message": message.as_str()}),
        _ => return None,
    };
    Some(Answer::json(&value))
}
