//! Which process is the daemon when its first one has ended with 0: a pure function.
//!
//! Daemons of the old school fork, often twice, and let the first process end. What they leave behind becomes the monitor's
//! child. Which of them is the daemon is said by its pid file or by its socket; where neither speaks, it is the only one
//! that is left. A daemon that has been ready for a while and then ends with 0 has simply ended, whatever it leaves behind.

use std::time::Duration;

/// How long after it was ready the end of a first process can still be part of a daemon's start.
const SETTLES_WITHIN: Duration = Duration::from_secs(2);

/// How far the life had come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stage {
    /// It was not ready.
    Starting,
    /// It had been ready for so long.
    ReadyFor(Duration),
}

/// What follows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Succession {
    /// The life is over.
    Over,
    /// The life goes on in this process.
    Goes(u32),
    /// It cannot be told yet.
    Open,
}

/// Chooses among the living children of the monitor. `named` is who the daemon's pid file or socket names.
pub fn succession(children: &[u32], named: Option<u32>, stage: Stage) -> Succession {
    let is_beginning = match stage {
        Stage::Starting => true,
        Stage::ReadyFor(time) => time <= SETTLES_WITHIN,
    };
    match (named.filter(|pid| children.contains(pid)), children) {
        (_, []) => Succession::Over,
        (Some(pid), _) => Succession::Goes(pid),
        (None, &[only]) if is_beginning => Succession::Goes(only),
        (None, _) if stage == Stage::Starting => Succession::Open,
        (None, _) => Succession::Over,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LONG_AGO: Stage = Stage::ReadyFor(Duration::from_secs(60));
    const JUST_NOW: Stage = Stage::ReadyFor(Duration::from_millis(5));

    #[test]
    fn without_children_the_life_is_over() {
        for stage in [Stage::Starting, JUST_NOW, LONG_AGO] {
            assert_eq!(succession(&[], Some(7), stage), Succession::Over);
        }
    }

    #[test]
    fn whoever_is_named_and_ours_succeeds() {
        for stage in [Stage::Starting, JUST_NOW, LONG_AGO] {
            assert_eq!(succession(&[7, 8], Some(8), stage), Succession::Goes(8));
        }
        assert_eq!(succession(&[7, 8], Some(9), Stage::Starting), Succession::Open, "a stranger is not");
    }

    #[test]
    fn the_only_one_succeeds_while_the_daemon_starts() {
        assert_eq!(succession(&[7], None, Stage::Starting), Succession::Goes(7));
        assert_eq!(succession(&[7], None, JUST_NOW), Succession::Goes(7));
        assert_eq!(succession(&[7], None, LONG_AGO), Succession::Over);
        assert_eq!(succession(&[7, 8], None, Stage::Starting), Succession::Open);
        assert_eq!(succession(&[7, 8], None, JUST_NOW), Succession::Over);
    }
}
