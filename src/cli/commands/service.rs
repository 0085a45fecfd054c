//! `service`: let the user's own manager keep the watcher.

use std::path::Path;
use std::time::Duration;

use serde_json::{Value, json};

use crate::base::console::Format;
use crate::base::error::{Error, Result};
use crate::base::exit;
use crate::cli::args;
use crate::cli::session::Session;
use crate::ownership::foreign_holder::ForeignObservation;
use crate::ownership::verdict::Verdict;
use crate::service::installed::{Found, Site};
use crate::service::manager::{LINGERING, Manager, Systemctl, UnitState, lingers};
use crate::system::identity::Pid;
use crate::watcher::facts;

/// How long the manager may take to carry out an order that starts or stops nothing.
const ORDERED_WITHIN: Duration = Duration::from_secs(10);

/// Installs, removes, prints or reports.
///
/// # Errors
/// A file that is not ours, a manager that refuses, and those of the system.
pub fn service(session: Session, command: &args::Service) -> Result<u8> {
    match command {
        args::Service::Install => install(session),
        args::Service::Uninstall => uninstall(&session),
        args::Service::Print { manager } => print(&session, manager.unwrap_or_else(Manager::of_this_system)),
        args::Service::Status => status(&session),
    }
}

fn print(session: &Session, manager: Manager) -> Result<u8> {
    let site = Site::of(session, manager)?;
    show(session, &site)?;
    Ok(exit::OK)
}

/// Shows where the service belongs and what it says.
fn show(session: &Session, site: &Site) -> Result<()> {
    if session.console.format == Format::Json {
        return session.console.json(&json!({
            "schema": 1, "path": site.path(), "label": site.plan.label.as_str(), "text": site.text(),
        }));
    }
    session.console.note(format!("{}:", site.path().display()));
    session.console.data(site.text().trim_end())
}

fn install(mut session: Session) -> Result<u8> {
    session.prepare()?;
    let session = &session;
    let site = Site::of(session, Manager::of_this_system())?;
    let found = site.look(session.world.as_ref())?;
    show(session, &site)?;
    if found == Found::Current {
        session.console.note("this very service is there already");
    } else {
        site.write(session.world.as_ref())?;
        session.console.note(format!("written: {}", site.path().display()));
    }
    if site.manager != Manager::Systemd {
        session.console.note(format!("start it with: launchctl load -w {}", site.path().display()));
        return Ok(exit::OK);
    }
    let Some(systemctl) = Systemctl::find(&session.environment) else {
        session.console.note(format!(
            "systemctl is not there, so nothing was started; until it is, watch with: {}",
            session.command_line("arm --no-wait")
        ));
        return Ok(exit::OK);
    };
    enable(session, &site, &systemctl).map_err(|why| {
        Error::refused(
            site.path(),
            format!("was written, but {why}"),
            format!("mend this and try again, or take it back with: {}", site.plan.removal),
        )
    })?;
    hint_at_lingering(session);
    Ok(exit::OK)
}

/// Lets the manager know the service, and has it keep the watcher.
fn enable(session: &Session, site: &Site, systemctl: &Systemctl) -> std::result::Result<(), String> {
    let unit = &site.unit();
    let order = |words: &[&str], at_most| systemctl.order(words, at_most).map_err(|why| why.to_string());
    let kept = || systemctl.state(unit).map(|standing| standing.pid).map_err(|why| why.to_string());
    order(&["daemon-reload"], ORDERED_WITHIN)?;
    order(&["enable", unit], ORDERED_WITHIN)?;
    let watcher = || session.settled_verdict(session.settings().arm_timeout);
    let before = watcher().1.living_pid();
    if before.is_some() && kept()? == before {
        session.console.note(format!(
            "{unit} keeps the watcher already; what has changed counts from its next start on: {}",
            session.command_line("arm --restart --no-wait")
        ));
        return Ok(());
    }
    order(&["start", unit], site.plan.starts_within + ORDERED_WITHIN)?;
    // What is true is read from the home, not from the manager's answer.
    let (evidence, verdict) = watcher();
    let done = in_words(unit, before, kept()?, (&verdict, evidence.foreign_holder()))?;
    session.console.note(done);
    Ok(())
}

