//! What people have trusted: the text of every entry, as the first release wrote it.
//!
//! Some harnesses keep a hash of it and skip, without a word, an entry whose text has changed. So a change that makes this
//! fail is a change that turns off the hooks of everybody who has them.

use super::target::{Scope, Target};
use super::{after_install, after_uninstall};
use crate::base::environment::Environment;
use crate::hooks::harness::Harness;
use crate::system::program::Program;

const FROZEN: [(Harness, &str); 6] = [
    (Harness::Claude, include_str!("frozen/claude.json")),
    (Harness::Codex, include_str!("frozen/codex.json")),
    (Harness::Cursor, include_str!("frozen/cursor.json")),
    (Harness::Gemini, include_str!("frozen/gemini.json")),
    (Harness::Grok, include_str!("frozen/grok.json")),
    (Harness::Kimi, include_str!("frozen/kimi.toml")),
];

#[test]
fn the_text_of_every_entry_is_the_one_that_people_have_trusted() {
    for (harness, frozen) in FROZEN {
        let environment = Environment::from_pairs([("HOME", "/h")]);
        let target = Target::of(harness, Scope::User, &environment, "/p".as_ref()).unwrap();
        let written = after_install(&target, None, &Program::OnPath).unwrap();
        assert_eq!(String::from_utf8(written).unwrap(), frozen, "{harness}");
        assert_eq!(after_uninstall(&target, frozen.as_bytes()).unwrap(), None, "an older release's file is ours");
    }
}
