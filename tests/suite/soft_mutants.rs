//! What each protection of the soft lock is for: a chosen interleaving that it survives, and the same one without it.
//!
//! The processes are made up and share one real directory. What one of them does at a named step is what another process
//! would do if it were scheduled there.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use fm_watch::lock::soft::process_id::NAMESPACE_MARK;
use fm_watch::lock::soft::marker::{Content, Record};
use fm_watch::lock::soft::process_id::Start;
use fm_watch::lock::soft::{SoftLock, observation};
use fm_watch::lock::{Attempt, Guard, Lock, Ownership};
use fm_watch::system::{Real, World};

use crate::support::namespace::Namespace;
use crate::support::scripted::Scripted;
use crate::support::soft::{
    Held, Mortal, attempt, attempt_of_mortal, dead_pid, expect_held, inode, leave_dead_marker, lock_path, names_beside,
    record_of, take, try_take,
};
use crate::support::{Background, Skip, TestHome, processes, wait_until};

cases! {
    a_breaker_that_is_overtaken_puts_the_live_marker_back,
    breaking_by_unlink_makes_two_holders,
    without_the_inode_check_there_are_two_holders,
    without_the_put_back_a_live_marker_is_lost,
    a_marker_that_was_replaced_since_it_was_judged_is_not_moved,
    without_the_second_look_a_live_marker_is_moved,
    what_a_dead_breaker_took_goes_back_first,
    without_recovery_a_dead_breaker_makes_two_holders,
    what_another_is_about_to_put_back_counts_as_held,
    passing_over_what_vanished_makes_two_holders,
    a_process_that_dies_before_its_record_is_whole_blocks_nobody,
    a_marker_that_is_created_and_then_filled_blocks_for_ever,
    a_release_leaves_a_successor_alone,
    without_the_own_inode_a_release_frees_a_successors_lock,
    a_record_that_is_being_written_is_left_alone,
    without_stillness_a_record_that_is_being_written_is_broken,
    a_holder_whose_pid_was_given_away_is_dead,
    by_pid_alone_a_dead_holder_holds_for_ever,
    an_empty_marker_is_never_broken,
    if_an_empty_marker_may_be_broken_there_are_two_holders,
    a_holder_in_another_pid_namespace_is_alive,
    without_the_search_a_holder_in_another_pid_namespace_is_broken,
}

type Slot<T> = Arc<Mutex<Option<T>>>;

/// What a made-up process finds when it comes to the step: somebody else has just taken the lock.
fn overtaken_at(step: &'static str, path: &Path, by: &Slot<Held>, process: Scripted) -> Arc<Scripted> {
    let (path, by) = (path.to_owned(), Arc::clone(by));
    let takes_over = move || {
        let other = attempt(&Scripted::new().shared(), &path).expect("the dead marker can be taken");
        *by.lock().unwrap() = Some(other);
    };
    process.at(step, takes_over).shared()
}

/// Two breakers judge one dead marker; one is overtaken between its last look and its exchange. Says who holds then.
fn two_breakers(without: &'static str) -> (PathBuf, TestHome, Option<Held>, Held) {
    let home = TestHome::new();
    let path = lock_path(&home);
    leave_dead_marker(&path);
    let other = Slot::default();
    let slow = overtaken_at("SoftRechecked", &path, &other, Scripted::new().without(without));
    let slow = attempt(&slow, &path);
    let other = other.lock().unwrap().take().expect("the other was there");
    (path, home, slow, other)
}

fn a_breaker_that_is_overtaken_puts_the_live_marker_back() {
    let (path, _home, slow, other) = two_breakers("nothing");
    assert!(slow.is_none(), "the slow one does not hold");
    expect_held(&other, "it is back in its place");
    assert_eq!(names_beside(&path), Vec::<String>::new());
    assert!(try_take(&path).is_err(), "and nobody else can hold");
}

fn breaking_by_unlink_makes_two_holders() {
    let (_path, _home, slow, other) = two_breakers("SoftBreakByExchange");
    assert!(slow.is_some(), "the slow one has unlinked what it did not judge");
    assert!(other.check().unwrap() != Ownership::Held, "while the other was sure to hold");
}

