//! The service that keeps the watcher, if one is installed. A home without one is as well as any.

use std::fmt::Display;
use std::path::Path;

use super::finding::{Finding, Mend};
use crate::ownership::context::HomeContext;
use crate::service::installed::{Found, Site};
use crate::service::manager::{LINGERING, Manager, Systemctl, UnitState, lingers};
use crate::system::identity::Pid;

const CHECK: &str = "service";

pub(super) fn examine(session: &HomeContext) -> Vec<Finding> {
    let site = match Site::of(session, Manager::of_this_system()) {
        Ok(site) => site,
        Err(error) => return vec![Finding::warn(CHECK, error.to_string(), Mend::Nothing)],
    };
    let install = Mend::command(session.command_line("service install"));
    let path = site.path();
    match site.look(session.world.as_ref()) {
        Ok(Found::Nothing) => vec![Finding::pass(CHECK, "none is installed; it would outlive every session")],
        Ok(Found::Foreign(why)) => {
            vec![Finding::warn(CHECK, format!("{}: {why}", path.display()), Mend::command("move it away"))]
        }
        Ok(Found::Other) => {
            let found = format!("{} says something else than `service print`", path.display());
            let mut findings = vec![Finding::warn(CHECK, found, install)];
            findings.extend(standing(session, &site));
            findings
        }
        Ok(Found::Current) => standing(session, &site),
        Err(error) => vec![Finding::warn(CHECK, error.to_string(), Mend::Nothing)],
    }
}

fn standing(session: &HomeContext, site: &Site) -> Vec<Finding> {
    let Some(systemctl) = Systemctl::find(&session.environment).filter(|_| site.manager == Manager::Systemd) else {
        return vec![Finding::warn(CHECK, "its manager cannot be asked here", Mend::Nothing)];
    };
    let asked = systemctl.state(&site.unit());
    let (evidence, verdict) = session.verdict();
    let watches = match (verdict.living_pid(), evidence.foreign_holder()) {
        (None, _) => Watches::Nobody,
        (Some(pid), None) => Watches::Ours(pid),
        (Some(pid), Some(_)) => Watches::Shell(pid),
    };
    let mut findings = judge(&site.unit(), &asked, watches, &session.command_line("service install"));
    if lingers(&session.environment, Path::new(LINGERING)) == Some(false) {
        let found = "it ends when its user logs out";
        findings.push(Finding::warn(CHECK, found, Mend::command("loginctl enable-linger")));
    }
    findings
}

/// Who watches the home.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Watches {
    Nobody,
    Ours(Pid),
    /// A watcher of the shell scripts, behind which a service stands by.
    Shell(Pid),
}

/// `install` is the command that has the service keep the watcher, whatever it is now.
fn judge<E: Display>(unit: &str, asked: &Result<UnitState, E>, watches: Watches, install: &str) -> Vec<Finding> {
    let standing = match asked {
        Ok(standing) => standing,
        Err(why) => return vec![Finding::warn(CHECK, why.to_string(), Mend::Nothing)],
    };
    let found = format!("{unit} is {} (last result: {})", standing.active, standing.result);
    let mut findings = vec![match (standing.active.as_str(), watches) {
        ("failed", _) => {
            let mend = format!("look with: journalctl --user -u {unit}; mend the cause, then: {install}");
            Finding::fail(CHECK, found, Mend::command(mend))
        }
        (_, Watches::Ours(pid)) if standing.pid == Some(pid) => {
            Finding::pass(CHECK, format!("{found}, and keeps pid {pid}"))
        }
        (_, Watches::Shell(pid)) if standing.pid.is_some() => {
            Finding::pass(CHECK, format!("{found}, and stands by behind pid {pid}, a watcher of the shell scripts"))
        }
        (_, Watches::Ours(pid) | Watches::Shell(pid)) => {
            let found = format!("{found}, and pid {pid} watches without it: nobody starts the next one");
            Finding::warn(CHECK, found, Mend::command(install))
        }
        ("activating" | "reloading", Watches::Nobody) => Finding::pass(CHECK, found),
        (_, Watches::Nobody) => Finding::warn(CHECK, format!("{found}, and keeps no watcher"), Mend::command(install)),
    }];
    if !standing.is_enabled {
        let mend = Mend::command(format!("systemctl --user enable {unit}"));
        findings.push(Finding::warn(CHECK, format!("{unit} is not started at the next login"), mend));
    }
    findings
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::doctor::finding::Grade;

    #[test]
    fn a_service_is_well_when_it_keeps_the_watcher() {
        let pid = |number| Pid::new(number).unwrap();
        let (ours, shell) = (Watches::Ours(pid(7)), Watches::Shell(pid(7)));
        let grades = |active: &str, keeps, watches, is_enabled| {
            let standing = UnitState {
                active: active.to_owned(),
                result: "success".to_owned(),
                pid: keeps,
                is_enabled,
                ..UnitState::default()
            };
            judge("u", &Ok::<_, String>(standing), watches, "install")
                .iter()
                .map(|finding| finding.grade)
                .collect::<Vec<_>>()
        };
        assert_eq!(grades("active", Some(pid(7)), ours, true), [Grade::Pass]);
        assert_eq!(grades("active", Some(pid(7)), ours, false), [Grade::Pass, Grade::Warn]);
        assert_eq!(grades("active", Some(pid(8)), ours, true), [Grade::Warn]);
        assert_eq!(grades("active", Some(pid(8)), shell, true), [Grade::Pass]);
        assert_eq!(grades("active", Some(pid(7)), Watches::Nobody, true), [Grade::Warn]);
        assert_eq!(grades("activating", None, Watches::Nobody, true), [Grade::Pass]);
        assert_eq!(grades("inactive", None, ours, true), [Grade::Warn]);
        assert_eq!(grades("inactive", None, shell, true), [Grade::Warn]);
        assert_eq!(grades("failed", None, ours, true), [Grade::Fail]);
        assert_eq!(judge("u", &Err("no bus".to_owned()), Watches::Nobody, "install")[0].grade, Grade::Warn);
    }
}
