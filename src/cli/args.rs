//! The whole command line as types. The doc comments are the help.

// A terminal shows them as they are, so names are not marked up.
#![expect(clippy::doc_markdown, reason = "a terminal shows the help as it is")]

use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

use crate::base::console::{Color, Console, Format, Verbosity};
use crate::hooks::event::Event;
use crate::hooks::harness::Harness;
use crate::lock::Kind;
use crate::service::manager::Manager;
use crate::settings::daemon_definition::{Name, NoName};
use crate::settings::parse_duration;
use crate::storm::plan::Protocol;
use clap::{Args, Parser, Subcommand, ValueEnum};

/// Keeps exactly one watcher alive per home, tells the truth about it, and never loses a wake.
///
/// A home is a directory that one watcher serves. Without --home it is $FM_HOME, else the nearest directory upwards
/// with config/fm-watch.toml or state/watch, else $XDG_STATE_HOME/fm-watch (~/.local/state/fm-watch).
///
/// Data goes to stdout, messages to stderr. Exit codes: 0 done, 1 failed, 2 usage or settings; more with each command.
#[derive(Debug, Parser)]
#[command(name = "fm-watch", version, max_term_width = 100, disable_help_subcommand = true)]
pub struct Cli {
    /// What every command takes.
    #[command(flatten, next_help_heading = "Options of every command")]
    pub global: Global,
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// Flags of every command.
#[derive(Debug, Clone, Default, Args)]
pub struct Global {
    /// The home; beats the environment
    #[arg(long, value_name = "DIR", global = true)]
    pub home: Option<PathBuf>,
    /// The state directory, if it is not <home>/state [env: FM_STATE_OVERRIDE, unless --home is given]
    #[arg(long, value_name = "DIR", global = true)]
    pub state: Option<PathBuf>,
    /// A local directory for the lock, for a home on a file system whose locks cannot be trusted
    #[arg(long, value_name = "DIR", global = true)]
    pub runtime_dir: Option<PathBuf>,
    /// Sets one setting for this run, for example --set poll=1s (repeatable; see `config show`)
    #[arg(long, value_name = "KEY=VALUE", global = true)]
    pub set: Vec<String>,
    /// Print JSON objects ({"schema":1,...}; fields are only ever added) instead of lines
    #[arg(long, global = true)]
    pub json: bool,
    /// Print no messages on stderr but errors
    #[arg(short, long, global = true)]
    pub quiet: bool,
    /// Print more messages on stderr
    #[arg(short, long, global = true, conflicts_with = "quiet")]
    pub verbose: bool,
    /// When to use colour on stderr
    #[arg(long, value_name = "WHEN", value_enum, default_value_t = Color::Auto, global = true)]
    pub color: Color,
}

impl Global {
    /// The streams as the flags say.
    pub fn console(&self) -> Console {
        let verbosity = match (self.quiet, self.verbose) {
            (true, _) => Verbosity::Quiet,
            (false, true) => Verbosity::Verbose,
            (false, false) => Verbosity::Normal,
        };
        Console::new(if self.json { Format::Json } else { Format::Lines }, verbosity, self.color)
    }
}

/// The commands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Be the watcher, in the foreground
    ///
    /// Prints `watcher: already running pid <N>` and exits 0 if one runs. TERM leaves within 2 s, a second one
    /// insists, HUP reads the settings again, USR1 writes a summary to the log.
    ///
    /// Exit codes: 0 asked to leave, taken over, already running, or (--once) a wake; 1 failed, or the
    /// running watcher is stuck; 2 usage or settings; 130 interrupted; with --once also 129 and 143.
    Run(Run),
    /// Make sure that a watcher watches, say so in one line, then wait for a wake
    ///
    /// The line is `watcher: started pid=<N> (beacon fresh)`, `watcher: healthy pid=<N> (beacon <age>s)` or
    /// `watcher: FAILED - <reason>`. Then it prints the reason line of each wake that is due and exits. If
    /// the watcher dies meanwhile, the next one is obtained.
    ///
    /// Exit codes: 0 a wake (or --no-wait: a watcher watches), 1 failed, 2 usage or settings, 124 no wake
    /// within --timeout, 129/130/143 on a signal; the watcher stays.
    Arm(Arm),
    /// Block until a wake is due and print its reason line
    ///
    /// Exit codes: 0 a wake, 1 failed, 2 usage or settings, 124 no wake within --timeout, 129/130/143 on a signal.
    Wait(Wait),
    /// Ask this home's watcher to leave
    ///
    /// Only the process that is proven to be this home's watcher is signalled. Prints `watcher: stopped pid=<N>`. Then
    /// the daemons that it kept are stopped, last one first, each with `daemon: stopped NAME pid=<N>`; the next watcher
    /// starts them again. A watcher that leaves in any other way leaves its daemons running.
    ///
    /// Exit codes: 0 stopped, or none ran; 1 one could not be proven or did not leave; 2 usage or settings.
    Stop,
    /// Say whether a watcher watches, with the evidence
    ///
    /// Exit codes: 0 running (ok, slow, starting), 3 not running (dead, stopped), 4 stuck, foreign or unknown,
    /// 2 usage.
    Status,
    /// Warn on stderr when supervision is down; never act, never fail
    ///
    /// Silent when nothing needs watching (no *.meta in the state directory, no kept daemon) or all is well. Exit code: always 0.
    Guard(Guard),
    /// Answer a hook of an agent harness, in that harness's own form
    ///
    /// Reads the harness's JSON on stdin. At a session's start and at a prompt it tells the responsible session in one line
    /// when supervision is off, before a tool it keeps the watcher from being killed by name, and at the end of a turn
    /// it holds the session, at most twice per episode, while there is work and nobody watches. What an internal failure
    /// leaves is one line on stderr. A harness that runs the entry of another one gets no answer.
    ///
    /// Exit codes: 0; 2 where the harness takes that for "hold" or "wake" (Kimi Code; `wait` of Claude Code).
    Hook(Hook),
    /// Print the pending wakes, one per line: epoch, seq, kind, key and text, separated by TABs
    ///
    /// The newest of each kind and key is printed at the place of the first. Nothing is removed until `ack`.
    ///
    /// Exit codes: 0 printed (also nothing), 1 failed, 2 usage.
    Drain(Drain),
    /// Acknowledge every wake up to and including SEQ
    ///
    /// Exit codes: 0 acknowledged, 1 failed (for example SEQ was never issued), 2 usage.
    Ack {
        /// The number in the second field of `drain`
        seq: u64,
    },
    /// Add a wake and print its number
    ///
    /// Exit codes: 0 added, 1 failed, 2 usage.
    Wake(Wake),
    /// Run a command under a lock, as flock(1) does, and exit with its exit code
    ///
    /// Waits until the lock is free, without a limit unless one is given, then runs the command and releases the lock
    /// when it has ended. Signals that are sent to this process reach the command. If the lock is lost meanwhile,
    /// because somebody removed or replaced what is at PATH, the command is asked to leave (TERM). It is a lock among
    /// those who ask for it in the same way; it keeps nobody from reading or writing a file.
    ///
    /// Who holds it: with kernel and socket, the command and every process it starts that keeps the inherited
    /// descriptor open, until the last of them has ended or closed it; so a background process goes on holding it. With
    /// soft, owner-link and pidfile, the command alone, and nothing that it leaves behind. Killing this process, also
    /// with -9, frees no lock under a running command.
    ///
    /// The command has stdin, stdout and stderr, the working directory, the environment, the umask and the signals as
    /// this process was given them, in the same process group. This process writes to stderr only, also with --json;
    /// --quiet keeps it from saying that the lock is busy.
    ///
    /// Exit codes: the command's own, or 128+n if signal n ended it; 75 busy, 76 the lock was lost, 126 the command
    /// cannot be executed, 127 it is not found, 128+n signal n came while waiting for the lock, 1 failed, 2 usage.
    Lock(Lock),
    /// Keep daemons: programs of which this home has exactly one each
    ///
    /// They are named in the settings ([daemon.NAME]), or on the command line of `ensure` and `kick`. Each gets a session
    /// of its own, its output goes into a log of bounded size, and it lives on when its caller ends.
    ///
    /// Exit codes: with each command.
    #[command(subcommand)]
    Daemon(Daemon),
    /// Put hooks into the settings of an agent harness, take them out again, or see whether they work
    ///
    /// They run `fm-watch hook` at the moments of a session. Nothing but our own entries is ever changed, the rest of a
    /// file stays as it is to the byte, and its old content is kept beside it, under its name and .before-fm-watch.
    ///
    /// Exit codes: with each command.
    #[command(subcommand)]
    Hooks(Hooks),
    /// Put this program under the scripts of a firstmate home, or take it away again
    ///
    /// `adopt firstmate DIR` replaces bin/fm-watch.sh, bin/fm-watch-arm.sh, bin/fm-guard.sh and bin/fm-wake-drain.sh
    /// below DIR by small scripts that run this program and answer as the replaced ones do, which are kept beside them.
    /// `adopt --undo DIR` puts them back, asks the home's watcher to leave, and removes state/watch if it was not there
    /// before. Nothing else is touched. One that was ended half way is finished by doing it again.
    ///
    /// Prints `adopt: replaced|restored|unchanged PATH`, or with --dry-run `adopt: would replace|restore PATH`.
    ///
    /// Exit codes: 0 done, or there was nothing to do; 1 refused or failed; 2 usage.
    #[command(allow_missing_positional = true)]
    Adopt(Adopt),
    /// Answer as a script of a firstmate home
    #[command(hide = true)]
    Firstmate {
        /// The script and its arguments
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        words: Vec<OsString>,
    },
    /// Let the system keep the watcher: a life that no session owns
    ///
    /// A unit of systemd's user instance (on macOS an agent of launchd), one for each home, shown before it is written.
    /// It starts this program by the path under which it is found on PATH, and starts it again when it fails or when its
    /// loop stands still. What is not ours is neither replaced nor removed.
    ///
    /// Exit codes: with each command.
    #[command(subcommand)]
    Service(Service),
    /// Say what is wrong with this home and the machine under it, and what mends it
    ///
    /// One line per finding: `PASS`, `WARN` or `FAIL`, what was looked at, what was found, and the command that mends it.
    /// It works with settings that cannot be understood, too. With --fix it mends by itself what can lose nothing:
    /// directories of ours that are missing, or that others could write to or read. Nothing else is changed.
    ///
    /// A part of the machine that does not answer is a finding of its own, and ends the examination.
    ///
    /// With --json, one object: `schema` (1), `worst` (the worst grade) and `findings`, each with `check` (which of the
    /// things that are looked at; it stays between releases), `grade` (`PASS`, `WARN` or `FAIL`), `found` (in words),
    /// `mend` (a command or what to do, or null) and `safe` (whether --fix does it).
    ///
    /// Exit codes: 0 nothing failed, 1 something did, 2 usage.
    Doctor(Doctor),
    /// Prove or break exclusion here: many processes contend for one lock, and no two may hold it at once
    ///
    /// Real processes take and release locks in a fresh directory, are killed at random, and the intervals in which they
    /// held are compared on one clock. Prints a table: rounds, holds, kills, overlaps, waits and a verdict per kind.
    /// The kinds `naive` and `unlink` promise nothing and must be seen to overlap; a run in which they do not proves
    /// nothing. With --self-test it tests only whether this file system's locks hold, with a few processes, within 2 s.
    ///
    /// Exit codes: 0 no overlap of a kind that promises none (--self-test: locks hold), 1 an overlap, a worker that
    /// failed, or nobody got on (--self-test: locks do not hold), 2 usage, 129/130/143 ended early by a signal.
    Storm(Storm),
    /// Be a worker of a storm
    #[command(hide = true)]
    StormWorker(StormWorker),
    /// Be a process of a self-test
    #[command(hide = true)]
    StormProbe(StormProbe),
    /// Be the monitor of a daemon
    #[command(hide = true)]
    DaemonMonitor(DaemonMonitor),
    /// Check or show the settings
    #[command(subcommand)]
    Config(Config),
    /// Print a completion script for a shell
    Completions {
        /// The shell
        #[arg(value_enum)]
        shell: clap_complete::Shell,
    },
    /// Print the manual page
    Man,
}

