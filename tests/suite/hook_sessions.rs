//! Which session a home is watched for: sessions within sessions, resumed ones, several of one agent, agents that cannot be
//! seen, and a pid that was given away.

use std::fs;

use serde_json::Value;

use crate::hooks::{Agent, CLAUDE_STOP, down, entry};
#[cfg(feature = "sync-points")]
use crate::hooks::watched;
use crate::support::namespace::Namespace;
#[cfg(feature = "sync-points")]
use crate::support::sync::{Points, without};
use crate::support::{Skip, TestHome, home::finish};
#[cfg(feature = "sync-points")]
use crate::support::{SOON, wait_until_true};

cases! {
    a_session_within_a_session_is_left_alone,
    a_resumed_session_is_responsible_again_once_its_old_process_is_gone,
    of_two_sessions_of_one_agent_the_one_that_a_person_turns_to_is_responsible,
    an_agent_that_nobody_can_see_is_left_alone,
    a_pid_that_was_given_away_proves_that_its_agent_is_gone,
    #[cfg(feature = "sync-points")]
    a_waiter_that_is_about_to_wait_is_no_reason_to_hold,
    #[cfg(feature = "sync-points")]
    without_a_look_at_who_is_about_to_wait_a_turn_is_held,
}

fn of_session(id: &str) -> String {
    CLAUDE_STOP.replace(r#""s""#, &format!(r#""{id}""#))
}

fn holder(home: &TestHome) -> u64 {
    let lease: Value = serde_json::from_slice(&fs::read(home.watch("sessions/lease.json")).unwrap()).unwrap();
    lease["agent"]["pid"].as_u64().unwrap()
}

/// The inner agent was started by a tool of the outer one.
fn a_session_within_a_session_is_left_alone() {
    let home = down();
    let mut outer = Agent::new(&home, "outer");
    assert!(outer.hear(&entry(&home, "claude", "turn-end"), &of_session("outer")).is_hold());
    let script = home.scratch().join("inner-agent");
    fs::write(&script, "\"$@\" hook --harness claude --event turn-end\nexit $?\n").unwrap();
    let mut inner = home.bare("sh");
    inner.arg(&script).arg(home.command(&[]).get_program()).args(home.flags());
    outer.hear(&inner, &of_session("inner")).expect_silence();
    assert!(outer.hear(&entry(&home, "claude", "turn-end"), &of_session("outer")).is_hold());
    outer.die();
}

fn a_resumed_session_is_responsible_again_once_its_old_process_is_gone() {
    let home = down();
    let (mut old, mut new) = (Agent::new(&home, "old"), Agent::new(&home, "new"));
    let command = entry(&home, "claude", "turn-end");
    assert!(old.hear(&command, CLAUDE_STOP).is_hold());
    new.hear(&command, CLAUDE_STOP).expect_silence();
    let held_by = holder(&home);
    old.die();
    assert!(new.hear(&command, CLAUDE_STOP).is_hold());
    assert_ne!(holder(&home), held_by);
    // It is the same session, in the same episode: it had both holds now.
    assert!(!new.hear(&command, CLAUDE_STOP).is_hold());
    new.die();
}

fn of_two_sessions_of_one_agent_the_one_that_a_person_turns_to_is_responsible() {
    let home = down();
    let mut agent = Agent::new(&home, "agent");
    let (end, prompt) = (entry(&home, "claude", "turn-end"), entry(&home, "claude", "user-prompt"));
    assert!(agent.hear(&end, &of_session("one")).is_hold());
    agent.hear(&end, &of_session("two")).expect_silence();
    let says = of_session("two").replace("Stop", "UserPromptSubmit");
    assert!(agent.hear(&prompt, &says).stdout.contains("supervision of this home is off"));
    agent.hear(&end, &of_session("one")).expect_silence();
    for is_held in [true, true, false, false] {
        assert_eq!(agent.hear(&end, &of_session("two")).is_hold(), is_held);
    }
    agent.die();
}

/// Puts a program into the scratch directory that is an agent: it runs the hook at the end of its turn with the payload in
/// `$2.in`, keeps the answer in `$2.out`, and lives until its stdin ends. Its own arguments do not speak of hooks.
fn write_agent(home: &TestHome) {
    let agent = r#"name=$1; shift
        "$@" hook --harness claude --event turn-end < "$SCRATCH/$name.in" > "$SCRATCH/$name.out" 2> "$SCRATCH/$name.err"
        : > "$SCRATCH/$name.done"
        read -r never || :
    "#;
    fs::write(home.scratch().join("agent"), agent).unwrap();
    for name in ["one", "two"] {
        fs::write(home.scratch().join(name).with_extension("in"), of_session(name)).unwrap();
    }
}

fn an_agent_that_nobody_can_see_is_left_alone() -> Result<(), Skip> {
    let home = down();
    Namespace::PidsWithOuterProc.required(&home)?;
    home.make_watch();
    write_agent(&home);
    let script = r#"export SCRATCH; sh "$SCRATCH/agent" one "${program[@]}" < /dev/null; cat "$SCRATCH"/one.???"#;
    let ask = |namespace: Namespace| finish(namespace.script(&home, script)).expect_code(0);
    let unseen = ask(Namespace::PidsWithOuterProc);
    assert!(!unseen.stdout.contains("block"), "{unseen:?}");
    assert!(!home.watch("sessions/lease.json").exists());
    let seen = ask(Namespace::Pids);
    assert!(seen.stdout.contains(r#""decision":"block""#), "the twin: one that can be seen is held: {seen:?}");
    Ok(())
}

/// An innocent process gets the pid of the dead agent; the home is not left to it.
fn a_pid_that_was_given_away_proves_that_its_agent_is_gone() -> Result<(), Skip> {
    let home = down();
    Namespace::Pids.required(&home)?;
    write_agent(&home);
    let script = r#"
        export SCRATCH
        mkfifo "$SCRATCH/never"; exec 9<> "$SCRATCH/never"
        sh "$SCRATCH/agent" one "${program[@]}" <&9 & agent=$!
        wait_for test -e "$SCRATCH/one.done"
        grep -q '"decision":"block"' "$SCRATCH/one.out"
        # While it lives, nobody else is held.
        sh "$SCRATCH/agent" two "${program[@]}" < /dev/null
        cat "$SCRATCH/two.out" "$SCRATCH/two.err" > "$SCRATCH/beside"
        [ ! -s "$SCRATCH/beside" ]
        kill -9 $agent; wait $agent || :
        next_pid $agent; sleep 1000 & stranger=$!
        [ $stranger = $agent ] || exit 98
        sh "$SCRATCH/agent" two "${program[@]}" < /dev/null
        cat "$SCRATCH/two.out"
        kill -0 $stranger
    "#;
    let answer = finish(Namespace::Pids.script(&home, script)).expect_code(0);
    assert!(answer.stdout.contains(r#""decision":"block""#), "{answer:?}");
    Ok(())
}

/// A hook at the end of a turn while the waiter of the session is as slow as can be: it has begun and does not wait yet.
#[cfg(feature = "sync-points")]
fn turn_end_beside_a_slow_waiter(protection: &[&str]) -> bool {
    let (home, _watcher) = watched();
    let mut agent = Agent::new(&home, "agent");
    let points = Points::new(&home, "waiter");
    let mut waiter = entry(&home, "claude", "wait");
    points.pause(&mut waiter, &["HooksWaiterTaken"]);
    agent.start_beside(&waiter, CLAUDE_STOP);
    points.wait_until_reached("HooksWaiterTaken");
    let mut command = entry(&home, "claude", "turn-end");
    without(&mut command, protection);
    let heard = agent.hear(&command, CLAUDE_STOP);
    points.go("HooksWaiterTaken");
    wait_until_true(SOON, "it waits", || home.status()["waiters"] == 1);
    // And now that it does wait, nobody has to look at its lock.
    agent.hear(&entry(&home, "claude", "turn-end"), CLAUDE_STOP).expect_silence();
    agent.die();
    heard.is_hold()
}

#[cfg(feature = "sync-points")]
fn a_waiter_that_is_about_to_wait_is_no_reason_to_hold() {
    assert!(!turn_end_beside_a_slow_waiter(&[]));
}

#[cfg(feature = "sync-points")]
fn without_a_look_at_who_is_about_to_wait_a_turn_is_held() {
    assert!(turn_end_beside_a_slow_waiter(&["HooksWaiterBegins"]));
}
