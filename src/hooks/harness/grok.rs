//! Grok Build: it reads the files of others too, and ignores what a hook of a prompt says.

use super::profile::{Harness, Mark, Moment, Profile, Trust, UserFile};
use crate::hooks::answer::Answer;
use crate::hooks::decision::Decision;
use crate::hooks::event::Event;

pub(super) static PROFILE: Profile = Profile {
    word: "grok",
    title: "Grok Build",
    session_fields: &["sessionId"],
    mark: Some(Mark { rank: 1, any_of: &[&["hookEventName"]], is_always_there: true }),
    answer,
    user_file: UserFile::Movable("GROK_HOME", "hooks/fm-watch.json", ".grok/hooks/fm-watch.json"),
    project_file: Some(".grok/hooks/fm-watch.json"),
    moments: &[
        Moment::new(Event::SessionStart, "SessionStart"),
        Moment::of_tool(Event::PreTool, "PreToolUse", "run_terminal_command"),
        Moment::new(Event::TurnEnd, "Stop"),
    ],
    also_reads: &[Harness::Claude, Harness::Cursor],
    trust: Trust::Projects("Grok runs hooks of a project only when it is trusted (/hooks-trust)"),
    ..Profile::USUAL
};

fn answer(event: Event, decision: &Decision) -> Option<Answer> {
    Some(match (event, decision) {
        (Event::PreTool, Decision::Deny(message)) => Answer::decided("deny", message),
        (Event::TurnEnd, Decision::Hold(message)) => Answer::decided("block", message),
        _ => return None,
    })
}
