//! Who may take a Lease. Pure; as client-go decides it: a lease has run out when nobody has renewed it for its duration *by the
//! clock of whoever looks*, so that clocks that differ elect nobody twice.

use std::time::Duration;

use k8s_openapi::api::coordination::v1::LeaseSpec;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::MicroTime;
use k8s_openapi::jiff::Timestamp;

/// What was seen of a Lease, and since when it has looked like that.
#[derive(Clone, Debug, Default)]
pub(super) struct Seen {
    spec: LeaseSpec,
    since: Duration,
}

impl Seen {
    /// Takes in what a Lease says at `now`.
    pub(super) fn look(&mut self, spec: &LeaseSpec, now: Duration) {
        if self.spec != *spec {
            *self = Self { spec: spec.clone(), since: now };
        }
    }

    /// Whether `identity` may hold it.
    pub(super) fn is_free_for(&self, identity: &str, now: Duration) -> bool {
        let holder = self.spec.holder_identity.as_deref().unwrap_or_default();
        let seconds = u64::try_from(self.spec.lease_duration_seconds.unwrap_or(0)).unwrap_or(0);
        holder.is_empty() || holder == identity || now >= self.since + Duration::from_secs(seconds)
    }
}

/// What a Lease says once `identity` has taken or renewed it.
pub(super) fn held(before: &LeaseSpec, identity: &str, duration: Duration, now: Timestamp) -> LeaseSpec {
    let is_renewal = before.holder_identity.as_deref() == Some(identity);
    let transitions = before.lease_transitions.unwrap_or(0);
    LeaseSpec {
        holder_identity: Some(identity.to_owned()),
        lease_duration_seconds: Some(i32::try_from(duration.as_secs().max(1)).unwrap_or(i32::MAX)),
        acquire_time: if is_renewal { before.acquire_time.clone() } else { Some(MicroTime(now)) },
        renew_time: Some(MicroTime(now)),
        lease_transitions: Some(if is_renewal || before.holder_identity.is_none() {
            transitions
        } else {
            transitions + 1
        }),
        ..before.clone()
    }
}

/// What it says once its holder has given it up.
pub(super) fn released(before: &LeaseSpec) -> LeaseSpec {
    LeaseSpec { holder_identity: Some(String::new()), lease_duration_seconds: Some(1), ..before.clone() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    fn time(seconds: i64) -> Timestamp {
        Timestamp::from_second(1_800_000_000 + seconds).unwrap()
    }

    #[test]
    fn a_lease_is_taken_when_nobody_renews_it_by_ones_own_clock() {
        let mut seen = Seen::default();
        assert!(seen.is_free_for("a", at(0)));
        let of_b = held(&LeaseSpec::default(), "b", at(15), time(0));
        seen.look(&of_b, at(100));
        assert!(seen.is_free_for("b", at(100)));
        assert!(!seen.is_free_for("a", at(114)));
        // Its own times mean nothing: the clock that wrote them may be wrong.
        let renewed = held(&of_b, "b", at(15), time(-5000));
        seen.look(&renewed, at(114));
        assert!(!seen.is_free_for("a", at(128)));
        seen.look(&renewed, at(128));
        assert!(seen.is_free_for("a", at(129)));
    }

    #[test]
    fn transitions_are_counted_and_what_is_released_is_free_at_once() {
        let first = held(&LeaseSpec::default(), "a", at(15), time(0));
        let renewed = held(&first, "a", at(15), time(2));
        assert_eq!((first.lease_transitions, renewed.lease_transitions), (Some(0), Some(0)));
        assert_eq!(renewed.acquire_time, first.acquire_time);
        let taken = held(&renewed, "b", at(15), time(20));
        assert_eq!((taken.lease_transitions, taken.acquire_time.clone()), (Some(1), Some(MicroTime(time(20)))));
        let mut seen = Seen::default();
        seen.look(&released(&taken), at(0));
        assert!(seen.is_free_for("c", at(0)));
    }
}
