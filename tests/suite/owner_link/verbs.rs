//! Taking, holding, releasing; what readers see; what lies there before and what is left.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;
use std::time::{Duration, Instant};

use fm_watch::system::identity::{Difference, Sameness};
use fm_watch::lock::owner_link::OwnerLinkLock;
use fm_watch::lock::{Attempt, Guard, Lock, Loss, Ownership};

use super::arena::{Arena, attempt, dead_pid, lay, lay_dead, lay_owner, longer, sleeper};
use super::peer::{self, Peer};
use super::staged::Staged;
use crate::support::{SOON, Skip};

cases! {
    a_held_lock_is_a_link_to_a_complete_owner_directory,
    a_release_leaves_nothing,
    ours_and_a_shell_peer_exclude_each_other,
    a_dead_record_is_reclaimed_by_either_side,
    the_holder_of_a_busy_lock_is_named,
    a_lock_in_the_older_shape_is_honoured_and_reclaimed,
    a_lock_without_a_pid_is_left_alone_for_the_floor_however_impatient_a_contender_is,
    without_the_floor_a_lock_is_taken_from_who_is_just_taking_it,
    a_lock_without_a_pid_from_the_future_is_reclaimed_by_our_own_watch,
    what_points_nowhere_is_reclaimed_after_the_floor,
    a_removed_or_replaced_lock_is_noticed_and_nothing_of_the_successor_is_touched,
    without_the_look_before_release_a_successor_loses_its_lock,
    an_owner_directory_with_another_pid_is_not_ours_any_more,
    leftover_owner_directories_hinder_nobody,
    the_stray_link_of_a_loser_does_not_outlive_the_owner_directory,
    a_moved_home_keeps_its_lock_and_a_copied_one_says_so,
    a_file_system_without_exchange_keeps_the_lock_busy_and_says_what_to_do,
    a_lock_is_taken_through_a_relative_path,
    the_mutex_belongs_to_the_process_that_acts,
}

fn a_held_lock_is_a_link_to_a_complete_owner_directory() {
    let arena = Arena::new();
    let mut lock = arena.ours().with_home("/the/home".as_ref()).with_watcher_path(Path::new("/the/bin/fm-watch.sh"));
    let guard = attempt(&mut lock).unwrap();
    let target = fs::read_link(&arena.lock).unwrap();
    assert!(target.is_absolute(), "{}", target.display());
    let name = target.file_name().unwrap().to_str().unwrap();
    let suffix = name.strip_prefix("state.lock.owner.").unwrap();
    assert!(suffix.len() == 6 && suffix.bytes().all(|byte| byte.is_ascii_alphanumeric()), "{name}");
    assert_eq!(target.parent(), arena.lock.parent());
    assert_eq!(fs::metadata(&target).unwrap().permissions().mode() & 0o7777, 0o700);
    let read = |file: &str| fs::read_to_string(target.join(file)).unwrap();
    assert_eq!(read("pid"), format!("{}\n", std::process::id()));
    assert_eq!(read("fm-home"), "/the/home\n");
    assert_eq!(read("watcher-path"), "/the/bin/fm-watch.sh\n");
    assert!(read("pid-identity").ends_with('\n'));
    assert_eq!(fs::read_dir(&target).unwrap().count(), 4, "peers know how to remove these four files");
    assert_eq!(guard.check().unwrap(), Ownership::Held);
}

fn a_release_leaves_nothing() {
    let arena = Arena::new();
    arena.try_ours().unwrap().release().unwrap();
    assert_eq!(arena.names(), [""; 0]);
    drop(arena.try_ours().unwrap());
    assert_eq!(arena.names(), [""; 0]);
    lay_dead(&arena.lock);
    drop(arena.try_ours().unwrap());
    assert_eq!(arena.names(), [""; 0], "nor after a takeover");
}

