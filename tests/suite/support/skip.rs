//! Tests that lack a privilege or a tool say so and count as ignored.

use std::path::{Path, PathBuf};

/// Why a test cannot be run here.
#[derive(Debug)]
pub struct Skip(pub String);

/// Only root may do what the test does.
pub fn requires_root() -> Result<(), Skip> {
    if rustix::process::geteuid().is_root() { Ok(()) } else { Err(Skip("needs root".to_owned())) }
}

/// The path of a program that the test needs.
pub fn requires(program: &str) -> Result<PathBuf, Skip> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let found = std::env::split_paths(&path).map(|directory| directory.join(program)).find(|path| is_program(path));
    found.ok_or_else(|| Skip(format!("needs the program {program}")))
}

fn is_program(path: &Path) -> bool {
    rustix::fs::access(path, rustix::fs::Access::EXEC_OK).is_ok() && path.is_file()
}
