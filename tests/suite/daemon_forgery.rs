//! Forged records of daemons: nobody is signalled because of what a file says alone, and who belongs to a life is known
//! without the help of the file.

use std::fs;
use std::path::PathBuf;
use std::time::Instant;

use fm_watch::settings::daemon_definition::{Definition, Name};
use fm_watch::daemons::spawn_monitor::{MonitorStatus, Starter};
use fm_watch::layout::paths::Home;
use fm_watch::system::identity::{Observation, Pid};
use fm_watch::system::{Real, World};
use serde_json::{Value, json};

use crate::support::background::wait_for_end;
use crate::support::daemons::{Daemons, order};
use crate::support::home::PROGRAM;
use crate::support::home::finish;
#[cfg(feature = "sync-points")]
use crate::support::sync::without;
use crate::support::{Answer, Background, SOON, Skip, processes, wait_until};

cases! {
    a_forged_record_with_a_strangers_true_identity_gets_no_signal,
    #[cfg(feature = "sync-points")]
    without_the_second_proof_the_stranger_is_stopped,
    a_monitor_ends_no_stranger_that_is_recorded_as_not_ready,
    #[cfg(feature = "sync-points")]
    without_the_second_proof_the_monitor_ends_the_stranger,
    the_record_of_another_daemon_does_not_make_it_this_one,
    a_forged_session_gets_no_signal,
    #[cfg(feature = "sync-points")]
    without_a_look_at_the_session_another_daemon_is_stopped,
    whoever_forgot_its_lock_and_lost_its_monitor_is_known_by_its_environment,
    whoever_forgot_everything_is_known_by_its_monitor_and_by_nobody_after_it,
}

/// A home with the daemons `d` and `other`.
fn bench() -> Result<Daemons, Skip> {
    Daemons::configured(
        r#"
        [daemon.d]
        command = ["{daemon}", "note", "{scratch}/starts"]
        ready = { delay = "10ms" }
        [daemon.other]
        command = ["{daemon}", "note", "{scratch}/others"]
        ready = { delay = "10ms" }
        [daemon.forgetful]
        command = ["{daemon}", "forget", "note", "{scratch}/forgetful"]
        ready = { pidfile = "{scratch}/forgetful" }
        [daemon.forker]
        command = ["{daemon}", "forget", "double-fork", "pidfile", "{scratch}/forker"]
        ready = { pidfile = "{scratch}/forker" }
        [daemon.oblivious]
        command = ["env", "-i", "{daemon}", "forget", "note", "{scratch}/oblivious"]
        ready = { pidfile = "{scratch}/oblivious" }
        "#,
    )
}

/// A process that has nothing to do with any daemon.
fn stranger(daemons: &Daemons) -> Background {
    let mut stranger = daemons.home.bare("sleep");
    stranger.arg("1000");
    Background::spawn(stranger)
}

/// All that can be recorded of a process, and true.
fn identity_of(pid: u32) -> Value {
    let pinned = Real.pin(Pid::new(pid).unwrap()).unwrap().unwrap();
    let Observation::Seen(identity) = Real.observe(&pinned) else { panic!("pid {pid} cannot be seen") };
    json!(identity)
}

/// Records a process as the daemon `d`, which has run and been stopped.
fn forge(daemons: &Daemons, pid: u32, phase: &Value) {
    daemons.ensure("d");
    daemons.ask(&["stop", "d"]).expect_code(0);
    let mut life = daemons.life("d").unwrap();
    life["process"] = identity_of(pid);
    life["session"] = json!(pid);
    life["phase"] = phase.clone();
    life["definition"]["ready"] = json!("descriptor");
    fs::write(daemons.file("d", "life.json"), life.to_string()).unwrap();
}

fn ready() -> Value {
    json!({"is": "ready", "after_ms": 1})
}

