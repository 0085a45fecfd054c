//! Every text comes back as it was, whatever somebody wrote in it.

use proptest::prelude::*;

use super::*;
use crate::hooks::install::entry::entries;
use crate::system::program::Program;

const HARNESSES: [Harness; 5] = [Harness::Claude, Harness::Codex, Harness::Cursor, Harness::Gemini, Harness::Grok];

fn ours(harness: Harness) -> Vec<Entry> {
    entries(harness, &Program::OnPath)
}

fn put(before: Option<&str>, harness: Harness) -> String {
    install(before, harness, &ours(harness)).unwrap_or_else(|error| panic!("{error}: {before:?}"))
}

/// Puts the entries in, twice, and takes them out again.
#[track_caller]
fn comes_back(before: Option<&str>, harness: Harness) -> String {
    let after = put(before, harness);
    let found = installed(&after, harness).unwrap();
    assert_eq!(found.len(), ours(harness).len(), "{after}");
    assert_eq!(put(Some(&after), harness), after);
    assert_eq!(uninstall(&after, harness).unwrap().as_deref(), before, "{after}");
    after
}

fn is_turned_off(text: &str, harness: Harness) -> bool {
    harness.profile().switches.iter().any(|switch| says(text, switch.path, switch.off))
}

#[test]
fn a_missing_an_empty_and_a_blank_file_come_back() {
    for harness in HARNESSES {
        for before in [None, Some(""), Some("\n"), Some("  \r\n\t"), Some("{}"), Some("{ }\n"), Some("{\n}\n")] {
            comes_back(before, harness);
        }
    }
}

#[test]
fn what_is_made_is_strict_json_that_people_can_read() {
    for harness in HARNESSES {
        for before in [None, Some(""), Some("{}"), Some("{\n    \"a\": [1]\n}\n")] {
            let after = comes_back(before, harness);
            let value: serde_json::Value = serde_json::from_str(&after).unwrap();
            for entry in ours(harness) {
                assert!(value["hooks"][entry.name].is_array(), "{after}");
            }
            assert_eq!(value.get("version").is_some(), harness == Harness::Cursor, "{after}");
        }
    }
    let after = put(Some("{\n    \"a\": [1]\n}\n"), Harness::Grok);
    let lines: Vec<_> = after.lines().map(|line| line.trim_end_matches(|c| c != '[' && c != '{' && c != ']')).collect();
    assert!(lines.contains(&"    \"hooks\": {"), "{after}");
    assert!(lines.contains(&"        \"SessionStart\": ["), "{after}");
}

/// Texts that people wrote.
const FIXTURES: [&str; 21] = [
    "{\"hooks\":{}}",
    "{\"hooks\":{},}",
    "{\"hooks\": {\"Stop\": []}}",
    "{\"hooks\": {\"Stop\": [\n]}}",
    "{\"hooks\": {\"Stop\": [ ]\n}\n}",
    "{\"hooks\": {\"stop\": [], \"Stop\": [], \"AfterAgent\": [],}}",
    "{\r\n\t\"model\": \"x\",\r\n\t\"hooks\": {\r\n\t}\r\n}\r\n",
    "{\r\n   \"model\": \"x\"\r\n}",
    "// first\n{ // second\n  /* third */\n  // fourth\n}\n// last",
    "{ // nothing here\n}",
    "{ /* nothing here */ }",
    "{\n  \"a\": 1 // about a\n}\n",
    "{\n  \"a\": 1, // about a\n}\n",
    "{\n  \"a\": 1 /* one */ , /* two */ // three\n  /* four */\n}",
    "{\n\n\n      \"a\"\n:\n1\n\n\n}\n\n\n",
    "{\"version\": 1, \"hooks\": {\"stop\": [{\"command\": \"./mine.sh\"}]}}",
    "{ \"version\": 1}",
    "{\"hooks\": {}, \"version\": 1}",
    "{\n  \"version\": 1,\n  \"hooks\": {\n    \"stop\": [\n      {\"command\": \"x\", \"timeout\": 3} // mine\n    ]\n  }\n}\n",
    "{\"hooks\": {\"Stop\": [{\"hooks\": [{\"type\": \"command\", \"command\": \"x // no comment, ] }\"}]}, ]}}",
    "{\n  \"hooks\": {\n    \"Stop\": [\n      {\n        \"matcher\": \"\",\n        \"hooks\": [\n          { \"type\": \"command\", \"command\": \"say 'done'\" }\n        ]\n      }\n    ],\n    \"PreToolUse\": [{\"matcher\": \"Bash\", \"hooks\": [{\"type\": \"command\", \"command\": \"check\"}]}]\n  },\n  \"permissions\": {\"allow\": [\"Bash(ls:*)\"]}\n}\n",
];

