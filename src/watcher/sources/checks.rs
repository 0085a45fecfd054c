//! The checks: scripts of the home whose output is a reason to wake.
//!
//! A sweep runs every `*.check.sh` of the state directory by bash, beside the loop, at most a few at once, each bounded
//! in time and output (see [`crate::system::bounded_command`]). A script that still runs is not started again, and a script that
//! cannot be killed holds up only itself. The results come over a channel, so no signal can starve them.
//!
//! These scripts run with our rights, so one that somebody else could have written is never run: it has to be a regular
//! file of ours or of root's that neither group nor others can write. The directory it lies in is held to the same rule
//! by whoever opens the home. Scripts run in the home directory, with the environment that the caller gives.
//!
//! The schedule survives restarts through [`crate::watcher::checkpoint::Seen::last_check`], which is to be set to
//! [`Checks::sweep_began`] when the sweep is over: a sweep that was cut off is due again at once.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, Sender};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use super::check_result::{CheckMemory, CheckResult, How, Wording};
use crate::base::wait_until::wait_until;
use crate::journal::record::{Draft, Mark};
use crate::ownership::context::Surroundings;
use crate::system::bounded_command::{self, Ending, Plan};
use crate::system::platform;
use crate::system::program;
use crate::system::regular_file::{Signature, has_suffix};
use crate::system::{Facts, Kind, World};
use crate::watcher::checkpoint::Moment;
use crate::watcher::source::{LoopContext, Message, Note, Progress, Reporter, Source, Span, Unrecorded, mailbox};

/// The end of a check's name.
const SUFFIX: &str = ".check.sh";

/// How much of a failing check's standard error is kept, in bytes.
const COMPLAINT_CAP: usize = 4096;

/// How much of a check's output is kept, in bytes.
const OUTPUT_CAP: usize = 64 * 1024;

const NAME: &str = "checks";

/// How long leaving waits for the running checks to be killed.
const STOP_WITHIN: Duration = Duration::from_secs(1);

/// The rules of a sweep.
#[derive(Debug, Clone)]
pub struct CheckRules {
    /// From the beginning of one sweep to the next.
    pub interval: Duration,
    /// How long one check may take.
    pub timeout: Duration,
    /// How many run at once; at least one does.
    pub at_most: usize,
    /// Where the scripts are: the absolute path of the state directory.
    pub state: PathBuf,
    /// Where they run: the home directory.
    pub working_directory: PathBuf,
    /// All they see of the environment.
    pub environment: Vec<(String, OsString)>,
}

/// The scripts that run and those that wait for their turn.
pub struct Checks {
    rules: Arc<CheckRules>,
    bash: Option<PathBuf>,
    reporter: Reporter<CheckResult>,
    waiting: VecDeque<PathBuf>,
    running: BTreeSet<PathBuf>,
    threads: Vec<JoinHandle<()>>,
    cancelled: Arc<AtomicBool>,
    began: Option<Moment>,
}

impl Checks {
    /// Nothing runs yet.
    pub fn new(rules: CheckRules, reporter: Reporter<CheckResult>) -> Self {
        let bash = find_bash(&rules.environment);
        Self {
            rules: Arc::new(rules),
            bash,
            reporter,
            waiting: VecDeque::new(),
            running: BTreeSet::new(),
            threads: Vec::new(),
            cancelled: Arc::new(AtomicBool::new(false)),
            began: None,
        }
    }

    /// How long until the next sweep; zero when it is due. `last` is when the last completed one of an earlier life
    /// began; with an unknown age the sweep is due.
    pub fn due_in(&self, last: Option<&Moment>, now: &Moment) -> Duration {
        let age = self.began.as_ref().or(last).and_then(|began| began.age(now));
        age.map_or(Duration::ZERO, |age| self.rules.interval.saturating_sub(age))
    }

    /// Begins a sweep over the checks among the names in the state directory. What still waits or runs from the sweep
    /// before is not added again. Says how many results of this sweep will arrive.
    pub fn sweep<W: World>(&mut self, world: &W, state: &W::Node, names: &[OsString]) -> usize {
        self.began = Some(Moment::now(world));
        let mut names: Vec<_> = names.iter().filter(|name| has_suffix(name, SUFFIX)).collect();
        names.sort_unstable();
        let mut results = 0;
        for name in names {
            let script = self.rules.state.join(name);
            if self.running.contains(&script) || self.waiting.contains(&script) {
                continue;
            }
            match inspect(world, state, name) {
                Some(How::Cancelled) => continue,
                Some(how) => self.report(script, how),
                None => self.waiting.push_back(script),
            }
            results += 1;
        }
        self.start_next();
        results
    }

