//! `wait`: block until a wake is due, whoever watches.

use super::context::Session;
use super::waiting::{self, OnLoss, Waiting};
use crate::cli;
use crate::error::Result;

/// Waits.
///
/// # Errors
/// Nobody reads, or waiting is impossible.
pub fn wait(session: &Session, options: &cli::Wait) -> Result<u8> {
    let (_, verdict) = session.verdict();
    if !verdict.is_watching() {
        let arm = session.command_line("arm");
        session.console.note(format!("{verdict}; only wakes that scripts add will come. Start one with: {arm}"));
    }
    waiting::until_woken(Waiting::begin(session, options.timeout)?, OnLoss::Tell)
}