#[track_caller]
fn assert_refused(answer: &Answer, name: &str, pid: u32) {
    assert_eq!((answer.code, answer.stdout.as_str()), (Some(1), ""), "{answer:?}");
    let (verify, kill) = (format!("`daemon verify {name}`"), format!("`kill {pid}`"));
    for words in ["nobody was signalled", "the life lock", "the monitor's lock", "FM_WATCH_LIFE", &verify, &kill] {
        assert!(answer.stderr.contains(words), "{words}: {answer:?}");
    }
    assert!(processes::is_alive(pid));
}

fn a_forged_record_with_a_strangers_true_identity_gets_no_signal() -> Result<(), Skip> {
    let daemons = bench()?;
    let mut stranger = stranger(&daemons);
    forge(&daemons, stranger.pid(), &ready());
    fs::remove_file(daemons.file("d", "stop.json")).unwrap();
    assert_refused(&daemons.ask(&["stop", "d"]), "d", stranger.pid());
    assert_refused(&daemons.ask(&["restart", "d"]), "d", stranger.pid());
    assert!(!daemons.file("d", "stop.json").exists(), "nobody was asked to leave");
    assert_eq!(stranger.ended(), None);
    assert_eq!(daemons.noted("starts").len(), 1);
    Ok(())
}

#[cfg(feature = "sync-points")]
fn without_the_second_proof_the_stranger_is_stopped() -> Result<(), Skip> {
    let daemons = bench()?;
    let stranger = stranger(&daemons);
    forge(&daemons, stranger.pid(), &ready());
    let mut stop = daemons.command(&["stop", "d"]);
    without(&mut stop, &["DaemonStopSecondProof"]);
    let stopped = finish(stop).expect_code(0);
    assert_eq!(stopped.stdout, format!("daemon: stopped d pid={}\n", stranger.pid()));
    assert_eq!(stranger.finish(SOON).code, None, "it was ended by a signal");
    Ok(())
}

/// Starts a monitor of `d` where a process is recorded that has not said yet that it is ready: its first word but one that
/// says who was forked.
fn monitored(daemons: &Daemons, variables: &[(&str, &str)]) -> MonitorStatus {
    let definition: Definition = serde_json::from_value(daemons.life("d").unwrap()["definition"].clone()).unwrap();
    let mut environment = vec![("PATH".to_owned(), std::env::var_os("PATH").unwrap_or_default())];
    environment.extend(variables.iter().map(|&(name, value)| (name.to_owned(), value.into())));
    let starter = Starter::new(PathBuf::from(*PROGRAM), &Home::at(daemons.home.root()), environment);
    let start = starter.start(&Name::new("d").unwrap(), &order(&daemons.file("d", ""), &definition)).unwrap();
    start.next_status(Instant::now() + SOON).unwrap_or_else(|silence| panic!("{}", start.in_words(&silence)))
}

fn a_monitor_ends_no_stranger_that_is_recorded_as_not_ready() -> Result<(), Skip> {
    let daemons = bench()?;
    let mut stranger = stranger(&daemons);
    forge(&daemons, stranger.pid(), &json!({"is": "starting"}));
    let MonitorStatus::Failed { reason } = monitored(&daemons, &[]) else { panic!("it did not fail") };
    assert!(reason.contains("nobody was signalled") && reason.contains("the life lock"), "{reason}");
    assert_eq!(stranger.ended(), None);
    assert_eq!(daemons.noted("starts").len(), 1);
    Ok(())
}

#[cfg(feature = "sync-points")]
fn without_the_second_proof_the_monitor_ends_the_stranger() -> Result<(), Skip> {
    let daemons = bench()?;
    let stranger = stranger(&daemons);
    forge(&daemons, stranger.pid(), &json!({"is": "starting"}));
    let word = monitored(&daemons, &[("FM_WATCH_WITHOUT", "DaemonStopSecondProof")]);
    assert!(matches!(word, MonitorStatus::Forked { .. }), "the next daemon is started when the stranger has left: {word:?}");
    assert_eq!(stranger.finish(SOON).code, None, "it was ended by a signal");
    Ok(())
}

