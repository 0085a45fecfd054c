//! Who watches, who says so, and how well it goes.
//!
//! Three facts live apart: the kernel lock says *alive* ([`crate::lock::kernel`]), the [`owner`] record says *who*,
//! the [`beat`] says *well*. [`observe`] gathers them without touching anything, and the pure function
//! [`verdict::judge`] turns them into the one verdict that every command acts on. [`holding`] is the holder's side:
//! it takes the lock, writes the records, and notices when it is no longer the holder. [`leave`] is how one process
//! asks another to go, and refuses to whenever anything is unknown.

pub mod beat;
pub mod bells;
pub mod history;
pub mod holding;
pub mod identity;
pub mod leave;
pub mod observe;
pub mod owner;
pub mod verdict;
pub mod waiters;
