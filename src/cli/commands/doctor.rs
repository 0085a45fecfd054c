//! `doctor`: what is wrong, and how to mend it.

use std::cell::RefCell;

use serde_json::json;

use crate::base::console::Format;
use crate::base::error::Result;
use crate::base::escape;
use crate::base::exit;
use crate::cli::args::{self, Global};
use crate::cli::session::Session;
use crate::doctor::finding::{Finding, Grade, Mend};
use crate::doctor::{Report, examine, gather};

/// Examines the home, makes the safe repairs if they are wanted, and prints what is so then.
///
/// # Errors
/// The command line names no home, or nobody reads.
pub fn doctor(global: &Global, options: args::Doctor) -> Result<u8> {
    let for_the_work = global.clone();
    let findings = gather(move |tell| work(&for_the_work, options, tell))?;
    let console = global.console();
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

fn work(global: &Global, options: args::Doctor, tell: &dyn Fn(Report)) -> Result<()> {
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
