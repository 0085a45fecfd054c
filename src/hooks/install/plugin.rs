//! The files for harnesses that run code instead of commands: they ask the same program at the same moments.
//!
//! Such a file is ours as a whole. Its first line says so; a file of the same name without that line belongs to somebody
//! else, and is neither replaced nor removed.

use super::target::Refusal;
use crate::hooks::event::Event;
use crate::hooks::harness::{Form, Harness};
use crate::system::program::{NAME, Program, shell_word};

/// What all of them have in common: how they ask the program.
const ASK: &str = include_str!("ask.js");

/// The file of a harness, for a program.
fn content(harness: Harness, program: &Program) -> String {
    let program = match program {
        Program::OnPath => NAME.to_owned(),
        Program::At(path) => path.to_string_lossy().into_owned(),
    };
    // As a string of JavaScript, which JSON is.
    template(harness).replace("\"@PROGRAM@\"", &serde_json::Value::from(program).to_string())
}

fn template(harness: Harness) -> String {
    let Form::Plugin(code) = harness.profile().form else { return String::new() };
    code.replace("// @ASK@\n", ASK).replace("@HARNESS@", harness.word())
}

/// The file, in place of what was there.
///
/// # Errors
/// It belongs to somebody else.
pub(super) fn install(before: Option<&str>, harness: Harness, program: &Program) -> Result<String, Refusal> {
    match before {
        Some(text) if !is_ours(text, harness) => Err(Refusal::Foreign),
        _ => Ok(content(harness, program)),
    }
}

/// What is left of the file.
pub(super) fn uninstall(text: &str, harness: Harness) -> Option<String> {
    if is_ours(text, harness) { None } else { Some(text.to_owned()) }
}

/// Whether the file is as this release writes it, for whatever program: nobody has put anything of theirs into it.
pub(super) fn is_pristine(text: &str, harness: Harness) -> bool {
    let program_of = |line: &str| line.starts_with("const PROGRAM = ");
    let same = |(ours, theirs): (&str, &str)| ours == theirs || (program_of(ours) && program_of(theirs));
    let template = template(harness);
    text.ends_with('\n')
        && text.lines().count() == template.lines().count()
        && template.lines().zip(text.lines()).all(same)
}

/// What the file runs, and when. Nothing, if it is not one of ours.
pub(super) fn commands(text: &str, harness: Harness) -> Vec<(Event, String)> {
    let program = text.lines().find_map(|line| line.strip_prefix("const PROGRAM = ")?.strip_suffix(';'));
    let program = program.filter(|_| is_ours(text, harness)).and_then(|text| serde_json::from_str::<String>(text).ok());
    let Some(program) = program else { return Vec::new() };
    let call = |event| (event, format!("{} hook --harness {harness} --event {event}", shell_word(&program)));
    [Event::SessionStart, Event::PreTool, Event::TurnEnd].map(call).into()
}

/// Whether the file is one of ours.
pub(super) fn is_ours(text: &str, harness: Harness) -> bool {
    let mark = |text: &str| text.lines().next().and_then(|line| line.split_once('.')).map(|(mark, _)| mark.to_owned());
    mark(text).is_some() && mark(text) == mark(&template(harness))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_of_ours_is_replaced_and_removed_and_no_other() {
        for harness in [Harness::OpenCode, Harness::Pi] {
            let old = install(None, harness, &Program::At("/old \"place\"/fm-watch".into())).unwrap();
            assert!(old.contains(r#"const PROGRAM = "/old \"place\"/fm-watch";"#), "{old}");
            let new = install(Some(&old), harness, &Program::OnPath).unwrap();
            assert!(new.contains(r#"const PROGRAM = "fm-watch";"#), "{new}");
            assert_eq!(install(Some(&new), harness, &Program::OnPath).unwrap(), new);
            let commands = commands(&old, harness);
            assert_eq!(commands.len(), 3);
            let turn_end = format!("'/old \"place\"/fm-watch' hook --harness {harness} --event turn-end");
            assert_eq!(commands[2], (Event::TurnEnd, turn_end));
            assert!(is_pristine(&old, harness) && is_pristine(&new, harness));
            assert!(
                !is_pristine(&new.replace("3000", "9000"), harness) && !is_pristine(&(new.clone() + "x\n"), harness)
            );
            assert_eq!(uninstall(&new, harness), None);
            for foreign in ["", "export const Mine = 1;\n", "// fm-watch"] {
                assert_eq!(install(Some(foreign), harness, &Program::OnPath), Err(Refusal::Foreign));
                assert_eq!(uninstall(foreign, harness).as_deref(), Some(foreign));
            }
        }
    }
}
