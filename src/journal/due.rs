//! What was shown to a reader, and, as pure functions, which wakes are due for a waiter.
//!
//! A wake that nobody was shown is due at once, or with the next one that is (`batch`), or never. A wake that was shown
//! and not acknowledged is due again after a while. Several waiters may wait at once, and each is told what came
//! after it began to wait: what another waiter was shown meanwhile is still news to it.
//!
//! Presenting retires nothing; it only keeps the next waiter from being told the same at once. So `presented.json`
//! survives the death of a process and need not survive more: when it is lost or damaged, nothing counts as shown and all
//! is told again. Two readers that write at the same moment lose one of the two notes, with the same effect.
//!
//! Its times are of `CLOCK_MONOTONIC` and of one boot, so neither a suspended machine nor a clock that is set makes a wake
//! look shown for long. Showings of different times are kept apart, lest a steady flow of new wakes put off the
//! repetition of an old one for ever.
//!
//! Limits: the age of a `batch` wake is told by the wall clock, the only one that its record has. A clock that is set
//! back can at most double its waiting, because a wake from the future is due at once; one set forward ends it early.

use super::codec;
use super::record::{Delivery, Kind, Wake};
use crate::base::error::{Context, Error, Result};
use crate::system::storage::{self, Durability};
use crate::system::{Now, World};
use serde::{Deserialize, Serialize};
use std::collections::{HashMap, HashSet};
use std::ffi::OsStr;
use std::path::Path;
use std::time::Duration;

/// How long things may wait.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Patience {
    /// After so long a wake that was shown and not acknowledged is shown again.
    pub redeliver_after: Duration,
    /// After so long a `batch` wake goes out by itself.
    pub batch_after: Duration,
}

/// What a waiter knows.
#[derive(Debug, Clone, Copy)]
pub struct View<'a> {
    /// What was shown until now, to anybody.
    pub presented: &'a Presented,
    /// [`Presented::through`] at the time when this waiter began to wait.
    pub presented_at_start: u64,
    /// Now.
    pub moment: &'a Moment,
    /// How long things may wait.
    pub patience: Patience,
}

/// The wakes that wait to be acknowledged: beyond that number, and not of the sort that is never delivered.
pub fn pending(wakes: &[Wake], acknowledged: u64) -> Vec<&Wake> {
    wakes.iter().filter(|wake| wake.seq > acknowledged && wake.delivery != Delivery::Never).collect()
}

/// What a wake is about, as far as folding goes: its kind and key. All heartbeats are about one thing.
fn topic(wake: &Wake) -> (&Kind, &str) {
    (&wake.kind, if wake.kind == Kind::Heartbeat { "" } else { wake.key.as_str() })
}

/// The pending wakes that are about the same as one of those that are due, which takes their place when it is shown or gives
/// its own to them. A reader may have been away for a long time, so this takes no longer than a look at each.
pub fn about_the_same<'a>(pending: &[&'a Wake], due: &[&Wake]) -> Vec<&'a Wake> {
    let topics: HashSet<_> = due.iter().map(|wake| topic(wake)).collect();
    pending.iter().copied().filter(|wake| topics.contains(&topic(wake))).collect()
}

/// Keeps, for each kind and key, the newest wake at the position of the first. All heartbeats are one.
pub fn fold<'a>(wakes: &[&'a Wake]) -> Vec<&'a Wake> {
    let mut places: HashMap<(&Kind, &str), usize> = HashMap::new();
    let mut folded: Vec<&Wake> = Vec::new();
    for wake in wakes.iter().copied() {
        let place = *places.entry(topic(wake)).or_insert(folded.len());
        match folded.get_mut(place) {
            Some(older) => *older = wake,
            None => folded.push(wake),
        }
    }
    folded
}

/// The pending wakes that this waiter is to be told now. `batch` wakes that nobody was shown join any that is due.
pub fn due<'a>(pending: &[&'a Wake], view: &View<'_>) -> Vec<&'a Wake> {
    let is_due = |wake: &Wake| view.waits(wake) == Some(Duration::ZERO);
    if !pending.iter().any(|wake| is_due(wake)) {
        return Vec::new();
    }
    let joins = |wake: &Wake| is_due(wake) || (wake.delivery == Delivery::Batch && view.is_news(wake));
    pending.iter().copied().filter(|wake| joins(wake)).collect()
}