/// `run`.
#[derive(Debug, Args)]
pub struct Run {
    /// Exit with the reason line on the first wake
    #[arg(long)]
    pub once: bool,
    /// Get ready, say so, and take the home when its holder leaves, within this time
    #[arg(long, hide = true, value_parser = parse_duration, requires = "word_fd")]
    pub standby: Option<Duration>,
    /// Take the place of a watcher that holds the home, as the service of a home does
    #[arg(long, hide = true, conflicts_with_all = ["standby", "once"])]
    pub take_over: bool,
    /// Live with the caller: say when the first look is over, and one reason only
    #[arg(long, hide = true, requires = "word_fd", requires = "once")]
    pub tracked: bool,
    /// The descriptor on which to say what became of the start
    #[arg(long, hide = true, value_name = "FD")]
    pub word_fd: Option<i32>,
}

/// `arm`.
#[derive(Debug, Args)]
pub struct Arm {
    /// Replace this home's running watcher; the successor stands by before the old one is asked to leave
    #[arg(long)]
    pub restart: bool,
    /// Exit after the status line
    #[arg(long, conflicts_with = "timeout")]
    pub no_wait: bool,
    /// Start a watcher that lives and dies with this command and ends with the first wake
    ///
    /// If another one watches already, say so and exit at once. A wake that comes before the first look is over is
    /// printed without a status line. Exit codes: the watcher's own; 0 another one watches, 1 failed, 129 on HUP, 143
    /// on TERM and INT.
    #[arg(long, conflicts_with_all = ["timeout", "no_wait"])]
    pub tracked: bool,
    /// Wait at most so long, for example 90s or 1h
    #[arg(long, value_name = "D", value_parser = parse_duration)]
    pub timeout: Option<Duration>,
}

