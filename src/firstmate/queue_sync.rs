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
//!    table knows of it, the mark tells the next crossing.
//! 5. Each pending wake that scripts should know of gets a row. If we die before the table knows of it, the pin tells.
//! 6. The table is written, then the pin goes, then what was consumed is acknowledged.
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

use super::journal_view::JournalView;
use super::queue::HeldQueue;
use super::row::{self, Row};
use super::row_map::{Absence, RowMap};
use crate::base::error::{Context, Error, Result};
use crate::base::failpoint::Failpoint;
use crate::journal::record::{Draft, Wake};
use crate::journal::{Journal, Limits, acknowledge};
use crate::layout::paths::{Home, names};
use crate::settings::{Patterns, Settings};
use crate::system::World;

/// One who crosses.
pub struct QueueSync<W: World> {
    world: Arc<W>,
    watch: W::Node,
    watch_path: PathBuf,
    journal: Journal<W>,
    wakes: W::Node,
    wakes_path: PathBuf,
    view: JournalView,
    patterns: Patterns,
    generation: u64,
}

/// What a crossing did.
#[derive(Debug, Default)]
pub struct Crossing {
    /// The wakes that rows became. They are durable.
    pub taken: Vec<Wake>,
    /// The table as it was left.
    pub row_map: RowMap,
    /// What could not be done; everything else was, and the next crossing tries again.
    pub problems: Vec<Error>,
}

