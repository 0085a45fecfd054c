//! `OpenCode`, which runs a plugin of ours.

use super::profile::{Form, Profile, UserFile};
use crate::hooks::answer::Answer;

pub(super) static PROFILE: Profile = Profile {
    word: "opencode",
    title: "OpenCode",
    answer: Answer::of_plugin,
    form: Form::Plugin(include_str!("opencode.js")),
    user_file: UserFile::InConfiguration("opencode/plugins/fm-watch.js"),
    project_file: Some(".opencode/plugins/fm-watch.js"),
    ..Profile::USUAL
};
