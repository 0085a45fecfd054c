//! Linux: what `platform` offers, by pidfd, flock, /proc and signals.

mod children;
mod deadline_answer;
mod files;
mod held_command;
mod held_daemon;
mod notify;
mod process;
mod ps;
mod signals;
mod socket;
mod spawn;
mod start_gate;

pub use children::{
    ChildNews, Ending, adopt_orphans, ending_of, has_open, holds, initial_environment, outlive_requests, reap,
    reap_all_but, wait_for_any,
};
pub use deadline_answer::{claim_last_word, put_down_last_words};
pub use files::{Space, WatchLimit, may_execute, open_without_waiting, os_string, space, watch_limit};
pub use held_command::{Happening, HeldCommand, wait_for_happening};
pub use held_daemon::{Birth, HeldDaemon, NotStarted};
pub use notify::{NotifySender, NotifySocket};
#[cfg(feature = "sync-points")]
pub use process::kill_self;
pub use process::{
    Pinned, boot_id, effective_uid, exists, file_system, has_common_start_times, host_name, host_name_bytes,
    innermost_pid, is_abandoned_within, is_in_own_pid_namespace, is_marked, is_readable_within, lock_taker, make_fifo,
    monotonic, nonce, observe, open_reading_fifo, open_writing_fifo, own_standpoint, pin, pin_reported, processes,
    publish_beat, published_beat, raise_mark, ring, signal, start_ticks, table_entry, wait_for_exit,
};
pub use ps::{arguments, listing};
pub(crate) use signals::is_heeded;
pub use signals::{Caught, Sender, Signals, leads_session};
pub use socket::{bind_socket, binding, connect, listen, peer};
pub use spawn::{
    GroupChild, adopt_file, adopt_pipe, ignore_file_size_signal, keep_files_private, memory_file, own_command,
    own_program, spawn_bound, spawn_companion, spawn_detached, spawn_group, spawn_group_with,
};
