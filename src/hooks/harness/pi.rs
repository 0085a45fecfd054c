//! Pi, which runs an extension of ours.

use super::profile::{Form, Profile, Trust, UserFile};
use crate::hooks::answer::Answer;

pub(super) static PROFILE: Profile = Profile {
    word: "pi",
    title: "Pi",
    answer: Answer::of_plugin,
    form: Form::Plugin(include_str!("pi.ts")),
    user_file: UserFile::Movable("PI_CODING_AGENT_DIR", "extensions/fm-watch.ts", ".pi/agent/extensions/fm-watch.ts"),
    project_file: Some(".pi/extensions/fm-watch.ts"),
    trust: Trust::Projects("Pi runs extensions of a project only when it is trusted"),
    ..Profile::USUAL
};
