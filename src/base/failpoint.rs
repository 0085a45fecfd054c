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

/// Makes the enum and its names out of one table.
macro_rules! failpoints {
    ($($variant:ident = $name:literal,)*) => {
        /// A step of a protocol, or a protection of one.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        #[allow(missing_docs, reason = "the name says where it stands; only the suite sees it from outside")]
        pub enum Failpoint {
            $($variant,)*
        }

        impl Failpoint {
            /// Every one, with the name that tests know it by.
            pub const ALL: &[(Self, &str)] = &[$((Self::$variant, $name),)*];
        }
    };
}

failpoints! {
    AdoptKept = "adopt.kept",
    AdoptRemembered = "adopt.remembered",
    AdoptReplaced = "adopt.replaced",
    AdoptRestored = "adopt.restored",
    CycleRound = "cycle.round",
    DaemonStopIdentity = "daemon-stop.identity",
    DaemonStopProven = "daemon-stop.proven",
    DaemonStopSecondProof = "daemon-stop.second-proof",
    DaemonEndRecorded = "daemon.end-recorded",
    DaemonEnded = "daemon.ended",
    DaemonExecuted = "daemon.executed",
    DaemonForked = "daemon.forked",
    DaemonLateEnd = "daemon.late-end",
    DaemonLeftoverProof = "daemon.leftover-proof",
    DaemonLeftoverSession = "daemon.leftover-session",
    DaemonLeftoverTurn = "daemon.leftover-turn",
    DaemonLifeLocked = "daemon.life-locked",
    DaemonMonitorLocked = "daemon.monitor-locked",
    DaemonOrderFence = "daemon.order-fence",
    DaemonReadyRecorded = "daemon.ready-recorded",
    DaemonRecordFirst = "daemon.record-first",
    DaemonRecorded = "daemon.recorded",
    DaemonSocketCleared = "daemon.socket-cleared",
    DoctorLook = "doctor.look",
    DoctorOwner = "doctor.owner",
    FirstmateAcknowledged = "firstmate.acknowledged",
    FirstmateAppended = "firstmate.appended",
    FirstmateClaim = "firstmate.claim",
    FirstmateClaimed = "firstmate.claimed",
    FirstmateCrossed = "firstmate.crossed",
    FirstmateDrained = "firstmate.drained",
    FirstmateEmptied = "firstmate.emptied",
    FirstmateEntered = "firstmate.entered",
    FirstmateEviction = "firstmate.eviction",
    FirstmateKnownRows = "firstmate.known-rows",
    FirstmateMade = "firstmate.made",
    FirstmateMarked = "firstmate.marked",
    FirstmateMarkers = "firstmate.markers",
    FirstmateMoved = "firstmate.moved",
    FirstmateNumbered = "firstmate.numbered",
    FirstmateOwnRecord = "firstmate.own-record",
    FirstmatePin = "firstmate.pin",
    FirstmatePinned = "firstmate.pinned",
    FirstmatePrinted = "firstmate.printed",
    FirstmateProof = "firstmate.proof",
    FirstmateProven = "firstmate.proven",
    FirstmatePutBack = "firstmate.put-back",
    FirstmateQueueLock = "firstmate.queue-lock",
    FirstmateReplaced = "firstmate.replaced",
    FirstmateRowBeforeLine = "firstmate.row-before-line",
    FirstmateRowBeforeMarker = "firstmate.row-before-marker",
    FirstmateSaved = "firstmate.saved",
    FirstmateSweepAfterRecord = "firstmate.sweep-after-record",
    FirstmateTakeOut = "firstmate.take-out",
    FirstmateTaken = "firstmate.taken",
    FirstmateWholeRows = "firstmate.whole-rows",
    HoldingAcquired = "holding.acquired",
    HoldingEviction = "holding.eviction",
    HoldingGeneration = "holding.generation",
    HoldingOwner = "holding.owner",
    HooksBackedUp = "hooks.backed-up",
    HooksCounted = "hooks.counted",
    HooksDecides = "hooks.decides",
    HooksInTime = "hooks.in-time",
    HooksProof = "hooks.proof",
    HooksWaiter = "hooks.waiter",
    HooksWaiterBegins = "hooks.waiter-begins",
    HooksWaiterTaken = "hooks.waiter.taken",
    JournalAcknowledgeLocked = "journal.acknowledge.locked",
    JournalAcknowledgeWritten = "journal.acknowledge.written",
    JournalCompactLocked = "journal.compact.locked",
    JournalCompactRemoved = "journal.compact.removed",
    JournalCompactSetAside = "journal.compact.set-aside",
    JournalCrc = "journal.crc",
    JournalDirectorySynced = "journal.directory-synced",
    JournalLock = "journal.lock",
    JournalLocked = "journal.locked",
    JournalNewSegmentAfterFailedSync = "journal.new-segment-after-failed-sync",
    JournalSegmentMade = "journal.segment-made",
    JournalSync = "journal.sync",
    JournalSyncBeforeAnswer = "journal.sync-before-answer",
    JournalSyncDirectory = "journal.sync-directory",
    JournalSynced = "journal.synced",
    JournalTornTailClosesSegment = "journal.torn-tail-closes-segment",
    JournalWritten = "journal.written",
    KeeperRecorded = "keeper.recorded",
    KeeperRecordedFirst = "keeper.recorded-first",
    KernelOpened = "kernel.opened",
    KernelRecheck = "kernel.recheck",
    LeaveIdentity = "leave.identity",
    LeaveLockTaker = "leave.lock-taker",
    LeaveProven = "leave.proven",
    LockBetweenReleaseAndReap = "lock.between-release-and-reap",
    LockDescriptor = "lock.descriptor",
    LockDirectory = "lock.directory",
    LockDirectoryOpened = "lock.directory-opened",
    LockFileOpened = "lock.file-opened",
    LockRecheck = "lock.recheck",
    LockRelay = "lock.relay",
    LockReleaseBeforeReap = "lock.release-before-reap",
    LockTaken = "lock.taken",
    LockVigil = "lock.vigil",
    ObtainBound = "obtain.bound",
    ObtainStartThroughManager = "obtain.start-through-manager",
    ObtainThroughManager = "obtain.through-manager",
    OwnerLinkClaimRecheck = "owner-link.claim-recheck",
    OwnerLinkFloor = "owner-link.floor",
    OwnerLinkIdentity = "owner-link.identity",
    OwnerLinkIdentityOfPid = "owner-link.identity-of-pid",
    OwnerLinkJudged = "owner-link.judged",
    OwnerLinkLinked = "owner-link.linked",
    OwnerLinkOwnOnlyOnRelease = "owner-link.own-only-on-release",
    OwnerLinkPrepared = "owner-link.prepared",
    OwnerLinkRefuseWhileSteal = "owner-link.refuse-while-steal",
    OwnerLinkStealLinked = "owner-link.steal-linked",
    OwnerLinkStealMutex = "owner-link.steal-mutex",
    OwnerLinkStealOfSteal = "owner-link.steal-of-steal",
    OwnerLinkStealPrepared = "owner-link.steal-prepared",
    OwnerLinkStealRecheck = "owner-link.steal-recheck",
    OwnerLinkStealRevalidation = "owner-link.steal-revalidation",
    OwnerLinkStealSwapped = "owner-link.steal-swapped",
    OwnerLinkStealSwapping = "owner-link.steal-swapping",
    OwnerLinkStealWithdrawing = "owner-link.steal-withdrawing",
    OwnerLinkStealWithdrawn = "owner-link.steal-withdrawn",
    OwnerLinkStranded = "owner-link.stranded",
    OwnerLinkSwapped = "owner-link.swapped",
    OwnerLinkSwapping = "owner-link.swapping",
    OwnerLinkWithdrawing = "owner-link.withdrawing",
    OwnerLinkWithdrawn = "owner-link.withdrawn",
    PidfileCompleteBeforeName = "pidfile.complete-before-name",
    PidfileCreated = "pidfile.created",
    PidfileIdentity = "pidfile.identity",
    PidfileInodeCheck = "pidfile.inode-check",
    PidfileJudged = "pidfile.judged",
    PidfileLocked = "pidfile.locked",
    PidfileMaker = "pidfile.maker",
    PidfileOwnInodeOnRelease = "pidfile.own-inode-on-release",
    PidfilePublished = "pidfile.published",
    PidfileReleasing = "pidfile.releasing",
    PidfileStaleLock = "pidfile.stale-lock",
    PidfileWritten = "pidfile.written",
    ProbeFarewell = "probe.farewell",
    RunInsists = "run.insists",
    RunLeaves = "run.leaves",
    RunReadsFirst = "run.reads-first",
    RunTold = "run.told",
    ServiceMark = "service.mark",
    ServiceSeal = "service.seal",
    ServiceStandby = "service.standby",
    ServiceTakeOver = "service.take-over",
    SignalsIgnored = "signals.ignored",
    SocketBound = "socket.bound",
    SocketInodeCheck = "socket.inode-check",
    SocketIsSocket = "socket.is-socket",
    SocketJudged = "socket.judged",
    SocketListening = "socket.listening",
    SocketMaker = "socket.maker",
    SocketOwnInodeOnRelease = "socket.own-inode-on-release",
    SocketProbe = "socket.probe",
    SocketPublishAfterListen = "socket.publish-after-listen",
    SocketPublished = "socket.published",
    SocketReleasing = "socket.releasing",
    SocketRemovalLock = "socket.removal-lock",
    SoftBreakByExchange = "soft.break-by-exchange",
    SoftClaimed = "soft.claimed",
    SoftClaiming = "soft.claiming",
    SoftCompleteBeforeName = "soft.complete-before-name",
    SoftCreated = "soft.created",
    SoftElsewhere = "soft.elsewhere",
    SoftEmptyIsHeld = "soft.empty-is-held",
    SoftExchanged = "soft.exchanged",
    SoftInodeCheck = "soft.inode-check",
    SoftJudged = "soft.judged",
    SoftOwnInodeOnRelease = "soft.own-inode-on-release",
    SoftPrepared = "soft.prepared",
    SoftPublished = "soft.published",
    SoftPutBack = "soft.put-back",
    SoftPuttingBack = "soft.putting-back",
    SoftRecheckBeforeExchange = "soft.recheck-before-exchange",
    SoftRechecked = "soft.rechecked",
    SoftRecovery = "soft.recovery",
    SoftReleasing = "soft.releasing",
    SoftRestored = "soft.restored",
    SoftRestoring = "soft.restoring",
    SoftSearched = "soft.searched",
    SoftSetAside = "soft.set-aside",
    SoftStart = "soft.start",
    SoftStillness = "soft.stillness",
    SoftVanishedIsHeld = "soft.vanished-is-held",
    SoftVerified = "soft.verified",
    SpawnActs = "spawn.acts",
    StopShell = "stop.shell",
    StorageChange = "storage.change",
    StorageLastLook = "storage.last-look",
    StormBound = "storm.bound",
    TakeoverExchanged = "takeover.exchanged",
    TrackedAnyReason = "tracked.any-reason",
}

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
    #[expect(clippy::inline_always, reason = "it has to vanish from a release")]
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
        assert_eq!(Failpoint::named("no.such-step"), None);
    }
}