/// `wait`.
#[derive(Debug, Args)]
pub struct Wait {
    /// Wait at most so long, for example 90s or 1h
    #[arg(long, value_name = "D", value_parser = parse_duration)]
    pub timeout: Option<Duration>,
}

/// `guard`.
#[derive(Debug, Args)]
pub struct Guard {
    /// Write nothing at all, not even which episode the banner was shown for
    #[arg(long)]
    pub read_only: bool,
}

/// `hook`.
#[derive(Debug, Clone, Copy, Args)]
pub struct Hook {
    /// Whose hook it is
    #[arg(long, value_name = "H", value_enum, ignore_case = true)]
    pub harness: Harness,
    /// At which moment it runs
    #[arg(long, value_name = "E", value_enum, ignore_case = true)]
    pub event: Event,
}

/// `adopt`.
#[derive(Debug, Args)]
pub struct Adopt {
    /// Whose scripts they are
    #[arg(value_enum, required_unless_present = "undo")]
    pub whose: Option<Scripts>,
    /// The directory with bin
    #[arg(value_name = "DIR")]
    pub directory: PathBuf,
    /// Put the original scripts back
    #[arg(long)]
    pub undo: bool,
    /// Say what would be done, and change nothing
    #[arg(long)]
    pub dry_run: bool,
    /// Adopt scripts that do not look like the known ones, too
    #[arg(long, conflicts_with = "undo")]
    pub force: bool,
}

