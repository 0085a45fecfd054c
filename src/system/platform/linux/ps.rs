//! What ps(1) lists of a process: since when it runs, by the wall clock, and with which arguments.
//!
//! Other programs record that text, so it must be the same to the byte. `ps` adds the start in ticks since boot to the
//! kernel's time of boot (`btime` in `/proc/stat`), both in whole seconds, and shows the sum in local time. The time of
//! boot moves when the wall clock is set; so does the text, by as much, and sometimes by a second more or less.

#![expect(unsafe_code, reason = "the C library's local time is not covered by a safe one")]

use std::fs;
use std::io::{self, Read};

use super::process::start_ticks;
use crate::system::Listing;

/// How much of the arguments `ps` looks at.
const ARGUMENTS_LIMIT: u64 = 128 * 1024;

/// Reads what `ps` lists of a process; `None` if there is no such process, or it cannot be read.
pub fn listing(pid: u32) -> Option<Listing> {
    let ticks = start_ticks(pid)?;
    let started_at = boot_time()?.checked_add_unsigned(ticks / ticks_per_second()?)?;
    let directory = format!("/proc/{pid}");
    let arguments = arguments(pid)?;
    let mut name = fs::read(format!("{directory}/comm")).ok()?;
    name.truncate(name.strip_suffix(b"\n").map_or(name.len(), <[u8]>::len));
    // A pid that was given away while all this was read would make a listing of two processes.
    (start_ticks(pid) == Some(ticks)).then_some(())?;
    Some(Listing { started_at, started: local_time(started_at).ok()?, arguments, name })
}

/// Reads the arguments of a process, each with a NUL at its end; `None` if there is no such process, or they cannot be
/// read.
pub fn arguments(pid: u32) -> Option<Vec<u8>> {
    let mut arguments = Vec::with_capacity(1024);
    let file = fs::File::open(format!("/proc/{pid}/cmdline")).ok()?;
    file.take(ARGUMENTS_LIMIT).read_to_end(&mut arguments).ok()?;
    Some(arguments)
}

/// The wall clock's time of boot, in seconds since 1970.
fn boot_time() -> Option<i64> {
    boot_time_in(&fs::read_to_string("/proc/stat").ok()?)
}

fn boot_time_in(stat: &str) -> Option<i64> {
    stat.lines().find_map(|line| line.strip_prefix("btime "))?.trim().parse().ok()
}

fn ticks_per_second() -> Option<u64> {
    // SAFETY: the call takes an integer and returns one.
    let ticks = unsafe { libc::sysconf(libc::_SC_CLK_TCK) };
    u64::try_from(ticks).ok().filter(|&ticks| ticks > 0)
}

/// A time in this process's time zone, as ctime(3) writes it: `Fri Nov 20 23:05:27 2026`.
fn local_time(seconds: i64) -> io::Result<String> {
    const DAYS: [&str; 7] = ["Sun", "Mon", "Tue", "Wed", "Thu", "Fri", "Sat"];
    const MONTHS: [&str; 12] = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
    let seconds: libc::time_t = seconds;
    // SAFETY: `tm` is a plain C struct of integers and a pointer, for which all bits zero is a valid value.
    let mut broken: libc::tm = unsafe { std::mem::zeroed() };
    // SAFETY: both pointers are valid for the call; nothing in this program changes the environment, where the time
    // zone comes from.
    let done = unsafe { libc::localtime_r(&raw const seconds, &raw mut broken) };
    if done.is_null() {
        return Err(io::Error::last_os_error());
    }
    let named = |names: &[&'static str], number: libc::c_int| {
        usize::try_from(number).ok().and_then(|number| names.get(number).copied()).unwrap_or("???")
    };
    Ok(format!(
        "{} {} {:2} {:02}:{:02}:{:02} {}",
        named(&DAYS, broken.tm_wday),
        named(&MONTHS, broken.tm_mon),
        broken.tm_mday,
        broken.tm_hour,
        broken.tm_min,
        broken.tm_sec,
        i64::from(broken.tm_year) + 1900
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_time_of_boot_is_found() {
        assert_eq!(boot_time_in("cpu 1 2\nbtime 1795000000\nprocesses 7\n"), Some(1_795_000_000));
        assert_eq!(boot_time_in("cpu 1 2\n"), None);
    }

    #[test]
    fn a_local_time_has_the_length_of_ctime() {
        assert_eq!(local_time(0).unwrap().len(), 24);
        assert_eq!(local_time(1_795_043_127).unwrap().len(), 24);
    }

    #[test]
    fn this_process_is_listed_and_no_process_is_not() {
        let listing = listing(std::process::id()).unwrap();
        assert!(listing.started_at > 1_500_000_000);
        assert!(!listing.arguments.is_empty() && !listing.name.is_empty());
        assert_eq!(super::listing(u32::MAX), None);
    }
}