fn ours_and_a_shell_peer_exclude_each_other() -> Result<(), Skip> {
    let arena = Arena::new();
    let ours = arena.try_ours().unwrap();
    assert!(!peer::can_take(&arena.home, &arena.lock)?);
    drop(ours);
    let peer = Peer::start(&arena.home, &arena.lock, &[])?;
    assert!(peer.has_taken());
    assert!(arena.try_ours().is_none());
    assert_eq!(arena.pid(), Some(peer.pid()));
    peer.finish();
    assert_eq!(arena.names(), [""; 0]);
    assert!(arena.try_ours().is_some());
    Ok(())
}

fn a_dead_record_is_reclaimed_by_either_side() -> Result<(), Skip> {
    let arena = Arena::new();
    let peer = Peer::start(&arena.home, &arena.lock, &[])?;
    assert!(peer.has_taken());
    peer.kill();
    let process = sleeper(&arena.home);
    let guard = attempt(&mut arena.ours().for_process(process.pid())).unwrap();
    assert!(!peer::can_take(&arena.home, &arena.lock)?, "the process for which it was taken lives");
    process.signal(rustix::process::Signal::KILL);
    process.finish(SOON);
    assert!(peer::can_take(&arena.home, &arena.lock)?);
    assert_eq!(guard.check().unwrap(), Ownership::Lost(Loss::Removed));
    drop(guard);
    assert_eq!(arena.names(), [""; 0]);
    Ok(())
}

fn the_holder_of_a_busy_lock_is_named() -> Result<(), Skip> {
    let arena = Arena::new();
    let peer = Peer::start(&arena.home, &arena.lock, &[])?;
    assert!(peer.has_taken());
    let Attempt::Busy(holder) = arena.ours().try_acquire().unwrap() else { panic!("the peer has it") };
    assert_eq!(holder.pid, Some(peer.pid()));
    assert!(holder.since.is_some_and(|since| since < Duration::from_secs(60)), "{holder:?}");
    assert_eq!(holder.identity, Sameness::Unknown("it recorded a pid and no identity".to_owned()));
    assert!(holder.remedy.unwrap().contains(arena.lock.to_str().unwrap()));
    peer.kill();
    assert_eq!(arena.ours().holder().identity, Sameness::Different(Difference::Gone));

    let ours = arena.try_ours().unwrap();
    let Attempt::Busy(holder) = arena.ours().try_acquire().unwrap() else { panic!("it is held") };
    assert_eq!(holder.pid, Some(std::process::id()));
    assert!(matches!(holder.identity, Sameness::Same(_)), "{holder:?}");
    assert_eq!(holder.remedy, None);
    drop(ours);

    // Somebody who has the mutex and not yet the lock.
    lay(&arena.steal(), "live00", &std::process::id().to_string());
    let Attempt::Busy(holder) = arena.ours().try_acquire().unwrap() else { panic!("it is being reclaimed") };
    assert_eq!(holder.pid, Some(std::process::id()));
    Ok(())
}

fn a_lock_in_the_older_shape_is_honoured_and_reclaimed() -> Result<(), Skip> {
    let arena = Arena::new();
    fs::create_dir(&arena.lock).unwrap();
    assert!(arena.try_ours().is_none(), "it was made just now");
    fs::write(arena.lock.join("pid"), format!("{}\n", std::process::id())).unwrap();
    assert!(arena.try_ours().is_none(), "its process lives");
    assert!(!peer::can_take(&arena.home, &arena.lock)?);
    fs::write(arena.lock.join("pid"), format!("{}\n", dead_pid())).unwrap();
    let guard = arena.try_ours().unwrap();
    assert!(fs::symlink_metadata(&arena.lock).unwrap().is_symlink());
    drop(guard);
    assert_eq!(arena.names(), [""; 0]);
    Ok(())
}

/// Whether a lock whose owner has just made it, and has not yet written its pid, is taken at once.
fn an_unfinished_lock_is_taken_at_once_in(world: &std::sync::Arc<Staged>) -> bool {
    let arena = Arena::new();
    lay(&arena.lock, "half00", "");
    attempt(&mut arena.ours_in(world).stale_after(Duration::ZERO)).is_some()
}

