//! The command lines that are called at every turn, understood without the definition of all the others.
//!
//! A hook runs at every turn and before every tool, and scripts call `guard` and `arm --no-wait` as often. To build the
//! definition of the whole command line takes longer than all else that a hook does on a healthy home, so the forms that
//! `hooks install` writes and that scripts call are read here, word by word. Whatever is different in anything is left to
//! the definition, which understands all of it; a test compares the two.

use std::ffi::{OsStr, OsString};

use super::args::{Arm, Cli, Command, Global, Guard, Hook};
use crate::hooks::event::Event;
use crate::hooks::harness::Harness;

/// What `fm-watch [--home DIR]` says with one of `hook --harness H --event E`, `guard` and `arm --no-wait`; `None` if
/// that is not the form of this command line.
pub fn read(arguments: impl IntoIterator<Item = OsString>) -> Option<Cli> {
    let words: Vec<OsString> = arguments.into_iter().skip(1).take(8).collect();
    let (home, rest) = match words.as_slice() {
        [flag, home, rest @ ..] if flag == "--home" && is_value(home) => (Some(home.into()), rest),
        rest => (None, rest),
    };
    let rest: Vec<&OsStr> = rest.iter().map(OsString::as_os_str).collect();
    let command = match rest.as_slice() {
        [command] if *command == "guard" => Command::Guard(Guard { read_only: false }),
        [command, flag] if *command == "arm" && *flag == "--no-wait" => {
            Command::Arm(Arm { restart: false, no_wait: true, tracked: false, timeout: None })
        }
        [command, harness_flag, harness, event_flag, event]
            if *command == "hook" && *harness_flag == "--harness" && *event_flag == "--event" =>
        {
            let harness = Harness::ALL.into_iter().find(|known| *harness == known.word())?;
            let event = Event::ALL.into_iter().find(|known| *event == known.word())?;
            Command::Hook(Hook { harness, event })
        }
        _ => return None,
    };
    Some(Cli { global: Global { home, ..Global::default() }, command })
}

/// Whether a word is surely a value, and neither a flag nor an error.
fn is_value(word: &OsString) -> bool {
    !word.is_empty() && !word.as_encoded_bytes().starts_with(b"-")
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    fn words(line: &str) -> Vec<OsString> {
        line.split(' ').map(OsString::from).collect()
    }

    #[test]
    fn an_entry_is_read_as_the_definition_reads_it() {
        let hooks = Harness::ALL.into_iter().flat_map(|harness| {
            Event::ALL.into_iter().map(move |event| format!("hook --harness {harness} --event {event}"))
        });
        for command in hooks.chain(["guard".to_owned(), "arm --no-wait".to_owned()]) {
            for home in ["", "--home /h ", "--home h/é "] {
                let line = format!("fm-watch {home}{command}");
                let (read, expected) = (read(words(&line)).unwrap(), Cli::parse_from(words(&line)));
                assert_eq!(format!("{read:?}"), format!("{expected:?}"), "{line}");
            }
        }
    }

    #[test]
    fn whatever_else_it_is_the_definition_decides() {
        for line in [
            "fm-watch",
            "fm-watch hook",
            "fm-watch guard --read-only",
            "fm-watch --json guard",
            "fm-watch guard --home /h",
            "fm-watch arm",
            "fm-watch arm --no-wait --restart",
            "fm-watch arm --restart",
            "fm-watch hook --harness claude --event nothing",
            "fm-watch hook --harness nobody --event turn-end",
            "fm-watch hook --harness claude --event turn-end --json",
            "fm-watch hook --harness=claude --event=turn-end",
            "fm-watch --home hook --harness claude --event turn-end",
            "fm-watch --home --state hook --harness claude --event turn-end",
            "fm-watch --home  hook --harness claude --event turn-end",
            "fm-watch --state /s hook --harness claude --event turn-end",
        ] {
            assert!(read(words(line)).is_none(), "{line}");
        }
    }
}
