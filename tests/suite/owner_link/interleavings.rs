//! Chosen interleavings with shell peers and among ourselves. Each ends with one holder; each twin without the protection
//! ends with two, or with the violation that leads there.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use fm_watch::lock::{Guard, Ownership};

use super::arena::{Arena, attempt, dead_pid, lay, lay_dead, sleeper};
use super::peer::{self, Peer};
use super::staged::Staged;
use crate::support::{SOON, Skip, wait_until_true};

cases! {
    a_claim_whose_link_was_removed_before_its_last_look_does_not_hold,
    without_the_last_look_a_claim_holds_beside_the_peer_that_removed_it,
    a_claim_beside_a_living_mutex_withdraws,
    without_the_withdrawal_a_claim_holds_beside_the_peer_that_removes_it,
    a_record_that_was_reclaimed_since_it_was_judged_is_left_alone,
    without_the_second_judgement_a_successor_is_swapped_out,
    a_dead_lock_is_left_to_the_peer_that_has_the_mutex,
    without_the_mutex_a_takeover_is_removed_by_the_peer_that_has_it,
    a_dead_mutex_that_a_peer_is_reclaiming_is_left_to_it,
    a_dead_mutex_that_a_peer_reclaims_meanwhile_goes_back,
    without_either_look_at_the_mutexes_two_hold,
    a_mutex_that_was_removed_by_hand_ends_the_takeover,
    without_the_look_at_the_mutex_a_takeover_is_removed,
    what_was_swapped_out_by_mistake_goes_back,
    two_shell_peers_can_hold_by_the_published_order_of_looks,
    a_dead_mutex_beside_a_free_lock_stops_shell_peers_until_one_of_ours_comes,
    dead_mutexes_of_any_depth_are_reclaimed_and_none_is_added,
    two_of_ours_take_turns_at_a_dead_mutex,
    a_stranded_link_goes_back_to_the_name_it_was_taken_from,
    without_the_way_back_a_stranded_holder_is_robbed,
    a_peer_that_loses_lands_inside_and_cleans_up,
}

/// Someone played on stage who goes on living after the scene.
type Actor = Arc<Mutex<Option<Peer>>>;

fn actor() -> Actor {
    Arc::default()
}

type Scene = Box<dyn FnOnce() + Send>;

/// A scene that brings a shell peer to a step, and then does something more.
fn enter(
    arena: &Arena,
    actor: &Actor,
    pauses: &[&str],
    stop: &'static str,
    then: impl FnOnce() + Send + 'static,
) -> Result<Scene, Skip> {
    let entrance = Peer::prepared(&arena.home, &arena.lock, pauses)?;
    let actor = Arc::clone(actor);
    Ok(Box::new(move || {
        let peer = entrance.start();
        peer.wait_until_at(stop);
        *actor.lock().unwrap() = Some(peer);
        then();
    }))
}

/// Lets the peer go on from a step; says whether it takes the lock.
fn go_on(actor: &Actor, step: &str) -> bool {
    let peer = actor.lock().unwrap();
    let peer = peer.as_ref().unwrap();
    peer.go(step);
    peer.has_taken()
}

/// The same as a scene.
fn going_on(actor: &Actor, step: &'static str, answer: &Arc<Mutex<Option<bool>>>) -> Scene {
    let (actor, answer) = (Arc::clone(actor), Arc::clone(answer));
    Box::new(move || *answer.lock().unwrap() = Some(go_on(&actor, step)))
}

/// Who holds in the end: one of ours, the shell peer.
type Holders = (bool, bool);

/// One attempt of ours on a stage that is set, and then what the peer makes of it. Both have let go in the end.
fn play(arena: &Arena, world: &Arc<Staged>, peer: &Actor, has_taken: impl FnOnce() -> bool) -> Holders {
    let ours = arena.try_in(world);
    let holders = (ours.is_some(), has_taken());
    drop(ours);
    end(peer);
    holders
}

fn end(actor: &Actor) {
    actor.lock().unwrap().take().unwrap().finish();
}