#[test]
fn texts_that_people_wrote_come_back() {
    for harness in HARNESSES {
        for fixture in FIXTURES {
            let after = comes_back(Some(fixture), harness);
            for line in fixture
                .lines()
                .filter(|line| !line.contains("no comment"))
                .filter_map(|line| line.split_once("//"))
                .map(|(_, comment)| comment)
            {
                assert!(after.contains(line), "{after}");
            }
        }
    }
}

#[test]
fn what_is_not_understood_is_refused() {
    let broken =
        ["{", "[]", "1", "{\"a\": 1} x", "{'a': 1}", "{a: 1}", "{\"a\": 1 \"b\": 2}", "{\"hooks\": []}", "{,}"];
    let shapes = ["{\"hooks\": 1}", "{\"hooks\": {\"Stop\": {}}}", "{\"hooks\": {}, \"hooks\": {}}", "// only words"];
    for text in broken.into_iter().chain(shapes) {
        assert!(install(Some(text), Harness::Claude, &ours(Harness::Claude)).is_err(), "{text}");
    }
    let deep = format!("{{\"a\": {}{}}}", "[".repeat(100_000), "]".repeat(100_000));
    assert!(install(Some(&deep), Harness::Claude, &ours(Harness::Claude)).is_err());
}

#[test]
fn entries_of_a_program_that_has_moved_are_replaced() {
    for harness in HARNESSES {
        for before in [None, Some(""), Some("{\"a\": 1}"), Some("{\"hooks\": {\"Stop\": [{\"hooks\": []}]}}")] {
            let moved = entries(harness, &Program::At("/old place/fm-watch".into()));
            let old = install(before, harness, &moved).unwrap();
            let new = put(Some(&old), harness);
            assert_eq!(new, put(before, harness));
        }
    }
}

#[test]
fn a_file_that_somebody_changed_in_between_keeps_the_change() {
    let after = put(Some("{\n  \"a\": 1\n}\n"), Harness::Claude);
    let changed = after.replace("\"a\": 1", "\"a\": 2").replace("\"Stop\": [", "\"Stop\": [{\"hooks\": []},");
    let left = uninstall(&changed, Harness::Claude).unwrap().unwrap();
    let value: serde_json::Value = serde_json::from_str(&left).unwrap();
    assert_eq!(value, serde_json::json!({"a": 2, "hooks": {"Stop": [{"hooks": []}]}}));
}

/// What is left when somebody has edited the file in between, as people do.
#[test]
fn what_is_left_reads_as_if_we_had_never_been_there() {
    let left = |before: Option<&str>, harness, edit: [&str; 2]| {
        let after = put(before, harness);
        assert_eq!(after.matches(edit[0]).count(), 1, "{after}");
        uninstall(&after.replace(edit[0], edit[1]), harness).unwrap().unwrap()
    };
    let pretty = Some("{\n  \"a\": 1\n}\n");
    // A setting behind ours, before ours, and in a file that was not there.
    let behind = ["\n  }\n}\n", "\n  },\n  \"b\": 2\n}\n"];
    assert_eq!(left(pretty, Harness::Claude, behind), "{\n  \"a\": 1,\n  \"b\": 2\n}\n");
    assert_eq!(left(None, Harness::Claude, behind), "{\n  \"b\": 2\n}\n");
    let between = ["\"a\": 1,", "\"a\": 1,\n  \"b\": 2,"];
    assert_eq!(left(pretty, Harness::Grok, between), "{\n  \"a\": 1,\n  \"b\": 2\n}\n");
    // A hook of theirs behind ours, and in an event of their own.
    let mine = "{\"hooks\": [{\"type\": \"command\", \"command\": \"mine\"}]}";
    let theirs = format!("{{\n  \"hooks\": {{\n    \"Stop\": [\n      {mine}\n    ]\n  }}\n}}\n");
    let stop = ["turn-end\", \"timeout\": 10}]}", &format!("turn-end\", \"timeout\": 10}}]}},\n      {mine}")];
    assert_eq!(left(None, Harness::Codex, stop), theirs);
    let event = ["\n    ]\n  }\n}\n", &format!("\n    ],\n    \"Mine\": [\n      {mine}\n    ]\n  }}\n}}\n")];
    assert_eq!(left(None, Harness::Codex, event), theirs.replace("Stop", "Mine"));
    // Cursor needs the version as long as there is a hook.
    let stop = ["turn-end\", \"timeout\": 10}", "turn-end\", \"timeout\": 10},\n      {\"command\": \"mine\"}"];
    let theirs =
        "{\n  \"hooks\": {\n    \"stop\": [\n      {\"command\": \"mine\"}\n    ]\n  },\n  \"version\": 1\n}\n";
    assert_eq!(left(None, Harness::Cursor, stop), theirs);
}

