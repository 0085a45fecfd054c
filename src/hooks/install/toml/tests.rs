//! Every text comes back as it was.

use proptest::prelude::*;

use super::*;
use crate::hooks::install::entry::entries;
use crate::system::program::Program;

fn ours() -> Vec<Entry> {
    entries(Harness::Kimi, &Program::OnPath)
}

#[track_caller]
fn comes_back(before: Option<&str>) -> String {
    let put =
        |text: Option<&str>| install(text, Harness::Kimi, &ours()).unwrap_or_else(|error| panic!("{error}: {text:?}"));
    let after = put(before);
    assert_eq!(installed_in(&parse(&after).unwrap(), Harness::Kimi).len(), ours().len(), "{after}");
    assert_eq!(put(Some(&after)), after);
    assert_eq!(uninstall(&after, Harness::Kimi).unwrap().as_deref(), before, "{after}");
    after
}

const FIXTURES: [&str; 12] = [
    "",
    "\n",
    "# only a comment",
    "\u{feff}a = 1\n",
    "model = \"x\" # why\n",
    "model = \"x\"",
    "model = \"x\"\r\n\r\n[table]\r\n  key = [1,\r\n 2]\r\n",
    "a = 1\r\n# last",
    "[[hooks]]\nevent = \"Stop\"\ncommand = \"mine\" # mine\n\n[other]\nx = 1\n\n\n",
    "hooks = []\n",
    "text = \"\"\"\n# <<< fm-watch: hooks\n[[hooks]]\n\"\"\"\n",
    "[[hooks]]\nevent = \"Stop\"\ncommand = \"fm-watch hook --harness claude --event turn-end\"",
];

#[test]
fn texts_that_people_wrote_come_back() {
    comes_back(None);
    for fixture in FIXTURES {
        let after = comes_back(Some(fixture));
        assert!(after.starts_with(fixture) || fixture.starts_with("hooks ="), "{after}");
    }
}

#[test]
fn what_cannot_be_continued_is_refused() {
    for text in ["hooks = [1]", "[hooks]\na = 1\n", "hooks = 1", "a = ", "[[hooks]", "a = 1\na = 2\n"] {
        assert!(install(Some(text), Harness::Kimi, &ours()).is_err(), "{text}");
    }
}

#[test]
fn every_entry_has_only_the_fields_that_are_known() {
    let table = parse(&comes_back(None)).unwrap();
    for hook in table["hooks"].as_array().unwrap() {
        for key in hook.as_table().unwrap().keys() {
            assert!(["event", "matcher", "command", "timeout"].contains(&key.as_str()), "{key}");
        }
        assert!((1..=600).contains(&hook["timeout"].as_integer().unwrap()));
    }
}

#[test]
fn entries_of_a_program_that_has_moved_are_replaced() {
    for before in [None, Some(""), Some("a = 1"), Some("a = 1\n")] {
        let moved = entries(Harness::Kimi, &Program::At("/old \"place\"/fm-watch".into()));
        let old = install(before, Harness::Kimi, &moved).unwrap();
        assert_eq!(install(Some(&old), Harness::Kimi, &ours()).unwrap(), comes_back(before));
    }
}

#[test]
fn a_file_that_was_printed_anew_loses_our_entries_and_nothing_else() {
    let before = "a = 1\n[[hooks]]\nevent = \"Stop\"\ncommand = \"mine\"\n[t]\nx = 1\n";
    let printed = toml::to_string_pretty(&parse(&comes_back(Some(before))).unwrap()).unwrap();
    assert!(!printed.contains('#'));
    let left = uninstall(&printed, Harness::Kimi).unwrap().unwrap();
    assert_eq!(parse(&left).unwrap(), parse(before).unwrap());
}

#[test]
fn what_was_written_below_ours_stays() {
    let after = comes_back(Some("a = 1")) + "# mine\n[t]\nx = 1\n";
    assert_eq!(uninstall(&after, Harness::Kimi).unwrap().unwrap(), "a = 1\n# mine\n[t]\nx = 1\n");
}

fn line() -> impl Strategy<Value = String> {
    let text = prop_oneof![
        Just(""),
        Just("   "),
        Just("# a comment ü"),
        Just("  # [[hooks]]"),
        Just("[[hooks]]"),
        Just("[[other.x]]"),
        Just("[[hooks]]\nevent = \"Stop\"\ncommand = \"mine\""),
        Just("# <<< fm-watch: hooks"),
        Just("'''a''' = '''\n# >>> fm-watch: hooks\n'''"),
    ];
    let key = any::<u32>().prop_map(|key| format!("k{key} = [1,\n  2] # why"));
    let table = any::<u32>().prop_map(|key| format!("  [t{key}]"));
    (prop_oneof![text.prop_map(str::to_owned), key, table], prop_oneof![Just("\n"), Just("\r\n")])
        .prop_map(|(line, end)| line + end)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    #[test]
    fn any_text_comes_back(lines in prop::collection::vec(line(), 0..12), has_last_end in any::<bool>()) {
        let whole = lines.concat();
        let before = if has_last_end { whole.as_str() } else { whole.trim_end_matches(['\r', '\n']) };
        prop_assume!(parse(before).is_ok());
        comes_back(Some(before));
    }

    #[test]
    fn no_bytes_make_it_panic(text in ".{0,60}") {
        let _refused = install(Some(&text), Harness::Kimi, &ours());
        let _refused = uninstall(&text, Harness::Kimi);
    }
}

#[test]
fn a_list_in_one_value_gets_the_entries_and_gives_them_back() {
    let lists = [
        "hooks = []",
        "hooks = [ ]\n[t]\nx = 1\n",
        "a = 1\n\"hooks\" = [ # none yet\n]\n",
        "hooks = [{event = \"Stop\", command = \"mine\"}]\n",
        "hooks = [{event = \"Stop\", command = \"a # b ]\"}, ] # mine\n",
        "hooks = [\r\n\t# first\r\n\t{ event = \"Stop\", command = 'mine' } , # why\r\n]\r\n",
        "hooks = [\n  { event = \"Stop\", command = \"x\" } # why\n  # last\n]",
    ];
    for before in lists {
        let ours = entries(Harness::Kimi, &Program::OnPath);
        let after = install(Some(before), Harness::Kimi, &ours).unwrap_or_else(|error| panic!("{error}: {before}"));
        let table: toml::Table = after.parse().unwrap();
        let count = before.matches("event").count() + ours.len();
        assert_eq!(table["hooks"].as_array().unwrap().len(), count, "{after}");
        assert_eq!(install(Some(&after), Harness::Kimi, &ours).unwrap(), after);
        assert_eq!(uninstall(&after, Harness::Kimi).unwrap().as_deref(), Some(before));
        // What somebody adds meanwhile stays.
        let edited = format!("top = 1\n{after}");
        assert_eq!(uninstall(&edited, Harness::Kimi).unwrap(), Some(format!("top = 1\n{before}")));
    }
}

#[test]
fn tables_of_their_own_are_no_list_in_one_value() {
    for text in ["", "[[hooks]]\nevent = \"Stop\"\n", "hooks = [1]", "hooks = {}", "a = [{}]"] {
        assert!(list_in(text).is_none(), "{text}");
    }
}
