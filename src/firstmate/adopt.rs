//! Putting the shims in place of the scripts, and the scripts back.
//!
//! # Theory
//!
//! A script is kept by giving it a second name beside the first (a hard link), so content, mode, time and owner are not
//! copied but stay. Then the shim is renamed over the first name. Undoing is one rename of the second name over the first.
//! At each moment the first name is a whole script, the old or the new; as both speak one protocol, a set that is half of
//! each works as well. What was begun is seen from the two names alone, and goes on from there:
//!
//! | first name | second name | so |
//! |---|---|---|
//! | a script | none | not adopted |
//! | a script | the same file | about to be adopted, or just put back |
//! | a shim | a file | adopted |
//! | a script | another file | adopted, and then written anew by somebody, such as a version control system |
//!
//! One file more says whether `state/watch` was there before, for undoing must not remove what was. It is written first
//! and removed last. Whoever changes anything holds the kernel lock of `bin`.
//!
//! If this is wrong, a home loses a script, or somebody's changes to one.
//!
//! # Limits
//!
//! A file system without hard links is refused. Whether a script follows the known contract is told from the lines that it
//! prints: that shows which contract it means, not that it keeps to it.

use std::ffi::OsStr;
use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::home::Script;
use super::shim::{self, REPLACED};
use crate::base::error::{Context, Error, Result};
use crate::base::failpoint::Failpoint;
use crate::system::storage::{self, Change, Durability, Replaced};
use crate::system::{Claim, Facts, Kind, World};

/// No script is longer.
const LIMIT: usize = 1 << 20;

/// The file that says what was there before.
const RECORD: &str = ".fm-watch-adoption.json";

/// What must be in a script for it to be one of the known contract: lines that it prints, or what it cannot do without.
fn words(script: Script) -> &'static [&'static str] {
    match script {
        Script::Watch => &["watcher: already running", "signal:", "stale:", "check:", "heartbeat"],
        Script::Arm => &["watcher: started", "watcher: healthy", "watcher: FAILED", "[--restart]"],
        Script::Guard => &["WATCHER DOWN", "queued wakes pending"],
        Script::Drain => &["fm-wake-lib.sh"],
        Script::Library => &[],
    }
}

/// Why a script does not look like one of the known contract.
pub fn strangeness(script: Script, content: &[u8]) -> Option<String> {
    let first = content.split(|&byte| byte == b'\n').next().unwrap_or_default();
    if !first.starts_with(b"#!") || !first.trim_ascii_end().ends_with(b"sh") {
        return Some("it is no shell script".to_owned());
    }
    let has = |word: &&str| content.windows(word.len()).any(|window| window == word.as_bytes());
    let missing = words(script).iter().find(|word| !has(word))?;
    Some(format!("it does not say `{missing}`, so it may follow another contract"))
}

/// Whether scripts that do not look like the known ones are adopted, too.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Care {
    /// They are refused.
    Refuse,
    /// They are adopted.
    Force,
}

/// Whether anything is changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// It is.
    Does,
    /// What would be done is only told.
    Shows,
}

/// How a script stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ScriptState {
    /// It is not there.
    Missing,
    /// It is itself.
    Original,
    /// It is itself, and has its second name already.
    Doubled,
    /// A shim stands in for it.
    Adopted,
    /// A shim stands there, and the original is gone.
    Lost,
    /// It was put back by somebody, as it was.
    PutBack,
    /// It was written anew since it was adopted.
    Rewritten,
    /// Only its second name is there.
    OnlyKept,
}

/// A name and what it stands for: its facts and, of a regular file, its content.
type Found = Option<(Facts, Vec<u8>)>;

/// Tells how a script stands from its two names.
fn standing(script: &Found, kept: &Found) -> ScriptState {
    match (script, kept) {
        (None, None) => ScriptState::Missing,
        (None, Some(_)) => ScriptState::OnlyKept,
        (Some((_, content)), None) if shim::is_shim(content) => ScriptState::Lost,
        (Some(_), None) => ScriptState::Original,
        (Some((script, _)), Some((kept, _))) if script.is_same_inode(kept) => ScriptState::Doubled,
        (Some((_, content)), Some(_)) if shim::is_shim(content) => ScriptState::Adopted,
        (Some((script, content)), Some((kept, before))) if content == before && script.mode == kept.mode => {
            ScriptState::PutBack
        }
        (Some(_), Some(_)) => ScriptState::Rewritten,
    }
}

/// What was done about a script.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Did {
    /// A shim stands in for it now.
    Replaced,
    /// The original is back.
    Restored,
    /// It was as it should be.
    Nothing,
}

