//! A wake is kept from the moment its number is printed until it is acknowledged, whatever dies, tears or fills up in
//! between (group Q of the faults).

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::{Seek, SeekFrom, Write};
use std::time::Duration;

use rustix::process::Signal;
use serde_json::{Value, json};

use crate::support::home::finish;
use crate::support::namespace::Namespace;
use crate::support::strace::{calls_in, killed_at, recorded, requires_strace, traced};
#[cfg(feature = "sync-points")]
use crate::support::sync::without;
use crate::support::wakes::Shown;
use crate::support::{Background, SOON, Skip, TestHome, requires, wait_until, wait_until_true};

cases! {
    a_line_of_drain_has_five_fields_and_the_newest_content_at_the_first_place,
    what_is_shown_stays_until_it_is_acknowledged,
    an_acknowledgement_of_what_was_never_issued_is_refused_and_changes_nothing,
    numbers_are_never_used_twice,
    control_characters_never_reach_a_terminal_or_another_field,
    a_producer_killed_at_any_call_leaves_its_wake_whole_or_absent,
    killed_producers_side_by_side_lose_nothing_and_keep_their_order,
    #[cfg(feature = "sync-points")]
    without_its_lock_the_journal_gives_numbers_out_twice,
    a_drainer_killed_at_any_call_has_acknowledged_only_what_it_printed,
    an_acknowledger_killed_at_any_call_leaves_the_old_number_or_the_new,
    an_acknowledgement_that_cannot_be_believed_is_told_and_everything_is_shown_again,
    a_torn_tail_costs_only_itself_at_any_length,
    a_tail_of_zeros_costs_only_itself,
    #[cfg(feature = "sync-points")]
    without_its_rule_a_torn_tail_swallows_the_next_wake,
    a_flipped_bit_costs_only_its_own_wake_and_is_told,
    #[cfg(feature = "sync-points")]
    without_its_seal_a_flipped_bit_is_taken_for_the_truth,
    a_flood_of_garbage_is_passed_over_in_bounded_memory,
    a_failed_sync_is_never_trusted,
    #[cfg(feature = "sync-points")]
    without_its_rule_a_failed_sync_is_tried_again_and_trusted,
    a_number_is_printed_only_after_the_sync,
    #[cfg(feature = "sync-points")]
    without_its_sync_a_number_is_printed_for_what_is_not_on_disk,
    a_full_disk_refuses_new_wakes_and_keeps_the_old_ones,
    a_size_limit_at_any_byte_leaves_no_half_wake,
    an_interrupted_or_refused_write_is_whole_or_fails,
    two_drainers_at_once_lose_nothing,
    a_writer_that_holds_the_journal_for_long_is_named,
    an_old_holder_that_resumes_after_a_takeover_announces_nothing,
    #[cfg(feature = "sync-points")]
    without_eviction_an_old_holder_still_writes_to_its_own_generation_only,
    a_record_of_a_newer_version_is_kept_and_shown,
    #[cfg(feature = "sync-points")]
    a_compaction_killed_at_any_step_loses_nothing_and_brings_nothing_back,
    a_full_journal_refuses_and_works_again_after_an_acknowledgement,
    a_journal_that_was_full_has_room_again_while_the_watcher_runs,
    what_was_shown_and_not_acknowledged_wakes_a_waiter_again,
    every_waiter_is_told_and_none_twice_of_the_same,
}

fn a_line_of_drain_has_five_fields_and_the_newest_content_at_the_first_place() {
    let home = TestHome::new();
    assert!(home.drain().is_empty(), "a home without a journal has no wakes");
    let first = home.wake("custom", "a", "old");
    let second = home.wake("custom", "b", "only");
    let third = home.wake("check", "a", "another kind");
    let fourth = home.wake("custom", "a", "new");
    assert_eq!((second - first, third - second, fourth - third), (1, 1, 1));
    let shown = home.drain();
    let fields: Vec<_> = shown.iter().map(|line| (line.kind.as_str(), line.key.as_str(), line.text.as_str())).collect();
    let expected =
        [("custom", "a", "custom: a: new"), ("custom", "b", "custom: b: only"), ("check", "a", "check: another kind")];
    assert_eq!(fields, expected);
    assert_eq!(shown[0].seq, fourth, "to acknowledge what is shown first is to acknowledge its newest content");
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs();
    assert!(shown.iter().all(|line| now - line.epoch < 60), "{shown:?}");
    let json = home.drain_json();
    let of_json: Vec<_> = json.iter().map(|wake| wake["seq"].as_u64().unwrap()).collect();
    assert_eq!(of_json, shown.iter().map(|line| line.seq).collect::<Vec<_>>());
}

/// The reason line of a wake that a script added.
fn reason(key: &str, text: &str) -> String {
    format!("custom: {key}: {text}")
}

fn what_is_shown_stays_until_it_is_acknowledged() {
    let home = TestHome::new();
    let seqs: Vec<_> = ["a", "b", "c"].iter().map(|key| home.wake("custom", key, "text")).collect();
    for _ in 0..3 {
        assert_eq!(home.pending_keys(), ["a", "b", "c"], "to present is not to consume");
    }
    home.ack(seqs[0]);
    assert_eq!(home.pending_keys(), ["b", "c"]);
    home.ack(seqs[0]);
    home.ack(0);
    assert_eq!(home.pending_keys(), ["b", "c"], "an old acknowledgement takes nothing back");
    home.wake("custom", "d", "later");
    home.ack(seqs[2]);
    assert_eq!(home.pending_keys(), ["d"], "only what is up to the number is retired");
    let consumed = home.ask(&["drain", "--consume"]).expect_code(0);
    assert_eq!(consumed.lines().len(), 1);
    assert_eq!(home.pending_keys(), [""; 0]);
    assert_eq!(home.ask(&["drain", "--consume"]).expect_code(0).stdout, "");
}

