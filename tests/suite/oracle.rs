//! The peer's own code as the judge of ours: what would filelock do with this marker, and what would we?
//!
//! Records are made up, damaged in many ways, and given to both. There is no list of accepted differences: none is
//! needed. Where a difference were accepted, it would have to be one in which we take less than the peer.

use std::process::{Command, Stdio};

use fm_watch::lock::soft::process_id;
use fm_watch::lock::soft::staleness::{self, Here, Life, Owner, Verdict};
use fm_watch::lock::soft::marker::{Content, Record};
use fm_watch::lock::soft::process_id::{Boot, Start};
use fm_watch::lock::soft::observation;
use fm_watch::system::{Real, World};
use serde_json::json;

use crate::support::background::wait_for_state;
use crate::support::peers::{Filelock, Peer};
use crate::support::{Background, Skip, TestHome};

cases! {
    both_sides_judge_100_000_records_alike,
    a_judge_that_reads_cut_records_is_caught,
    a_judge_that_ignores_the_host_is_caught,
    both_sides_name_hosts_alike,
}

const RECORDS: usize = 100_000;
const BATCH: usize = 2_000;
/// How many records make each side search all processes, which is what takes the time.
const SEARCHED: usize = 200;
/// Where the numbers come from. A failure names the record itself.
const SEED: u64 = 0x05EE_D0FF_11E1_0CCE;

/// Numbers that look random and are the same each time (the generator splitmix64).
struct Dice(u64);

impl Dice {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^ (mixed >> 31)
    }

    fn below(&mut self, end: usize) -> usize {
        usize::try_from(self.next() % end as u64).unwrap()
    }

    fn one_in(&mut self, of: usize) -> bool {
        self.below(of) == 0
    }

    fn pick<'a, T>(&mut self, from: &'a [T]) -> &'a T {
        &from[self.below(from.len())]
    }
}

/// What records are made of: living and dead processes, hosts, starts.
struct Cast {
    here: Here,
    pids: Vec<String>,
    hosts: Vec<String>,
    starts: Vec<String>,
    _alive: Background,
    _zombie: std::process::Child,
}

const LINE_ENDS: [&str; 18] = [
    "\n", "\n", "\n", "\n", "\r\n", "\r", "\n\n", "\n\r", "\u{b}", "\u{c}", "\u{1c}", "\u{1d}", "\u{1e}", "\u{1f}",
    "\u{85}", "\u{2028}", "\u{2029}", "\t",
];

const ODDITIES: [&str; 22] = [
    " ", "\0", "\t", "+", "-", "_", "0", "00", "\u{a0}", "\u{180e}", "\u{200b}", "\u{3000}", "\u{663}", "\u{ff11}",
    "\u{feff}", "filelock/break\n", "filelock/released\n", "\n7\n", "1_000", "?", "1.0", "0x10",
];

const RAW: [&[u8]; 6] = [b"\xff", b"\xc0\x80", b"\xed\xa0\x80", b"\xf4\x90\x80\x80", b"\xc2", b"\xe2\x80"];

impl Cast {
    fn new(home: &TestHome, peer: &Peer) -> Self {
        let mut sleeper = home.bare("sleep");
        sleeper.arg("1000");
        let alive = Background::spawn(sleeper);
        let zombie = Command::new("true").stdin(Stdio::null()).spawn().unwrap();
        wait_for_state(zombie.id(), "Z");
        let living = [std::process::id(), peer.pid(), alive.pid(), zombie.id()];
        let here = observation::here(&Real);
        let ticks = |pid: &u32| Real.start_ticks(*pid).unwrap();
        let mut starts: Vec<String> =
            living.iter().map(|pid| Start::new(here.boot, ticks(pid)).to_string()).collect();
        starts.extend(living.iter().map(|pid| ticks(pid).to_string()));
        starts.extend(living.iter().map(|pid| Start::new(Boot::of(Some("b007")), ticks(pid)).to_string()));
        starts.extend(["0".to_owned(), "18446744073709551616".to_owned(), "9".repeat(80), "9".repeat(900)]);
        let mut pids: Vec<String> = living.iter().map(u32::to_string).collect();
        pids.extend([dead_pid().to_string(), dead_pid().to_string(), format!("000{}", living[2]), "1".to_owned()]);
        pids.extend(["0", "-1", "2147483647", "2147483648", "4294967297", "", "x"].map(str::to_owned));
        let ours = here.host.clone();
        let mut hosts = vec![ours.clone(), ours.clone(), ours.clone(), ours.to_uppercase(), "other".to_owned()];
        hosts.extend([format!("{ours}?pidns-f0000001"), format!("{ours} "), format!(" {ours}"), String::new()]);
        Self { here, pids, hosts, starts, _alive: alive, _zombie: zombie }
    }

