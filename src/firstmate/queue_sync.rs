//! The way between the wake queue and the journal: rows become wakes, and wakes get rows, each once.
//!
//! # Theory
//!
//! A *crossing* happens under the queue's lock, so no script appends or drains meanwhile. It takes both ways:
//!
//! 1. What a crossing or a drain that died has left is cleared: see [`super::queue`].
//! 2. The known rows that are gone were consumed ([`super::row_map`]).
//! 3. The rows of wakes that were acknowledged meanwhile are taken out of the queue.
//! 4. Each row that is not known becomes a wake in the journal, with a mark that names the row. If we die before the
//!    ledger knows of it, the mark tells the next crossing.
//! 5. Each pending wake that scripts should know of gets a row. If we die before the ledger knows of it, the pin tells.
//! 6. The ledger is written, then the pin goes, then what was consumed is acknowledged.
//!
//! Rows of pending wakes stay in the queue for the scripts' own drain. Wakes of kinds that the contract does not have (`custom`, `daemon`)
//! get no row: to give them another kind would not be true. Our own drain prints them under their own.
//!
//! If this were wrong, a wake would be told for ever by turns on one side and on the other, or be lost between them.
//!
//! # Limits
//!
//! - Acknowledging goes up to a number. A wake without a row holds back the acknowledgement of consumed ones behind it,
//!   and waiters may be shown those once more.

use std::collections::HashSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::journal_view::Mirror;
use super::queue::HeldQueue;
use super::row::{self, Row};
use super::row_map::{Absence, Ledger};
use crate::base::error::{Context, Error, Result};
use crate::base::failpoint::Failpoint;
use crate::home::paths::{Home, names};
use crate::journal::record::{Draft, Wake};
use crate::journal::{Journal, Limits, acknowledge};
use crate::settings::{Patterns, Settings};
use crate::system::World;

/// One who crosses.
pub struct Bridge<W: World> {
    world: Arc<W>,
    watch: W::Node,
    watch_path: PathBuf,
    journal: Journal<W>,
    wakes: W::Node,
    wakes_path: PathBuf,
    mirror: Mirror,
    patterns: Patterns,
    generation: u64,
}

/// What a crossing did.
#[derive(Debug, Default)]
pub struct Crossing {
    /// The wakes that rows became. They are durable.
    pub taken: Vec<Wake>,
    /// The table as it was left.
    pub ledger: Ledger,
    /// What could not be done; everything else was, and the next crossing tries again.
    pub problems: Vec<Error>,
}

impl<W: World> Bridge<W> {
    /// One who has not crossed yet, and signs wakes with this generation.
    ///
    /// # Errors
    /// The directories of the home cannot be opened.
    pub fn open(world: &Arc<W>, home: &Home, settings: &Settings, patterns: Patterns, generation: u64) -> Result<Self> {
        let (watch_path, wakes_path) = (home.watch(), home.ours(names::WAKES));
        let open = |path: &Path| world.open_directory(path).doing("open", path);
        let limits = Limits::of_journal(settings.journal_max);
        let journal = Journal::open(Arc::clone(world), open(&wakes_path)?, wakes_path.clone(), limits);
        Ok(Self {
            world: Arc::clone(world),
            watch: open(&watch_path)?,
            watch_path,
            journal,
            wakes: open(&wakes_path)?,
            wakes_path,
            mirror: Mirror::default(),
            patterns,
            generation,
        })
    }

    /// Delivers by other patterns from now on.
    pub fn adopt(&mut self, patterns: Patterns) {
        self.patterns = patterns;
    }

    /// The journal as it was seen last.
    pub fn mirror(&self) -> &Mirror {
        &self.mirror
    }

    /// Learns what is new in the journal.
    ///
    /// # Errors
    /// It cannot be read.
    pub fn look(&mut self) -> Result<()> {
        self.mirror.look(self.world.as_ref(), &self.wakes, &self.wakes_path)
    }

    /// Keeps all writers out of the journal as long as the answer lives.
    ///
    /// # Errors
    /// Those of the journal.
    pub fn keep_writers_out(&self) -> Result<impl Sized + use<W>> {
        Ok(self.journal.keep_writers_out()?)
    }

