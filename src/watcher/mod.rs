//! The watcher: the loop and its sources.
//!
//! [`event_loop`] is the loop. It owns the sources ([`signals`](crate::watcher::sources::signals), [`checks`](crate::watcher::sources::checks), [`panes`](crate::watcher::sources::panes), [`heartbeat`](crate::watcher::sources::heartbeat), [`inbox`](crate::watcher::sources::inbox)), gives
//! what they find to the [`journal_thread`], and moves the markers in [`checkpoint`] when the wakes are durable. What could take
//! long runs beside it and reports as a [`message`].

pub mod beacon;
pub mod checkpoint;
pub mod degradations;
pub mod event_loop;
pub mod events;
pub mod facts;
pub mod journal_thread;
pub mod message;
pub mod notifiers;
pub mod sources;
pub mod tasks;