type Interleaving = fn(&Arc<Staged>) -> Result<Holders, Skip>;

#[track_caller]
fn only_the_peer_holds_after(interleaving: Interleaving) -> Result<(), Skip> {
    assert_eq!(interleaving(&Staged::new())?, (false, true));
    Ok(())
}

/// The twin.
#[track_caller]
fn both_hold_after(interleaving: Interleaving, without: &'static str) -> Result<(), Skip> {
    assert_eq!(interleaving(&Staged::without(&[without]))?, (true, true));
    Ok(())
}

/// A scene: an owner comes and dies, a peer judges it and is about to remove it by path, and the dead one's link
/// vanishes.
fn owner_that_comes_and_goes(arena: &Arena, peer: &Actor) -> Result<Scene, Skip> {
    let (lock, vanishing) = (arena.lock.clone(), arena.lock.clone());
    let dead = dead_pid().to_string();
    let enter = enter(arena, peer, &["removing"], "removing", move || fs::remove_file(vanishing).unwrap())?;
    Ok(Box::new(move || {
        drop(lay(&lock, "dead00", &dead));
        enter();
    }))
}

/// A free lock is claimed by ours; in between an owner comes and goes, ours makes its link, and the peer removes that.
fn claim_that_is_removed(world: &Arc<Staged>) -> Result<Holders, Skip> {
    let arena = Arena::new();
    let (peer, answer) = (actor(), Arc::default());
    let world = world.at("OwnerLinkPrepared", owner_that_comes_and_goes(&arena, &peer)?);
    let world = world.at("OwnerLinkLinked", going_on(&peer, "removing", &answer));
    let holders = play(&arena, &world, &peer, || answer.lock().unwrap().unwrap());
    assert!(world.is_over());
    assert!(holders.1, "the peer believes to hold");
    Ok(holders)
}

fn a_claim_whose_link_was_removed_before_its_last_look_does_not_hold() -> Result<(), Skip> {
    only_the_peer_holds_after(claim_that_is_removed)
}

fn without_the_last_look_a_claim_holds_beside_the_peer_that_removed_it() -> Result<(), Skip> {
    both_hold_after(claim_that_is_removed, "OwnerLinkClaimRecheck")
}

/// As above, but the peer removes only after ours has ended its claim.
fn claim_beside_a_living_mutex(world: &Arc<Staged>) -> Result<Holders, Skip> {
    let arena = Arena::new();
    let peer = actor();
    let world = world.at("OwnerLinkPrepared", owner_that_comes_and_goes(&arena, &peer)?);
    let holders = play(&arena, &world, &peer, || go_on(&peer, "removing"));
    assert!(world.is_over());
    Ok(holders)
}

fn a_claim_beside_a_living_mutex_withdraws() -> Result<(), Skip> {
    only_the_peer_holds_after(claim_beside_a_living_mutex)
}

fn without_the_withdrawal_a_claim_holds_beside_the_peer_that_removes_it() -> Result<(), Skip> {
    both_hold_after(claim_beside_a_living_mutex, "OwnerLinkRefuseWhileSteal")
}

/// Ours judges a dead lock; before it has the mutex, a peer has reclaimed the lock and holds it.
fn record_that_was_reclaimed(world: &Arc<Staged>) -> Result<Holders, Skip> {
    let arena = Arena::new();
    lay_dead(&arena.lock);
    let (peer, answer) = (actor(), Arc::default());
    let (enter, hold) =
        (enter(&arena, &peer, &["judged"], "judged", || ())?, going_on(&peer, "judged", &answer));
    let world = world.at("OwnerLinkJudged", move || {
        enter();
        hold();
    });
    Ok(play(&arena, &world, &peer, || answer.lock().unwrap().unwrap()))
}

fn a_record_that_was_reclaimed_since_it_was_judged_is_left_alone() -> Result<(), Skip> {
    only_the_peer_holds_after(record_that_was_reclaimed)
}

fn without_the_second_judgement_a_successor_is_swapped_out() -> Result<(), Skip> {
    both_hold_after(record_that_was_reclaimed, "OwnerLinkStealRevalidation")
}