fn an_acknowledgement_of_what_was_never_issued_is_refused_and_changes_nothing() {
    let home = TestHome::new();
    let refused = home.ask(&["ack", "1"]);
    assert_eq!(refused.code, Some(1), "{refused:?}");
    let last = home.wake("custom", "a", "text");
    for beyond in [last + 1, u64::MAX] {
        let answer = home.ask(&["ack", &beyond.to_string()]).expect_code(1);
        assert!(answer.stderr.contains(&beyond.to_string()) && answer.stderr.contains(&last.to_string()), "{answer:?}");
        assert_eq!(answer.stderr.lines().count(), 1, "{answer:?}");
    }
    home.ask(&["ack", "one"]).expect_code(2);
    home.ask(&["ack", "-1"]).expect_code(2);
    assert_eq!(home.pending_keys(), ["a"]);
}

fn numbers_are_never_used_twice() {
    let home = TestHome::new();
    let mut issued = Vec::new();
    for round in 0..3 {
        issued.push(home.wake("custom", "a", "text"));
        home.ask(&["drain", "--consume"]).expect_code(0);
        let watcher = home.watcher();
        home.write_status(&format!("task-{round}"), "done\n");
        let wake = home.wait_for_wake("signal", &format!("task-{round}.status"));
        issued.push(wake["seq"].as_u64().unwrap());
        home.ack(*issued.last().unwrap());
        watcher.signal(Signal::TERM);
        watcher.finish(SOON).expect_code(0);
    }
    assert!(issued.is_sorted_by(|earlier, later| earlier < later), "{issued:?}");
}

fn control_characters_never_reach_a_terminal_or_another_field() {
    let home = TestHome::new();
    let hostile = "red\x1b[31m\x07 tab\there\nnext\rline \u{9b}c1 \u{202e}turned \u{0}".replace('\0', "");
    home.wake("custom", &hostile, &hostile);
    let _watcher = home.watcher();
    home.put_status("loud", "\x1b]0;title\x07\x1b[2J done\n");
    wait_until_true(SOON, "both wakes are pending", || home.status()["wakes_pending"].as_u64() >= Some(2));
    for arguments in [&["wait", "--timeout", "20s"][..], &["drain"], &["drain", "--json"], &["status"], &["guard"]] {
        let answer = home.ask(arguments).expect_code(0);
        for (stream, text) in [("stdout", &answer.stdout), ("stderr", &answer.stderr)] {
            let raw = text.chars().find(|&c| c.is_control() && c != '\n' && c != '\t' || c == '\u{202e}');
            assert_eq!(raw, None, "{arguments:?} prints it raw on {stream}: {text:?}");
        }
    }
    assert_eq!(home.drain().len(), 2, "each wake is one line of five fields");
    let context = home.wait_for_wake("signal", "loud.status")["context"].as_str().unwrap().to_owned();
    assert_eq!(context, "\x1b]0;title\x07\x1b[2J done\n", "JSON carries it unchanged, escaped as JSON has it");
}

/// The system calls that a command makes once it looks at the home, as `(name, number of that name)`.
fn calls_of(home: &TestHome, arguments: &[&str]) -> Vec<(String, usize)> {
    finish(recorded(home, "all", arguments)).expect_code(0);
    let mut counts: BTreeMap<String, usize> = BTreeMap::new();
    let root = home.root().to_str().unwrap().to_owned();
    let mut is_at_home = false;
    let mut calls = Vec::new();
    for (_, name, line) in calls_in(home) {
        let count = counts.entry(name.clone()).or_default();
        *count += 1;
        is_at_home |= name != "execve" && line.contains(&root);
        if is_at_home && name != "exit_group" {
            calls.push((name, *count));
        }
    }
    assert!(calls.len() > 10, "too few calls were seen: {calls:?}");
    calls
}

/// Q01.
fn a_producer_killed_at_any_call_leaves_its_wake_whole_or_absent() -> Result<(), Skip> {
    let home = TestHome::new();
    requires_strace(&home)?;
    // The first one makes the directories, the others find them; both ways are swept.
    let fresh = TestHome::new();
    let first = calls_of(&fresh, &["wake", "custom", "key", "text"]);
    home.wake("custom", "before", "text");
    let later = calls_of(&home, &["wake", "custom", "recorded", "text"]);

    for (name, number) in &first {
        let fresh = TestHome::new();
        let answer = finish(killed_at(&fresh, name, *number, &["wake", "custom", "killed", "text"]));
        fresh.wake("custom", "after", "text");
        assert_whole_or_absent(&fresh, &format!("{name} {number}"), "killed", !answer.stdout.is_empty());
        assert!(fresh.pending_keys().contains(&"after".to_owned()));
    }

    let mut promised = vec!["before".to_owned(), "recorded".to_owned()];
    for (index, (name, number)) in later.iter().enumerate() {
        let key = format!("killed-{index}");
        let answer = finish(killed_at(&home, name, *number, &["wake", "custom", &key, "text"]));
        if !answer.stdout.is_empty() {
            promised.push(key.clone());
        }
        let after = format!("after-{index}");
        home.wake("custom", &after, "text");
        promised.push(after);
    }
    let shown = home.drain();
    assert!(shown.iter().all(|line| line.text == reason(&line.key, "text") && line.kind == "custom"), "{shown:?}");
    let keys: BTreeSet<_> = shown.iter().map(|line| line.key.clone()).collect();
    let lost: Vec<_> = promised.iter().filter(|key| !keys.contains(*key)).collect();
    assert!(lost.is_empty(), "{lost:?} had a number and are gone");
    assert!(shown.is_sorted_by(|earlier, later| earlier.seq < later.seq), "{shown:?}");
    assert!(keys.iter().any(|key| key.starts_with("killed-")), "some kills came late enough");
    assert!((0..later.len()).any(|index| !keys.contains(&format!("killed-{index}"))), "some kills came early enough");
    Ok(())
}

fn assert_whole_or_absent(home: &TestHome, when: &str, key: &str, was_promised: bool) {
    let shown = home.drain();
    match shown.iter().find(|line| line.key == key) {
        Some(line) => assert_eq!(
            (line.kind.as_str(), line.text.as_str()),
            ("custom", reason(key, "text").as_str()),
            "killed at {when}"
        ),
        None => assert!(!was_promised, "killed at {when}: the number was printed, the wake is gone"),
    }
}

