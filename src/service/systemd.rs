//! The service as a unit of systemd's user instance.
//!
//! What each line is for:
//!
//! - `ConditionPathIsDirectory`: a home that a person removed is not made again by the next login.
//! - `StartLimitIntervalSec=0` with a rest between two starts: a watcher that could not start because a disk was full
//!   starts when there is room again, and nobody has to remember that it gave up.
//! - `Restart=on-failure`: a watcher that was asked to leave stays away. It leaves with 0 also when another one has the
//!   home; 130 and 143 say that a person interrupted it. Settings that cannot be understood (2) are not mended by
//!   another start.
//! - `KillMode=process` and `OOMPolicy=continue`: what the watcher keeps lives on when it stops, and does not stop it when
//!   memory runs out for one of them.
//!
//! How words are written: in `ExecStart` and `Environment`, quotes hold a word together, a backslash escapes, `%%` stands
//! for a percent sign. `$$` stands for a dollar sign in arguments only: in the program's path and in `Environment` a
//! dollar sign is itself. A program's path may hold no quotes and no backslashes at all. Other values are taken as they
//! are, up to white space at their end and a backslash there.
//!
//! Source: `systemd.service(5)`, `systemd.unit(5)`, `systemd.exec(5)`, `systemd.syntax(7)` and `systemd.kill(5)`.

use std::time::Duration;

use super::identity;
use super::spec::ServiceSpec;
use crate::base::exit;

/// The rest between two starts in seconds. Nothing is lost meanwhile, and `arm` need not wait for it.
const RESTS: u64 = 5;

/// The file's name.
pub fn file_name(plan: &ServiceSpec) -> String {
    format!("{}.service", plan.label)
}

/// Whether systemd cannot start a program by this path.
pub fn is_impossible(program: &str) -> bool {
    program.contains(['"', '\'', '\\'])
}

/// The unit's text.
pub fn unit(plan: &ServiceSpec) -> String {
    let ServiceSpec { command, patience, starts_within, leaves_within, removal, .. } = plan;
    let words = command.iter().enumerate();
    let words: Vec<_> =
        words.map(|(position, word)| if position == 0 { verbatim(word) } else { argument(word) }).collect();
    let text = format!(
        "# {mark}.\n\
         # To remove it: {removal}\n\
         [Unit]\n\
         Description=fm-watch of {state}\n\
         {condition}\
         StartLimitIntervalSec=0\n\
         \n\
         [Service]\n\
         Type=notify\n\
         NotifyAccess=main\n\
         {search}\
         ExecStart={command}\n\
         WatchdogSec={patience}\n\
         TimeoutStartSec={starts_within}\n\
         TimeoutStopSec={leaves_within}\n\
         Restart=on-failure\n\
         RestartSec={RESTS}\n\
         SuccessExitStatus={interrupted} {terminated}\n\
         RestartPreventExitStatus={usage}\n\
         KillMode=process\n\
         OOMPolicy=continue\n\
         UMask=0077\n\
         \n\
         [Install]\n\
         WantedBy=default.target\n\
         # Changes of your own belong into: systemctl --user edit {name}\n\
         # {seal}\n",
        mark = plan.mark(),
        removal = crate::base::escape::line(removal),
        state = value(&plan.state).unwrap_or_else(|| plan.label.to_string()),
        condition = value(&plan.state).map_or_else(String::new, |state| format!("ConditionPathIsDirectory={state}\n")),
        search = plan.search.as_deref().map_or_else(String::new, search),
        command = words.join(" "),
        patience = seconds(*patience),
        starts_within = seconds(*starts_within),
        leaves_within = seconds(*leaves_within),
        interrupted = exit::INTERRUPTED,
        terminated = exit::TERMINATED,
        usage = exit::USAGE,
        name = file_name(plan),
        seal = identity::blank_seal(),
    );
    identity::sealed(&text)
}

/// Whether a line tells where programs are found, which is another place for each shell.
pub(super) fn is_search(line: &str) -> bool {
    line.starts_with(SEARCH)
}

const SEARCH: &str = "Environment=\"PATH=";

fn search(path: &str) -> String {
    format!("Environment={}\n", verbatim(&format!("PATH={path}")))
}

/// Whole seconds, rounded up: a manager must not be the more impatient one.
fn seconds(duration: Duration) -> u64 {
    duration.as_secs() + u64::from(duration.subsec_nanos() > 0)
}

/// One argument of a command line, in which nothing is expanded.
fn argument(word: &str) -> String {
    verbatim(&word.replace('$', "$$"))
}

/// One quoted word where dollar signs mean nothing.
fn verbatim(word: &str) -> String {
    let inner = word.replace('\\', "\\\\").replace('"', "\\\"").replace('%', "%%");
    format!("\"{inner}\"")
}

/// A path as a value without quotes. `None`: its end would be read as something else.
fn value(path: &str) -> Option<String> {
    let is_kept = !path.ends_with('\\') && path.trim_end() == path;
    is_kept.then(|| path.replace('%', "%%"))
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::service::identity::Label;

    fn plan() -> ServiceSpec {
        ServiceSpec {
            label: Label::of_state(Path::new("/h/state")),
            state: "/h/state".to_owned(),
            command: ["/bin/fm-watch", "--home", "/h", "run"].map(str::to_owned).to_vec(),
            search: Some("/a b:/100%/$x".to_owned()),
            patience: Duration::from_millis(60_001),
            starts_within: Duration::from_secs(100),
            leaves_within: Duration::from_secs(7),
            removal: "fm-watch --home /h service uninstall".to_owned(),
        }
    }

    #[test]
    fn nothing_in_a_command_line_is_expanded() {
        assert_eq!(argument(r#"/a b/100%/$HOME/"x"\y"#), r#""/a b/100%%/$$HOME/\"x\"\\y""#);
        assert_eq!(verbatim("/opt/$x/100%"), "\"/opt/$x/100%%\"");
    }

    #[test]
    fn a_value_whose_end_would_be_lost_is_none() {
        assert_eq!(value("/a b/100%\\x").as_deref(), Some("/a b/100%%\\x"));
        assert_eq!((value("/a "), value("/a\\")), (None, None));
        let text = unit(&ServiceSpec { state: "/a ".to_owned(), ..plan() });
        assert!(!text.contains("Condition") && text.contains("Description=fm-watch of fm-watch-h-state\n"), "{text}");
    }

    #[test]
    fn the_unit_says_what_the_watcher_needs() {
        let unit = unit(&plan());
        for line in [
            "Type=notify",
            "ConditionPathIsDirectory=/h/state",
            "Environment=\"PATH=/a b:/100%%/$x\"",
            "ExecStart=\"/bin/fm-watch\" \"--home\" \"/h\" \"run\"",
            "WatchdogSec=61",
            "Restart=on-failure",
            "KillMode=process",
            "TimeoutStartSec=100",
            "TimeoutStopSec=7",
            "SuccessExitStatus=130 143",
            "RestartPreventExitStatus=2",
        ] {
            assert!(unit.lines().any(|other| other == line), "{line} is missing in {unit}");
        }
        assert!(unit.lines().any(is_search) && identity::is_whole(&unit), "{unit}");
        assert_eq!(file_name(&plan()), "fm-watch-h-state.service");
    }

    #[test]
    fn a_program_that_systemd_cannot_start_is_known() {
        assert!(["/a\"b", "/a'b", "/a\\b"].into_iter().all(is_impossible));
        assert!(!is_impossible("/a b/100%/$HOME/é"));
    }
}
