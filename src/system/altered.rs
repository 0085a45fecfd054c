//! Worlds that are the real one, but for what somebody alters: a disk that is full, a process that dies at its next
//! call, a step at which something else happens.
//!
//! # Theory
//!
//! A type that is [`Altered`] is a [`World`] by that alone. It says what happens before each call, and writes down the
//! few calls that it answers itself; all others go to [`Real`]. The list of them stands here and nowhere else: a call
//! that a list of its own had forgotten would reach the system behind the back of a process that should be dead, and a
//! test of crashes would prove nothing.
//!
//! It is for tests. It stands in the library because the tests of the whole program are another crate, in which nobody
//! may say that every type of a kind is a `World`. The program itself uses none, so none of it gets into a release.

use std::ffi::{OsStr, OsString};
use std::fmt;
use std::fs::File;
use std::io;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::time::Duration;

use super::identity::{Observation, Pid, Standpoint};
use super::platform::Pinned;
use super::{
    Binding, Claim, Exchange, Facts, Kind, Listing, LockTaker, Now, Open, Peer, Reached, Real, Signal, Sockets,
    TableEntry, World,
};
use crate::base::failpoint::Failpoint;
use crate::system::FileSystem;

/// A call that can fail, before it is made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Call {
    /// The method of [`World`] or [`Sockets`].
    pub name: &'static str,
    /// What comes of it.
    pub nature: Nature,
}

/// What comes of a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Nature {
    /// Nothing: it only looks.
    Look,
    /// Names, contents or permissions are other ones than before.
    Change,
    /// Something else: a lock, a mark, a signal, durability, or a file where there may have been none.
    Act,
}

impl Open {
    /// What comes of opening like this.
    pub fn nature(self) -> Nature {
        match self {
            Self::Read | Self::Pin => Nature::Look,
            Self::Lock | Self::Append => Nature::Act,
            Self::CreateNew => Nature::Change,
        }
    }
}

/// Makes a list of calls into a trait whose methods can be replaced one by one, and whatever has it into a world.
macro_rules! altered {
    (
        $($nature:ident { $($name:ident($($argument:ident: $type:ty),*) -> $output:ty;)+ })+
        ;
        $($plain:ident($($plain_argument:ident: $plain_type:ty),*) $(-> $plain_output:ty)?;)+
    ) => {
        /// The real world, altered. Each method that is not written anew does what [`Real`] does.
        pub trait Altered: fmt::Debug + Send + Sync + 'static {
            /// Comes before each call that can fail and is not written anew; an error is the answer then.
            ///
            /// # Errors
            /// Whatever the call shall say.
            fn before(&self, _call: Call) -> io::Result<()> {
                Ok(())
            }

            /// See [`World::open`].
            fn open(&self, directory: &File, name: &OsStr, how: Open) -> io::Result<File> {
                self.before(Call { name: "open", nature: how.nature() })?;
                Real.open(directory, name, how)
            }

            $($(
                #[doc = concat!("See [`World::", stringify!($name), "`].")]
                fn $name(&self, $($argument: $type),*) -> io::Result<$output> {
                    self.before(Call { name: stringify!($name), nature: Nature::$nature })?;
                    Real.$name($($argument),*)
                }
            )+)+

            $(
                #[doc = concat!("See [`World::", stringify!($plain), "`].")]
                fn $plain(&self, $($plain_argument: $plain_type),*) $(-> $plain_output)? {
                    Real.$plain($($plain_argument),*)
                }
            )+
        }

        impl<A: Altered> World for A {
            type Node = File;
            type Process = Pinned;

            fn open(&self, directory: &File, name: &OsStr, how: Open) -> io::Result<File> {
                Altered::open(self, directory, name, how)
            }

            $($(fn $name(&self, $($argument: $type),*) -> io::Result<$output> {
                Altered::$name(self, $($argument),*)
            })+)+

            $(fn $plain(&self, $($plain_argument: $plain_type),*) $(-> $plain_output)? {
                Altered::$plain(self, $($plain_argument),*)
            })+
        }
    };
}