/// What several producers were promised: number and key, in the order of each.
fn produce_side_by_side(
    home: &TestHome,
    producers: usize,
    each: usize,
    kill_every: usize,
    bare: &str,
) -> Vec<Vec<(u64, String)>> {
    std::thread::scope(|scope| {
        let threads: Vec<_> = (0..producers)
            .map(|producer| scope.spawn(move || produce(home, producer, each, kill_every, bare)))
            .collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    })
}

fn produce(home: &TestHome, producer: usize, each: usize, kill_every: usize, bare: &str) -> Vec<(u64, String)> {
    let mut promised = Vec::new();
    for number in 0..each {
        let key = format!("p{producer}-{number:04}");
        let mut command = home.command(&["wake", "custom", &key, "text"]);
        if !bare.is_empty() {
            command.env("FM_WATCH_WITHOUT", bare);
        }
        let child = Background::spawn(command);
        if kill_every > 0 && number % kill_every == 0 {
            // Killed wherever it happens to be: a little later each time.
            let patience = Duration::from_micros(500 * ((number * 7 + producer * 3) % 20) as u64);
            let mut child = child;
            if fm_watch::base::wait_until::wait_until(patience, patience / 4, || child.ended()).is_none() {
                child.signal(Signal::KILL);
            }
            let answer = child.finish(SOON);
            if let Ok(seq) = answer.stdout.trim().parse() {
                promised.push((seq, key));
            }
            continue;
        }
        let answer = child.finish(SOON);
        match answer.stdout.trim().parse() {
            Ok(seq) => promised.push((seq, key)),
            // Without the lock, two may also make the same segment, and one of them fails.
            Err(_) if !bare.is_empty() => {}
            // Too many others at once is a typed refusal, not a loss.
            Err(_) => assert!(answer.code == Some(1) && answer.stderr.contains("try again"), "{answer:?}"),
        }
    }
    promised
}

/// Q02, in short.
fn killed_producers_side_by_side_lose_nothing_and_keep_their_order() {
    let home = TestHome::new();
    let promised = produce_side_by_side(&home, 8, 40, 3, "");
    let shown = home.drain();
    let by_key: BTreeMap<_, _> = shown.iter().map(|line| (line.key.as_str(), line.seq)).collect();
    for of_one in &promised {
        assert!(of_one.is_sorted_by(|earlier, later| earlier.0 < later.0), "the order of one producer: {of_one:?}");
        for (seq, key) in of_one {
            assert_eq!(by_key.get(key.as_str()), Some(seq), "{key} was promised under {seq}");
        }
    }
    let mut seqs: Vec<_> = promised.iter().flatten().map(|(seq, _)| *seq).collect();
    let count = seqs.len();
    assert!(count >= 8 * 40 / 2, "only {count} were promised at all");
    seqs.sort_unstable();
    seqs.dedup();
    assert_eq!(seqs.len(), count, "a number was given out twice");
}

#[cfg(feature = "sync-points")]
fn without_its_lock_the_journal_gives_numbers_out_twice() {
    let is_doubled = |home: &TestHome| {
        let promised = produce_side_by_side(home, 8, 15, 0, "JournalLock");
        let seqs: Vec<_> = promised.iter().flatten().map(|(seq, _)| *seq).collect();
        let distinct: BTreeSet<_> = seqs.iter().copied().collect();
        distinct.len() < seqs.len()
    };
    assert!((0..10).any(|_| is_doubled(&TestHome::new())), "the lock is what keeps the numbers apart");
}

/// Q03: `drain --consume`.
fn a_drainer_killed_at_any_call_has_acknowledged_only_what_it_printed() -> Result<(), Skip> {
    let home = TestHome::new();
    requires_strace(&home)?;
    let fill = |round: usize| {
        for key in ["a", "b", "c"] {
            home.wake("custom", key, &format!("text of round {round}"));
        }
    };
    fill(0);
    let calls = calls_of(&home, &["drain", "--consume"]);
    assert!(home.drain().is_empty());
    let (mut kept, mut consumed) = (0, 0);
    for (round, (name, number)) in calls.iter().enumerate() {
        fill(round);
        let answer = finish(killed_at(&home, name, *number, &["drain", "--consume"]));
        let left = home.drain();
        let printed: Vec<_> = answer.stdout.lines().map(Shown::parse).map(|line| line.key).collect();
        if left.is_empty() {
            consumed += 1;
            assert_eq!(printed, ["a", "b", "c"], "killed at {name} {number}: consumed and not printed");
        } else {
            kept += 1;
            let expected = format!("text of round {round}");
            let keys: Vec<_> = left.iter().map(|line| line.key.as_str()).collect();
            assert_eq!(keys, ["a", "b", "c"], "killed at {name} {number}");
            assert!(
                left.iter().all(|line| line.text == reason(&line.key, &expected)),
                "killed at {name} {number}: {left:?}"
            );
            home.ask(&["drain", "--consume"]).expect_code(0);
        }
        assert!(home.drain().is_empty(), "after the kill at {name} {number} it works as ever");
    }
    assert!(kept > 0 && consumed > 0, "{kept} kills before the acknowledgement, {consumed} after it");
    Ok(())
}

/// Q03 and Q24: `ack`, which is one atomic replacement of one file.
fn an_acknowledger_killed_at_any_call_leaves_the_old_number_or_the_new() -> Result<(), Skip> {
    let home = TestHome::new();
    requires_strace(&home)?;
    let mut last = home.wake("custom", "first", "text");
    let calls = calls_of(&home, &["ack", &last.to_string()]);
    let (mut old, mut new) = (0, 0);
    for (name, number) in &calls {
        let before = last;
        last = home.wake("custom", "next", "text");
        finish(killed_at(&home, name, *number, &["ack", &last.to_string()]));
        let content = fs::read(home.watch("wakes/acknowledged.json")).unwrap();
        let content: Value = serde_json::from_slice(&content).unwrap_or_else(|error| {
            panic!(
                "killed at {name} {number}: neither old nor new but {error}: {:?}",
                String::from_utf8_lossy(&content)
            )
        });
        match content["through"].as_u64() {
            Some(through) if through == before => {
                old += 1;
                assert_eq!(home.pending_keys(), ["next"], "killed at {name} {number}");
            }
            Some(through) if through == last => {
                new += 1;
                assert_eq!(home.pending_keys(), [""; 0], "killed at {name} {number}");
            }
            _ => panic!("killed at {name} {number}: {content}"),
        }
        home.ack(last);
        assert_eq!(home.pending_keys(), [""; 0]);
    }
    assert!(old > 0 && new > 0, "{old} kills before the replacement, {new} after it");
    Ok(())
}

