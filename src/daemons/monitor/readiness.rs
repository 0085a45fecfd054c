//! Whether a daemon is ready: a pure function over what was seen of it.
//!
//! Each kind of readiness has one observation that decides. A sign counts only if it comes from the daemon: a server at its
//! socket, a pid in its file and the sender of a message are compared with its ancestry ([`super::ancestry`]). The end of a pipe is
//! no byte, and a time that has passed is no sign unless the daemon is defined by nothing else.

use std::fmt;
use std::time::Duration;

use super::ancestry::Relation;
use crate::lock::socket::probe::Readiness;
use crate::settings::daemon_definition::Ready;

/// What was seen, of the kind that the definition asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Observed {
    /// What is at the socket, and whose the server is.
    Socket(Readiness, Relation),
    /// Why the socket cannot be asked.
    NoSocket(String),
    /// What the pid file says, and whose the process is that it names.
    Pidfile(PidfileState, Relation),
    /// What came by descriptor, message or output.
    Heard(Heard),
    /// How long it has lived.
    Lived(Duration),
}

/// What a pid file says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PidfileState {
    /// There is none.
    Missing,
    /// It cannot be read, for this reason.
    Unreadable(String),
    /// It holds no pid, or not yet.
    Unfinished,
    /// It names this process.
    Names(u32),
}

/// What came from the daemon.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Heard {
    /// Nothing that counts.
    Nothing,
    /// The descriptor was closed without a byte.
    Closed,
    /// A process that is not the daemon's said it.
    Stranger(u32),
    /// It is ready.
    Ready,
}

/// What follows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Judgement {
    /// It is ready.
    Ready,
    /// It is not, or not yet; what is missing, as a sentence about it.
    NotYet(String),
    /// It never can be, for this reason.
    Impossible(String),
}

/// Judges what was seen.
pub fn judge(ready: &Ready, seen: &Observed) -> Judgement {
    match (ready, seen) {
        (Ready::Socket { path, .. }, Observed::Socket(answer @ Readiness::Ready(_), Relation::Stranger)) => {
            Judgement::Impossible(format!("{} {answer}, which is none of its processes", path.display()))
        }
        (Ready::Socket { .. }, Observed::Socket(Readiness::Ready(_), _))
        | (Ready::Pidfile(_), Observed::Pidfile(PidfileState::Names(_), Relation::Own))
        | (Ready::Descriptor | Ready::Notify | Ready::LogLine(_), Observed::Heard(Heard::Ready)) => Judgement::Ready,
        (Ready::Delay(delay), Observed::Lived(lived)) if lived >= delay => Judgement::Ready,
        (ready, seen) => Judgement::NotYet(missing(ready, seen)),
    }
}

/// The process that the sign came from, where the sign itself names one.
pub fn sender(seen: &Observed) -> Option<u32> {
    match seen {
        Observed::Socket(Readiness::Ready(server), _) => server.pid,
        Observed::Pidfile(PidfileState::Names(pid), _) => Some(*pid),
        _ => None,
    }
}

/// What has not come.
pub fn missing(ready: &Ready, seen: &Observed) -> String {
    match (ready, seen) {
        (Ready::Descriptor, Observed::Heard(Heard::Closed)) => {
            "it closed the descriptor in FM_WATCH_READY_FD without a byte".to_owned()
        }
        (Ready::Descriptor, _) => "it wrote nothing to the descriptor in FM_WATCH_READY_FD".to_owned(),
        (Ready::Notify, Observed::Heard(Heard::Stranger(pid))) => {
            format!("READY=1 came from pid {pid}, which is none of its processes")
        }
        (Ready::Notify, _) => "it sent no READY=1 to the socket in NOTIFY_SOCKET".to_owned(),
        (Ready::LogLine(pattern), _) => format!("it printed no line that matches {pattern}"),
        (Ready::Delay(delay), _) => format!("it has not lived for {}", humantime::format_duration(*delay)),
        (Ready::Socket { path, .. }, Observed::Socket(answer, _)) => format!("{} {answer}", path.display()),
        (Ready::Socket { .. }, Observed::NoSocket(why)) => why.clone(),
        (Ready::Socket { path, .. }, _) => format!("{} was not asked", path.display()),
        (Ready::Pidfile(path), Observed::Pidfile(PidfileState::Names(pid), relation)) if *relation != Relation::Own => {
            format!("{} names pid {pid}, which is none of its processes", path.display())
        }
        (Ready::Pidfile(path), Observed::Pidfile(state, _)) => format!("{} {state}", path.display()),
        (Ready::Pidfile(path), _) => format!("{} was not read", path.display()),
    }
}

