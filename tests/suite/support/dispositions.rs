//! What a signal does to a program that has said nothing about it is inherited.
//!
//! `nohup` and a shell that puts a command into the background have it ignored, and programs rightly leave that alone. A test
//! of what a signal does must not depend on who has started the tests.

// No safe interface sets a disposition.
#![allow(unsafe_code)]

/// Gives this process, and so whatever it starts, the dispositions that a terminal's programs have.
pub fn restore() {
    for signal in
        [libc::SIGHUP, libc::SIGINT, libc::SIGQUIT, libc::SIGTERM, libc::SIGUSR1, libc::SIGUSR2, libc::SIGTSTP]
    {
        // SAFETY: the default is no handler.
        unsafe { libc::signal(signal, libc::SIG_DFL) };
    }
}