/// Whose scripts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Scripts {
    /// Those of firstmate
    Firstmate,
}

/// `drain`.
#[derive(Debug, Args)]
pub struct Drain {
    /// Acknowledge what was printed
    #[arg(long)]
    pub consume: bool,
}

/// `wake`.
#[derive(Debug, Args)]
pub struct Wake {
    /// signal, stale, check, heartbeat, daemon or custom
    pub kind: String,
    /// What it is about; a newer wake of the same kind and key takes the place of an older one
    pub key: String,
    /// What to say
    #[arg(default_value = "", hide_default_value = true)]
    pub text: String,
}

/// `lock`.
#[derive(Debug, Args)]
pub struct Lock {
    /// Whose protocol to follow
    #[arg(long, value_name = "KIND", value_enum, default_value_t = Kind::Kernel)]
    pub kind: Kind,
    /// Do not wait at all
    #[arg(long = "try", conflicts_with = "wait")]
    pub instant: bool,
    /// Wait at most so long, for example 5s or 2m
    #[arg(long, value_name = "D", value_parser = parse_duration)]
    pub wait: Option<Duration>,
    /// What to lock; its directory must exist
    pub path: PathBuf,
    /// The command and its arguments
    #[arg(last = true, required = true, value_name = "COMMAND")]
    pub command: Vec<OsString>,
}

