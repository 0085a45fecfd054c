//! How the watcher that a manager starts takes the place of one that its manager does not keep.
//!
//! # Theory
//!
//! It is the second half of a forced restart, made by the successor itself: it has read its settings and opened its
//! sources, so it *stands by*; only then is the holder proven to be this home's watcher and asked to leave, and the
//! successor takes the lock the moment it is free. A holder that does not leave in its time of grace is killed through the
//! same pin. A holder that nobody can prove to be this home's watcher is left alone.
//!
//! It goes in one direction only. A watcher that lost its place this way leaves with success, which no manager answers
//! with another start, and `arm` never asks a healthy watcher to leave without being told to. So nobody fights.
//!
//! If this is wrong, a watcher leaves and nobody takes its place, or a stranger is signalled.

use std::time::Duration;

use crate::cli::session::Session;
use crate::ownership::terminate::{self, Proven};
use crate::ownership::verdict::OwnerEvidence;
use crate::system::platform;

/// The holder, proven to be this home's watcher.
pub struct Holder {
    process: Proven<platform::Pinned>,
}

/// Proves who holds the home. `None`: nobody does any more.
///
/// # Errors
/// The reason why nobody may be asked to leave.
pub fn holder(session: &Session) -> Result<Option<Holder>, String> {
    let (evidence, verdict) = session.settled_verdict(session.settings().arm_timeout);
    // What the scripts' lock proves is not enough to end a watcher that nobody asked to replace. Where it proves enough,
    // this process stands by before it comes here.
    if evidence.foreign_holder().is_some() {
        return Err(format!("a watcher of the shell scripts holds it: {verdict}"));
    }
    let OwnerEvidence::Recorded(owner, _) = &evidence.owner else { return Err(verdict.to_string()) };
    let proven = terminate::prove(session.world.as_ref(), &session.place, owner, &session.here);
    proven.map(|proven| proven.map(|process| Holder { process })).map_err(|refusal| refusal.to_string())
}

impl Holder {
    /// Asks it to leave.
    ///
    /// # Errors
    /// The system refuses the signal.
    pub fn ask(&self, session: &Session) -> Result<(), String> {
        self.process.ask(session.world.as_ref()).map(drop).map_err(|refusal| refusal.to_string())
    }

    /// Kills it if it is still there.
    ///
    /// # Errors
    /// It is still there although it was killed, or the system refuses the signal.
    pub fn insist(&self, session: &Session) -> Result<(), String> {
        if self.process.has_ended_within(session.world.as_ref(), Duration::ZERO) {
            return Ok(());
        }
        self.process.insist(session.world.as_ref()).map(drop).map_err(|refusal| refusal.to_string())
    }
}