    fn record(&self, dice: &mut Dice) -> Vec<u8> {
        if dice.one_in(25) {
            return self.special(dice);
        }
        // The right start for the pid as often as a wrong one.
        let end = if dice.one_in(4) { self.pids.len() } else { 8 };
        let which = dice.below(end);
        let pid = &self.pids[which];
        let start = match dice.below(6) {
            0 | 4 => None,
            1 | 2 if which < 4 => Some(&self.starts[which]),
            3 if which < 4 => Some(&self.starts[which + 4]),
            _ => Some(dice.pick(&self.starts)),
        };
        let is_plain = !dice.one_in(4);
        let mut end = || if is_plain { "\n" } else { *dice.pick(&LINE_ENDS) };
        let (first, second, third) = (end(), end(), end());
        let host = dice.pick(&self.hosts);
        let mut text = format!("{pid}{first}{host}{second}");
        if let Some(start) = start {
            text.push_str(start);
            text.push_str(third);
        }
        let mut bytes = text.into_bytes();
        for _ in 0..[0, 0, 1, 2][dice.below(4)] {
            damage(&mut bytes, dice);
        }
        bytes
    }

    fn special(&self, dice: &mut Dice) -> Vec<u8> {
        match dice.below(6) {
            0 => Vec::new(),
            1 => b"1\nfilelock-strict-v1\0\n0\n".to_vec(),
            2 => format!("filelock/break\n{}\n", dice.pick(&self.pids)).into_bytes(),
            3 => b"filelock/released\n".to_vec(),
            4 => (0..dice.below(40)).map(|_| u8::try_from(dice.below(256)).unwrap()).collect(),
            _ => {
                let text = format!("{}\n{}\n", dice.pick(&self.pids), dice.pick(&self.hosts));
                let length = 1015 + dice.below(20);
                let filling = *dice.pick(b"\n a0");
                let mut bytes = text.into_bytes();
                bytes.resize(length, filling);
                bytes.push(b'\n');
                bytes
            }
        }
    }

    fn records(&self, count: usize) -> Vec<Vec<u8>> {
        let (mut dice, mut searched, mut records) = (Dice(SEED), 0, Vec::with_capacity(count));
        while records.len() < count {
            let record = self.record(&mut dice);
            if self.makes_us_search(&record) {
                if searched == SEARCHED {
                    continue;
                }
                searched += 1;
            }
            records.push(record);
        }
        records
    }

    fn makes_us_search(&self, bytes: &[u8]) -> bool {
        let Content::Record(record) = Content::read(bytes) else { return false };
        let start = Real.start_ticks(record.pid).map(|ticks| Start::new(self.here.boot, ticks));
        let life = if Real.exists(record.pid).unwrap() { Life::Alive(start) } else { Life::Gone };
        matches!(staleness::owner(&record, &self.here, &life), Owner::GoneUnlessElsewhere(_))
    }
}

fn damage(bytes: &mut Vec<u8>, dice: &mut Dice) {
    let at = dice.below(bytes.len() + 1);
    let inserted: &[u8] = match dice.below(8) {
        0 => {
            bytes.truncate(at);
            return;
        }
        1 => {
            if at < bytes.len() {
                bytes[at] ^= 1 << dice.below(8);
            }
            return;
        }
        2 => {
            if at < bytes.len() {
                bytes.remove(at);
            }
            return;
        }
        3 | 4 => dice.pick(&ODDITIES).as_bytes(),
        5 => dice.pick::<&[u8]>(&RAW),
        _ => dice.pick(&LINE_ENDS).as_bytes(),
    };
    bytes.splice(at..at, inserted.iter().copied());
}

/// A pid that has just ended. It is not given away again until all others were.
fn dead_pid() -> u32 {
    let mut child = Command::new("true").stdin(Stdio::null()).spawn().unwrap();
    child.wait().unwrap();
    child.id()
}

/// A judge of ours: the decision on the bytes of a marker, in the words of `tests/peers/filelock_peer.py`.
type Judge = fn(&[u8]) -> String;

fn ours(bytes: &[u8]) -> String {
    in_words(&observation::verdict(&Real, &Content::read(bytes)))
}

fn in_words(verdict: &Verdict) -> String {
    match verdict {
        Verdict::Held(_) => "held".to_owned(),
        Verdict::Gone { breaker, .. } => format!("gone {breaker}"),
        Verdict::Malformed { breaker: Some(breaker), .. } => format!("malformed {breaker}"),
        Verdict::Malformed { breaker: None, .. } => "malformed -".to_owned(),
    }
}

/// How much a decision dares.
fn daring(decision: &str) -> u8 {
    match decision.split(' ').next() {
        Some("gone") => 2,
        Some("malformed") => 1,
        _ => 0,
    }
}

#[derive(Debug, Default)]
struct Comparison {
    /// How often the peer decided so.
    held: usize,
    malformed: usize,
    gone: usize,
    differences: Vec<String>,
    /// How many of them are such that we take what the peer does not take, or take it sooner.
    more_daring: usize,
}

