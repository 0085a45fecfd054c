//! What a daemon prints: two files, each within its bound, and the newest line always among them.
//!
//! # Theory
//!
//! Only the daemon's monitor writes here. When `log` would exceed its bound it becomes `log.1` by a rename, in place of
//! the older one, and a new one begins. So between them the files hold the last one to two bounds of output, and a reader
//! who follows them notices the change by the inode.
//!
//! A line is not torn by such a change if it comes in one piece and fits into a file. Of a line that comes in pieces only
//! the beginning is known when it has to be decided where it goes, so it begins only where there is room for
//! [`CappedLog::reserve`] bytes, and is torn only if it is longer than that.
//!
//! A log that cannot be written stops nothing, least of all the daemon, which waits for nobody while its output is read.
//! So writing never fails outward: what cannot be written is dropped and counted, and a line says so where the gap is.
//!
//! Limits: the bound holds for the bytes of the files, not for the blocks that the disk gives them.

use std::ffi::OsStr;
use std::io;
use std::sync::Arc;

use super::paths::{LOG, OLDER_LOG};
use crate::system::storage;
use crate::system::{Kind, Open, World};

/// The most room that is kept for the rest of a line whose end is not known yet, in bytes.
const RESERVE_AT_MOST: u64 = 64 * 1024;

/// How often a reader looks again when the files change under it.
const LOOKS: usize = 5;

/// The log of one daemon, to be written.
#[derive(Debug)]
pub struct CappedLog<W: World> {
    world: Arc<W>,
    directory: W::Node,
    max: u64,
    current: Option<Current<W>>,
    gap: Option<Gap>,
}

/// The file that is written to.
#[derive(Debug)]
struct Current<W: World> {
    node: W::Node,
    size: u64,
    line: Line,
}

/// Where in a line the end of the file is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Line {
    /// At its beginning.
    Fresh,
    /// Somewhere in it.
    Underway,
}

/// Output that is missing at the end of the log.
#[derive(Debug)]
struct Gap {
    bytes: u64,
    why: String,
}

/// The next step of writing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Step {
    /// So many bytes go into the file.
    Append(usize),
    /// A new file has to begin first.
    Rotate,
}

impl<W: World> CappedLog<W> {
    /// A log in its directory, of at most so many bytes in each of its two files. Nothing is opened before the first
    /// output.
    pub fn open(world: Arc<W>, directory: W::Node, max: u64) -> Self {
        Self { world, directory, max: max.max(1), current: None, gap: None }
    }

    /// Room that must be left for a line to begin whose end has not come yet, in bytes.
    pub fn reserve(&self) -> u64 {
        (self.max / 2).min(RESERVE_AT_MOST)
    }

    /// Writes output as it comes. What cannot be written is dropped, and the log says so as soon as it can.
    pub fn write(&mut self, bytes: &[u8]) {
        self.tell_gap();
        let why = if self.gap.is_some() { None } else { self.append(bytes).err() };
        match (why, &mut self.gap) {
            (Some((lost, error)), _) => self.gap = Some(Gap { bytes: lost as u64, why: error.to_string() }),
            (None, Some(gap)) => gap.bytes = gap.bytes.saturating_add(bytes.len() as u64),
            (None, None) => {}
        }
    }

    /// Ends the line that is underway, if one is: what comes next is of another life.
    pub fn end_line(&mut self) {
        if self.ready().is_ok_and(|current| current.line == Line::Underway) {
            self.write(b"\n");
        }
    }

    /// How many bytes were dropped since writing worked last.
    #[cfg(test)]
    pub fn lost(&self) -> u64 {
        self.gap.as_ref().map_or(0, |gap| gap.bytes)
    }

