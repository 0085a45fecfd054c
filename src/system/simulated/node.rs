//! What a process has open, and how calls on it are told.

use std::ffi::OsStr;
use std::fmt::{self, Display};
use std::sync::{Arc, Mutex};

use super::openings::Opening;
use super::stage::{Call, Notice, Stage};

/// An open file or directory. Dropping it closes it.
pub(crate) struct SimNode {
    pub(crate) stage: Arc<Mutex<Stage>>,
    pub(crate) opening: Opening,
}

impl fmt::Debug for SimNode {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_tuple("SimNode").field(&self.opening).finish()
    }
}

impl Drop for SimNode {
    fn drop(&mut self) {
        let notice = {
            let mut stage = super::stage::lock(&self.stage);
            if stage.machine().is_close_visible(self.opening) { Notice::OfLives } else { Notice::Private }
        };
        let opening = self.opening;
        let call = Call { verb: "close", object: &opening.nth, notice };
        let _unless_left = Stage::call(&self.stage, call, |machine| {
            machine.close(opening);
            Ok(())
        });
    }
}

/// A name in what an opening has open.
pub(crate) struct In<'a>(pub(crate) &'a SimNode, pub(crate) &'a OsStr);

impl Display for In<'_> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}/{}", self.0.opening.nth, self.1.display())
    }
}

/// Two names in what an opening has open.
pub(crate) struct Both<'a>(pub(crate) &'a SimNode, pub(crate) &'a OsStr, pub(crate) &'a OsStr);

impl Display for Both<'_> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}/{} {}", self.0.opening.nth, self.1.display(), self.2.display())
    }
}

/// An opening by its number.
pub(crate) struct Itself<'a>(pub(crate) &'a SimNode);

impl Display for Itself<'_> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.opening.nth.fmt(formatter)
    }
}
