//! The entries of each harness: which of its events run which command, and how an entry of ours is known again.
//!
//! An entry is known by its command, which is to the byte what we would write for a program of our name in some place;
//! there is no other mark, because some harnesses refuse a file with a field or an event that they do not know. A command
//! that somebody has put more into belongs to them. The text of an entry never changes between releases: some harnesses
//! run a hook only as long as its text is the one that a person has trusted.
//!
//! The events are in the vendors' words. Not every moment is used everywhere: Grok ignores what a hook of a prompt says,
//! and only Claude Code can be woken by a hook that ends.

use std::path::Path;

use crate::base::environment::Environment;
use crate::base::error::{Context, Error, Result};
use crate::hooks::event::Event;
use crate::hooks::harness::{Harness, Moment};
use crate::system::platform;
use crate::system::program::{NAME, Program, shell_word};

/// How entries are to name a program at this path: as it is called, if that can be said in a file of text. One that is
/// named by its path must be installed again when that path moves.
///
/// # Errors
/// It cannot be named in a file of text, or would not be known again.
pub fn named(own: &Path, environment: &Environment) -> Result<Program> {
    match Program::of(own, environment) {
        Program::At(path) if path.to_str().is_none() || path.file_name() != Some(NAME.as_ref()) => {
            let found = "an entry cannot name this program, because its path is not text or does not end in fm-watch";
            Err(Error::refused(own, found, "call it fm-watch, or put it on PATH under that name"))
        }
        program => Ok(program),
    }
}

/// How entries are to name this very program.
///
/// # Errors
/// As [`named`], or the program cannot be found.
pub fn this_program(environment: &Environment) -> Result<Program> {
    let own = std::fs::read_link(platform::own_program()).doing("find", "this program")?;
    named(&own, environment)
}

/// One entry of ours.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// When it runs, in our words.
    pub event: Event,
    /// When it runs, in the harness's words.
    pub name: &'static str,
    /// Of which tools, for a harness that asks.
    pub matcher: Option<&'static str>,
    /// What it runs.
    pub command: String,
    /// After what time the harness gives up, in the harness's own unit.
    pub timeout: u32,
}

/// Far more than a hook takes, and less than a person would wait.
const SECONDS: u32 = 10;

/// How long the waiter of a session may wait: a working day.
const WAITER_SECONDS: u32 = 28_800;

/// The entries of a harness, in the order of a session. None for one that has no command hooks.
pub fn entries(harness: Harness, program: &Program) -> Vec<Entry> {
    let profile = harness.profile();
    let entry = |&Moment { event, name, matcher }: &Moment| Entry {
        event,
        name,
        matcher,
        command: whole_command(harness, event, &program.word()),
        timeout: if event == Event::Wait { WAITER_SECONDS } else { SECONDS } * profile.timeout_units,
    };
    profile.moments.iter().map(entry).collect()
}

/// Where a program that cannot run would do harm, that is made a success: Gemini takes every failure for a refusal, and
/// Claude Code takes a waiter's for a wake, over and over. Only running it tells whether it can run: it may be missing,
/// not permitted, built for another machine, or lack a library. There is no `$` in it, because Grok, which reads the
/// files of others too, looks for names of variables there.
fn whole_command(harness: Harness, event: Event, word: &str) -> String {
    let call = format!("{word}{}", ending(harness, event));
    if is_guarded(harness, event) { format!("{word}{GUARD}{call}") } else { call }
}

/// What stands between the two mentions of the program.
const GUARD: &str = " --version >/dev/null 2>&1 || exit 0; exec ";

fn is_guarded(harness: Harness, event: Event) -> bool {
    harness.profile().refuses_on_failure || event == Event::Wait
}

fn ending(harness: Harness, event: Event) -> String {
    format!(" hook --harness {harness} --event {event}")
}

/// Which event a command serves, if it is one of ours for this harness: one that we would write ourselves, for a program
/// of our name in any place. A command that does anything else besides is its author's.
pub fn event_of(harness: Harness, command: &str) -> Option<Event> {
    Event::ALL.into_iter().find(|event| {
        let word = command.strip_suffix(&ending(harness, *event)).and_then(|before| {
            if !is_guarded(harness, *event) {
                return Some(before);
            }
            let both = before.len().checked_sub(GUARD.len())?;
            before.get(..both / 2)
        });
        word.is_some_and(|word| is_program(word) && whole_command(harness, *event, word) == command)
    })
}

/// Whether a word of a shell is a program of our name.
fn is_program(word: &str) -> bool {
    let inner =
        word.strip_prefix('\'').and_then(|rest| rest.strip_suffix('\'')).map(|inner| inner.replace(r"'\''", "'"));
    let path = inner.as_deref().unwrap_or(word);
    let is_ours = path == NAME || (path.starts_with('/') && path.ends_with(&format!("/{NAME}")));
    is_ours && shell_word(path) == word
}

/// Whether a command that is not ours runs this program as a hook of this harness all the same.
pub fn is_like_ours(harness: Harness, command: &str) -> bool {
    let call = format!("hook --harness {harness} ");
    command.contains(NAME) && command.contains(&call) && event_of(harness, command).is_none()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_entry_is_known_again_wherever_the_program_is() {
        let paths = ["/usr/bin/fm-watch", "/a b/fm-watch", "/it's/fm-watch"];
        let programs = paths.map(|path| Program::At(path.into()));
        for program in programs.iter().chain([&Program::OnPath]) {
            for harness in Harness::ALL {
                for entry in entries(harness, program) {
                    assert_eq!(event_of(harness, &entry.command), Some(entry.event), "{entry:?}");
                }
            }
        }
    }

    #[test]
    fn what_others_run_is_not_ours() {
        let foreign = [
            "my-fm-watch hook --harness claude --event turn-end",
            "fm-watch hook --harness codex --event turn-end",
            "fm-watch hook --harness claude --event turn-end; rm x",
            "fm-watch hook --harness claude --event turn-end ",
            "backup.sh; fm-watch hook --harness claude --event turn-end",
            "echo fm-watch hook --harness claude --event turn-end",
            "bin/fm-watch hook --harness claude --event turn-end",
            "'/a b/fm-watch hook --harness claude --event turn-end",
            "fm-watch hook --harness claude --event wait",
            "fm-watch --version >/dev/null 2>&1 || exit 0; exec other hook --harness claude --event wait",
            "fm-watch guard",
            "",
        ];
        for command in foreign {
            assert_eq!(event_of(Harness::Claude, command), None, "{command}");
        }
    }

    #[test]
    fn the_name_is_used_when_it_finds_this_very_program() {
        let directory = tempfile::tempdir().unwrap();
        let real = directory.path().join("real");
        std::os::unix::fs::symlink("/bin/true", &real).unwrap();
        std::os::unix::fs::symlink(&real, directory.path().join(NAME)).unwrap();
        let environment = Environment::from_pairs([("PATH", directory.path())]);
        assert_eq!(named(&real, &environment).unwrap(), Program::OnPath);
        let other = Path::new("/other/fm-watch");
        assert_eq!(named(other, &environment).unwrap(), Program::At(other.to_owned()));
        assert!(named(Path::new("/other/renamed"), &environment).is_err());
    }
}