    /// When the current or last sweep of this life began.
    pub fn sweep_began(&self) -> Option<&Moment> {
        self.began.as_ref()
    }

    /// Whether checks of a sweep still wait or run.
    pub fn is_sweeping(&self) -> bool {
        !self.waiting.is_empty() || !self.running.is_empty()
    }

    /// Forgets what waits: the sweep is over with what runs.
    pub fn cut_short(&mut self) {
        self.waiting.clear();
    }

    /// Takes note that a result has arrived, and starts what waited for its place.
    pub fn finish(&mut self, result: &CheckResult) {
        self.running.remove(&result.script);
        self.threads.retain(|thread| !thread.is_finished());
        self.start_next();
    }

    /// Kills what runs and forgets what waits. Waits a moment for the killed to be reaped.
    pub fn stop(&mut self) {
        self.waiting.clear();
        self.cancelled.store(true, Ordering::Release);
        let all_ended = || self.threads.iter().all(JoinHandle::is_finished).then_some(());
        // Whoever cannot be killed now is left to the kernel.
        let _some_may_be_left = wait_until(STOP_WITHIN, Duration::from_millis(5), all_ended);
    }

    fn start_next(&mut self) {
        while self.running.len() < self.rules.at_most.max(1) {
            let Some(script) = self.waiting.pop_front() else { break };
            self.running.insert(script.clone());
            if let Err(how) = self.start(script.clone()) {
                self.report(script, how);
            }
        }
    }

    fn start(&mut self, script: PathBuf) -> Result<(), How> {
        let bash = self.bash.clone().ok_or_else(|| {
            How::Failed("no bash in /bin, /usr/bin or PATH; install it, or no check can run".to_owned())
        })?;
        let (rules, cancelled, report) = (self.rules.clone(), self.cancelled.clone(), self.reporter.clone());
        let work = move || report(run(&rules, &bash, script, &cancelled));
        let thread = thread::Builder::new().name("check".into()).spawn(work);
        self.threads.push(thread.map_err(|error| How::Failed(format!("no thread can be started: {error}")))?);
        Ok(())
    }

    fn report(&self, script: PathBuf, how: How) {
        (self.reporter)(CheckResult { script, output: String::new(), complaint: String::new(), how });
    }
}

impl Drop for Checks {
    fn drop(&mut self) {
        self.cancelled.store(true, Ordering::Release);
    }
}

/// The scripts of a state directory that are not run, each with the reason.
///
/// # Errors
/// The directory cannot be listed.
pub fn refused<W: World>(world: &W, state: &W::Node) -> std::io::Result<Vec<(OsString, String)>> {
    let names = world.names(state)?.into_iter().filter(|name| has_suffix(name, SUFFIX));
    let judged = names.filter_map(|name| match inspect(world, state, &name)? {
        How::Refused { why, .. } => Some((name, why)),
        _ => None,
    });
    Ok(judged.collect())
}

/// Looks at a script before it is run. `None`: it may run; `Cancelled`: it is gone.
fn inspect<W: World>(world: &W, state: &W::Node, name: &OsStr) -> Option<How> {
    match world.facts_at(state, name) {
        Ok(facts) => {
            let why = refusal(&facts, platform::effective_uid())?;
            Some(How::Refused { why, signature: Signature::of(&facts) })
        }
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Some(How::Cancelled),
        Err(error) => Some(How::Failed(format!("it cannot be examined: {error}"))),
    }
}

/// Why a script must not be run.
fn refusal(facts: &Facts, own_uid: u32) -> Option<String> {
    if facts.kind != Kind::File {
        return Some("it is not a regular file; put the script itself there".to_owned());
    }
    if facts.uid != own_uid && facts.uid != 0 {
        return Some(format!("it belongs to user {}; chown it to user {own_uid}", facts.uid));
    }
    if facts.is_writable_by_others() {
        return Some(format!("others can write it (mode {:04o}); chmod go-w it", facts.mode));
    }
    None
}