fn a_lock_without_a_pid_is_left_alone_for_the_floor_however_impatient_a_contender_is() {
    assert!(!an_unfinished_lock_is_taken_at_once_in(&Staged::new()));
    for half in ["", "12 34", "x", "99999999999"] {
        let arena = Arena::new();
        let laid = Instant::now();
        lay(&arena.lock, "half00", half);
        let mut lock = arena.ours().stale_after(Duration::ZERO);
        assert!(matches!(lock.acquire(SOON).unwrap(), Attempt::Taken(_)), "{half:?}");
        assert!(laid.elapsed() > Duration::from_millis(1900), "{half:?}: after {:?}", laid.elapsed());
        let later = Staged::new();
        later.shift_wall_clock_forward(Duration::from_secs(3));
        lay(&arena.lock, "half01", half);
        let mut patient = arena.ours_in(&later).stale_after(Duration::from_secs(60));
        assert!(attempt(&mut patient).is_none(), "{half:?}: a patient contender waits longer");
    }
}

fn without_the_floor_a_lock_is_taken_from_who_is_just_taking_it() {
    assert!(an_unfinished_lock_is_taken_at_once_in(&Staged::without(&["OwnerLinkFloor"])));
}

fn a_lock_without_a_pid_from_the_future_is_reclaimed_by_our_own_watch() {
    let arena = Arena::new();
    lay(&arena.lock, "half00", "");
    let world = Staged::new();
    world.shift_wall_clock_back(Duration::from_secs(10 * 365 * 24 * 3600));
    let mut lock = arena.ours_in(&world);
    let began = Instant::now();
    assert!(matches!(lock.acquire(SOON).unwrap(), Attempt::Taken(_)));
    assert!(began.elapsed() > Duration::from_millis(1900), "{:?}", began.elapsed());
}

fn what_points_nowhere_is_reclaimed_after_the_floor() {
    let arena = Arena::new();
    symlink(longer(&arena.lock, ".owner.gone00"), &arena.lock).unwrap();
    symlink(longer(&arena.steal(), ".owner.gone00"), arena.steal()).unwrap();
    assert!(arena.try_ours().is_none());
    let later = Staged::new();
    later.shift_wall_clock_forward(Duration::from_secs(3));
    let guard = arena.try_in(&later).unwrap();
    assert_eq!(guard.check().unwrap(), Ownership::Held);
    drop(guard);
    assert_eq!(arena.names(), [""; 0]);
}

fn a_removed_or_replaced_lock_is_noticed_and_nothing_of_the_successor_is_touched() {
    let arena = Arena::new();
    let guard = arena.try_ours().unwrap();
    fs::remove_file(&arena.lock).unwrap();
    assert_eq!(guard.check().unwrap(), Ownership::Lost(Loss::Removed));
    let owner = lay(&arena.lock, "next00", &std::process::id().to_string());
    assert_eq!(guard.check().unwrap(), Ownership::Lost(Loss::Replaced));
    guard.release().unwrap();
    assert_eq!(fs::read_link(&arena.lock).unwrap(), owner);
    assert_eq!(arena.names(), ["state.lock", "state.lock.owner.next00"]);
}

/// The twin of the look before a release.
fn without_the_look_before_release_a_successor_loses_its_lock() {
    let arena = Arena::new();
    let guard = arena.try_in(&Staged::without(&["OwnerLinkOwnOnlyOnRelease"])).unwrap();
    fs::remove_file(&arena.lock).unwrap();
    let successor = arena.try_ours().unwrap();
    guard.release().unwrap();
    assert_eq!(successor.check().unwrap(), Ownership::Lost(Loss::Removed));
    let third = arena.try_ours().unwrap();
    assert_eq!(third.check().unwrap(), Ownership::Held, "two believe to hold");
}

