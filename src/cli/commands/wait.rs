//! `wait`: block until a wake is due, whoever watches.

use super::waiter::{self, OnLoss, Waiting};
use crate::base::error::Result;
use crate::cli::args;
use crate::cli::session::Session;

/// Waits.
///
/// # Errors
/// Nobody reads, or waiting is impossible.
pub fn wait(session: &Session, options: &args::Wait) -> Result<u8> {
    let (_, verdict) = session.verdict();
    if !verdict.is_watching() {
        let arm = session.command_line("arm");
        session.console.note(format!("{verdict}; only wakes that scripts add will come. Start one with: {arm}"));
    }
    waiter::until_woken(Waiting::begin(session, options.timeout)?, OnLoss::Tell)
}
