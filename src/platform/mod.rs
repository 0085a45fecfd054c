//! The operating system, one whole file for each, behind one small contract.
//!
//! This is the only home of `unsafe` and of signals. What a platform must offer is what this module
//! re-exports: clocks, the kernel lock's visible mark and beat, a pinned process, the spawning of children
//! that leak nothing, a user's own command with the signals meant for it, and a daemon with all that it must have and
//! must not have. A platform without a faithful answer does not compile rather than guess.

#[cfg(target_os = "linux")]
mod linux;
#[cfg(target_os = "linux")]
mod linux_children;
#[cfg(target_os = "linux")]
mod linux_command;
#[cfg(target_os = "linux")]
mod linux_daemon;
#[cfg(target_os = "linux")]
mod linux_gate;
#[cfg(target_os = "linux")]
mod linux_last_words;
#[cfg(target_os = "linux")]
mod linux_listing;
#[cfg(target_os = "linux")]
mod linux_manager;
#[cfg(target_os = "linux")]
mod linux_notify;
#[cfg(target_os = "linux")]
mod linux_signals;
#[cfg(target_os = "linux")]
mod linux_socket;
#[cfg(target_os = "linux")]
mod linux_spawn;

#[cfg(all(target_os = "linux", feature = "sync-points"))]
pub use linux::kill_self;
#[cfg(target_os = "linux")]
pub use linux::{
    Pinned, boot_id, effective_uid, exists, has_common_start_times, host_name, host_name_bytes, innermost_pid,
    is_abandoned_within, is_in_own_pid_namespace, is_marked, is_readable_within, lock_taker, make_fifo, monotonic,
    nonce, observe, open_reading_fifo, open_writing_fifo, own_standpoint, pin, pin_reported, processes, publish_beat,
    published_beat, raise_mark, ring, signal, start_ticks, table_entry, trusted_file_system, wait_for_exit,
};
#[cfg(target_os = "linux")]
pub use linux_children::{
    ChildNews, adopt_orphans, ending_of, has_open, holders, holds, initial_environment, outlive_requests, reap,
    reap_all_but, wait_for_any,
};
#[cfg(target_os = "linux")]
pub use linux_command::{Ending, Happening, HeldCommand, wait_for_happening};
#[cfg(target_os = "linux")]
pub use linux_daemon::{Birth, HeldDaemon, NotStarted};
#[cfg(target_os = "linux")]
pub use linux_last_words::{claim_last_word, put_down_last_words};
#[cfg(target_os = "linux")]
pub use linux_listing::{arguments, listing};
#[cfg(target_os = "linux")]
pub use linux_manager::ManagerEar;
#[cfg(target_os = "linux")]
pub use linux_notify::{Notice, NotifySocket};
#[cfg(target_os = "linux")]
pub use linux_signals::{Caught, Sender, Signals, heeded, leads_session};
#[cfg(target_os = "linux")]
pub use linux_socket::{bind_socket, binding, connect, listen, peer};
#[cfg(target_os = "linux")]
pub use linux_spawn::{
    Detached, GroupChild, adopt_file, adopt_pipe, ignore_file_size_signal, keep_files_private, memory_file,
    own_program, spawn_bound, spawn_companion, spawn_detached, spawn_group, spawn_group_with,
};

#[cfg(not(target_os = "linux"))]
compile_error!("fm-watch runs on Linux so far; another platform is one more file beside src/platform/linux.rs");
