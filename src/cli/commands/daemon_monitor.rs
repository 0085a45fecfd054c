//! `daemon-monitor`: be the monitor of a daemon. It is started by this program and never by hand.

use std::io::Read;
use std::sync::Arc;

use crate::base::error::{Context, Error, Result};
use crate::base::exit;
use crate::cli::args;
use crate::cli::args::Global;
use crate::cli::session::Session;
use crate::daemons::monitor;
use crate::daemons::monitor::records::Assignment;
use crate::daemons::paths::DaemonPaths;
use crate::daemons::spawn_monitor::{MonitorStatus, StartRequest};
use crate::layout::log;
use crate::settings::daemon_definition::Name;
use crate::system::platform;
use crate::system::status_pipe::StatusWriter;

/// The longest order that is read, in bytes.
const LONGEST_ORDER: u64 = 256 * 1024;

/// Watches over one daemon for the whole of its life.
///
/// # Errors
/// Why there is no daemon; whoever started this process hears it too.
pub fn daemon_monitor(global: &Global, options: &args::DaemonMonitor) -> Result<u8> {
    let mut speaker = match options.word_fd {
        Some(number) => StatusWriter::adopt(number).doing("speak on", format!("descriptor {number}"))?,
        None => StatusWriter::default(),
    };
    let outcome = watch_over(global, options, &mut speaker);
    if let Err(error) = &outcome {
        speaker.say(&MonitorStatus::Failed { reason: error.to_string() });
    }
    outcome.map(|()| exit::OK)
}

fn watch_over(global: &Global, options: &args::DaemonMonitor, speaker: &mut StatusWriter<MonitorStatus>) -> Result<()> {
    // Taken over first: its number must not become that of something that is opened here.
    let request = options.order_fd.map(request).transpose()?;
    let name = Name::new(options.name.as_str()).map_err(|error| Error::Usage(error.to_string()))?;
    let session = Session::open(global)?;
    log::install_on_stderr(session.settings().log_level)?;
    monitor::run(
        &Assignment {
            paths: DaemonPaths::new(&session.home, &name),
            here: session.here.clone(),
            request,
            environment: session.environment.for_child(&session.settings().pass),
            world: Arc::clone(&session.world),
        },
        speaker,
    )
}

fn request(number: i32) -> Result<StartRequest> {
    let paths = format!("descriptor {number}");
    let file = platform::adopt_file(number).doing("read an order from", &paths)?;
    let mut told = Vec::new();
    file.take(LONGEST_ORDER).read_to_end(&mut told).doing("read an order from", &paths)?;
    serde_json::from_slice(&told)
        .map_err(|error| Error::refused(paths, format!("holds no order: {error}"), "try again"))
}
