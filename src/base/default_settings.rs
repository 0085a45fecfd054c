//! The text of the default settings, compiled in. It stands down here because a home is told from a directory with this
//! very text; what it means is known by `settings`.

/// `config/fm-watch.toml`, as it is in the source tree.
pub const TEXT: &str = include_str!("../../config/fm-watch.toml");