/// How long until one of the pending wakes is due; zero when one is, `None` when none will ever be.
pub fn next_due_in(pending: &[&Wake], view: &View<'_>) -> Option<Duration> {
    pending.iter().filter_map(|wake| view.waits(wake)).min()
}

impl View<'_> {
    /// Whether this waiter has yet to be told.
    fn is_news(&self, wake: &Wake) -> bool {
        wake.seq > self.presented_at_start.min(self.presented.through())
    }

    /// How long until a wake is due by itself.
    fn waits(&self, wake: &Wake) -> Option<Duration> {
        match (wake.delivery, self.is_news(wake)) {
            (Delivery::Never, _) => None,
            (Delivery::Now, true) => Some(Duration::ZERO),
            (Delivery::Batch, true) => Some(self.batch_waits(wake)),
            (Delivery::Now | Delivery::Batch, false) => match self.presented.shown(wake.seq, self.moment) {
                Shown::Ago(age) => Some(self.patience.redeliver_after.saturating_sub(age)),
                Shown::Never | Shown::Sometime => Some(Duration::ZERO),
            },
        }
    }

    fn batch_waits(&self, wake: &Wake) -> Duration {
        let age = self.moment.now.wall_ms.saturating_sub(wake.at);
        // A wake from the future was written before the clock was set.
        u64::try_from(age)
            .map_or(Duration::ZERO, |age| self.patience.batch_after.saturating_sub(Duration::from_millis(age)))
    }
}

/// The name of the file in the journal's directory.
const NAME: &str = "presented.json";
const SCHEMA: u32 = 1;
/// More bytes than any of our versions writes.
const MOST_BYTES: usize = 16 * 1024;
/// Showings beyond so many are told apart no longer; the merged ones count as shown at the earlier time.
const MOST_SHOWINGS: usize = 16;

/// One reading of the clocks, and the boot it belongs to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Moment {
    /// The clocks.
    pub now: Now,
    /// The boot; `None` where the system does not tell.
    pub boot_id: Option<String>,
}

impl Moment {
    /// This moment.
    pub fn of<W: World>(world: &W) -> Self {
        Self { now: world.now(), boot_id: world.boot_id() }
    }
}

/// What was shown. Wakes are shown in the order of their numbers, so the last one stands for those before it.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Presented {
    schema: u32,
    showings: Vec<Showing>,
}

/// Wakes that were shown together: those after the showing before, up to `through`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Showing {
    through: u64,
    at_wall: i64,
    boot_id: Option<String>,
    at_monotonic_ms: u64,
}

impl Showing {
    fn new(through: u64, moment: &Moment) -> Self {
        let at_monotonic_ms = u64::try_from(moment.now.monotonic.as_millis()).unwrap_or(u64::MAX);
        Self { through, at_wall: moment.now.wall_ms, boot_id: moment.boot_id.clone(), at_monotonic_ms }
    }

    /// How long ago it was; `None` when that cannot be told, as after a boot.
    fn age(&self, moment: &Moment) -> Option<Duration> {
        let is_same_boot = self.boot_id.is_some() && self.boot_id == moment.boot_id;
        moment.now.monotonic.checked_sub(Duration::from_millis(self.at_monotonic_ms)).filter(|_| is_same_boot)
    }
}

/// Whether and when a wake was shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Shown {
    /// Not yet.
    Never,
    /// So long ago.
    Ago(Duration),
    /// At a time that cannot be compared with now.
    Sometime,
}

impl Presented {
    /// The number of the last wake that was shown.
    pub fn through(&self) -> u64 {
        self.showings.last().map_or(0, |showing| showing.through)
    }

    /// Whether and when the wake of this number was shown.
    pub fn shown(&self, seq: u64, moment: &Moment) -> Shown {
        match self.showings.iter().find(|showing| seq <= showing.through) {
            None => Shown::Never,
            Some(showing) => showing.age(moment).map_or(Shown::Sometime, Shown::Ago),
        }
    }

