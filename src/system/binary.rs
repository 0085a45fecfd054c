//! The path under which a service starts this program.
//!
//! It must still lead to this program after an upgrade. The path that the kernel tells has all links resolved, and in
//! a package manager's tree it names one release. So the first entry of `PATH` that leads to the very file that runs now is
//! preferred, as it is written there; only without one is the resolved path taken.

use std::path::{Path, PathBuf};

use super::World;
use crate::base::environment::Environment;

/// The path to write down for this program, which is at `resolved` now.
pub fn stable_path<W: World>(world: &W, environment: &Environment, resolved: PathBuf) -> PathBuf {
    let Ok(own) = world.facts_of_path(&resolved) else { return resolved };
    let Some(name) = resolved.file_name() else { return resolved };
    let directories = environment.path("PATH").unwrap_or_default();
    let leads_here = |path: &PathBuf| {
        let real = std::fs::canonicalize(path).and_then(|real| world.facts_of_path(&real));
        path.is_absolute() && real.is_ok_and(|facts| facts.is_same_inode(&own))
    };
    std::env::split_paths(&directories).map(|directory| directory.join(name)).find(leads_here).unwrap_or(resolved)
}

/// The first executable file of a name on `PATH`.
pub fn on_path(environment: &Environment, name: &str) -> Option<PathBuf> {
    let is_program = |path: &PathBuf| path.is_absolute() && path.is_file() && is_executable(path);
    std::env::split_paths(&environment.path("PATH")?).map(|directory| directory.join(name)).find(is_program)
}

fn is_executable(path: &Path) -> bool {
    rustix::fs::access(path, rustix::fs::Access::EXEC_OK).is_ok()
}