/// A phrase that goes on after the path.
impl fmt::Display for PidfileState {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Missing => formatter.write_str("was not written"),
            Self::Unreadable(why) => write!(formatter, "cannot be read: {why}"),
            Self::Unfinished => formatter.write_str("holds no pid"),
            Self::Names(pid) => write!(formatter, "names pid {pid}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lock::socket::probe::{Absence, Server, Stall, Stranger};
    use crate::system::Kind;
    use crate::system::identity::{Proof, Sameness};

    fn server() -> Server {
        Server { pid: Some(7), uid: 1, identity: Sameness::Same(Proof::LockTaker) }
    }

    fn at_socket(answer: Readiness, relation: Relation) -> Judgement {
        judge(&Ready::Socket { path: "/s".into(), exchange: None }, &Observed::Socket(answer, relation))
    }

    #[test]
    fn a_socket_counts_only_if_the_daemon_serves_it() {
        assert_eq!(at_socket(Readiness::Ready(server()), Relation::Own), Judgement::Ready);
        let stolen = at_socket(Readiness::Ready(server()), Relation::Stranger);
        assert_eq!(stolen, Judgement::Impossible("/s is served by pid 7, which is none of its processes".to_owned()));
    }

    #[test]
    fn a_socket_that_gives_no_answer_is_waited_for() {
        let not_ready = [
            Readiness::Starting,
            Readiness::Absent(Absence::NoName),
            Readiness::Stalled(Stall::NoAnswer(server())),
            Readiness::Foreign(Stranger::NotASocket(Kind::File)),
        ];
        for answer in not_ready {
            assert!(matches!(at_socket(answer.clone(), Relation::Own), Judgement::NotYet(_)), "{answer:?}");
        }
        let absent = at_socket(Readiness::Absent(Absence::NoName), Relation::Unknown);
        assert_eq!(absent, Judgement::NotYet("/s does not exist".to_owned()));
    }

    #[test]
    fn a_pid_file_counts_only_if_it_names_the_daemon() {
        let judged = |state, relation| judge(&Ready::Pidfile("/p".into()), &Observed::Pidfile(state, relation));
        assert_eq!(judged(PidfileState::Names(9), Relation::Own), Judgement::Ready);
        for (state, relation) in [
            (PidfileState::Names(9), Relation::Stranger),
            (PidfileState::Names(9), Relation::Unknown),
            (PidfileState::Missing, Relation::Own),
            (PidfileState::Unfinished, Relation::Own),
        ] {
            assert!(matches!(judged(state.clone(), relation), Judgement::NotYet(_)), "{state:?}");
        }
    }

    #[test]
    fn the_end_of_a_pipe_is_no_byte_and_a_strangers_word_no_word() {
        for ready in [Ready::Descriptor, Ready::Notify, Ready::LogLine("up".to_owned())] {
            assert_eq!(judge(&ready, &Observed::Heard(Heard::Ready)), Judgement::Ready);
            for heard in [Heard::Nothing, Heard::Closed, Heard::Stranger(3)] {
                assert!(matches!(judge(&ready, &Observed::Heard(heard)), Judgement::NotYet(_)), "{ready:?} {heard:?}");
            }
        }
    }

    #[test]
    fn a_delay_is_over_when_it_is_over() {
        let ready = Ready::Delay(Duration::from_millis(100));
        assert_eq!(judge(&ready, &Observed::Lived(Duration::from_millis(100))), Judgement::Ready);
        assert!(matches!(judge(&ready, &Observed::Lived(Duration::from_millis(99))), Judgement::NotYet(_)));
    }

    #[test]
    fn a_sight_of_another_kind_is_no_sign() {
        assert!(matches!(judge(&Ready::Descriptor, &Observed::Lived(Duration::MAX)), Judgement::NotYet(_)));
        assert!(matches!(judge(&Ready::Delay(Duration::ZERO), &Observed::Heard(Heard::Ready)), Judgement::NotYet(_)));
    }
}
