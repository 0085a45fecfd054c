//! What can be put to the test: every kind of lock of the family, and two protocols that promise nothing.

use std::fmt;
use std::sync::OnceLock;

use clap::ValueEnum;
use clap::builder::PossibleValue;

use crate::lock::Kind;

/// A protocol.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Protocol {
    /// One of the family, which promises that one holds at a time.
    Family(Kind),
    /// See [`super::naive`].
    Naive,
    /// See [`super::unlink`].
    Unlink,
}

/// What a protocol promises.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Promise {
    /// At every instant at most one holds.
    Exclusion,
    /// Nothing: a storm has to see it fail.
    Nothing,
}

impl Protocol {
    /// What it promises.
    pub fn promise(self) -> Promise {
        match self {
            Self::Family(_) => Promise::Exclusion,
            Self::Naive | Self::Unlink => Promise::Nothing,
        }
    }

    /// All that promise exclusion.
    pub fn promising() -> Vec<Self> {
        Self::value_variants().iter().copied().filter(|protocol| protocol.promise() == Promise::Exclusion).collect()
    }

    /// Whether it is worth no more than the kernel's locks on this file system are.
    pub fn stands_on_kernel_locks(self) -> bool {
        matches!(self, Self::Family(Kind::Kernel | Kind::Pidfile | Kind::Socket))
    }
}

impl ValueEnum for Protocol {
    fn value_variants<'a>() -> &'a [Self] {
        static ALL: OnceLock<Vec<Protocol>> = OnceLock::new();
        ALL.get_or_init(|| {
            let family = Kind::value_variants().iter().copied().map(Self::Family);
            family.chain([Self::Naive, Self::Unlink]).collect()
        })
    }

    fn to_possible_value(&self) -> Option<PossibleValue> {
        match self {
            Self::Family(kind) => kind.to_possible_value(),
            Self::Naive => {
                Some(PossibleValue::new("naive").help("Check the pid in a file, then write ours; promises nothing"))
            }
            Self::Unlink => {
                Some(PossibleValue::new("unlink").help("A marker that is broken by unlink; promises nothing"))
            }
        }
    }
}

/// The name, as `--kind` takes it.
impl fmt::Display for Protocol {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.pad(self.to_possible_value().as_ref().map_or("?", PossibleValue::get_name))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_name_is_read_back_and_all_but_two_promise_exclusion() {
        for protocol in Protocol::value_variants() {
            assert_eq!(Protocol::from_str(&protocol.to_string(), false), Ok(*protocol));
        }
        assert_eq!(Protocol::promising().len(), Protocol::value_variants().len() - 2);
        assert!(Protocol::promising().contains(&Protocol::Family(Kind::Kernel)));
    }
}
