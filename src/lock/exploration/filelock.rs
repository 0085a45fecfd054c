//! A model of a contender in Python: the steps of filelock 4.2.11 on Linux, in their order, over the same world.
//!
//! It says what a peer does, so that its steps can be mixed with ours in every order. What it reads and writes is the
//! same; how it decides is written down here a second time, from the peer's documentation and its behaviour, so that
//! a mistake of ours is not made twice. If it is wrong, our lock is explored beside a peer that nobody has; storms of
//! the suite run beside real ones.
//!
//! Limits: left out are Windows, modes of files, owners in other pid namespaces, `lifetime`, and signals that interrupt
//! it.

use std::ffi::{OsStr, OsString};
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use crate::lock::soft::process_id::host;
use crate::lock::soft::process_id::{Boot, Start};
use crate::system::simulated::{SimNode, SimWorld};
use crate::system::{Exchange, Facts, Kind, Open, World};

/// A marker that is no record may be taken when it has not changed for so long.
const STILL: Duration = Duration::from_secs(2);
/// The most bytes of a record.
const LONGEST: usize = 1024;
const STRICT: &[u8] = b"1\nfilelock-strict-v1\0\n0\n";
const RELEASED: &[u8] = b"filelock/released\n";
/// How long it waits for others before it swaps out of turn, and before it gives up putting back.
const STALL: Duration = Duration::from_millis(10);
const GIVES_UP_AFTER: Duration = Duration::from_secs(2);

/// A `SoftFileLock`.
pub(super) struct Filelock {
    world: Arc<SimWorld>,
    directory: SimNode,
    name: OsString,
    seen: Option<((i64, u64, i64), Duration)>,
}

/// What it has while it holds the lock.
pub(super) struct Held {
    node: SimNode,
    own: Facts,
}

/// What a contender reads at a name.
struct Marker {
    facts: Facts,
    /// `None` for what is no text of a record's size.
    content: Option<Vec<u8>>,
}

/// What a record says.
struct Record {
    pid: u32,
    host: String,
    start: Option<String>,
}

/// What a breaker has done to the lock's name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Moved {
    Nothing,
    Exchanged,
}

/// What a dead process has left beside the lock.
enum Stranded {
    /// Nobody who lives is at it.
    Unclaimed(OsString),
    /// It has our own name since an earlier attempt.
    Ours(OsString),
}

impl Filelock {
    pub(super) fn at(world: &Arc<SimWorld>, path: &Path) -> io::Result<Self> {
        let directory = world.open_directory(path.parent().unwrap_or(Path::new("/")))?;
        let name = path.file_name().unwrap_or_default().to_owned();
        Ok(Self { world: Arc::clone(world), directory, name, seen: None })
    }

    /// One attempt, as each poll of `acquire` makes it. Failures other than of the creation are taken for "not yet".
    pub(super) fn attempt(&mut self) -> io::Result<Option<Held>> {
        let node = match self.world.open(&self.directory, &self.name, Open::CreateNew) {
            Ok(node) => node,
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => return Ok(self.contest().unwrap_or(None)),
            Err(error) => return Err(error),
        };
        let own = self.world.facts(&node)?;
        self.write_record(&node)?;
        Ok(Some(Held { node, own }))
    }

    /// Releases what is held. It tells nobody what went wrong.
    pub(super) fn release(&self, held: Held) {
        let released = match self.world.facts_at(&self.directory, &self.name) {
            Ok(there) if there.is_same_inode(&held.own) => self.world.unlink(&self.directory, &self.name),
            // A peer's exchange has it and will put it back.
            Ok(_) => self.world.overwrite(&held.node, RELEASED),
            Err(_) => Ok(()),
        };
        drop(held.node);
        if released.is_err()
            && self.world.facts_at(&self.directory, &self.name).is_ok_and(|there| there.is_same_inode(&held.own))
        {
            drop(self.world.unlink(&self.directory, &self.name));
        }
    }

    fn write_record(&self, node: &SimNode) -> io::Result<()> {
        let (pid, start) = (self.world.own_pid(), self.start_of(self.world.own_pid()));
        let start = start.map(|start| format!("{start}\n")).unwrap_or_default();
        self.world.append(node, format!("{pid}\n{}\n{start}", self.host()).as_bytes()).map(drop)
    }

    fn host(&self) -> String {
        host(&self.world.host_name(), self.world.standpoint().pid_namespace)
    }

    fn start_of(&self, pid: u32) -> Option<String> {
        let boot = Boot::of(self.world.boot_id().as_deref());
        Some(Start::new(boot, self.world.start_ticks(pid)?).to_string())
    }

