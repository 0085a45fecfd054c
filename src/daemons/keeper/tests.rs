use std::time::Duration;

use proptest::prelude::*;

use super::decide::{Action, Attempt, Begun, Care, Clock, Observation, Presence, Subject, decide};
use super::managed::Memory;
use crate::daemons::records::{Course, Ended, Keeping, SCHEMA};
use crate::daemons::restart_policy::{End, Past, Rules};
use crate::settings::daemon_definition::{Brake, Name, Restart};
use crate::system::identity::Pid;

const RULES: Rules = Rules {
    restart: Restart::OnFailure,
    backoff: Duration::from_millis(200),
    backoff_max: Duration::from_secs(30),
    brake: Brake { max_restarts: 5, window: Duration::from_secs(300) },
};
const BOOT: &str = "this boot";
const FAILED: End = End::Exited { code: 7 };

fn clock(now_ms: u64) -> Clock {
    Clock { now: Duration::from_millis(now_ms), boot_id: Some(BOOT.to_owned()) }
}

fn act_under(rules: Rules, seen: &Observation, attempt: &Attempt, keeping: Option<&Keeping>, now_ms: u64) -> Action {
    let name = Name::new("cache").unwrap();
    decide(Subject { name: &name, rules: &rules }, seen, attempt, keeping, &clock(now_ms))
}

fn act(seen: &Observation, keeping: &Keeping, now_ms: u64) -> Action {
    act_under(RULES, seen, &Attempt::None, Some(keeping), now_ms)
}

fn keeping(generation: u64, course: Course) -> Keeping {
    let boot_id = Some(BOOT.to_owned());
    Keeping { schema: SCHEMA, generation, boot_id, past: Past::default(), restarts: 0, course }
}

fn given_up() -> Course {
    Course::GivenUp { restarts: 5, window: RULES.brake.window }
}

fn begun(generation: u64) -> Begun {
    Begun { generation, boot_id: Some(BOOT.to_owned()), since_ms: 1000 }
}

fn ended(generation: u64, end: End) -> Ended {
    let pid = Pid::new(99).unwrap();
    let boot_id = Some(BOOT.to_owned());
    Ended { schema: SCHEMA, generation, pid, end, at: 0, at_monotonic_ms: 1020, lasted_ms: 20, boot_id }
}

fn nothing() -> Observation {
    Observation { presence: Presence::Gone, begun: None, end: None, stopped: None }
}

fn gone(begun: Begun, end: Ended) -> Observation {
    Observation { begun: Some(begun), end: Some(end), ..nothing() }
}

fn alive(generation: u64, care: Care) -> Observation {
    Observation {
        presence: Presence::Alive { generation, care },
        begun: Some(begun(generation)),
        end: None,
        stopped: None,
    }
}

