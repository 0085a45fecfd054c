//! Named steps of the protocols, and named protections.
//!
//! A test of a protocol must be able to stop or kill the real program between two given steps, and to take away one
//! protection and see the program fail without it. Each such place has a variant of [`Failpoint`]. Without the
//! feature `sync-points`, which no release has, [`reach`] and [`is_protected`] are constants and vanish.
//!
//! `FM_WATCH_SYNC` holds what is to happen at steps, separated by `;`:
//!
//! | action | what happens when the step is reached |
//! |---|---|
//! | `STEP=pause:DIRECTORY` | `DIRECTORY/STEP.reached` is made, and the program waits for `DIRECTORY/STEP.go` |
//! | `STEP=kill` | the process ends as by SIGKILL |
//! | `STEP=error:NUMBER` | the step fails with this error of the system |
//!
//! `FM_WATCH_WITHOUT` holds the protections to take away, separated by `,`. A name that there is not ends the program:
//! a test with a misspelt name would show nothing.

#[cfg(feature = "sync-points")]
pub use armed::{is_protected, kill_with, reach};
#[cfg(not(feature = "sync-points"))]
pub use disarmed::{is_protected, reach};

/// Makes the enum and the names of its variants, which are what tests say.
macro_rules! failpoints {
    ($($variant:ident)*) => {
        /// A step of a protocol, or a protection of one.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        #[allow(missing_docs, reason = "the name says where it stands; only the suite sees it from outside")]
        pub enum Failpoint {
            $($variant,)*
        }

        #[cfg(any(test, feature = "test-support"))]
        impl Failpoint {
            /// Every one, with its name.
            pub const ALL: &[(Self, &str)] = &[$((Self::$variant, stringify!($variant)),)*];
        }
    };
}

failpoints! {
    AdoptKept AdoptRemembered AdoptReplaced AdoptRestored CycleRound DaemonEndRecorded DaemonEnded DaemonExecuted
    DaemonForked DaemonLateEnd DaemonLeftoverProof DaemonLeftoverSession DaemonLeftoverTurn DaemonLifeLocked
    DaemonMonitorLocked DaemonOrderFence DaemonReadyRecorded DaemonRecordFirst DaemonRecorded DaemonSocketCleared
    DaemonStopIdentity DaemonStopProven DaemonStopSecondProof DoctorLook DoctorOwner FirstmateAcknowledged
    FirstmateAppended FirstmateClaim FirstmateClaimed FirstmateCrossed FirstmateDrained FirstmateEmptied
    FirstmateEntered FirstmateEviction FirstmateKnownRows FirstmateMade FirstmateMarked FirstmateMarkers
    FirstmateMoved FirstmateNumbered FirstmateOwnRecord FirstmatePin FirstmatePinned FirstmatePrinted FirstmateProof
    FirstmateProven FirstmatePutBack FirstmateQueueLock FirstmateReplaced FirstmateRowBeforeLine
    FirstmateRowBeforeMarker FirstmateSaved FirstmateSweepAfterRecord FirstmateTakeOut FirstmateTaken
    FirstmateWholeRows HoldingAcquired HoldingEviction HoldingGeneration HoldingOwner HooksBackedUp HooksCounted
    HooksDecides HooksInTime HooksProof HooksWaiter HooksWaiterBegins HooksWaiterTaken JournalAcknowledgeLocked
    JournalAcknowledgeWritten JournalCompactLocked JournalCompactRemoved JournalCompactSetAside JournalCrc
    JournalDirectorySynced JournalLock JournalLocked JournalNewSegmentAfterFailedSync JournalSegmentMade JournalSync
    JournalSyncBeforeAnswer JournalSyncDirectory JournalSynced JournalTornTailClosesSegment JournalWritten
    KeeperRecorded KeeperRecordedFirst KernelOpened KernelRecheck LeaveIdentity LeaveLockTaker LeaveProven
    LockBetweenReleaseAndReap LockDescriptor LockDirectory LockDirectoryOpened LockFileOpened LockRecheck LockRelay
    LockReleaseBeforeReap LockTaken LockVigil ObtainBound ObtainStartThroughManager ObtainThroughManager
    OwnerLinkClaimRecheck OwnerLinkFloor OwnerLinkIdentity OwnerLinkIdentityOfPid OwnerLinkJudged OwnerLinkLinked
    OwnerLinkOwnOnlyOnRelease OwnerLinkPrepared OwnerLinkRefuseWhileSteal OwnerLinkStealLinked OwnerLinkStealMutex
    OwnerLinkStealOfSteal OwnerLinkStealPrepared OwnerLinkStealRecheck OwnerLinkStealRevalidation
    OwnerLinkStealSwapped OwnerLinkStealSwapping OwnerLinkStealWithdrawing OwnerLinkStealWithdrawn OwnerLinkStranded
    OwnerLinkSwapped OwnerLinkSwapping OwnerLinkWithdrawing OwnerLinkWithdrawn PidfileCompleteBeforeName
    PidfileCreated PidfileIdentity PidfileInodeCheck PidfileJudged PidfileLocked PidfileMaker PidfileOwnInodeOnRelease
    PidfilePublished PidfileReleasing PidfileStaleLock PidfileWritten ProbeFarewell RunInsists RunLeaves RunReadsFirst
    RunTold ServiceMark ServiceSeal ServiceStandby ServiceTakeOver SignalsIgnored SocketBound SocketInodeCheck
    SocketIsSocket SocketJudged SocketListening SocketMaker SocketOwnInodeOnRelease SocketProbe
    SocketPublishAfterListen SocketPublished SocketReleasing SocketRemovalLock SoftBreakByExchange SoftClaimed
    SoftClaiming SoftCompleteBeforeName SoftCreated SoftElsewhere SoftEmptyIsHeld SoftExchanged SoftInodeCheck
    SoftJudged SoftOwnInodeOnRelease SoftPrepared SoftPublished SoftPutBack SoftPuttingBack SoftRecheckBeforeExchange
    SoftRechecked SoftRecovery SoftReleasing SoftRestored SoftRestoring SoftSearched SoftSetAside SoftStart
    SoftStillness SoftVanishedIsHeld SoftVerified SpawnActs StopShell StorageChange StorageLastLook StormBound
    TakeoverExchanged TrackedAnyReason
}