fn run(rules: &CheckRules, bash: &Path, script: PathBuf, cancelled: &AtomicBool) -> CheckResult {
    let mut command = Command::new(bash);
    command.arg(&script).current_dir(&rules.working_directory).env_clear().envs(rules.environment.iter().cloned());
    let plan = Plan {
        command,
        input: Vec::new(),
        deadline: rules.timeout,
        stdout_limit: OUTPUT_CAP,
        stderr_limit: COMPLAINT_CAP,
    };
    match bounded_command::run(plan, cancelled) {
        Ok(outcome) => CheckResult {
            script,
            output: String::from_utf8_lossy(&outcome.stdout).into_owned(),
            complaint: String::from_utf8_lossy(&outcome.stderr).into_owned(),
            how: match outcome.ending {
                Ending::Exited(code) => How::Exited(code),
                Ending::Signalled => How::Signalled,
                Ending::TimedOut => How::TimedOut(rules.timeout),
                Ending::Cancelled => How::Cancelled,
            },
        },
        Err(error) => {
            let directory = rules.working_directory.display();
            let how = How::Failed(format!("cannot run {} in {directory}: {error}", bash.display()));
            CheckResult { script, output: String::new(), complaint: String::new(), how }
        }
    }
}

fn find_bash(environment: &[(String, OsString)]) -> Option<PathBuf> {
    let usual = [PathBuf::from("/bin/bash"), PathBuf::from("/usr/bin/bash")];
    usual.into_iter().find(|path| path.is_file()).or_else(|| find_program("bash", environment))
}

/// Finds a program in the absolute directories of the `PATH` of an environment.
pub(crate) fn find_program(name: &str, environment: &[(String, OsString)]) -> Option<PathBuf> {
    let (_, path) = environment.iter().find(|(key, _)| key == "PATH")?;
    program::find_in(path, name)
}

/// The source of checks.
pub(crate) struct CheckSource {
    checks: Option<Checks>,
    reporter: Reporter<CheckResult>,
    reports: Receiver<CheckResult>,
    /// What to remember of a check when the wake of this ticket is durable.
    memories: BTreeMap<u64, (String, CheckMemory)>,
    tickets: u64,
}

impl CheckSource {
    pub(crate) fn new(messages: &Sender<Message>) -> Self {
        let (reporter, reports) = mailbox(NAME, messages);
        Self { checks: None, reporter, reports, memories: BTreeMap::new(), tickets: 0 }
    }

    fn note_sweep(context: &mut LoopContext<'_>, checks: &Checks) {
        context.seen.last_check = checks.sweep_began().cloned();
        context.unsaved += 1;
        context.say_when_recorded(Note::ChecksSwept);
    }
}

impl Source for CheckSource {
    fn name(&self) -> &'static str {
        NAME
    }

    fn begin(&mut self, context: &mut LoopContext<'_>, _: &[Mark]) {
        self.reload(context);
    }

    /// Begins a sweep if one is due.
    fn poll(&mut self, context: &mut LoopContext<'_>, listed: Option<&[OsString]>) -> Progress {
        let (Some(checks), Some(listed)) = (&mut self.checks, listed) else { return Progress::Over };
        let world = context.session.world.as_ref();
        if checks.due_in(context.seen.last_check.as_ref(), &Moment::now(world)).is_zero() {
            context.seen.checks.retain(|name, _| listed.iter().any(|other| other.to_str() == Some(name)));
            if checks.sweep(world, &context.state, listed) > 0 {
                return Progress::Awaited;
            }
            if !checks.is_sweeping() {
                Self::note_sweep(context, checks);
            }
        }
        if checks.is_sweeping() { Progress::Awaited } else { Progress::Over }
    }

    fn report(&mut self, context: &mut LoopContext<'_>) -> Progress {
        let (Some(checks), Ok(result)) = (&mut self.checks, self.reports.try_recv()) else { return Progress::Awaited };
        let wording = if context.span == Span::Script { Wording::Whole } else { Wording::Line };
        let name = result.name();
        let judgement = result.judge(context.seen.checks.get(&name), wording);
        if context.span == Span::Script && judgement.draft.is_some() {
            // The first one that has something to say ends the sweep of a script.
            checks.cut_short();
        }
        checks.finish(&result);
        if let Some(draft) = judgement.draft {
            self.tickets += 1;
            self.memories.insert(self.tickets, (name, judgement.memory));
            context.record(NAME, self.tickets, vec![draft]);
        } else {
            context.seen.checks.insert(name, judgement.memory);
        }
        if checks.is_sweeping() {
            return Progress::Awaited;
        }
        Self::note_sweep(context, checks);
        Progress::Over
    }

    fn is_sweeping(&self) -> bool {
        self.checks.as_ref().is_some_and(Checks::is_sweeping)
    }

    fn recorded(&mut self, context: &mut LoopContext<'_>, ticket: u64) {
        context.seen.checks.extend(self.memories.remove(&ticket));
    }

    fn not_recorded(&mut self, _: u64, _: &Draft) -> Unrecorded {
        Unrecorded::Keep
    }

    fn reload(&mut self, context: &mut LoopContext<'_>) {
        let session = context.session;
        let rules = CheckRules {
            interval: context.settings.check_interval,
            timeout: context.settings.check_timeout,
            at_most: match session.surroundings {
                Surroundings::Home => context.settings.checks_at_once,
                // One after the other, as the scripts run them.
                Surroundings::Caller(_) => 1,
            },
            state: session.home.state().to_owned(),
            working_directory: context.working_directory(),
            environment: context.child_environment(),
        };
        self.checks = Some(Checks::new(rules, self.reporter.clone()));
    }

    fn stop(&mut self) {
        if let Some(checks) = &mut self.checks {
            checks.stop();
        }
    }
}

