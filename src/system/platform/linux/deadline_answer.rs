//! A deadline of the whole process: when it has passed, the process says what was put down for that case and ends.
//!
//! Whoever must answer in time cannot trust a call that may never come back. A second thread would see to it as well, but
//! a process with two threads takes an eighth longer from its start to its end, and hooks run at every turn. So the kernel
//! rings twice: first with a signal whose handler writes the words that were put down and ends the process with exit code
//! 0, which works wherever a signal can interrupt what is going on; then, should that be impossible, with SIGKILL, which
//! also ends the waits for a file server that is gone.
//!
//! If this is wrong, a process ends in the middle of its own answer. Hence the claim: only the first to make it speaks, the
//! handler or whoever has found the answer.
//!
//! Limits: a call that not even a kill ends, as a lock on some FUSE file systems, keeps the process. SIGALRM is this
//! module's alone. There is one deadline per process.

#![expect(unsafe_code, reason = "a signal handler and timers are not covered by the safe library")]

use std::io;
use std::mem;
use std::ptr;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

/// What is said when the deadline has passed.
#[derive(Debug)]
struct Words {
    stdout: Vec<u8>,
    stderr: Vec<u8>,
}

static WORDS: OnceLock<Words> = OnceLock::new();
static CLAIMED: AtomicBool = AtomicBool::new(false);

/// How long the handler may take before the kernel ends the process.
const MERCY: Duration = Duration::from_millis(200);

/// Makes this process say these words and end with exit code 0 so much later, unless it claims its last word before.
///
/// # Errors
/// There is a deadline already, or the kernel gives no timer; then the process has no deadline that it can rely on.
pub fn put_down_last_words(stdout: Vec<u8>, stderr: Vec<u8>, after: Duration) -> io::Result<()> {
    WORDS.set(Words { stdout, stderr }).map_err(|_| io::Error::from(io::ErrorKind::AlreadyExists))?;
    heed_alarm()?;
    ring(libc::SIGALRM, after)?;
    ring(libc::SIGKILL, after + MERCY)
}

/// Claims the last word: from now on only the caller speaks, and the first signal does nothing any more. The kernel ends the
/// process all the same if it goes on for too long.
pub fn claim_last_word() {
    // If the handler had claimed it, this process would have ended.
    CLAIMED.store(true, Ordering::SeqCst);
}

extern "C" fn say_and_end(_signal: libc::c_int) {
    if CLAIMED.swap(true, Ordering::SeqCst) {
        return;
    }
    // The words were complete before the timer was set. Reading them takes no lock and allocates nothing.
    if let Some(words) = WORDS.get() {
        for (stream, text) in [(libc::STDOUT_FILENO, &words.stdout), (libc::STDERR_FILENO, &words.stderr)] {
            // SAFETY: the bytes live as long as the process, and write(2) may be called in a handler.
            let _written = unsafe { libc::write(stream, text.as_ptr().cast(), text.len()) };
        }
    }
    // SAFETY: it may be called in a handler, and does not return.
    unsafe { libc::_exit(0) }
}

/// Installs the handler, whatever this process was started with.
fn heed_alarm() -> io::Result<()> {
    // SAFETY: all bits zero is a valid value of these plain C structs; every pointer is valid for its call. The handler
    // only does what a handler may.
    unsafe {
        let mut action: libc::sigaction = mem::zeroed();
        action.sa_sigaction = say_and_end as *const () as libc::sighandler_t;
        action.sa_flags = libc::SA_RESTART;
        check(libc::sigaction(libc::SIGALRM, &raw const action, ptr::null_mut()))?;
        let mut alarm: libc::sigset_t = mem::zeroed();
        check(libc::sigemptyset(&raw mut alarm))?;
        check(libc::sigaddset(&raw mut alarm, libc::SIGALRM))?;
        check(libc::sigprocmask(libc::SIG_UNBLOCK, &raw const alarm, ptr::null_mut()))
    }
}

/// Has the kernel send a signal to this process after a while. Children do not inherit the timer.
fn ring(signal: libc::c_int, after: Duration) -> io::Result<()> {
    // SAFETY: all bits zero is a valid value of these plain C structs; every pointer is valid for its call.
    unsafe {
        let mut event: libc::sigevent = mem::zeroed();
        event.sigev_notify = libc::SIGEV_SIGNAL;
        event.sigev_signo = signal;
        let mut timer: libc::timer_t = mem::zeroed();
        check(libc::timer_create(libc::CLOCK_MONOTONIC, &raw mut event, &raw mut timer))?;
        let mut time: libc::itimerspec = mem::zeroed();
        time.it_value.tv_sec = libc::time_t::try_from(after.as_secs()).unwrap_or(libc::time_t::MAX);
        // All zero would switch the timer off.
        time.it_value.tv_nsec = libc::c_long::from(after.subsec_nanos().max(1).cast_signed());
        check(libc::timer_settime(timer, 0, &raw const time, ptr::null_mut()))
    }
}

fn check(result: libc::c_int) -> io::Result<()> {
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}