fn compare(home: &TestHome, peer: &mut Peer, records: &[Vec<u8>], judge: Judge) -> Comparison {
    let path = home.scratch().join("judged.lock");
    let mut compared = Comparison::default();
    let question = |records: &[Vec<u8>]| {
        let records: Vec<String> = records.iter().map(|record| hex(record)).collect();
        json!({"do": "judge", "path": path, "records": records})
    };
    for batch in records.chunks(BATCH) {
        peer.ask(&question(batch));
        let ours: Vec<String> = batch.iter().map(|record| judge(record)).collect();
        let theirs: Vec<String> = serde_json::from_value(peer.answer()).unwrap();
        assert_eq!(theirs.len(), batch.len());
        for ((record, our), their) in batch.iter().zip(ours).zip(theirs) {
            match daring(&their) {
                0 => compared.held += 1,
                1 => compared.malformed += 1,
                _ => compared.gone += 1,
            }
            // A process may have ended between the two looks. What is a difference stays one.
            if our != their && judge(record) != peer.tell(&question(std::slice::from_ref(record)))[0] {
                compared.more_daring += usize::from(daring(&our) > daring(&their));
                compared.differences.push(format!("{:?}: {our} here, {their} there", String::from_utf8_lossy(record)));
            }
        }
    }
    compared
}

fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write;
    bytes.iter().fold(String::new(), |mut text, byte| {
        write!(text, "{byte:02x}").unwrap();
        text
    })
}

fn both_sides_judge_100_000_records_alike() -> Result<(), Skip> {
    let home = TestHome::new();
    let mut peer = Filelock::reference().peer(&home)?;
    let cast = Cast::new(&home, &peer);
    let compared = compare(&home, &mut peer, &cast.records(RECORDS), ours);
    let first = &compared.differences[..compared.differences.len().min(10)];
    assert!(compared.differences.is_empty(), "seed {SEED:#x}, {} differences: {first:#?}", compared.differences.len());
    // The comparison is worth something only if there was much of each.
    assert!([compared.held, compared.malformed, compared.gone].iter().all(|&count| count > 3_000), "{compared:?}");
    Ok(())
}

fn a_judge_that_reads_cut_records_is_caught() -> Result<(), Skip> {
    is_caught(|bytes| {
        let whole = if bytes.is_empty() || bytes.ends_with(b"\n") { bytes.to_vec() } else { [bytes, b"\n"].concat() };
        ours(&whole)
    })
}

fn a_judge_that_ignores_the_host_is_caught() -> Result<(), Skip> {
    is_caught(|bytes| match Content::read(bytes) {
        Content::Record(record) => {
            let host = observation::here(&Real).host;
            // Only for those who have no start: nobody is searched for then.
            let record = if record.start.is_none() { Record { host, ..record } } else { record };
            in_words(&observation::verdict(&Real, &Content::Record(record)))
        }
        other => in_words(&observation::verdict(&Real, &other)),
    })
}

/// The same comparison finds a judge that dares more than ours.
#[track_caller]
fn is_caught(judge: Judge) -> Result<(), Skip> {
    let home = TestHome::new();
    let mut peer = Filelock::reference().peer(&home)?;
    let cast = Cast::new(&home, &peer);
    let compared = compare(&home, &mut peer, &cast.records(RECORDS / 50), judge);
    assert!(compared.more_daring > 10, "{compared:?}");
    Ok(())
}

fn both_sides_name_hosts_alike() -> Result<(), Skip> {
    const FIRST: u64 = 0xEFFF_FFFC;
    let home = TestHome::new();
    let mut peer = Filelock::reference().peer(&home)?;
    let mut dice = Dice(SEED);
    let mut names: Vec<(Vec<u8>, u64)> = vec![(Vec::new(), FIRST), (Vec::new(), 1), (b"host?pidns-1".to_vec(), FIRST)];
    for number in 0..2_000 {
        let length = if number % 2 == 0 { dice.below(65) } else { dice.below(300) };
        let any = |dice: &mut Dice| u8::try_from(dice.below(256)).unwrap();
        let plain = |dice: &mut Dice| *dice.pick(b"abcdefghijklmnopqrstuvwxyz-.09?");
        let kind: fn(&mut Dice) -> u8 = if number % 3 == 0 { any } else { plain };
        let namespace = if dice.one_in(2) { FIRST } else { 0xF000_0000 + dice.next() % 0x0FFF_FFFF };
        names.push(((0..length).map(|_| kind(&mut dice)).collect(), namespace));
    }
    let asked: Vec<_> = names.iter().map(|(name, inode)| (hex(name), inode)).collect();
    let theirs: Vec<String> = serde_json::from_value(peer.tell(&json!({"do": "host", "names": asked}))).unwrap();
    for ((name, inode), their) in names.iter().zip(theirs) {
        assert_eq!(process_id::host(name, Some(*inode)), their, "{:?}", String::from_utf8_lossy(name));
    }
    Ok(())
}
