//! What the tmux windows of the tasks show.
//!
//! One tmux process answers for all windows of a poll. It reads a list of commands from its standard input
//! (`source-file -`): for each window a line that prints a number which nobody can guess and then captures the window. An
//! error in one command ends its own line only, so a window that is gone spoils none of the others; a syntax error would
//! spoil all, so the names of windows are quoted such that they cannot make one. tmux prints in the order of the
//! commands, and the numbers tell the captures apart.
//!
//! The process runs in a thread with a deadline, and no second one is started while it runs. Without recorded windows
//! there is no process. If no tmux is found or no server answers, nothing is captured and the reason is told.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsString;
use std::fmt::Write;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, Sender};
use std::thread;
use std::time::Duration;

use super::checks::find_program;
use super::pane_tracker::{ENOUGH_FOR_SCRIPTS, PaneCapture, PaneTracker};
use crate::base::escape;
use crate::journal::record::{Draft, Mark, Wake};

use crate::settings::{Patterns, Settings};
use crate::system::World;
use crate::system::bounded_command::{self, Ending, Plan};
use crate::watcher::degradations::{Condition, Part};
use crate::watcher::source::{LoopContext, Message, Note, Progress, Reporter, Source, Span, Unrecorded, mailbox};
use crate::watcher::tasks::Task;

/// How many lines of a window count.
pub const LINES: usize = 40;

/// The kind of task whose window is not watched.
const UNWATCHED_KIND: &str = "secondmate";

/// The longest name of a window, in bytes.
const NAME_LIMIT: usize = 512;

/// How much of tmux's output is kept, in bytes; hundreds of windows fit.
const OUTPUT_LIMIT: usize = 16 * 1024 * 1024;

/// tmux answers within milliseconds; one that does not is stopped.
const TIMEOUT: Duration = Duration::from_secs(10);

const NAME: &str = "panes";

/// How much of tmux's complaints is kept, in bytes.
const COMPLAINT_CAP: usize = 1024;

/// How tmux is called.
#[derive(Debug, Clone)]
pub struct PaneRules {
    /// How long one poll may take.
    pub timeout: Duration,
    /// Where tmux runs.
    pub working_directory: PathBuf,
    /// All it sees of the environment; `PATH` says where it is, `TMUX` and `TMUX_TMPDIR` where its server listens.
    pub environment: Vec<(String, OsString)>,
}

/// The polls of the windows, one after the other.
pub struct Panes {
    rules: Arc<PaneRules>,
    reporter: Reporter<PaneCapture>,
    running: Option<thread::JoinHandle<()>>,
    cancelled: Arc<AtomicBool>,
}

/// The windows to watch: those that tasks recorded, each once, without secondmates' and without names that no
/// window can have or that mean another window from moment to moment.
pub fn windows<'a>(tasks: impl Iterator<Item = &'a Task>) -> Vec<String> {
    let watched = tasks.filter(|task| task.kind.as_deref() != Some(UNWATCHED_KIND));
    let is_possible = |window: &&String| {
        let is_relative = window.starts_with(['-', '+', '!', '{', '~', '^']);
        !window.is_empty() && !is_relative && window.len() <= NAME_LIMIT && !window.contains(char::is_control)
    };
    let mut windows: Vec<_> = watched.filter_map(|task| task.window.as_ref()).filter(is_possible).cloned().collect();
    windows.sort_unstable();
    windows.dedup();
    windows
}

impl Panes {
    /// A source that has not polled yet.
    pub fn new(rules: PaneRules, reporter: Reporter<PaneCapture>) -> Self {
        Self { rules: Arc::new(rules), reporter, running: None, cancelled: Arc::new(AtomicBool::new(false)) }
    }