/// What was done about one script, or would be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Step {
    /// The script.
    pub path: PathBuf,
    /// What was done.
    pub did: Did,
    /// Whether it was.
    pub mode: Mode,
}

impl fmt::Display for Step {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let path = crate::base::escape::line(&self.path.display().to_string());
        match (self.did, self.mode) {
            (Did::Nothing, _) => write!(formatter, "adopt: unchanged {path}"),
            (Did::Replaced, Mode::Does) => write!(formatter, "adopt: replaced {path}"),
            (Did::Replaced, Mode::Shows) => write!(formatter, "adopt: would replace {path}"),
            (Did::Restored, Mode::Does) => write!(formatter, "adopt: restored {path}"),
            (Did::Restored, Mode::Shows) => write!(formatter, "adopt: would restore {path}"),
        }
    }
}

/// What was there before.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
struct Before {
    schema: u32,
    /// Whether `state/watch` was there.
    had_watch: bool,
}

/// The directory of the scripts, for as long as somebody adopts or undoes.
#[derive(Debug)]
pub struct Bin<W: World> {
    directory: W::Node,
    path: PathBuf,
}

impl<W: World> Bin<W> {
    /// Opens the directory below the code's root, for this process alone if anything is to be changed.
    ///
    /// # Errors
    /// There is none, or somebody else is changing it.
    pub fn open(world: &W, root: &Path, mode: Mode) -> Result<Self> {
        let path = root.join("bin");
        let directory = match world.open_directory(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return Err(Error::refused(root, "it has no directory bin", "give the directory of a firstmate home"));
            }
            opened => opened.doing("open", &path)?,
        };
        let is_busy = || Ok(mode == Mode::Does && world.try_lock(&directory)? == Claim::Busy);
        if is_busy().doing("lock", &path)? {
            return Err(Error::refused(&path, "somebody else is adopting or undoing", "wait for that, and try again"));
        }
        Ok(Self { directory, path })
    }

    fn find(&self, world: &W, name: &str) -> Result<Found> {
        let path = self.path.join(name);
        let facts = match world.facts_at(&self.directory, OsStr::new(name)) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            facts => facts.doing("examine", &path)?,
        };
        if facts.kind != Kind::File {
            return Err(Error::refused(&path, "it is no regular file", "nothing was changed; look at it"));
        }
        let content = storage::read(world, &self.directory, OsStr::new(name), LIMIT).doing("read", &path)?;
        Ok(content.map(|content| (facts, content)))
    }

    fn look(&self, world: &W, script: Script) -> Result<ScriptObservation> {
        let (script_found, kept) = (self.find(world, shim::name(script))?, self.find(world, &shim::kept_name(script))?);
        Ok(ScriptObservation { standing: standing(&script_found, &kept), script: script_found })
    }

    fn path_of(&self, script: Script) -> PathBuf {
        self.path.join(shim::name(script))
    }

    /// Puts shims that run the program at this path in place of the scripts.
    ///
    /// # Errors
    /// A script that must not be adopted, with the reason: nothing was changed. Or the system refuses a step; what was
    /// done stays done, and doing it again goes on from there.
    pub fn adopt(&self, world: &W, program: &Path, watch: &Path, care: Care, mode: Mode) -> Result<Vec<Step>> {
        let mut sights = Vec::new();
        for (script, verb) in REPLACED {
            let sight = self.look(world, script)?;
            self.refuse(script, &sight, care)?;
            sights.push((script, shim::text(script, verb, program), sight));
        }
        self.refuse_without_library(world, care)?;
        if mode == Mode::Does {
            self.remember(world, watch)?;
        }
        sights.into_iter().map(|(script, text, sight)| self.adopt_one(world, script, &text, &sight, mode)).collect()
    }

    fn refuse(&self, script: Script, sight: &ScriptObservation, care: Care) -> Result<()> {
        let strange = || match (&sight.script, care) {
            (Some((_, content)), Care::Refuse) => strangeness(script, content),
            _ => None,
        };
        let kept = shim::kept_name(script);
        let found = match sight.standing {
            ScriptState::Missing => Some("it is not there".to_owned()),
            ScriptState::OnlyKept => Some(format!("it is gone, and only {kept} is there")),
            ScriptState::Lost => Some(format!("it stands in for a script whose original, {kept}, is gone")),
            ScriptState::Rewritten if care == Care::Refuse => {
                Some(format!("it was written anew since it was adopted, and {kept} is what it was before"))
            }
            ScriptState::Original | ScriptState::Doubled | ScriptState::PutBack => strange(),
            ScriptState::Adopted | ScriptState::Rewritten => None,
        };
        let found = found.or_else(|| not_ours(sight));
        let next = match sight.standing {
            ScriptState::OnlyKept | ScriptState::Lost => {
                "nothing was changed; put it back by hand, or with `adopt --undo`"
            }
            ScriptState::Missing => "nothing was changed; give the directory of a firstmate home",
            _ => "nothing was changed; look at it, and adopt it all the same with --force",
        };
        found.map_or(Ok(()), |found| Err(Error::refused(self.path_of(script), found, next)))
    }

    fn refuse_without_library(&self, world: &W, care: Care) -> Result<()> {
        if care == Care::Force || self.find(world, shim::name(Script::Library))?.is_some() {
            return Ok(());
        }
        let next = "nothing was changed; these are other scripts, adopt them all the same with --force";
        Err(Error::refused(self.path_of(Script::Library), "it is not there", next))
    }

    /// Writes down what was there before, unless somebody has begun to adopt already.
    fn remember(&self, world: &W, watch: &Path) -> Result<()> {
        let path = self.path.join(RECORD);
        if self.before(world)?.is_some() {
            return Ok(());
        }
        let had_watch = world.facts_of_path(watch).is_ok();
        let content = serde_json::to_vec(&Before { schema: 1, had_watch });
        let content = content.map_err(|error| Error::Failed(error.to_string()))?;
        storage::replace(world, &self.directory, RECORD, &content, Durability::Power).doing("write", &path)?;
        world.reach(Failpoint::AdoptRemembered).doing("write", &path)
    }

    fn before(&self, world: &W) -> Result<Option<Before>> {
        let path = self.path.join(RECORD);
        let content = storage::read(world, &self.directory, OsStr::new(RECORD), LIMIT).doing("read", &path)?;
        let parsed = content.map(|content| serde_json::from_slice(&content)).transpose();
        parsed.map_err(|error| Error::refused(&path, error, "nothing was changed; look at it, and remove it"))
    }

    fn adopt_one(&self, world: &W, script: Script, text: &[u8], sight: &ScriptObservation, mode: Mode) -> Result<Step> {
        let path = self.path_of(script);
        let Some((facts, content)) = &sight.script else {
            return Err(Error::refused(path, "it has just been removed", "try again"));
        };
        let is_done = sight.standing == ScriptState::Adopted && content == text;
        let did = if is_done { Did::Nothing } else { Did::Replaced };
        if is_done || mode == Mode::Shows {
            return Ok(Step { path, did, mode });
        }
        if matches!(sight.standing, ScriptState::PutBack | ScriptState::Rewritten) {
            storage::remove(world, &self.directory, OsStr::new(&shim::kept_name(script))).doing("replace", &path)?;
        }
        if !matches!(sight.standing, ScriptState::Adopted | ScriptState::Doubled) {
            self.keep(world, script)?;
        }
        world.reach(Failpoint::AdoptKept).doing("replace", &path)?;
        let change = Change { before: Some(content), after: Some(text), mode: facts.mode };
        match storage::change(world, &self.directory, shim::name(script), &change).doing("replace", &path)? {
            Replaced::Done => {}
            Replaced::Changed => return Err(Error::refused(path, "somebody has just changed it", "try again")),
        }
        world.reach(Failpoint::AdoptReplaced).doing("replace", &path)?;
        Ok(Step { path, did, mode })
    }

    fn keep(&self, world: &W, script: Script) -> Result<()> {
        let kept = shim::kept_name(script);
        let linked = world
            .link(&self.directory, OsStr::new(shim::name(script)), OsStr::new(&kept))
            .and_then(|()| world.sync_all(&self.directory));
        linked.map_err(|error| {
            let found = format!("it cannot be given a second name, {kept}: {error}");
            Error::refused(self.path_of(script), found, "it was not changed; adopt on a file system with hard links")
        })
    }

    /// Puts the scripts back. What cannot be put back is told after everything else was.
    ///
    /// # Errors
    /// The system refuses a step; what was done stays done, and doing it again goes on from there.
    pub fn undo(&self, world: &W, mode: Mode) -> Result<Undone> {
        let mut undone = Undone { steps: Vec::new(), left: Vec::new(), removes_watch: false };
        undone.removes_watch = self.before(world)?.is_some_and(|before| !before.had_watch);
        for (script, _) in REPLACED {
            let standing = self.look(world, script)?.standing;
            let (path, kept) = (self.path_of(script), shim::kept_name(script));
            let did = match standing {
                ScriptState::Missing | ScriptState::Original => Did::Nothing,
                ScriptState::Doubled | ScriptState::PutBack | ScriptState::Adopted | ScriptState::OnlyKept => {
                    Did::Restored
                }
                ScriptState::Lost => {
                    undone.left.push(Error::refused(&path, format!("{kept} is gone"), "put it back by hand"));
                    continue;
                }
                ScriptState::Rewritten => {
                    let found = format!("it was written anew since it was adopted, and {kept} is what it was before");
                    undone.left.push(Error::refused(
                        &path,
                        found,
                        "it was left as it is; remove the one you do not want",
                    ));
                    continue;
                }
            };
            if did == Did::Restored && mode == Mode::Does {
                self.restore(world, script, standing).doing("put back", &path)?;
            }
            undone.steps.push(Step { path, did, mode });
        }
        Ok(undone)
    }

    fn restore(&self, world: &W, script: Script, standing: ScriptState) -> io::Result<()> {
        let (name, kept) = (shim::name(script), shim::kept_name(script));
        match standing {
            // A rename from one name of a file to another of the same file does nothing at all.
            ScriptState::Doubled | ScriptState::PutBack => storage::remove(world, &self.directory, OsStr::new(&kept))?,
            _ => world.rename(&self.directory, OsStr::new(&kept), OsStr::new(name))?,
        }
        world.sync_all(&self.directory)?;
        world.reach(Failpoint::AdoptRestored)
    }

    /// Forgets what was there before: all is undone.
    ///
    /// # Errors
    /// Those of the system.
    pub fn forget(&self, world: &W) -> Result<()> {
        let mut names = REPLACED.map(|(script, _)| shim::name(script)).to_vec();
        names.push(RECORD);
        storage::sweep_of(world, &self.directory, &names).doing("tidy", &self.path)?;
        storage::remove(world, &self.directory, OsStr::new(RECORD)).doing("remove", self.path.join(RECORD))
    }
}