    /// A pending wake of which the queue has no row.
    pub fn untold(&self, ledger: &Ledger) -> Option<&Wake> {
        let is_told =
            |wake: &&Wake| ledger.consumed.contains(&wake.seq) || ledger.rows.values().any(|told| *told == wake.seq);
        self.mirror.pending().find(|wake| !is_told(wake))
    }

    /// Crosses, both ways.
    ///
    /// # Errors
    /// The queue or the journal cannot be read, or what the last one left cannot be cleared. Nothing was taken then.
    pub fn cross(&mut self, held: &HeldQueue<'_, W>) -> Result<Crossing> {
        self.world.reach(Failpoint::FirstmateEntered).doing("enter", &self.watch_path)?;
        self.look()?;
        let mut ledger = Ledger::load(self.world.as_ref(), &self.watch, self.mirror.acknowledged());
        let before = ledger.clone();
        self.recall_pinned(held, &mut ledger)?;
        held.put_back(&|row| self.is_still_to_be_told(row, &ledger))?;
        let rows = self.compare(held, &mut ledger)?;
        let rows = self.take_out_told(held, rows, &mut ledger)?;
        let mut crossing = Crossing::default();
        match self.take_in(&rows, &mut ledger) {
            Ok(taken) => crossing.taken = taken,
            Err(error) => crossing.problems.push(error),
        }
        let told = self.tell(held, &rows, &mut ledger);
        let saved = if ledger == before { Ok(()) } else { self.save(&ledger) };
        match (told, saved) {
            (Ok(Told::Rows), Ok(())) => crossing.problems.extend(held.unpin().err()),
            (told, saved) => crossing.problems.extend(told.err().into_iter().chain(saved.err())),
        }
        crossing.problems.extend(self.retire(&mut ledger).err());
        crossing.ledger = ledger;
        Ok(crossing)
    }

    /// Writes the table down.
    ///
    /// # Errors
    /// Those of the file system.
    pub fn save(&self, ledger: &Ledger) -> Result<()> {
        ledger.save(self.world.as_ref(), &self.watch).doing("replace", self.watch_path.join(names::WAKE_QUEUE))?;
        self.world.reach(Failpoint::FirstmateSaved).doing("replace", &self.watch_path)
    }

    /// Acknowledges wakes up to a number.
    ///
    /// # Errors
    /// Those of the journal.
    pub fn acknowledge(&mut self, through: u64) -> Result<()> {
        let (world, generation) = (self.world.as_ref(), self.generation);
        acknowledge(world, &self.wakes, &self.wakes_path, through, generation)?;
        self.mirror.acknowledge(through);
        Ok(())
    }

    /// What a crossing that died has appended is told by the pin, also if its rows are gone from the queue by now.
    fn recall_pinned(&self, held: &HeldQueue<'_, W>, ledger: &mut Ledger) -> Result<()> {
        let Some(pinned) = held.pinned()? else { return Ok(()) };
        let published = ledger.published;
        for row in &pinned {
            if let Some(wake) = self.mirror.twin_of(row, published) {
                ledger.rows.insert(row.fingerprint(), wake);
                ledger.published = ledger.published.max(wake);
                ledger.numbered = ledger.numbered.max(row.number().unwrap_or(0));
            }
        }
        self.save(ledger)?;
        held.unpin()
    }

    /// Whether a row that a drain left behind was not told yet, as far as anybody knows.
    fn is_still_to_be_told(&self, row: &Row, ledger: &Ledger) -> bool {
        let fingerprint = row.fingerprint();
        let wake = ledger.rows.get(&fingerprint).copied().or_else(|| self.mirror.wake_of(&fingerprint));
        wake.is_none_or(|wake| wake > self.mirror.acknowledged() && !ledger.consumed.contains(&wake))
    }

