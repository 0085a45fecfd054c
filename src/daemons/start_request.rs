//! What a monitor is told to start, and what it must not start again.
//!
//! A monitor may begin late: its client was killed, or the machine is busy. By then somebody else may have started the
//! daemon, and a person may have stopped it again. So an order is good for one life only, the one after the last that its
//! giver knew; a monitor that finds a later one starts nothing.

use serde::{Deserialize, Serialize};

use super::paths;
use super::records::{self, Read};
use crate::settings::daemon_definition::Definition;
use crate::system::World;

/// An order to start a daemon.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Order {
    /// What is to be started.
    pub definition: Definition,
    /// The number of the last life that its giver knew; 0 if there was none.
    pub after: u64,
}

/// What of a record says which life it is about.
#[derive(Deserialize)]
struct Numbered {
    generation: u64,
}

/// The highest number of a life that is written down anywhere in a daemon's directory; 0 if there is none.
pub fn last_generation<W: World>(world: &W, directory: &W::Node) -> u64 {
    let known = [paths::LIFE, paths::END, paths::STOP, paths::KEEP].map(|name| {
        match records::read::<Numbered, W>(world, directory, name) {
            Read::Some(Numbered { generation }) => generation,
            Read::None | Read::Damaged(_) => 0,
        }
    });
    known.into_iter().max().unwrap_or_default()
}

#[cfg(test)]
#[allow(clippy::disallowed_methods)]
mod tests {
    use super::*;
    use crate::system::Real;

    #[test]
    fn the_last_life_is_the_highest_number_that_is_written_down_anywhere() {
        let directory = tempfile::tempdir().unwrap();
        let node = Real.open_directory(directory.path()).unwrap();
        assert_eq!(last_generation(&Real, &node), 0);
        for (name, text, last) in [
            (paths::LIFE, r#"{"generation":3}"#, 3),
            (paths::STOP, r#"{"generation":9}"#, 9),
            (paths::KEEP, r#"{"generation":4}"#, 9),
            (paths::END, "damaged", 9),
        ] {
            std::fs::write(directory.path().join(name), text).unwrap();
            assert_eq!(last_generation(&Real, &node), last, "{name}");
        }
    }
}
