//! A process dies at any step of the soft lock's protocol, and somebody of the other side, or of ours, goes on.
//!
//! Ours are made-up processes that stop for good before a chosen call, so that no error path tidies up behind them. The
//! peer's are real ones, killed by strace.

use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use fm_watch::lock::soft::{SoftGuard, SoftLock};
use fm_watch::lock::{Attempt, Guard, Lock};
use fm_watch::lock::soft::marker::Content;
use fm_watch::system::Real;

use crate::support::peers::{Filelock, Peer};
use crate::support::scripted::Scripted;
use crate::support::soft::{
    Mortal, attempt_of_mortal, expect_held, expect_in_place, inode, leave_dead_marker, lock_path, names_beside, take,
    take_within, try_take,
};
use crate::support::strace::requires_strace;
use crate::support::{Background, SOON, Skip, TestHome};

cases! {
    a_life_of_ours_may_end_at_any_step,
    python_recovers_from_a_breaker_of_ours_that_dies_at_any_step,
    we_recover_from_a_breaker_of_ours_that_dies_at_any_step,
    python_recovers_from_a_recoverer_of_ours_that_dies_at_any_step,
    we_recover_from_a_python_breaker_that_is_killed_at_any_step,
    a_breaker_that_cannot_put_back_tells_where_to_look,
}

/// The other side of a crash: who comes next.
trait Next {
    /// Whether it can take the lock now. It lets go at once.
    fn takes(&mut self, path: &Path, within: Duration) -> bool;
}

impl Next for Peer {
    fn takes(&mut self, path: &Path, within: Duration) -> bool {
        let is_taken = match self.acquire(path, within).as_str() {
            "taken" => true,
            "busy" => false,
            other => panic!("{other}"),
        };
        if is_taken {
            self.release(path);
        }
        is_taken
    }
}

struct Ours;

impl Next for Ours {
    fn takes(&mut self, path: &Path, within: Duration) -> bool {
        take_within(path, within).is_ok()
    }
}

/// Long enough for a contender to look a few times.
const A_FEW_LOOKS: Duration = Duration::from_millis(40);

/// Lets a made-up process of ours run until it dies before each of its calls in turn. `run` gives whether it died.
fn at_each_step(mut run: impl FnMut(usize) -> bool) -> usize {
    (0..100).find(|&effect| !run(effect)).expect("a life has fewer steps")
}

fn a_life_of_ours_may_end_at_any_step() -> Result<(), Skip> {
    let home = TestHome::new();
    let mut peer = Filelock::reference().peer(&home)?;
    let mut steps = [0; 2];
    for (steps, begins_with_a_dead_marker) in steps.iter_mut().zip([false, true]) {
        *steps = at_each_step(|effect| {
            let path = home.scratch().join(format!("{begins_with_a_dead_marker}.{effect}"));
            if begins_with_a_dead_marker {
                leave_dead_marker(&path);
            }
            let mortal = Mortal::new();
            let process = Arc::new(Scripted::with_pid(mortal.pid()).dying_before(effect));
            hold_three_times(&process, &path);
            mortal.die();
            if let Ok(bytes) = std::fs::read(&path) {
                assert!(matches!(Content::read(&bytes), Content::Record(_)), "step {effect}: {bytes:?}");
            }
            assert!(peer.takes(&path, Duration::from_millis(500)), "step {effect}: {:?}", names_beside(&path));
            drop(take(&path));
            process.is_dead()
        });
    }
    assert!(steps.iter().all(|&steps| steps > 12), "three holds have more steps than {steps:?}");
    Ok(())
}

/// One contender, so that from the second hold on it keeps its file, and uses it again for the third.
fn hold_three_times(process: &Arc<Scripted>, path: &Path) {
    let Ok(mut lock) = SoftLock::at(process, path) else { return };
    for _ in 0..3 {
        if let Ok(Attempt::Taken(guard)) = lock.try_acquire() {
            drop(guard);
        }
    }
}

/// A breaker is overtaken by a live holder between its last look and its exchange, so that it takes a live marker, and
/// dies before the call of this number. Gives the live holder, and whether the breaker died.
fn a_breaker_dies(path: &Path, effect: usize) -> (SoftGuard<Real>, bool) {
    leave_dead_marker(path);
    let holder = Arc::new(Mutex::new(None));
    let overtakes = {
        let (path, holder) = (path.to_owned(), Arc::clone(&holder));
        move || *holder.lock().unwrap() = Some(take(&path))
    };
    let mortal = Mortal::new();
    let process = Scripted::with_pid(mortal.pid()).dying_before(effect).at("SoftRechecked", overtakes).shared();
    assert!(attempt_of_mortal(&process, path).is_none());
    let is_dead = process.is_dead();
    mortal.die();
    let other = holder.lock().unwrap().take();
    // Before the step at which it would be overtaken it may have died: then the other simply comes after it.
    (other.unwrap_or_else(|| take(path)), is_dead)
}

/// After a crash the live holder holds alone, its marker is in its place as soon as somebody has looked, and when it
/// lets go the next can take the lock.
#[track_caller]
fn holds_alone(path: &Path, holder: SoftGuard<Real>, marker: u64, next: &mut dyn Next, when: &str) {
    expect_held(&holder, when);
    assert!(!next.takes(path, A_FEW_LOOKS), "{when}: two holders, {:?}", names_beside(path));
    expect_in_place(path, marker, when);
    expect_held(&holder, when);
    holder.release().unwrap();
    assert!(next.takes(path, SOON), "{when}: {:?}", names_beside(path));
}

