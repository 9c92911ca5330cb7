//! The guards: each a check without which some fault does harm. Code that ships has them all; the simulation takes away
//! one at a time and has to see the harm.

/// A check that keeps a fault from doing harm.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Guard {
    /// The coordinator starts nothing before all agents are there.
    WholeWorld,
    /// The coordinator starts nothing while ranks of an older attempt run.
    OldRanksGone,
    /// The coordinator brings down a world of which only a part runs, or which runs an older attempt.
    PartOfAWorld,
    /// The coordinator takes ranks that were told to abort for no part of a world that it takes over.
    AbortingIsNotRunning,
    /// The coordinator takes over an attempt that is newer than any it knew.
    NewerAttempt,
    /// The coordinator gives no attempt a number that it has heard of, even from ranks that it did not take over.
    NumberHeardOf,
    /// The coordinator ignores reports of another attempt than the agent's newest: late ones, and those that come twice.
    LateReport,
    /// The coordinator notices an agent that comes back without the ranks that it was running.
    CameBackWithout,
    /// The coordinator brings down the others when one rank crashes.
    CrashOfOne,
    /// The coordinator starts nothing once it was told that the output is published.
    SuccessStays,
    /// The coordinator brings down what attaches, or is heard of, after the end.
    NothingAfterTheEnd,
    /// The coordinator starts nothing that an agent whose machine is being taken away would be part of.
    WaitsForOneLeaving,
    /// The coordinator takes an agent whose stream has ended for no agent whose ranks hang.
    CutOffIsNoHang,
    /// The coordinator takes no rank for one that hangs after it stood still itself.
    Absence,
    /// The coordinator has a rank brought down of which nothing is heard.
    Silence,
    /// The coordinator has a rank brought down that lives but takes no steps.
    Standstill,
    /// The agent ignores commands of an older attempt than the newest it was told of.
    LateCommand,
    /// The agent says so when it does not begin an attempt that it is told to begin.
    Refusal,
    /// The agent starts a rank once for an attempt, however often it is told.
    RunsAlready,
    /// The agent starts no rank for an attempt whose rank has ended.
    HasEnded,
    /// The agent starts no rank before the one of the attempt before is gone.
    OneRank,
    /// The agent starts no rank with a place of another attempt.
    PlaceOfAttempt,
    /// The agent starts no rank for an attempt that was aborted before its run plan came.
    AbortComesFirst,
    // The rest is the simulation's image of what others do: whoever starts a coordinator, and `palimpsest_store::Fence`.
    /// A new coordinator begins after the newest attempt that was ever claimed.
    #[cfg(test)]
    AttemptFromStore,
    /// A new coordinator begins with the crashes that the one before counted.
    #[cfg(test)]
    CrashesReadBack,
    /// The store lets one process alone claim an attempt.
    #[cfg(test)]
    ClaimedOnce,
    /// A rank asks whether its claim is the newest before it writes a manifest.
    #[cfg(test)]
    ClaimBeforeManifest,
    /// A rank asks whether its claim is the newest before it deletes a checkpoint.
    #[cfg(test)]
    ClaimBeforeDelete,
    /// A rank asks whether its claim is the newest before it publishes.
    #[cfg(test)]
    ClaimBeforePublish,
    /// A rank looks whether the output is there before it publishes.
    #[cfg(test)]
    PublishedAlready,
}

#[cfg(test)]
impl Guard {
    /// All of them.
    pub(crate) const ALL: [Self; 30] = [
        Self::WholeWorld,
        Self::OldRanksGone,
        Self::PartOfAWorld,
        Self::AbortingIsNotRunning,
        Self::NewerAttempt,
        Self::NumberHeardOf,
        Self::LateReport,
        Self::CameBackWithout,
        Self::CrashOfOne,
        Self::SuccessStays,
        Self::NothingAfterTheEnd,
        Self::WaitsForOneLeaving,
        Self::CutOffIsNoHang,
        Self::Absence,
        Self::Silence,
        Self::Standstill,
        Self::LateCommand,
        Self::Refusal,
        Self::RunsAlready,
        Self::HasEnded,
        Self::OneRank,
        Self::PlaceOfAttempt,
        Self::AbortComesFirst,
        Self::AttemptFromStore,
        Self::CrashesReadBack,
        Self::ClaimedOnce,
        Self::ClaimBeforeManifest,
        Self::ClaimBeforeDelete,
        Self::ClaimBeforePublish,
        Self::PublishedAlready,
    ];
}

/// Which guards stand. Outside this crate's own tests all of them do: there is no way to say otherwise, and asking costs
/// nothing.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Guards {
    #[cfg(test)]
    removed: Option<Guard>,
}

impl Guards {
    /// Whether a guard stands.
    #[cfg(not(test))]
    #[inline(always)]
    pub(crate) const fn stands(self, _: Guard) -> bool {
        true
    }

    /// Whether a guard stands.
    #[cfg(test)]
    pub(crate) fn stands(self, guard: Guard) -> bool {
        self.removed != Some(guard)
    }

    /// All but one.
    #[cfg(test)]
    pub(crate) fn without(guard: Option<Guard>) -> Self {
        Self { removed: guard }
    }
}
