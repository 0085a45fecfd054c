//! Everything at once: thousands of files change while watchers are killed again and again and a reader acknowledges.
//! Every last content is delivered at least once, and what was acknowledged does not return.
//!
//! The short form takes some seconds; `FM_WATCH_DELIVERY_SECONDS=60` asks for the long one.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::fs;
use std::io::Write;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use rustix::process::Signal;
use serde_json::Value;

use crate::support::{Background, SOON, TestHome, stays_true, wait_until_true};

cases! {
    under_writers_and_kills_every_last_content_is_delivered_and_nothing_acknowledged_returns,
    a_reader_that_acknowledges_what_it_did_not_read_is_seen_to_lose,
}

const WRITERS: usize = 8;
/// How long each watcher lives once it has the home.
const LIFE: Duration = Duration::from_millis(100);

fn duration() -> Duration {
    let seconds = std::env::var("FM_WATCH_DELIVERY_SECONDS").ok().and_then(|text| text.parse().ok());
    Duration::from_secs(seconds.unwrap_or(8))
}

/// Lets time pass between two steps of something that goes on.
fn pace(time: Duration) {
    let nothing: Option<()> = fm_watch::base::wait_until::wait_until(time, time, || None);
    assert!(nothing.is_none());
}

/// One writer: it appends numbered lines to its own files, in an order that looks like chance, until it is told to stop.
/// It gives the last line of each.
fn write_on(files: &[PathBuf], pause: Duration, is_over: &AtomicBool) -> HashMap<PathBuf, String> {
    let mut last = HashMap::new();
    let mut number = 0_usize;
    let mut place = 0;
    while !is_over.load(Ordering::Relaxed) || last.len() < files.len() {
        number += 1;
        // Every file has its turn, and some come again soon.
        place = (if number.is_multiple_of(3) { place * 7 + 3 } else { number }) % files.len();
        let path = &files[place];
        let line = format!("line {number} of {}\n", path.file_name().unwrap().to_str().unwrap());
        let mut file = fs::OpenOptions::new().append(true).create(true).open(path).unwrap();
        file.write_all(line.as_bytes()).unwrap();
        last.insert(path.clone(), line);
        if last.len() == files.len() {
            pace(pause);
        }
    }
    last
}

/// What a reader was told, and whether anything came back.
#[derive(Default)]
struct Told {
    /// Every content that was delivered, by file name.
    contents: BTreeMap<String, HashSet<String>>,
    acknowledged: u64,
    /// The marks of acknowledged announcements.
    marks: HashMap<String, u64>,
    returned: Vec<String>,
    rounds: usize,
}

impl Told {
    /// Reads and acknowledges once. Gives how much there was.
    fn drain(&mut self, home: &TestHome) -> usize {
        let wakes = home.drain_json();
        self.rounds += 1;
        for wake in &wakes {
            self.note(wake);
        }
        let Some(through) = wakes.iter().filter_map(|wake| wake["seq"].as_u64()).max() else { return 0 };
        home.ack(through);
        self.acknowledged = through;
        for wake in &wakes {
            self.marks.insert(wake["mark"].to_string(), wake["seq"].as_u64().unwrap());
        }
        wakes.len()
    }

    fn note(&mut self, wake: &Value) {
        let seq = wake["seq"].as_u64().unwrap();
        if seq <= self.acknowledged {
            self.returned.push(format!("{seq} was acknowledged with {}", self.acknowledged));
        }
        if let Some(before) = self.marks.get(&wake["mark"].to_string()) {
            self.returned.push(format!("{seq} announces what {before} did: {wake}"));
        }
        let key = wake["key"].as_str().unwrap().to_owned();
        let context = wake["context"].as_str().unwrap_or_default();
        self.contents.entry(key).or_default().extend(context.lines().map(|line| format!("{line}\n")));
    }

    /// The files whose last content was not delivered.
    fn lacking(&self, last: &HashMap<PathBuf, String>) -> Vec<String> {
        let name = |path: &PathBuf| path.file_name().unwrap().to_str().unwrap().to_owned();
        let was_told = |path: &PathBuf, line: &String| {
            self.contents.get(&name(path)).is_some_and(|contents| contents.contains(line))
        };
        let mut lacking: Vec<_> =
            last.iter().filter(|(path, line)| !was_told(path, line)).map(|(path, _)| name(path)).collect();
        lacking.sort();
        lacking
    }
}

