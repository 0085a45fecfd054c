//! The answers of calls, as a program is told them again and as its state is known by them.

use std::fmt;
use std::hash::Hash;
use std::time::Duration;

use super::digest::Digest;
use super::processes::Number;

/// An answer that a program can be told again.
pub(crate) trait Told: Clone + fmt::Debug + Send + Sync + 'static {
    /// Notes what a program could tell it from another by.
    fn note(&self, digest: &mut Digest);
}

macro_rules! told {
    ($($kind:ty),* $(,)?) => { $(
        impl Told for $kind {
            fn note(&self, digest: &mut Digest) {
                self.hash(digest);
            }
        }
    )* };
}
told!(
    (),
    bool,
    u64,
    usize,
    Vec<u8>,
    [u8; 16],
    Vec<u32>,
    Vec<std::ffi::OsString>,
    std::ffi::OsString,
    Option<u64>,
    Option<u32>,
    Option<Number>,
    Option<Duration>,
    super::openings::Opening
);

impl Told for crate::system::Facts {
    fn note(&self, digest: &mut Digest) {
        (self.kind, self.device, self.inode, self.size, self.links).hash(digest);
        (self.mtime_ns, self.ctime_ns, self.uid, self.mode).hash(digest);
    }
}

impl Told for crate::system::Now {
    fn note(&self, digest: &mut Digest) {
        self.monotonic.as_millis().hash(digest);
    }
}

macro_rules! told_as_text {
    ($($kind:ty),* $(,)?) => { $(
        impl Told for $kind {
            fn note(&self, digest: &mut Digest) {
                format!("{self:?}").hash(digest);
            }
        }
    )* };
}
told_as_text!(
    crate::system::Claim,
    crate::system::Exchange,
    crate::system::LockTaker,
    Option<crate::system::Listing>,
    crate::system::identity::Observation
);
