//! A child of the test whose output is collected while it runs, and which never outlives its value.

use std::io::Read;
use std::os::unix::process::ExitStatusExt;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use rustix::process::Signal;

use super::{SOON, wait_until, wait_until_true};

/// What a finished program said.
#[derive(Debug)]
pub struct Answer {
    /// The exit code; `None` if it was killed.
    pub code: Option<i32>,
    /// The signal that killed it.
    pub signal: Option<i32>,
    /// All of stdout.
    pub stdout: String,
    /// All of stderr.
    pub stderr: String,
    /// How long it ran.
    pub took: Duration,
}

impl Answer {
    /// Fails the test unless the exit code is this one.
    #[track_caller]
    pub fn expect_code(self, code: i32) -> Self {
        assert_eq!(self.code, Some(code), "{self:?}");
        self
    }

    /// Stdout as JSON.
    #[track_caller]
    pub fn json(&self) -> serde_json::Value {
        serde_json::from_str(self.stdout.trim()).unwrap_or_else(|error| panic!("{error} in {self:?}"))
    }

    /// The lines of stdout.
    pub fn lines(&self) -> Vec<&str> {
        self.stdout.lines().collect()
    }
}

#[derive(Debug)]
struct Stream {
    text: Arc<Mutex<Vec<u8>>>,
    reader: JoinHandle<()>,
}

impl Stream {
    fn of(mut source: impl Read + Send + 'static) -> Self {
        let text = Arc::new(Mutex::new(Vec::new()));
        let shared = Arc::clone(&text);
        let reader = std::thread::spawn(move || {
            let mut buffer = [0; 4096];
            while let Ok(taken @ 1..) = source.read(&mut buffer) {
                shared.lock().unwrap().extend_from_slice(&buffer[..taken]);
            }
        });
        Self { text, reader }
    }

    fn text(&self) -> String {
        String::from_utf8_lossy(&self.text.lock().unwrap()).into_owned()
    }
}

/// How long the program may take to leave at the end of a test, before it is killed.
pub const LEAVES_WITHIN: Duration = Duration::from_secs(3);

/// A running child.
#[derive(Debug)]
pub struct Background {
    child: Child,
    what: String,
    leaves_when_asked: bool,
    started: Instant,
    stdout: Stream,
    stderr: Stream,
}

impl Background {
    /// Starts a command with both outputs collected and nothing to read.
    pub fn spawn(mut command: Command) -> Self {
        command.stdin(Stdio::null());
        Self::spawn_reading(command)
    }

    /// Starts a command with both outputs collected, and with the stdin that it was given.
    pub fn spawn_reading(mut command: Command) -> Self {
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        let what = format!("{command:?}");
        let started = Instant::now();
        let mut child = spawn_when_written(&mut command).unwrap_or_else(|error| panic!("cannot start {what}: {error}"));
        let stdout = Stream::of(child.stdout.take().unwrap());
        let stderr = Stream::of(child.stderr.take().unwrap());
        let leaves_when_asked = command.get_program() == *super::home::PROGRAM;
        Self { child, what, leaves_when_asked, started, stdout, stderr }
    }

    /// Its pid. It is this test's own unreaped child, so the number stays its own until [`Background::finish`].
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// What it has printed on stdout so far.
    pub fn stdout(&self) -> String {
        self.stdout.text()
    }

    /// What it has printed on stderr so far.
    pub fn stderr(&self) -> String {
        self.stderr.text()
    }

    /// Waits for a whole line on stdout that contains a text.
    #[track_caller]
    pub fn wait_for_line(&self, text: &str) -> String {
        let look = || whole_lines(&self.stdout()).into_iter().find(|line| line.contains(text));
        match fm_watch::base::wait_until::wait_until(SOON, Duration::from_millis(1), look) {
            Some(line) => line,
            None => panic!("waited in vain for {text:?} from {}: {:?} {:?}", self.what, self.stdout(), self.stderr()),
        }
    }

    /// Sends a signal to it.
    pub fn signal(&self, signal: Signal) {
        let pid = rustix::process::Pid::from_child(&self.child);
        rustix::process::kill_process(pid, signal).unwrap();
    }

    /// How it ended, if it has.
    pub fn ended(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().unwrap()
    }

    /// Waits until it has ended and tells all it said. It fails the test if that takes too long.
    #[track_caller]
    pub fn finish(mut self, within: Duration) -> Answer {
        let ended = fm_watch::base::wait_until::wait_until(within, Duration::from_millis(1), || self.ended());
        let took = self.started.elapsed();
        let Some(status) = ended else {
            panic!("{} was still there after {within:?}: {:?} {:?}", self.what, self.stdout(), self.stderr())
        };
        // A grandchild that holds the pipe open is none of our business; what is there by then counts.
        let is_drained = || self.stdout.reader.is_finished() && self.stderr.reader.is_finished();
        let _drained = fm_watch::base::wait_until::wait_until(Duration::from_secs(2), Duration::from_millis(1), || {
            is_drained().then_some(())
        });
        Answer { code: status.code(), signal: status.signal(), stdout: self.stdout(), stderr: self.stderr(), took }
    }
}

impl Drop for Background {
    fn drop(&mut self) {
        if self.child.try_wait().is_ok_and(|ended| ended.is_some()) {
            return;
        }
        if self.leaves_when_asked {
            // So that it ends what it has started itself.
            self.signal(Signal::TERM);
            self.signal(Signal::CONT);
            let _ended = fm_watch::base::wait_until::wait_until(LEAVES_WITHIN, Duration::from_millis(1), || {
                self.child.try_wait().ok().flatten()
            });
        }
        // Nothing happens to one that was reaped.
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

/// A program that the test has just written is "busy" while a child that another thread is starting still has the
/// descriptor; that passes when the child executes its own program.
fn spawn_when_written(command: &mut Command) -> std::io::Result<Child> {
    let spawned = fm_watch::base::wait_until::wait_until(SOON, Duration::from_millis(1), || match command.spawn() {
        Err(error) if error.kind() == std::io::ErrorKind::ExecutableFileBusy => None,
        done => Some(done),
    });
    spawned.unwrap_or_else(|| Err(std::io::ErrorKind::ExecutableFileBusy.into()))
}

fn whole_lines(text: &str) -> Vec<String> {
    let end = text.rfind('\n').map_or(0, |end| end + 1);
    text[..end].lines().map(str::to_owned).collect()
}

/// Waits until a process that is not our child has ended, with all its threads, so that it holds nothing any more.
#[track_caller]
pub fn wait_for_end(pid: u32, what: &str) {
    wait_until_true(SOON, &format!("{what} (pid {pid}) has ended"), || super::processes::has_ended(pid));
}

/// Waits until a process is in a state (`T` stopped, `Z` zombie, `S` asleep).
#[track_caller]
pub fn wait_for_state(pid: u32, state: &str) {
    wait_until(SOON, &format!("pid {pid} is in state {state}"), || {
        super::processes::stat_field(pid, 3).filter(|now| now == state)
    });
}
