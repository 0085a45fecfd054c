//! `firstmate drain`: print the rows of the wake queue, each topic once, and consume them.
//!
//! # Theory
//!
//! It does what the contract says of `fm-wake-drain.sh`: under the queue's lock it moves the queue aside, leaves an empty
//! one, prints, and removes what it moved. If anything fails before the last byte is printed, or a signal comes, the rows
//! are put back in front. To print is to consume, on both sides: the wakes of what was printed are acknowledged.
//!
//! First it crosses ([`super::queue_sync`]), so each row is a wake before it is printed and each wake a row. So the
//! acknowledgement, which is one step, decides: who dies before it leaves everything to be told again, and who dies after
//! it leaves rows of which everybody can see that they were told.
//!
//! Pending wakes without a row are printed after the rows, under their own kind and with numbers of the same counter.
//! Acknowledging goes up to a number, so they would otherwise be retired unseen.
//!
//! # Limits
//!
//! - The contract waits for the lock for ever. Ours gives up after [`PATIENCE`], changes nothing and names the holder.
//! - If the journal cannot be used, the rows are drained as the scripts do it, and it is said on stderr.

use std::collections::{HashMap, HashSet};
use std::ffi::OsStr;
use std::io::Write;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::thread;
use std::time::{Duration, Instant};

use super::home::Fleet;
use super::queue::{HeldQueue, Queue};
use super::queue_sync::{Crossing, QueueSync};
use super::row::{self, Content, Row};
use crate::base::console::Note;
use crate::base::error::{Context, Error, Result};
use crate::base::exit;
use crate::base::failpoint::Failpoint;
use crate::journal::record::Wake;
use crate::lock::Attempt;
use crate::ownership::context::HomeContext;
use crate::settings::Loaded;
use crate::system::requests::{self, Cause, Requests};
use crate::system::{Real, World};

/// How long the lock of the queue is waited for.
pub const PATIENCE: Duration = Duration::from_secs(30);
/// How often somebody who waits for the lock looks whether it is to leave.
const SLICE: Duration = Duration::from_millis(50);

/// What can happen meanwhile.
#[derive(Debug)]
enum Happened {
    Printed(std::io::Result<()>),
    Asked(Cause),
}

/// How it went.
enum Outcome {
    Done,
    /// A signal came; nothing is consumed.
    Asked(Cause),
}

/// Drains the queue of a home that is prepared. `tell` hears what goes wrong and is no failure.
///
/// # Errors
/// The lock cannot be had, the queue cannot be read, or nobody reads what is printed. The rows are still in the queue.
pub fn drain(session: &HomeContext, fleet: &Fleet, tell: &mut dyn FnMut(Note)) -> Result<u8> {
    let (sender, happened) = channel();
    listen(&sender).doing("listen to signals in", session.home.state())?;
    let queue = Queue::open(&session.world, fleet)?;
    // What wakes are delivered how is not its affair.
    let patterns = match session.loaded.compile() {
        Ok(patterns) => patterns,
        Err(error) => {
            tell(Note::message(format!("{error}; the defaults count instead")));
            Loaded::of_defaults()?.compile()?
        }
    };
    let mut sync = QueueSync::open(&session.world, &session.home, session.settings(), patterns, session.generation())?;
    let outcome = match enter(&queue, &happened)? {
        Entered::Inside(held) => consume((session, tell), &held, &mut sync, (&sender, &happened))?,
        Entered::Asked(cause) => Outcome::Asked(cause),
    };
    Ok(match outcome {
        Outcome::Done => exit::OK,
        Outcome::Asked(cause) => cause.exit_code(),
    })
}

fn listen(sender: &Sender<Happened>) -> std::io::Result<()> {
    // What was ignored when the process began stays so, as in a shell.
    let mut requests = Requests::listen(&requests::heeded(&[Cause::Interrupted, Cause::Terminated]))?;
    let sender = sender.clone();
    thread::Builder::new().name("signals".to_owned()).spawn(move || {
        let _nobody_listens = requests.forever().find(|&cause| sender.send(Happened::Asked(cause)).is_err());
    })?;
    Ok(())
}

enum Entered<'a> {
    Inside(Box<HeldQueue<'a, Real>>),
    Asked(Cause),
}

fn enter<'a>(queue: &'a Queue<Real>, happened: &Receiver<Happened>) -> Result<Entered<'a>> {
    let end = Instant::now() + PATIENCE;
    let mut entrance = queue.entrance()?;
    loop {
        match entrance.enter(SLICE)? {
            Attempt::Taken(held) => return Ok(Entered::Inside(Box::new(held))),
            Attempt::Busy(holder) if Instant::now() >= end => {
                let found = format!("it is held {holder}");
                let next = holder.remedy.unwrap_or_else(|| "nothing was drained; try again".to_owned());
                return Err(Error::refused(queue.lock_path(), found, next));
            }
            Attempt::Busy(_) => {}
        }
        if let Ok(Happened::Asked(cause)) = happened.try_recv() {
            return Ok(Entered::Asked(cause));
        }
    }
}