    /// Reads the queue, recognises the rows of which the ledger does not know yet, and notices which are gone.
    fn compare(&self, held: &HeldQueue<'_, W>, ledger: &mut Ledger) -> Result<Vec<Row>> {
        let found = held.rows()?;
        let is_drained = found.is_some() && ledger.is_of_this_boot(self.world.as_ref());
        let rows = found.unwrap_or_default();
        let mut present = HashSet::new();
        for row in &rows {
            let fingerprint = row.fingerprint();
            ledger.numbered = ledger.numbered.max(row.number().unwrap_or(0));
            if !ledger.rows.contains_key(&fingerprint) && self.world.is_protected(Failpoint::FirstmateKnownRows) {
                let wake = self.mirror.wake_of(&fingerprint).or_else(|| self.mirror.twin_of(row, ledger.published));
                ledger.rows.extend(wake.map(|wake| (fingerprint.clone(), wake)));
            }
            present.insert(fingerprint);
        }
        ledger.forget_absent(&present, if is_drained { Absence::Consumed } else { Absence::Unexplained });
        ledger.note_boot(self.world.as_ref());
        Ok(rows)
    }

    /// The rows of wakes that were acknowledged on the other side go: nobody is to be told of them again.
    fn take_out_told(&self, held: &HeldQueue<'_, W>, mut rows: Vec<Row>, ledger: &mut Ledger) -> Result<Vec<Row>> {
        let acknowledged = self.mirror.acknowledged();
        let is_told = |row: &Row| ledger.rows.get(&row.fingerprint()).is_some_and(|wake| *wake <= acknowledged);
        if self.world.is_protected(Failpoint::FirstmateTakeOut) && held.take_out(&rows, &is_told)? {
            rows.retain(|row| !is_told(row));
            ledger.rows.retain(|_, wake| *wake > acknowledged);
        }
        Ok(rows)
    }

    /// The rows that nobody knows become wakes.
    fn take_in(&mut self, rows: &[Row], ledger: &mut Ledger) -> Result<Vec<Wake>> {
        let mut fingerprints = HashSet::new();
        let is_known = |fingerprint: &String| ledger.rows.contains_key(fingerprint);
        let mut drafts = Vec::new();
        for row in rows {
            let fingerprint = row.fingerprint();
            if !is_known(&fingerprint) && fingerprints.insert(fingerprint) {
                let draft = row.draft();
                let delivery = self.patterns.delivery(&draft.kind, &draft.key, &draft.text);
                drafts.push(Draft { delivery, ..draft });
            }
        }
        let taken = self.journal.append(self.generation, &drafts)?;
        if taken.is_empty() {
            return Ok(taken);
        }
        self.world.reach(Failpoint::FirstmateTaken).doing("append to", &self.wakes_path)?;
        self.look()?;
        for row in rows {
            let fingerprint = row.fingerprint();
            if let Some(wake) = self.mirror.wake_of(&fingerprint) {
                ledger.rows.entry(fingerprint).or_insert(wake);
            }
        }
        Ok(taken)
    }

    /// The wakes that have no row get one.
    fn tell(&self, held: &HeldQueue<'_, W>, rows: &[Row], ledger: &mut Ledger) -> Result<Told> {
        let told: HashSet<u64> = ledger.rows.values().copied().collect();
        let untold = self.mirror.untold(ledger.published).filter(|(seq, _)| !told.contains(seq));
        let (wakes, contents): (Vec<_>, Vec<_>) = untold.unzip();
        if wakes.is_empty() {
            ledger.published = ledger.published.max(self.mirror.last());
            return Ok(Told::Nothing);
        }
        let contents = row::with_whole_reason(contents);
        let first = held.take_numbers(wakes.len(), rows, ledger.numbered)?;
        let new: Vec<Row> = (first..).zip(&contents).map(|(number, content)| content.numbered(number)).collect();
        held.append(&new)?;
        ledger.numbered = first.saturating_add(wakes.len() as u64 - 1);
        ledger.rows.extend(new.iter().map(Row::fingerprint).zip(wakes));
        ledger.published = ledger.published.max(self.mirror.last());
        Ok(Told::Rows)
    }

    /// What a drain of the scripts' own has printed is told.
    fn retire(&mut self, ledger: &mut Ledger) -> Result<()> {
        let pending = self.mirror.pending().map(|wake| wake.seq);
        match ledger.retire(pending, self.mirror.acknowledged()) {
            Some(through) => self.acknowledge(through),
            None => Ok(()),
        }
    }
}

/// Whether rows were appended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Told {
    Rows,
    Nothing,
}
