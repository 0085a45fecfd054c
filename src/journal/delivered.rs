//! What was shown to a reader, and when.
//!
//! Presenting retires nothing; it only keeps the next waiter from being told the same at once. So the file survives the
//! death of a process and need not survive more: when it is lost or damaged, nothing counts as shown and all is told
//! again. Two readers that write at the same moment lose one of the two notes, with the same effect.
//!
//! Times are of `CLOCK_MONOTONIC` and of one boot, so neither a suspended machine nor a clock that is set makes a wake
//! look shown for long. Showings of different times are kept apart, lest a steady flow of new wakes put off the
//! repetition of an old one for ever.

use std::ffi::OsStr;
use std::path::Path;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::codec;
use super::record::Wake;
use crate::base::error::{Context, Error, Result};
use crate::system::storage::{self, Durability};
use crate::system::{Now, World};

/// The name of the file in the journal's directory.
const NAME: &str = "presented.json";
const SCHEMA: u32 = 1;
/// More bytes than any of our versions writes.
const MOST_BYTES: usize = 16 * 1024;
/// Showings beyond so many are told apart no longer; the merged ones count as shown at the earlier time.
const MOST_SHOWINGS: usize = 16;

/// One reading of the clocks, and the boot it belongs to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Moment {
    /// The clocks.
    pub now: Now,
    /// The boot; `None` where the system does not tell.
    pub boot_id: Option<String>,
}

impl Moment {
    /// This moment.
    pub fn of<W: World>(world: &W) -> Self {
        Self { now: world.now(), boot_id: world.boot_id() }
    }
}

/// What was shown. Wakes are shown in the order of their numbers, so the last one stands for those before it.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Presented {
    schema: u32,
    showings: Vec<Showing>,
}

/// Wakes that were shown together: those after the showing before, up to `through`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Showing {
    through: u64,
    at_wall: i64,
    boot_id: Option<String>,
    at_monotonic_ms: u64,
}

impl Showing {
    fn new(through: u64, moment: &Moment) -> Self {
        let at_monotonic_ms = u64::try_from(moment.now.monotonic.as_millis()).unwrap_or(u64::MAX);
        Self { through, at_wall: moment.now.wall_ms, boot_id: moment.boot_id.clone(), at_monotonic_ms }
    }

    /// How long ago it was; `None` when that cannot be told, as after a boot.
    fn age(&self, moment: &Moment) -> Option<Duration> {
        let is_same_boot = self.boot_id.is_some() && self.boot_id == moment.boot_id;
        moment.now.monotonic.checked_sub(Duration::from_millis(self.at_monotonic_ms)).filter(|_| is_same_boot)
    }
}

/// Whether and when a wake was shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Shown {
    /// Not yet.
    Never,
    /// So long ago.
    Ago(Duration),
    /// At a time that cannot be compared with now.
    Sometime,
}

impl Presented {
    /// The number of the last wake that was shown.
    pub fn through(&self) -> u64 {
        self.showings.last().map_or(0, |showing| showing.through)
    }

    /// Whether and when the wake of this number was shown.
    pub fn shown(&self, seq: u64, moment: &Moment) -> Shown {
        match self.showings.iter().find(|showing| seq <= showing.through) {
            None => Shown::Never,
            Some(showing) => showing.age(moment).map_or(Shown::Sometime, Shown::Ago),
        }
    }

    /// What counts as shown after these wakes were. What is acknowledged is forgotten.
    #[must_use]
    pub fn after_showing(&self, wakes: &[&Wake], acknowledged: u64, moment: &Moment) -> Self {
        let mut showings: Vec<Showing> = Vec::new();
        let mut before = 0;
        for showing in self.showings.iter().filter(|showing| showing.through > acknowledged) {
            let is_again = wakes.iter().any(|wake| wake.seq > before && wake.seq <= showing.through);
            before = showing.through;
            push(&mut showings, if is_again { Showing::new(showing.through, moment) } else { showing.clone() });
        }
        let highest = wakes.iter().map(|wake| wake.seq).max().unwrap_or(0);
        if highest > before {
            push(&mut showings, Showing::new(highest, moment));
        }
        while showings.len() > MOST_SHOWINGS {
            let oldest = showings.remove(0);
            showings[0] = Showing { through: showings[0].through, ..oldest };
        }
        Self { schema: SCHEMA, showings }
    }

    /// Reads what was shown. What cannot be read was not shown.
    pub fn read<W: World>(world: &W, directory: &W::Node) -> Self {
        let bytes = storage::read(world, directory, OsStr::new(NAME), MOST_BYTES).ok().flatten().unwrap_or_default();
        let line = bytes.strip_suffix(b"\n").unwrap_or(&bytes);
        if codec::is_sealed(line) { serde_json::from_slice(line).unwrap_or_default() } else { Self::default() }
    }

    /// Writes what was shown. `path` is the journal's directory, for messages.
    ///
    /// # Errors
    /// Those of the system.
    pub fn write<W: World>(&self, world: &W, directory: &W::Node, path: &Path) -> Result<()> {
        let object = serde_json::to_vec(self).map_err(|error| Error::Failed(error.to_string()))?;
        storage::replace(world, directory, NAME, &codec::seal(object), Durability::Process)
            .doing("replace", path.join(NAME))
    }
}

/// Adds a showing. Neighbours of the same time are one.
fn push(showings: &mut Vec<Showing>, showing: Showing) {
    if let Some(last) = showings.last_mut()
        && (last.at_monotonic_ms, &last.boot_id) == (showing.at_monotonic_ms, &showing.boot_id)
    {
        last.through = showing.through;
        return;
    }
    showings.push(showing);
}
