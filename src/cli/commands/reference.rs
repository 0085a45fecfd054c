//! `completions` and `man`: made from the one definition of the command line.

use std::io;

use clap::CommandFactory;

use crate::base::error::{Context, Result};
use crate::base::exit;
use crate::cli::args::Cli;

/// Prints the completion script of a shell.
///
/// # Errors
/// Nobody reads.
pub fn completions(shell: clap_complete::Shell) -> Result<u8> {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Cli::command(), "fm-watch", &mut script);
    print(&script)
}

/// Prints the manual page.
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
