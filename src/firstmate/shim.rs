//! The small scripts that stand in for those of a firstmate home.
//!
//! # Theory
//!
//! A shim finds out where it is as the scripts do (by the shell's own logical `cd`), and becomes this program by its absolute
//! path, which is told the script's own. From there the code, the home and the state directory follow as they do in the
//! scripts ([`super::home::Origin`]). It sets no variable, for what the watcher runs is to see what its caller sees, and
//! starts no process on the way: the guard runs at the top of many commands.
//!
//! It is written for every POSIX shell, and for bash 3.2, which macOS has: no arrays, no `[[`, no `local`.
//!
//! If this is wrong, a script looks after another home than it did before, or a command fails because its guard did.
//!
//! # Limits
//!
//! A script that is sourced, and not run, finds another `$0` than its own.

use std::path::Path;

use super::home::Script;

/// How the second line of a shim begins, by which it is known.
const MARK: &[u8] = b"# fm-watch stands in for this script";

/// What a shim asks this program for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verb {
    /// `fm-watch.sh`.
    Watch,
    /// `fm-watch-arm.sh`.
    Arm,
    /// `fm-guard.sh`.
    Guard,
    /// `fm-wake-drain.sh`.
    Drain,
}

impl Verb {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Watch, Self::Arm, Self::Guard, Self::Drain];

    /// The word for it.
    pub fn word(self) -> &'static str {
        match self {
            Self::Watch => "watch",
            Self::Arm => "arm",
            Self::Guard => "guard",
            Self::Drain => "drain",
        }
    }
}

/// The script's name in its directory.
pub fn name(script: Script) -> &'static str {
    script.path().rsplit('/').next().unwrap_or_default()
}

/// The name of a replaced script, beside the shim.
pub fn kept_name(script: Script) -> String {
    format!(".{}.before-fm-watch", name(script))
}

/// The scripts that have a shim, and what it asks this program for.
pub const REPLACED: [(Script, Verb); 4] = [
    (Script::Watch, Verb::Watch),
    (Script::Arm, Verb::Arm),
    (Script::Guard, Verb::Guard),
    (Script::Drain, Verb::Drain),
];

/// The text of a shim that runs the program at this absolute path.
pub fn text(script: Script, verb: Verb, program: &Path) -> Vec<u8> {
    // Whoever calls the guard goes on whatever it says.
    let code = i32::from(verb != Verb::Guard);
    let kept = kept_name(script);
    let mut text = MARK.to_vec();
    text.splice(0..0, *b"#!/bin/sh\n");
    text.extend_from_slice(
        format!(
            r"; the original is beside it: {kept}
# To have it back: fm-watch adopt --undo DIR
fm_program="
        )
        .as_bytes(),
    );
    text.extend(quoted(program));
    // Where nobody can read, this program would be given something that takes everything, and rows would be consumed.
    let closed = if verb == Verb::Drain { READER } else { "" };
    text.extend_from_slice(
        format!(
            r#"
if [ ! -x "$fm_program" ]; then
    echo "fm-watch: $fm_program is not there any more; install it again, or move {kept} back to {name}" >&2
    exit {code}
fi
{closed}case $0 in
    */*) fm_bin=${{0%/*}} ;;
    *) fm_bin=. ;;
esac
fm_here=$PWD
CDPATH='' cd -- "$fm_bin/" >/dev/null || exit {code}
fm_bin=$PWD
CDPATH='' cd -- "$fm_here" >/dev/null 2>&1 || :
exec "$fm_program" firstmate {verb} --script "$fm_bin/{name}" "$@"
"#,
            name = name(script),
            verb = verb.word(),
        )
        .as_bytes(),
    );
    text
}

/// What makes sure that there is somebody who could read.
const READER: &str = r#"if ! { true 3>&1; } 2>/dev/null; then
    echo "fm-watch: stdout is closed; nothing was drained" >&2
    exit 1
fi
"#;

/// Whether a script is a shim, of this program or of another release of it.
pub fn is_shim(content: &[u8]) -> bool {
    content.split(|&byte| byte == b'\n').nth(1).is_some_and(|line| line.starts_with(MARK))
}

/// A path as a word in single quotes.
fn quoted(path: &Path) -> Vec<u8> {
    let mut word = vec![b'\''];
    for &byte in path.as_os_str().as_encoded_bytes() {
        match byte {
            b'\'' => word.extend_from_slice(br"'\''"),
            other => word.push(other),
        }
    }
    word.push(b'\'');
    word
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_shim_is_known_by_its_second_line() {
        for (script, verb) in REPLACED {
            let shim = text(script, verb, Path::new("/opt/it's here/fm-watch"));
            assert!(is_shim(&shim), "{verb:?}");
            let shim = String::from_utf8(shim).unwrap();
            assert!(shim.contains(r"fm_program='/opt/it'\''s here/fm-watch'"), "{shim}");
            let last = format!(
                "\nexec \"$fm_program\" firstmate {} --script \"$fm_bin/{}\" \"$@\"\n",
                verb.word(),
                name(script)
            );
            assert!(shim.ends_with(&last), "{shim}");
        }
        assert!(!is_shim(b"#!/bin/sh\necho fm-watch stands in for this script\n") && !is_shim(b""));
    }

    #[test]
    fn only_the_guard_never_fails_its_caller() {
        for (script, verb) in REPLACED {
            let shim = String::from_utf8(text(script, verb, Path::new("/p"))).unwrap();
            assert_eq!(shim.contains("exit 1"), verb != Verb::Guard, "{shim}");
        }
    }
}
