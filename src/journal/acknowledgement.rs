//! What has been acknowledged: one number, in one file.
//!
//! `acknowledged.json` is replaced atomically and durably, under the journal's lock, and its number only grows. It is
//! sealed like a line of the journal. Whatever cannot be believed (torn, NUL, a wrong seal) acknowledges nothing, and so
//! does a number beyond all that was ever issued: the journal was put back from a copy, or lost its end. Everything that
//! is still there is then told again, and the damage is reported. Beside the number stands `issued`, the highest
//! number given out until then, so that numbers are not used again even when the segments that had them are gone.
//!
//! The generation is recorded for people. An acknowledgement that comes late, from a reader of an earlier generation, is
//! good: numbers are never used twice in a home, so it can only mean the wakes that its sender has seen.

use std::ffi::OsStr;
use std::path::Path;

use serde::{Deserialize, Serialize};

use super::codec;
use super::error::Damage;
use super::error::JournalError;
use super::segment::Index;
use super::writer::{JournalLock, Limits};
use crate::base::error::{Context, Error, Result};
use crate::base::failpoint;
use crate::base::failpoint::Failpoint;
use crate::system::World;
use crate::system::storage::{self, Durability};

/// The name of the file in the journal's directory.
pub const NAME: &str = "acknowledged.json";
/// More bytes than any of our versions writes.
const MOST: usize = 4096;
const SCHEMA: u32 = 1;

/// The content of the file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
struct Content {
    schema: u32,
    generation: u64,
    through: u64,
    #[serde(default)]
    issued: u64,
}

/// What the file says, before it is compared with the journal.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Claim {
    /// Nothing was ever acknowledged.
    Absent,
    /// Wakes up to this number are retired, and numbers up to this one were issued.
    Through {
        /// The last acknowledged number.
        through: u64,
        /// The highest number issued then.
        issued: u64,
        /// The generation that was current then.
        generation: u64,
    },
    /// The file cannot be believed, for this reason.
    Damaged(String),
}

/// What counts as acknowledged.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Acknowledgement {
    /// The last acknowledged number.
    pub(crate) through: u64,
    /// A number that no new wake may have or be below.
    pub(crate) issued: u64,
    /// The generation under which it was acknowledged.
    pub(crate) generation: u64,
    /// Why the file is not believed, if it is not.
    pub(crate) damage: Option<Damage>,
}

impl Claim {
    /// Reads the file.
    pub(crate) fn read<W: World>(world: &W, directory: &W::Node) -> Self {
        match storage::read(world, directory, OsStr::new(NAME), MOST) {
            Ok(None) => Self::Absent,
            Ok(Some(bytes)) => Self::parse(&bytes),
            Err(error) => Self::Damaged(format!("cannot be read: {error}")),
        }
    }

    fn parse(bytes: &[u8]) -> Self {
        let line = bytes.strip_suffix(b"\n").unwrap_or(bytes);
        if !codec::is_sealed(line) {
            return Self::Damaged("its checksum is wrong".to_owned());
        }
        match serde_json::from_slice::<Content>(line) {
            Ok(Content { through, issued, generation, .. }) => Self::Through { through, issued, generation },
            Err(error) => Self::Damaged(error.to_string()),
        }
    }

    /// Compares the file with the highest number that the segments prove to be issued.
    pub(crate) fn against(self, proven: u64) -> Acknowledgement {
        let nothing = Acknowledgement { through: 0, issued: proven, generation: 0, damage: None };
        let disbelieved = |reason: String| {
            let reason = format!("{reason}; nothing counts as acknowledged, so all that is kept is told again");
            Some(Damage::whole(NAME, reason))
        };
        match self {
            Self::Absent => nothing,
            Self::Damaged(reason) => Acknowledgement { damage: disbelieved(reason), ..nothing },
            Self::Through { through, issued, generation } if through > proven => {
                let reason = format!("it acknowledges wake {through}, but the last one is {proven}");
                let issued = issued.max(through);
                Acknowledgement { issued, generation, damage: disbelieved(reason), ..nothing }
            }
            Self::Through { through, issued, generation } => {
                Acknowledgement { through, issued: issued.max(proven), generation, damage: None }
            }
        }
    }
}

impl Acknowledgement {
    /// Makes this acknowledgement durable.
    pub(crate) fn write<W: World>(&self, world: &W, directory: &W::Node, path: &Path) -> Result<()> {
        let content =
            Content { schema: SCHEMA, generation: self.generation, through: self.through, issued: self.issued };
        let object = serde_json::to_vec(&content).map_err(|error| Error::Failed(error.to_string()))?;
        storage::replace(world, directory, NAME, &codec::seal(object), Durability::Power)
            .doing("replace", path.join(NAME))
    }
}

/// What an acknowledgement did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Acknowledged {
    /// The last acknowledged number now.
    pub through: u64,
    /// The last acknowledged number before. When it is the same, the wakes were acknowledged already.
    pub before: u64,
    /// What was wrong with the file that was replaced.
    pub repaired: Option<Damage>,
}

/// Retires every wake up to and including `through`. That is durable when this returns. Fewer than are retired
/// already is fine and changes nothing.
///
/// # Errors
/// [`JournalError::BeyondLast`] for a number that was never issued, [`JournalError::Busy`], and those of the system.
pub fn acknowledge<W: World>(
    world: &W,
    directory: &W::Node,
    path: &Path,
    through: u64,
    generation: u64,
) -> Result<Acknowledged, JournalError> {
    let _lock = JournalLock::<W>::take(world, directory, path, Limits::default().lock_wait)?;
    failpoint::reach(Failpoint::JournalAcknowledgeLocked).doing("acknowledge in", path)?;
    let mut index = Index::default();
    index.refresh(world, directory).doing("read", path)?;
    let proven = index.issued();
    let found = Claim::read(world, directory).against(proven);
    if through > proven {
        return Err(JournalError::BeyondLast { asked: through, last: proven });
    }
    let now = Acknowledgement {
        through: through.max(found.through),
        issued: found.issued,
        generation: generation.max(found.generation),
        damage: None,
    };
    if now.through > found.through || found.damage.is_some() {
        now.write(world, directory, path)?;
    }
    failpoint::reach(Failpoint::JournalAcknowledgeWritten).doing("acknowledge in", path)?;
    Ok(Acknowledged { through: now.through, before: found.through, repaired: found.damage })
}