fn without_the_inode_check_there_are_two_holders() {
    let (_path, _home, slow, other) = two_breakers("SoftInodeCheck");
    assert!(slow.is_some(), "the slow one takes what came out for what it judged");
    assert!(other.check().unwrap() != Ownership::Held, "while the other was sure to hold");
}

fn without_the_put_back_a_live_marker_is_lost() {
    let (path, _home, slow, other) = two_breakers("SoftPutBack");
    assert!(slow.is_none());
    let third = try_take(&path);
    assert!(third.is_ok(), "a third holds");
    assert!(other.check().unwrap() != Ownership::Held, "while the other was sure to hold");
}

/// A breaker that is overtaken between its judgement and its last look. Says how often it has exchanged names.
fn overtaken_before_the_last_look(process: Scripted) -> usize {
    let home = TestHome::new();
    let path = lock_path(&home);
    leave_dead_marker(&path);
    let other = Slot::default();
    let slow = overtaken_at("SoftSetAside", &path, &other, process);
    assert!(attempt(&slow, &path).is_none());
    let other = other.lock().unwrap().take().expect("the other was there");
    expect_held(&other, "in the end it is in its place");
    slow.exchanges()
}

fn a_marker_that_was_replaced_since_it_was_judged_is_not_moved() {
    assert_eq!(overtaken_before_the_last_look(Scripted::new()), 0);
}

fn without_the_second_look_a_live_marker_is_moved() {
    assert_eq!(overtaken_before_the_last_look(Scripted::new().without("SoftRecheckBeforeExchange")), 2);
}

/// A breaker that has taken a live marker by mistake dies before it can put it back. Gives the live holder.
fn a_breaker_dies_with_a_live_marker(path: &Path) -> Held {
    leave_dead_marker(path);
    let (mortal, other) = (Mortal::new(), Slot::default());
    // It creates, fills, opens to all, sets aside and exchanges, and then no more.
    let dying = Scripted::with_pid(mortal.pid()).dying_before(5);
    let dying = overtaken_at("SoftRechecked", path, &other, dying);
    assert!(attempt_of_mortal(&dying, path).is_none());
    assert!(dying.is_dead());
    mortal.die();
    let other = other.lock().unwrap().take().expect("the other was there");
    expect_held(&other, "its marker is set aside, and nobody else can hold");
    other
}

fn what_a_dead_breaker_took_goes_back_first() {
    let home = TestHome::new();
    let path = lock_path(&home);
    let holder = a_breaker_dies_with_a_live_marker(&path);
    assert!(inode(&path).is_some());
    assert!(try_take(&path).is_err(), "who comes next finds that it is held");
    expect_held(&holder, "it has put the live marker back");
    assert_eq!(names_beside(&path), Vec::<String>::new());
    holder.release().unwrap();
    take(&path);
}

fn without_recovery_a_dead_breaker_makes_two_holders() {
    let home = TestHome::new();
    let path = lock_path(&home);
    let holder = a_breaker_dies_with_a_live_marker(&path);
    let second = attempt(&Scripted::new().without("SoftRecovery").shared(), &path);
    assert!(second.is_some(), "the dead breaker's record is taken");
    assert!(holder.check().unwrap() != Ownership::Held, "while the holder was sure to hold");
}

/// A dead breaker has left a live marker; two search for it, and one has just taken it into its hands when the other looks
/// at what it has found. Says what the other one gets; the first one rests meanwhile.
fn looks_at_what_is_in_anothers_hands(path: &Path, looker: Scripted) -> Option<Held> {
    let resting = Mortal::new();
    let lock = path.to_owned();
    let pid = resting.pid();
    let looker = looker.at("SoftSearched", move || {
        // It renames what it found, and does nothing more.
        let restorer = Scripted::with_pid(pid).dying_before(1).shared();
        assert!(attempt_of_mortal(&restorer, &lock).is_none());
        assert!(restorer.is_dead());
    });
    attempt(&looker.shared(), path)
}

