//! The watcher: the event loop and its sources.
//!
//! # Theory
//!
//! [`event_loop`] owns a list of [sources](sources) behind the trait [`source::Source`]: signals, checks, panes, the
//! heartbeat, the inbox, kept daemons, and in a firstmate home the scripts' wake queue, which the command line hands in. Each
//! owns its state. What they find goes to the [`journal_thread`]; markers move in the [`checkpoint`] when the wakes are
//! durable. What could take long runs beside the loop and reports over its channel.
//!
//! # The way of a wake
//!
//! From the change of a signal file to the line that a waiter prints, a wake crosses these files:
//!
//! | file | what happens there |
//! |---|---|
//! | `watcher/events.rs` | the kernel says that a name was touched |
//! | `watcher/event_loop.rs` | the source that the name concerns is called |
//! | `watcher/source.rs` | what it may do: record, degrade, mark |
//! | `watcher/sources/signals.rs` | the file differs from what was announced, gathers in a batch, becomes a draft |
//! | `watcher/journal_thread.rs` | the batch is written beside the loop |
//! | `journal/store.rs` | the journal is locked, the draft gets its number |
//! | `journal/record.rs` | the wake as a value |
//! | `journal/codec.rs` | the wake as a line with a checksum, and back |
//! | `journal/segment.rs` | the file that it goes to, and where that ends |
//! | `journal/writer.rs` | it is appended and made durable |
//! | `watcher/checkpoint.rs` | back in the loop, its marker moves |
//! | `ownership/wakeup_fifo.rs` | the waiters are woken up |
//! | `api/waiter.rs` | one of them reads |
//! | `journal/follower.rs` | what is new in the journal |
//! | `journal/acknowledgement.rs` | what of it is retired |
//! | `journal/due.rs` | what of the rest is due for this waiter |
//! | `journal/render.rs` | the reason line |
//! | `cli/commands/wakes.rs` | the line is printed, and noted as shown |
//!
//! # Limits
//!
//! The loop decides in one thread, so a source that blocked would stop all others: see [`source`].

pub mod checkpoint;
pub mod degradations;
pub mod event_loop;
pub mod events;
pub mod facts;
pub mod journal_thread;
pub mod notifiers;
pub mod source;
pub mod sources;
pub mod tasks;
