//! Whether a daemon is ready: a pure function over what was seen of it.
//!
//! Each kind of readiness has one sight that decides. A sign counts only if it comes from the daemon: a server at its
//! socket, a pid in its file and the sender of a message are compared with its kin ([`super::ancestry`]). The end of a pipe is
//! no byte, and a time that has passed is no sign unless the daemon is defined by nothing else.

use std::fmt;
use std::time::Duration;

use super::ancestry::Relation;
use crate::lock::socket::probe::Readiness;
use crate::settings::daemon_definition::Ready;

/// What was seen, of the kind that the definition asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Seen {
    /// What is at the socket, and whose the server is.
    Socket(Result<Readiness, String>, Relation),
    /// What the pid file says.
    Pidfile(PidfileSight),
    /// What came by descriptor, message or output.
    Heard(Heard),
    /// How long it has lived.
    Lived(Duration),
}

/// What a pid file says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PidfileSight {
    /// There is none.
    Missing,
    /// It cannot be read, for this reason.
    Unreadable(String),
    /// It holds no pid, or not yet.
    Unfinished,
    /// It names this process.
    Names(u32, Relation),
}

/// What came from the daemon.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Heard {
    /// Nothing that counts.
    Nothing,
    /// The descriptor was closed without a byte.
    HungUp,
    /// A process that is not the daemon's said it.
    Stranger(u32),
    /// It is ready.
    Word,
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
pub fn judge(ready: &Ready, seen: &Seen) -> Judgement {
    match (ready, seen) {
        (Ready::Socket { path, .. }, Seen::Socket(answer, relation)) => match (answer, relation) {
            (Ok(Readiness::Ready(_)), Relation::Own | Relation::Unknown) => Judgement::Ready,
            (Ok(answer @ Readiness::Ready(_)), Relation::Stranger) => {
                Judgement::Impossible(format!("{} {answer}, which is none of its processes", path.display()))
            }
            (Ok(answer), _) => not_yet(format_args!("{} {answer}", path.display())),
            (Err(why), _) => not_yet(why),
        },
        (Ready::Pidfile(path), Seen::Pidfile(sight)) => match sight {
            PidfileSight::Names(_, Relation::Own) => Judgement::Ready,
            sight => not_yet(format_args!("{} {sight}", path.display())),
        },
        (Ready::Delay(delay), Seen::Lived(lived)) if lived >= delay => Judgement::Ready,
        (Ready::Descriptor | Ready::Notify | Ready::LogLine(_), Seen::Heard(Heard::Word)) => Judgement::Ready,
        (ready, seen) => not_yet(missing(ready, seen)),
    }
}

/// The process that the sign came from, where the sign itself names one.
pub fn speaker(seen: &Seen) -> Option<u32> {
    match seen {
        Seen::Socket(Ok(Readiness::Ready(server)), _) => server.pid,
        Seen::Pidfile(PidfileSight::Names(pid, _)) => Some(*pid),
        Seen::Socket(..) | Seen::Pidfile(_) | Seen::Heard(_) | Seen::Lived(_) => None,
    }
}

fn not_yet(what: impl fmt::Display) -> Judgement {
    Judgement::NotYet(what.to_string())
}

/// What has not come.
pub fn missing(ready: &Ready, seen: &Seen) -> String {
    match (ready, seen) {
        (Ready::Descriptor, Seen::Heard(Heard::HungUp)) => {
            "it closed the descriptor in FM_WATCH_READY_FD without a byte".to_owned()
        }
        (Ready::Descriptor, _) => "it wrote nothing to the descriptor in FM_WATCH_READY_FD".to_owned(),
        (Ready::Notify, Seen::Heard(Heard::Stranger(pid))) => {
            format!("READY=1 came from pid {pid}, which is none of its processes")
        }
        (Ready::Notify, _) => "it sent no READY=1 to the socket in NOTIFY_SOCKET".to_owned(),
        (Ready::LogLine(pattern), _) => format!("it printed no line that matches {pattern}"),
        (Ready::Delay(delay), _) => format!("it has not lived for {}", humantime::format_duration(*delay)),
        (Ready::Socket { path, .. }, _) => format!("{} was not asked", path.display()),
        (Ready::Pidfile(path), _) => format!("{} was not read", path.display()),
    }
}

/// A phrase that goes on after the path.
impl fmt::Display for PidfileSight {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Missing => formatter.write_str("was not written"),
            Self::Unreadable(why) => write!(formatter, "cannot be read: {why}"),
            Self::Unfinished => formatter.write_str("holds no pid"),
            Self::Names(pid, Relation::Own) => write!(formatter, "names pid {pid}"),
            Self::Names(pid, _) => write!(formatter, "names pid {pid}, which is none of its processes"),
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
        judge(&Ready::Socket { path: "/s".into(), exchange: None }, &Seen::Socket(Ok(answer), relation))
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
        let judged = |sight| judge(&Ready::Pidfile("/p".into()), &Seen::Pidfile(sight));
        assert_eq!(judged(PidfileSight::Names(9, Relation::Own)), Judgement::Ready);
        for sight in [
            PidfileSight::Names(9, Relation::Stranger),
            PidfileSight::Names(9, Relation::Unknown),
            PidfileSight::Missing,
            PidfileSight::Unfinished,
        ] {
            assert!(matches!(judged(sight.clone()), Judgement::NotYet(_)), "{sight:?}");
        }
    }

    #[test]
    fn the_end_of_a_pipe_is_no_byte_and_a_strangers_word_no_word() {
        for ready in [Ready::Descriptor, Ready::Notify, Ready::LogLine("up".to_owned())] {
            assert_eq!(judge(&ready, &Seen::Heard(Heard::Word)), Judgement::Ready);
            for heard in [Heard::Nothing, Heard::HungUp, Heard::Stranger(3)] {
                assert!(matches!(judge(&ready, &Seen::Heard(heard)), Judgement::NotYet(_)), "{ready:?} {heard:?}");
            }
        }
    }

    #[test]
    fn a_delay_is_over_when_it_is_over() {
        let ready = Ready::Delay(Duration::from_millis(100));
        assert_eq!(judge(&ready, &Seen::Lived(Duration::from_millis(100))), Judgement::Ready);
        assert!(matches!(judge(&ready, &Seen::Lived(Duration::from_millis(99))), Judgement::NotYet(_)));
    }

    #[test]
    fn a_sight_of_another_kind_is_no_sign() {
        assert!(matches!(judge(&Ready::Descriptor, &Seen::Lived(Duration::MAX)), Judgement::NotYet(_)));
        assert!(matches!(judge(&Ready::Delay(Duration::ZERO), &Seen::Heard(Heard::Word)), Judgement::NotYet(_)));
    }
}
