//! Faults at chosen system calls, injected by strace.

use std::fs;
use std::process::Command;

use super::home::{PROGRAM, TestHome};
use super::skip::{Skip, requires};

/// Makes sure that processes can be traced here.
pub fn requires_strace(home: &TestHome) -> Result<(), Skip> {
    requires("strace")?;
    let mut probe = home.bare("strace");
    probe.args(["-o", "/dev/null", "true"]);
    let answer = super::home::finish(probe);
    if answer.code == Some(0) {
        Ok(())
    } else {
        Err(Skip(format!("strace may not trace here: {}", answer.stderr.trim())))
    }
}

/// The program under strace, with these expressions (for example `inject=flock:error=ENOLCK`). Calls are counted
/// from 1 in each thread by itself.
pub fn traced(home: &TestHome, expressions: &[&str], arguments: &[&str]) -> Command {
    let mut command = home.bare("strace");
    command.args(["-f", "-qq", "-o", "/dev/null"]);
    for expression in expressions {
        command.args(["-e", expression]);
    }
    command.arg(*PROGRAM).args(home.flags()).args(arguments);
    command
}

/// The program, killed as by `kill -9` when a thread of it is about to make its n-th call of a kind.
pub fn killed_at(home: &TestHome, call: &str, number: usize, arguments: &[&str]) -> Command {
    traced(home, &[&format!("trace={call}"), &format!("inject={call}:signal=KILL:when={number}")], arguments)
}

/// The program with its calls of these kinds written to a file of the test, for [`calls_in`].
pub fn recorded(home: &TestHome, calls: &str, arguments: &[&str]) -> Command {
    let mut command = home.bare("strace");
    command.args(["-f", "-qq", "-o"]).arg(home.scratch().join("calls"));
    command.args(["-e", &format!("trace={calls}")]).arg(*PROGRAM).args(home.flags()).args(arguments);
    command
}

/// The recorded calls, in order: thread, name, and the whole line.
pub fn calls_in(home: &TestHome) -> Vec<(u32, String, String)> {
    let text = fs::read_to_string(home.scratch().join("calls")).unwrap_or_default();
    let call = |line: &str| {
        let (thread, rest) = line.split_once(' ')?;
        let (name, _) = rest.trim_start().split_once('(')?;
        let is_name = name.chars().all(|character| character.is_ascii_alphanumeric() || character == '_');
        is_name.then(|| Some((thread.parse().ok()?, name.to_owned(), line.to_owned())))?
    };
    text.lines().filter_map(call).collect()
}