impl<W: World> QueueSync<W> {
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
            view: JournalView::default(),
            patterns,
            generation,
        })
    }

    /// Delivers by other patterns from now on.
    pub fn adopt(&mut self, patterns: Patterns) {
        self.patterns = patterns;
    }

    /// The journal as it was seen last.
    pub fn view(&self) -> &JournalView {
        &self.view
    }

    /// Learns what is new in the journal.
    ///
    /// # Errors
    /// It cannot be read.
    pub fn look(&mut self) -> Result<()> {
        self.view.look(self.world.as_ref(), &self.wakes, &self.wakes_path)
    }

    /// Keeps all writers out of the journal as long as the answer lives.
    ///
    /// # Errors
    /// Those of the journal.
    pub fn keep_writers_out(&self) -> Result<impl Sized + use<W>> {
        Ok(self.journal.keep_writers_out()?)
    }

    /// A pending wake of which the queue has no row.
    pub fn untold(&self, row_map: &RowMap) -> Option<&Wake> {
        let is_told =
            |wake: &&Wake| row_map.consumed.contains(&wake.seq) || row_map.rows.values().any(|told| *told == wake.seq);
        self.view.pending().find(|wake| !is_told(wake))
    }

    /// Crosses, both ways.
    ///
    /// # Errors
    /// The queue or the journal cannot be read, or what the last one left cannot be cleared. Nothing was taken then.
    pub fn cross(&mut self, held: &HeldQueue<'_, W>) -> Result<Crossing> {
        self.world.reach(Failpoint::FirstmateEntered).doing("enter", &self.watch_path)?;
        self.look()?;
        let mut row_map = RowMap::load(self.world.as_ref(), &self.watch, self.view.acknowledged());
        let before = row_map.clone();
        self.recall_pinned(held, &mut row_map)?;
        held.put_back(&|row| self.is_still_to_be_told(row, &row_map))?;
        let rows = self.compare(held, &mut row_map)?;
        let rows = self.take_out_told(held, rows, &mut row_map)?;
        let mut crossing = Crossing::default();
        match self.take_in(&rows, &mut row_map) {
            Ok(taken) => crossing.taken = taken,
            Err(error) => crossing.problems.push(error),
        }
        let told = self.tell(held, &rows, &mut row_map);
        let saved = if row_map == before { Ok(()) } else { self.save(&row_map) };
        match (told, saved) {
            (Ok(Told::Rows), Ok(())) => crossing.problems.extend(held.unpin().err()),
            (told, saved) => crossing.problems.extend(told.err().into_iter().chain(saved.err())),
        }
        crossing.problems.extend(self.retire(&mut row_map).err());
        crossing.row_map = row_map;
        Ok(crossing)
    }

    /// Writes the table down.
    ///
    /// # Errors
    /// Those of the file system.
    pub fn save(&self, row_map: &RowMap) -> Result<()> {
        row_map.save(self.world.as_ref(), &self.watch).doing("replace", self.watch_path.join(names::WAKE_QUEUE))?;
        self.world.reach(Failpoint::FirstmateSaved).doing("replace", &self.watch_path)
    }

    /// Acknowledges wakes up to a number.
    ///
    /// # Errors
    /// Those of the journal.
    pub fn acknowledge(&mut self, through: u64) -> Result<()> {
        let (world, generation) = (self.world.as_ref(), self.generation);
        acknowledge(world, &self.wakes, &self.wakes_path, through, generation)?;
        self.view.acknowledge(through);
        Ok(())
    }

    /// What a crossing that died has appended is told by the pin, also if its rows are gone from the queue by now.
    fn recall_pinned(&self, held: &HeldQueue<'_, W>, row_map: &mut RowMap) -> Result<()> {
        let Some(pinned) = held.pinned()? else { return Ok(()) };
        let published = row_map.published;
        for row in &pinned {
            if let Some(wake) = self.view.twin_of(row, published) {
                row_map.rows.insert(row.fingerprint(), wake);
                row_map.published = row_map.published.max(wake);
                row_map.numbered = row_map.numbered.max(row.number().unwrap_or(0));
            }
        }
        self.save(row_map)?;
        held.unpin()
    }

    /// Whether a row that a drain left behind was not told yet, as far as anybody knows.
    fn is_still_to_be_told(&self, row: &Row, row_map: &RowMap) -> bool {
        let fingerprint = row.fingerprint();
        let wake = row_map.rows.get(&fingerprint).copied().or_else(|| self.view.wake_of(&fingerprint));
        wake.is_none_or(|wake| wake > self.view.acknowledged() && !row_map.consumed.contains(&wake))
    }

    /// Reads the queue, recognises the rows of which the table does not know yet, and notices which are gone.
    fn compare(&self, held: &HeldQueue<'_, W>, row_map: &mut RowMap) -> Result<Vec<Row>> {
        let found = held.rows()?;
        let is_drained = found.is_some() && row_map.is_of_this_boot(self.world.as_ref());
        let rows = found.unwrap_or_default();
        let mut present = HashSet::new();
        for row in &rows {
            let fingerprint = row.fingerprint();
            row_map.numbered = row_map.numbered.max(row.number().unwrap_or(0));
            if !row_map.rows.contains_key(&fingerprint) && self.world.is_protected(Failpoint::FirstmateKnownRows) {
                let wake = self.view.wake_of(&fingerprint).or_else(|| self.view.twin_of(row, row_map.published));
                row_map.rows.extend(wake.map(|wake| (fingerprint.clone(), wake)));
            }
            present.insert(fingerprint);
        }
        row_map.forget_absent(&present, if is_drained { Absence::Consumed } else { Absence::Unexplained });
        row_map.note_boot(self.world.as_ref());
        Ok(rows)
    }

    /// The rows of wakes that were acknowledged on the other side go: nobody is to be told of them again.
    fn take_out_told(&self, held: &HeldQueue<'_, W>, mut rows: Vec<Row>, row_map: &mut RowMap) -> Result<Vec<Row>> {
        let acknowledged = self.view.acknowledged();
        let is_told = |row: &Row| row_map.rows.get(&row.fingerprint()).is_some_and(|wake| *wake <= acknowledged);
        if self.world.is_protected(Failpoint::FirstmateTakeOut) && held.take_out(&rows, &is_told)? {
            rows.retain(|row| !is_told(row));
            row_map.rows.retain(|_, wake| *wake > acknowledged);
        }
        Ok(rows)
    }

    /// The rows that nobody knows become wakes.
    fn take_in(&mut self, rows: &[Row], row_map: &mut RowMap) -> Result<Vec<Wake>> {
        let mut fingerprints = HashSet::new();
        let is_known = |fingerprint: &String| row_map.rows.contains_key(fingerprint);
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
            if let Some(wake) = self.view.wake_of(&fingerprint) {
                row_map.rows.entry(fingerprint).or_insert(wake);
            }
        }
        Ok(taken)
    }

    /// The wakes that have no row get one.
    fn tell(&self, held: &HeldQueue<'_, W>, rows: &[Row], row_map: &mut RowMap) -> Result<Told> {
        let told: HashSet<u64> = row_map.rows.values().copied().collect();
        let untold = self.view.untold(row_map.published).filter(|(seq, _)| !told.contains(seq));
        let (wakes, contents): (Vec<_>, Vec<_>) = untold.unzip();
        if wakes.is_empty() {
            row_map.published = row_map.published.max(self.view.last());
            return Ok(Told::Nothing);
        }
        let contents = row::with_whole_reason(contents);
        let first = held.take_numbers(wakes.len(), rows, row_map.numbered)?;
        let new: Vec<Row> = (first..).zip(&contents).map(|(number, content)| content.numbered(number)).collect();
        held.append(&new)?;
        row_map.numbered = first.saturating_add(wakes.len() as u64 - 1);
        row_map.rows.extend(new.iter().map(Row::fingerprint).zip(wakes));
        row_map.published = row_map.published.max(self.view.last());
        Ok(Told::Rows)
    }

    /// What a drain of the scripts' own has printed is told.
    fn retire(&mut self, row_map: &mut RowMap) -> Result<()> {
        let pending = self.view.pending().map(|wake| wake.seq);
        match row_map.retire(pending, self.view.acknowledged()) {
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
