//! What a hook has decided, from facts alone.
//!
//! | role | work | supervision | at the start or a prompt | at the end of a turn |
//! |---|---|---|---|---|
//! | not proven to be responsible | | | silence | silence |
//! | responsible | none | | silence | silence |
//! | responsible | some, or nobody can tell | on, somebody would be told | silence | silence |
//! | responsible | some | on, nobody would be told, and only a waiter could | silence | hold |
//! | responsible | some | off | tell | hold |
//! | responsible | some | nobody can tell | tell | let go, and say so |
//! | responsible | nobody can tell | off, or nobody can tell | tell | let go, and say so |
//!
//! A hold becomes "let go, and say so" when the limit of holds is reached or they cannot be counted. *Unknown* holds nobody.

use crate::base::escape;

/// Text for an agent or a person: never empty, without control characters, and never to be taken for JSON.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Message(String);

/// Harnesses cut what is longer than 10,000 characters, or spill it into a file that nobody reads.
const LONGEST: usize = 8_000;

impl Message {
    /// A message of one or more lines.
    pub fn new(text: &str) -> Self {
        let safe = escape::lines(text.trim());
        let end = safe.char_indices().nth(LONGEST).map_or(safe.len(), |(at, _)| at);
        Self(format!("fm-watch: {}", &safe[..end]))
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// What a hook does.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Decision {
    /// Nothing.
    Silent,
    /// Give the agent a fact.
    Tell(Message),
    /// Keep a tool from running.
    Deny(Message),
    /// Keep the turn from ending.
    Hold(Message),
    /// Let the turn end, and say what is wrong.
    LetGo(Message),
    /// Wake the session.
    Wake(Message),
}

/// Whether this session is the one that the home is watched for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Role {
    /// It is.
    Responsible,
    /// It is not, or nobody can prove that it is, for this reason.
    Bystander(String),
}

/// What there is to watch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Work {
    /// Nothing.
    None,
    /// Something, in words.
    Some(String),
    /// Nobody can tell.
    Unknown(String),
}

/// Whether somebody watches, and somebody would be told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Supervision {
    /// A watcher watches.
    On(Listeners),
    /// None does, for this reason, which one command can mend.
    Off(String),
    /// Nobody can tell, or no command can mend it.
    Unclear(String),
}

/// Whether a waiter lives that would be told of a wake.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Listeners {
    /// At least one.
    Some,
    /// None.
    None,
    /// Nobody can tell.
    Unknown,
}

/// How an idle session of a harness learns of a wake.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Waking {
    /// A waiter that ends wakes it.
    ByWaiter,
    /// A waiter would end unheard; the agent waits in the foreground, or a plugin looks after it.
    Otherwise,
}

/// All that a decision depends on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Situation {
    /// The session's part.
    pub role: Role,
    /// What there is to watch.
    pub work: Work,
    /// Whether it is watched.
    pub supervision: Supervision,
    /// The command that mends what can be mended.
    pub arm: String,
    /// The command that shows more.
    pub status: String,
}

/// What is wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fault {
    /// Nothing that is this session's business.
    None,
    /// Something that the agent can mend now.
    Mendable(Message),
    /// Something that it should know.
    Unclear(Message),
}

impl Situation {
    /// Whether all is surely well, so that what went wrong before is over. What nobody can tell ends no episode: otherwise
    /// a turn could be held again and again, each time after a look that saw nothing.
    pub fn is_well(&self, waking: Waking) -> bool {
        let is_certain = match (&self.work, &self.supervision) {
            (Work::None, _) => true,
            (Work::Unknown(_), _) | (_, Supervision::Off(_) | Supervision::Unclear(_)) => false,
            (Work::Some(_), Supervision::On(listeners)) => waking == Waking::Otherwise || *listeners == Listeners::Some,
        };
        self.role == Role::Responsible && is_certain
    }

    /// What to say when a session starts or a person speaks.
    pub fn at_start(&self) -> Decision {
        match self.supervision_fault() {
            Fault::None => Decision::Silent,
            Fault::Mendable(message) | Fault::Unclear(message) => Decision::Tell(message),
        }
    }

    /// What is wrong when a turn ends.
    pub fn at_turn_end(&self, waking: Waking) -> Fault {
        match (self.supervision_fault(), &self.work, &self.supervision, waking) {
            (Fault::None, Work::Some(work), Supervision::On(Listeners::None), Waking::ByWaiter)
                if self.role == Role::Responsible =>
            {
                Fault::Mendable(Message::new(&format!(
                    "{work}, and a watcher watches, but no waiter lives, so nobody would be told of a wake. Run this in \
                     the background: {}",
                    self.arm
                )))
            }
            (fault, ..) => fault,
        }
    }

    fn supervision_fault(&self) -> Fault {
        let (Role::Responsible, Some(work)) = (&self.role, self.work.in_words()) else { return Fault::None };
        let off = |cause: &str, command: &str| {
            Message::new(&format!(
                "supervision of this home is off: {work}, but {cause}. The command for it: {command}"
            ))
        };
        match (&self.supervision, &self.work) {
            (Supervision::On(_), _) => Fault::None,
            (Supervision::Off(cause), Work::Some(_)) => Fault::Mendable(off(cause, &self.arm)),
            (Supervision::Off(cause), _) => Fault::Unclear(off(cause, &self.arm)),
            (Supervision::Unclear(cause), _) => Fault::Unclear(off(cause, &self.status)),
        }
    }
}

impl Work {
    fn in_words(&self) -> Option<&str> {
        match self {
            Self::None => None,
            Self::Some(words) | Self::Unknown(words) => Some(words),
        }
    }
}