fn the_record_of_another_daemon_does_not_make_it_this_one() -> Result<(), Skip> {
    let daemons = bench()?;
    let other = daemons.ensure("other");
    daemons.ensure("d");
    daemons.ask(&["stop", "d"]).expect_code(0);
    fs::copy(daemons.file("other", "life.json"), daemons.file("d", "life.json")).unwrap();
    assert_refused(&daemons.ask(&["stop", "d"]), "d", other);
    assert_eq!(daemons.ask(&["stop", "other"]).expect_code(0).stdout, format!("daemon: stopped other pid={other}\n"));
    Ok(())
}

/// Stops `d`, whose record says that it has the session of `other`. Whether that one lives on.
fn other_is_spared(daemons: &Daemons, protections: &[&str]) -> bool {
    let (pid, other) = (daemons.ensure("d"), daemons.ensure("other"));
    let mut life = daemons.life("d").unwrap();
    life["session"] = json!(other);
    fs::write(daemons.file("d", "life.json"), life.to_string()).unwrap();
    let mut stop = daemons.command(&["stop", "d"]);
    stop.env("FM_WATCH_WITHOUT", protections.join(","));
    finish(stop).expect_code(0);
    assert!(processes::has_ended(pid));
    processes::is_alive(other)
}

fn a_forged_session_gets_no_signal() -> Result<(), Skip> {
    assert!(other_is_spared(&bench()?, &[]));
    Ok(())
}

#[cfg(feature = "sync-points")]
fn without_a_look_at_the_session_another_daemon_is_stopped() -> Result<(), Skip> {
    assert!(!other_is_spared(&bench()?, &["DaemonLeftoverSession"]));
    Ok(())
}

/// Ends the monitor of a daemon.
fn end_monitor(daemons: &Daemons, name: &str) {
    let monitor = daemons.monitor(name).unwrap();
    daemons.home.kill(monitor);
    wait_for_end(monitor, "the monitor");
}

#[track_caller]
fn assert_forgot_its_lock(daemons: &Daemons, name: &str, pid: u32) {
    let lock = daemons.file(name, "lock");
    assert!(processes::descriptors(pid).iter().all(|(_, path)| *path != lock), "it has its life lock");
}

fn whoever_forgot_its_lock_and_lost_its_monitor_is_known_by_its_environment() -> Result<(), Skip> {
    let daemons = bench()?;
    for name in ["forgetful", "forker"] {
        daemons.ensure(name);
        let is_it = |pid: &u32| daemons.noted(name).last() == Some(pid);
        let pid = wait_until(SOON, "the one that stays is known", || daemons.pid(name).filter(is_it));
        assert_forgot_its_lock(&daemons, name, pid);
        end_monitor(&daemons, name);
        let stopped = daemons.ask(&["stop", name]).expect_code(0);
        assert_eq!(stopped.stdout, format!("daemon: stopped {name} pid={pid}\n"));
        assert!(processes::has_ended(pid), "{name}");
    }
    Ok(())
}

fn whoever_forgot_everything_is_known_by_its_monitor_and_by_nobody_after_it() -> Result<(), Skip> {
    let daemons = bench()?;
    let first = daemons.ensure("oblivious");
    assert_forgot_its_lock(&daemons, "oblivious", first);
    daemons.ask(&["stop", "oblivious"]).expect_code(0);
    assert!(processes::has_ended(first));
    fs::remove_file(daemons.path("oblivious")).unwrap();

    let second = daemons.ensure("oblivious");
    end_monitor(&daemons, "oblivious");
    assert_refused(&daemons.ask(&["stop", "oblivious"]), "oblivious", second);
    // It is watched over again nevertheless, and still not signalled on its record's word.
    let before = daemons.monitor("oblivious");
    assert_eq!(daemons.ensure("oblivious"), second);
    wait_until(SOON, "it has a monitor", || daemons.monitor("oblivious").filter(|&pid| Some(pid) != before));
    assert_refused(&daemons.ask(&["stop", "oblivious"]), "oblivious", second);
    daemons.home.kill(second);
    wait_until(SOON, "its end is recorded", || {
        daemons.end("oblivious").filter(|end| end["pid"].as_u64() == Some(second.into()))
    });
    Ok(())
}