    /// Begins a poll, unless there is nothing to look at or the one before still runs. `nonce` must be a word that
    /// nobody can guess.
    pub fn poll(&mut self, windows: Vec<String>, nonce: String) {
        if windows.is_empty() || self.running.as_ref().is_some_and(|thread| !thread.is_finished()) {
            return;
        }
        let (rules, cancelled, report) = (self.rules.clone(), self.cancelled.clone(), self.reporter.clone());
        let asked = windows.clone();
        let work = move || report(capture(&rules, windows, &nonce, &cancelled));
        match thread::Builder::new().name("panes".into()).spawn(work) {
            Ok(thread) => self.running = Some(thread),
            Err(error) => {
                let problem = Some(format!("panes are not watched: no thread can be started: {error}"));
                (self.reporter)(PaneCapture { asked, problem, ..PaneCapture::default() });
            }
        }
    }
}

impl Drop for Panes {
    fn drop(&mut self) {
        self.cancelled.store(true, Ordering::Release);
    }
}

/// Captures all windows by one tmux process.
fn capture(rules: &PaneRules, asked: Vec<String>, nonce: &str, cancelled: &AtomicBool) -> PaneCapture {
    let Some(tmux) = find_program("tmux", &rules.environment) else {
        let problem = Some("panes are not watched: there is no tmux in PATH".to_owned());
        return PaneCapture { asked, problem, ..PaneCapture::default() };
    };
    let mut command = Command::new(&tmux);
    command.args(["source-file", "-"]).current_dir(&rules.working_directory);
    command.env_clear().envs(rules.environment.iter().cloned());
    let plan = Plan {
        command,
        input: commands(&asked, nonce).into_bytes(),
        deadline: rules.timeout,
        stdout_limit: OUTPUT_LIMIT,
        stderr_limit: COMPLAINT_CAP,
    };
    let (panes, whole, problem) = match bounded_command::run(plan, cancelled) {
        Ok(outcome) => {
            let parsed = parse(&String::from_utf8_lossy(&outcome.stdout), nonce, &asked);
            let problem = match outcome.ending {
                _ if parsed.is_whole => None,
                Ending::TimedOut => Some("it does not answer".to_owned()),
                Ending::Exited(_) | Ending::Signalled | Ending::Cancelled => Some(complaint(&outcome.stderr)),
            };
            (parsed.panes, parsed.whole, problem)
        }
        Err(error) => (BTreeMap::new(), BTreeMap::new(), Some(error.to_string())),
    };
    let problem = problem.map(|why| format!("panes are not watched: {}: {why}", display(&tmux)));
    PaneCapture { asked, panes, whole, problem }
}

fn display(path: &Path) -> String {
    escape::word(&path.to_string_lossy())
}

fn complaint(stderr: &[u8]) -> String {
    let text = String::from_utf8_lossy(stderr);
    text.trim().lines().last().map_or_else(|| "it ended early".to_owned(), escape::line)
}

/// The commands of one poll. The last line shows that all before it were answered.
fn commands(windows: &[String], nonce: &str) -> String {
    let mut commands = String::new();
    for (index, window) in windows.iter().enumerate() {
        let target = quoted(&exact(window));
        let captured = format!("display-message -p '{nonce} {index}' ; capture-pane -p -t {target} -S -{LINES}");
        // Writing to a string cannot fail.
        let _infallible = writeln!(commands, "{captured}");
    }
    commands + &format!("display-message -p '{nonce} end'\n")
}

/// A word of tmux's command language that stands for exactly this text.
fn quoted(text: &str) -> String {
    format!("'{}'", text.replace('\'', "'\\''"))
}

/// A plain `session:window` as a target that matches only these names. tmux would otherwise fall back to names that
/// begin likewise, and show `fm:task-10` for a `fm:task-1` that is gone. Any other form is left to tmux.
fn exact(window: &str) -> String {
    let is_plain = |name: &str| {
        !name.is_empty()
            && !name.starts_with(['-', '+'])
            && name.chars().all(|character| character.is_alphanumeric() || matches!(character, '-' | '_'))
    };
    match window.split_once(':') {
        Some((session, name)) if is_plain(session) && is_plain(name) => format!("={session}:={name}"),
        _ => window.to_owned(),
    }
}

struct Parsed {
    panes: BTreeMap<String, String>,
    whole: BTreeMap<String, String>,
    /// Whether tmux came to the end of the commands.
    is_whole: bool,
}

