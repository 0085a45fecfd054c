//! Locks as values: taking one gives a value, dropping the value releases it.
//!
//! "Busy" and "broken" can never be confused: busy is an answer ([`Attempt::Busy`]), everything else that is not
//! "taken" is an error.

pub mod kernel;
pub mod turn;

/// The answer to an attempt that does not wait.
#[derive(Debug)]
pub enum Attempt<L> {
    /// The lock is held for as long as the value lives.
    Taken(L),
    /// Somebody else holds it.
    Busy,
}
