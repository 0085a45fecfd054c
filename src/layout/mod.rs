//! Where a home is, and what its files are called ([`paths`]); its size-capped log ([`log`]).

pub mod log;
pub mod paths;