    fn read(&self, name: &OsStr) -> io::Result<Marker> {
        let facts = self.world.facts_at(&self.directory, name)?;
        if facts.kind != Kind::File {
            return Ok(Marker { facts, content: None });
        }
        let node = self.world.open(&self.directory, name, Open::Read)?;
        let facts = self.world.facts(&node)?;
        let mut bytes = vec![0; LONGEST + 1];
        let read = self.world.read_at(&node, 0, &mut bytes)?;
        bytes.truncate(read);
        Ok(Marker { facts, content: (read <= LONGEST).then_some(bytes) })
    }

    /// Breaks the marker if its owner is gone, or if it is no record and has not changed for long.
    fn contest(&mut self) -> io::Result<Option<Held>> {
        let pin = self.world.open(&self.directory, &self.name, Open::Pin)?;
        let pinned = self.world.facts(&pin)?;
        let marker = self.read(&self.name)?;
        if pinned.inode != marker.facts.inode {
            return Ok(None);
        }
        let content = marker.content.as_deref();
        if content == Some(STRICT) || content == Some(b"") {
            return Ok(None);
        }
        match content.and_then(record) {
            None if self.unchanged_for(&marker.facts) >= STILL => {
                self.take_over(&marker, content.and_then(placeholder))
            }
            Some(record) if self.is_stale(&record)? => self.take_over(&marker, Some(record.pid)),
            _ => Ok(None),
        }
    }

    fn unchanged_for(&mut self, facts: &Facts) -> Duration {
        let (now, key) = (self.world.now().monotonic, (facts.mtime_ns, facts.inode, facts.ctime_ns));
        match self.seen {
            Some((seen, since)) if seen == key => now.saturating_sub(since),
            _ => {
                self.seen = Some((key, now));
                Duration::ZERO
            }
        }
    }

    fn is_stale(&self, record: &Record) -> io::Result<bool> {
        if record.host != self.host() {
            return Ok(false);
        }
        if !self.world.exists(record.pid)? {
            return Ok(true);
        }
        let Some(recorded) = &record.start else { return Ok(false) };
        Ok(self.start_of(record.pid).is_some_and(|start| start != *recorded))
    }

    fn is_still(&self, marker: &Marker) -> io::Result<bool> {
        let there = self.world.facts_at(&self.directory, &self.name)?;
        Ok((there.mtime_ns, there.inode) == (marker.facts.mtime_ns, marker.facts.inode))
    }

    fn name_beside(&self, sign: &str, pid: u32) -> io::Result<OsString> {
        let hex = u128::from_be_bytes(self.world.nonce()?);
        let mut name = self.name.clone();
        name.push(format!(".{sign}.{pid}.{hex:032x}"));
        Ok(name)
    }

    fn take_over(&mut self, marker: &Marker, breaker: Option<u32>) -> io::Result<Option<Held>> {
        if !self.is_still(marker)? {
            return Ok(None);
        }
        if let Some(breaker) = breaker
            && self.restore_stranded(breaker, marker)?
        {
            return Ok(None);
        }
        let aside = self.name_beside("break", self.world.own_pid())?;
        let node = self.world.open(&self.directory, &aside, Open::CreateNew)?;
        let own = self.world.facts(&node)?;
        let mut moved = Moved::Nothing;
        match self.swap(marker, &aside, &node, &mut moved) {
            Ok(true) => Ok(Some(Held { node, own })),
            other => {
                self.abandon(&aside, &own, moved)?;
                other.map(|_| None)
            }
        }
    }

    fn swap(&self, marker: &Marker, aside: &OsStr, node: &SimNode, moved: &mut Moved) -> io::Result<bool> {
        self.write_record(node)?;
        if !self.is_still(marker)? || self.world.exchange(&self.directory, aside, &self.name)? != Exchange::Done {
            return Ok(false);
        }
        *moved = Moved::Exchanged;
        let taken = self.world.facts_at(&self.directory, aside)?;
        if (taken.mtime_ns, taken.inode) != (marker.facts.mtime_ns, marker.facts.inode) {
            return Ok(false);
        }
        self.world.unlink(&self.directory, aside)?;
        Ok(true)
    }

    fn abandon(&self, aside: &OsStr, own: &Facts, moved: Moved) -> io::Result<()> {
        let is_back = moved == Moved::Nothing || self.exchange_back(aside, own)?;
        let lock = self.name.as_os_str();
        for name in [lock, aside] {
            if name == lock && !is_back {
                continue;
            }
            match self.world.facts_at(&self.directory, name) {
                Ok(there) if there.is_same_inode(own) => self.world.unlink(&self.directory, name)?,
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                _ => {}
            }
        }
        Ok(())
    }

