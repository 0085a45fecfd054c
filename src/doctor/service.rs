//! The service that keeps the watcher, if one is installed. A home without one is as well as any.

use std::path::Path;

use super::finding::{Finding, Mend};
use crate::commands::context::Session;
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
    let mut findings = vec![judge(&site.unit(), asked)];
    if lingers(&session.environment, Path::new(LINGERING)) == Some(false) {
        let found = "it ends when its user logs out";
        findings.push(Finding::warn(CHECK, found, Mend::command("loginctl enable-linger")));
    }
    findings
}

fn judge(unit: &str, asked: Result<Standing, String>) -> Finding {
    let look = || Mend::command(format!("systemctl --user status {unit}"));
    match asked {
        Err(why) => Finding::warn(CHECK, why, Mend::Nothing),
        Ok(standing) => {
            let found = format!("{unit} is {} (last result: {})", standing.active, standing.result);
            match standing.active.as_str() {
                "active" | "activating" | "reloading" => Finding::pass(CHECK, found),
                "failed" => Finding::fail(CHECK, found, look()),
                _ => Finding::warn(CHECK, found, Mend::command(format!("systemctl --user start {unit}"))),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::finding::Grade;
    use super::*;

    #[test]
    fn a_failed_service_is_a_failure_and_a_resting_one_a_warning() {
        let grade = |active: &str| {
            judge("u", Ok(Standing { active: active.to_owned(), result: "success".to_owned(), pid: None })).grade
        };
        assert_eq!((grade("active"), grade("inactive"), grade("failed")), (Grade::Pass, Grade::Warn, Grade::Fail));
        assert_eq!(judge("u", Err("no bus".to_owned())).grade, Grade::Warn);
    }
}