/// Q04.
fn an_acknowledgement_that_cannot_be_believed_is_told_and_everything_is_shown_again() {
    let home = TestHome::new();
    let seqs: Vec<_> = ["a", "b", "c"].iter().map(|key| home.wake("custom", key, "text")).collect();
    let path = home.watch("wakes/acknowledged.json");
    home.ack(seqs[0]);
    let older = fs::read(&path).unwrap();
    home.ack(seqs[1]);
    let good = fs::read(&path).unwrap();
    assert_eq!(home.pending_keys(), ["c"]);

    let torn = good[..good.len() / 2].to_vec();
    let zeros = vec![0; good.len()];
    let mut flipped = good.clone();
    let place = flipped.iter().position(u8::is_ascii_digit).unwrap();
    flipped[place] ^= 1;
    for (what, damaged) in [("torn", torn), ("empty", Vec::new()), ("zeros", zeros), ("flipped", flipped)] {
        fs::write(&path, &damaged).unwrap();
        let answer = home.ask(&["drain"]).expect_code(0);
        let keys: Vec<_> = answer.stdout.lines().map(|line| Shown::parse(line).key).collect();
        assert_eq!(keys, ["a", "b", "c"], "{what}: nothing that is still there may be hidden");
        assert!(answer.stderr.contains("acknowledged.json"), "{what}: nobody says so: {answer:?}");
    }
    // What is whole but too old is believed as far as it goes.
    fs::write(&path, &older).unwrap();
    assert_eq!(home.pending_keys(), ["b", "c"]);
    // What is whole but newer than the journal came from elsewhere.
    home.ack(seqs[2]);
    let newest = fs::read(&path).unwrap();
    let other = TestHome::new();
    other.wake("custom", "kept", "text");
    fs::write(other.watch("wakes/acknowledged.json"), &newest).unwrap();
    let answer = other.ask(&["drain"]).expect_code(0);
    assert!(answer.stdout.contains("kept") && answer.stderr.contains("acknowledged.json"), "{answer:?}");
    let next = other.wake("custom", "later", "text");
    assert!(next > seqs[2], "numbers that may have been issued are not issued again");
    assert_eq!(other.pending_keys(), ["kept", "later"]);
    other.ack(next);
    let answer = other.ask(&["drain"]).expect_code(0);
    assert_eq!((answer.stdout.as_str(), answer.stderr.as_str()), ("", ""), "all is mended");
}

/// Three wakes, the journal's bytes, and where each line begins.
struct Journal {
    home: TestHome,
    segment: std::path::PathBuf,
    bytes: Vec<u8>,
    starts: Vec<usize>,
    last: u64,
}

impl Journal {
    fn with_three() -> Self {
        let home = TestHome::new();
        let last = ["a", "b", "c"].map(|key| home.wake("custom", key, "text of a wake"))[2];
        let segment = home.only_segment();
        let bytes = fs::read(&segment).unwrap();
        let mut starts = vec![0];
        starts.extend(bytes.iter().enumerate().filter(|(_, byte)| **byte == b'\n').map(|(place, _)| place + 1));
        assert_eq!(starts.pop(), Some(bytes.len()));
        assert_eq!(starts.len(), 3);
        Self { home, segment, bytes, starts, last }
    }

    /// Puts other bytes in the place of the segment, and nothing else beside it.
    fn put(&self, bytes: &[u8]) {
        for segment in self.home.segments() {
            fs::remove_file(segment).unwrap();
        }
        fs::write(&self.segment, bytes).unwrap();
    }
}

/// Q05.
fn a_torn_tail_costs_only_itself_at_any_length() {
    let journal = Journal::with_three();
    let home = &journal.home;
    let last_line = journal.starts[2]..journal.bytes.len() - 1;
    // Each cut is tried on the parser elsewhere; here some go through the whole program.
    let cuts = last_line.clone().filter(|cut| (cut - last_line.start) % 17 == 1 || *cut >= last_line.end - 2);
    for cut in cuts {
        journal.put(&journal.bytes[..cut]);
        let answer = home.ask(&["drain"]).expect_code(0);
        let keys: Vec<_> = answer.stdout.lines().map(|line| Shown::parse(line).key).collect();
        assert_eq!(keys, ["a", "b"], "cut at {cut}");
        let next = home.wake("custom", "d", "after the tear");
        assert!(next > journal.last, "cut at {cut}: number {next} may have been seen by somebody");
        assert_eq!(home.pending_keys(), ["a", "b", "d"], "cut at {cut}");
        let torn = fs::read(&journal.segment).unwrap();
        assert!(torn.starts_with(&journal.bytes[..cut]), "nothing is cut or rewritten");
    }
}

/// Q06.
fn a_tail_of_zeros_costs_only_itself() {
    let journal = Journal::with_three();
    let home = &journal.home;
    for length in [1, 2, 63, 511, 4095, 4096] {
        let mut bytes = journal.bytes[..journal.starts[2]].to_vec();
        bytes.resize(bytes.len() + length, 0);
        journal.put(&bytes);
        assert_eq!(home.pending_keys(), ["a", "b"], "{length} zeros");
        let next = home.wake("custom", "d", "after the zeros");
        assert!(next >= journal.last, "{length} zeros: {next}");
        assert_eq!(home.pending_keys(), ["a", "b", "d"], "{length} zeros");
        let _watcher = home.watcher();
        home.write_status(&format!("after-{length}"), "done\n");
        home.wait_for_wake("signal", &format!("after-{length}.status"));
        fs::remove_file(home.state().join(format!("after-{length}.status"))).unwrap();
    }
}

#[cfg(feature = "sync-points")]
fn without_its_rule_a_torn_tail_swallows_the_next_wake() {
    let journal = Journal::with_three();
    let home = &journal.home;
    journal.put(&journal.bytes[..journal.bytes.len() - 20]);
    let mut command = home.command(&["wake", "custom", "d", "glued to the tear"]);
    without(&mut command, &["JournalTornTailClosesSegment"]);
    finish(command).expect_code(0);
    let whole = |home: &TestHome| home.segments().len() > 1;
    assert!(!whole(home), "the rule is what opens another segment");
}