fn announced(action: Action) -> (Keeping, String) {
    match action {
        Action::Announce { keeping, what } => (keeping, what),
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_daemon_that_nobody_has_kept_yet_is_started_and_that_is_remembered_first() {
    let nothing = nothing();
    let Action::Remember(first) = act_under(RULES, &nothing, &Attempt::None, None, 500) else { panic!() };
    assert_eq!((first.generation, &first.course), (0, &Course::BackingOff { until_ms: 500 }));
    assert_eq!(act(&nothing, &first, 500), Action::Start);
    let under_way = act_under(RULES, &nothing, &Attempt::UnderWay, Some(&first), 500);
    assert_eq!(under_way, Action::LookAgain, "its own attempt is not to be doubled");
    let Action::Remember(up) = act(&alive(1, Care::Attended), &first, 600) else { panic!() };
    assert_eq!((up.generation, &up.course), (0, &Course::Content));
    assert_eq!(act(&alive(1, Care::Attended), &up, 600), Action::Rest);
}

#[test]
fn an_end_is_announced_once_and_followed_by_a_start_after_the_pause() {
    let failed = gone(begun(3), ended(3, FAILED));
    let (next, what) = announced(act(&failed, &keeping(2, Course::Content), 1020));
    assert_eq!(what, "exited with 7, starting again in 200ms");
    assert_eq!((next.generation, next.restarts, &next.course), (3, 1, &Course::BackingOff { until_ms: 1220 }));
    assert_eq!(act(&failed, &next, 1219), Action::WaitUntil(1220));
    assert_eq!(act(&failed, &next, 1220), Action::Start);
}

#[test]
fn an_end_that_nobody_saw_is_a_failure_and_one_without_a_failure_is_left_so() {
    let (next, what) = announced(act(&gone(begun(3), ended(2, FAILED)), &keeping(2, Course::Content), 1500));
    assert_eq!(what, "ended while nobody was there to see how, starting again in 200ms");
    assert_eq!(next.generation, 3);
    let clean = gone(begun(3), ended(3, End::Exited { code: 0 }));
    let (next, what) = announced(act(&clean, &keeping(2, Course::Content), 1500));
    assert_eq!(what, "exited with 0, which is no failure, so it is not started again");
    assert_eq!(act(&clean, &next, 999_999), Action::Rest);
}

#[test]
fn what_a_person_stopped_ends_in_silence_and_stays_ended() {
    let stopped = Observation { stopped: Some(3), ..gone(begun(3), ended(3, End::Signalled { signal: 15 })) };
    let Action::Remember(quiet) = act(&stopped, &keeping(2, Course::Content), 1500) else { panic!() };
    assert_eq!((quiet.generation, &quiet.course), (3, &Course::Content));
    assert_eq!(act(&stopped, &quiet, 999_999), Action::Rest);
    // Also one that was waiting for its next start.
    let waiting = keeping(3, Course::BackingOff { until_ms: 2000 });
    assert_eq!(act(&stopped, &waiting, 1500), Action::Remember(quiet));
    // And without a memory, as after `daemon stop` in a home that no watcher kept.
    assert_eq!(act_under(RULES, &stopped, &Attempt::None, None, 1500), Action::Rest);
    // A request for an older life is no request for this one.
    let old = Observation { stopped: Some(2), ..gone(begun(3), ended(3, FAILED)) };
    announced(act(&old, &keeping(2, Course::Content), 1500));
}

#[test]
fn after_too_many_restarts_it_is_given_up_until_somebody_takes_the_memory_away() {
    let past = Past { restarts_ms: vec![100, 200, 400, 800, 1000], in_a_row: 5 };
    let before = Keeping { past, ..keeping(2, Course::Content) };
    let failed = gone(begun(3), ended(3, FAILED));
    let (next, what) = announced(act(&failed, &before, 1020));
    assert_eq!(what, "was given up after 5 restarts in 5m: it exited with 7; daemon restart cache starts it again");
    assert_eq!(next.course, given_up());
    assert_eq!(act(&failed, &next, 9_999_999), Action::Rest);
    let reboot = Clock { now: Duration::from_secs(9), boot_id: Some("next".to_owned()) };
    let name = Name::new("cache").unwrap();
    let subject = Subject { name: &name, rules: &RULES };
    assert_eq!(decide(subject, &failed, &Attempt::None, Some(&next), &reboot), Action::Rest);
    let Action::Remember(fresh) = act_under(RULES, &failed, &Attempt::None, None, 5000) else { panic!() };
    assert_eq!((fresh.generation, fresh.past), (3, Past::default()));
    // Whoever starts it all the same wants it to run.
    let Action::Remember(up) = act(&alive(4, Care::Attended), &next, 5000) else { panic!() };
    assert_eq!(up.course, Course::Content);
}

#[test]
fn a_start_that_leaves_no_life_is_a_failed_one() {
    let waiting = keeping(3, Course::BackingOff { until_ms: 1000 });
    let seen = gone(begun(3), ended(3, FAILED));
    let attempt = Attempt::Failed("/run/x is a regular file".to_owned());
    let (next, what) = announced(act_under(RULES, &seen, &attempt, Some(&waiting), 1000));
    assert_eq!(what, "was not ready: /run/x is a regular file, starting again in 200ms");
    assert_eq!((next.generation, &next.course), (3, &Course::BackingOff { until_ms: 1200 }));
    // One that did leave a life is told by the end of that.
    let seen = gone(begun(4), ended(4, FAILED));
    let (_, what) = announced(act_under(RULES, &seen, &attempt, Some(&waiting), 1000));
    assert_eq!(what, "exited with 7, starting again in 200ms");
}

#[test]
fn a_life_without_a_monitor_gets_one() {
    let content = keeping(2, Course::Content);
    assert_eq!(act(&alive(3, Care::Alone), &content, 1), Action::Adopt);
    let under_way = act_under(RULES, &alive(3, Care::Alone), &Attempt::UnderWay, Some(&content), 1);
    assert_eq!(under_way, Action::LookAgain);
    let Action::Remember(known) = act_under(RULES, &alive(3, Care::Alone), &Attempt::None, None, 1) else { panic!() };
    assert_eq!(known, content, "one that runs already is recognised, and its end will be news");
}

#[test]
fn an_end_is_told_even_if_somebody_else_was_quicker_to_start_it_again() {
    let seen = Observation { end: Some(ended(3, FAILED)), ..alive(4, Care::Attended) };
    let (next, what) = announced(act(&seen, &keeping(2, Course::Content), 1500));
    assert_eq!((next.generation, what.as_str()), (3, "exited with 7 and was started again since"));
    assert_eq!(act(&seen, &next, 1500), Action::Rest);
    let restarted = Observation { stopped: Some(3), ..seen };
    assert!(matches!(act(&restarted, &keeping(2, Course::Content), 1500), Action::Remember(_)));
}

#[test]
fn a_life_that_ended_with_its_machine_is_nobodys_failure() {
    let begun = Begun { generation: 3, boot_id: Some("before".to_owned()), since_ms: 99_000_000 };
    let seen = Observation { begun: Some(begun), ..nothing() };
    let past = Past { restarts_ms: vec![1, 2, 3, 4, 5], in_a_row: 5 };
    let before = Keeping { boot_id: Some("before".to_owned()), past, ..keeping(2, Course::Content) };
    let Action::Remember(next) = act(&seen, &before, 10) else { panic!() };
    assert_eq!((next.generation, &next.past), (3, &Past::default()));
    assert_eq!(act(&seen, &next, 10), Action::Start);
    let waiting = Keeping { course: Course::BackingOff { until_ms: 99_000_000 }, ..before };
    assert_eq!(act(&nothing(), &waiting, 10), Action::Start, "a time of another boot is not waited for");
}

#[test]
fn what_cannot_be_told_authorises_nothing() {
    let unknown = Observation { presence: Presence::Unknown("why".to_owned()), ..gone(begun(3), ended(3, FAILED)) };
    let waiting = keeping(2, Course::BackingOff { until_ms: 0 });
    assert_eq!(act(&unknown, &waiting, 9), Action::Refuse("why".to_owned()));
    let in_hand = Observation { presence: Presence::InHand, ..unknown };
    assert_eq!(act(&in_hand, &waiting, 9), Action::LookAgain);
}

#[test]
fn a_memory_is_written_when_its_wake_is_recorded_and_yields_to_a_person() {
    let (old, new) = (keeping(2, Course::Content), keeping(3, given_up()));
    let mut memory = Memory::default();
    memory.keep(Some(old.clone()), new.clone(), Some(1));
    assert_eq!((memory.recall(Some(old.clone())), memory.due()), (Some(new.clone()), None));
    assert!(!memory.recorded(7));
    assert!(memory.recorded(1));
    assert_eq!(memory.due(), Some(&new));
    // Somebody removed the file meanwhile.
    assert_eq!((memory.recall(None), memory.due()), (None, None));
    assert!(memory.is_empty());
}

#[test]
fn what_follows_an_announcement_waits_for_it_too() {
    let disk = Some(keeping(2, Course::Content));
    let mut memory = Memory::default();
    memory.keep(disk.clone(), keeping(3, Course::BackingOff { until_ms: 5 }), Some(1));
    memory.keep(disk.clone(), keeping(3, Course::Content), None);
    assert_eq!(memory.due(), None);
    memory.recorded(1);
    assert_eq!(memory.due(), Some(&keeping(3, Course::Content)));
}

/// A daemon and what happens to it.
#[derive(Debug, Clone, Copy)]
enum Event {
    /// Time passes.
    Later(u64),
    /// The attempt under way brings up a life.
    Up,
    /// The attempt under way fails without one.
    Fail,
    /// The life ends.
    End(i32),
    /// Its monitor dies with it, so nobody writes down how.
    EndUnseen,
    /// A person stops it.
    Stop,
    /// A person starts it beside the keeper.
    Ensure,
    /// A person restarts it.
    Restart,
    /// The watcher is killed before what is in mind is on disk.
    Amnesia,
}

#[derive(Debug, Default)]
struct Model {
    now: u64,
    last: u64,
    is_alive: bool,
    end: Option<Ended>,
    stopped: Option<u64>,
    attempt: Option<Attempt>,
    keeping: Option<Keeping>,
    disk: Option<Keeping>,
    starts: Vec<u64>,
    announced: Vec<u64>,
}

impl Model {
    fn seen(&self) -> Observation {
        let up = Presence::Alive { generation: self.last, care: Care::Attended };
        let presence = if self.is_alive { up } else { Presence::Gone };
        let begun = (self.last > 0).then(|| begun(self.last));
        Observation { presence, begun, end: self.end.clone(), stopped: self.stopped }
    }

    fn begin(&mut self) {
        self.last += 1;
        self.is_alive = true;
    }

    fn happen(&mut self, event: Event) {
        match event {
            Event::Later(time) => self.now += time,
            Event::Up if self.attempt == Some(Attempt::UnderWay) && !self.is_alive => {
                self.begin();
                self.attempt = None;
            }
            Event::Fail if self.attempt == Some(Attempt::UnderWay) => {
                self.attempt = Some(Attempt::Failed("no".to_owned()));
            }
            Event::End(code) if self.is_alive => {
                self.is_alive = false;
                self.end = Some(ended(self.last, End::Exited { code }));
            }
            Event::EndUnseen => self.is_alive = false,
            Event::Stop if self.is_alive => {
                self.is_alive = false;
                self.stopped = Some(self.last);
                self.end = Some(ended(self.last, End::Signalled { signal: 15 }));
            }
            Event::Ensure if !self.is_alive && !self.is_given_up() && self.attempt.is_none() => self.begin(),
            Event::Restart => {
                (self.keeping, self.disk, self.attempt) = (None, None, None);
                self.begin();
            }
            Event::Amnesia => {
                self.keeping = self.disk.clone();
                self.attempt = None;
            }
            _ => {}
        }
    }

    fn is_given_up(&self) -> bool {
        self.keeping.as_ref().is_some_and(|keeping| matches!(keeping.course, Course::GivenUp { .. }))
    }

    /// One look, as the keeper's thread has it. Says how many steps it took.
    fn look(&mut self, rules: Rules) -> usize {
        for step in 0..8 {
            let attempt = self.attempt.clone().unwrap_or(Attempt::None);
            match act_under(rules, &self.seen(), &attempt, self.keeping.as_ref(), self.now) {
                Action::Remember(keeping) => {
                    self.keeping = Some(keeping);
                    self.disk.clone_from(&self.keeping);
                }
                Action::Announce { keeping, .. } => {
                    if keeping.generation > self.keeping.as_ref().map_or(0, |before| before.generation) {
                        self.announced.push(keeping.generation);
                    }
                    if matches!(self.attempt, Some(Attempt::Failed(_))) {
                        self.attempt = None;
                    }
                    self.keeping = Some(keeping);
                }
                Action::Start => {
                    self.starts.push(self.now);
                    self.attempt = Some(Attempt::UnderWay);
                    return step;
                }
                _ => return step,
            }
        }
        8
    }
}

fn event() -> impl Strategy<Value = Event> {
    prop_oneof![
        4 => (1u64..40_000).prop_map(Event::Later),
        6 => Just(Event::Up),
        1 => Just(Event::Fail),
        6 => (0i32..3).prop_map(Event::End),
        1 => Just(Event::EndUnseen),
        1 => Just(Event::Stop),
        1 => Just(Event::Ensure),
        1 => Just(Event::Restart),
        1 => Just(Event::Amnesia),
    ]
}

proptest! {
    #[test]
    fn whatever_happens_there_is_no_start_too_many(
        events in prop::collection::vec(event(), 1..120),
        restart in prop_oneof![Just(Restart::OnFailure), Just(Restart::Always)],
    ) {
        let rules = Rules { restart, ..RULES };
        let mut model = Model { now: 10_000, ..Model::default() };
        for event in events {
            let (was_given_up, starts) = (model.is_given_up(), model.starts.len());
            let (last, was_under_way) = (model.last, model.attempt == Some(Attempt::UnderWay));
            let is_amnesia = matches!(event, Event::Amnesia);
            model.happen(event);
            let steps = model.look(rules);
            prop_assert!(steps < 8, "a look comes to an end");
            let started = model.starts.len() - starts;
            prop_assert!(started <= 1);
            if started == 1 {
                prop_assert!(!model.is_alive, "what lives is not started");
                prop_assert!(!was_under_way || model.last > last || is_amnesia, "nor what is being started");
                prop_assert!(model.stopped != Some(model.last), "nor what a person stopped");
                prop_assert!(!was_given_up || is_amnesia, "nor what was given up");
            }
            if was_given_up && !matches!(event, Event::Restart | Event::Amnesia) {
                prop_assert!(model.is_given_up(), "given up stays given up");
            }
        }
    }

    #[test]
    fn an_end_that_was_not_asked_for_is_always_announced(ends in prop::collection::vec((1i32..9, any::<bool>()), 1..20)) {
        let rules = Rules { brake: Brake { max_restarts: 100, ..RULES.brake }, ..RULES };
        let mut model = Model { now: 10_000, ..Model::default() };
        model.look(rules);
        for (code, is_quicker) in ends {
            model.happen(if model.attempt.is_some() { Event::Up } else { Event::Ensure });
            model.look(rules);
            let generation = model.last;
            model.happen(Event::End(code));
            if is_quicker {
                model.happen(Event::Ensure);
            }
            model.look(rules);
            prop_assert_eq!(model.announced.last(), Some(&generation));
            model.happen(Event::Later(60_000));
            model.look(rules);
        }
    }
}
