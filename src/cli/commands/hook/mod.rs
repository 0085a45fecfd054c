//! `hook`: one answer to a harness, in time, whatever state the home is in.
//!
//! What a hook has not answered in time it gives up ([`platform::put_down_last_words`]): a hung file system must not hang somebody's session. A
//! watcher that is being started meanwhile goes on by itself. Whatever fails is one line on stderr and exit code 0,
//! because every other code means something to some harness.

mod situation;
mod waiter;

use std::ffi::OsString;
use std::io::{self, Read};
use std::time::{Duration, Instant};

use self::situation::{HookSession, in_its_words, open};
use crate::base::environment::Environment;
use crate::base::error::Result;
use crate::base::exit;
use crate::base::failpoint::Failpoint;
use crate::cli::args::{self, Global};
use crate::hooks::decision::{Allowance, Decision, Message, turn_end};
use crate::hooks::event::Event;
use crate::hooks::harness::Harness;
use crate::hooks::hold_limit;
use crate::hooks::kill_guard::{self, Target};
use crate::hooks::origin::{self, Received};
use crate::hooks::payload::{LIMIT, Payload, Reading, parse};
use crate::ownership::context;
use crate::system::handle;
use crate::system::platform;
use crate::system::program::NAME;
use crate::system::{Real, World};

/// How long a harness may take to say what it has to say.
const INPUT_TIMEOUT: Duration = Duration::from_millis(200);
/// After this, an answer is given up. The shortest limit of any harness is 5 s, and starting this process takes time too.
const ANSWERS_WITHIN: Duration = Duration::from_millis(1800);
/// All that a hook waits for but the start of a watcher is over by then: other hooks that keep the records, and a waiter
/// that starts at the same moment.
const WAITS_UNTIL: Duration = Duration::from_millis(250);

/// Answers a hook.
pub fn hook(global: &Global, options: args::Hook) -> u8 {
    let began = Instant::now();
    let args::Hook { harness, event } = options;
    let bytes = match read_input() {
        Ok(bytes) => bytes,
        Err(error) => return harness.failure(&format!("stdin cannot be read: {error}")).leave(),
    };
    let payload = match origin::receive(&bytes, harness, event) {
        Received::Nothing => return exit::OK,
        Received::Garbled(why) => return harness.failure(&why).leave(),
        Received::Payload(payload) => payload,
    };
    // Most tools are no kills, and cost nothing but the look at the payload.
    if event == Event::PreTool && possible_kill(&payload).is_none() {
        return exit::OK;
    }
    // What it would say on stderr could be taken for an answer.
    let global = Global { quiet: true, verbose: false, json: false, ..global.clone() };
    // An entry of Claude Code's file that Grok runs; whatever it says, it is not Claude Code.
    if origin::is_run_by_grok(harness, &payload, &Environment::of_this_process()) {
        return exit::OK;
    }
    if event == Event::Wait {
        return waiter::wait(&global, harness, &payload);
    }
    let late = harness.failure("no answer was found in time");
    let left = ANSWERS_WITHIN.saturating_sub(began.elapsed());
    if Real.is_protected(Failpoint::HooksInTime)
        && let Err(error) = platform::put_down_last_words(late.stdout.into_bytes(), late.stderr.into_bytes(), left)
    {
        return harness.failure(&format!("nothing can see to it that it answers in time: {error}")).leave();
    }
    let answer = match decide(&global, harness, event, &payload, began + WAITS_UNTIL) {
        Ok(decision) => harness.answer(event, &decision),
        Err(why) => harness.failure(&why.to_string()),
    };
    platform::claim_last_word();
    answer.leave()
}

/// Answers an entry of a settings file that this release does not understand: any exit code of a usage error would mean
/// something to some harness.
pub fn misunderstood(arguments: impl IntoIterator<Item = OsString>) -> u8 {
    let is_gemini =
        arguments.into_iter().any(|argument| argument.to_str().is_some_and(|text| text.ends_with("gemini")));
    let harness = if is_gemini { Harness::Gemini } else { Harness::Claude };
    harness.failure("its command line cannot be understood; see `fm-watch hook --help`").leave()
}