/// Q07.
fn a_flipped_bit_costs_only_its_own_wake_and_is_told() {
    let journal = Journal::with_three();
    let home = &journal.home;
    let middle = journal.starts[1]..journal.starts[2];
    for (round, place) in middle.clone().enumerate() {
        let mut bytes = journal.bytes.clone();
        bytes[place] ^= 1 << (round % 8);
        journal.put(&bytes);
        let answer = home.ask(&["drain"]).expect_code(0);
        let shown: Vec<_> = answer.stdout.lines().map(Shown::parse).collect();
        let keys: Vec<_> = shown.iter().map(|line| line.key.as_str()).collect();
        // A line end is no part of the wake.
        let is_line_end = place == middle.end - 1;
        assert!(keys == ["a", "c"] || is_line_end && keys == ["a", "b", "c"], "flipped at {place}: {shown:?}");
        assert!(
            shown.iter().all(|line| line.text == reason(&line.key, "text of a wake")),
            "flipped at {place}: {shown:?}"
        );
        assert!(answer.stderr.contains(".log"), "flipped at {place}: nobody says so: {answer:?}");
        assert_eq!(fs::read(&journal.segment).unwrap(), bytes, "what is damaged is kept for people");
    }
}

#[cfg(feature = "sync-points")]
fn without_its_seal_a_flipped_bit_is_taken_for_the_truth() {
    let journal = Journal::with_three();
    let mut bytes = journal.bytes.clone();
    let line = String::from_utf8(bytes[journal.starts[1]..journal.starts[2]].to_vec()).unwrap();
    let place = journal.starts[1] + line.find("text of a wake").unwrap();
    bytes[place] ^= 1;
    journal.put(&bytes);
    let mut command = journal.home.command(&["drain"]);
    without(&mut command, &["JournalCrc"]);
    let answer = finish(command).expect_code(0);
    assert!(answer.stdout.contains("uext of a wake"), "the seal is what finds it: {answer:?}");
}

/// Q08: nothing in the journal says how long something is, so the flood is what stands for a lying length.
fn a_flood_of_garbage_is_passed_over_in_bounded_memory() -> Result<(), Skip> {
    const FLOOD: u64 = 96 << 20;
    requires("prlimit")?;
    let journal = Journal::with_three();
    let home = &journal.home;
    journal.put(&journal.bytes[..journal.starts[2]]);
    let mut file = fs::OpenOptions::new().write(true).open(&journal.segment).unwrap();
    file.seek(SeekFrom::Start(journal.starts[2] as u64 + FLOOD)).unwrap();
    file.write_all(b"\n").unwrap();
    file.write_all(&journal.bytes[journal.starts[2]..]).unwrap();
    drop(file);
    let mut command = home.bare("prlimit");
    command.arg(format!("--data={}", FLOOD / 3)).arg(*crate::support::home::PROGRAM);
    command.args(home.flags()).args(["drain"]);
    let answer = finish(command).expect_code(0);
    let keys: Vec<_> = answer.stdout.lines().map(|line| Shown::parse(line).key).collect();
    assert_eq!(keys, ["a", "b", "c"]);
    assert!(answer.stderr.contains(".log"), "{answer:?}");
    Ok(())
}

/// The program with syncs of data that fail from the n-th on, or only the n-th.
fn with_failing_sync(home: &TestHome, when: &str, arguments: &[&str]) -> std::process::Command {
    traced(home, &["trace=fdatasync", &format!("inject=fdatasync:error=EIO:when={when}")], arguments)
}

/// Q10.
fn a_failed_sync_is_never_trusted() -> Result<(), Skip> {
    let home = TestHome::new();
    requires_strace(&home)?;
    home.wake("custom", "before", "text");
    let suspect = home.only_segment();

    let answer = finish(with_failing_sync(&home, "1", &["wake", "custom", "once", "text"])).expect_code(0);
    let after_one = fs::read(&suspect).unwrap();
    assert_eq!(home.segments().len(), 2, "the batch went to a new segment");
    let seq: u64 = answer.stdout.trim().parse().unwrap();
    let shown = home.drain();
    assert_eq!(shown.iter().filter(|line| line.key == "once").map(|line| line.seq).collect::<Vec<_>>(), [seq]);
    let second = fs::read_to_string(&home.segments()[1]).unwrap();
    assert!(second.contains("once"), "what was promised is where the sync succeeded");

    let answer = finish(with_failing_sync(&home, "1+", &["wake", "custom", "never", "text"])).expect_code(1);
    assert_eq!(answer.stdout, "", "no number for what nobody can vouch for");
    assert_eq!(answer.stderr.lines().count(), 1, "{answer:?}");
    assert!(answer.stderr.contains("Input/output error"), "{answer:?}");
    assert_eq!(fs::read(&suspect).unwrap(), after_one, "the suspect segment is not written to again");

    home.wake("custom", "after", "text");
    let keys = home.pending_keys();
    assert!(["before", "once", "after"].iter().all(|key| keys.contains(&(*key).to_owned())), "{keys:?}");
    Ok(())
}

#[cfg(feature = "sync-points")]
fn without_its_rule_a_failed_sync_is_tried_again_and_trusted() -> Result<(), Skip> {
    let home = TestHome::new();
    requires_strace(&home)?;
    home.wake("custom", "before", "text");
    let mut command = with_failing_sync(&home, "1", &["wake", "custom", "once", "text"]);
    without(&mut command, &["JournalNewSegmentAfterFailedSync"]);
    finish(command).expect_code(0);
    assert_eq!(home.segments().len(), 1, "the rule is what leaves the suspect segment");
    Ok(())
}