#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "tests make and remove files of their own")]
mod tests {
    use std::fs::{self, File, Permissions};
    use std::os::unix::fs::PermissionsExt;
    use std::sync::mpsc::{Receiver, channel};

    use super::*;
    use crate::system::Real;

    struct Fixture {
        home: tempfile::TempDir,
        node: File,
        results: Receiver<CheckResult>,
        checks: Checks,
    }

    fn rules(home: &Path) -> CheckRules {
        CheckRules {
            interval: Duration::from_secs(300),
            timeout: Duration::from_secs(20),
            at_most: 2,
            state: home.join("state"),
            working_directory: home.to_owned(),
            environment: vec![("PATH".into(), "/usr/bin:/bin".into()), ("ONLY".into(), "this".into())],
        }
    }

    impl Fixture {
        fn new(change: impl FnOnce(&mut CheckRules)) -> Self {
            let home = tempfile::tempdir().unwrap();
            fs::create_dir(home.path().join("state")).unwrap();
            let mut rules = rules(home.path());
            change(&mut rules);
            let (sender, results) = channel();
            let node = Real.open_directory(&rules.state).unwrap();
            let reporter = Arc::new(move |result| drop(sender.send(result)));
            Self { home, node, results, checks: Checks::new(rules, reporter) }
        }

        fn script(&self, name: &str, text: &str, mode: u32) -> PathBuf {
            let path = self.home.path().join("state").join(name);
            fs::write(&path, text).unwrap();
            fs::set_permissions(&path, Permissions::from_mode(mode)).unwrap();
            path
        }

        fn sweep(&mut self) {
            let names = Real.names(&self.node).unwrap();
            self.checks.sweep(&Real, &self.node, &names);
        }

        fn next(&mut self) -> CheckResult {
            let result = self.results.recv_timeout(Duration::from_secs(30)).unwrap();
            self.checks.finish(&result);
            result
        }
    }

    #[test]
    fn every_check_runs_once_in_the_home_directory_with_the_given_environment() {
        let mut fixture = Fixture::new(|_| {});
        for name in ["a", "b", "c", "d", "e"] {
            let text = "echo \"$0 $PWD $ONLY ${HOME-none}\"; read line && echo no; echo why >&2; exit 4";
            fixture.script(&format!("{name}.check.sh"), text, 0o600);
        }
        fixture.script(".hidden.check.sh", "echo no", 0o600);
        fixture.script("other.sh", "echo no", 0o600);
        fixture.sweep();
        assert!(fixture.checks.running.len() <= 2);
        let mut results: Vec<_> = (0..5).map(|_| fixture.next()).collect();
        results.sort_by(|left, right| left.script.cmp(&right.script));
        let home = fs::canonicalize(fixture.home.path()).unwrap();
        let script = fixture.home.path().join("state/a.check.sh");
        assert_eq!(results[0].output, format!("{} {} this none\n", script.display(), home.display()));
        assert_eq!((results[0].complaint.as_str(), &results[0].how), ("why\n", &How::Exited(4)));
        assert!(!fixture.checks.is_sweeping());
        assert!(fixture.results.try_recv().is_err());
    }

