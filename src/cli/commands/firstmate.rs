//! `firstmate`: answer as the scripts of a firstmate home do.
//!
//! The shims that `adopt` puts in place of the scripts come here, with the script's own path, so every script's home is
//! found here as they find it: `FM_HOME`, else `FM_ROOT_OVERRIDE`, else where the script's directory is. Their
//! arguments are read here and not by the definition of this program's command line: the words are not its own, and a
//! guard that runs at the top of other commands must not wait for that definition.

use std::ffi::{OsStr, OsString};
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::arm_tracked::{self, Failing};
use super::run::Manner;
use super::waiter;
use super::{arm, run};
use crate::api::waiter::OnLoss;
use crate::base::console::{Color, Console};
use crate::base::environment::Environment;
use crate::base::error::{Error, Result};
use crate::base::exit;
use crate::cli::args::{self, Global};
use crate::cli::fast_path::{Before, Words};
use crate::cli::session::Session;
use crate::firstmate::drain;
use crate::firstmate::home::{Origin, names};
use crate::firstmate::script_output::{self, Asked, LastBeat, Queue};
use crate::firstmate::shim::Verb;
use crate::launch::{Wish, obtain};
use crate::settings;
use crate::system::World;
use crate::watcher::facts;

/// A call in the place of a script.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Called {
    /// Which one.
    pub verb: Verb,
    /// The script's own path, if a shim calls.
    pub script: Option<PathBuf>,
    /// Its arguments.
    pub words: Vec<OsString>,
}

/// What `fm-watch firstmate VERB [--script PATH] WORDS...` says; `None` if that is not the form of this command line.
pub fn read(words: &Words) -> Option<Called> {
    if words.before != Before::Nothing || words.command != "firstmate" {
        return None;
    }
    called(&words.rest)
}

fn called(words: &[OsString]) -> Option<Called> {
    let (verb, words) = words.split_first()?;
    let verb = Verb::ALL.into_iter().find(|known| *verb == known.word())?;
    let (script, words) = match words {
        [flag, script, words @ ..] if flag == "--script" => (Some(script.into()), words),
        words => (None, words),
    };
    Some(Called { verb, script, words: words.to_vec() })
}

/// Answers as a script does, for the home of the flags. This is for people who try one; the shims say nothing of a home.
///
/// # Errors
/// Nobody knows such a script, and whatever the scripts have no line for.
pub fn answer_for(global: &Global, words: &[OsString]) -> Result<u8> {
    if let Some(called) = called(words) {
        let origin = Origin::of(&Environment::of_this_process());
        return answer(&Caller { global, origin }, called.verb, &called.words);
    }
    let known = Verb::ALL.map(Verb::word).join(", ");
    let given: Vec<_> = words.iter().map(|word| word.to_string_lossy()).collect();
    Err(Error::Usage(format!("firstmate {}: give one of {known} as the first words", given.join(" "))))
}

/// The streams of these verbs.
pub fn console() -> Console {
    global(&Environment::default(), None).console()
}

/// Answers as the script does.
///
/// # Errors
/// Whatever the scripts have no line for.
pub fn answer_as_script(called: &Called) -> Result<u8> {
    let environment = Environment::of_this_process();
    let origin = match &called.script {
        Some(script) => Origin::of_script(script, &environment),
        None => Origin::of(&environment),
    };
    let global = global(&environment, origin.root());
    answer(&Caller { global: &global, origin }, called.verb, &called.words)
}

/// For whom a script is answered.
struct Caller<'a> {
    global: &'a Global,
    origin: Origin,
}

fn answer(caller: &Caller<'_>, verb: Verb, words: &[OsString]) -> Result<u8> {
    match verb {
        Verb::Watch => watch(caller),
        Verb::Arm => arm_home(caller, words.first().map(OsString::as_os_str)),
        Verb::Guard => {
            if let Err(error) = guard(caller) {
                console().error(format!("the guard cannot look: {error}"));
            }
            Ok(exit::OK)
        }
        Verb::Drain => drain(caller),
    }
}

fn drain(caller: &Caller<'_>) -> Result<u8> {
    let mut session = open_in_any_case(caller)?;
    session.prepare()?;
    let Some(fleet) = &session.fleet else {
        return Err(Error::Failed(format!("{} is no home of firstmate", session.home.root().display())));
    };
    drain::drain(&session, fleet, &mut session.notes())
}

/// The home of the scripts, in the flags of this program.
fn global(environment: &Environment, root: Option<&Path>) -> Global {
    Global {
        home: environment.path("FM_HOME").or_else(|| root.map(Path::to_owned)),
        state: environment.path("FM_STATE_OVERRIDE"),
        color: Color::Never,
        ..Global::default()
    }
}

/// A session in which a beat is fresh for as long as the scripts have it.
fn open(caller: &Caller<'_>) -> Result<Session> {
    let mut session = Session::open_as_script(caller.global)?.of_fleet(&caller.origin);
    let settings = &mut session.loaded.settings;
    settings.explicit_stuck_after.get_or_insert(settings.fleet_grace);
    Ok(session)
}

/// As [`open`], for scripts that must do their work whatever is wrong with settings that are not theirs: what cannot be
/// understood is told, and the defaults count.
fn open_in_any_case(caller: &Caller<'_>) -> Result<Session> {
    let error = match open(caller) {
        Ok(session) => return Ok(session),
        Err(error) => error,
    };
    let (session, _) = Session::open_for_examination(caller.global)?;
    session.console.error(format!("{error}; the defaults count instead"));
    let mut session = session.of_fleet(&caller.origin);
    let settings = &mut session.loaded.settings;
    settings.explicit_stuck_after.get_or_insert(settings.fleet_grace);
    Ok(session)
}