altered! {
    Look {
        open_directory(path: &Path) -> File;
        open_directory_at(directory: &File, name: &OsStr) -> File;
        facts(node: &File) -> Facts;
        facts_at(directory: &File, name: &OsStr) -> Facts;
        facts_of_path(path: &Path) -> Facts;
        names(directory: &File) -> Vec<OsString>;
        read_at(node: &File, offset: u64, buffer: &mut [u8]) -> usize;
        read_link(directory: &File, name: &OsStr) -> OsString;
        may_write(directory: &File, name: &OsStr) -> bool;
        file_system(node: &File) -> FileSystem;
        is_marked(node: &File) -> bool;
        published_beat(node: &File) -> Option<Duration>;
        lock_taker(node: &File) -> LockTaker;
        nonce() -> [u8; 16];
        exists(pid: u32) -> bool;
        processes() -> Vec<u32>;
        pin(pid: Pid) -> Option<Pinned>;
        wait_for_exit(process: &Pinned, at_most: Duration) -> bool;
    }
    Change {
        make_directory(directory: &File, name: &OsStr) -> ();
        append(node: &File, bytes: &[u8]) -> usize;
        rename(directory: &File, from: &OsStr, to: &OsStr) -> ();
        link(directory: &File, from: &OsStr, to: &OsStr) -> ();
        exchange(directory: &File, one: &OsStr, other: &OsStr) -> Exchange;
        symlink(directory: &File, target: &OsStr, name: &OsStr) -> ();
        overwrite(node: &File, bytes: &[u8]) -> ();
        cut(node: &File, length: u64) -> ();
        touch(directory: &File, name: &OsStr) -> ();
        set_mode(node: &File, mode: u32) -> ();
        take_group(directory: &File, name: &OsStr, node: &File) -> ();
        remove_directory(directory: &File, name: &OsStr) -> ();
        unlink(directory: &File, name: &OsStr) -> ();
    }
    Act {
        sync_data(node: &File) -> ();
        sync_all(node: &File) -> ();
        try_lock(node: &File) -> Claim;
        raise_mark(node: &File, kind: Kind) -> ();
        publish_beat(node: &File, at: Duration) -> ();
        signal(process: &Pinned, signal: Signal) -> bool;
    }

    // What cannot fail has no nature, and nothing comes before it.
    ;
    now() -> Now;
    boot_id() -> Option<String>;
    own_pid() -> u32;
    start_ticks(pid: u32) -> Option<u64>;
    listing(pid: u32) -> Option<Listing>;
    table_entry(pid: u32) -> Option<TableEntry>;
    innermost_pid(pid: u32) -> Option<u32>;
    has_one_number(pid: u32) -> bool;
    standpoint() -> Standpoint;
    host_name() -> Vec<u8>;
    has_common_start_times() -> bool;
    observe(process: &Pinned) -> Observation;
    pause(at_most: Duration);
    reach(step: Failpoint) -> io::Result<()>;
    is_protected(protection: Failpoint) -> bool;
}

/// Nobody alters what a socket answers, so these have only what comes before them.
macro_rules! sockets {
    ($($nature:ident $name:ident($($argument:ident: $type:ty),*) -> $output:ty;)+) => {
        impl<A: Altered> Sockets for A {
            type Listener = UnixListener;
            type Connection = UnixStream;

            $(fn $name(&self, $($argument: $type),*) -> io::Result<$output> {
                self.before(Call { name: stringify!($name), nature: Nature::$nature })?;
                Real.$name($($argument),*)
            })+
        }
    };
}

sockets! {
    Change bind(directory: &File, name: &OsStr) -> UnixListener;
    Act listen(socket: &UnixListener) -> ();
    Look binding(pinned: &File) -> Binding;
    Act connect(pinned: &File, at_most: Duration) -> Reached<UnixStream>;
    Look peer(connection: &UnixStream) -> Peer<Pinned>;
    Act send(connection: &UnixStream, bytes: &[u8], at_most: Duration) -> usize;
    Act receive(connection: &UnixStream, buffer: &mut [u8], at_most: Duration) -> usize;
    Act finish(connection: &UnixStream) -> ();
}