/// What has become of a service that was started. The error is that it does not keep the watcher.
fn in_words(
    unit: &str,
    before: Option<Pid>,
    keeps: Option<Pid>,
    (verdict, shell): (&Verdict, Option<&ForeignObservation>),
) -> std::result::Result<String, String> {
    let look = || format!("look with: journalctl --user -u {unit}");
    match (keeps, before) {
        (Some(pid), _) if shell.is_some_and(|shell| shell.pid == verdict.living_pid()) => {
            Ok(format!("{unit} is started; pid {pid} stands by and takes the home when it is free: {verdict}"))
        }
        (Some(pid), _) if verdict.living_pid() != keeps => {
            Err(format!("{unit} runs pid {pid}, which does not watch: {verdict}; {}", look()))
        }
        (None, _) => Err(format!("{unit} was started and keeps nothing: {verdict}; {}", look())),
        (Some(pid), None) => Ok(format!("{unit} is started and keeps pid {pid}")),
        (Some(pid), Some(old)) => {
            Ok(format!("{unit} is started and keeps pid {pid}, which took the place of pid {old}"))
        }
    }
}

fn hint_at_lingering(session: &Session) {
    if lingers(&session.environment, Path::new(LINGERING)) != Some(true) {
        session.console.note(
            "it ends when you log out of this machine, unless you say: loginctl enable-linger (that changes your account, \
             so it is not done here)",
        );
    }
}

fn uninstall(session: &Session) -> Result<u8> {
    let site = Site::of(session, Manager::of_this_system())?;
    match site.look(session.world.as_ref())? {
        Found::Nothing => {
            session.console.note(format!("there is no service at {}", site.path().display()));
            return Ok(exit::OK);
        }
        // Removing refuses it, in words, before the manager is told anything.
        Found::Foreign(_) => site.remove(session.world.as_ref())?,
        Found::Current | Found::Other => {}
    }
    let systemctl = Systemctl::find(&session.environment).filter(|_| site.manager == Manager::Systemd);
    let order = |words: &[&str]| {
        let at_most = site.plan.leaves_within + ORDERED_WITHIN;
        // A manager that cannot be reached must not keep a person from removing a file.
        if let Some(Err(why)) = systemctl.as_ref().map(|systemctl| systemctl.order(words, at_most)) {
            session.console.note(why);
        }
    };
    order(&["disable", "--now", &site.unit()]);
    site.remove(session.world.as_ref())?;
    order(&["daemon-reload"]);
    session.console.note(format!("removed: {}", site.path().display()));
    say_what_remains(session);
    Ok(exit::OK)
}

/// Says who watches from now on: supervision never ends without a word.
fn say_what_remains(session: &Session) {
    let (_, verdict) = session.settled_verdict(session.settings().arm_timeout);
    let arm = session.command_line("arm --no-wait");
    session.console.note(
        match (verdict.living_pid(), facts::tasks(session.world.as_ref(), &session.home).unwrap_or(0)) {
            (Some(pid), _) => format!("pid {pid} still watches this home, and nobody starts the next one when it ends"),
            (None, 0) => format!("nobody watches this home now; to watch again: {arm}"),
            (None, tasks) => {
                format!("nobody watches this home now, and {tasks} task(s) are in flight; to watch on: {arm}")
            }
        },
    );
    if !session.settings().daemons.is_empty() {
        session.console.note("the daemons of this home live on; to stop one: fm-watch daemon stop NAME");
    }
}

/// What is known about the service.
struct Report {
    site: Site,
    found: Found,
    standing: std::result::Result<UnitState, String>,
    watcher: Option<Pid>,
    /// The shell watcher behind which it has to wait.
    ahead: Option<ForeignObservation>,
    /// The command that has the service keep the watcher.
    install: String,
}

fn status(session: &Session) -> Result<u8> {
    let site = Site::of(session, Manager::of_this_system())?;
    let found = site.look(session.world.as_ref())?;
    let standing = match (site.manager, Systemctl::find(&session.environment)) {
        (Manager::Systemd, Some(systemctl)) => systemctl.state(&site.unit()).map_err(|why| why.to_string()),
        _ => Err("its manager cannot be asked here".to_owned()),
    };
    let (evidence, verdict) = session.verdict();
    let (watcher, ahead) = (verdict.living_pid(), evidence.foreign_holder().cloned());
    let install = session.command_line("service install");
    let report = Report { site, found, standing, watcher, ahead, install };
    match session.console.format {
        Format::Json => session.console.json(&report.object())?,
        Format::Lines => {
            for line in report.lines() {
                session.console.data(&crate::base::escape::line(&line))?;
            }
        }
    }
    Ok(if report.is_active() { exit::OK } else { exit::NOT_RUNNING })
}