/// The calls of `wake` that matter: the line's write, its sync, the print of its number.
fn order_of_promise(home: &TestHome, without_protections: &str) -> Vec<&'static str> {
    let mut command = recorded(home, "write,fdatasync,fsync", &["wake", "custom", "key", "text"]);
    if !without_protections.is_empty() {
        command.env("FM_WATCH_WITHOUT", without_protections);
    }
    let seq = finish(command).expect_code(0).stdout;
    let number = format!("write(1, \"{}\\n\"", seq.trim());
    let step = |(_, name, line): (u32, String, String)| match name.as_str() {
        "write" if line.contains("{\\\"seq\\\":") => Some("append"),
        "write" if line.contains(&number) => Some("answer"),
        "fdatasync" => Some("sync"),
        "fsync" => Some("sync of names"),
        _ => None,
    };
    calls_in(home).into_iter().filter_map(step).collect()
}

fn a_number_is_printed_only_after_the_sync() -> Result<(), Skip> {
    let home = TestHome::new();
    requires_strace(&home)?;
    let order = order_of_promise(&home, "");
    let place = |step: &str| order.iter().rposition(|other| *other == step);
    assert!(place("append") < place("sync") && place("sync") < place("answer"), "{order:?}");
    assert!(place("append").is_some() && place("sync of names") < place("answer"), "{order:?}");
    assert!(place("sync of names").is_some(), "a new segment's name is made durable too: {order:?}");
    Ok(())
}

#[cfg(feature = "sync-points")]
fn without_its_sync_a_number_is_printed_for_what_is_not_on_disk() -> Result<(), Skip> {
    let home = TestHome::new();
    requires_strace(&home)?;
    home.wake("custom", "before", "text");
    let order = order_of_promise(&home, "JournalSyncBeforeAnswer,JournalSyncDirectory");
    assert_eq!(order, ["append", "answer"], "these protections are what puts the sync between");
    Ok(())
}

/// Q11.
fn a_full_disk_refuses_new_wakes_and_keeps_the_old_ones() -> Result<(), Skip> {
    let home = TestHome::new();
    home.make_state();
    Namespace::Mounts.required(&home)?;
    let script = r#"
        mount -t tmpfs -o size=128k,mode=700 tmpfs "$STATE"
        text=$(printf 'x%.0s' {1..700})
        promised=0
        fm wake custom first "$text" > /dev/null
        dd if=/dev/zero of="$STATE/filler" bs=1 count=0 seek=0 2>/dev/null
        # Room for some more, page by page, so that the limit is met within a line.
        dd if=/dev/zero of="$STATE/filler" bs=4k count=20 2>/dev/null
        refused=0
        for number in {1..60}; do
            if fm wake custom "key-$number" "$text" > "$SCRATCH/out" 2> "$SCRATCH/err"; then
                [ $refused -eq 0 ] || { echo 'it worked again without room'; exit 1; }
                promised=$number
            else
                [ $? -eq 1 ] && [ ! -s "$SCRATCH/out" ] && [ "$(wc -l < "$SCRATCH/err")" -eq 1 ]
                grep -q 'No space left' "$SCRATCH/err"
                refused=$((refused + 1))
                [ $refused -lt 5 ] || break
            fi
        done
        [ $refused -ge 5 ] && [ $promised -gt 0 ]
        fm drain > "$SCRATCH/shown"
        for number in $(seq 1 $promised); do grep -q "	key-$number	custom: key-$number: $text\$" "$SCRATCH/shown"; done
        rm "$STATE/filler"
        fm wake custom after "$text" > /dev/null
        fm drain > "$SCRATCH/shown"
        for number in $(seq 1 $promised); do grep -q "	key-$number	custom: key-$number: $text\$" "$SCRATCH/shown"; done
        grep -q "	after	" "$SCRATCH/shown"
        seq=$(tail -n 1 "$SCRATCH/shown" | cut -f 2)
        fm ack "$seq"
        [ -z "$(fm drain)" ]
        "#;
    finish(Namespace::Mounts.script(&home, script)).expect_code(0);
    Ok(())
}

/// Q12: the limit is met at each byte of a line, so its write is short, and then refused.
fn a_size_limit_at_any_byte_leaves_no_half_wake() -> Result<(), Skip> {
    requires("prlimit")?;
    let journal = Journal::with_three();
    let home = &journal.home;
    let line = journal.bytes.len() - journal.starts[2];
    for room in (0..line).step_by(11).chain([line - 1]) {
        journal.put(&journal.bytes);
        let mut command = home.bare("prlimit");
        command.arg(format!("--fsize={}", journal.bytes.len() + room)).arg(*crate::support::home::PROGRAM);
        command.args(home.flags()).args(["wake", "custom", "d", "text of a wake"]);
        let answer = finish(command);
        assert_eq!(answer.code, Some(1), "room for {room} bytes: {answer:?}");
        assert!(answer.stdout.is_empty() && answer.stderr.contains("File too large"), "{answer:?}");
        let keys = home.pending_keys();
        // Where only the line end did not fit, the wake itself is whole: refused, and told all the same.
        let is_whole = room == line - 1;
        assert!(keys == ["a", "b", "c"] || is_whole && keys == ["a", "b", "c", "d"], "room for {room} bytes: {keys:?}");
        home.wake("custom", "after", "text");
        assert_eq!(home.pending_keys(), [&keys[..], &["after".to_owned()]].concat(), "room for {room} bytes");
    }
    Ok(())
}

/// Q12: the other ways in which a write does not do what it was asked.
fn an_interrupted_or_refused_write_is_whole_or_fails() -> Result<(), Skip> {
    let home = TestHome::new();
    requires_strace(&home)?;
    home.wake("custom", "before", "text");
    finish(recorded(&home, "write", &["wake", "custom", "recorded", "text"])).expect_code(0);
    let writes: Vec<_> = calls_in(&home).into_iter().map(|(_, _, line)| line).collect();
    let append = writes.iter().position(|line| line.contains("{\\\"seq\\\":")).unwrap() + 1;
    let wake = |inject: &str, key: &str| {
        let inject = format!("inject=write:{inject}:when={append}");
        finish(traced(&home, &["trace=write", &inject], &["wake", "custom", key, "text"]))
    };
    wake("error=EINTR", "interrupted").expect_code(0);
    for (inject, key, reason) in
        [("error=EDQUOT", "quota", "quota"), ("error=EIO", "broken", "error"), ("retval=0", "nothing", "")]
    {
        let answer = wake(inject, key);
        if answer.code == Some(0) {
            assert!(home.pending_keys().contains(&key.to_owned()), "{inject}: promised and not there");
            continue;
        }
        assert_eq!((answer.code, answer.stdout.as_str()), (Some(1), ""), "{inject}: {answer:?}");
        assert!(answer.stderr.contains(reason) && answer.stderr.lines().count() == 1, "{inject}: {answer:?}");
        assert!(!home.pending_keys().contains(&key.to_owned()), "{inject}: refused and there");
    }
    let keys = home.pending_keys();
    assert!(["before", "recorded", "interrupted"].iter().all(|key| keys.contains(&(*key).to_owned())), "{keys:?}");
    Ok(())
}

