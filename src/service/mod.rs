//! The watcher as a service of the user's own manager: a life that no session owns.
//!
//! # Theory
//!
//! A service manager (systemd's user instance, launchd) starts the watcher, hears from it, and starts it again when
//! it fails. It is one more starter and nothing else: the home's kernel lock decides who watches, and a watcher is
//! healthy because of its lock and its beat, whoever started it. So `arm` and the manager never fight: one goes
//! before the other in one direction only. `arm` leaves every healthy watcher alone. A manager's start takes the
//! place of a watcher that its manager does not keep ([`handover`](crate::cli::commands::run::handover)), because
//! whoever installed a service wants the watcher to be kept, and it would be kept by nobody otherwise. Where that is
//! refused, the manager's start says that it is content and leaves with success, which no manager answers with
//! another start. Behind a watcher of the shell scripts it stands by. A forced restart of a watcher that the manager
//! keeps goes through the manager, which would otherwise take the end of its child for a person's wish and keep
//! nothing any more.
//!
//! The manager hears from the loop itself ([`sd_notify`](crate::system::sd_notify)): a loop that stands still is
//! silent, and is killed and started again. No other thread ever speaks for it.
//!
//! What is written ([`systemd`], [`launchd`]) is made by pure functions from a [`spec`], and shown before it is
//! written. A text that a person has changed since is theirs. Its name and its seal are in [`identity`]: the name is
//! made from the state directory's path in a way that can be read backwards, so that no two homes can ever have one
//! name.
//!
//! If this is wrong, a watcher is killed while it is well, two homes share one service, or the daemons that a
//! watcher keeps die with it.
//!
//! Limits: a home that is moved keeps the service of its old path until that is removed there.

pub mod identity;
pub mod installed;
pub mod launchd;
pub mod manager;
pub mod spec;
pub mod systemd;