fn what_another_is_about_to_put_back_counts_as_held() {
    let home = TestHome::new();
    let path = lock_path(&home);
    let holder = a_breaker_dies_with_a_live_marker(&path);
    assert!(looks_at_what_is_in_anothers_hands(&path, Scripted::new()).is_none());
    // The one that rested has died by now, so the next who looks finishes its work.
    assert!(try_take(&path).is_err());
    expect_held(&holder, "it has put the live marker back");
}

fn passing_over_what_vanished_makes_two_holders() {
    let home = TestHome::new();
    let path = lock_path(&home);
    let holder = a_breaker_dies_with_a_live_marker(&path);
    let second = looks_at_what_is_in_anothers_hands(&path, Scripted::new().without("SoftVanishedIsHeld"));
    assert!(second.is_some(), "what was found and is gone was taken for nothing");
    assert!(holder.check().unwrap() != Ownership::Held, "while the holder was sure to hold");
}

/// A contender that dies right after it has created its file. Says what is at the lock's name then.
fn dies_before_its_record_is_whole(path: &Path, process: Scripted) -> Option<Content> {
    let dying = process.dying_before(1).shared();
    assert!(attempt_of_mortal(&dying, path).is_none());
    assert!(dying.is_dead());
    fs::read(path).ok().map(|bytes| Content::read(&bytes))
}

fn a_process_that_dies_before_its_record_is_whole_blocks_nobody() {
    let home = TestHome::new();
    let path = lock_path(&home);
    assert_eq!(dies_before_its_record_is_whole(&path, Scripted::with_pid(dead_pid())), None);
    take(&path);
}

fn a_marker_that_is_created_and_then_filled_blocks_for_ever() {
    let home = TestHome::new();
    let path = lock_path(&home);
    let careless = Scripted::with_pid(dead_pid()).without("SoftCompleteBeforeName");
    assert_eq!(dies_before_its_record_is_whole(&path, careless), Some(Content::Empty));
    let patient = Scripted::new().shared();
    let mut contender = SoftLock::at(&patient, &path).unwrap();
    for _ in 0..3 {
        assert!(matches!(contender.try_acquire().unwrap(), Attempt::Busy(_)), "nobody can ever tell whose it is");
        patient.pass(Duration::from_secs(3600));
    }
}

/// A lock is removed by a person and taken by another; then the first lets go. Says whether a third can take it.
fn first_lets_go_of_a_removed_lock(process: Scripted) -> bool {
    let home = TestHome::new();
    let path = lock_path(&home);
    let first = attempt(&process.shared(), &path).unwrap();
    fs::remove_file(&path).unwrap();
    let second = take(&path);
    drop(first);
    let third = try_take(&path);
    assert_eq!(second.check().unwrap().is_held(), third.is_err());
    third.is_ok()
}

fn a_release_leaves_a_successor_alone() {
    assert!(!first_lets_go_of_a_removed_lock(Scripted::new()));
}

fn without_the_own_inode_a_release_frees_a_successors_lock() {
    assert!(first_lets_go_of_a_removed_lock(Scripted::new().without("SoftOwnInodeOnRelease")), "two holders");
}

/// A peer creates its marker and has written half a record. Says whether a contender takes it from it.
fn a_half_written_record_is_taken(process: Scripted) -> bool {
    let home = TestHome::new();
    let path = lock_path(&home);
    let record = String::from_utf8(record_of(std::process::id()).to_bytes()).unwrap();
    fs::write(&path, &record[..4]).unwrap();
    let marker = inode(&path);
    let taken = attempt(&process.shared(), &path);
    assert_eq!(taken.is_some(), inode(&path) != marker);
    taken.is_some()
}

fn a_record_that_is_being_written_is_left_alone() {
    assert!(!a_half_written_record_is_taken(Scripted::new()));
    // It is taken when it has not changed for two seconds of the contender's own clock, and not before.
    let home = TestHome::new();
    let path = lock_path(&home);
    fs::write(&path, "12").unwrap();
    let patient = Scripted::new().shared();
    let mut contender = SoftLock::at(&patient, &path).unwrap();
    for (since, grown) in [(0, ""), (1900, "3"), (1900, "\n"), (1900, "")] {
        patient.pass(Duration::from_millis(since));
        fs::write(&path, fs::read_to_string(&path).unwrap() + grown).unwrap();
        assert!(matches!(contender.try_acquire().unwrap(), Attempt::Busy(_)), "{since} {grown:?}");
    }
    patient.pass(Duration::from_secs(2));
    assert!(matches!(contender.try_acquire().unwrap(), Attempt::Taken(_)));
}

