//! What a hook says, and the exit code that comes with it.

use std::io::{self, Write};

use crate::base::exit;
use crate::hooks::answer::Answer;
use crate::hooks::harness::Harness;

/// That there is no answer, and why.
pub(super) fn failure(harness: Harness, why: &str) -> Answer {
    harness.note(&format!("fm-watch: the hook has no answer: {why}"))
}

/// Says it, and gives the exit code. A harness that does not listen any more has made up its mind.
pub(super) fn leave(answer: &Answer) -> u8 {
    let said = say(answer);
    if said.is_ok() { answer.code } else { exit::OK }
}

/// Says it to the harness.
///
/// # Errors
/// Nobody reads.
pub(super) fn say(answer: &Answer) -> io::Result<()> {
    let (mut stdout, mut stderr) = (io::stdout().lock(), io::stderr().lock());
    stdout.write_all(answer.stdout.as_bytes()).and_then(|()| stdout.flush())?;
    stderr.write_all(answer.stderr.as_bytes()).and_then(|()| stderr.flush())
}
