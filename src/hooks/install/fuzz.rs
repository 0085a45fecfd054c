//! Files as people, editors and other programs leave them, made up by the thousand: all that is not ours survives.

mod hand;
mod meaning;

use self::hand::{Dice, Hand};
use self::meaning::{meaning, meaning_if_any, strict};
use super::target::{Scope, Target};
use super::{after_install, after_uninstall};
use crate::base::environment::Environment;
use crate::hooks::harness::{Form, Harness};
use crate::system::program::Program;

fn target(harness: Harness) -> Target {
    let environment = Environment::from_pairs([("HOME", "/h")]);
    Target::of(harness, Scope::User, &environment, "/p".as_ref()).unwrap()
}

#[track_caller]
fn put(target: &Target, before: &str) -> String {
    let after = after_install(target, Some(before.as_bytes()), &Program::OnPath);
    String::from_utf8(after.unwrap_or_else(|error| panic!("{error}: {before}"))).unwrap()
}

#[track_caller]
fn taken(target: &Target, text: &str) -> String {
    let left = after_uninstall(target, text.as_bytes()).unwrap_or_else(|error| panic!("{error}: {text}"));
    String::from_utf8(left.unwrap_or_else(|| panic!("it was made by somebody else: {text}"))).unwrap()
}

const HARNESSES: [Harness; 6] =
    [Harness::Claude, Harness::Codex, Harness::Cursor, Harness::Gemini, Harness::Grok, Harness::Kimi];

/// Calls it with so many files for each harness.
fn with_files(count: u64, mut look: impl FnMut(&Target, &str, &mut Dice)) {
    for harness in HARNESSES {
        let target = target(harness);
        for seed in 0..count {
            let mut hand = Hand::of(seed * 31 + 7);
            let text = if target.form == Form::Toml { hand.toml() } else { hand.json() };
            look(&target, &text, &mut hand.dice);
        }
    }
}

#[test]
fn what_is_put_in_changes_nothing_else_and_comes_out_to_the_byte() {
    with_files(1_500, |target, before, _| {
        let after = put(target, before);
        assert_ne!(after, before);
        assert_eq!(meaning(target, &after), meaning(target, before), "{before}\n{after}");
        assert_eq!(put(target, &after), after);
        assert_eq!(taken(target, &after), before, "{after}");
    });
}

#[test]
fn what_a_person_changes_elsewhere_in_between_is_all_that_remains() {
    let mut changed = 0;
    with_files(700, |target, before, _| {
        let after = put(target, before);
        let (comment, first) = if target.form == Form::Toml { ("#", "first = 1\n") } else { ("//", "{\"first\": 1,") };
        let above = |text: &str| {
            let (mark, text) = text.strip_prefix('\u{feff}').map_or(("", text), |text| ("\u{feff}", text));
            format!("{mark}{comment} a person's words\n\n{text}")
        };
        let mark = |text: &str| text.replacen("\"MARK\"", "\"changed ü\"", 1);
        let begin = |text: &str| match (target.form, text.starts_with(first.trim_end_matches("\"first\": 1,"))) {
            (Form::Toml, _) if !text.starts_with('\u{feff}') => format!("{first}{text}"),
            (Form::Json, true) if !strict(before).unwrap().as_object().unwrap().is_empty() => {
                first.to_owned() + &text[1..]
            }
            _ => text.to_owned(),
        };
        let edits: [&dyn Fn(&str) -> String; 3] = [&above, &mark, &begin];
        for edit in edits {
            changed += usize::from(edit(before) != before);
            assert_eq!(taken(target, &edit(&after)), edit(before), "{after}");
        }
        if target.form == Form::Json && !before.contains("//") {
            // Behind everything, on the last line or below it.
            let below = |text: &str| format!("{text} // a person's words");
            assert_eq!(taken(target, &below(&after)), below(before), "{after}");
        }
    });
    assert!(changed > 5_000, "only {changed} edits changed anything");
}