impl Report {
    fn is_active(&self) -> bool {
        self.found != Found::Nothing && self.standing.as_ref().is_ok_and(|standing| standing.active == "active")
    }

    fn found_in_words(&self) -> String {
        match &self.found {
            Found::Nothing => "is not installed".to_owned(),
            Found::Current => "is installed".to_owned(),
            Found::Other => "is installed with another text than `service print` shows".to_owned(),
            Found::Foreign(why) => why.clone(),
        }
    }

    fn lines(&self) -> Vec<String> {
        let mut lines = vec![format!("{} {}", self.site.path().display(), self.found_in_words())];
        match &self.standing {
            _ if self.found == Found::Nothing => {}
            Ok(standing) => {
                let process = standing.pid.map_or_else(String::new, |pid| format!(", pid {pid}"));
                let login = if standing.is_enabled { "" } else { ", not enabled for the next login" };
                lines
                    .push(format!("  manager    {}, last result {}{process}{login}", standing.active, standing.result));
            }
            Err(why) => lines.push(format!("  manager    {why}")),
        }
        lines.push(format!("  watcher    {}", self.watcher_in_words()));
        lines
    }

    fn watcher_in_words(&self) -> String {
        let keeps = self.standing.as_ref().ok().and_then(|standing| standing.pid);
        match self.watcher {
            None => "none runs".to_owned(),
            Some(_) if let (Some(ahead), Some(pid)) = (&self.ahead, keeps) => {
                format!("{ahead}; this service stands by as pid {pid}")
            }
            Some(pid) if keeps == Some(pid) => format!("pid {pid}, kept by this service"),
            Some(pid) if self.found == Found::Nothing => format!("pid {pid}, kept by nobody"),
            Some(pid) => format!("pid {pid}, not kept by this service; to hand over: {}", self.install),
        }
    }

    fn object(&self) -> Value {
        let standing = self.standing.as_ref().ok();
        json!({
            "schema": 1,
            "path": self.site.path(),
            "label": self.site.plan.label.as_str(),
            "installed": match self.found {
                Found::Nothing => "no",
                Found::Current => "yes",
                Found::Other => "other",
                Found::Foreign(_) => "foreign",
            },
            "active": standing.map(|standing| standing.active.clone()),
            "result": standing.map(|standing| standing.result.clone()),
            "enabled": standing.map(|standing| standing.is_enabled),
            "service_pid": standing.and_then(|standing| standing.pid),
            "watcher_pid": self.watcher,
            "unknown": self.standing.as_ref().err(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ownership::foreign_holder::ForeignState;

    #[test]
    fn a_started_service_keeps_the_watcher_or_stands_by() {
        let pid = |number| Pid::new(number).unwrap();
        let well = |number| Verdict::Ok { pid: pid(number), beat: Duration::ZERO };
        let shell = ForeignObservation {
            pid: Some(pid(9)),
            name: "pid 9".to_owned(),
            state: ForeignState::Proven { pid: pid(9), bound: Duration::ZERO },
            last_beat: Some(Duration::ZERO),
            held_for: Some(Duration::ZERO),
        };
        let say = |before, keeps, verdict: &Verdict, shell| in_words("u", before, keeps, (verdict, shell));
        assert_eq!(say(None, Some(pid(7)), &well(7), None), Ok("u is started and keeps pid 7".to_owned()));
        assert!(say(Some(pid(6)), Some(pid(7)), &well(7), None).unwrap().ends_with("took the place of pid 6"));
        assert!(say(Some(pid(9)), Some(pid(7)), &well(9), Some(&shell)).unwrap().contains("pid 7 stands by"));
        assert!(say(Some(pid(9)), None, &well(9), Some(&shell)).is_err());
        assert!(say(None, Some(pid(7)), &well(8), None).is_err());
    }
}
