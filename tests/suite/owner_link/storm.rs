//! Contenders of ours and shell peers, killed at random over a dead record, and the intervals in which each held.
//!
//! `FM_WATCH_STORM_SECONDS` sets how long it lasts.

use std::fs;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process_group};

use fm_watch::lock::{Attempt, Lock};

use super::arena::{Arena, lay_dead};
use super::{contender, peer};
use crate::support::{SOON, Skip, processes, wait_until, wait_until_true};

cases! {
    ten_of_ours_and_ten_shell_peers_with_kills_never_overlap,
    without_the_mutex_and_the_second_judgement_the_intervals_overlap,
    the_comparison_of_intervals_sees_an_overlap,
}

/// What kind of storm it is.
#[derive(Debug, Clone, Copy)]
struct Weather<'a> {
    ours: usize,
    shells: usize,
    kill_every: Duration,
    /// For how long ours lets others have the lock after each hold.
    rest: Duration,
    without: &'a [&'a str],
}

/// Shell peers are slow; without long rests of ours they would hardly ever have it.
const MIXED: Weather<'static> = Weather {
    ours: 10,
    shells: 10,
    kill_every: Duration::from_millis(100),
    rest: Duration::from_millis(150),
    without: &[],
};

/// Nobody rests, and somebody dies all the time: what is wrong shows soon.
const UNPROTECTED: Weather<'static> = Weather {
    ours: 20,
    shells: 0,
    kill_every: Duration::from_millis(15),
    rest: Duration::ZERO,
    without: &["OwnerLinkStealMutex", "OwnerLinkStealRevalidation"],
};

fn length() -> Duration {
    Duration::from_secs(std::env::var("FM_WATCH_STORM_SECONDS").map_or(6, |text| text.parse().unwrap()))
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Side {
    Ours,
    Shell,
}

/// From when until when somebody surely held, in nanoseconds of one clock.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Hold {
    who: String,
    from: u128,
    until: u128,
}

/// Two who held at the same time.
fn overlap(holds: &[Hold]) -> Option<(Hold, Hold)> {
    let mut sorted = holds.to_vec();
    sorted.sort_by_key(|hold| hold.from);
    let mut longest = sorted.first()?.clone();
    for hold in sorted.into_iter().skip(1) {
        if hold.from < longest.until {
            return Some((longest, hold));
        }
        if hold.until > longest.until {
            longest = hold;
        }
    }
    None
}

struct Contender {
    side: Side,
    child: Child,
    log: PathBuf,
    /// When it was killed.
    killed: Option<u128>,
}

/// The storm: who contends now, and who did.
struct Storm<'a> {
    arena: &'a Arena,
    stop: PathBuf,
    weather: Weather<'a>,
    running: Vec<Contender>,
    ended: Vec<Contender>,
    started: usize,
}

impl<'a> Storm<'a> {
    fn new(arena: &'a Arena, weather: Weather<'a>) -> Self {
        let stop = arena.home.scratch().join("stop");
        Self { arena, stop, weather, running: Vec::new(), ended: Vec::new(), started: 0 }
    }

    fn start(&mut self, side: Side) -> Result<(), Skip> {
        let log = self.arena.home.scratch().join(format!("log-{}", self.started));
        self.started += 1;
        let mut command = self.command(side, &log)?;
        // A group of its own: a shell that dies alone leaves a command behind that still does its work.
        command.process_group(0).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::inherit());
        self.running.push(Contender { side, child: command.spawn().unwrap(), log, killed: None });
        Ok(())
    }

    fn command(&self, side: Side, log: &Path) -> Result<Command, Skip> {
        Ok(match side {
            Side::Ours => contender::command(
                &self.arena.home,
                [&self.arena.lock, log, &self.stop],
                self.weather.without,
                self.weather.rest,
            ),
            Side::Shell => {
                let mut command = peer::command(&self.arena.home, &["contend"], &self.arena.lock)?;
                command.arg(log).arg(&self.stop).args(contender::clock());
                command
            }
        })
    }

    /// Kills one and starts another of its side.
    fn kill(&mut self, number: usize) -> Result<(), Skip> {
        let mut contender = self.running.swap_remove(number % self.running.len());
        contender.killed = Some(contender::now());
        end_group(&mut contender.child);
        let side = contender.side;
        self.ended.push(contender);
        self.start(side)
    }

    /// Lets all others end by themselves.
    fn end(&mut self) {
        fs::write(&self.stop, "").unwrap();
        for mut contender in self.running.drain(..) {
            let status = wait_until(SOON, "a contender has ended", || contender.child.try_wait().unwrap());
            assert!(status.success(), "{:?} ended with {status}", contender.side);
            self.ended.push(contender);
        }
    }

    fn has_each_side_held(&self) -> bool {
        let has_held = |side| self.running.iter().chain(&self.ended).any(|one| one.side == side && one.log.exists());
        (self.weather.ours == 0 || has_held(Side::Ours)) && (self.weather.shells == 0 || has_held(Side::Shell))
    }

    fn holds(&self) -> Vec<Hold> {
        self.ended.iter().flat_map(holds_of).collect()
    }
}

