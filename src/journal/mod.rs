//! Wakes: recording, presenting and acknowledging them.
//!
//! # Theory of operation
//!
//! A wake is first of all a line on disk. [`store`] appends it to a segment, makes it durable and only then answers;
//! whatever would hide its cause may move after that and not before. Nothing is ever rewritten in place: segments grow
//! at their end, and whole segments are removed once nobody can need them ([`Journal::compact`]).
//!
//! To *present* is not to *consume*. [`due`] decides, as a pure function, which pending wakes are due for a waiter;
//! showing them moves only [`delivered`], which ages. A wake is retired by an [`acknowledgement`] alone.
//!
//! Readers take no lock. A segment only grows, each line carries a checksum, and a line is a wake exactly if its
//! checksum says so ([`mod@codec`], `scan`); so a reader that looks during an append, after a crash or after a bit flip
//! finds every whole wake and knows every byte that is none.
//!
//! If this is wrong, somebody is not told, and nobody notices: wherever two readings are possible the code takes the
//! one that tells twice.
//!
//! # Map
//!
//! | module | its noun |
//! |---|---|
//! | [`record`] | a wake as a value |
//! | [`reason`], [`render`] | the texts people and scripts read |
//! | [`mod@codec`], `scan` | one wake as bytes; wakes found among bytes |
//! | `segment`, `index`, `reader` | one file of the journal; what all of them hold |
//! | [`store`], [`acknowledgement`] | the two writers |
//! | [`follower`], [`summary`] | the two readers: all that is new, and a glance |
//! | [`due`], [`delivered`] | what is due for a waiter, and what was shown |

pub mod acknowledgement;
pub mod codec;
pub mod compact;
pub mod damage;
pub mod delivered;
pub mod due;
pub mod error;
#[cfg(test)]
pub(crate) mod faulty_disk;
pub mod follower;
mod index;
mod journal_lock;
mod reader;
pub mod reason;
pub mod record;
pub mod render;
mod scan;
mod segment;
pub mod store;
pub mod summary;
#[cfg(test)]
mod test_journal;
mod writer;

pub use acknowledgement::{Acknowledged, NAME as ACKNOWLEDGED, acknowledge};
pub use damage::{Damage, Harm};
pub use error::JournalError;
pub use follower::{Contents, Follower, Look, Start, read_all};
pub use store::{Journal, Limits};
pub use summary::{Pending, Summary, summarize};

/// The generation in the name of a segment of the journal; `None` for any other name.
pub fn generation_in_name(name: &std::ffi::OsStr) -> Option<u64> {
    segment::SegmentName::parse(name).map(|segment| segment.generation)
}