/// Q13. Showing takes nothing away, so two may look at once; consuming is one step at a time.
fn two_drainers_at_once_lose_nothing() {
    let home = TestHome::new();
    for round in 0..10 {
        let expected: Vec<_> = (0..5).map(|number| format!("{round}-{number}")).collect();
        for key in &expected {
            home.wake("custom", key, "text");
        }
        let drainers: Vec<_> = (0..3).map(|_| home.spawn(&["drain", "--consume"])).collect();
        let mut printed = BTreeSet::new();
        for drainer in drainers {
            let answer = drainer.finish(SOON).expect_code(0);
            let keys: Vec<_> = answer.stdout.lines().map(|line| Shown::parse(line).key).collect();
            assert!(keys.is_empty() || keys == expected, "round {round}: half of it: {keys:?}");
            printed.extend(keys);
        }
        assert_eq!(printed.into_iter().collect::<Vec<_>>(), expected, "round {round}");
        assert!(home.drain().is_empty());
    }
}

/// Q13: somebody else has the journal's lock.
fn a_writer_that_holds_the_journal_for_long_is_named() {
    let home = TestHome::new();
    let seq = home.wake("custom", "a", "text");
    let lock = fs::OpenOptions::new().write(true).open(home.watch("wakes/lock")).unwrap();
    lock.try_lock().unwrap();
    let refused = home.ask(&["ack", &seq.to_string()]).expect_code(1);
    assert!(refused.stderr.contains("wakes/lock") && refused.stderr.contains("try again"), "{refused:?}");
    assert_eq!((refused.stdout.as_str(), refused.stderr.lines().count()), ("", 1), "{refused:?}");
    // A producer need not wait for anybody: its wake goes where the next watcher finds it.
    let left = home.ask(&["wake", "custom", "b", "text"]).expect_code(0);
    assert!(left.stdout.is_empty() && left.stderr.contains("inbox"), "no number, and it says why: {left:?}");
    assert_eq!(home.pending_keys(), ["a"], "readers need no lock");
    drop(lock);
    home.ack(seq);
    let _watcher = home.watcher();
    home.wait_for_wake("custom", "b");
    assert_eq!(home.pending_keys(), ["b"]);
}

/// Makes another one the recorded holder, as an operator's restore from a copy or a second machine would.
fn take_over(home: &TestHome) -> u64 {
    let mut owner = home.owner().unwrap();
    let generation = owner["generation"].as_u64().unwrap() + 1;
    owner["generation"] = json!(generation);
    owner["nonce"] = json!("f00df00df00df00df00df00df00df00d");
    fs::write(home.watch("generation"), format!("{generation}\n")).unwrap();
    fs::write(home.watch("owner.json"), owner.to_string()).unwrap();
    generation
}

/// Q14.
fn an_old_holder_that_resumes_after_a_takeover_announces_nothing() {
    let home = TestHome::new();
    let old = home.watcher();
    old.signal(Signal::STOP);
    crate::support::background::wait_for_state(old.pid(), "T");
    let generation = take_over(&home);
    let owner = fs::read(home.watch("owner.json")).unwrap();
    home.write_status("task", "done\n");
    old.signal(Signal::CONT);
    let end = old.finish(SOON).expect_code(0);
    assert!(end.stderr.contains(&format!("generation {generation}")), "it says who took over: {end:?}");
    assert_eq!(home.pending_keys(), [""; 0], "it announced nothing");
    assert_eq!(fs::read(home.watch("owner.json")).unwrap(), owner, "it left the survivor's record alone");
    // What it did not announce is not lost: the next one finds it.
    let _next = home.watcher();
    home.wait_for_wake("signal", "task.status");
}

/// Q14: even without the check, what it writes is its own and is delivered.
#[cfg(feature = "sync-points")]
fn without_eviction_an_old_holder_still_writes_to_its_own_generation_only() {
    let home = TestHome::new();
    let mut command = home.command(&["run"]);
    without(&mut command, &["HoldingEviction"]);
    let old = Background::spawn(command);
    home.wait_until_watched_by(old.pid());
    let own = home.owner().unwrap()["generation"].as_u64().unwrap();
    old.signal(Signal::STOP);
    crate::support::background::wait_for_state(old.pid(), "T");
    take_over(&home);
    home.write_status("task", "done\n");
    old.signal(Signal::CONT);
    let wake = home.wait_for_wake("signal", "task.status");
    assert_eq!(wake["generation"], own, "the check is what keeps it from announcing");
    let segment = home.only_segment();
    let name = segment.file_name().unwrap().to_str().unwrap();
    assert!(name.starts_with(&format!("{own:020}-")), "{name}");
}

/// Q22.
fn a_record_of_a_newer_version_is_kept_and_shown() {
    let journal = Journal::with_three();
    let home = &journal.home;
    let seq = journal.last + 1;
    let object = format!(
        r#"{{"seq":{seq},"generation":9,"at":1700000000000,"kind":"tide","key":"moon","text":"rises","height":[1,2],"mark":{{"of":"moon"}},"delivery":"soon","deliverable":{seq}"#
    );
    let sealed = format!("{object},\"crc\":\"{:08x}\"}}\n", crc32fast::hash(object.as_bytes()));
    let mut bytes = journal.bytes.clone();
    bytes.extend_from_slice(sealed.as_bytes());
    journal.put(&bytes);
    let shown = home.drain();
    let newer = shown.last().unwrap();
    assert_eq!(
        (newer.seq, newer.kind.as_str(), newer.key.as_str(), newer.text.as_str()),
        (seq, "tide", "moon", "rises")
    );
    assert_eq!(shown.len(), 4);
    let _watcher = home.watcher();
    home.write_status("task", "done\n");
    home.wait_for_wake("signal", "task.status");
    home.ack(seq);
    assert_eq!(home.pending_keys(), ["task.status"]);
}

