//! The command lines that are called at every turn, understood without the definition of all the others.
//!
//! A hook runs at every turn and before every tool, and scripts call `guard` and `arm --no-wait` as often. To build the
//! definition of the whole command line takes longer than all else that a hook does on a healthy home, so the forms that
//! `hooks install` writes and that scripts call are read here ([`read`]). Whatever is different in anything is left to
//! the definition, which understands all of it; a test compares the two. [`split`] takes apart what all forms have in
//! common; whoever else looks at words before the definition does asks it, too.

use std::ffi::OsString;
use std::path::PathBuf;

use lexopt::Arg;

use super::args::{Arm, Cli, Command, Global, Guard, Hook};
use crate::hooks::event::Event;
use crate::hooks::harness::Harness;

/// A command line, taken apart at the name of its command.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Words {
    /// What stands before the command.
    pub before: Before,
    /// The command's name.
    pub command: OsString,
    /// What follows it.
    pub rest: Vec<OsString>,
}

/// What stands before the command.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Before {
    /// Nothing.
    Nothing,
    /// `--home DIR`.
    Home(PathBuf),
    /// Anything else.
    Other,
}

/// Takes a command line apart; `None` if there is no command in it, or no telling where it is.
pub fn split(arguments: impl IntoIterator<Item = OsString>) -> Option<Words> {
    let mut parser = lexopt::Parser::from_iter(arguments);
    let mut before = Before::Nothing;
    loop {
        // Behind it everything is a value, which no form here has.
        if parser.try_raw_args().is_some_and(|raw| raw.peek().is_some_and(|word| word == "--")) {
            return None;
        }
        let takes_value = match parser.next().ok()?? {
            Arg::Value(command) => return Some(Words { before, command, rest: parser.raw_args().ok()?.collect() }),
            Arg::Long("home") => {
                let home = parser.value().ok()?;
                before = if before == Before::Nothing && is_value(&home) {
                    Before::Home(home.into())
                } else {
                    Before::Other
                };
                continue;
            }
            Arg::Long(name) => ["state", "runtime-dir", "set", "color"].contains(&name),
            Arg::Short(_) => false,
        };
        before = Before::Other;
        if takes_value {
            parser.value().ok()?;
        }
    }
}

/// What a command line says that is one of `hook --harness H --event E`, `guard` and `arm --no-wait`, perhaps behind
/// `--home DIR`; `None` if that is not its form.
pub fn read(words: &Words) -> Option<Cli> {
    let home = match &words.before {
        Before::Nothing => None,
        Before::Home(home) => Some(home.clone()),
        Before::Other => return None,
    };
    let rest: Vec<&str> = words.rest.iter().map(|word| word.to_str()).collect::<Option<_>>()?;
    let command = match (words.command.to_str()?, rest.as_slice()) {
        ("guard", []) => Command::Guard(Guard { read_only: false }),
        ("arm", ["--no-wait"]) => Command::Arm(Arm { restart: false, no_wait: true, tracked: false, timeout: None }),
        ("hook", ["--harness", harness, "--event", event]) => {
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
            for home in ["", "--home /h ", "--home h/é ", "--home=/h "] {
                let line = format!("fm-watch {home}{command}");
                let read = split(words(&line)).as_ref().and_then(read).unwrap();
                let expected = Cli::parse_from(words(&line));
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
            "fm-watch -- guard",
            "fm-watch --home /h --home /h guard",
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
            assert!(split(words(line)).as_ref().and_then(read).is_none(), "{line}");
        }
    }

    #[test]
    fn the_command_is_found_behind_the_flags_of_every_command() {
        let command = |line: &str| split(words(line)).map(|words| words.command.into_string().unwrap());
        assert_eq!(command("fm-watch hook --harness claude --event turn-end --new").unwrap(), "hook");
        assert_eq!(command("fm-watch --home /h --quiet hook --harness nobody").unwrap(), "hook");
        assert_eq!(command("fm-watch lock --kind x /l -- hook").unwrap(), "lock");
        assert_eq!(command("fm-watch --home hook status --wrong").unwrap(), "status");
        assert_eq!(command("fm-watch --set a=b -qv --unknown wake").unwrap(), "wake");
        assert_eq!(command("fm-watch"), None);
    }
}
