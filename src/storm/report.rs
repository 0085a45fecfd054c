//! The report of a storm: a table for people, one object per protocol for programs.

use std::path::Path;
use std::time::Duration;

use serde_json::{Value, json};

use super::intervals::{Ending, Hold, Overlap};
use super::plan::Plan;
use super::plan::Protocol;
use super::summary::{Summary, Verdict};

/// How many overlaps are shown one by one.
const SHOWN: usize = 3;

const HEADINGS: [&str; 10] =
    ["kind", "rounds", "holds", "kills", "overlaps", "longest", "p50", "p99", "took", "verdict"];

/// The lines of the table, and below it the first overlaps of each protocol.
pub fn table(plan: &Plan, summaries: &[Summary]) -> Vec<String> {
    let mut rows = vec![HEADINGS.map(str::to_owned)];
    rows.extend(summaries.iter().map(|summary| row(plan, summary)));
    let width = |column: usize| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0);
    let widths: Vec<_> = (0..HEADINGS.len()).map(width).collect();
    let mut lines: Vec<_> = rows.iter().map(|row| aligned(row, &widths)).collect();
    lines.extend(summaries.iter().flat_map(shown_overlaps));
    lines.extend(summaries.iter().filter_map(advice));
    lines
}

/// How to make a storm stronger that was too weak.
fn advice(summary: &Summary) -> Option<String> {
    let more = match (&summary.verdict, summary.protocol) {
        (Verdict::NoneSeen, Protocol::Unlink) => {
            "it fails where holders die: give --kill, a shorter interval or more --workers"
        }
        (Verdict::NoneSeen, _) => "give more --workers or more --rounds",
        _ => return None,
    };
    Some(format!("{}: {more}", summary.protocol))
}

/// Words at the left, numbers at the right.
fn aligned(row: &[String; 10], widths: &[usize]) -> String {
    let last = row.len() - 1;
    let cell = |(column, (text, &width)): (usize, (&String, &usize))| match column {
        0 => format!("{text:<width$}"),
        _ if column == last => text.clone(),
        _ => format!("{text:>width$}"),
    };
    row.iter().zip(widths).enumerate().map(cell).collect::<Vec<_>>().join("  ")
}

fn row(plan: &Plan, summary: &Summary) -> [String; 10] {
    let waits = summary.waits;
    [
        summary.protocol.to_string(),
        format!("{} x {}", plan.workers, plan.rounds),
        summary.holds.to_string(),
        format!("{} ({} of holders)", summary.kills, summary.kills_of_holders),
        summary.overlaps.len().to_string(),
        in_words(waits.longest),
        in_words(waits.p50),
        in_words(waits.p99),
        in_words(summary.took),
        verdict_in_words(&summary.verdict).to_owned(),
    ]
}

fn verdict_in_words(verdict: &Verdict) -> &'static str {
    match verdict {
        Verdict::Excluded => "no overlap",
        Verdict::Overlapped => "OVERLAPS: this lock does not exclude",
        Verdict::OverlappedAsExpected => "overlaps, as expected",
        Verdict::NoneSeen => "none seen: this run proves nothing",
        Verdict::Interrupted => "interrupted, no overlap so far",
        Verdict::Failed(_) => "FAILED",
    }
}

fn verdict_name(verdict: &Verdict) -> &'static str {
    match verdict {
        Verdict::Excluded => "excluded",
        Verdict::Overlapped => "overlapped",
        Verdict::OverlappedAsExpected => "overlapped-as-expected",
        Verdict::NoneSeen => "none-seen",
        Verdict::Interrupted => "interrupted",
        Verdict::Failed(_) => "failed",
    }
}

fn shown_overlaps(summary: &Summary) -> Vec<String> {
    let mut lines: Vec<_> = summary.overlaps.iter().take(SHOWN).map(|overlap| shown(summary, overlap)).collect();
    if summary.overlaps.len() > SHOWN {
        lines.push(format!("{}: and {} more", summary.protocol, summary.overlaps.len() - SHOWN));
    }
    lines
}

fn shown(summary: &Summary, overlap: &Overlap) -> String {
    let held = |hold: &Hold| {
        let ending = match hold.ending {
            Ending::Released => "until",
            Ending::Killed => "until it was killed at",
        };
        format!("pid {} held from {} {ending} {}", hold.pid, hold.from, hold.until)
    };
    format!("{}: {}, and {} (ns)", summary.protocol, held(&overlap.earlier), held(&overlap.later))
}

/// Three digits are enough for people.
fn in_words(time: Duration) -> String {
    let nanoseconds = time.as_nanos();
    let scaled = |unit: u128, name: &str| {
        let tenths = nanoseconds * 10 / unit;
        if tenths < 1000 {
            format!("{}.{} {name}", tenths / 10, tenths % 10)
        } else {
            format!("{} {name}", tenths / 10)
        }
    };
    match nanoseconds {
        0..1_000_000 => format!("{} us", nanoseconds / 1000),
        1_000_000..1_000_000_000 => scaled(1_000_000, "ms"),
        _ => scaled(1_000_000_000, "s"),
    }
}

