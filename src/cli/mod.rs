//! The command line: what the words mean ([`args`]), the short way for what runs at every turn ([`fast_path`]), and one
//! file per verb ([`commands`]). The only storey that prints.

pub mod args;
pub mod commands;
pub mod fast_path;