fn parse(output: &str, nonce: &str, windows: &[String]) -> Parsed {
    let mut sections: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    let mut current = None;
    for line in output.lines() {
        match line.strip_prefix(nonce).and_then(|rest| rest.strip_prefix(' ')) {
            Some(title) => current = Some(sections.entry(title).or_default()),
            None => current.iter_mut().for_each(|lines| lines.push(line)),
        }
    }
    let is_whole = sections.contains_key("end");
    let (mut panes, mut whole) = (BTreeMap::new(), BTreeMap::new());
    for (index, window) in windows.iter().enumerate() {
        // A pane that exists has at least one line, be it blank.
        if let Some(lines) = sections.remove(index.to_string().as_str()).filter(|lines| !lines.is_empty()) {
            panes.insert(window.clone(), last_lines(&lines));
            whole.insert(window.clone(), lines.join("\n"));
        }
    }
    if !is_whole {
        // The last one may be cut off.
        panes.pop_last();
        whole.pop_last();
    }
    Parsed { panes, whole, is_whole }
}

/// The last lines above the empty rest of the screen.
fn last_lines(lines: &[&str]) -> String {
    let end = lines.iter().rposition(|line| !line.trim().is_empty()).map_or(0, |last| last + 1);
    lines[end.saturating_sub(LINES)..end].join("\n")
}

/// The source of panes.
pub(crate) struct PaneSource {
    panes: Option<Panes>,
    reporter: Reporter<PaneCapture>,
    reports: Receiver<PaneCapture>,
    /// Windows whose wakes are being written.
    in_flight: BTreeSet<String>,
}

impl PaneSource {
    pub(crate) fn new(messages: &Sender<Message>) -> Self {
        let (reporter, reports) = mailbox(NAME, messages);
        Self { panes: None, reporter, reports, in_flight: BTreeSet::new() }
    }
}

/// The tracker that these settings ask for.
pub(crate) fn tracker(settings: &Settings, patterns: &Patterns, span: Span) -> PaneTracker {
    let polls = match span {
        Span::Resident | Span::Once => 1,
        Span::Script => ENOUGH_FOR_SCRIPTS,
    };
    PaneTracker::new(patterns.busy.clone(), usize::try_from(settings.context_max).unwrap_or(usize::MAX), polls)
}

impl Source for PaneSource {
    fn name(&self) -> &'static str {
        NAME
    }

    fn begin(&mut self, context: &mut LoopContext<'_>, _: &[Mark]) {
        let (working_directory, environment) = (context.working_directory(), context.child_environment());
        let rules = PaneRules { timeout: TIMEOUT, working_directory, environment };
        self.panes = Some(Panes::new(rules, self.reporter.clone()));
    }

    fn poll(&mut self, context: &mut LoopContext<'_>, _: Option<&[OsString]>) -> Progress {
        let windows = windows(context.tasks.iter());
        let (Some(panes), false) = (&mut self.panes, windows.is_empty()) else { return Progress::Over };
        match context.session.world.nonce() {
            Ok(nonce) => panes.poll(windows, escape::hexadecimal(&nonce)),
            Err(error) => {
                let why = format!("panes are not watched: no nonce: {error}");
                context.degrade(Part::Panes, Condition::Impaired(why));
            }
        }
        Progress::Awaited
    }

    fn report(&mut self, context: &mut LoopContext<'_>) -> Progress {
        if let Ok(capture) = self.reports.try_recv() {
            context.degrade(Part::Panes, capture.problem.clone().map_or(Condition::Works, Condition::Impaired));
            context.say(Note::PanesRead(capture));
        }
        Progress::Over
    }

    fn heard(&mut self, context: &mut LoopContext<'_>, note: &Note) {
        let Note::PanesRead(capture) = note else { return };
        let observed = context.tracker.observe(capture, &context.seen.panes);
        for window in observed.forget {
            context.unsaved += usize::from(context.seen.panes.remove(&window).is_some());
        }
        let mut drafts = observed.drafts;
        drafts.retain(|draft| self.in_flight.insert(draft.key.clone()));
        context.record(NAME, 0, drafts);
    }

    fn announced(&mut self, _: &mut LoopContext<'_>, wakes: &[Wake]) {
        for wake in wakes {
            if let Some(Mark::Pane { window, .. }) = &wake.mark {
                self.in_flight.remove(window);
            }
        }
    }

    fn not_recorded(&mut self, _: u64, draft: &Draft) -> Unrecorded {
        self.in_flight.remove(&draft.key);
        Unrecorded::FoundAgain
    }

    fn reload(&mut self, context: &mut LoopContext<'_>) {
        context.tracker = tracker(&context.settings, &context.patterns, context.span);
    }
}