/// Ours judges a dead lock; a peer takes the mutex, looks, and is about to remove the dead lock by its path.
fn lock_under_the_mutex_of_a_peer(world: &Arc<Staged>) -> Result<Holders, Skip> {
    let arena = Arena::new();
    lay_dead(&arena.lock);
    let peer = actor();
    let world = world.at("OwnerLinkJudged", enter(&arena, &peer, &["removing"], "removing", || ())?);
    Ok(play(&arena, &world, &peer, || go_on(&peer, "removing")))
}

fn a_dead_lock_is_left_to_the_peer_that_has_the_mutex() -> Result<(), Skip> {
    only_the_peer_holds_after(lock_under_the_mutex_of_a_peer)
}

fn without_the_mutex_a_takeover_is_removed_by_the_peer_that_has_it() -> Result<(), Skip> {
    both_hold_after(lock_under_the_mutex_of_a_peer, "OwnerLinkStealMutex")
}

fn a_dead_mutex_that_a_peer_is_reclaiming_is_left_to_it() -> Result<(), Skip> {
    let arena = Arena::new();
    lay_dead(&arena.lock);
    let dead = lay_dead(&arena.steal());
    let peer = Peer::start(&arena.home, &arena.lock, &["steal-removing"])?;
    peer.wait_until_at("steal-removing");
    assert!(arena.try_ours().is_none());
    assert_eq!(fs::read_link(arena.steal()).unwrap(), dead, "and it is where it was");
    peer.go("steal-removing");
    assert!(peer.has_taken());
    peer.finish();
    assert_eq!(arena.names(), [""; 0]);
    Ok(())
}

/// Lock and mutex are dead. Ours is about to take over the mutex when a peer takes the mutex of the mutex, looks, and
/// is about to remove the mutex by its path. When ours is about to take over the lock, if it comes so far, the peer has
/// removed our mutex, has its own, has looked at the lock and is about to remove that.
fn both_are_dead_and_a_peer_reclaims_meanwhile(
    lay_mutex: fn(&Path),
    world: &Arc<Staged>,
) -> Result<(Holders, bool), Skip> {
    let arena = Arena::new();
    lay_dead(&arena.lock);
    lay_mutex(&arena.steal());
    let peer = actor();
    let enter = enter(&arena, &peer, &["steal-removing", "removing"], "steal-removing", || ())?;
    let world = world.at("OwnerLinkStealSwapping", enter);
    let removal = Arc::clone(&peer);
    let world = world.at("OwnerLinkSwapping", move || {
        let peer = removal.lock().unwrap();
        let peer = peer.as_ref().unwrap();
        peer.go("steal-removing");
        peer.wait_until_at("removing");
    });
    let mut lost_the_mutex = false;
    let holders = play(&arena, &world, &peer, || {
        lost_the_mutex = world.is_over();
        peer.lock().unwrap().as_ref().unwrap().go("steal-removing");
        go_on(&peer, "removing")
    });
    Ok((holders, lost_the_mutex))
}

fn dead_mutex(steal: &Path) {
    lay_dead(steal);
}

/// A mutex whose owner never wrote its pid, old enough to be reclaimed.
fn unfinished_mutex(steal: &Path) {
    lay(steal, "half00", "");
    let made = fs::symlink_metadata(steal).unwrap().modified().unwrap();
    wait_until_true(SOON, "the mutex is older than the floor", || {
        made.elapsed().is_ok_and(|age| age > Duration::from_secs(3))
    });
}

fn a_dead_mutex_that_a_peer_reclaims_meanwhile_goes_back() -> Result<(), Skip> {
    for lay_mutex in [dead_mutex, unfinished_mutex] {
        let outcome = both_are_dead_and_a_peer_reclaims_meanwhile(lay_mutex, &Staged::new())?;
        assert_eq!(outcome, ((false, true), false));
    }
    Ok(())
}