    fn exchange_back(&self, aside: &OsStr, own: &Facts) -> io::Result<bool> {
        let is_settled = match self.exchange_until_aside(aside, own) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => true,
            other => other?,
        };
        if is_settled {
            match self.world.unlink(&self.directory, aside) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                _ => {}
            }
        }
        Ok(is_settled)
    }

    fn exchange_until_aside(&self, aside: &OsStr, own: &Facts) -> io::Result<bool> {
        let began = self.world.now().monotonic;
        let (deadline, mut feeds_at) = (began + GIVES_UP_AFTER, began + STALL);
        while !self.world.facts_at(&self.directory, aside)?.is_same_inode(own) {
            let now = self.world.now().monotonic;
            let is_ours = self.world.facts_at(&self.directory, &self.name)?.is_same_inode(own);
            if !is_ours && now >= deadline {
                return Ok(false);
            }
            if is_ours || now >= feeds_at {
                if self.world.exchange(&self.directory, aside, &self.name)? != Exchange::Done {
                    return Ok(false);
                }
                feeds_at = now + STALL;
            } else {
                self.world.pause(Duration::from_micros(500));
            }
        }
        Ok(true)
    }

    /// Puts back what a dead breaker took. Says whether the lock counts as held.
    fn restore_stranded(&self, breaker: u32, marker: &Marker) -> io::Result<bool> {
        let own_pid = self.world.own_pid();
        let mut candidates = Vec::new();
        let mut names = self.world.names(&self.directory)?;
        names.sort();
        for name in names {
            match self.beside(&name) {
                Some(("break", pid)) if pid == breaker => candidates.push(Stranded::Unclaimed(name)),
                Some(("restore", pid)) => {
                    if pid != own_pid && self.world.exists(pid)? {
                        return Ok(true);
                    }
                    candidates.push(if pid == own_pid { Stranded::Ours(name) } else { Stranded::Unclaimed(name) });
                }
                _ => {}
            }
        }
        for stranded in candidates {
            if self.recover(stranded, breaker, marker)? {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Reads `<lock>.<sign>.<pid>.<hex>`.
    fn beside<'a>(&self, name: &'a OsStr) -> Option<(&'a str, u32)> {
        let rest = name.to_str()?.strip_prefix(self.name.to_str()?)?.strip_prefix('.')?;
        let mut parts = rest.split('.');
        let (sign, pid) = (parts.next()?, parts.next()?.parse().ok()?);
        Some((sign, pid)).filter(|_| parts.next().is_some_and(|hex| hex.len() == 32))
    }

    fn recover(&self, stranded: Stranded, breaker: u32, marker: &Marker) -> io::Result<bool> {
        let own = match stranded {
            Stranded::Ours(name) => name,
            Stranded::Unclaimed(name) => {
                let own = self.name_beside("restore", self.world.own_pid())?;
                if self.world.rename(&self.directory, &name, &own).is_err() {
                    return Ok(true);
                }
                own
            }
        };
        let Ok(found) = self.read(&own) else {
            self.return_claim(&own, breaker)?;
            return Ok(true);
        };
        if !self.is_live(&found, breaker)? {
            drop(self.world.unlink(&self.directory, &own));
            return Ok(false);
        }
        if !self.put_back(&own, marker).unwrap_or(false) {
            self.return_claim(&own, breaker)?;
        }
        Ok(true)
    }

    fn put_back(&self, own: &OsStr, marker: &Marker) -> io::Result<bool> {
        if !self.is_still(marker)? || self.world.exchange(&self.directory, own, &self.name)? != Exchange::Done {
            return Ok(false);
        }
        if self.world.facts_at(&self.directory, own)?.inode == marker.facts.inode {
            self.world.unlink(&self.directory, own)?;
            return Ok(true);
        }
        self.world.exchange(&self.directory, own, &self.name)?;
        Ok(false)
    }

    fn return_claim(&self, own: &OsStr, breaker: u32) -> io::Result<()> {
        let name = self.name_beside("break", breaker)?;
        drop(self.world.rename(&self.directory, own, &name));
        Ok(())
    }

    fn is_live(&self, found: &Marker, breaker: u32) -> io::Result<bool> {
        let content = found.content.as_deref();
        if content == Some(STRICT) || content == Some(b"") {
            return Ok(true);
        }
        let Some(record) = content.and_then(record) else { return Ok(false) };
        let is_breakers = record.pid == breaker && record.host == self.host();
        Ok(!is_breakers && !self.is_stale(&record)?)
    }
}

fn record(content: &[u8]) -> Option<Record> {
    let text = std::str::from_utf8(content).ok()?.strip_suffix('\n')?;
    let lines: Vec<&str> = text.trim().lines().collect();
    let (pid, host, start) = match lines.as_slice() {
        [pid, host] => (pid, host, None),
        [pid, host, start] => (pid, host, Some((*start).to_owned())),
        _ => return None,
    };
    let is_number = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    let is_whole = is_number(pid) && start.as_deref().is_none_or(is_number);
    let pid = pid.parse().ok().filter(|pid| (1..=0x7FFF_FFFF).contains(pid) && is_whole)?;
    Some(Record { pid, host: (*host).to_owned(), start })
}

fn placeholder(content: &[u8]) -> Option<u32> {
    std::str::from_utf8(content).ok()?.strip_prefix("filelock/break\n")?.strip_suffix('\n')?.parse().ok()
}
