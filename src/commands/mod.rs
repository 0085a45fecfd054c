//! One verb per file, thin: gather, call, print.

pub mod ack;
pub mod arm;
pub mod config;
pub mod console;
pub mod context;
pub mod daemon;
pub mod daemon_monitor;
pub mod doctor;
pub mod drain;
pub mod guard;
pub mod hook;
pub mod hooks;
pub mod lock;
pub mod look;
pub mod reference;
pub mod run;
pub mod service;
pub mod showing;
pub mod status;
pub mod stop;
pub mod storm;
mod usage;
pub mod wait;
pub mod waiting;
pub mod wake;