/// The twin. The second look alone still keeps one holder, although a living mutex of ours was removed under it.
fn without_either_look_at_the_mutexes_two_hold() -> Result<(), Skip> {
    for lay_mutex in [dead_mutex, unfinished_mutex] {
        let first = Staged::without(&["OwnerLinkStealOfSteal"]);
        assert_eq!(both_are_dead_and_a_peer_reclaims_meanwhile(lay_mutex, &first)?, ((false, true), true));
        let both = Staged::without(&["OwnerLinkStealOfSteal", "OwnerLinkStealRecheck"]);
        assert_eq!(both_are_dead_and_a_peer_reclaims_meanwhile(lay_mutex, &both)?, ((true, true), true));
    }
    Ok(())
}

/// Ours has the mutex and is about to take over the lock; somebody removes the mutex by hand, and a peer takes it.
fn mutex_that_is_removed_by_hand(world: &Arc<Staged>) -> Result<Holders, Skip> {
    let arena = Arena::new();
    lay_dead(&arena.lock);
    let peer = actor();
    let steal = arena.steal();
    let enter = enter(&arena, &peer, &["removing"], "removing", || ())?;
    let world = world.at("OwnerLinkSwapping", move || {
        fs::remove_file(steal).unwrap();
        enter();
    });
    Ok(play(&arena, &world, &peer, || go_on(&peer, "removing")))
}

fn a_mutex_that_was_removed_by_hand_ends_the_takeover() -> Result<(), Skip> {
    only_the_peer_holds_after(mutex_that_is_removed_by_hand)
}

fn without_the_look_at_the_mutex_a_takeover_is_removed() -> Result<(), Skip> {
    both_hold_after(mutex_that_is_removed_by_hand, "OwnerLinkStealRecheck")
}

/// Whoever reclaims has looked for the last time; then the judged owner withdraws by itself and a shell peer claims and
/// sleeps between its look at the link and its look at the mutex. Ours as the one who reclaims keeps one holder.
fn what_was_swapped_out_by_mistake_goes_back() -> Result<(), Skip> {
    let arena = Arena::new();
    lay_dead(&arena.lock);
    let peer = actor();
    let enter = enter(&arena, &peer, &["looked"], "looked", || ())?;
    let lock = arena.lock.clone();
    let world = Staged::new().at("OwnerLinkSwapping", move || {
        fs::remove_file(lock).unwrap();
        enter();
    });
    let ours = arena.try_in(&world);
    assert!(ours.is_none() && world.is_over());
    assert_eq!(arena.pid(), Some(peer.lock().unwrap().as_ref().unwrap().pid()), "its link is back at the name");
    assert!(go_on(&peer, "looked"), "and it holds");
    assert!(arena.try_ours().is_none());
    end(&peer);
    Ok(())
}

/// The same with a shell peer as the one who reclaims: two hold. This is a flaw of the published protocol.
fn two_shell_peers_can_hold_by_the_published_order_of_looks() -> Result<(), Skip> {
    let arena = Arena::new();
    lay_dead(&arena.lock);
    let reclaims = Peer::start(&arena.home, &arena.lock, &["removing"])?;
    reclaims.wait_until_at("removing");
    fs::remove_file(&arena.lock).unwrap();
    let claims = Peer::start(&arena.home, &arena.lock, &["looked"])?;
    claims.wait_until_at("looked");
    reclaims.go("removing");
    assert!(reclaims.has_taken());
    claims.go("looked");
    assert!(claims.has_taken(), "two hold");
    claims.finish();
    reclaims.finish();
    Ok(())
}

fn a_dead_mutex_beside_a_free_lock_stops_shell_peers_until_one_of_ours_comes() -> Result<(), Skip> {
    let arena = Arena::new();
    lay_dead(&arena.lock);
    let dying = Peer::dying(&arena.home, &arena.lock, "removed")?;
    dying.wait_for_end();
    assert!(!arena.lock.exists() && arena.steal().exists());
    for _ in 0..3 {
        assert!(!peer::can_take(&arena.home, &arena.lock)?, "each claim withdraws");
    }
    drop(arena.try_ours().unwrap());
    assert!(peer::can_take(&arena.home, &arena.lock)?);
    Ok(())
}