    /// What counts as shown after these wakes were. What is acknowledged is forgotten.
    #[must_use]
    pub fn after_showing(&self, wakes: &[&Wake], acknowledged: u64, moment: &Moment) -> Self {
        let mut showings: Vec<Showing> = Vec::new();
        let mut before = 0;
        for showing in self.showings.iter().filter(|showing| showing.through > acknowledged) {
            let is_again = wakes.iter().any(|wake| wake.seq > before && wake.seq <= showing.through);
            before = showing.through;
            push(&mut showings, if is_again { Showing::new(showing.through, moment) } else { showing.clone() });
        }
        let highest = wakes.iter().map(|wake| wake.seq).max().unwrap_or(0);
        if highest > before {
            push(&mut showings, Showing::new(highest, moment));
        }
        while showings.len() > MOST_SHOWINGS {
            let oldest = showings.remove(0);
            showings[0] = Showing { through: showings[0].through, ..oldest };
        }
        Self { schema: SCHEMA, showings }
    }

    /// Reads what was shown. What cannot be read was not shown.
    pub fn read<W: World>(world: &W, directory: &W::Node) -> Self {
        let bytes = storage::read(world, directory, OsStr::new(NAME), MOST_BYTES).ok().flatten().unwrap_or_default();
        let line = bytes.strip_suffix(b"\n").unwrap_or(&bytes);
        if codec::is_sealed(line) { serde_json::from_slice(line).unwrap_or_default() } else { Self::default() }
    }

    /// Writes what was shown. `path` is the journal's directory, for messages.
    ///
    /// # Errors
    /// Those of the system.
    pub fn write<W: World>(&self, world: &W, directory: &W::Node, path: &Path) -> Result<()> {
        let object = serde_json::to_vec(self).map_err(|error| Error::Failed(error.to_string()))?;
        storage::replace(world, directory, NAME, &codec::seal(object), Durability::Process)
            .doing("replace", path.join(NAME))
    }
}

