//! Who watches, who says so, and how well it goes.
//!
//! Three facts live apart: the kernel lock says *alive* ([`crate::lock::kernel`]), the [owner record](records::Owner)
//! says *who*, the [beat](records::Beat) says *well*. [`observe`] gathers them without touching anything, and the
//! pure function [`verdict::judge`] turns them into the one verdict that every command acts on. [`held_home`] is the
//! holder's side: it takes the lock, writes the records, and notices when it is no longer the holder. [`terminate`]
//! is how one process asks another to go, and refuses to whenever anything is unknown. [`foreign_holder`] is all that
//! is known here of other programs that may hold a home.

pub mod context;
#[cfg(test)]
mod exploration;
pub mod foreign_holder;
pub mod held_home;
pub mod home_lock;
pub mod observe;
pub mod records;
pub mod start_lock;
pub mod terminate;
pub mod verdict;
pub mod waiters;
pub mod wakeup_fifo;
