//! The service as a unit of systemd's user instance.
//!
//! `KillMode=process`: what the watcher keeps lives on when it stops. `Restart=on-failure`: a watcher that was asked to
//! leave stays away. Settings that cannot be understood (exit code 2) are not mended by another start.
//!
//! Source: `systemd.service(5)`, `systemd.unit(5)`, `systemd.syntax(7)` and `systemd.kill(5)`.

use std::time::Duration;

use super::plan::Plan;
use crate::exit;

/// The file's name.
pub fn file_name(plan: &Plan) -> String {
    format!("{}.service", plan.label)
}

/// The unit's text.
pub fn unit(plan: &Plan) -> String {
    let Plan { command, patience, leaves_within, removal, .. } = plan;
    let words: Vec<String> = command.iter().map(|word| quoted(word)).collect();
    format!(
        "# {mark}.\n\
         # To remove it: {removal}\n\
         [Unit]\n\
         Description=fm-watch of {state}\n\
         StartLimitIntervalSec=60\n\
         StartLimitBurst=5\n\
         \n\
         [Service]\n\
         Type=notify\n\
         NotifyAccess=main\n\
         ExecStart={command}\n\
         WatchdogSec={patience}\n\
         Restart=on-failure\n\
         RestartSec=1\n\
         RestartPreventExitStatus={usage}\n\
         KillMode=process\n\
         TimeoutStopSec={leaves_within}\n\
         UMask=0077\n\
         \n\
         [Install]\n\
         WantedBy=default.target\n",
        mark = plan.mark(),
        removal = crate::escape::line(removal),
        state = plan.state.replace('%', "%%").replace('\\', "\\\\"),
        command = words.join(" "),
        patience = seconds(*patience),
        leaves_within = seconds(*leaves_within),
        usage = exit::USAGE,
    )
}

/// Whole seconds, rounded up: a manager must not be the more impatient one.
fn seconds(duration: Duration) -> u64 {
    duration.as_secs() + u64::from(duration.subsec_nanos() > 0)
}

/// One word of a command line, in which nothing is expanded.
fn quoted(word: &str) -> String {
    let inner = word.replace('\\', "\\\\").replace('"', "\\\"").replace('%', "%%").replace('$', "$$");
    format!("\"{inner}\"")
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::service::label::Label;

    #[test]
    fn nothing_in_a_command_line_is_expanded() {
        assert_eq!(quoted(r#"/a b/100%/$HOME/"x"\y"#), r#""/a b/100%%/$$HOME/\"x\"\\y""#);
    }

    #[test]
    fn the_unit_says_what_the_watcher_needs() {
        let plan = Plan {
            label: Label::of_state(Path::new("/h/state")),
            state: "/h/state".to_owned(),
            command: ["/bin/fm-watch", "--home", "/h", "run"].map(str::to_owned).to_vec(),
            patience: Duration::from_millis(60_001),
            leaves_within: Duration::from_secs(7),
            removal: "fm-watch --home /h service uninstall".to_owned(),
        };
        let unit = unit(&plan);
        for line in [
            "Type=notify",
            "ExecStart=\"/bin/fm-watch\" \"--home\" \"/h\" \"run\"",
            "WatchdogSec=61",
            "Restart=on-failure",
            "KillMode=process",
            "TimeoutStopSec=7",
            "RestartPreventExitStatus=2",
        ] {
            assert!(unit.lines().any(|other| other == line), "{line} is missing in {unit}");
        }
        assert_eq!(file_name(&plan), "fm-watch-h-state.service");
    }
}