/// A script as it was found.
struct ScriptObservation {
    standing: ScriptState,
    script: Found,
}

fn not_ours(sight: &ScriptObservation) -> Option<String> {
    let (facts, _) = sight.script.as_ref()?;
    (!facts.is_own()).then(|| format!("it belongs to uid {}", facts.uid))
}

/// What undoing did.
#[derive(Debug)]
pub struct Undone {
    /// What was done, or would be.
    pub steps: Vec<Step>,
    /// What could not be put back.
    pub left: Vec<Error>,
    /// Whether `state/watch` was not there before.
    pub removes_watch: bool,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_script_is_known_by_what_it_says() {
        let arm = b"#!/usr/bin/env bash\necho 'watcher: started' 'watcher: healthy' 'watcher: FAILED' '[--restart]'\n";
        assert_eq!(strangeness(Script::Arm, arm), None);
        let other = b"#!/bin/sh\necho 'watcher: started' 'watcher: healthy' '[--restart]'\n";
        assert!(strangeness(Script::Arm, other).unwrap().contains("watcher: FAILED"));
        for content in [&b""[..], b"watcher: started", b"#!/usr/bin/python3\nfm-wake-lib.sh"] {
            assert_eq!(strangeness(Script::Drain, content).unwrap(), "it is no shell script");
        }
    }