/// `hooks`.
#[derive(Debug, Subcommand)]
pub enum Hooks {
    /// Put our entries into the harness's file, or write its plugin
    ///
    /// Entries that are there already are left as they are. They name `fm-watch` if that finds this very program on
    /// PATH, and its full path otherwise. A file that does not parse is not touched. Prints
    /// `hooks: installed HARNESS written|unchanged PATH`.
    ///
    /// Exit codes: 0 they are there, 1 the file cannot be edited, 2 usage.
    Install(HooksOf),
    /// Take our entries out of the harness's file, or remove its plugin
    ///
    /// A file that nobody changed in between is what it was before, byte by byte. Prints
    /// `hooks: uninstalled HARNESS written|removed|unchanged PATH`.
    ///
    /// Exit codes: 0 none are there, 1 the file cannot be edited, 2 usage.
    Uninstall(HooksOf),
    /// Print what would be written into a file that is not there yet, and write nothing
    ///
    /// Exit codes: 0 printed, 1 failed, 2 usage.
    Print(HooksOf),
    /// See whether our entries are there, are trusted, are there twice, and how long each takes
    ///
    /// Each entry is run once with nothing on stdin, except the one that waits. Prints lines `PASS|WARN|FAIL WHAT: TEXT`,
    /// and after ` -> ` what mends it.
    ///
    /// Exit codes: 0 no FAIL, 1 a FAIL, or the file cannot be read; 2 usage.
    Check(HooksOf),
}

/// Which hooks.
#[derive(Debug, Args)]
pub struct HooksOf {
    /// The harness
    #[arg(value_enum)]
    pub harness: Harness,
    /// For all sessions of this user (the default)
    #[arg(long, conflicts_with = "project")]
    pub user: bool,
    /// For sessions in the current directory
    #[arg(long)]
    pub project: bool,
}

