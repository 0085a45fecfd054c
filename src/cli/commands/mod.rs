//! One verb per file, thin: gather, call, print.

pub mod adopt;
pub mod arm;
pub mod arm_tracked;
pub mod config;
pub mod daemon;
pub mod daemon_monitor;
pub mod doctor;
pub mod firstmate;
pub mod guard;
pub mod hook;
pub mod hooks;
pub mod lock;
pub mod run;
pub mod service;
pub mod status;
pub mod stop;
pub mod storm;
pub mod waiter;
pub mod wakes;

use std::io;

use clap::CommandFactory;

use crate::base::error::{Context, Result};
use crate::base::exit;
use crate::cli::args::Cli;

/// `completions`: prints the completion script of a shell, made from the one definition of the command line.
///
/// # Errors
/// Nobody reads.
pub fn completions(shell: clap_complete::Shell) -> Result<u8> {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Cli::command(), "fm-watch", &mut script);
    print(&script)
}

/// `man`: prints the manual page, made from the same definition.
///
/// # Errors
/// Nobody reads.
pub fn man() -> Result<u8> {
    let mut page = Vec::new();
    clap_mangen::Man::new(Cli::command()).render(&mut page).doing("render", "the manual page")?;
    print(&page)
}

fn print(bytes: &[u8]) -> Result<u8> {
    let mut stdout = io::stdout().lock();
    io::Write::write_all(&mut stdout, bytes)
        .and_then(|()| io::Write::flush(&mut stdout))
        .doing("write to", "stdout")?;
    Ok(exit::OK)
}