    fn found(inode: u64, content: &str) -> (Facts, Vec<u8>) {
        let facts = Facts {
            kind: Kind::File,
            device: 1,
            inode,
            size: 0,
            mtime_ns: 0,
            ctime_ns: 0,
            links: 1,
            uid: 0,
            mode: 0o755,
        };
        (facts, content.as_bytes().to_vec())
    }

    #[test]
    fn the_two_names_tell_how_a_script_stands() {
        const SHIM: &str = "#!/bin/sh\n# fm-watch stands in for this script; x\n";
        for (script, kept, expected) in [
            (None, None, ScriptState::Missing),
            (None, Some(found(1, "a")), ScriptState::OnlyKept),
            (Some(found(1, "a")), None, ScriptState::Original),
            (Some(found(1, "a")), Some(found(1, "a")), ScriptState::Doubled),
            (Some(found(2, SHIM)), Some(found(1, "a")), ScriptState::Adopted),
            (Some(found(2, SHIM)), None, ScriptState::Lost),
            (Some(found(2, "a")), Some(found(1, "a")), ScriptState::PutBack),
            (Some(found(2, "b")), Some(found(1, "a")), ScriptState::Rewritten),
        ] {
            assert_eq!(standing(&script, &kept), expected, "{script:?} {kept:?}");
        }
    }
}