fn dead_mutexes_of_any_depth_are_reclaimed_and_none_is_added() -> Result<(), Skip> {
    for lay_lock in [lay_dead as fn(&_) -> _, |_: &Path| std::path::PathBuf::new()] {
        let arena = Arena::new();
        lay_lock(&arena.lock);
        lay_dead(&arena.steal());
        lay_dead(&arena.steal_of_steal());
        let guard = arena.try_ours().unwrap();
        assert_eq!(guard.check().unwrap(), Ownership::Held);
        assert!(arena.names().iter().all(|name| !name.contains(".steal")), "{:?}", arena.names());
        drop(guard);
        assert_eq!(arena.names(), [""; 0]);
        assert!(peer::can_take(&arena.home, &arena.lock)?);
    }
    Ok(())
}

fn two_of_ours_take_turns_at_a_dead_mutex() {
    let arena = Arena::new();
    lay_dead(&arena.lock);
    lay_dead(&arena.steal());
    let mut other = arena.ours();
    let outcome = Arc::new(Mutex::new(None));
    let told = Arc::clone(&outcome);
    let world =
        Staged::new().at("OwnerLinkStealSwapping", move || *told.lock().unwrap() = Some(attempt(&mut other)));
    let ours = arena.try_in(&world);
    assert!(ours.is_some());
    assert!(outcome.lock().unwrap().take().unwrap().is_none());
}

/// A contender of ours dies after it has swapped out a link that it did not judge. Says whether the next one of ours
/// takes the lock although its owner lives.
fn the_next_one_takes_a_stranded_lock(next: &Arc<Staged>) -> bool {
    let arena = Arena::new();
    lay_dead(&arena.lock);
    let holder = sleeper(&arena.home);
    // The changes before and up to the exchange, from a life without a death.
    let measured = Arena::new();
    lay_dead(&measured.lock);
    let counting = Staged::new();
    let changes = Arc::new(Mutex::new(0));
    let (count, counted) = (Arc::clone(&counting), Arc::clone(&changes));
    let counting = counting.at("OwnerLinkSwapping", move || *counted.lock().unwrap() = count.changes());
    drop(measured.try_in(&counting.playing(dead_pid())));
    let until_exchange = *changes.lock().unwrap() + 1;

    let (lock, pid) = (arena.lock.clone(), holder.pid().to_string());
    let dying = Staged::dying_before_change(until_exchange + 1).at("OwnerLinkSwapping", move || {
        fs::remove_file(&lock).unwrap();
        lay(&lock, "live00", &pid);
    });
    let mut contender = arena.ours_in(&dying.playing(dead_pid()));
    assert!(fm_watch::lock::Lock::attempt(&mut contender).is_err());
    assert_ne!(arena.pid(), Some(holder.pid()), "its link is stranded");
    let taken = arena.try_in(next).is_some();
    if !taken {
        assert_eq!(arena.pid(), Some(holder.pid()), "its link is back");
    }
    taken
}

fn a_stranded_link_goes_back_to_the_name_it_was_taken_from() {
    assert!(!the_next_one_takes_a_stranded_lock(&Staged::new()));
}

fn without_the_way_back_a_stranded_holder_is_robbed() {
    assert!(the_next_one_takes_a_stranded_lock(&Staged::without(&["OwnerLinkStranded"])));
}

fn a_peer_that_loses_lands_inside_and_cleans_up() -> Result<(), Skip> {
    let arena = Arena::new();
    let peer = Peer::start(&arena.home, &arena.lock, &["prepared"])?;
    peer.wait_until_at("prepared");
    let ours = arena.try_ours().unwrap();
    symlink(arena.lock.with_file_name("state.lock.owner.loser0"), arena.lock.join("state.lock.owner.loser0")).unwrap();
    peer.go("prepared");
    assert!(!peer.has_taken());
    peer.finish();
    assert_eq!(ours.check().unwrap(), Ownership::Held);
    drop(ours);
    assert_eq!(arena.names(), [""; 0]);
    Ok(())
}