#[test]
fn an_entry_that_somebody_moved_into_a_group_of_theirs_is_found_there() {
    let command = &ours(Harness::Claude)[3].command;
    let mine = "{\"type\": \"command\", \"command\": \"mine\"}";
    let text = format!("{{\"hooks\": {{\"Stop\": [{{\"hooks\": [{mine}, {{\"command\": \"{command}\"}}]}}]}}}}");
    let left = uninstall(&text, Harness::Claude).unwrap().unwrap();
    assert_eq!(left, format!("{{\"hooks\": {{\"Stop\": [{{\"hooks\": [{mine}]}}]}}}}"));
}

#[test]
fn a_file_that_another_program_has_printed_anew_loses_our_entries_and_nothing_else() {
    for before in ["{\"a\": 1}", "{\"hooks\": {\"Other\": [1]}}"] {
        let value: serde_json::Value = serde_json::from_str(&put(Some(before), Harness::Codex)).unwrap();
        for printed in [value.to_string(), serde_json::to_string_pretty(&value).unwrap()] {
            let left: serde_json::Value =
                serde_json::from_str(&uninstall(&printed, Harness::Codex).unwrap().unwrap()).unwrap();
            assert!(installed(&left.to_string(), Harness::Codex).unwrap().is_empty());
            assert_eq!(left.get("a"), value.get("a"));
            assert_eq!(left.pointer("/hooks/Other"), value.pointer("/hooks/Other"));
        }
    }
}

#[test]
fn what_cannot_be_taken_out_without_harm_stays() {
    let command = &ours(Harness::Claude)[3].command;
    // Without our lines the comment would swallow the brackets.
    let text = format!("{{\"hooks\": {{\"Stop\": [1 // mine\n, {{\"command\": \"{command}\"}}]}}}}");
    let left = uninstall(&text, Harness::Claude);
    assert!(left.is_err() || left == Ok(Some("{\"hooks\": {\"Stop\": [1 // mine\n]}}".to_owned())), "{left:?}");
    let text = format!("{{\"hooks\": {{\"Stop\": [ // mine\n{{\"command\": \"{command}\"}}]}}}}");
    assert_eq!(uninstall(&text, Harness::Claude), Err(Refusal::Layout));
}

#[test]
fn a_file_that_turns_its_hooks_off_is_seen() {
    assert!(is_turned_off("{\"disableAllHooks\": true}", Harness::Claude));
    assert!(!is_turned_off("{\"disableAllHooks\": false}", Harness::Claude));
    assert!(is_turned_off("{\"hooksConfig\": {\"enabled\": false}}", Harness::Gemini));
}

/// White space and comments, as they may stand between any two tokens.
fn trivia() -> impl Strategy<Value = String> {
    let piece = prop_oneof![
        6 => Just(""), 4 => Just(" "), 3 => Just("\n"), 2 => Just("\r\n"), 2 => Just("\t"), 1 => Just("   \n      "),
        1 => Just("/* } ] , \" */"), 1 => Just("// } ] , \" ü\n"), 1 => Just("//\r\n"), 1 => Just("/**/"),
    ];
    prop::collection::vec(piece, 0..4).prop_map(|pieces| pieces.concat())
}