fn without_stillness_a_record_that_is_being_written_is_broken() {
    assert!(a_half_written_record_is_taken(Scripted::new().without("SoftStillness")), "its writer holds as well");
}

/// The marker of a dead holder whose pid is now that of this process, which started later. Says whether it is taken.
fn the_marker_of_a_reused_pid_is_taken(process: Scripted) -> bool {
    let home = TestHome::new();
    let path = lock_path(&home);
    let now = record_of(std::process::id());
    let ticks = Real.start_ticks(now.pid).unwrap();
    let here = observation::here(&Real);
    let then = Record { start: Some(Start::new(here.boot, ticks - 1)), ..now };
    fs::write(&path, then.to_bytes()).unwrap();
    attempt(&process.shared(), &path).is_some()
}

fn a_holder_whose_pid_was_given_away_is_dead() {
    assert!(the_marker_of_a_reused_pid_is_taken(Scripted::new()));
}

fn by_pid_alone_a_dead_holder_holds_for_ever() {
    assert!(!the_marker_of_a_reused_pid_is_taken(Scripted::new().without("SoftStart")));
}

/// A holder of the oldest protocol, whose marker is empty for as long as it holds. Says whether it is taken.
fn an_empty_marker_is_taken(process: Scripted) -> bool {
    let home = TestHome::new();
    let path = lock_path(&home);
    fs::File::create_new(&path).unwrap();
    let world = process.shared();
    let mut contender = SoftLock::at(&world, &path).unwrap();
    let first = matches!(contender.try_acquire().unwrap(), Attempt::Taken(_));
    world.pass(Duration::from_secs(1_000_000));
    first || matches!(contender.try_acquire().unwrap(), Attempt::Taken(_))
}

fn an_empty_marker_is_never_broken() {
    assert!(!an_empty_marker_is_taken(Scripted::new()));
}

fn if_an_empty_marker_may_be_broken_there_are_two_holders() {
    assert!(an_empty_marker_is_taken(Scripted::new().without("SoftEmptyIsHeld")));
}

/// A live holder in another pid namespace, whose release of the peer does not mark that: it records the pid that it has
/// in there, which here is nobody's or somebody else's. Says whether its marker is taken.
fn an_unmarked_holder_elsewhere_is_taken(process: Scripted) -> Result<bool, Skip> {
    let home = TestHome::new();
    Namespace::PidsWithOuterProc.required(&home)?;
    let mut command = home.bare("unshare");
    command.args(["--pid", "--fork", "--kill-child", "sleep", "1000"]);
    let holder = Background::spawn(command);
    let child = wait_until(crate::support::SOON, "the holder has its namespace", || {
        Real.processes().unwrap().into_iter().find(|&pid| {
            processes::stat_field(pid, 4).is_some_and(|parent| parent == holder.pid().to_string())
                && Real.innermost_pid(pid) == Some(1)
        })
    });
    let here = observation::here(&Real);
    if here.host.contains(NAMESPACE_MARK) {
        return Err(Skip("needs the first pid namespace: from any other, an unmarked record is another machine's".into()));
    }
    let start = Start::new(here.boot, Real.start_ticks(child).unwrap());
    let path = lock_path(&home);
    fs::write(&path, Record { pid: 1, host: here.host, start: Some(start) }.to_bytes()).unwrap();
    Ok(attempt(&process.shared(), &path).is_some())
}

fn a_holder_in_another_pid_namespace_is_alive() -> Result<(), Skip> {
    assert!(!an_unmarked_holder_elsewhere_is_taken(Scripted::new())?);
    Ok(())
}

fn without_the_search_a_holder_in_another_pid_namespace_is_broken() -> Result<(), Skip> {
    assert!(an_unmarked_holder_elsewhere_is_taken(Scripted::new().without("SoftElsewhere"))?, "two holders");
    Ok(())
}