/// `daemon`.
#[derive(Debug, Subcommand)]
pub enum Daemon {
    /// Make sure that a daemon is ready: use the one that runs, or start it
    ///
    /// Prints one line: `daemon: attached NAME pid=<N>`, `daemon: started NAME pid=<N> (ready in <T>)` or
    /// `daemon: FAILED NAME - <reason>`; the last lines that a failed daemon printed go to stderr. A daemon that lives is
    /// never started a second time, also if it does not answer. A NAME that is not in the settings is started as it was the
    /// last time.
    ///
    /// Exit codes: 0 it is ready, 1 it cannot be had, 2 usage or settings.
    Ensure(Obtain),
    /// Start a daemon if it does not run, and do not wait for it
    ///
    /// Prints `daemon: kicked NAME`, or of one that is there `daemon: attached NAME pid=<N>` or
    /// `daemon: starting NAME pid=<N>`, or `daemon: FAILED NAME - <reason>`. The caller may end at once.
    ///
    /// Exit codes: 0 it runs or is being started, 1 it cannot be had, 2 usage or settings.
    Kick(Obtain),
    /// Ask a daemon to leave, with all that it started
    ///
    /// Only the process that is proven to be the daemon is signalled, and what is left of its session: first with its stop
    /// signal, after its time of grace with KILL. The watcher does not start it again. Prints `daemon: stopped NAME pid=<N>`.
    ///
    /// Exit codes: 0 stopped, or it did not run; 1 it could not be proven or did not leave; 2 usage or settings.
    Stop {
        /// The daemon
        #[arg(value_parser = name)]
        name: Name,
    },
    /// Stop a daemon if it runs, then start it, also one whose restarts were given up
    ///
    /// Prints the lines of `stop` and `ensure`. One that is not in the settings is started as it was the last time.
    ///
    /// Exit codes: 0 it is ready, 1 it could not be stopped or cannot be had, 2 usage or settings.
    Restart {
        /// The daemon
        #[arg(value_parser = name)]
        name: Name,
    },
    /// Show how daemons are: state, pid, uptime, restarts, cpu, memory, and why
    ///
    /// The states are STARTING, READY, STALLED (it lives and does not answer), BACKOFF (the watcher will start it again),
    /// FATAL (the watcher has given up), STOPPED, FOREIGN (somebody else is where it should be) and UNKNOWN.
    ///
    /// Exit codes: 0 ready or starting; 3 stopped, backing off or given up; 4 stalled, foreign or unknown; of several
    /// daemons the greatest; 1 failed, 2 usage or settings.
    Status {
        /// The daemon; without it, all of the settings and all that were ever started
        #[arg(value_parser = name)]
        name: Option<Name>,
    },
    /// Print the last lines that a daemon printed
    ///
    /// Its output is kept in two files of at most `log_max` bytes each. It is printed as it is; on a terminal, control
    /// characters are made visible. With --json, each line is an object.
    ///
    /// Exit codes: 0 printed, also if there is nothing, and if the reader goes away; with --follow, also on a signal;
    /// 1 failed, 2 usage or settings.
    Logs {
        /// The daemon
        #[arg(value_parser = name)]
        name: Name,
        /// How many lines
        #[arg(short = 'n', long, value_name = "N", default_value_t = 20)]
        lines: usize,
        /// Go on printing what comes
        #[arg(short, long)]
        follow: bool,
    },
    /// Look for a second instance: the same program with the same arguments, outside of the daemon's recorded life
    ///
    /// Nothing is ever signalled. Prints `daemon: alone NAME pid=<N>`, and `daemon: second NAME pid=<N> - <command>` for
    /// each other one. Of a daemon that does not run, the arguments are compared with its command.
    ///
    /// Exit codes: 0 only the recorded one runs, 1 another one was found, 3 none runs, 4 nobody can tell, 2 usage or
    /// settings.
    Verify {
        /// The daemon
        #[arg(value_parser = name)]
        name: Name,
    },
}

/// `daemon ensure` and `daemon kick`.
#[derive(Debug, Args)]
pub struct Obtain {
    /// A daemon of the settings
    #[arg(value_parser = name, required_unless_present = "own_name")]
    #[arg(conflicts_with_all = ["own_name", "command", "ready", "ready_timeout", "cwd", "env"])]
    pub name: Option<Name>,
    /// A name for a daemon that is said here
    #[arg(long = "name", value_name = "NAME", value_parser = name, requires = "command")]
    pub own_name: Option<Name>,
    /// It is ready when it accepts a connection on this Unix socket
    #[arg(long, value_name = "PATH", group = "ready", requires = "own_name")]
    pub ready_socket: Option<PathBuf>,
    /// What to send to that socket; \r, \n, \t, \0 and \\ are understood
    #[arg(long, value_name = "TEXT", requires = "ready_socket", requires = "ready_answer", value_parser = unescaped)]
    pub ready_request: Option<String>,
    /// What the answer must begin with
    #[arg(long, value_name = "TEXT", requires = "ready_socket", value_parser = unescaped)]
    pub ready_answer: Option<String>,
    /// It is ready when its pid stands in this file
    #[arg(long, value_name = "PATH", group = "ready", requires = "own_name")]
    pub ready_pidfile: Option<PathBuf>,
    /// It is ready when it writes a byte to the descriptor whose number is in $FM_WATCH_READY_FD
    #[arg(long, group = "ready", requires = "own_name")]
    pub ready_fd: bool,
    /// It is ready when it says so to $NOTIFY_SOCKET, as sd_notify(3) does
    #[arg(long, group = "ready", requires = "own_name")]
    pub ready_notify: bool,
    /// It is ready when it prints a line that matches this regular expression
    #[arg(long, value_name = "REGEX", group = "ready", requires = "own_name")]
    pub ready_log: Option<String>,
    /// It is ready when it has not ended after so long [default, if nothing else is said: daemons.ready_delay]
    #[arg(long, value_name = "D", group = "ready", requires = "own_name", value_parser = parse_duration)]
    pub ready_delay: Option<Duration>,
    /// How long it may take to be ready [default: daemons.ready_timeout]
    #[arg(long, value_name = "D", requires = "own_name", value_parser = parse_duration)]
    pub ready_timeout: Option<Duration>,
    /// Its working directory [default: the home]
    #[arg(long, value_name = "DIR", requires = "own_name")]
    pub cwd: Option<PathBuf>,
    /// A variable that it gets besides the usual ones (repeatable)
    #[arg(long, value_name = "NAME=VALUE", requires = "own_name", value_parser = variable)]
    pub env: Vec<(String, String)>,
    /// The command and its arguments
    #[arg(last = true, requires = "own_name", value_name = "COMMAND")]
    pub command: Vec<String>,
}

