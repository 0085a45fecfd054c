//! The kept daemons, as far as they are the loop's affair: it hands the keeper the settings, records what it announces,
//! and tells it when that is durable.

use std::sync::Arc;

use crate::daemons::keeper::{self, Keeper, Plan, Report};
use crate::daemons::spawn_monitor::Starter;
use crate::journal::reason::Reason;
use crate::watcher::degradations::Part;
use crate::watcher::event_loop::startup::reporter;
use crate::watcher::event_loop::{Carried, Cycle};
use crate::watcher::message::Message;

impl Cycle<'_> {
    /// Keeps what the present settings say. A watcher that ends with its first wake keeps nothing.
    pub(crate) fn keep_daemons(&mut self) {
        let kept = keeper::kept(&self.session.home, &self.settings);
        if self.span.ends_with_a_wake() || (kept.is_empty() && self.keeper.is_none()) {
            return;
        }
        let starter = match Starter::under(self.session, &self.settings) {
            Ok(starter) => starter,
            Err(why) => return self.degrade(Part::Daemons, Err(format!("the daemons are not kept: {why}"))),
        };
        let plan = Plan { kept, starter, poll: self.settings.poll };
        match &self.keeper {
            Some(keeper) => keeper.keep(plan),
            None => self.start_keeper(plan),
        }
    }

    fn start_keeper(&mut self, plan: Plan) {
        let (world, home) = (Arc::clone(&self.session.world), self.session.home.clone());
        let report = reporter(&self.sender, Message::Daemon);
        match Keeper::start(world, home, Arc::clone(&self.holding), plan, report) {
            Ok(keeper) => self.keeper = Some(keeper),
            Err(error) => self.degrade(Part::Daemons, Err(format!("the daemons are not kept: {error}"))),
        }
    }

    pub(crate) fn keeper_reports(&mut self, report: Report) {
        match report {
            Report::Happened { number, name, what, last_words } => {
                let mut draft = Reason::Daemon { name: name.as_str(), what: &what }.draft(None);
                let most = usize::try_from(self.settings.context_max).unwrap_or(usize::MAX);
                draft.context = last_words.filter(|words| words.len() <= most);
                self.record_carrying(vec![draft], Carried { daemon: Some(number), ..Carried::default() });
            }
            Report::Trouble(trouble) => self.degrade(Part::Daemons, trouble.map_or(Ok(()), Err)),
        }
    }
}
