//! Wakes: recording, presenting and acknowledging them.
//!
//! # Theory of operation
//!
//! A wake is first of all a line on disk. [`store`] appends it to a segment, makes it durable and only then answers;
//! whatever would hide its cause may move after that and not before. Nothing is ever rewritten in position: segments grow
//! at their end, and whole segments are removed once nobody can need them ([`Journal::compact`]).
//!
//! To *present* is not to *consume*. [`due`] decides, as a pure function, which pending wakes are due for a waiter;
//! showing them moves only [`due::Presented`], which ages. A wake is retired by an [`acknowledgement`] alone.
//!
//! Readers take no lock. A segment only grows, each line carries a checksum, and a line is a wake exactly if its
//! checksum says so ([`mod@codec`]); so a reader that looks during an append, after a crash or after a bit flip
//! finds every whole wake and knows every byte that is none.
//!
//! If this is wrong, somebody is not told, and nobody notices: wherever two readings are possible the code takes the
//! one that tells twice.
//!
//! # Map
//!
//! | module | its noun |
//! |---|---|
//! | [`record`] | a wake as a value, and its reason line |
//! | [`render`] | the texts people and scripts read |
//! | [`mod@codec`] | wakes as bytes |
//! | `segment`, `writer` | one file of the journal, and what a writer knows of all; the lock and the append |
//! | [`store`], [`acknowledgement`] | the two writers |
//! | [`follower`], [`summary`] | the two readers: all that is new, and a glance |
//! | [`due`] | what was shown, and what is due for a waiter |

pub mod acknowledgement;
pub mod codec;
pub mod compact;
pub mod due;
pub mod error;
#[cfg(test)]
pub(crate) mod faulty_disk;
pub mod follower;
pub mod record;
pub mod render;
mod segment;
pub mod store;
pub mod summary;
#[cfg(test)]
mod test_journal;
mod writer;

pub use acknowledgement::{NAME as ACKNOWLEDGED, acknowledge};
pub use error::JournalError;
pub use follower::{Follower, Start, read_all};
pub use store::Journal;
pub use summary::{Pending, summarize};
pub use writer::Limits;

/// The generation in the name of a segment of the journal; `None` for any other name.
pub fn generation_in_name(name: &std::ffi::OsStr) -> Option<u64> {
    segment::SegmentName::parse(name).map(|segment| segment.generation)
}