fn list_of(
    open: &'static str,
    close: &'static str,
    item: impl Strategy<Value = String>,
    most: usize,
) -> impl Strategy<Value = String> {
    let items = prop::collection::vec((trivia(), item, trivia()), 0..most);
    (items, trivia(), any::<bool>(), trivia()).prop_map(move |(items, inner, ends_in_comma, behind)| {
        let comma = if ends_in_comma && !items.is_empty() { "," } else { "" };
        let items: Vec<_> = items.into_iter().map(|(before, item, behind)| before + &item + &behind).collect();
        let inner = if items.is_empty() { inner } else { items.join(",") };
        format!("{open}{inner}{comma}{behind}{close}")
    })
}

fn value() -> impl Strategy<Value = String> {
    let leaf = prop_oneof![Just("1"), Just("\"a // b\""), Just("null"), Just("\"\\\"}\"")].prop_map(str::to_owned);
    leaf.prop_recursive(3, 12, 3, |inner| prop_oneof![list_of("[", "]", inner.clone(), 3), object(inner)])
}

fn object(inner: impl Strategy<Value = String>) -> impl Strategy<Value = String> {
    list_of(
        "{",
        "}",
        (0..3_u8, trivia(), inner).prop_map(|(name, blank, value)| format!("\"k{name}\"{blank}:{value}")),
        3,
    )
}

fn group() -> impl Strategy<Value = String> {
    let handler = Just("{\"type\": \"command\", \"command\": \"theirs\"}".to_owned());
    let nested = (trivia(), list_of("[", "]", handler.clone(), 3))
        .prop_map(|(blank, list)| format!("{{\"matcher\": \"x\",{blank}\"hooks\":{blank}{list}}}"));
    prop_oneof![handler, nested, value()]
}

fn events() -> impl Strategy<Value = String> {
    let names = ["Stop", "stop", "SessionStart", "sessionStart", "AfterAgent", "Other", "PreToolUse"];
    let names = prop::sample::subsequence(names.to_vec(), 0..4);
    (names, prop::collection::vec((trivia(), list_of("[", "]", group(), 3)), 4), trivia(), any::<bool>()).prop_map(
        |(names, lists, behind, ends_in_comma)| {
            let comma = if ends_in_comma && !names.is_empty() { "," } else { "" };
            let members: Vec<_> =
                names.iter().zip(lists).map(|(name, (blank, list))| format!("{blank}\"{name}\": {list}")).collect();
            format!("{{{}{comma}{behind}}}", members.join(","))
        },
    )
}

fn file() -> impl Strategy<Value = String> {
    let version = Just("\"version\": 1".to_owned());
    let hooks = (trivia(), events()).prop_map(|(blank, events)| format!("\"hooks\"{blank}:{events}"));
    let other = (any::<u16>(), value()).prop_map(|(name, value)| format!("\"o{name}\": {value}"));
    let other = other.boxed();
    let optional = |member: BoxedStrategy<String>| prop::option::of(member);
    let members =
        (optional(other.clone().boxed()), optional(hooks.boxed()), optional(version.boxed()), optional(other.boxed()));
    (members, trivia(), trivia(), trivia(), any::<bool>(), prop::collection::vec(trivia(), 4)).prop_map(
        |((one, two, three, four), before, inner, behind, ends_in_comma, blanks)| {
            let members: Vec<_> = [one, two, three, four].into_iter().flatten().collect();
            let comma = if ends_in_comma && !members.is_empty() { "," } else { "" };
            let members: Vec<_> = members.into_iter().zip(blanks).map(|(member, blank)| blank + &member).collect();
            format!("{before}{{{}{comma}{inner}}}{behind}", members.join(","))
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    #[test]
    fn any_text_comes_back(before in file(), harness in prop::sample::select(HARNESSES.to_vec())) {
        prop_assume!(parse(&before).is_ok());
        comes_back(Some(&before), harness);
    }

    #[test]
    fn no_bytes_make_it_panic(text in ".{0,60}", harness in prop::sample::select(HARNESSES.to_vec())) {
        let _refused = install(Some(&text), harness, &ours(harness));
        let _refused = uninstall(&text, harness);
    }
}
