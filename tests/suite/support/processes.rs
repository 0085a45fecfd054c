//! What lives, as `/proc` shows it, and the only two ways in which a test ends something.

use std::fs;
use std::path::{Path, PathBuf};

use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};

/// The command line of a process; `None` when there is no such process, or it is a zombie.
pub fn command_line(pid: u32) -> Option<Vec<String>> {
    let bytes = fs::read(format!("/proc/{pid}/cmdline")).ok().filter(|bytes| !bytes.is_empty())?;
    let words = bytes.strip_suffix(b"\0").unwrap_or(&bytes).split(|&byte| byte == 0);
    Some(words.map(|word| String::from_utf8_lossy(word).into_owned()).collect())
}

/// Whether a process runs: it exists and has not ended.
pub fn is_alive(pid: u32) -> bool {
    !has_ended(pid)
}

/// Whether a process has ended with all its threads. The first thread of one that is being killed may be a zombie
/// while another still holds its files.
pub fn has_ended(pid: u32) -> bool {
    let Some(number) = i32::try_from(pid).ok().and_then(Pid::from_raw) else { return true };
    let Ok(pinned) = pidfd_open(number, PidfdFlags::empty()) else { return true };
    let mut polled = [PollFd::new(&pinned, PollFlags::IN)];
    let at_once = Timespec { tv_sec: 0, tv_nsec: 0 };
    rustix::event::poll(&mut polled, Some(&at_once)).unwrap() > 0
}

/// A field of `/proc/PID/stat` by its number in proc(5), from 3 on.
pub fn stat_field(pid: u32, number: usize) -> Option<String> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    stat.rsplit_once(") ")?.1.split_ascii_whitespace().nth(number - 3).map(str::to_owned)
}

/// All processes that name a directory in their command line, other than this one.
pub fn naming(directory: &Path) -> Vec<(u32, String)> {
    let wanted = directory.to_str().unwrap();
    let pids = fs::read_dir("/proc").unwrap().flatten().filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    pids.filter(|&pid| pid != std::process::id())
        .filter_map(|pid| Some((pid, command_line(pid)?.join(" "))))
        .filter(|(_, line)| line.contains(wanted))
        .collect()
}

/// Where the descriptors of a process lead.
pub fn descriptors(pid: u32) -> Vec<(u32, PathBuf)> {
    let entries = fs::read_dir(format!("/proc/{pid}/fd")).unwrap().flatten();
    let mut all: Vec<_> = entries
        .filter_map(|entry| Some((entry.file_name().to_str()?.parse().ok()?, fs::read_link(entry.path()).ok()?)))
        .collect();
    all.sort();
    all
}

/// Signals a process of this test. It is pinned first and must name the test's directory in its command line.
/// Says whether it was there.
pub fn signal_if_naming(pid: u32, directory: &Path, signal: Signal) -> bool {
    let Some(number) = i32::try_from(pid).ok().and_then(Pid::from_raw) else { return false };
    let Ok(pinned) = pidfd_open(number, PidfdFlags::empty()) else { return false };
    let wanted = directory.to_str().unwrap();
    if !command_line(pid).is_some_and(|line| line.join(" ").contains(wanted)) {
        return false;
    }
    pidfd_send_signal(&pinned, signal).is_ok()
}