/// The marker of the live holder, wherever it stands: its is the record of this process.
fn live_marker(path: &Path) -> u64 {
    let names = names_beside(path).into_iter().map(|name| path.with_file_name(name));
    let all = names.chain([path.to_owned()]);
    let is_ours = |path: &Path| match Content::read(&std::fs::read(path).unwrap()) {
        Content::Record(record) => record.pid == std::process::id(),
        _ => false,
    };
    all.into_iter().find(|path| is_ours(path)).and_then(|path| inode(&path)).expect("the live marker is somewhere")
}

fn recovers(home: &TestHome, next: &mut dyn Next) {
    let steps = at_each_step(|effect| {
        let path = home.scratch().join(format!("lock.{effect}"));
        let (holder, is_dead) = a_breaker_dies(&path, effect);
        let marker = live_marker(&path);
        holds_alone(&path, holder, marker, next, &format!("after a death before step {effect}"));
        is_dead
    });
    // Create, fill, open to all, set aside, exchange, exchange back, remove.
    assert_eq!(steps, 7);
}

fn python_recovers_from_a_breaker_of_ours_that_dies_at_any_step() -> Result<(), Skip> {
    let home = TestHome::new();
    let mut peer = Filelock::reference().peer(&home)?;
    recovers(&home, &mut peer);
    Ok(())
}

fn we_recover_from_a_breaker_of_ours_that_dies_at_any_step() {
    recovers(&TestHome::new(), &mut Ours);
}

fn python_recovers_from_a_recoverer_of_ours_that_dies_at_any_step() -> Result<(), Skip> {
    let home = TestHome::new();
    let mut peer = Filelock::reference().peer(&home)?;
    let steps = at_each_step(|effect| {
        let path = home.scratch().join(format!("lock.{effect}"));
        // Right after its exchange: the live marker is in its hands.
        let (holder, _) = a_breaker_dies(&path, 5);
        let marker = live_marker(&path);
        let mortal = Mortal::new();
        let recoverer = Scripted::with_pid(mortal.pid()).dying_before(effect).shared();
        assert!(attempt_of_mortal(&recoverer, &path).is_none());
        mortal.die();
        holds_alone(&path, holder, marker, &mut peer, &format!("after a death before step {effect}"));
        recoverer.is_dead()
    });
    // Claim, exchange, remove.
    assert_eq!(steps, 3);
    Ok(())
}

/// The breaker of the peer is overtaken by a live holder of ours, and killed at the n-th call of a kind after that.
fn we_recover_from_a_python_breaker_that_is_killed_at_any_step() -> Result<(), Skip> {
    let home = TestHome::new();
    requires_strace(&home)?;
    let mut kills = 0;
    for (call, most) in [("renameat2", 2), ("unlink", 2)] {
        for number in 1..=most {
            let path = home.scratch().join(format!("lock.{call}.{number}"));
            let when = format!("after a kill at {call} {number}");
            leave_dead_marker(&path);
            let program = Filelock::reference().program(&home, "filelock_breaker.py")?;
            let mut breaker = killed_at(&home, &program, call, number);
            breaker.arg(&path).arg("5").stdin(Stdio::piped());
            let (questions, shut) = std::io::pipe().unwrap();
            breaker.stdin(questions);
            let breaker = Background::spawn_reading(breaker);
            breaker.wait_for_line("judged");
            let holder = take(&path);
            let marker = inode(&path).unwrap();
            // It goes on at the end of its input.
            drop(shut);
            let answer = breaker.finish(SOON);
            kills += usize::from(answer.signal == Some(9));
            holds_alone(&path, holder, marker, &mut Ours, &when);
        }
    }
    // Both exchanges, and the removal of its own record.
    assert!(kills >= 3, "{kills} kills");
    Ok(())
}

fn killed_at(home: &TestHome, program: &Command, call: &str, number: usize) -> Command {
    let mut command = home.bare("strace");
    command.args(["-f", "-qq", "-o", "/dev/null", "-e", &format!("trace={call}")]);
    command.args(["-e", &format!("inject={call}:signal=KILL:when={number}")]);
    command.arg(program.get_program()).args(program.get_args());
    command.envs(program.get_envs().filter_map(|(name, value)| Some((name, value?))));
    command
}

/// It took a live marker, and its file system refuses to give it back. Its own record must not stand for a living
/// process, or the lock would be held for as long as that lives.
fn a_breaker_that_cannot_put_back_tells_where_to_look() -> Result<(), Skip> {
    let home = TestHome::new();
    let mut peer = Filelock::reference().peer(&home)?;
    let path = lock_path(&home);
    leave_dead_marker(&path);
    let holder = Arc::new(Mutex::new(None));
    let overtakes = {
        let (path, holder) = (path.clone(), Arc::clone(&holder));
        move || *holder.lock().unwrap() = Some(take(&path))
    };
    let mortal = Mortal::new();
    let breaker = Scripted::with_pid(mortal.pid()).exchanging_at_most(1).at("SoftRechecked", overtakes).shared();
    assert!(attempt_of_mortal(&breaker, &path).is_none());
    let holder = holder.lock().unwrap().take().unwrap();
    let marker = live_marker(&path);
    assert!(std::fs::read_to_string(&path).unwrap().starts_with("filelock/break\n"));
    assert!(try_take(&path).is_err());
    assert!(!peer.takes(&path, Duration::from_millis(2500)), "what is taken after two seconds is searched for");
    expect_in_place(&path, marker, "the peer has put it back");
    expect_held(&holder, "all the time");
    Ok(())
}