fn consume(
    (session, tell): (&HomeContext, &mut dyn FnMut(Note)),
    held: &HeldQueue<'_, Real>,
    sync: &mut QueueSync<Real>,
    (sender, happened): (&Sender<Happened>, &Receiver<Happened>),
) -> Result<Outcome> {
    let mut crossing = match sync.cross(held) {
        Ok(crossing) => crossing,
        Err(error) => {
            // The rows can be drained without the journal, but for those of a drain that died, which may have our pid.
            held.put_back(&|_| true)?;
            Crossing { problems: vec![error], ..Crossing::default() }
        }
    };
    for problem in &crossing.problems {
        tell(Note::message(problem));
    }
    let rows = held.rows()?.unwrap_or_default();
    let mut printed: Vec<Row> = row::fold(&rows).into_iter().cloned().collect();
    printed.extend(without_rows(held, sync, &crossing, &rows)?);
    let last = sync.view().pending().last().map(|wake| wake.seq);
    if printed.is_empty() && rows.is_empty() {
        held.make_empty(None)?;
        return Ok(Outcome::Done);
    }
    held.make_empty(None)?;
    let moved = held.move_aside()?;
    let outcome = print(printed, sender, happened);
    match outcome {
        Ok(None) => settle((session, tell), held, sync, (&mut crossing, last), &moved)?,
        Ok(Some(cause)) => {
            held.put_back(&|_| true)?;
            return Ok(Outcome::Asked(cause));
        }
        Err(error) => {
            held.put_back(&|_| true)?;
            return Err(error).doing("write to", "stdout");
        }
    }
    Ok(Outcome::Done)
}

/// The pending wakes that are in no row and were not told either.
fn without_rows(
    held: &HeldQueue<'_, Real>,
    sync: &QueueSync<Real>,
    crossing: &Crossing,
    rows: &[Row],
) -> Result<Vec<Row>> {
    let wake_of = |row: &Row| crossing.row_map.rows.get(&row.fingerprint()).copied();
    let told: HashSet<u64> = rows.iter().filter_map(wake_of).chain(crossing.row_map.consumed.iter().copied()).collect();
    let mut newest = HashMap::new();
    for (row, wake) in rows.iter().filter_map(|row| Some((row, wake_of(row)?))) {
        let last: &mut u64 = newest.entry(row.topic()).or_insert(wake);
        *last = wake.max(*last);
    }
    // A wake whose row was lost and that has a newer one about the same is told by that.
    let is_replaced = |wake: &Wake| newest.get(&Content::of_any(wake).numbered(0).topic()) > Some(&wake.seq);
    let untold = sync.view().pending().filter(|wake| !told.contains(&wake.seq) && !is_replaced(wake));
    let contents: Vec<Content> = untold.map(Content::of_any).collect();
    if contents.is_empty() {
        return Ok(Vec::new());
    }
    let first = held.take_numbers(contents.len(), rows, crossing.row_map.numbered)?;
    let numbered: Vec<Row> = (first..).zip(&contents).map(|(number, content)| content.numbered(number)).collect();
    Ok(row::fold(&numbered).into_iter().cloned().collect())
}

/// Prints in a thread of its own, because nobody may read: a signal is to be heard all the same. Gives the signal that
/// came before everything was printed.
fn print(rows: Vec<Row>, sender: &Sender<Happened>, happened: &Receiver<Happened>) -> std::io::Result<Option<Cause>> {
    let sender = sender.clone();
    thread::Builder::new().name("printer".to_owned()).spawn(move || {
        // If nobody hears this, a signal was heard before.
        let _unheard = sender.send(Happened::Printed(write_rows(&rows)));
    })?;
    // This thread has a sender itself, so the channel cannot close.
    loop {
        match happened.recv_timeout(Duration::from_secs(1)) {
            Ok(Happened::Printed(printed)) => return printed.map(|()| None),
            Ok(Happened::Asked(cause)) => return Ok(Some(cause)),
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => return Err(std::io::ErrorKind::BrokenPipe.into()),
        }
    }
}

fn write_rows(rows: &[Row]) -> std::io::Result<()> {
    let mut bytes = Vec::new();
    for row in rows {
        bytes.extend_from_slice(row.line());
        bytes.push(b'\n');
    }
    let mut stdout = std::io::stdout().lock();
    stdout.write_all(&bytes)?;
    stdout.flush()
}

/// Everything is printed: the wakes are acknowledged, and then the rows go.
fn settle(
    (session, tell): (&HomeContext, &mut dyn FnMut(Note)),
    held: &HeldQueue<'_, Real>,
    sync: &mut QueueSync<Real>,
    (crossing, last): (&mut Crossing, Option<u64>),
    moved: &OsStr,
) -> Result<()> {
    session.world.reach(Failpoint::FirstmatePrinted).doing("drain", moved)?;
    if let Some(last) = last {
        let printed: Vec<u64> = sync.view().pending().map(|wake| wake.seq).collect();
        if let Err(error) = sync.acknowledge(last) {
            tell(Note::message(format!("what was printed is not acknowledged yet: {error}")));
            if crossing.row_map.is_loaded() {
                crossing.row_map.consumed.extend(printed);
                sync.save(&crossing.row_map)?;
            }
        }
        session.world.reach(Failpoint::FirstmateAcknowledged).doing("drain", moved)?;
    }
    held.remove_moved(moved)?;
    session.world.reach(Failpoint::FirstmateDrained).doing("drain", moved)
}