/// Starts watchers and kills them, until told to stop. Gives how many there were.
fn kill_on(home: &TestHome, is_over: &AtomicBool) -> usize {
    let mut lives = 0;
    while !is_over.load(Ordering::Relaxed) {
        let watcher: Background = home.spawn(&["run"]);
        wait_until_true(SOON, "the watcher has the home", || home.pid() == Some(watcher.pid()));
        // On a busy machine a life may be too short for anything; later ones are longer.
        pace(LIFE * u32::try_from(1 + lives / 8).unwrap());
        watcher.signal(Signal::KILL);
        let end = watcher.finish(SOON);
        assert_eq!((end.signal, end.stdout.as_str(), end.stderr.as_str()), (Some(9), "", ""), "{end:?}");
        lives += 1;
    }
    lives
}

fn under_writers_and_kills_every_last_content_is_delivered_and_nothing_acknowledged_returns() {
    const FILES: usize = 10_000;
    let home = TestHome::with(&["redeliver_after=1h"]);
    home.make_state();
    let names = (0..FILES).map(|number| home.state().join(format!("task-{number:05}.status")));
    let files: Vec<_> = names.collect();
    let is_over = AtomicBool::new(false);
    let is_read_out = AtomicBool::new(false);
    let is_anything_told = AtomicBool::new(false);
    let (last, mut told, lives) = std::thread::scope(|scope| {
        let share = FILES / WRITERS;
        let writers: Vec<_> = files
            .chunks(share)
            .map(|files| scope.spawn(|| write_on(files, Duration::from_millis(4), &is_over)))
            .collect();
        let killer = scope.spawn(|| kill_on(&home, &is_over));
        let reader = scope.spawn(|| {
            let mut told = Told::default();
            while !is_read_out.load(Ordering::Relaxed) {
                told.drain(&home);
                is_anything_told.fetch_or(!told.contents.is_empty(), Ordering::Relaxed);
                pace(Duration::from_millis(20));
            }
            told
        });
        pace(duration());
        // On a busy machine it takes more lives until one is long enough to tell anything.
        let is_told = || is_anything_told.load(Ordering::Relaxed);
        wait_until_true(SOON * 3, "something is told amid the kills", is_told);
        is_over.store(true, Ordering::Relaxed);
        let last: HashMap<_, _> = writers.into_iter().flat_map(|writer| writer.join().unwrap()).collect();
        let lives = killer.join().unwrap();
        is_read_out.store(true, Ordering::Relaxed);
        (last, reader.join().unwrap(), lives)
    });
    assert_eq!(last.len(), FILES);
    let amid_kills = told.contents.len();
    println!("{lives} watchers were killed; {} readings; {amid_kills} files were told of amid the kills", told.rounds);

    // One watcher that may live finds the rest.
    let watcher = home.watcher();
    let start = Instant::now();
    wait_until_true(Duration::from_secs(60), "every last content is delivered", || {
        told.drain(&home);
        told.lacking(&last).is_empty()
    });
    println!("the rest took {:?}", start.elapsed());
    assert!(
        told.returned.is_empty(),
        "{} came back: {:?}",
        told.returned.len(),
        &told.returned[..told.returned.len().min(3)]
    );
    stays_true(Duration::from_secs(1), "nothing more is told", || told.drain(&home) == 0);
    // Nor does a new watcher tell any of it again.
    home.kill(watcher.pid());
    drop(watcher);
    let next = home.watcher();
    home.write_status("probe", "x\n");
    home.wait_for_wake("signal", "probe.status");
    assert_eq!(home.pending_keys(), ["probe.status"]);
    assert!(amid_kills > 0, "no watcher of {lives} got anything done before it was killed");
    drop(next);
}

/// The twin: a reader that retires what it has not read loses contents, and the judgement above sees it.
fn a_reader_that_acknowledges_what_it_did_not_read_is_seen_to_lose() {
    const FILES: usize = 50;
    let home = TestHome::new();
    home.make_state();
    let _watcher = home.watcher();
    let files: Vec<_> = (0..FILES).map(|number| home.state().join(format!("task-{number:05}.status"))).collect();
    let is_over = AtomicBool::new(true);
    let last = write_on(&files, Duration::ZERO, &is_over);
    // A file that was announced before its last line is announced again, so it is the lines that are waited for.
    wait_until_true(SOON, "the last line of each is pending", || {
        let mut pending = Told::default();
        home.drain_json().iter().for_each(|wake| pending.note(wake));
        pending.lacking(&last).is_empty()
    });
    let mut told = Told::default();
    let unread = home.drain().iter().map(|shown| shown.seq).max().unwrap();
    home.ack(unread);
    told.drain(&home);
    assert_eq!(told.lacking(&last).len(), FILES, "the acknowledgement is what hides them");
}
