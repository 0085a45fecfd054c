//! One look at something that others may replace meanwhile, and as many looks as it takes.
//!
//! # Theory
//!
//! What an attempt has found at a path may be another thing by the time it acts on it. That is no answer: neither is
//! the lock busy, nor is anything broken. So the attempt begins again. Each time somebody else has got on, so it ends;
//! but a program that replaces the path for ever must not keep anybody here for ever, and is reported.

use std::path::Path;

use super::Attempt;
use crate::base::error::{Error, Result};

/// How often something that is replaced under us is looked at again before that is reported.
const RETRIES: usize = 100;

/// What one look came to; see [`until_answered`].
pub enum Once<L, B = ()> {
    /// It was taken.
    Taken(L),
    /// Somebody has it.
    Busy(B),
    /// Something changed meanwhile; nothing is held any more.
    Again,
}

/// Looks until that is an answer. The two words are for people: where, and what was being done (`locked`).
///
/// # Errors
/// Those of a look, at once, and one when all looks were in vain.
pub fn until_answered<L, B>(
    path: impl AsRef<Path>,
    done: &str,
    mut look: impl FnMut() -> Result<Once<L, B>>,
) -> Result<Attempt<L, B>> {
    for _ in 0..RETRIES {
        match look()? {
            Once::Taken(taken) => return Ok(Attempt::Taken(taken)),
            Once::Busy(why) => return Ok(Attempt::Busy(why)),
            Once::Again => {}
        }
    }
    Err(Error::refused(
        path.as_ref(),
        format!("was replaced {RETRIES} times while it was being {done}"),
        "find out which program replaces it, then try again",
    ))
}
