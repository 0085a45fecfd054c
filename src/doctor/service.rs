//! The service that keeps the watcher, if one is installed. A home without one is as well as any.

use std::path::Path;

use super::finding::{Finding, Mend};
use crate::commands::context::Session;
use crate::liveness::identity::Pid;
use crate::service::installed::{Found, Site};
use crate::service::manager::{LINGERING, Manager, Standing, Systemctl, lingers};

const CHECK: &str = "service";

pub(super) fn examine(session: &Session) -> Vec<Finding> {
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

fn standing(session: &Session, site: &Site) -> Vec<Finding> {
    let Some(systemctl) = Systemctl::find(&session.environment).filter(|_| site.manager == Manager::Systemd) else {
        return vec![Finding::warn(CHECK, "its manager cannot be asked here", Mend::Nothing)];
    };
    let asked = systemctl.standing(&site.unit());
    let watcher = session.verdict().1.living_pid();
    let mut findings = judge(&site.unit(), &asked, watcher, &session.command_line("service install"));
    if lingers(&session.environment, Path::new(LINGERING)) == Some(false) {
        let found = "it ends when its user logs out";
        findings.push(Finding::warn(CHECK, found, Mend::command("loginctl enable-linger")));
    }
    findings
}

/// `install` is the command that has the service keep the watcher, whatever it is now.
fn judge(unit: &str, asked: &Result<Standing, String>, watcher: Option<Pid>, install: &str) -> Vec<Finding> {
    let standing = match asked {
        Ok(standing) => standing,
        Err(why) => return vec![Finding::warn(CHECK, why, Mend::Nothing)],
    };
    let found = format!("{unit} is {} (last result: {})", standing.active, standing.result);
    let mut findings = vec![match (standing.active.as_str(), watcher) {
        ("failed", _) => {
            let mend = format!("look with: journalctl --user -u {unit}; mend the cause, then: {install}");
            Finding::fail(CHECK, found, Mend::command(mend))
        }
        (_, Some(pid)) if standing.pid == Some(pid) => Finding::pass(CHECK, format!("{found}, and keeps pid {pid}")),
        (_, Some(pid)) => {
            let found = format!("{found}, and pid {pid} watches without it: nobody starts the next one");
            Finding::warn(CHECK, found, Mend::command(install))
        }
        ("activating" | "reloading", None) => Finding::pass(CHECK, found),
        (_, None) => Finding::warn(CHECK, format!("{found}, and keeps no watcher"), Mend::command(install)),
    }];
    if !standing.is_enabled {
        let mend = Mend::command(format!("systemctl --user enable {unit}"));
        findings.push(Finding::warn(CHECK, format!("{unit} is not started at the next login"), mend));
    }
    findings
}

#[cfg(test)]
mod tests {
    use super::super::finding::Grade;
    use super::*;

    #[test]
    fn a_service_is_well_when_it_keeps_the_watcher() {
        let pid = Pid::new;
        let grades = |active: &str, keeps, watcher, is_enabled| {
            let standing = Standing {
                active: active.to_owned(),
                result: "success".to_owned(),
                pid: keeps,
                is_enabled,
                ..Standing::default()
            };
            judge("u", &Ok(standing), watcher, "install").iter().map(|finding| finding.grade).collect::<Vec<_>>()
        };
        assert_eq!(grades("active", pid(7), pid(7), true), [Grade::Pass]);
        assert_eq!(grades("active", pid(7), pid(7), false), [Grade::Pass, Grade::Warn]);
        assert_eq!(grades("active", pid(7), pid(8), true), [Grade::Warn]);
        assert_eq!(grades("active", pid(7), None, true), [Grade::Warn]);
        assert_eq!(grades("activating", None, None, true), [Grade::Pass]);
        assert_eq!(grades("inactive", None, pid(8), true), [Grade::Warn]);
        assert_eq!(grades("failed", None, pid(8), true), [Grade::Fail]);
        assert_eq!(judge("u", &Err("no bus".to_owned()), None, "install")[0].grade, Grade::Warn);
    }
}
