//! Where a process runs its program: again from the beginning, with the answers it has had.
//!
//! # Theory
//!
//! A program is a function of what its calls answered. So a process that has to wait is not kept as a thread: it is
//! kept as its *script*, the list of those answers. When it goes on, its program runs from its beginning; the calls it
//! has made already are answered from the script and change nothing, the next one is made for real. When it must wait
//! again, or dies, the program is left by unwinding. What its destructors call then is answered with an error and
//! changes nothing, exactly as a destructor that never runs.
//!
//! So a state of all processes together is a value, can be gone back to, and costs no thread. If a program is no such
//! function (it reads a clock or a random number past the world), its calls do not fit its script; that is noticed and
//! is a panic.

use crate::system::simulated::scenario::Outcome;
use std::any::Any;
use std::fmt;
use std::hash::{Hash, Hasher};
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use rustix::io::Errno;

use super::SimWorld;
use super::calls::Answer;
use super::machine::Machine;
use super::processes::{Life, Number};
use super::script::{Line, Script};
use super::told::Told;

/// All of a simulation at one moment.
#[derive(Debug, Clone)]
pub(crate) struct System {
    pub(crate) machine: Machine,
    /// What each process has been told, by its number.
    pub(crate) scripts: Vec<Script>,
}

/// What a program does.
pub(crate) type Program = dyn Fn(&Arc<SimWorld>) -> Outcome + Send + Sync;

/// Who decides what happens next.
pub(crate) trait Director: Send {
    /// A process is about to make a call that others can notice, or that notices them.
    fn before(&mut self, system: &mut System, actor: Number, notice: Notice) -> Flow;

    /// It has made a call. Only for those who want to know; a call that nobody can notice comes without
    /// [`Self::before`].
    fn after(&mut self, _machine: &Machine, _actor: Number, _call: &Call<'_>, _answer: &dyn fmt::Debug) {}
}

/// Whether a process may make its next call now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Flow {
    GoOn,
    Leave,
}

/// Lets one process do all it wants.
#[derive(Debug)]
pub(crate) struct Undirected;

impl Director for Undirected {
    fn before(&mut self, system: &mut System, actor: Number, _notice: Notice) -> Flow {
        system.machine.wait_for(actor);
        Flow::GoOn
    }
}

/// A call: what is done, to what.
#[derive(Clone, Copy)]
pub(crate) struct Call<'a> {
    pub(crate) verb: &'static str,
    pub(crate) object: &'a dyn fmt::Display,
    pub(crate) notice: Notice,
}

/// Whether anybody else can notice a call, or it them. Nothing is gained by letting others go first where not.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Notice {
    /// Nobody can.
    Private,
    /// It has to do with files.
    OfFiles,
    /// It also has to do with who lives, with what ends at a death, or with inode numbers that a death sets free.
    OfLives,
}

impl Notice {
    pub(crate) fn is_public(self) -> bool {
        self != Self::Private
    }
}

/// How a process came to leave the stage.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Exit {
    /// Its program is through, and this is what it found that must not be.
    Through(Option<String>),
    /// It has to wait, or has died.
    Left,
    /// Its program panicked.
    Panicked(String),
}

/// The stage: one process acts, the others wait.
pub(crate) struct Stage {
    system: System,
    /// What the process on the stage has been told before.
    script: Vec<Line>,
    acting: Acting,
    director: Box<dyn Director>,
}

/// What the process on the stage is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Acting {
    /// Whoever calls is served at once; nothing is written into a script.
    Freely,
    /// It repeats its script, up to this line.
    Repeating { actor: Number, line: usize, next: Next },
    /// It is being left: calls are errors.
    Leaving,
}

/// What holds for the first new call after a script.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Next {
    /// It was decided already that it is made now.
    IsDue,
    /// The director is asked.
    IsAsked,
}

/// The payload of the unwinding with which a program is left.
struct Left;

impl fmt::Debug for Stage {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Stage").field("acting", &self.acting).finish_non_exhaustive()
    }
}

