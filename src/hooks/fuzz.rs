//! A hundred thousand payloads that no harness ever sent.

use super::answer::Answer;
use super::contract::is_allowed;
use super::decision::{Allowance, Decision, Listeners, Message, Role, Situation, Supervision, Work, turn_end};
use super::event::Event;
use super::harness::Harness;
use super::hold_limit::Episode;
use super::kill_guard::{self, Target};
use super::origin::tests::ENDS;
use super::origin::{Received, receive};

/// All of a hook but the disk.
fn answer(bytes: &[u8], harness: Harness, event: Event, situation: &Situation, target: &Target) -> Answer {
    let payload = match receive(bytes, harness, event) {
        Received::Nothing => return Answer::default(),
        Received::Garbled(why) => return harness.note(&why),
        Received::Payload(payload) => payload,
    };
    let session = payload.session(harness);
    let decision = match event {
        Event::SessionStart | Event::UserPrompt => situation.at_start(),
        Event::PreTool if payload.command().is_some_and(|command| kill_guard::hits(&command, target)) => {
            Decision::Deny(Message::new("no"))
        }
        Event::TurnEnd if !payload.is_broken_off() => turn_end(situation.at_turn_end(harness.profile().waking), || {
            let next = session.and_then(|session| Episode::default().after_holding(&session, payload.holds_before()));
            next.map_or(Allowance::Spent, |_| Allowance::Granted)
        }),
        Event::Wait => Decision::Wake(Message::new("signal: x")),
        Event::PreTool | Event::TurnEnd => Decision::Silent,
    };
    harness.answer(event, &decision)
}

/// A payload of a harness, bent in up to four places.
fn bent(rng: &mut fastrand::Rng) -> Vec<u8> {
    const PIECES: [&str; 14] = [
        "{",
        "}",
        "[",
        "\"",
        "null",
        "\u{0}",
        "\\ud800",
        "\u{feff}",
        ",",
        ":",
        "1e999",
        "\"session_id\":",
        "\"command\":",
        "\"pkill fm-watch\"",
    ];
    let mut bytes = ENDS[rng.usize(..ENDS.len())].1.as_bytes().to_vec();
    if rng.usize(..4) == 0 {
        let tool = br#","tool_input":{"command":"kill $(pgrep fm-watch)"}}"#;
        bytes.pop();
        bytes.extend_from_slice(tool);
    }
    for _ in 0..rng.usize(..5) {
        if bytes.is_empty() {
            break;
        }
        let at = rng.usize(..bytes.len());
        match rng.usize(..4) {
            0 => bytes.truncate(at),
            1 => bytes[at] = u8::try_from(rng.usize(..256)).unwrap(),
            2 => drop(bytes.splice(at..at, PIECES[rng.usize(..PIECES.len())].bytes())),
            _ => drop(bytes.drain(at..bytes.len().min(at + 1 + rng.usize(..20)))),
        }
    }
    bytes
}

#[test]
fn a_hundred_thousand_bent_payloads_are_answered_as_the_contracts_allow() {
    let situations = [
        Supervision::Off("it is dead".to_owned()),
        Supervision::On(Listeners::None),
        Supervision::Unclear("who knows".to_owned()),
    ]
    .map(|supervision| Situation {
        role: Role::Responsible,
        work: Work::Some("1 task(s) in flight".to_owned()),
        supervision,
        arm: "fm-watch arm".to_owned(),
        status: "fm-watch status".to_owned(),
    });
    let target = Target { pid: Some(7), command_line: "fm-watch --home /h run".to_owned() };
    let mut rng = fastrand::Rng::with_seed(7);
    let (mut silent, mut said) = (0, 0);
    for round in 0..100_000 {
        let bytes = bent(&mut rng);
        let harness = Harness::ALL[rng.usize(..Harness::ALL.len())];
        let event = Event::ALL[rng.usize(..Event::ALL.len())];
        let answer = answer(&bytes, harness, event, &situations[round % situations.len()], &target);
        assert!(
            is_allowed(harness, event, &answer),
            "{harness} {event} {:?} {answer:?}",
            String::from_utf8_lossy(&bytes)
        );
        if answer == Answer::default() { silent += 1 } else { said += 1 }
    }
    assert!(silent > 1000 && said > 1000, "both were tried: {silent} silent, {said} said");
}
