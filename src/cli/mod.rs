//! The command line: what the words mean ([`args`]), the short way for what runs at every turn ([`fast_path`]), and one
//! file per verb ([`commands`]), each of which begins with a [`session`]. The only storey that prints.

pub mod args;
pub mod commands;
pub mod fast_path;
pub mod session;

use std::mem::ManuallyDrop;
use std::process::ExitCode;

use self::args::{Cli, Command, Config, Global};
use self::commands::arm_tracked::Failing;
use self::commands::config::{Format, Origins};
use self::commands::guard::Mark;
use self::commands::{
    adopt, arm, arm_tracked, config, daemon, daemon_monitor, doctor, firstmate, guard, hook, hooks, lock, run, service,
    status, stop, storm, waiter, wakes,
};
use self::fast_path::Words;
use self::session::{Session, overrides, resolve_home};
use crate::base::console::Console;
use crate::base::environment::Environment;
use crate::base::error::Result;
use crate::launch::Wish;
use crate::system::platform;
use clap::{CommandFactory, FromArgMatches};

/// Runs the program: parse, dispatch, turn the outcome into an exit code.
pub fn main() -> ExitCode {
    #[cfg(feature = "sync-points")]
    crate::base::failpoint::kill_with(platform::kill_self);
    platform::ignore_file_size_signal();
    platform::keep_files_private();
    let words = fast_path::split(std::env::args_os());
    if let Some(cli) = words.as_ref().and_then(fast_path::read) {
        return answer(cli.global.console(), dispatch(&cli));
    }
    if let Some(called) = words.as_ref().and_then(firstmate::read) {
        return answer(firstmate::console(), firstmate::answer_as_script(&called));
    }
    let cli = match parse(words.as_ref()) {
        Ok(cli) => cli,
        Err(code) => return code,
    };
    answer(cli.global.console(), dispatch(&cli))
}

fn answer(console: Console, outcome: Result<u8>) -> ExitCode {
    match outcome {
        Ok(code) => ExitCode::from(code),
        Err(error) => {
            // Whoever reads through `head` has read enough and needs no message about it.
            if !error.is_broken_pipe() {
                console.error(&error);
            }
            ExitCode::from(error.exit_code())
        }
    }
}

/// Reads the command line. The definition behind it is large and never needed again; taking it apart would cost a guard
/// or a hook, which run at every turn, a tenth of their time.
fn parse(words: Option<&Words>) -> Result<Cli, ExitCode> {
    let mut command = ManuallyDrop::new(Cli::command());
    let parsed = command.try_get_matches_from_mut(std::env::args_os());
    let parsed = parsed.and_then(|mut matches| Cli::from_arg_matches_mut(&mut matches));
    parsed.map_err(|error| {
        if error.use_stderr() && words.is_some_and(|words| words.command == "hook") {
            return ExitCode::from(hook::misunderstood(std::env::args_os()));
        }
        error.format(&mut command).exit()
    })
}

fn dispatch(cli: &Cli) -> Result<u8> {
    let session = || Session::open(&cli.global);
    // What uses a home makes it; what only looks does not.
    let prepared = || -> Result<Session> {
        let mut session = Session::open(&cli.global)?;
        session.prepare()?;
        Ok(session)
    };
    match &cli.command {
        Command::Run(options) => run::run(&cli.global, options),
        Command::Adopt(options) => adopt::adopt(cli.global.console(), options),
        Command::Firstmate { words } => firstmate::answer_for(&cli.global, words),
        Command::Arm(options) if options.tracked => {
            let wish = if options.restart { Wish::New } else { Wish::Any };
            arm_tracked::arm(session()?, wish, Failing::WithReason)
        }
        Command::Arm(options) => arm::arm(session()?, options),
        Command::Wait(options) => waiter::wait(&prepared()?, options),
        Command::Stop => stop::stop(&session()?),
        Command::Status => status::status(&cli.global),
        Command::Guard(options) => {
            Ok(guard::guard(&cli.global, if options.read_only { Mark::ReadOnly } else { Mark::Write }))
        }
        Command::Hook(options) => Ok(hook::hook(&cli.global, *options)),
        Command::Drain(options) => wakes::drain(&session()?, options),
        Command::Ack { seq } => wakes::ack(&session()?, *seq),
        Command::Wake(options) => wakes::wake(&prepared()?, options),
        Command::Lock(options) => lock::lock(cli.global.console(), options),
        Command::Daemon(command) => daemon::daemon(&session()?, command),
        Command::Hooks(command) => hooks::hooks(&cli.global, command),
        Command::Doctor(options) => doctor::doctor(&cli.global, *options),
        Command::Service(command) => service::service(session()?, command),
        Command::Storm(options) => storm::storm(cli.global.console(), options),
        Command::StormWorker(options) => storm::worker(options),
        Command::StormProbe(options) => storm::probe(options),
        Command::DaemonMonitor(options) => daemon_monitor::daemon_monitor(&cli.global, options),
        Command::Config(command) => configure(&cli.global, command),
        Command::Completions { shell } => commands::completions(*shell),
        Command::Man => commands::man(),
    }
}

fn configure(global: &Global, command: &Config) -> Result<u8> {
    let environment = Environment::of_this_process();
    let home = resolve_home(global, &environment)?;
    let overrides = overrides(global)?;
    let out = &mut std::io::stdout().lock();
    match command {
        Config::Check => config::check(&home, &overrides, &environment, out),
        Config::Show { origin } => {
            let origins = if *origin { Origins::Shown } else { Origins::Hidden };
            let format = if global.json { Format::Json } else { Format::Toml };
            config::show(&home, &overrides, &environment, origins, format, out)
        }
    }
}
