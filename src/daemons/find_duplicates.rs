//! Looking for a second instance of a daemon.
//!
//! # Theory
//!
//! The life lock keeps everybody from starting a second daemon who comes through this program. A person who starts the
//! same program by hand does not come through it. So the process table is searched for processes that run the same
//! executable, by device and inode, with the same arguments to the byte, and do not belong to the recorded life. Inside of
//! it are the daemon, its monitor, all descendants of both, and its session.
//!
//! Nobody is ever signalled for being found here: that two processes look alike proves nothing about whose they are.
//!
//! Limits: a program that changes its arguments shows others, and is not found. Processes of other users do not show their
//! executable and are left out. Of a daemon that does not run, nobody knows which executable it would run, so arguments
//! alone are compared with its command; an interpreter that stands before a script is allowed for.

use std::collections::HashMap;
use std::io;

use super::ensure::Daemons;
use super::paths::DaemonPaths;
use super::records::Life;
use super::state::{State, judge};
use crate::settings::daemon_definition::{Definition, Name};
use crate::system::identity::{Executable, Observation, Pid};
use crate::system::{Activity, TableEntry, World};

/// What was found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Verified {
    /// How things stand with the daemon itself.
    pub state: State,
    /// The recorded process, if it lives.
    pub recorded: Option<Pid>,
    /// The others.
    pub others: Vec<Instance>,
}

/// A process that looks like the daemon and is not of its life.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Instance {
    /// Its pid now.
    pub pid: Pid,
    /// Its arguments, with spaces between them; not safe for a terminal.
    pub command: String,
}

/// Why nobody can tell whether there is a second instance.
#[derive(Debug, thiserror::Error)]
pub enum NotVerified {
    /// The process table cannot be read.
    #[error("cannot list the processes: {0}")]
    Processes(io::Error),
    /// The recorded process cannot be read.
    #[error("pid {0} cannot be read any more; look again")]
    Unreadable(Pid),
}

/// What a process must show to look like the daemon.
enum Likeness {
    /// This executable and these arguments, each with a NUL at its end.
    Process(Executable, Vec<u8>),
    /// These arguments, with at most an interpreter and its option before them.
    Command(Vec<Vec<u8>>),
}

impl Daemons {
    /// Searches the process table for a second instance. The definition is asked if the daemon does not run.
    ///
    /// # Errors
    /// The process table, or the recorded process, cannot be read.
    pub fn verify(&self, name: &Name, definition: Option<&Definition>) -> Result<Verified, NotVerified> {
        let paths = DaemonPaths::new(&self.home, name);
        let evidence = self.evidence(&paths);
        let state = judge(&evidence);
        let life = evidence.living();
        let recorded_definition = evidence.life.known().map(|(life, _)| &life.definition);
        let likeness = match (life, definition.or(recorded_definition)) {
            (Some(life), _) => self.likeness_of(life)?,
            (None, Some(definition)) => Likeness::of_command(&definition.command),
            (None, None) => return Ok(Verified { state, recorded: None, others: Vec::new() }),
        };
        let numbers = self.world.processes().map_err(NotVerified::Processes)?;
        let table: HashMap<u32, TableEntry> =
            numbers.into_iter().filter_map(|pid| Some((pid, self.world.table_entry(pid)?))).collect();
        let is_inside = |pid: u32| life.is_some_and(|life| is_of_life(&table, life, pid));
        let own = self.world.own_pid();
        let mut others: Vec<Instance> = table
            .iter()
            .filter(|(pid, entry)| **pid != own && entry.activity != Activity::Ended && !is_inside(**pid))
            .filter_map(|(&pid, _)| self.instance(Pid::new(pid)?, &likeness))
            .collect();
        others.sort_by_key(|instance| instance.pid);
        Ok(Verified { state, recorded: life.map(Life::pid), others })
    }

    fn likeness_of(&self, life: &Life) -> Result<Likeness, NotVerified> {
        let unreadable = || NotVerified::Unreadable(life.pid());
        let executable = self.executable_of(life.pid()).ok_or_else(unreadable)?;
        let listing = self.world.listing(life.pid().get()).ok_or_else(unreadable)?;
        Ok(Likeness::Process(executable, listing.arguments))
    }