fn name(text: &str) -> Result<Name, NoName> {
    Name::new(text)
}

fn variable(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((name, value)) if !name.is_empty() => Ok((name.to_owned(), value.to_owned())),
        _ => Err("give NAME=VALUE".to_owned()),
    }
}

/// A text in which the escapes stand for what no shell passes easily.
fn unescaped(text: &str) -> Result<String, String> {
    let (mut out, mut characters) = (String::with_capacity(text.len()), text.chars());
    while let Some(character) = characters.next() {
        out.push(match (character, if character == '\\' { characters.next() } else { None }) {
            ('\\', Some('r')) => '\r',
            ('\\', Some('n')) => '\n',
            ('\\', Some('t')) => '\t',
            ('\\', Some('0')) => '\0',
            ('\\', Some('\\')) => '\\',
            ('\\', _) => return Err("a backslash stands before r, n, t, 0 or another backslash".to_owned()),
            (plain, _) => plain,
        });
    }
    Ok(out)
}

/// `doctor`.
#[derive(Debug, Clone, Copy, Args)]
pub struct Doctor {
    /// Mend what can be mended without losing anything
    #[arg(long)]
    pub fix: bool,
}

/// `service`.
#[derive(Debug, Subcommand)]
pub enum Service {
    /// Show the service, write it, and have its manager start it and keep the watcher
    ///
    /// A watcher that runs already hands over to it: the new one stands by before the old one is asked to leave. PATH is
    /// written down, so that checks find the programs that they find now.
    ///
    /// Exit codes: 0 installed, also if it was before; 1 failed; 2 usage or settings.
    Install,
    /// Stop the service and remove it, and say what goes on and what does not
    ///
    /// The watcher that it kept is stopped; the daemons of the home live on. A file that was changed by hand is left alone.
    ///
    /// Exit codes: 0 removed, or there was none; 1 failed; 2 usage or settings.
    Uninstall,
    /// Print the service, and on stderr where it belongs; write nothing
    ///
    /// Exit codes: 0 printed, 1 failed, 2 usage or settings.
    Print {
        /// For which manager [default: the one of this system]
        #[arg(long, value_enum, value_name = "M")]
        manager: Option<Manager>,
    },
    /// Say whether it is installed and active, and whether it keeps this home's watcher
    ///
    /// Exit codes: 0 active, 3 not installed or not active, 1 failed, 2 usage or settings.
    Status,
}