#[test]
fn what_a_person_adds_beside_our_entries_stays() {
    with_files(300, |target, before, _| {
        if target.form == Form::Toml {
            let edited = put(target, before) + "\n[mine]\nx = 1\n";
            assert_eq!(meaning(target, &taken(target, &edited)), meaning(target, &edited));
            return;
        }
        let after = put(target, before);
        // Beside the last entry of ours, in its list, before and behind it.
        let command = after.rfind(" --event turn-end\"").unwrap();
        let group = after[..command].rfind('\n').unwrap_or(0);
        let open = after[group..command].find('{').map(|at| group + at).filter(|_| target.harness != Harness::Cursor);
        let Some(open) = open.filter(|open| after[*open..command].starts_with("{\"hooks\": [{\"type\"")) else {
            return;
        };
        let edited = format!("{}{{\"hooks\": [\"mine\"]}}, {}", &after[..open], &after[open..]);
        let left = taken(target, &edited);
        assert_eq!(meaning(target, &left), meaning(target, &edited), "{edited}");
        assert!(left.contains("\"mine\"") && !left.contains("--event turn-end\""), "{left}");
    });
}

#[test]
fn damaged_files_are_refused_or_come_back() {
    let (mut refused, mut edited) = (0, 0);
    with_files(700, |target, before, dice| {
        let mut bytes = put(target, before).into_bytes();
        let is_ours_damaged = dice.is(2);
        if !is_ours_damaged {
            bytes = before.as_bytes().to_vec();
        }
        for _ in 0..=dice.roll(3) {
            let at = dice.roll(bytes.len().max(1)).min(bytes.len());
            match dice.roll(3) {
                0 => bytes.truncate(at),
                1 if at < bytes.len() => drop(bytes.remove(at)),
                _ => bytes.insert(at, dice.pick(b"{}[]\",:/*# \n\r\xff\0a")),
            }
        }
        // What was ours may not be any more, and then it is kept like everything else.
        let left = after_uninstall(target, &bytes);
        if let (Ok(Some(left)), Ok(text)) = (&left, std::str::from_utf8(&bytes))
            && let Some(meant) = meaning_if_any(target, text)
        {
            let left = std::str::from_utf8(left).unwrap();
            assert_eq!(meaning(target, left), meant, "{text}\n{left}");
        }
        match after_install(target, Some(&bytes), &Program::OnPath) {
            Err(_) => refused += 1,
            Ok(after) if !is_ours_damaged => {
                edited += 1;
                assert_eq!(after_uninstall(target, &after).unwrap().as_deref(), Some(bytes.as_slice()));
            }
            Ok(after) => assert_eq!(after_install(target, Some(&after), &Program::OnPath).unwrap(), after),
        }
    });
    assert!(refused > 300 && edited > 300, "{refused} {edited}");
}

#[test]
fn files_with_nothing_in_them_come_back() {
    for harness in HARNESSES {
        let target = target(harness);
        let blanks = ["", "\u{feff}", "\n", "\r\n", "  \t\r\n\n", "\u{feff}\n"];
        let empty = ["{}", "{ }", "{\n}", "{\t}\r\n", "\u{feff}{}", "{\"hooks\":{}}", "{\"hooks\":{\"Stop\":[]}}"];
        let of_form: &[&str] = if target.form == Form::Toml { &["hooks = []", "# only words"] } else { &empty };
        for before in blanks.iter().chain(of_form) {
            let after = put(&target, before);
            assert_eq!(put(&target, &after), after);
            assert_eq!(taken(&target, &after), *before);
            meaning(&target, &after);
        }
        // Not what JSON calls white space.
        if target.form == Form::Json {
            for before in ["\u{a0}", "\u{b}", "\0"] {
                assert!(after_install(&target, Some(before.as_bytes()), &Program::OnPath).is_err(), "{before:?}");
            }
        }
    }
}