    fn executable_of(&self, pid: Pid) -> Option<Executable> {
        let process = self.world.pin(pid).ok()??;
        match self.world.observe(&process) {
            Observation::Seen(identity) => identity.executable,
            Observation::Gone | Observation::Unreadable(_) => None,
        }
    }

    fn instance(&self, pid: Pid, likeness: &Likeness) -> Option<Instance> {
        if let Likeness::Process(wanted, _) = likeness {
            let found = self.executable_of(pid)?;
            ((found.device, found.inode) == (wanted.device, wanted.inode)).then_some(())?;
        }
        let arguments = self.world.listing(pid.get())?.arguments;
        likeness.has_arguments(&arguments).then(|| Instance { pid, command: in_one_line(&arguments) })
    }
}

impl Likeness {
    fn of_command(command: &[String]) -> Self {
        Self::Command(command.iter().map(|word| word.clone().into_bytes()).collect())
    }

    fn has_arguments(&self, arguments: &[u8]) -> bool {
        match self {
            Self::Process(_, wanted) => arguments == wanted,
            Self::Command(wanted) => {
                let words = words(arguments);
                // `#!/bin/sh -e` puts two words before the script, and replaces its name by its path.
                let begin = words.len().checked_sub(wanted.len()).filter(|&before| before <= 2);
                begin.is_some_and(|before| is_command(&words[before..], wanted))
            }
        }
    }
}

/// Whether words are those of a command, whose first may be a path where the command has a name.
fn is_command(words: &[&[u8]], wanted: &[Vec<u8>]) -> bool {
    let (Some((program, rest)), Some((wanted_program, wanted_rest))) = (words.split_first(), wanted.split_first())
    else {
        return false;
    };
    let is_program = *program == wanted_program.as_slice()
        || (!wanted_program.contains(&b'/') && program.rsplit(|&byte| byte == b'/').next() == Some(wanted_program));
    is_program && rest.iter().zip(wanted_rest).all(|(word, wanted)| *word == wanted.as_slice())
}

fn words(arguments: &[u8]) -> Vec<&[u8]> {
    let all = arguments.strip_suffix(b"\0").unwrap_or(arguments);
    if all.is_empty() { Vec::new() } else { all.split(|&byte| byte == 0).collect() }
}

fn in_one_line(arguments: &[u8]) -> String {
    let words: Vec<_> = words(arguments).into_iter().map(|word| String::from_utf8_lossy(word)).collect();
    words.join(" ")
}

/// Whether a process is the daemon, its monitor, a descendant of one of them, or of the daemon's session.
fn is_of_life(table: &HashMap<u32, TableEntry>, life: &Life, pid: u32) -> bool {
    let roots = [life.pid().get(), life.monitor.pid.get()];
    let parent = |pid: &u32| table.get(pid).map(|entry| entry.parent);
    // A table that was read while it changed could show a circle.
    let mut ancestry = std::iter::successors(Some(pid), parent).take(table.len());
    let is_member = table.get(&pid).is_some_and(|entry| entry.session == life.session.get());
    is_member || ancestry.any(|ancestor| roots.contains(&ancestor))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn looks_like(command: &[&str], arguments: &str) -> bool {
        let command: Vec<String> = command.iter().map(ToString::to_string).collect();
        Likeness::of_command(&command).has_arguments(arguments.as_bytes())
    }

    #[test]
    fn a_command_is_recognised_by_all_of_its_arguments() {
        assert!(looks_like(&["redis-server", "--port", "zero"], "redis-server\0--port\0zero\0"));
        assert!(looks_like(&["redis-server", "--port", "zero"], "/usr/bin/redis-server\0--port\0zero\0"));
        assert!(looks_like(&["/opt/run", "a"], "/bin/sh\0-e\0/opt/run\0a\0"));
        assert!(looks_like(&["run", ""], "/bin/sh\0/opt/run\0\0"));
        assert!(!looks_like(&["/opt/run", "a"], "/usr/bin/run\0a\0"));
        assert!(!looks_like(&["run", "a"], "run\0b\0"));
        assert!(!looks_like(&["run"], "run\0b\0"));
        assert!(!looks_like(&["run", "a"], "run\0"));
        assert!(!looks_like(&["run"], ""));
        assert!(!looks_like(&["run"], "a\0b\0c\0run\0"));
    }
}