/// All that comes on stdin in time. What is too long is cut behind the limit, so that it is seen to be too long.
///
/// A harness that has said a whole object has said all: nothing that followed could still belong to it. So one that
/// forgets to close its end is answered as fast as any other.
fn read_input() -> io::Result<Vec<u8>> {
    let deadline = Instant::now() + INPUT_TIMEOUT;
    let mut stdin = handle::standard_input()?;
    let (mut bytes, mut buffer) = (Vec::new(), vec![0; 16 * 1024]);
    while bytes.len() <= LIMIT {
        let has_more = platform::is_readable_within(&stdin, Duration::ZERO)?;
        if !has_more && matches!(parse(&bytes), Reading::Object(_)) {
            break;
        }
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() || !(has_more || platform::is_readable_within(&stdin, left)?) {
            break;
        }
        match stdin.read(&mut buffer) {
            Ok(0) => break,
            Ok(taken) => bytes.extend_from_slice(&buffer[..taken]),
            Err(error) if matches!(error.kind(), io::ErrorKind::Interrupted | io::ErrorKind::WouldBlock) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(bytes)
}

fn decide(global: &Global, harness: Harness, event: Event, payload: &Payload, until: Instant) -> Result<Decision> {
    Real.reach(Failpoint::HooksDecides).map_err(in_its_words)?;
    match event {
        Event::PreTool => return before_a_tool(global, payload),
        Event::TurnEnd if payload.is_broken_off() => return Ok(Decision::Silent),
        Event::Wait => return Ok(Decision::Silent),
        Event::SessionStart | Event::UserPrompt | Event::TurnEnd => {}
    }
    let session = open(global)?;
    let Some(asking) = HookSession::find(&session, (harness, event), payload, until)? else {
        return Ok(Decision::Silent);
    };
    match event {
        Event::UserPrompt => at_prompt(&asking),
        Event::TurnEnd => at_turn_end(&asking, harness, payload),
        _ => Ok(asking.situation()?.at_start()),
    }
}

/// A context that begins anew has to be told again; one that goes on has heard it.
fn at_prompt(asking: &HookSession<'_>) -> Result<Decision> {
    let decision = asking.situation()?.at_start();
    if decision == Decision::Silent {
        return Ok(decision);
    }
    let is_first = asking.with_turn(|world, directory| {
        hold_limit::tell_once(world, directory, asking.session_key()).map_err(in_its_words)
    });
    // Saying it twice does no harm.
    Ok(if is_first.unwrap_or(true) { decision } else { Decision::Silent })
}

fn at_turn_end(asking: &HookSession<'_>, harness: Harness, payload: &Payload) -> Result<Decision> {
    let waking = harness.profile().waking;
    let situation = asking.situation_and_listeners(waking)?;
    if situation.is_well(waking) {
        asking.end_episode()?;
        return Ok(Decision::Silent);
    }
    let count = || {
        let spent = asking.with_turn(|world, directory| {
            Ok(hold_limit::spend(world, directory, asking.session_key(), payload.holds_before()))
        });
        spent.unwrap_or_else(|why| Allowance::Uncounted(format!("it cannot be counted: {why}")))
    };
    Ok(turn_end(situation.at_turn_end(waking), count))
}

/// A command that is worth a closer look.
fn possible_kill(payload: &Payload) -> Option<String> {
    payload.command().filter(|command| command.contains("kill"))
}

fn before_a_tool(global: &Global, payload: &Payload) -> Result<Decision> {
    let Some(command) = possible_kill(payload) else { return Ok(Decision::Silent) };
    let session = open(global)?;
    let pid = session.verdict().1.living_pid().map(crate::system::identity::Pid::get);
    let target =
        Target { pid, command_line: format!("{NAME} {} --word-fd 3", context::arguments(&session.home, "run")) };
    if !kill_guard::hits(&command, &target) {
        return Ok(Decision::Silent);
    }
    Ok(Decision::Deny(Message::new(&format!(
        "this would kill the watcher, and by its name those of every other home on this machine. To replace the watcher of \
         this home: {}. To stop it: {}",
        session.command_line("arm --restart"),
        session.command_line("stop"),
    ))))
}