    /// Says in the log that output is missing there, if that is so and writing works again.
    fn tell_gap(&mut self) {
        let Some(gap) = &self.gap else { return };
        let notice = format!("fm-watch: {} bytes of output are missing here: {}\n", gap.bytes, gap.why);
        let begins = match self.ready() {
            Ok(current) if current.line == Line::Underway => "\n",
            Ok(_) => "",
            Err(_) => return,
        };
        if self.append(format!("{begins}{notice}").as_bytes()).is_ok() {
            self.gap = None;
        }
    }

    /// Appends everything, or says how much of it was lost.
    fn append(&mut self, mut bytes: &[u8]) -> Result<(), (usize, io::Error)> {
        while !bytes.is_empty() {
            let taken = self.append_some(bytes).map_err(|error| (bytes.len(), error))?;
            bytes = &bytes[taken.min(bytes.len())..];
        }
        Ok(())
    }

    fn append_some(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let (max, reserve) = (self.max, self.reserve());
        let current = self.ready()?;
        let portion = match step(bytes, current.size, current.line, max, reserve) {
            Step::Append(portion) => &bytes[..portion],
            Step::Rotate => {
                self.rotate()?;
                return Ok(0);
            }
        };
        let Some(mut current) = self.current.take() else { return Ok(0) };
        // The file is looked up anew after a failure.
        let taken = match self.world.append(&current.node, portion)? {
            0 => return Err(io::Error::from(io::ErrorKind::WriteZero)),
            taken => taken.min(portion.len()),
        };
        current.size += taken as u64;
        current.line = line_after(&portion[..taken]);
        self.current = Some(current);
        Ok(taken)
    }

    /// The file to write to. One that was removed under us is replaced.
    fn ready(&mut self) -> io::Result<&mut Current<W>> {
        let has_name = |current: &Current<W>| self.world.facts(&current.node).is_ok_and(|facts| facts.links > 0);
        let open = match self.current.take() {
            Some(current) if has_name(&current) => current,
            _ => self.look_up()?,
        };
        Ok(self.current.insert(open))
    }

    fn look_up(&self) -> io::Result<Current<W>> {
        let world = self.world.as_ref();
        let (node, facts) = storage::open_to_append(world, &self.directory, OsStr::new(LOG))?;
        let line = match facts.size.checked_sub(1) {
            None => Line::Fresh,
            Some(last) => {
                let reading = world.open(&self.directory, OsStr::new(LOG), Open::Read)?;
                line_after(&storage::read_from(world, &reading, last, 1)?)
            }
        };
        Ok(Current { node, size: facts.size, line })
    }

    fn rotate(&mut self) -> io::Result<()> {
        self.current = None;
        self.world.rename(&self.directory, OsStr::new(LOG), OsStr::new(OLDER_LOG))
    }
}

fn line_after(bytes: &[u8]) -> Line {
    if bytes.last().is_none_or(|&byte| byte == b'\n') { Line::Fresh } else { Line::Underway }
}

/// How much of the output goes into a file of that size. It is never empty.
fn step(bytes: &[u8], size: u64, line: Line, max: u64, reserve: u64) -> Step {
    let room = usize::try_from(max.saturating_sub(size)).unwrap_or(usize::MAX);
    let within = &bytes[..bytes.len().min(room)];
    let whole_lines = within.iter().rposition(|&byte| byte == b'\n').map_or(0, |newline| newline + 1);
    if within.is_empty() {
        return Step::Rotate;
    }
    let is_all = within.len() == bytes.len();
    let unfinished = within.len() - whole_lines;
    let continues = whole_lines == 0 && line == Line::Underway;
    let has_reserve = (room - whole_lines) as u64 >= reserve.max(unfinished as u64);
    match (is_all, whole_lines) {
        _ if unfinished == 0 || continues => Step::Append(within.len()),
        (true, _) if has_reserve => Step::Append(within.len()),
        // A line that does not fit into an empty file is torn in any case.
        (_, 0) if size == 0 => Step::Append(within.len()),
        (_, 0) => Step::Rotate,
        _ => Step::Append(whole_lines),
    }
}

