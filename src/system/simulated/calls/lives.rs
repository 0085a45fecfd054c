//! Who lives, and what can be known of a process.

use crate::system::Listing;
use crate::system::identity::{Executable, Identity, Observation, Pid};
use crate::system::simulated::machine::Machine;
use crate::system::simulated::processes::{Life, Number, Part, Process};

impl Machine {
    /// Who has a pid now.
    pub(crate) fn process_of(&self, pid: u32) -> Option<Number> {
        self.processes.iter().position(|process| process.pid == pid && process.exists())
    }

    pub(crate) fn start_ticks(&self, pid: u32) -> Option<u64> {
        Some(self.processes[self.process_of(pid)?].start_ticks)
    }

    pub(crate) fn draw(&mut self, process: Number) -> [u8; 16] {
        let salt = self.nature.salt;
        self.processes[process].draw(salt)
    }

    /// What ps(1) lists: a start in whole seconds, and always the same program.
    pub(crate) fn listing(&self, pid: u32) -> Option<Listing> {
        let started_at = i64::try_from(self.start_ticks(pid)? / 100).unwrap_or(i64::MAX);
        let arguments = b"actor\0".to_vec();
        Some(Listing { started_at, started: format!("second {started_at}"), arguments, name: b"actor".to_vec() })
    }

    pub(crate) fn pids(&self) -> Vec<u32> {
        self.processes.iter().filter(|process| process.exists()).map(|process| process.pid).collect()
    }

    pub(crate) fn observe(&self, number: Number) -> Observation {
        let process = &self.processes[number];
        let pid = Pid::new(process.pid).filter(|_| process.life == Life::Living);
        pid.map_or(Observation::Gone, |pid| {
            let executable = Executable { path: "/bin/actor".into(), device: 42, inode: 7 };
            Observation::Seen(Identity {
                pid,
                start_ticks: process.start_ticks,
                boot_id: Some(self.boot_id()),
                pid_namespace: Some(PID_NAMESPACE),
                pidfd_inode: Some(1000 + number as u64),
                executable: Some(executable),
                uid: crate::system::platform::effective_uid(),
            })
        })
    }

    /// Ends a process. Says whether it still lived.
    pub(crate) fn kill(&mut self, number: Number) -> bool {
        let lived = self.processes[number].life == Life::Living;
        if lived {
            self.end(number);
        }
        lived
    }

    /// Gives a free pid to a new process that does nothing and has started so many ticks from now. Says whether the
    /// pid was free.
    pub(crate) fn give_away(&mut self, pid: u32, ticks: u64) -> bool {
        let is_free = self.process_of(pid).is_none();
        if is_free {
            let mut extra = Process { part: Part::Extra, ..Process::unborn(pid) };
            extra.begin(self.clock);
            extra.start_ticks += ticks;
            self.processes.push(extra);
        }
        is_free
    }

    pub(crate) fn boot_id(&self) -> String {
        format!("00000000-0000-4000-8000-{:012x}", self.boot + 1)
    }
}

/// The inode of the first pid namespace of a Linux system.
pub(crate) const PID_NAMESPACE: u64 = 0xEFFF_FFFC;