    #[test]
    fn a_check_that_still_runs_is_not_started_again() {
        let mut fixture = Fixture::new(|_| {});
        let gate = fixture.home.path().join("gate");
        rustix::fs::mknodat(rustix::fs::CWD, &gate, rustix::fs::FileType::Fifo, 0o600.into(), 0).unwrap();
        fixture.script("a.check.sh", "read line < gate; echo once", 0o600);
        fixture.sweep();
        fixture.sweep();
        assert_eq!((fixture.checks.running.len(), fixture.checks.waiting.len()), (1, 0));
        fs::write(&gate, "go\n").unwrap();
        assert_eq!(fixture.next().output, "once\n");
        assert!(!fixture.checks.is_sweeping());
        assert!(fixture.results.try_recv().is_err());
    }

    #[test]
    fn a_check_that_hangs_with_its_children_is_cut_off() {
        let mut fixture = Fixture::new(|rules| rules.timeout = Duration::from_millis(200));
        fixture.script("a.check.sh", "echo early; sleep 1000 & sleep 1000", 0o600);
        fixture.sweep();
        let result = fixture.next();
        assert_eq!((result.how, result.output.as_str()), (How::TimedOut(Duration::from_millis(200)), "early\n"));
    }

    #[test]
    fn scripts_that_others_could_have_written_are_never_run() {
        let mut fixture = Fixture::new(|_| {});
        let mark = fixture.home.path().join("ran");
        let text = format!("touch {}", mark.display());
        for (name, mode) in [("a", 0o620), ("b", 0o602), ("c", 0o777)] {
            fixture.script(&format!("{name}.check.sh"), &text, mode);
        }
        let real = fixture.script("real", &text, 0o600);
        std::os::unix::fs::symlink(&real, fixture.home.path().join("state/d.check.sh")).unwrap();
        fs::create_dir(fixture.home.path().join("state/e.check.sh")).unwrap();
        rustix::fs::mknodat(&fixture.node, "f.check.sh", rustix::fs::FileType::Fifo, 0o600.into(), 0).unwrap();
        fixture.sweep();
        assert!(!fixture.checks.is_sweeping());
        for _ in 0..6 {
            let result = fixture.next();
            assert!(matches!(result.how, How::Refused { .. }), "{result:?}");
        }
        assert!(fixture.results.try_recv().is_err());
        assert!(!mark.exists());
    }

    #[test]
    fn only_our_own_and_roots_scripts_are_trusted() {
        let facts = |uid, mode| Facts {
            kind: Kind::File,
            device: 1,
            inode: 1,
            size: 1,
            mtime_ns: 0,
            ctime_ns: 0,
            links: 1,
            uid,
            mode,
        };
        assert_eq!(refusal(&facts(1000, 0o755), 1000), None);
        assert_eq!(refusal(&facts(0, 0o644), 1000), None);
        assert!(refusal(&facts(1001, 0o644), 1000).unwrap().contains("user 1001"));
        assert!(refusal(&facts(1000, 0o664), 1000).unwrap().contains("0664"));
    }

    #[test]
    fn leaving_kills_what_runs() {
        let mut fixture = Fixture::new(|_| {});
        fixture.script("a.check.sh", "sleep 1000", 0o600);
        fixture.sweep();
        fixture.checks.stop();
        assert!(fixture.checks.threads.iter().all(JoinHandle::is_finished));
        assert_eq!(fixture.next().how, How::Cancelled);
    }

    #[test]
    fn what_cannot_be_started_is_a_failure_that_says_why() {
        let mut fixture = Fixture::new(|rules| rules.working_directory = "/nonexistent".into());
        fixture.script("a.check.sh", "", 0o600);
        fixture.sweep();
        assert!(matches!(fixture.next().how, How::Failed(why) if why.contains("/nonexistent")));
        fixture.checks.bash = None;
        fixture.sweep();
        assert_eq!(
            fixture.next().how,
            How::Failed("no bash in /bin, /usr/bin or PATH; install it, or no check can run".into())
        );
        assert!(!fixture.checks.is_sweeping());
    }

    #[test]
    fn a_sweep_is_due_an_interval_after_the_last_one_began() {
        let mut fixture = Fixture::new(|_| {});
        let at = |seconds: u64| Moment { boot_id: "b".into(), monotonic_ms: seconds * 1000 };
        assert_eq!(fixture.checks.due_in(None, &at(1000)), Duration::ZERO);
        assert_eq!(fixture.checks.due_in(Some(&at(900)), &at(1000)), Duration::from_secs(200));
        assert_eq!(fixture.checks.due_in(Some(&at(9000)), &at(1000)), Duration::ZERO);
        fixture.checks.began = Some(at(1000));
        assert_eq!(fixture.checks.due_in(Some(&at(1)), &at(1100)), Duration::from_secs(200));
    }
}
