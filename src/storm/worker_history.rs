//! The history of one worker: what it said, in order, and what follows about its holds and waits.
//!
//! A worker that says things in an order that makes no sense, or times of another clock, would make the comparison of
//! intervals worthless without anybody seeing it; so that is an error.

use super::intervals::{Ending, Hold};
use super::worker::{Line, ProtocolError};

/// The instants between which a time can lie when it is heard, in nanoseconds of `CLOCK_MONOTONIC`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Window {
    /// When the storm began.
    pub from: u64,
    /// Now.
    pub until: u64,
}

/// What a worker does, as far as it has said.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Doing {
    /// It does not try.
    Nothing,
    /// It has been trying since then.
    Trying(u64),
    /// It has held since then.
    Holding(u64),
}

/// What follows from one line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Event {
    /// It got the lock after so many nanoseconds.
    Got(u64),
    /// It let go.
    LetGo(Hold),
    /// Nothing that counts.
    Noted,
}

/// One worker process.
#[derive(Debug, Clone)]
pub struct History {
    pid: u32,
    doing: Doing,
    last: u64,
    waits_for: Option<String>,
}

impl History {
    /// A worker that has said nothing yet.
    pub fn new(pid: u32) -> Self {
        Self { pid, doing: Doing::Nothing, last: 0, waits_for: None }
    }

    /// What it does.
    pub fn doing(&self) -> Doing {
        self.doing
    }

    /// Whether it has tried at all.
    pub fn has_begun(&self) -> bool {
        self.last > 0
    }

    /// What it said it waits for, since it began to try.
    pub fn waits_for(&self) -> Option<&str> {
        self.waits_for.as_deref()
    }

    /// Takes in what it says next.
    ///
    /// # Errors
    /// What makes no sense.
    pub fn hear(&mut self, line: Line, window: Window) -> Result<Event, ProtocolError> {
        let (doing, event, at) = match (line, self.doing) {
            (Line::Wait(why), _) => {
                self.waits_for = Some(why);
                return Ok(Event::Noted);
            }
            (Line::Try(at), Doing::Nothing) => (Doing::Trying(at), Event::Noted, at),
            (Line::Begin(at), Doing::Trying(since)) => (Doing::Holding(at), Event::Got(at.saturating_sub(since)), at),
            (Line::End(at), Doing::Holding(from)) => {
                (Doing::Nothing, Event::LetGo(self.hold(from, at, Ending::Released)), at)
            }
            (line, doing) => {
                let said = line.to_string().trim_end().to_owned();
                return Err(ProtocolError::OutOfOrder { said, meanwhile: in_words(doing) });
            }
        };
        let Window { from, until } = Window { from: window.from.max(self.last), ..window };
        if !(from..=until).contains(&at) {
            return Err(ProtocolError::OtherClock { at, from, until });
        }
        (self.doing, self.last) = (doing, at);
        self.waits_for = None;
        Ok(event)
    }

    /// Takes in that it was killed after this instant. If it had not said that it lets go, it held until then.
    pub fn killed(&mut self, after: u64) -> Option<Hold> {
        match std::mem::replace(&mut self.doing, Doing::Nothing) {
            Doing::Holding(from) => Some(self.hold(from, after.max(from), Ending::Killed)),
            Doing::Nothing | Doing::Trying(_) => None,
        }
    }

    fn hold(&self, from: u64, until: u64, ending: Ending) -> Hold {
        Hold { pid: self.pid, from, until, ending }
    }
}

fn in_words(doing: Doing) -> &'static str {
    match doing {
        Doing::Nothing => "it was not trying",
        Doing::Trying(_) => "it was trying",
        Doing::Holding(_) => "it was holding",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALWAYS: Window = Window { from: 0, until: u64::MAX };

    fn history(lines: &[Line]) -> (History, Vec<Result<Event, ProtocolError>>) {
        let mut history = History::new(7);
        let events = lines.iter().map(|line| history.hear(line.clone(), ALWAYS)).collect();
        (history, events)
    }

    #[test]
    fn a_round_gives_a_wait_and_a_hold() {
        let (history, events) = history(&[Line::Try(10), Line::Wait("pid 3".into()), Line::Begin(14), Line::End(20)]);
        let hold = Hold { pid: 7, from: 14, until: 20, ending: Ending::Released };
        assert_eq!(events, [Ok(Event::Noted), Ok(Event::Noted), Ok(Event::Got(4)), Ok(Event::LetGo(hold))]);
        assert_eq!((history.doing(), history.waits_for()), (Doing::Nothing, None));
    }

    #[test]
    fn a_holder_that_is_killed_held_until_then_and_one_that_tried_did_not() {
        let (mut holder, _) = history(&[Line::Try(10), Line::Begin(14)]);
        assert_eq!(holder.killed(19), Some(Hold { pid: 7, from: 14, until: 19, ending: Ending::Killed }));
        assert_eq!(holder.killed(25), None);
        let (mut late, _) = history(&[Line::Try(10), Line::Begin(30)]);
        assert_eq!(late.killed(19).map(|hold| (hold.from, hold.until)), Some((30, 30)));
        let (mut one_that_tries, _) = history(&[Line::Try(10)]);
        assert_eq!(one_that_tries.killed(19), None);
    }

    #[test]
    fn an_order_without_sense_is_an_error() {
        for lines in [
            vec![Line::Begin(1)],
            vec![Line::End(1)],
            vec![Line::Try(1), Line::Try(2)],
            vec![Line::Try(1), Line::End(2)],
            vec![Line::Try(1), Line::Begin(2), Line::Begin(3)],
        ] {
            let (_, events) = history(&lines);
            assert!(
                events.last().unwrap().as_ref().is_err_and(|error| error.to_string().contains("while it was")),
                "{events:?}"
            );
        }
    }

    #[test]
    fn a_time_of_another_clock_is_an_error() {
        let window = Window { from: 100, until: 200 };
        for at in [99, 201, 1_700_000_000_000_000_000] {
            let error = History::new(7).hear(Line::Try(at), window).unwrap_err().to_string();
            assert!(error.contains("CLOCK_MONOTONIC"), "{error}");
        }
        let mut history = History::new(7);
        history.hear(Line::Try(150), window).unwrap();
        assert!(history.hear(Line::Begin(149), window).is_err(), "its clock may not go back");
        assert!(history.hear(Line::Begin(150), window).is_ok());
    }
}