impl Drop for Storm<'_> {
    fn drop(&mut self) {
        for contender in &mut self.running {
            end_group(&mut contender.child);
        }
    }
}

/// Kills a contender with its commands, and reaps it when they are gone: its pid counts as alive until then.
fn end_group(child: &mut Child) {
    let group = Pid::from_child(child);
    kill_process_group(group, Signal::KILL).unwrap();
    let leader = child.id();
    wait_until_true(SOON, "a killed contender's commands are gone", || !has_others(leader));
    child.wait().unwrap();
}

fn has_others(leader: u32) -> bool {
    let pids = fs::read_dir("/proc").unwrap().flatten().filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    let group = leader.to_string();
    pids.filter(|&pid: &u32| pid != leader)
        .any(|pid| processes::stat_field(pid, 5) == Some(group.clone()) && processes::is_alive(pid))
}

fn holds_of(contender: &Contender) -> Vec<Hold> {
    let text = fs::read_to_string(&contender.log).unwrap_or_default();
    let who = format!("{:?} {}", contender.side, contender.child.id());
    let mut holds = Vec::new();
    let mut since = None;
    for line in text.lines() {
        match line.split_once(' ').and_then(|(word, time)| Some((word, time.parse::<u128>().ok()?))) {
            Some(("take", time)) => since = Some(time),
            Some(("leave", until)) => {
                holds.extend(since.take().map(|from| Hold { who: who.clone(), from, until }));
            }
            // Killed while it asked for the time.
            _ => {}
        }
    }
    if let (Some(from), Some(killed)) = (since, contender.killed) {
        // It may have taken the time before it was killed and written it after that was decided.
        holds.push(Hold { who, from, until: killed.max(from) });
    }
    holds
}

/// Runs a storm to its end and gives who held.
fn run(arena: &Arena, weather: Weather<'_>, length: Duration) -> Result<Vec<Hold>, Skip> {
    lay_dead(&arena.lock);
    let mut storm = Storm::new(arena, weather);
    for _ in 0..weather.ours {
        storm.start(Side::Ours)?;
    }
    for _ in 0..weather.shells {
        storm.start(Side::Shell)?;
    }
    let (began, mut kills) = (Instant::now(), 0_usize);
    // On a busy machine some take long before they have it for the first time.
    while began.elapsed() < length || (!storm.has_each_side_held() && began.elapsed() < length + SOON * 3) {
        fm_watch::base::wait_until::pause(weather.kill_every);
        // A stride that shares no divisor with the number of contenders reaches each of them.
        storm.kill(kills * 7 + began.elapsed().subsec_micros() as usize)?;
        kills += 1;
    }
    storm.end();
    let holds = storm.holds();
    let of = |side: &str| holds.iter().filter(|hold| hold.who.starts_with(side)).count();
    assert!(kills > 5 && of("Ours") > 0, "{kills} kills, {} holds", holds.len());
    assert!(weather.shells == 0 || of("Shell") > 0, "no shell peer ever held");
    // For whoever asked for a long storm.
    if std::env::var_os("FM_WATCH_STORM_SECONDS").is_some() {
        eprintln!("{kills} kills, {} holds of ours, {} of shell peers", of("Ours"), of("Shell"));
    }
    Ok(holds)
}

fn ten_of_ours_and_ten_shell_peers_with_kills_never_overlap() -> Result<(), Skip> {
    let arena = Arena::new();
    let holds = run(&arena, MIXED, length())?;
    assert_eq!(overlap(&holds), None);
    let outcome = arena.ours().acquire(SOON).unwrap();
    assert!(matches!(outcome, Attempt::Taken(_)), "the next one gets it: {:?}", arena.names());
    Ok(())
}

/// The twin.
fn without_the_mutex_and_the_second_judgement_the_intervals_overlap() -> Result<(), Skip> {
    // On a busy machine, whoever is killed too soon has done nothing wrong yet.
    for slower in (1..=4).cycle().take(20) {
        let arena = Arena::new();
        let weather = Weather { kill_every: UNPROTECTED.kill_every * slower * slower, ..UNPROTECTED };
        if overlap(&run(&arena, weather, Duration::from_secs(2))?).is_some() {
            return Ok(());
        }
    }
    panic!("no overlap was seen");
}

fn the_comparison_of_intervals_sees_an_overlap() {
    let hold = |from, until| Hold { who: String::new(), from, until };
    assert_eq!(overlap(&[hold(5, 9), hold(1, 5)]), None);
    assert!(overlap(&[hold(1, 9), hold(2, 3), hold(4, 5)]).is_some());
    assert!(overlap(&[hold(1, 9), hold(8, 10)]).is_some());
}