/// The last lines of a log, over both files: at most so many lines, and at most so many bytes. The first of them is
/// whole unless it alone is longer.
///
/// # Errors
/// Those of the file system. A log that does not exist is empty.
pub fn tail<W: World>(world: &W, directory: &W::Node, lines: usize, bytes: usize) -> io::Result<Vec<u8>> {
    tail_and_end(world, directory, lines, bytes).map(|(tail, _)| tail)
}

/// The files of a log, and how far they were read.
#[derive(Debug)]
pub(super) struct End<W: World> {
    /// The older file.
    pub older: Option<W::Node>,
    /// The newer file, and the offset behind what was read.
    pub newer: Option<(W::Node, u64)>,
}

/// The same, with the files and how far they were read.
pub(super) fn tail_and_end<W: World>(
    world: &W,
    directory: &W::Node,
    lines: usize,
    bytes: usize,
) -> io::Result<(Vec<u8>, End<W>)> {
    let mut looks = 0;
    loop {
        let older = open_if_there(world, directory, OLDER_LOG)?;
        let newer = open_if_there(world, directory, LOG)?;
        // One byte more tells whether the first line that is shown is whole.
        let bytes_read = bytes.saturating_add(1);
        let (mut end, offset) = read_last(world, newer.as_ref(), bytes_read)?;
        let (mut all, _) = read_last(world, older.as_ref(), bytes_read.saturating_sub(end.len()))?;
        all.append(&mut end);
        looks += 1;
        let again = open_if_there(world, directory, OLDER_LOG)?;
        if is_same(world, older.as_ref(), again.as_ref())? || looks == LOOKS {
            let end = End { older, newer: newer.map(|node| (node, offset)) };
            return Ok((last_lines(&all, lines, bytes).to_vec(), end));
        }
    }
}

