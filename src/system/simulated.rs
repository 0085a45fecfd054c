//! A simulated world, and an explorer of everything that can happen in it. For tests only.
//!
//! # Theory of operation
//!
//! The protocols call a [`World`] and nothing else. Here that world is a value, the [`machine::Machine`]: inodes whose
//! numbers are given away again, open file descriptions with their kernel locks, processes whose pids are given away
//! again, clocks that only move when something happens, and bytes and names that a power cut takes.
//!
//! Each call is one atomic step. A process runs its program on a [`stage`], from its beginning, with the answers it has
//! had; so any moment can be gone back to, and no thread waits. An [`explorer`] lets processes go on in every order
//! within given bounds, kills them between any two steps, keeps them from going on for long, and looks after each
//! step whether the [`ledger`] shows two holders, or a test's own invariant is broken. What it finds it tells as a
//! [`schedule`] that can be played again.
//!
//! Every protection that has a name can be taken away; a test that shows a protocol to hold has a twin that shows the
//! explorer to find what happens without it.
//!
//! If this is wrong, protocols are believed that do not hold. So the machine's files are compared, call by call, with
//! those of the real system (`tests`).
//!
//! Limits: one user, one machine, one mount. Reading a directory and writing to a file are one step each, which a
//! real kernel promises only among themselves. A file system with other habits than ext4's needs another machine.

mod answers;
mod calls;
mod digest;
mod disk;
pub(crate) mod explorer;
mod inode;
pub(crate) mod ledger;
pub(crate) mod machine;
mod node;
mod openings;
mod options;
mod power;
pub(crate) mod processes;
pub(crate) mod scenario;
pub(crate) mod schedule;
mod script;
pub(crate) mod stage;
mod tests;
mod told;
mod way;

use std::fmt::{self, Display};
use std::sync::{Arc, Mutex};

pub(crate) use machine::Machine;
pub(crate) use node::SimNode;
use processes::Number;
use stage::{Call, Notice, Stage};

/// The world as one simulated process sees it.
#[derive(Clone)]
pub(crate) struct SimWorld {
    stage: Arc<Mutex<Stage>>,
    me: Number,
}

impl fmt::Debug for SimWorld {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_tuple("SimWorld").field(&self.me).finish()
    }
}

impl SimWorld {
    /// The world of a process on a stage.
    pub(crate) fn on(stage: Arc<Mutex<Stage>>, me: Number) -> Self {
        Self { stage, me }
    }

    /// A machine on which nothing is decided: what is called is done. One world for each process.
    pub(crate) fn undirected<const N: usize>(machine: Machine) -> [Arc<Self>; N] {
        let mut machine = machine;
        let numbers = [(); N].map(|()| {
            let pid = 100 + u32::try_from(machine.processes.len()).expect("few processes");
            let (with, number) = std::mem::take(&mut machine).with_actor(pid);
            machine = with;
            let clock = machine.clock;
            machine.processes[number].begin(clock);
            number
        });
        let stage = Arc::new(Mutex::new(Stage::open_to_all(machine)));
        numbers.map(|number| Arc::new(Self::on(Arc::clone(&stage), number)))
    }

    /// Does something to the machine that is no call of a process.
    pub(crate) fn with_machine<T>(&self, act: impl FnOnce(&mut Machine) -> T) -> T {
        act(stage::lock(&self.stage).machine())
    }

    fn call<T: told::Told>(
        &self,
        verb: &'static str,
        object: &dyn Display,
        act: impl FnOnce(&mut Machine, Number) -> calls::Answer<T>,
    ) -> calls::Answer<T> {
        Stage::call(&self.stage, Call { verb, object, notice: Notice::OfFiles }, |machine| act(machine, self.me))
    }

    /// A call that has to do with who lives.
    fn call_about_lives<T: told::Told>(
        &self,
        verb: &'static str,
        object: &dyn Display,
        act: impl FnOnce(&mut Machine, Number) -> calls::Answer<T>,
    ) -> calls::Answer<T> {
        Stage::call(&self.stage, Call { verb, object, notice: Notice::OfLives }, |machine| act(machine, self.me))
    }

    fn call_privately<T: told::Told>(
        &self,
        verb: &'static str,
        object: &dyn Display,
        act: impl FnOnce(&mut Machine, Number) -> calls::Answer<T>,
    ) -> calls::Answer<T> {
        Stage::call(&self.stage, Call { verb, object, notice: Notice::Private }, |machine| act(machine, self.me))
    }
}

/// What only programs of tests say.
impl SimWorld {
    /// Holds something, as this process believes, while it does some work in which others may go on.
    pub(crate) fn hold<T>(&self, what: &str, work: impl FnOnce() -> T) -> T {
        self.enter(what);
        self.work(what);
        let done = work();
        self.leave(what);
        done
    }

    /// Believes from now on to hold something.
    pub(crate) fn enter(&self, what: &str) {
        let _unless_left = self.call_privately("enter", &what, |machine, me| {
            if let Some(other) = machine.ledger.enter(what, me) {
                let pids = [me, other].map(|number| machine.processes[number].pid);
                machine.ledger.violate(format!("{what} is held by pid {} and by pid {}", pids[1], pids[0]));
            }
            Ok(())
        });
    }

    /// Believes no longer to hold it.
    pub(crate) fn leave(&self, what: &str) {
        let _unless_left = self.call_privately("leave", &what, |machine, me| {
            machine.ledger.leave(what, me);
            Ok(())
        });
    }

    /// A step that does nothing, so that others may go on here.
    pub(crate) fn work(&self, at: &str) {
        let _unless_left = self.call("work", &at, |_, _| Ok(()));
    }

    /// Promises something to the outside, to be kept after any death and any power cut.
    pub(crate) fn promise(&self, promise: impl Into<String>) {
        let promise = promise.into();
        let _unless_left = self.call_privately("promise", &promise.clone(), |machine, _| {
            machine.ledger.promise(promise);
            Ok(())
        });
    }

    /// Gives a free pid to a process that does nothing and starts so many ticks from now. Says whether it was free.
    pub(crate) fn give_away_pid(&self, pid: u32, ticks: u64) -> bool {
        self.call_about_lives("give away pid", &pid, |machine, _| Ok(machine.give_away(pid, ticks))).unwrap_or(false)
    }
}