#[cfg(any(test, feature = "test-support"))]
impl Failpoint {
    /// The one of this name.
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.iter().find_map(|(failpoint, other)| (*other == name).then_some(*failpoint))
    }

    /// The name by which tests know it.
    pub fn name(self) -> &'static str {
        Self::ALL.iter().find_map(|(failpoint, name)| (*failpoint == self).then_some(*name)).unwrap_or_default()
    }
}

#[cfg(not(feature = "sync-points"))]
mod disarmed {
    use std::io;

    use super::Failpoint;

    /// Marks a step of a protocol.
    ///
    /// # Errors
    /// Only what a test injects.
    #[inline(always)]
    #[expect(clippy::inline_always, clippy::unnecessary_wraps, reason = "it has to vanish from a release")]
    pub fn reach(_step: Failpoint) -> io::Result<()> {
        Ok(())
    }

    /// Whether a protection is in place: always, except in a test that takes it away to see itself fail.
    #[inline(always)]
    #[expect(clippy::inline_always, reason = "it has to vanish from a release")]
    pub fn is_protected(_protection: Failpoint) -> bool {
        true
    }
}

#[cfg(feature = "sync-points")]
mod armed {
    use std::fs::File;
    use std::io;
    use std::path::Path;
    use std::sync::OnceLock;
    use std::time::Duration;

    use super::Failpoint;
    use crate::base::environment;
    use crate::base::wait_until::wait_until;

    static KILL: OnceLock<fn()> = OnceLock::new();

    /// Says how this process is killed, which only the platform knows.
    pub fn kill_with(kill: fn()) {
        KILL.get_or_init(|| kill);
    }

    /// Marks a step of a protocol; see the module.
    ///
    /// # Errors
    /// The one that the test asked for.
    pub fn reach(step: Failpoint) -> io::Result<()> {
        let Some(plan) = environment::variable("FM_WATCH_SYNC") else { return Ok(()) };
        let actions = plan.split(';').filter(|entry| !entry.is_empty()).filter_map(|entry| {
            let (name, action) = entry.split_once('=')?;
            (named(name) == step).then_some(action)
        });
        for action in actions {
            match action.split_once(':') {
                Some(("error", number)) => return Err(io::Error::from_raw_os_error(number.parse().unwrap_or(5))),
                Some(("pause", directory)) => return pause(Path::new(directory), step),
                _ if action == "kill" => match KILL.get() {
                    Some(kill) => kill(),
                    None => std::process::abort(),
                },
                _ => return Err(io::Error::other(format!("FM_WATCH_SYNC: {} has no action {action}", step.name()))),
            }
        }
        Ok(())
    }

    #[expect(clippy::disallowed_methods, reason = "the mark of a test, not a file of the product")]
    fn pause(directory: &Path, step: Failpoint) -> io::Result<()> {
        File::create(directory.join(format!("{}.reached", step.name()))).map(drop)?;
        let go = directory.join(format!("{}.go", step.name()));
        wait_until(Duration::from_secs(600), Duration::from_millis(1), || go.exists().then_some(()))
            .ok_or_else(|| io::Error::from(io::ErrorKind::TimedOut))
    }

    /// Whether a protection is in place; see the module.
    pub fn is_protected(protection: Failpoint) -> bool {
        let Some(names) = environment::variable("FM_WATCH_WITHOUT") else { return true };
        !names.split(',').filter(|name| !name.is_empty()).any(|name| named(name) == protection)
    }

    #[expect(clippy::panic, reason = "a test that misspells a name must not pass")]
    fn named(name: &str) -> Failpoint {
        Failpoint::named(name).unwrap_or_else(|| panic!("there is no failpoint {name}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failpoint_is_found_by_its_name() {
        for (failpoint, name) in Failpoint::ALL {
            assert_eq!((Failpoint::named(name), failpoint.name()), (Some(*failpoint), *name));
        }
        assert_eq!(Failpoint::named("NoSuchStep"), None);
    }
}
