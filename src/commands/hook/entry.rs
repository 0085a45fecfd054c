//! The command line of an installed entry, understood without the definition of all the others.
//!
//! A hook runs at every turn and before every tool. To build the definition of the whole command line takes longer than all
//! else that a hook does on a healthy home, so the one form that `hooks install` writes is read here, word by word. Whatever
//! is different in anything is left to the definition, which understands all of it; a test compares the two.

use std::ffi::OsString;

use crate::cli::{Color, Global, Hook};
use crate::hooks::event::Event;
use crate::hooks::harness::Harness;

/// What `fm-watch [--home DIR] hook --harness H --event E` says; `None` if that is not the form of this command line.
pub fn read(arguments: impl IntoIterator<Item = OsString>) -> Option<(Global, Hook)> {
    let words: Vec<OsString> = arguments.into_iter().skip(1).take(8).collect();
    let (home, rest) = match words.as_slice() {
        [flag, home, rest @ ..] if flag == "--home" && is_value(home) => (Some(home.into()), rest),
        rest => (None, rest),
    };
    let [command, harness_flag, harness, event_flag, event] = rest else { return None };
    if command != "hook" || harness_flag != "--harness" || event_flag != "--event" {
        return None;
    }
    let harness = Harness::ALL.into_iter().find(|known| harness == known.word())?;
    let event = Event::ALL.into_iter().find(|known| event == known.word())?;
    let global = Global {
        home,
        state: None,
        runtime_dir: None,
        set: Vec::new(),
        json: false,
        quiet: false,
        verbose: false,
        color: Color::Auto,
    };
    Some((global, Hook { harness, event }))
}

/// Whether a word is surely a value, and neither a flag nor an error.
fn is_value(word: &OsString) -> bool {
    !word.is_empty() && !word.as_encoded_bytes().starts_with(b"-")
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;
    use crate::cli::{Cli, Command};

    fn words(line: &str) -> Vec<OsString> {
        line.split(' ').map(OsString::from).collect()
    }

    #[test]
    fn an_entry_is_read_as_the_definition_reads_it() {
        for harness in Harness::ALL {
            for event in Event::ALL {
                for home in ["", "--home /h ", "--home h/é "] {
                    let line = format!("fm-watch {home}hook --harness {harness} --event {event}");
                    let (global, options) = read(words(&line)).unwrap();
                    let Cli { global: expected, command: Command::Hook(hook) } = Cli::parse_from(words(&line)) else {
                        panic!("{line}")
                    };
                    assert_eq!(format!("{global:?} {options:?}"), format!("{expected:?} {hook:?}"), "{line}");
                }
            }
        }
    }

    #[test]
    fn whatever_else_it_is_the_definition_decides() {
        for line in [
            "fm-watch",
            "fm-watch hook",
            "fm-watch guard",
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