#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "tests make and remove files of their own")]
mod tests {
    use std::process::Stdio;
    use std::sync::mpsc::channel;

    use proptest::prelude::*;

    use super::*;

    const PATH: &str = "/usr/bin:/bin:/usr/local/bin";

    fn environment(directory: &Path) -> Vec<(String, OsString)> {
        vec![
            ("PATH".into(), PATH.into()),
            ("TMUX_TMPDIR".into(), directory.into()),
            ("HOME".into(), directory.into()),
            ("LC_ALL".into(), "C.UTF-8".into()),
        ]
    }

    /// A tmux server of this test's own, which ends with it.
    struct Server {
        directory: tempfile::TempDir,
    }

    impl Server {
        fn start() -> Option<Self> {
            let server = Self { directory: tempfile::tempdir().unwrap() };
            if find_program("tmux", &environment(server.directory.path())).is_none() {
                println!("skipped: there is no tmux");
                return None;
            }
            server.tmux(&["-f", "/dev/null", "new-session", "-d", "-s", "fm", "-n", "one", "-x", "60", "-y", "50"]);
            Some(server)
        }

        fn tmux(&self, arguments: &[&str]) -> bool {
            let mut command = Command::new("tmux");
            command.args(arguments).env_clear().envs(environment(self.directory.path()));
            command.stdin(Stdio::null()).status().unwrap().success()
        }

        fn window(&self, name: &str, text: &str) {
            // The channel is signalled once the text is on the screen.
            let script = format!("printf '{text}'; tmux wait-for -S ready; exec sleep 1000");
            assert!(self.tmux(&["new-window", "-t", "fm", "-n", name, &script]));
            assert!(self.tmux(&["wait-for", "ready"]));
        }

        fn rules(&self) -> PaneRules {
            let working_directory = self.directory.path().to_owned();
            PaneRules {
                timeout: Duration::from_secs(20),
                environment: environment(&working_directory),
                working_directory,
            }
        }

        fn capture(&self, windows: &[&str]) -> PaneCapture {
            let windows = windows.iter().map(|window| (*window).to_owned()).collect();
            capture(&self.rules(), windows, "3f9a", &AtomicBool::new(false))
        }
    }

    impl Drop for Server {
        fn drop(&mut self) {
            self.tmux(&["kill-server"]);
        }
    }

    #[test]
    fn windows_that_are_gone_or_hostile_spoil_none_of_the_others() {
        let Some(server) = Server::start() else { return };
        server.window("task-10", "ten\\nbusy ä\\n");
        server.window("it's odd", "odd\\n");
        let hostile = ["fm:no ; kill-server", "'", "\"", "$(kill-server)", "#(kill-server)", "-x", "}", "\\", "fm:'"];
        let windows = [&["fm:task-1", "nosuch:9", "fm:task-10"][..], &hostile, &["fm:it's odd"]].concat();
        let found = server.capture(&windows);
        assert_eq!(found.problem, None);
        assert_eq!(found.panes.get("fm:task-10").map(String::as_str), Some("ten\nbusy ä"));
        assert_eq!(found.panes.get("fm:task-1"), None, "a longer name is another window");
        assert_eq!(found.panes.get("nosuch:9"), None);
        assert_eq!(found.panes.get("fm:it's odd").map(String::as_str), Some("odd"), "{found:?}");
        assert!(server.tmux(&["has-session", "-t", "fm"]), "the server lives");
    }

