//! A scenario: a machine, the programs that run on it, and what must hold.

use std::error::Error;
use std::fmt;
use std::sync::Arc;

use super::SimWorld;
use super::machine::Machine;
use super::processes::{Life, Number};
use super::script::Script;
use super::stage::{Program, System};

/// How a program ended, or what of an invariant holds. An error is a violation of what a test expects.
pub(crate) type Outcome = Result<(), Box<dyn Error>>;

/// What must hold after every change of the disk and every promise.
type Invariant = dyn Fn(&Machine) -> Outcome + Send + Sync;

/// A process with a program.
#[derive(Clone)]
pub(crate) struct Actor {
    pub(crate) number: Number,
    pub(crate) program: Arc<Program>,
}

/// A machine, the programs that run on it, and what must hold.
#[derive(Clone)]
pub(crate) struct Scenario {
    machine: Machine,
    pub(crate) actors: Vec<Actor>,
    pub(crate) names: Vec<(Number, String)>,
    invariants: Vec<Arc<Invariant>>,
    pub(crate) afterwards: Option<Actor>,
}

/// The pid of the first process; the others follow.
const FIRST_PID: u32 = 101;

impl fmt::Debug for Scenario {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Scenario").field("names", &self.names).finish_non_exhaustive()
    }
}

impl Scenario {
    /// Nothing happens on this machine yet.
    pub(crate) fn on(machine: Machine) -> Self {
        Self { machine, actors: Vec::new(), names: Vec::new(), invariants: Vec::new(), afterwards: None }
    }

    /// A process that runs a program. The first one has pid 101, the next 102. The name has neither spaces nor digits.
    pub(crate) fn actor(self, name: &str, program: impl Fn(&Arc<SimWorld>) -> Outcome + Send + Sync + 'static) -> Self {
        self.actors([name], program)
    }

    /// Processes that all run the same program. They begin in this order, because any other order is the same with
    /// other names.
    pub(crate) fn actors<const N: usize>(
        mut self,
        names: [&str; N],
        program: impl Fn(&Arc<SimWorld>) -> Outcome + Send + Sync + 'static,
    ) -> Self {
        let program: Arc<Program> = Arc::new(program);
        for name in names {
            let actor = self.cast(name, Arc::clone(&program));
            self.actors.push(actor);
        }
        self
    }

    /// A process that runs when all others have ended; it must come to its end without an error.
    pub(crate) fn afterwards(mut self, program: impl Fn(&Arc<SimWorld>) -> Outcome + Send + Sync + 'static) -> Self {
        self.afterwards = Some(self.cast("afterwards", Arc::new(program)));
        self
    }

    /// Something that must hold after every change of the disk and every promise.
    pub(crate) fn always(mut self, invariant: impl Fn(&Machine) -> Outcome + Send + Sync + 'static) -> Self {
        self.invariants.push(Arc::new(invariant));
        self
    }

    fn cast(&mut self, name: &str, program: Arc<Program>) -> Actor {
        let pid = FIRST_PID + u32::try_from(self.names.len()).expect("few actors");
        let (machine, number) = std::mem::take(&mut self.machine).with_actor(pid);
        self.machine = machine;
        self.names.push((number, name.to_owned()));
        Actor { number, program }
    }

    /// The moment before anything happens.
    pub(crate) fn beginning(&self) -> System {
        let scripts = vec![Script::default(); self.machine.processes.len()];
        System { machine: self.machine.clone(), scripts }
    }

    /// Whether another process that runs the same program is to begin before this one.
    pub(crate) fn has_to_wait_for_its_like(&self, machine: &Machine, actor: &Actor) -> bool {
        let is_unborn = |actor: &Actor| machine.processes[actor.number].life == Life::Unborn;
        let is_like = |other: &&Actor| other.number < actor.number && Arc::ptr_eq(&other.program, &actor.program);
        is_unborn(actor) && self.actors.iter().filter(is_like).any(is_unborn)
    }

    /// What a process runs.
    pub(crate) fn program(&self, number: Number) -> &Program {
        let mut actors = self.actors.iter().chain(&self.afterwards);
        let found = actors.find(|actor| actor.number == number);
        found.expect("only actors go on").program.as_ref()
    }

    /// The first thing that must always hold and does not.
    pub(crate) fn judge(&self, machine: &Machine) -> Option<String> {
        self.invariants.iter().find_map(|invariant| invariant(machine).err()).map(|what| what.to_string())
    }
}