/// How old the beat of another watcher may be before the watcher script calls it stale.
fn stale_grace(session: &Session) -> Result<Duration> {
    const NAME: &str = "FM_WATCHER_STALE_GRACE";
    let grace = session.stuck_after().unwrap_or(session.settings().fleet_grace);
    let Some(text) = session.environment.text(NAME) else { return Ok(grace) };
    settings::parse_duration(text).map_err(|problem| Error::Usage(format!("{NAME}: {problem}")))
}

fn watch(caller: &Caller<'_>) -> Result<u8> {
    let session = open(caller)?;
    let grace = stale_grace(&session)?;
    if session.settings().resident {
        return wait(session);
    }
    let once = args::Run { once: true, standby: None, take_over: false, tracked: false, word_fd: None };
    drop(session);
    let session = Session::open_as_script(caller.global).map(|session| session.of_fleet(&caller.origin));
    run::run_as(session, &once, Manner::Script(grace))
}

/// With a resident watcher, the watcher script waits for its wakes.
fn wait(mut session: Session) -> Result<u8> {
    session.prepare()?;
    obtain(&session, Wish::Any, &mut session.notes()).map_err(|failure| Error::Failed(failure.to_string()))?;
    waiter::until_woken(&session, waiter::begin(&session, None)?, OnLoss::Obtain)
}

fn arm_home(caller: &Caller<'_>, first: Option<&OsStr>) -> Result<u8> {
    let asked = match Asked::read(first) {
        Ok(asked) => asked,
        Err(usage) => {
            console().line(usage.stream, &usage.line)?;
            return Ok(usage.code);
        }
    };
    let session = open(caller)?;
    let restart = asked == Asked::Restart;
    if session.settings().resident {
        return arm::arm(session, &args::Arm { restart, no_wait: false, tracked: false, timeout: None });
    }
    arm_tracked::arm(session, if restart { Wish::New } else { Wish::Any }, Failing::AsScript)
}

/// The banner, as the guard script shows it: by the beacon alone, because in a home whose watcher ends with each wake
/// nobody watches while the wake is handled, and that is no reason for alarm. A resident watcher has no such reason.
fn guard(caller: &Caller<'_>) -> Result<()> {
    let session = open_in_any_case(caller)?;
    let world = session.world.as_ref();
    let tasks = facts::tasks(world, &session.home)?;
    if tasks == 0 {
        return Ok(());
    }
    let grace = session.stuck_after().unwrap_or(session.settings().fleet_grace);
    let beat = last_beat(&session, grace);
    let queue = queue(&session);
    let is_missing = || session.settings().resident && !session.verdict().1.is_watching();
    if !beat.is_fresh(grace) || is_missing() {
        session.console.banner(&script_output::banner(tasks, beat, grace, queue));
    }
    if queue == Queue::Waiting {
        session.console.banner(&script_output::queued());
    }
    Ok(())
}

fn last_beat(session: &Session, grace: Duration) -> LastBeat {
    let world = session.world.as_ref();
    match world.facts_of_path(&session.home.state().join(names::LAST_BEAT)) {
        Ok(facts) => LastBeat::of(Some(facts.mtime_ns / 1_000_000), world.now().wall_ms, grace),
        Err(error) if error.kind() == ErrorKind::NotFound => LastBeat::Never,
        Err(_) => LastBeat::Unknown,
    }
}

/// Whether wakes wait, in the queue of the scripts or in our journal.
fn queue(session: &Session) -> Queue {
    let world = session.world.as_ref();
    let usual = || session.home.state().join(names::WAKE_QUEUE);
    let path = session.fleet.as_ref().map_or_else(usual, |fleet| fleet.queue().to_owned());
    let rows = world.facts_of_path(&path);
    let has_rows = rows.is_ok_and(|facts| facts.size > 0);
    let has_wakes = || facts::pending(world, &session.home).is_ok_and(|pending| pending.count > 0);
    if has_rows || has_wakes() { Queue::Waiting } else { Queue::Empty }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::fast_path::split;

    #[test]
    fn only_the_form_of_the_shims_is_read_here() {
        let read = |line: &str| {
            let called = read(&split(line.split(' ').map(OsString::from))?)?;
            Some((called.verb, called.script, called.words))
        };
        assert_eq!(read("fm-watch firstmate guard"), Some((Verb::Guard, None, Vec::new())));
        assert_eq!(
            read("fm-watch firstmate watch --script /b/x"),
            Some((Verb::Watch, Some("/b/x".into()), Vec::new()))
        );
        assert_eq!(read("fm-watch firstmate arm --script /b/x --restart x").unwrap().2, ["--restart", "x"]);
        for other in [
            "fm-watch",
            "fm-watch guard",
            "fm-watch firstmate",
            "fm-watch firstmate status",
            "fm-watch -q firstmate arm",
        ] {
            assert_eq!(read(other), None, "{other}");
        }
    }

    #[test]
    fn the_home_is_found_as_the_scripts_find_it() {
        let of = |pairs: &[(&str, &str)]| {
            let environment = Environment::from_pairs(pairs.iter().copied());
            let origin = Origin::of_script(Path::new("/fm/bin/fm-watch.sh"), &environment);
            let global = global(&environment, origin.root());
            (global.home, global.state)
        };
        assert_eq!(of(&[]), (Some("/fm".into()), None));
        assert_eq!(of(&[("FM_ROOT_OVERRIDE", "/code")]), (Some("/code".into()), None));
        assert_eq!(of(&[("FM_ROOT_OVERRIDE", "/code"), ("FM_HOME", "/h")]), (Some("/h".into()), None));
        assert_eq!(of(&[("FM_HOME", "/h"), ("FM_STATE_OVERRIDE", "/s")]), (Some("/h".into()), Some("/s".into())));
    }
}
