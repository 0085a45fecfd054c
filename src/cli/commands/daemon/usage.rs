//! What a process costs.

use std::time::Duration;

use crate::system::identity::Pid;

/// What a process costs.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Usage {
    /// Bytes of memory that it has in use.
    pub(crate) memory: u64,
    /// The time for which it has had a processor, in its whole life.
    pub(crate) cpu: Duration,
}

/// What the process of a pid costs, if there is one. No other process is looked at.
pub(crate) fn usage_of(pid: Pid) -> Option<Usage> {
    use sysinfo::{ProcessRefreshKind, ProcessesToUpdate, System};
    let pid = sysinfo::Pid::from_u32(pid.get());
    let mut system = System::new();
    let kind = ProcessRefreshKind::nothing().with_memory().with_cpu();
    system.refresh_processes_specifics(ProcessesToUpdate::Some(&[pid]), true, kind);
    let process = system.process(pid)?;
    Some(Usage { memory: process.memory(), cpu: Duration::from_millis(process.accumulated_cpu_time()) })
}
