//! The log-probability of a token, and of the likeliest in its place.

use crate::error::{Error, Result};
use crate::sampler::likeliest;

/// The log-probability of a token, and of the likeliest in its place: the log-softmax of the model's logits, before penalties, temperature and
/// filters.
#[derive(Clone, Debug, PartialEq)]
pub struct Logprobs {
    /// The token.
    pub token: u32,
    /// Its log-probability, in nats.
    pub logprob: f64,
    /// The likeliest tokens and their log-probabilities, likeliest first; of equals the lower first.
    pub likeliest: Vec<(u32, f64)>,
}

impl Logprobs {
    /// Those of `token` by the logits of all, and of `count` likeliest; an error where they are no numbers.
    pub(crate) fn of(logits: &[f32], token: u32, count: usize) -> Result<Self> {
        let (_, largest) = likeliest(logits).ok_or(Error::NoNumbers)?;
        let logit = *logits.get(token as usize).ok_or(Error::NoNumbers)?;
        // Less the largest first: it is 0 then, and no exponential of the others is above 1.
        let above = |logit: f32| f64::from(logit) - f64::from(largest);
        let total: f64 = logits.iter().map(|logit| above(*logit).exp()).sum();
        let log_total = total.ln();
        let logprob = |logit: f32| above(logit) - log_total;
        let likeliest = most(logits, count).into_iter().map(|(token, logit)| (token, logprob(logit))).collect();
        Ok(Self { token, logprob: logprob(logit), likeliest })
    }
}

/// So many of the largest, in descending order; of equals the first.
pub(crate) fn most(logits: &[f32], count: usize) -> Vec<(u32, f32)> {
    let mut kept: Vec<(u32, f32)> = Vec::with_capacity(count.min(logits.len()) + 1);
    if count == 0 {
        return kept;
    }
    for (token, logit) in logits.iter().enumerate() {
        if kept.len() == count && kept.last().is_some_and(|(_, least)| logit <= least) {
            continue;
        }
        // The lower token came before, and stays before its equals.
        let place = kept.partition_point(|(_, other)| other >= logit);
        kept.insert(place, (token as u32, *logit));
        kept.truncate(count);
    }
    kept
}

#[cfg(test)]
mod tests {
    use palimpsest_random::Stream;

    use super::*;

    #[test]
    fn the_likeliest_come_first_and_of_equals_the_lower() {
        let logits = [1.0f32, 3.0, -2.0, 3.0, 1.0, f32::NEG_INFINITY];
        let total: f64 = logits.iter().map(|logit| f64::from(*logit).exp()).sum();
        let found = Logprobs::of(&logits, 2, 4).unwrap();
        assert!((found.logprob - (-2.0 - total.ln())).abs() < 1e-12, "{found:?}");
        let order: Vec<u32> = found.likeliest.iter().map(|(token, _)| *token).collect();
        assert_eq!(order, [1, 3, 0, 4]);
        assert!((found.likeliest[0].1 - (3.0 - total.ln())).abs() < 1e-12);
        assert_eq!(found.likeliest[0].1, found.likeliest[1].1);
        assert!(Logprobs::of(&logits, 0, 0).unwrap().likeliest.is_empty());
        // As many as there are, and no more.
        assert_eq!(Logprobs::of(&logits, 0, 9).unwrap().likeliest.len(), 6);
        assert_eq!(Logprobs::of(&logits, 5, 0).unwrap().logprob, f64::NEG_INFINITY);
    }

    #[test]
    fn they_are_those_of_a_sort_whatever_the_logits() {
        for seed in 0..200 {
            let mut random = Stream::new(seed, "logprobs", &[]);
            // Few values, so that many are equal; and large ones, whose exponentials no float holds.
            let logits: Vec<f32> = (0..1 + random.below(300)).map(|_| random.below(40) as f32 * 50.0 - 900.0).collect();
            let count = random.below(20) as usize;
            let token = random.below(logits.len() as u64) as u32;
            let found = Logprobs::of(&logits, token, count).unwrap();
            let mut sorted: Vec<u32> = (0..logits.len() as u32).collect();
            sorted.sort_by(|one, other| logits[*other as usize].total_cmp(&logits[*one as usize]));
            let order: Vec<u32> = found.likeliest.iter().map(|(token, _)| *token).collect();
            assert_eq!(order, sorted[..count.min(logits.len())], "seed {seed}");
            let all = Logprobs::of(&logits, token, logits.len()).unwrap();
            let sum: f64 = all.likeliest.iter().map(|(_, logprob)| logprob.exp()).sum();
            assert!((sum - 1.0).abs() < 1e-12, "seed {seed}: {sum}");
            let own = all.likeliest.iter().find(|(other, _)| *other == token).unwrap().1;
            assert_eq!(found.logprob, own, "seed {seed}");
        }
    }

    #[test]
    fn what_is_no_number_has_none() {
        for damage in [f32::NAN, f32::INFINITY] {
            assert_eq!(Logprobs::of(&[0.0, damage, 1.0], 0, 1), Err(Error::NoNumbers));
        }
        assert_eq!(Logprobs::of(&[], 0, 1), Err(Error::NoNumbers));
    }
}
