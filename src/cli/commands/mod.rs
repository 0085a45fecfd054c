//! One verb per file, thin: gather, call, print.

pub mod ack;
pub mod adopt;
pub mod arm;
pub mod arm_tracked;
pub mod config;
pub mod daemon;
pub mod daemon_monitor;
pub mod doctor;
pub mod drain;
pub mod firstmate;
pub mod guard;
pub mod hook;
pub mod hooks;
pub mod lock;
pub mod print_wakes;
pub mod reference;
pub mod run;
pub mod service;
pub mod status;
pub mod stop;
pub mod storm;
pub mod wait;
pub mod waiter;
pub mod wake;