fn open_if_there<W: World>(world: &W, directory: &W::Node, name: &str) -> io::Result<Option<W::Node>> {
    match world.open(directory, OsStr::new(name), Open::Read) {
        Ok(node) => Ok(Some(node)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

fn is_same<W: World>(world: &W, one: Option<&W::Node>, other: Option<&W::Node>) -> io::Result<bool> {
    match (one, other) {
        (Some(one), Some(other)) => Ok(world.facts(one)?.is_same_inode(&world.facts(other)?)),
        (None, None) => Ok(true),
        _ => Ok(false),
    }
}

/// The last bytes of a file, and the offset behind them.
fn read_last<W: World>(world: &W, node: Option<&W::Node>, bytes: usize) -> io::Result<(Vec<u8>, u64)> {
    let Some(node) = node else { return Ok((Vec::new(), 0)) };
    let facts = world.facts(node)?;
    if facts.kind != Kind::File {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "not a regular file"));
    }
    let from = facts.size.saturating_sub(bytes as u64);
    let read = storage::read_from(world, node, from, bytes)?;
    let end = from + read.len() as u64;
    Ok((read, end))
}

/// The last lines of a text that was read one byte further back than may be shown.
fn last_lines(text: &[u8], lines: usize, bytes: usize) -> &[u8] {
    let from = text.len().saturating_sub(bytes);
    let shown = &text[from..];
    let is_torn = from > 0 && text[from - 1] != b'\n';
    let first_whole = shown.iter().position(|&byte| byte == b'\n').map_or(shown.len(), |newline| newline + 1);
    let whole = if is_torn && first_whole < shown.len() { &shown[first_whole..] } else { shown };
    let body = whole.strip_suffix(b"\n").unwrap_or(whole);
    let newlines = body.iter().enumerate().rev().filter(|(_, byte)| **byte == b'\n').map(|(at, _)| at);
    match lines.checked_sub(1) {
        None => &[],
        Some(skipped) => newlines.into_iter().nth(skipped).map_or(whole, |at| &whole[at + 1..]),
    }
}

#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "a test prepares files and processes of its own")]
mod tests {
    use std::fs;

    use proptest::prelude::*;

    use super::*;
    use crate::journal::faulty_disk::Faulty;
    use crate::system::Real;

    struct Bench {
        directory: tempfile::TempDir,
        world: Arc<Faulty>,
        log: CappedLog<Faulty>,
    }

    fn bench(max: u64) -> Bench {
        let directory = tempfile::tempdir().unwrap();
        let world = Arc::new(Faulty::default());
        let node = world.open_directory(directory.path()).unwrap();
        let log = CappedLog::open(Arc::clone(&world), node, max);
        Bench { directory, world, log }
    }

    impl Bench {
        fn file(&self, name: &str) -> String {
            let bytes = fs::read(self.directory.path().join(name)).unwrap_or_default();
            String::from_utf8(bytes).unwrap()
        }

        fn tail(&self, lines: usize, bytes: usize) -> String {
            let node = Real.open_directory(self.directory.path()).unwrap();
            String::from_utf8(tail(&Real, &node, lines, bytes).unwrap()).unwrap()
        }
    }

    #[test]
    fn a_full_file_becomes_the_older_one_between_two_lines() {
        let mut bench = bench(20);
        bench.log.write(b"one\ntwo\nthree\nfour\nfive\n");
        assert_eq!((bench.file(LOG).as_str(), bench.file(OLDER_LOG).as_str()), ("five\n", "one\ntwo\nthree\nfour\n"));
        bench.log.write(b"six\nseven\n eight\n");
        assert_eq!(bench.file(LOG), " eight\n");
        assert_eq!(bench.file(OLDER_LOG), "five\nsix\nseven\n");
    }

    #[test]
    fn a_line_that_comes_in_pieces_begins_where_it_has_room() {
        let mut bench = bench(20);
        bench.log.write(b"123456789\n1234");
        assert_eq!(bench.file(LOG), "123456789\n1234", "half of the file is kept for it");
        bench.log.write(b"56789\nab");
        bench.log.write(b"c\n");
        assert_eq!((bench.file(LOG).as_str(), bench.file(OLDER_LOG).as_str()), ("abc\n", "123456789\n123456789\n"));
    }

    #[test]
    fn a_line_longer_than_a_file_keeps_its_end() {
        let mut bench = bench(10);
        bench.log.write(b"x\n");
        bench.log.write(&[b'a'; 25]);
        bench.log.write(b"end\nnext\n");
        assert_eq!((bench.file(LOG).as_str(), bench.file(OLDER_LOG).as_str()), ("next\n", "aaaaaend\n"));
    }

    #[test]
    fn an_unfinished_line_is_in_the_log_at_once_and_another_life_begins_a_new_one() {
        let mut bench = bench(100);
        bench.log.write(b"prompt> ");
        assert_eq!(bench.file(LOG), "prompt> ");
        let node = Real.open_directory(bench.directory.path()).unwrap();
        let mut next = CappedLog::open(Arc::new(Real), node, 100);
        next.end_line();
        next.end_line();
        next.write(b"hello\n");
        assert_eq!(bench.file(LOG), "prompt> \nhello\n");
    }

    #[test]
    fn a_full_disk_loses_output_and_says_so_when_there_is_room_again() {
        let mut bench = bench(1000);
        bench.log.write(b"before\n");
        bench.world.leave_room(3, 28);
        bench.log.write(b"lost\n");
        bench.log.write(b"lost too\n");
        assert_eq!((bench.file(LOG).as_str(), bench.log.lost()), ("before\nlos", 11));
        bench.world.leave_room(u64::MAX, 28);
        bench.log.write(b"after\n");
        let expected = "before\nlos\nfm-watch: 11 bytes of output are missing here: No space left on device (os error 28)\n\
                        after\n";
        assert_eq!((bench.file(LOG).as_str(), bench.log.lost()), (expected, 0));
    }

    #[test]
    fn a_disk_without_room_for_the_notice_loses_more_and_never_fails() {
        let mut bench = bench(1000);
        bench.world.leave_room(0, 30);
        bench.log.write(b"12345");
        bench.world.leave_room(10, 28);
        bench.log.write(b"678\n");
        assert_eq!(bench.log.lost(), 9);
        bench.world.leave_room(u64::MAX, 28);
        bench.log.write(b"after\n");
        let expected = "fm-watch: \nfm-watch: 9 bytes of output are missing here: Read-only file system (os error 30)\n\
                        after\n";
        assert_eq!(bench.file(LOG), expected);
    }

    #[test]
    fn a_log_that_was_removed_begins_anew_and_a_link_is_never_written_through() {
        let mut bench = bench(1000);
        bench.log.write(b"one\n");
        fs::remove_file(bench.directory.path().join(LOG)).unwrap();
        bench.log.write(b"two\n");
        assert_eq!(bench.file(LOG), "two\n");
        fs::remove_file(bench.directory.path().join(LOG)).unwrap();
        let elsewhere = bench.directory.path().join("elsewhere");
        fs::write(&elsewhere, "mine").unwrap();
        std::os::unix::fs::symlink(&elsewhere, bench.directory.path().join(LOG)).unwrap();
        bench.log.write(b"three\n");
        assert_eq!((fs::read_to_string(&elsewhere).unwrap().as_str(), bench.log.lost()), ("mine", 6));
    }

    #[test]
    fn the_tail_goes_over_both_files_and_begins_with_a_whole_line() {
        let mut bench = bench(20);
        assert_eq!(bench.tail(3, 100), "");
        bench.log.write(b"one\ntwo\nthree\nfour\nfive\n");
        assert_eq!(bench.tail(3, 100), "three\nfour\nfive\n");
        assert_eq!(bench.tail(1, 100), "five\n");
        assert_eq!(bench.tail(0, 100), "");
        assert_eq!(bench.tail(100, 100), "one\ntwo\nthree\nfour\nfive\n");
        assert_eq!(bench.tail(100, 12), "four\nfive\n", "a line that is cut is left out");
        assert_eq!(bench.tail(100, 10), "four\nfive\n");
        assert_eq!(bench.tail(100, 3), "ve\n", "unless nothing else would be left");
        bench.log.write(b"six");
        assert_eq!(bench.tail(2, 100), "five\nsix");
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn the_bound_holds_and_the_files_are_the_end_of_the_output(
            pieces in prop::collection::vec(prop::collection::vec(prop_oneof![4 => Just(b'x'), 1 => Just(b'\n')], 0..40), 0..40),
            max in 8u64..64,
        ) {
            let mut bench = bench(max);
            let mut all = Vec::new();
            for piece in &pieces {
                bench.log.write(piece);
                all.extend_from_slice(piece);
                let (newer, older) = (bench.file(LOG), bench.file(OLDER_LOG));
                prop_assert!(newer.len() as u64 <= max && older.len() as u64 <= max);
                let kept = [older.as_bytes(), newer.as_bytes()].concat();
                prop_assert!(all.ends_with(&kept));
                prop_assert!(newer.len() + older.len() == all.len() || !older.is_empty());
                if !piece.is_empty() {
                    prop_assert!(!newer.is_empty());
                }
            }
        }

        #[test]
        fn a_line_that_comes_whole_and_fits_is_never_torn(lengths in prop::collection::vec(0usize..31, 1..60)) {
            let mut bench = bench(32);
            for length in lengths {
                let line = format!("{}\n", "y".repeat(length));
                bench.log.write(line.as_bytes());
                prop_assert!(bench.file(LOG).ends_with(&line));
                let older = bench.file(OLDER_LOG);
                prop_assert!(older.is_empty() || older.ends_with('\n'));
            }
        }
    }
}
