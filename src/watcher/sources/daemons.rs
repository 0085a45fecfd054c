//! The kept daemons as a source: it hands the keeper the settings, records what the keeper announces, and tells it when
//! that is durable.

use std::ffi::OsString;
use std::fmt;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender};

use crate::daemons::keeper::{self, Keeper, Plan, Report};
use crate::daemons::spawn_monitor::Starter;
use crate::journal::record::{Draft, Kind, Mark};
use crate::watcher::degradations::{Condition, Part};
use crate::watcher::source::{LoopContext, Message, Progress, Reporter, Source, Unrecorded, mailbox};

const NAME: &str = "daemons";

/// The source of what happens to kept daemons.
pub(crate) struct DaemonSource {
    /// None as long as there was nothing to keep.
    keeper: Option<Keeper>,
    reporter: Reporter<Report>,
    reports: Receiver<Report>,
}

impl DaemonSource {
    pub(crate) fn new(messages: &Sender<Message>) -> Self {
        let (reporter, reports) = mailbox(NAME, messages);
        Self { keeper: None, reporter, reports }
    }

    fn start_keeper(&mut self, context: &mut LoopContext<'_>, plan: Plan) {
        let (world, home) = (Arc::clone(&context.session.world), context.session.home.clone());
        let report = self.reporter.clone();
        match Keeper::start(world, home, Arc::clone(&context.holding), plan, move |said| report(said)) {
            Ok(keeper) => self.keeper = Some(keeper),
            Err(error) => not_kept(context, &error),
        }
    }
}

fn not_kept(context: &mut LoopContext<'_>, why: &dyn fmt::Display) {
    context.degrade(Part::Daemons, Condition::Impaired(format!("the daemons are not kept: {why}")));
}

impl Source for DaemonSource {
    fn name(&self) -> &'static str {
        NAME
    }

    fn begin(&mut self, context: &mut LoopContext<'_>, _: &[Mark]) {
        self.reload(context);
    }

    /// The keeper looks by itself.
    fn poll(&mut self, _: &mut LoopContext<'_>, _: Option<&[OsString]>) -> Progress {
        Progress::Over
    }

    fn report(&mut self, context: &mut LoopContext<'_>) -> Progress {
        match self.reports.try_recv() {
            Ok(Report::Happened { number, name, what, last_words }) => {
                let text = format!("daemon: {name} {what}");
                let words = last_words.filter(|words| words.len() <= context.context_cap());
                let draft = Draft { context: words, ..Draft::new(Kind::Daemon, name.as_str(), text) };
                context.record(NAME, number, vec![draft]);
            }
            Ok(Report::Trouble(trouble)) => {
                context.degrade(Part::Daemons, trouble.map_or(Condition::Works, Condition::Impaired));
            }
            Err(_) => {}
        }
        Progress::Over
    }

    fn recorded(&mut self, _: &mut LoopContext<'_>, number: u64) {
        if let Some(keeper) = &self.keeper {
            keeper.recorded(number);
        }
    }

    fn not_recorded(&mut self, _: u64, _: &Draft) -> Unrecorded {
        Unrecorded::Keep
    }

    /// Keeps what the present settings say. A watcher that ends with its first wake keeps nothing.
    fn reload(&mut self, context: &mut LoopContext<'_>) {
        let kept = keeper::kept(&context.session.home, &context.settings);
        if context.span.ends_with_a_wake() || (kept.is_empty() && self.keeper.is_none()) {
            return;
        }
        let starter = match Starter::under(context.session, &context.settings) {
            Ok(starter) => starter,
            Err(why) => return not_kept(context, &why),
        };
        let plan = Plan { kept, starter, poll: context.settings.poll };
        match &self.keeper {
            Some(keeper) => keeper.keep(plan),
            None => self.start_keeper(context, plan),
        }
    }

    fn stop(&mut self) {
        if let Some(keeper) = &self.keeper {
            keeper.leave();
        }
    }
}
