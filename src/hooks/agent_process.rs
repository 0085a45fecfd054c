//! The process of the agent in whose session a hook runs.
//!
//! It is the nearest ancestor that was not started only to run this hook. Whatever was has the hook's command line among
//! its own arguments: a shell as its script (`sh -c 'fm-watch hook …'`), a wrapper word by word (`timeout 9 fm-watch hook …`).
//! Those are passed over, whatever they are called. An agent that only *speaks* of hooks, because a person has put such a
//! command into its prompt, is not.
//!
//! If this names a process that ends with the hook, its session is taken for dead and the next one takes the home over;
//! nothing is signalled on this ground.
//!
//! Limits: a script file that calls the hook is taken for the agent, because its arguments do not show the hook.

use crate::system::World;
use crate::system::identity::{Identity, Observation, Pid};

/// So many wrappers are passed over.
const WRAPPERS: usize = 8;

/// The agent of this process. `None`: nobody can tell.
pub fn of_this_process<W: World>(world: &W) -> Option<Identity> {
    let mut pid = world.table_entry(world.own_pid())?.parent;
    for _ in 0..WRAPPERS {
        let agent = Pid::new(pid)?;
        if !runs_only_a_hook(&world.arguments(pid)?) {
            return identity(world, agent);
        }
        pid = world.table_entry(pid)?.parent;
    }
    None
}

/// Whether a process with these arguments was started only to run a hook.
fn runs_only_a_hook(arguments: &[u8]) -> bool {
    let words: Vec<&[u8]> = arguments.split(|&byte| byte == 0).collect();
    let is_wrapper = words.windows(2).any(|pair| pair[0] == b"hook" && pair[1].starts_with(b"--"))
        && words.iter().any(|word| *word == b"--harness" || word.starts_with(b"--harness="));
    is_wrapper || scripts(&words).any(|script| contains(script, b"hook") && contains(script, b"--harness"))
}

/// The words that a shell takes for a script: those behind an option that ends in `c`, as `-c` and `-lc` do.
fn scripts<'a>(words: &'a [&'a [u8]]) -> impl Iterator<Item = &'a [u8]> {
    let is_command_option = |word: &&[u8]| word.starts_with(b"-") && !word.starts_with(b"--") && word.ends_with(b"c");
    words.iter().copied().skip_while(move |word| !is_command_option(word)).skip(1)
}

fn contains(text: &[u8], part: &[u8]) -> bool {
    text.windows(part.len()).any(|window| window == part)
}

fn identity<W: World>(world: &W, pid: Pid) -> Option<Identity> {
    let process = world.pin(pid).ok()??;
    match world.observe(&process) {
        Observation::Seen(identity) => Some(identity),
        Observation::Gone | Observation::Unreadable(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn is_passed_over(words: &[&str]) -> bool {
        runs_only_a_hook(format!("{}\0", words.join("\0")).as_bytes())
    }

    #[test]
    fn what_runs_only_a_hook_is_passed_over() {
        let call = "fm-watch hook --harness claude --event turn-end";
        let guarded = format!("command -v fm-watch >/dev/null 2>&1 || exit 0; exec {call}");
        for words in [
            &["/bin/sh", "-c", call][..],
            &["zsh", "-lc", call],
            &["bash", "-l", "-c", &guarded],
            &["bash", "-c", "--", call],
            &["timeout", "9", "fm-watch", "hook", "--harness", "kimi", "--event", "turn-end"],
            &["env", "X=1", "/x/fm-watch", "hook", "--event", "turn-end", "--harness=kimi"],
        ] {
            assert!(is_passed_over(words), "{words:?}");
        }
    }

    #[test]
    fn an_agent_is_not_whatever_it_speaks_of() {
        let prompt = "run fm-watch hook --harness claude --event turn-end and tell me what it says";
        for words in [
            &["claude"][..],
            &["claude", "-p", prompt],
            &["node", "/x/codex.js", "exec", prompt],
            &["orchestrator", "--harness", "claude"],
            &["sh", "-c", "claude --harness x"],
            &[""],
        ] {
            assert!(!is_passed_over(words), "{words:?}");
        }
    }
}
