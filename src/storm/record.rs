//! What a storm has seen when it is over, and how far it is before.

use std::time::Duration;

use super::intervals::Hold;
use super::kind::Protocol;

/// What a storm has seen.
#[derive(Debug, Clone)]
pub struct Record {
    /// Every hold, in the order in which it was heard that it had ended.
    pub holds: Vec<Hold>,
    /// How long each hold was waited for, in nanoseconds.
    pub waits: Vec<u64>,
    /// The longest wait after the last kill, in nanoseconds: what killed holders left must not block others for long.
    pub longest_calm_wait: u64,
    /// How many workers were killed.
    pub kills: u64,
    /// How many of these were holding.
    pub kills_of_holders: u64,
    /// How long it took.
    pub took: Duration,
    /// How it ended.
    pub end: End,
}

/// How a storm ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum End {
    /// Every worker made its holds.
    Complete,
    /// It was asked to stop.
    Interrupted,
    /// A worker failed, or nobody got on: what was found, for people.
    Failed(Vec<String>),
}

/// How far it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Progress {
    /// Of which protocol.
    pub protocol: Protocol,
    /// How many holds there were.
    pub holds: u64,
    /// How many there will be.
    pub of: u64,
    /// How many workers were killed.
    pub kills: u64,
    /// Since when, in nanoseconds.
    pub took: Duration,
}

/// What whoever watches a storm wants.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wish {
    /// That it goes on.
    GoOn,
    /// That it ends early.
    Stop,
}
