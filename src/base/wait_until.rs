//! The one helper that may sleep.

use std::thread;
use std::time::{Duration, Instant};

/// Looks until something is there or the deadline has passed, pausing between looks.
///
/// It looks at least once, and once more after the deadline, so a slow machine does not turn "there" into "not there".
#[expect(clippy::disallowed_methods, reason = "this is the one helper that may sleep")]
pub fn wait_until<T>(deadline: Duration, pause: Duration, mut look: impl FnMut() -> Option<T>) -> Option<T> {
    let start = Instant::now();
    loop {
        if let Some(found) = look() {
            return Some(found);
        }
        let left = deadline.checked_sub(start.elapsed())?;
        thread::sleep(pause.min(left));
    }
}

/// Lets others go on for a moment. Only a world pauses, between two looks of a protocol that counts its own time.
#[expect(clippy::disallowed_methods, reason = "this is the one helper that may sleep")]
pub fn pause(at_most: Duration) {
    thread::sleep(at_most);
}