/// What the limit of holds says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Allowance {
    /// This hold is counted.
    Granted,
    /// There were enough.
    Spent,
    /// It could not be counted, for this reason.
    Uncounted(String),
}

/// What becomes of a turn that ends with this fault. The limit is asked only about what would be held.
pub fn turn_end(fault: Fault, ask: impl FnOnce() -> Allowance) -> Decision {
    match fault {
        Fault::None => Decision::Silent,
        Fault::Unclear(message) => Decision::LetGo(message),
        Fault::Mendable(message) => match ask() {
            Allowance::Granted => Decision::Hold(message),
            Allowance::Spent => Decision::LetGo(message),
            Allowance::Uncounted(why) => {
                let text = message.as_str().trim_start_matches("fm-watch: ");
                Decision::LetGo(Message::new(&format!("{text} (The turn is not held, because {why}.)")))
            }
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn situation(role: Role, work: Work, supervision: Supervision) -> Situation {
        Situation { role, work, supervision, arm: "ARM".to_owned(), status: "STATUS".to_owned() }
    }

    fn every_situation() -> Vec<Situation> {
        let roles = [Role::Responsible, Role::Bystander("somebody else is".to_owned())];
        let works = [Work::None, Work::Some("1 task(s) in flight".to_owned()), Work::Unknown("?".to_owned())];
        let supervisions = [
            Supervision::On(Listeners::Some),
            Supervision::On(Listeners::None),
            Supervision::On(Listeners::Unknown),
            Supervision::Off("it is dead".to_owned()),
            Supervision::Unclear("who knows".to_owned()),
        ];
        let mut all = Vec::new();
        for role in &roles {
            for work in &works {
                for supervision in &supervisions {
                    all.push(situation(role.clone(), work.clone(), supervision.clone()));
                }
            }
        }
        all
    }

    /// The table above, said once more in other words.
    #[test]
    fn a_turn_is_held_only_for_the_responsible_with_work_that_nobody_watches_or_hears_of() {
        for waking in [Waking::ByWaiter, Waking::Otherwise] {
            for situation in every_situation() {
                let may_hold = situation.role == Role::Responsible
                    && matches!(situation.work, Work::Some(_))
                    && match situation.supervision {
                        Supervision::Off(_) => true,
                        Supervision::On(Listeners::None) => waking == Waking::ByWaiter,
                        _ => false,
                    };
                let decision = turn_end(situation.at_turn_end(waking), || Allowance::Granted);
                assert_eq!(matches!(decision, Decision::Hold(_)), may_hold, "{situation:?} {waking:?}");
            }
        }
    }

    #[test]
    fn nobody_but_the_responsible_hears_anything_and_nobody_does_without_work() {
        for situation in every_situation() {
            if situation.role != Role::Responsible || situation.work == Work::None {
                assert_eq!(situation.at_start(), Decision::Silent);
                for waking in [Waking::ByWaiter, Waking::Otherwise] {
                    assert_eq!(situation.at_turn_end(waking), Fault::None);
                }
            }
        }
    }

    #[test]
    fn an_episode_ends_only_where_nothing_is_wrong_and_nothing_unknown() {
        for waking in [Waking::ByWaiter, Waking::Otherwise] {
            for situation in every_situation() {
                let is_known = match (&situation.work, &situation.supervision) {
                    (Work::None, _) | (Work::Some(_), Supervision::On(Listeners::Some)) => true,
                    (Work::Some(_), Supervision::On(_)) => waking == Waking::Otherwise,
                    _ => false,
                };
                let is_well = situation.is_well(waking);
                assert_eq!(is_well, is_known && situation.role == Role::Responsible, "{situation:?} {waking:?}");
                assert!(!is_well || situation.at_turn_end(waking) == Fault::None, "{situation:?} {waking:?}");
            }
        }
    }

    #[test]
    fn a_start_is_told_of_what_is_off_with_one_command() {
        let off =
            situation(Role::Responsible, Work::Some("2 task(s)".to_owned()), Supervision::Off("it died".to_owned()));
        let Decision::Tell(message) = off.at_start() else { panic!("{off:?}") };
        assert_eq!(
            message.as_str(),
            "fm-watch: supervision of this home is off: 2 task(s), but it died. The command for it: ARM"
        );
        let on = situation(Role::Responsible, off.work.clone(), Supervision::On(Listeners::None));
        assert_eq!(on.at_start(), Decision::Silent);
    }

    #[test]
    fn without_a_counted_hold_a_turn_is_let_go() {
        let fault = || Fault::Mendable(Message::new("x"));
        assert!(matches!(turn_end(fault(), || Allowance::Granted), Decision::Hold(_)));
        assert!(matches!(turn_end(fault(), || Allowance::Spent), Decision::LetGo(_)));
        let Decision::LetGo(message) = turn_end(fault(), || Allowance::Uncounted("the disk is full".to_owned())) else {
            panic!("it was held")
        };
        assert_eq!(message.as_str(), "fm-watch: x (The turn is not held, because the disk is full.)");
        assert_eq!(turn_end(Fault::None, || panic!("the limit was asked for nothing")), Decision::Silent);
    }

    #[test]
    fn a_message_is_bounded_and_safe() {
        let message = Message::new(&"{\u{1b}\u{e9}".repeat(10_000));
        assert!(message.as_str().chars().count() <= LONGEST + 10);
        assert!(message.as_str().starts_with("fm-watch: {\\033"));
        assert!(!message.as_str().contains('\u{1b}'));
        assert!(!Message::new("").as_str().trim().is_empty());
    }
}