/// Adds a showing. Neighbours of the same time are one.
fn push(showings: &mut Vec<Showing>, showing: Showing) {
    if let Some(last) = showings.last_mut()
        && (last.at_monotonic_ms, &last.boot_id) == (showing.at_monotonic_ms, &showing.boot_id)
    {
        last.through = showing.through;
        return;
    }
    showings.push(showing);
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::journal::codec::tests::wake;
    use crate::system::Now;

    const MINUTE: Duration = Duration::from_secs(60);
    const PATIENCE: Patience = Patience { redeliver_after: Duration::from_secs(600), batch_after: MINUTE };

    fn moment(minutes: u32) -> Moment {
        let monotonic = MINUTE * minutes;
        let wall_ms = 1_700_000_000_000 + i64::from(minutes) * 60_000;
        Moment { now: Now { wall_ms, monotonic }, boot_id: Some("boot".to_owned()) }
    }

    fn with(seq: u64, delivery: Delivery) -> Wake {
        Wake { delivery, ..wake(seq) }
    }

    fn due_numbers(wakes: &[Wake], presented: &Presented, at_start: u64, moment: &Moment) -> Vec<u64> {
        let view = View { presented, presented_at_start: at_start, moment, patience: PATIENCE };
        let pending = pending(wakes, 0);
        let due = due(&pending, &view);
        assert_eq!(due.is_empty(), next_due_in(&pending, &view) != Some(Duration::ZERO));
        due.iter().map(|wake| wake.seq).collect()
    }

    #[test]
    fn a_shown_wake_is_due_again_after_a_while_or_another_boot() {
        let wakes = [wake(1), wake(2)];
        let presented = Presented::default().after_showing(&[&wakes[0]], 0, &moment(0));
        assert_eq!(due_numbers(&wakes, &presented, 1, &moment(1)), [2]);
        let presented = presented.after_showing(&[&wakes[1]], 0, &moment(1));
        assert!(due_numbers(&wakes, &presented, 2, &moment(9)).is_empty());
        assert_eq!(due_numbers(&wakes, &presented, 2, &moment(10)), [1]);
        assert_eq!(due_numbers(&wakes, &presented, 2, &moment(11)), [1, 2]);
        let other_boot = Moment { boot_id: Some("other".to_owned()), ..moment(2) };
        assert_eq!(due_numbers(&wakes, &presented, 2, &other_boot), [1, 2]);
    }

    #[test]
    fn a_steady_flow_of_news_does_not_put_off_the_repetition() {
        let wakes: Vec<Wake> = (1..=40).map(wake).collect();
        let mut presented = Presented::default();
        for (minute, wake) in (0..).zip(&wakes) {
            let mut shown = vec![wake];
            if minute == 10 {
                assert_eq!(due_numbers(&wakes[..=10], &presented, presented.through(), &moment(minute)), [1, 11]);
                shown.insert(0, &wakes[0]);
            }
            presented = presented.after_showing(&shown, 0, &moment(minute));
        }
        assert_eq!(presented.through(), 40);
    }

    #[test]
    fn each_waiter_is_told_what_came_while_it_waited() {
        let wakes = [wake(1), wake(2)];
        let presented = Presented::default().after_showing(&[&wakes[0], &wakes[1]], 0, &moment(0));
        assert_eq!(due_numbers(&wakes, &presented, 1, &moment(0)), [2]);
        assert!(due_numbers(&wakes, &presented, 2, &moment(0)).is_empty());
    }

    #[test]
    fn batch_wakes_join_others_or_go_when_they_are_old() {
        let wakes = [with(1, Delivery::Batch), with(2, Delivery::Never), with(3, Delivery::Batch)];
        let nothing = Presented::default();
        assert!(due_numbers(&wakes, &nothing, 0, &moment(0)).is_empty());
        assert_eq!(due_numbers(&wakes, &nothing, 0, &moment(1)), [1, 3]);
        let mut joined = wakes.to_vec();
        joined.push(wake(4));
        assert_eq!(due_numbers(&joined, &nothing, 0, &moment(0)), [1, 3, 4]);
        let mut set_back = moment(0);
        set_back.now.wall_ms -= 10 * 365 * 86_400_000;
        assert_eq!(due_numbers(&wakes, &nothing, 0, &set_back), [1, 3]);
    }

    #[test]
    fn only_never_means_that_nothing_will_be_due() {
        let wakes = [with(1, Delivery::Never)];
        let presented = Presented::default();
        let view = View { presented: &presented, presented_at_start: 0, moment: &moment(0), patience: PATIENCE };
        let references: Vec<&Wake> = wakes.iter().collect();
        assert_eq!(next_due_in(&references, &view), None);
        assert!(pending(&wakes, 0).is_empty());
    }

    #[test]
    fn the_newest_content_stands_where_the_first_stood() {
        let kind_and_key = |seq, kind: Kind, key: &str| Wake { kind, key: key.to_owned(), ..wake(seq) };
        let wakes = [
            kind_and_key(1, Kind::Signal, "a"),
            kind_and_key(2, Kind::Heartbeat, "x"),
            kind_and_key(3, Kind::Check, "a"),
            kind_and_key(4, Kind::Signal, "a"),
            kind_and_key(5, Kind::Heartbeat, "y"),
        ];
        let folded: Vec<u64> = fold(&wakes.iter().collect::<Vec<_>>()).iter().map(|wake| wake.seq).collect();
        assert_eq!(folded, [4, 5, 3]);
    }

    proptest! {
        #[test]
        fn folding_loses_no_key_and_keeps_the_newest(keys in proptest::collection::vec(0_u8..6, 0..60)) {
            let wakes: Vec<Wake> =
                (1..).zip(&keys).map(|(seq, key)| Wake { key: key.to_string(), ..wake(seq) }).collect();
            let references: Vec<&Wake> = wakes.iter().collect();
            let folded = fold(&references);
            let mut first_seen = Vec::new();
            for wake in &wakes {
                if !first_seen.contains(&&wake.key) {
                    first_seen.push(&wake.key);
                }
            }
            prop_assert_eq!(folded.iter().map(|wake| &wake.key).collect::<Vec<_>>(), first_seen);
            for kept in folded {
                prop_assert!(wakes.iter().filter(|wake| wake.key == kept.key).all(|wake| wake.seq <= kept.seq));
            }
        }

        #[test]
        fn whatever_was_shown_every_pending_wake_is_due_some_day(
            shown in proptest::collection::vec((1_u64..20, 0_u32..30), 0..30),
            batch in any::<[bool; 20]>(),
        ) {
            let delivery = |seq: u64| if batch[usize::try_from(seq).unwrap() - 1] { Delivery::Batch } else { Delivery::Now };
            let wakes: Vec<Wake> = (1..=20).map(|seq| with(seq, delivery(seq))).collect();
            let mut presented = Presented::default();
            let mut minute = 0;
            for (through, pause) in shown {
                minute += pause;
                let part: Vec<&Wake> = wakes[..usize::try_from(through).unwrap()].iter().collect();
                presented = presented.after_showing(&part, 0, &moment(minute));
            }
            let all: Vec<u64> = (1..=20).collect();
            prop_assert_eq!(due_numbers(&wakes, &presented, presented.through(), &moment(minute + 10)), all);
        }
    }
}
