//! `doctor`: what is wrong, and how to mend it.

use std::cell::RefCell;

use serde_json::json;

use super::console::{Console, Format};
use super::context::Session;
use crate::cli::{self, Global};
use crate::doctor::examine;
use crate::doctor::finding::{Finding, Grade, Mend};
use crate::doctor::round::{self, Report};
use crate::error::Result;
use crate::escape;
use crate::exit;

/// Examines the home, makes the safe repairs if they are wanted, and prints what is so then.
///
/// # Errors
/// The command line names no home, or nobody reads.
pub fn doctor(global: &Global, options: cli::Doctor) -> Result<u8> {
    let for_the_work = global.clone();
    let findings = round::gather(move |tell| work(&for_the_work, options, tell))?;
    let console = Console::new(global);
    match console.format {
        Format::Json => {
            let all: Vec<_> = findings.iter().map(Finding::object).collect();
            let worst = Grade::worst(&findings).word();
            console.json(&json!({"schema": 1, "worst": worst, "findings": all}))?;
        }
        Format::Lines => {
            for finding in &findings {
                console.data(&escape::line(&finding.to_string()))?;
            }
        }
    }
    Ok(if Grade::worst(&findings) == Grade::Fail { exit::FAILED } else { exit::OK })
}

fn work(global: &Global, options: cli::Doctor, tell: &dyn Fn(Report)) -> Result<()> {
    let (session, broken) = Session::open_for_examination(global)?;
    let found = RefCell::new(Vec::new());
    let tell_and_keep = |report: Report| {
        if let Report::Found(findings) = &report {
            found.borrow_mut().extend_from_slice(findings);
        }
        tell(report);
    };
    examine(&session, &broken, &tell_and_keep);
    if options.fix && mend(&session, &found.take()) > 0 {
        tell(Report::Afresh);
        examine(&session, &broken, tell);
    }
    Ok(())
}

/// Makes the safe repairs, and says how many.
fn mend(session: &Session, findings: &[Finding]) -> usize {
    let mut made = 0;
    for finding in findings {
        let Mend::Safe(repair) = &finding.mend else { continue };
        match repair.make(session) {
            Ok(()) => {
                made += 1;
                session.console.note(format!("done: {repair}"));
            }
            Err(error) => session.console.note(format!("not done: {repair}: {error}")),
        }
    }
    made
}