pub(crate) fn lock(stage: &Mutex<Stage>) -> MutexGuard<'_, Stage> {
    stage.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Stage {
    /// A stage on which several worlds may act as they like.
    pub(crate) fn open_to_all(machine: Machine) -> Self {
        let system = System { machine, scripts: Vec::new() };
        Self { system, script: Vec::new(), acting: Acting::Freely, director: Box::new(Undirected) }
    }

    pub(crate) fn machine(&mut self) -> &mut Machine {
        &mut self.system.machine
    }

    /// Whether nobody decides who goes on.
    pub(crate) fn is_open_to_all(&self) -> bool {
        self.acting == Acting::Freely
    }

    /// Makes a call, or repeats its answer.
    pub(crate) fn call<T: Told>(
        stage: &Mutex<Self>,
        call: Call<'_>,
        act: impl FnOnce(&mut Machine) -> Answer<T>,
    ) -> Answer<T> {
        let mut this = lock(stage);
        let acting = this.acting;
        match acting {
            Acting::Leaving => Err(Errno::CANCELED),
            Acting::Freely => {
                let answer = act(&mut this.system.machine);
                this.system.machine.tick();
                answer
            }
            Acting::Repeating { actor, line, .. } if line < this.script.len() => {
                this.acting = Acting::Repeating { actor, line: line + 1, next: Next::IsDue };
                this.script[line].repeat::<T>(call.verb).unwrap_or_else(|| {
                    this.acting = Acting::Leaving;
                    drop(this);
                    panic!("this program is not a function of its answers: {} {}", call.verb, call.object)
                })
            }
            Acting::Repeating { actor, next: Next::IsAsked, .. }
                if call.notice.is_public() && this.ask(actor, call.notice) == Flow::Leave =>
            {
                this.acting = Acting::Leaving;
                drop(this);
                if !std::thread::panicking() {
                    resume_unwind(Box::new(Left));
                }
                Err(Errno::CANCELED)
            }
            Acting::Repeating { actor, line, .. } => {
                let answer = act(&mut this.system.machine);
                this.write_down(actor, &call, &answer);
                this.acting = Acting::Repeating { actor, line: line + 1, next: Next::IsAsked };
                answer
            }
        }
    }

    fn ask(&mut self, actor: Number, notice: Notice) -> Flow {
        let mut director = std::mem::replace(&mut self.director, Box::new(Undirected));
        let flow = director.before(&mut self.system, actor, notice);
        self.director = director;
        flow
    }

    fn write_down<T: Told>(&mut self, actor: Number, call: &Call<'_>, answer: &Answer<T>) {
        let heard = &mut self.system.machine.processes[actor].heard;
        (call.verb, call.object.to_string()).hash(heard);
        match answer {
            Ok(told) => told.note(heard),
            Err(error) => heard.write_u32(error.raw_os_error().unsigned_abs()),
        }
        self.system.scripts[actor].push(Line::new(call.verb, answer));
        if call.notice.is_public() {
            self.system.machine.tick();
        }
        self.director.after(&self.system.machine, actor, call, answer);
    }
}

/// Lets a process go on from where its script ends. The call it was about to make is made without asking.
pub(crate) fn perform(
    mut system: System,
    actor: Number,
    program: &Program,
    director: Box<dyn Director>,
) -> (System, Exit) {
    let clock = system.machine.clock;
    let process = &mut system.machine.processes[actor];
    let next = if process.life == Life::Unborn { Next::IsAsked } else { Next::IsDue };
    if process.life == Life::Unborn {
        process.begin(clock);
    }
    let (acting, script) = (Acting::Repeating { actor, line: 0, next }, system.scripts[actor].lines());
    let stage = Arc::new(Mutex::new(Stage { system, script, acting, director }));
    let world = Arc::new(SimWorld::on(Arc::clone(&stage), actor));
    let done = catch_unwind(AssertUnwindSafe(|| program(&world)));
    drop(world);
    let mut stage = lock(&stage);
    stage.acting = Acting::Leaving;
    let empty = System { machine: Machine::default(), scripts: Vec::new() };
    let mut system = std::mem::replace(&mut stage.system, empty);
    let exit = match done {
        Ok(result) => {
            system.machine.end(actor);
            Exit::Through(result.err().map(|what| what.to_string()))
        }
        Err(payload) if payload.is::<Left>() => Exit::Left,
        Err(payload) => Exit::Panicked(message(payload.as_ref())),
    };
    (system, exit)
}

fn message(payload: &(dyn Any + Send)) -> String {
    let text = payload.downcast_ref::<String>().cloned();
    text.or_else(|| payload.downcast_ref::<&str>().map(|text| (*text).to_owned())).unwrap_or_default()
}