fn an_owner_directory_with_another_pid_is_not_ours_any_more() {
    let arena = Arena::new();
    let guard = arena.try_ours().unwrap();
    let target = fs::read_link(&arena.lock).unwrap();
    fs::write(target.join("pid"), "1\n").unwrap();
    assert_eq!(guard.check().unwrap(), Ownership::Lost(Loss::Replaced));
    drop(guard);
    assert_eq!(arena.pid(), Some(1), "what another process believes to have is left to it");
}

fn leftover_owner_directories_hinder_nobody() {
    let arena = Arena::new();
    for number in 0..20 {
        lay_owner(&arena.lock, &format!("left{number:02}"), &dead_pid().to_string());
    }
    drop(arena.try_ours().unwrap());
    assert_eq!(arena.names().len(), 20);
}

fn the_stray_link_of_a_loser_does_not_outlive_the_owner_directory() {
    let arena = Arena::new();
    let guard = arena.try_ours().unwrap();
    let stray = longer(&arena.lock, ".owner.loser0");
    symlink(&stray, arena.lock.join("state.lock.owner.loser0")).unwrap();
    guard.release().unwrap();
    assert_eq!(arena.names(), [""; 0]);
}

fn a_moved_home_keeps_its_lock_and_a_copied_one_says_so() {
    let arena = Arena::new();
    lay(&arena.lock, "live00", &std::process::id().to_string());
    let moved = arena.home.scratch().join("moved");
    fs::rename(arena.lock.parent().unwrap(), &moved).unwrap();
    let mut lock = OwnerLinkLock::at(&Staged::new(), &moved.join("state.lock")).unwrap();
    assert!(attempt(&mut lock).is_none(), "its process lives, wherever the link points");

    let original = Arena::new();
    let owner = lay(&original.lock, "live00", &std::process::id().to_string());
    let copy = Arena::new();
    symlink(&owner, &copy.lock).unwrap();
    let error = copy.ours().try_acquire().unwrap_err().to_string();
    assert!(error.contains("another directory") && error.contains("copied"), "{error}");
    assert!(original.lock.exists() && fs::read_link(&copy.lock).unwrap() == owner);
}

fn a_file_system_without_exchange_keeps_the_lock_busy_and_says_what_to_do() {
    let arena = Arena::new();
    let owner = lay_dead(&arena.lock);
    let world = Staged::new();
    world.forget_how_to_exchange();
    let Attempt::Busy(holder) = arena.ours_in(&world).try_acquire().unwrap() else { panic!("taken without exchange") };
    assert!(holder.remedy.unwrap().contains("rm "));
    assert_eq!(fs::read_link(&arena.lock).unwrap(), owner);
    assert_eq!(arena.names(), ["state.lock", "state.lock.owner.dead00"], "nothing else is left");
}

fn a_lock_is_taken_through_a_relative_path() {
    let arena = Arena::new();
    let here = std::env::current_dir().unwrap();
    let up: std::path::PathBuf = here.ancestors().skip(1).map(|_| "..").collect();
    let relative = up.join(arena.lock.strip_prefix("/").unwrap());
    let mut lock = OwnerLinkLock::at(&Staged::new(), &relative).unwrap();
    let guard = attempt(&mut lock).unwrap();
    assert!(fs::read_link(&arena.lock).unwrap().is_absolute());
    assert_eq!(guard.check().unwrap(), Ownership::Held);
    assert!(arena.try_ours().is_none());
}

/// Whoever takes a lock for another process is who reclaims: the mutex must not be free while it acts because the other
/// one has ended.
fn the_mutex_belongs_to_the_process_that_acts() {
    let arena = Arena::new();
    lay_dead(&arena.lock);
    let steal = arena.steal();
    let world = Staged::new().at("OwnerLinkSwapping", move || {
        let pid = fs::read_to_string(steal.join("pid")).unwrap();
        assert_eq!(pid, format!("{}\n", std::process::id()));
    });
    let process = sleeper(&arena.home);
    let guard = attempt(&mut arena.ours_in(&world).for_process(process.pid())).unwrap();
    assert!(world.is_over());
    assert_eq!(arena.pid(), Some(process.pid()));
    drop(guard);
}