/// Q18.
#[cfg(feature = "sync-points")]
fn a_compaction_killed_at_any_step_loses_nothing_and_brings_nothing_back() {
    for point in ["JournalCompactLocked", "JournalCompactSetAside", "JournalCompactRemoved"] {
        let home = TestHome::new();
        let mut last = 0;
        for round in 0..3 {
            let watcher = home.watcher();
            home.put_status(&format!("task-{round}"), "done\n");
            last = home.wait_for_wake("signal", &format!("task-{round}.status"))["seq"].as_u64().unwrap();
            home.ack(last);
            home.kill(watcher.pid());
            drop(watcher);
        }
        // Damage, so that something has to be set aside before its segment may go.
        let damaged = home.segments().remove(0);
        fs::OpenOptions::new().append(true).open(&damaged).unwrap().write_all(b"{\"seq\":9 torn").unwrap();
        let kept = home.wake("custom", "kept", "text");
        assert!(kept > last);
        let before = home.segments().len();
        let mut command = home.command(&["run"]);
        crate::support::sync::kill_at(&mut command, point);
        let watcher = Background::spawn(command);
        // It compacts soon after its start, or else when it leaves.
        let mut watcher = watcher;
        let soon = Duration::from_secs(2);
        if fm_watch::base::wait_until::wait_until(soon, soon / 100, || watcher.ended()).is_none() {
            watcher.signal(Signal::TERM);
        }
        assert_eq!(watcher.finish(SOON).signal, Some(9), "{point} was not reached");

        assert_eq!(home.pending_keys(), ["kept"], "killed at {point}");
        let watcher = home.watcher();
        home.put_status("after", "done\n");
        let after = home.wait_for_wake("signal", "after.status")["seq"].as_u64().unwrap();
        assert!(after > kept, "killed at {point}: numbers are not used twice");
        assert_eq!(home.pending_keys(), ["kept", "after.status"], "killed at {point}");
        home.ack(after);
        watcher.signal(Signal::TERM);
        watcher.finish(SOON).expect_code(0);
        assert!(home.segments().len() < before + 1, "the next one compacts: {:?}", home.segments());
        assert_eq!(home.pending_keys(), [""; 0], "killed at {point}");
    }
}

/// Q15, in small.
fn a_full_journal_refuses_and_works_again_after_an_acknowledgement() {
    let home = TestHome::with(&["journal_max=4KiB"]);
    let text = "x".repeat(500);
    let mut promised = Vec::new();
    let refused = wait_until(SOON, "the journal is full", || {
        let key = format!("key-{}", promised.len());
        let answer = home.ask(&["wake", "custom", &key, &text]);
        if answer.code == Some(0) {
            promised.push(key);
            return None;
        }
        Some(answer)
    });
    assert_eq!((refused.code, refused.stdout.as_str()), (Some(1), ""), "{refused:?}");
    assert!(refused.stderr.contains("full") && refused.stderr.contains("ack"), "it says what to do: {refused:?}");
    assert_eq!(home.pending_keys(), promised, "the oldest are kept");
    home.ask(&["drain", "--consume"]).expect_code(0);
    // Whether a producer or the watcher makes the room, a new wake must find it.
    let _watcher = home.watcher();
    wait_until_true(SOON, "there is room again", || home.ask(&["wake", "custom", "new", &text]).code == Some(0));
    assert_eq!(home.pending_keys(), ["new"]);
}

/// Q15: the watcher that runs makes the room; nobody has to restart it.
fn a_journal_that_was_full_has_room_again_while_the_watcher_runs() {
    let home = TestHome::with(&["journal_max=6MiB"]);
    let _watcher = home.watcher();
    let text = "x".repeat(60_000);
    let mut promised = 0;
    wait_until_true(SOON, "the journal is full", || {
        let answer = home.ask(&["wake", "custom", &format!("key-{promised}"), &text]);
        promised += u32::from(answer.code == Some(0));
        assert!(promised < 200, "nothing is ever full");
        answer.code == Some(1)
    });
    home.ask(&["drain", "--consume"]).expect_code(0);
    // It tidies up once a minute.
    let has_room = || (home.ask(&["wake", "custom", "new", &text]).code == Some(0)).then_some(());
    let found = fm_watch::base::wait_until::wait_until(Duration::from_secs(90), Duration::from_secs(1), has_room);
    assert!(found.is_some(), "waited in vain until there is room again");
    assert_eq!(home.pending_keys(), ["new"]);
}

fn what_was_shown_and_not_acknowledged_wakes_a_waiter_again() {
    let home = TestHome::with(&["redeliver_after=2s"]);
    let _watcher = home.watcher();
    home.wake("custom", "job", "look");
    let first = home.ask(&["wait", "--timeout", "10s"]).expect_code(0);
    assert!(first.stdout.contains("look"), "{first:?}");
    let again = home.ask(&["wait", "--timeout", "20s"]).expect_code(0);
    assert_eq!(again.stdout, first.stdout, "what nobody acknowledged comes back");
    assert!(again.took >= Duration::from_millis(500), "but not at once: {:?}", again.took);
    home.ask(&["drain", "--consume"]).expect_code(0);
    home.ask(&["wait", "--timeout", "3s"]).expect_code(124);
}

fn every_waiter_is_told_and_none_twice_of_the_same() {
    let home = TestHome::new();
    let _watcher = home.watcher();
    let waiters: Vec<_> = (0..4).map(|_| home.spawn(&["wait", "--timeout", "30s"])).collect();
    wait_until_true(SOON, "four waiters are counted", || home.status()["waiters"] == 4);
    home.write_status("task", "done\n");
    for waiter in waiters {
        let answer = waiter.finish(SOON).expect_code(0);
        assert_eq!(answer.lines().len(), 1, "{answer:?}");
        assert!(answer.stdout.starts_with("signal: ") && answer.stdout.contains("task.status"), "{answer:?}");
    }
    wait_until_true(SOON, "no waiter is left", || home.status()["waiters"] == 0);
}