/// `storm`.
#[derive(Debug, Args)]
pub struct Storm {
    /// Which kind of lock (repeatable); without it, every kind that promises exclusion
    #[arg(long, value_name = "K", value_enum)]
    pub kind: Vec<Protocol>,
    /// How many processes contend at a time
    #[arg(long, value_name = "N", default_value_t = 16, value_parser = clap::value_parser!(u32).range(2..=4096))]
    pub workers: u32,
    /// How many holds each of them makes; another process makes the rest of one that was killed
    #[arg(long, value_name = "R", default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    pub rounds: u32,
    /// Kill a process at each interval, every second time one that holds [20ms if no interval is given]
    #[arg(long, value_name = "INTERVAL", num_args = 0..=1, default_missing_value = "20ms", value_parser = parse_duration)]
    pub kill: Option<Duration>,
    /// Where to make the fresh directory [default: $TMPDIR, else /tmp]
    #[arg(long, value_name = "DIR")]
    pub dir: Option<PathBuf>,
    /// Let every second process be `CMD PATH ROUNDS`: it takes the lock at PATH so many times and prints `try NS`,
    /// `begin NS` right after it took it and `end NS` right before it lets go, each line in one write, NS being
    /// nanoseconds of CLOCK_MONOTONIC. CMD is read as sh reads a simple command
    #[arg(long, value_name = "CMD")]
    pub peer: Option<String>,
    /// Seed of the dice that decide who is killed and how long a hold lasts [default: a new one]
    #[arg(long, value_name = "N")]
    pub seed: Option<u64>,
    /// End the storm as failed when nobody has got the lock for so long [default: 30s]; with --self-test, how long a
    /// call may take before it counts as hanging [default: 1600ms]
    #[arg(long, value_name = "D", value_parser = parse_duration)]
    pub patience: Option<Duration>,
    /// Test only whether the kernel's locks hold on the file system of DIR, and say what to do if they do not
    #[arg(long, conflicts_with_all = ["kind", "workers", "rounds", "kill", "peer", "seed"])]
    pub self_test: bool,
}

/// `storm-worker`.
#[derive(Debug, Args)]
pub struct StormWorker {
    /// Which kind of lock
    #[arg(long, value_enum)]
    pub kind: Protocol,
    /// How many holds
    #[arg(long)]
    pub rounds: u32,
    /// Seed of its dice
    #[arg(long)]
    pub seed: u64,
    /// How long it tries before it says what it waits for
    #[arg(long, value_parser = parse_duration)]
    pub silence: Duration,
    /// The lock
    pub path: PathBuf,
}

/// `storm-probe`.
#[derive(Debug, Args)]
pub struct StormProbe {
    /// In which directory
    pub directory: PathBuf,
    /// The name of a directory to be made in it
    pub name: String,
}

/// `daemon-monitor`.
#[derive(Debug, Args)]
pub struct DaemonMonitor {
    /// The daemon's name
    pub name: String,
    /// The descriptor on which to say what became of the start
    #[arg(long, value_name = "FD")]
    pub word_fd: Option<i32>,
    /// The descriptor of a file that says what to start; without it, only what lives is watched over
    #[arg(long, value_name = "FD")]
    pub order_fd: Option<i32>,
}

/// `config`.
#[derive(Debug, Subcommand)]
pub enum Config {
    /// Read all settings and say what is wrong
    ///
    /// Exit codes: 0 all is well, 2 something is wrong.
    Check,
    /// Print the settings in force
    ///
    /// Exit codes: 0 printed, 2 something is wrong.
    Show {
        /// Say for each where its value comes from
        #[arg(long)]
        origin: bool,
    },
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn escapes_stand_for_what_shells_do_not_pass() {
        assert_eq!(unescaped(r"PING\r\n").as_deref(), Ok("PING\r\n"));
        assert_eq!(unescaped(r"a\\n\t\0").as_deref(), Ok("a\\n\t\0"));
        assert!(unescaped(r"a\").is_err() && unescaped(r"\x").is_err());
    }

    #[test]
    fn a_daemon_is_named_in_one_way_only() {
        let parse = |words: &[&str]| Cli::try_parse_from(["fm-watch", "daemon", "ensure"].iter().chain(words));
        assert!(parse(&["a"]).is_ok());
        assert!(parse(&["--name", "a", "--", "sleep", "1"]).is_ok());
        assert!(parse(&["--name", "a", "--ready-fd", "--env", "A=b", "--", "sleep", "--name"]).is_ok());
        for wrong in [
            &[][..],
            &["-a"],
            &["a", "--", "sleep"],
            &["--name", "a"],
            &["a", "--ready-fd"],
            &["--name", "a", "--ready-fd", "--ready-notify", "--", "sleep"],
            &["--name", "a", "--ready-socket", "s", "--ready-request", "x", "--", "sleep"],
            &["--name", "a", "--env", "A", "--", "sleep"],
        ] {
            assert!(parse(wrong).is_err(), "{wrong:?}");
        }
    }
}