    #[test]
    fn windows_are_found_by_index_and_id_too() {
        let Some(server) = Server::start() else { return };
        server.window("a", "text\\n");
        let found = server.capture(&["fm:1", "@1", "%1", "fm:a.0"]);
        assert_eq!(found.panes.values().collect::<Vec<_>>(), ["text"; 4]);
    }

    #[test]
    fn without_a_server_the_reason_is_told_and_none_is_started() {
        let Some(server) = Server::start() else { return };
        server.tmux(&["kill-server"]);
        let found = server.capture(&["fm:a"]);
        assert!(found.panes.is_empty());
        assert!(found.problem.unwrap().starts_with("panes are not watched: /"));
        assert!(!server.tmux(&["has-session"]));
    }

    #[test]
    fn the_source_sends_one_capture_per_poll_and_starts_nothing_without_windows() {
        let directory = tempfile::tempdir().unwrap();
        let environment = vec![("PATH".to_owned(), directory.path().into())];
        let rules = PaneRules { timeout: Duration::from_secs(1), environment, working_directory: "/".into() };
        let (sender, captures) = channel::<PaneCapture>();
        let mut panes = Panes::new(rules, Arc::new(move |capture| drop(sender.send(capture))));
        panes.poll(Vec::new(), "1".into());
        assert!(panes.running.is_none());
        panes.poll(vec!["w".into()], "1".into());
        let found = captures.recv_timeout(Duration::from_secs(10)).unwrap();
        assert_eq!(found.problem.as_deref(), Some("panes are not watched: there is no tmux in PATH"));
        assert_eq!(found.asked, ["w"]);
    }

    #[test]
    fn only_watched_windows_are_asked_for_and_each_once() {
        let task = |window: &str, kind: Option<&str>| Task {
            id: String::new(),
            window: Some(window.into()),
            kind: kind.map(Into::into),
        };
        let tasks = [
            task("b", None),
            task("a", Some("ship")),
            task("b", None),
            task("c", Some("secondmate")),
            task("d\u{1b}", None),
            task("+1", None),
            task("{last}", None),
            task(&"e".repeat(600), None),
        ];
        assert_eq!(windows(tasks.iter()), ["a", "b"]);
    }

    #[test]
    fn an_answer_that_was_cut_off_is_not_whole_and_its_last_pane_is_dropped() {
        let windows = ["a".to_owned(), "b".to_owned()];
        let parsed = parse("n 0\nx\n\n\nn 1\ny\n", "n", &windows);
        assert!(!parsed.is_whole);
        assert_eq!(parsed.panes, BTreeMap::from([("a".to_owned(), "x".to_owned())]));
    }

    #[test]
    fn the_last_lines_are_those_above_the_empty_rest() {
        let text: Vec<String> = (0..60).map(|number| number.to_string()).collect();
        let mut lines: Vec<&str> = text.iter().map(String::as_str).collect();
        lines.extend([""; 30]);
        assert_eq!(last_lines(&lines), text[20..].join("\n"));
        assert_eq!(last_lines(&["", " "]), "");
    }

    proptest! {
        #[test]
        fn any_window_stays_one_quoted_word(window in "[^\\pC]{1,40}") {
            let quoted = quoted(&window);
            // Take the word apart as tmux does: quotes toggle, a backslash outside of them takes the next character.
            let (mut text, mut is_inside) = (String::new(), false);
            let mut characters = quoted.chars();
            while let Some(character) = characters.next() {
                match character {
                    '\'' => is_inside = !is_inside,
                    '\\' if !is_inside => text.extend(characters.next()),
                    other => {
                        prop_assert!(is_inside);
                        text.push(other);
                    }
                }
            }
            prop_assert!(!is_inside);
            prop_assert_eq!(text, window);
        }

        #[test]
        fn any_output_is_parsed(output in "(n [0-9]\n|n end\n|[a-c\n]){0,30}") {
            let windows: Vec<String> = (0..3).map(|number| number.to_string()).collect();
            let parsed = parse(&output, "n", &windows);
            prop_assert!(parsed.panes.len() <= 3);
        }
    }
}
