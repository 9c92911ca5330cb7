//! Signs of life: whether an agent's ranks live, and whether they move.
//!
//! A rank that lives is heard of every few seconds, by a thread of its own that does nothing else. A rank that moves
//! takes steps; how long one may take is learnt from those before. Preparing data, loading, measuring and writing a model
//! take as long as they take: there only silence counts.

use std::time::Duration;

/// For how long ranks are waited for before they count as hanging.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Patience {
    /// Until ranks that were just started are heard of: their libraries may come from a slow disk.
    pub first_sign: Duration,
    /// For how long nothing may be heard of ranks. They tell every few seconds that they live.
    pub silence: Duration,
    /// For a step while it is not known how long one takes.
    pub first_step: Duration,
    /// For a step at least, however short steps usually are: a checkpoint or the load of another program may hold one up.
    pub step: Duration,
}

impl Default for Patience {
    fn default() -> Self {
        Self {
            first_sign: Duration::from_secs(120),
            silence: Duration::from_secs(15),
            first_step: Duration::from_secs(1800),
            step: Duration::from_secs(120),
        }
    }
}

/// How many times its usual time a step may take. Much else falls between two steps: a checkpoint, other load.
const USUAL_STEPS: u32 = 20;

/// What is known of the life of an agent's ranks.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Pulse {
    started: Duration,
    heard: Option<Duration>,
    /// When the newest step was taken, or the phase it is awaited in began.
    moved: Duration,
    is_stepping: bool,
    /// How long a step takes, on average over the last few.
    usual: Option<Duration>,
}

/// How it shows that ranks hang.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Hang {
    /// Nothing is heard of them.
    Silence,
    /// They live but take no steps.
    Standstill,
}

impl Pulse {
    /// Of ranks that are started, or heard of for the first time, at `now`.
    pub(crate) fn new(now: Duration) -> Self {
        Self { started: now, heard: None, moved: now, is_stepping: false, usual: None }
    }

    /// They were heard of.
    pub(crate) fn hear(&mut self, now: Duration) {
        self.heard = Some(now);
    }

    /// They say whether they are in the phase in which steps are taken.
    pub(crate) fn enter(&mut self, now: Duration, is_stepping: bool) {
        if self.is_stepping != is_stepping {
            self.is_stepping = is_stepping;
            self.moved = now;
        }
    }

    /// They took a step.
    pub(crate) fn step(&mut self, now: Duration) {
        if self.is_stepping {
            let took = now.saturating_sub(self.moved);
            self.usual = Some(self.usual.map_or(took, |usual| (usual * 7 + took) / 8));
        }
        self.is_stepping = true;
        self.moved = now;
    }

    /// Forgives the time in which nobody listened.
    pub(crate) fn forgive(&mut self, now: Duration) {
        self.started = now;
        self.heard = self.heard.map(|_| now);
        self.moved = now;
    }

    /// When they count as hanging if nothing is heard, and how that shows.
    pub(crate) fn due(&self, patience: &Patience) -> (Duration, Hang) {
        let silent = self.heard.map_or(self.started + patience.first_sign, |heard| heard + patience.silence);
        let longest = self.usual.map_or(patience.first_step, |usual| (usual * USUAL_STEPS).max(patience.step));
        let still = self.moved + longest;
        if self.is_stepping && still < silent { (still, Hang::Standstill) } else { (silent, Hang::Silence) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    fn patience() -> Patience {
        Patience { step: at(60), ..Patience::default() }
    }

    fn check(pulse: &Pulse, seconds: u64, hang: Hang) {
        assert_eq!(pulse.due(&patience()), (at(seconds), hang), "{pulse:?}");
    }

    #[test]
    fn a_rank_has_longer_to_begin_than_to_go_on() {
        let mut pulse = Pulse::new(at(100));
        check(&pulse, 220, Hang::Silence);
        pulse.hear(at(110));
        check(&pulse, 125, Hang::Silence);
        pulse.forgive(at(1000));
        check(&pulse, 1015, Hang::Silence);
    }

    #[test]
    fn steps_are_awaited_by_their_usual_time_and_only_where_steps_are_taken() {
        let mut pulse = Pulse::new(at(0));
        pulse.enter(at(0), true);
        pulse.hear(at(1790));
        check(&pulse, 1800, Hang::Standstill);
        for second in 1..=10 {
            pulse.step(at(1790 + second));
        }
        pulse.hear(at(1859));
        // The first step was a long one.
        assert_eq!(pulse.due(&patience()).1, Hang::Silence);
        for second in 11..=60 {
            pulse.step(at(1790 + second));
        }
        check(&pulse, 1874, Hang::Silence);
        pulse.hear(at(1900));
        check(&pulse, 1910, Hang::Standstill);
        pulse.enter(at(1905), false);
        pulse.hear(at(9000));
        check(&pulse, 9015, Hang::Silence);
        pulse.enter(at(9010), true);
        check(&pulse, 9015, Hang::Silence);
        pulse.hear(at(9060));
        check(&pulse, 9070, Hang::Standstill);
    }
}