/// One storm as an object; with the directory that is left of it, if one is.
pub fn object(plan: &Plan, summary: &Summary, directory: Option<&Path>) -> Value {
    let nanoseconds = |time: Duration| u64::try_from(time.as_nanos()).unwrap_or(u64::MAX);
    let hold = |hold: &Hold| {
        let was_killed = hold.ending == Ending::Killed;
        json!({"pid": hold.pid, "from_ns": hold.from, "until_ns": hold.until, "killed": was_killed})
    };
    let pair = |overlap: &Overlap| json!({"earlier": hold(&overlap.earlier), "later": hold(&overlap.later)});
    let reasons: &[String] = if let Verdict::Failed(reasons) = &summary.verdict { reasons } else { &[] };
    json!({
        "schema": 1,
        "event": "storm",
        "kind": summary.protocol.to_string(),
        "verdict": verdict_name(&summary.verdict),
        "workers": plan.workers,
        "peers": plan.peers(),
        "rounds": plan.rounds,
        "seed": plan.seed,
        "holds": summary.holds,
        "kills": summary.kills,
        "kills_of_holders": summary.kills_of_holders,
        "overlaps": summary.overlaps.len(),
        "first_overlaps": summary.overlaps.iter().take(SHOWN).map(pair).collect::<Vec<_>>(),
        "longest_wait_ns": nanoseconds(summary.waits.longest),
        "longest_wait_after_kills_ns": nanoseconds(summary.waits.longest_after_kills),
        "p50_wait_ns": nanoseconds(summary.waits.p50),
        "p99_wait_ns": nanoseconds(summary.waits.p99),
        "took_ns": nanoseconds(summary.took),
        "failures": reasons,
        "directory": directory.map(Path::to_string_lossy),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lock::Kind;
    use crate::storm::summary::{End, Record};

    fn plan() -> Plan {
        Plan {
            workers: 4,
            rounds: 2,
            kill_interval: None,
            peer: Some("other".to_owned()),
            seed: 9,
            patience: Duration::from_secs(1),
            program: "fm-watch".into(),
        }
    }

    fn summary(protocol: Protocol, holds: &[(u32, u64, u64)]) -> Summary {
        let hold = |&(pid, from, until): &(u32, u64, u64)| Hold { pid, from, until, ending: Ending::Killed };
        let record = Record {
            holds: holds.iter().map(hold).collect(),
            waits: vec![1_500_000],
            longest_calm_wait: 0,
            kills: 2,
            kills_of_holders: 1,
            took: Duration::from_millis(2345),
            end: End::Complete,
        };
        Summary::of(protocol, &record)
    }

    #[test]
    fn the_table_is_aligned_and_shows_the_first_overlaps() {
        let kept = summary(Protocol::Family(Kind::Kernel), &[(1, 0, 5), (2, 5, 6)]);
        let broken = summary(Protocol::Naive, &[(1, 0, 50), (2, 5, 6), (3, 7, 8), (4, 9, 10), (5, 11, 12)]);
        let lines = table(&plan(), &[kept, broken]);
        assert_eq!(
            lines,
            [
                "kind    rounds  holds             kills  overlaps  longest     p50     p99   took  verdict",
                "kernel   4 x 2      2  2 (1 of holders)         0   1.5 ms  1.5 ms  1.5 ms  2.3 s  no overlap",
                "naive    4 x 2      5  2 (1 of holders)         4   1.5 ms  1.5 ms  1.5 ms  2.3 s  overlaps, as expected",
                "naive: pid 1 held from 0 until it was killed at 50, and pid 2 held from 5 until it was killed at 6 (ns)",
                "naive: pid 1 held from 0 until it was killed at 50, and pid 3 held from 7 until it was killed at 8 (ns)",
                "naive: pid 1 held from 0 until it was killed at 50, and pid 4 held from 9 until it was killed at 10 (ns)",
                "naive: and 1 more",
            ]
        );
    }

    #[test]
    fn the_object_says_the_same_in_nanoseconds() {
        let object = object(
            &plan(),
            &summary(Protocol::Family(Kind::Kernel), &[(1, 0, 5), (2, 4, 6)]),
            Some(Path::new("/tmp/x")),
        );
        assert_eq!(
            (&object["schema"], &object["verdict"], &object["peers"]),
            (&json!(1), &json!("overlapped"), &json!(2))
        );
        assert_eq!(object["directory"], "/tmp/x");
        assert_eq!((&object["took_ns"], &object["p99_wait_ns"]), (&json!(2_345_000_000_u64), &json!(1_500_000)));
        assert_eq!(
            object["first_overlaps"][0]["later"],
            json!({"pid": 2, "from_ns": 4, "until_ns": 6, "killed": true})
        );
    }

    #[test]
    fn times_have_three_digits() {
        let said: Vec<_> = [999, 12_000, 1_250_000, 123_456_789, 61_000_000_000, 123_000_000_000]
            .map(|nanoseconds| in_words(Duration::from_nanos(nanoseconds)))
            .into();
        assert_eq!(said, ["0 us", "12 us", "1.2 ms", "123 ms", "61.0 s", "123 s"]);
    }
}
