//! Everything that can happen to the loop, as one type: it has one ear.

use super::events::Event;
use super::journal_thread::Report;
use super::sources::check_result::CheckResult;
use super::sources::panes::PaneCapture;
use crate::daemons::keeper;
use crate::firstmate::queue_thread;
use crate::system::requests::Request;

/// One thing that happened.
#[derive(Debug)]
pub enum Message {
    /// A file changed.
    Event(Event),
    /// A check has ended.
    Check(CheckResult),
    /// The panes were read.
    Panes(PaneCapture),
    /// The recorder is done with a request.
    Recorder(Report),
    /// `beat.json` could not be written, or can be again.
    Beacon(Result<(), String>),
    /// A program of `[[notify]]` was told, or could not be.
    Notified(Result<(), String>),
    /// A kept daemon needs to be spoken of.
    Daemon(keeper::Report),
    /// The porter has been to the wake queue of firstmate's scripts.
    Porter(queue_thread::Report),
    /// Somebody asks for something.
    Request(Request),
}

impl From<Event> for Message {
    fn from(event: Event) -> Self {
        Self::Event(event)
    }
}

impl From<CheckResult> for Message {
    fn from(result: CheckResult) -> Self {
        Self::Check(result)
    }
}

impl From<PaneCapture> for Message {
    fn from(capture: PaneCapture) -> Self {
        Self::Panes(capture)
    }
}
