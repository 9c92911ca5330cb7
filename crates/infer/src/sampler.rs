//! Draws a token from logits.
//!
//! In the order of transformers' `generate`: what a format allows, biases and penalties, then temperature, top-k, top-p, min-p. What the filters leave is drawn
//! from with a stream of the request's own, so that what else is computed changes nothing.

use std::collections::{BTreeMap, HashMap};

use palimpsest_random::Stream;

use crate::constraint::Allowed;
use crate::error::{Error, Result};
use crate::logprobs::most;

/// Up to so many likeliest tokens are found in one look at all, without a list of them.
const FEW: usize = 256;

/// How a request's tokens are drawn.
#[derive(Clone, Debug, PartialEq)]
pub struct Sampling {
    /// Divides the logits; 0 takes the likeliest token each time.
    pub temperature: f64,
    /// Draws among this many likeliest tokens (and those as likely as the last of them); 0: among all.
    pub top_k: usize,
    /// Draws among the fewest likeliest tokens whose probabilities sum to this; 1: among all.
    pub top_p: f64,
    /// Leaves out tokens that are less than this times as likely as the likeliest; 0: none.
    pub min_p: f64,
    /// Divides positive logits of tokens that have come, in the prompt or since, and multiplies negative ones; 1: neither
    /// (<https://arxiv.org/abs/1909.05858>).
    pub repetition_penalty: f64,
    /// Taken off a token's logit for each time that it has come since the prompt.
    pub frequency_penalty: f64,
    /// Taken off the logit of a token that has come since the prompt.
    pub presence_penalty: f64,
    /// Added to logits.
    pub logit_bias: BTreeMap<u32, f64>,
    /// The seed of the draws.
    pub seed: u64,
}

impl Default for Sampling {
    fn default() -> Self {
        Self {
            temperature: 1.0,
            top_k: 0,
            top_p: 1.0,
            min_p: 0.0,
            repetition_penalty: 1.0,
            frequency_penalty: 0.0,
            presence_penalty: 0.0,
            logit_bias: BTreeMap::new(),
            seed: 0,
        }
    }
}

impl Sampling {
    /// Says which setting is out of its bounds.
    pub fn check(&self) -> Result<()> {
        let refuse =
            |field: &'static str, value: f64, bounds: &'static str| Err(Error::Setting { field, value, bounds });
        let is_within = |value: f64, least: f64, most: f64| value >= least && value <= most;
        if !is_within(self.temperature, 0.0, f64::MAX) {
            return refuse("temperature", self.temperature, "0 or more");
        }
        if !(self.top_p > 0.0 && self.top_p <= 1.0) {
            return refuse("top_p", self.top_p, "above 0 and at most 1");
        }
        if !is_within(self.min_p, 0.0, 1.0) {
            return refuse("min_p", self.min_p, "from 0 to 1");
        }
        if !(self.repetition_penalty > 0.0 && self.repetition_penalty.is_finite()) {
            return refuse("repetition_penalty", self.repetition_penalty, "above 0");
        }
        for (field, value) in
            [("frequency_penalty", self.frequency_penalty), ("presence_penalty", self.presence_penalty)]
        {
            if !is_within(value, -2.0, 2.0) {
                return refuse(field, value, "from -2 to 2");
            }
        }
        match self.logit_bias.values().find(|bias| !is_within(**bias, -100.0, 100.0)) {
            Some(bias) => refuse("logit_bias", *bias, "from -100 to 100"),
            None => Ok(()),
        }
    }

    /// Whether no filter leaves out any of so many tokens.
    fn leaves_all(&self, tokens: usize) -> bool {
        !(1..tokens).contains(&self.top_k) && self.top_p >= 1.0 && self.min_p == 0.0
    }

    fn changes_logits(&self) -> bool {
        self.repetition_penalty != 1.0
            || self.frequency_penalty != 0.0
            || self.presence_penalty != 0.0
            || !self.logit_bias.is_empty()
    }
}

/// Room to work in, which all requests share, as one is drawn after the other.
#[derive(Debug, Default)]
pub struct Scratch {
    logits: Vec<f32>,
    candidates: Vec<(u32, f32)>,
    weights: Vec<f64>,
}

/// Draws the tokens of one request.
#[derive(Debug)]
pub struct Sampler {
    sampling: Sampling,
    stream: Stream,
    /// How often each token has come since the prompt; 0 for those of the prompt alone.
    counts: HashMap<u32, u32>,
}

impl Sampler {
    /// For a request that begins with `prompt`.
    pub fn new(sampling: Sampling, prompt: &[u32]) -> Self {
        let stream = Stream::new(sampling.seed, "sample", &[]);
        // Only penalties ask what has come.
        let known: &[u32] = if sampling.changes_logits() { prompt } else { &[] };
        let counts = known.iter().map(|token| (*token, 0)).collect();
        Self { sampling, stream, counts }
    }

    /// The next token, by the logits of all; an error where they are no numbers.
    pub fn draw(&mut self, logits: &[f32], scratch: &mut Scratch) -> Result<u32> {
        self.draw_among(logits, None, scratch)
    }

    /// The next token of those that are allowed, before all else: what isn't has no part in penalties and filters.
    pub(crate) fn draw_among(
        &mut self,
        logits: &[f32],
        allowed: Option<&Allowed>,
        scratch: &mut Scratch,
    ) -> Result<u32> {
        if allowed.is_none() && !self.sampling.changes_logits() {
            return self.draw_from(logits, scratch);
        }
        let mut changed = std::mem::take(&mut scratch.logits);
        changed.clear();
        changed.extend_from_slice(logits);
        if let Some(allowed) = allowed {
            // What is no number is an error wherever it is.
            likeliest(logits).ok_or(Error::NoNumbers)?;
            allowed.restrict(&mut changed);
        }
        self.change(&mut changed);
        let token = self.draw_from(&changed, scratch);
        scratch.logits = changed;
        let token = token?;
        *self.counts.entry(token).or_default() += 1;
        Ok(token)
    }

    fn draw_from(&mut self, logits: &[f32], scratch: &mut Scratch) -> Result<u32> {
        let (token, largest) = likeliest(logits).ok_or(Error::NoNumbers)?;
        if self.sampling.temperature == 0.0 {
            return Ok(token);
        }
        let unit = self.stream.unit();
        if self.sampling.leaves_all(logits.len()) {
            let Scratch { weights, .. } = scratch;
            weights.clear();
            weights.extend(logits.iter().map(|logit| weight(*logit, largest, &self.sampling)));
            return Ok(pick(weights, unit).map_or(token, |index| index as u32));
        }
        filter(logits, largest, &self.sampling, scratch);
        Ok(pick(&scratch.weights, unit).map_or(token, |index| scratch.candidates[index].0))
    }

    /// Biases and penalties.
    fn change(&self, logits: &mut [f32]) {
        let Sampling { repetition_penalty, frequency_penalty, presence_penalty, logit_bias, .. } = &self.sampling;
        for (token, bias) in logit_bias {
            if let Some(logit) = logits.get_mut(*token as usize) {
                *logit = (f64::from(*logit) + bias) as f32;
            }
        }
        for (token, count) in &self.counts {
            let Some(place) = logits.get_mut(*token as usize) else { continue };
            let mut logit = f64::from(*place);
            logit = if logit < 0.0 { logit * repetition_penalty } else { logit / repetition_penalty };
            logit -= frequency_penalty * f64::from(*count);
            if *count > 0 {
                logit -= presence_penalty;
            }
            *place = logit as f32;
        }
    }
}

/// The first of the largest logits, and its logit; none where one of them is no number, or all are minus infinity.
pub(crate) fn likeliest(logits: &[f32]) -> Option<(u32, f32)> {
    // Lanes of their own, so that the compiler can have several go at once.
    const LANES: usize = 16;
    let mut most = [f32::NEG_INFINITY; LANES];
    let mut sums = [0.0f32; LANES];
    let chunks = logits.chunks_exact(LANES);
    for (lane, logit) in chunks.remainder().iter().enumerate() {
        most[lane] = most[lane].max(*logit);
        sums[lane] += logit * 0.0;
    }
    for chunk in chunks {
        for lane in 0..LANES {
            most[lane] = most[lane].max(chunk[lane]);
            // NaN for a NaN, and for an infinity.
            sums[lane] += chunk[lane] * 0.0;
        }
    }
    let largest = most.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let is_damaged = sums.iter().any(|sum| sum.is_nan()) && logits.iter().any(|logit| logit.is_nan());
    if is_damaged || !largest.is_finite() {
        return None;
    }
    let first = logits.iter().position(|logit| *logit == largest)?;
    Some((first as u32, largest))
}

/// What a logit's probability is in proportion to: 1 for the largest.
fn weight(logit: f32, largest: f32, sampling: &Sampling) -> f64 {
    ((f64::from(logit) - f64::from(largest)) / sampling.temperature).exp()
}

/// The one of the weights at which `unit` of their sum is reached; never one that is 0, whatever the sum was rounded to.
fn pick(weights: &[f64], unit: f64) -> Option<usize> {
    let mut left = unit * weights.iter().sum::<f64>();
    let mut picked = None;
    for (index, weight) in weights.iter().enumerate() {
        if *weight > 0.0 {
            picked = Some(index);
            left -= weight;
            if left < 0.0 {
                break;
            }
        }
    }
    picked
}

/// Leaves in `scratch` the tokens that the filters leave, by token, and their weights, which are in proportion to their probabilities.
fn filter(logits: &[f32], largest: f32, sampling: &Sampling, scratch: &mut Scratch) {
    let Scratch { candidates, weights, .. } = scratch;
    let descending = |left: &(u32, f32), right: &(u32, f32)| right.1.total_cmp(&left.1);
    let all = logits.iter().enumerate().map(|(token, logit)| (token as u32, *logit));
    let is_top_k = (1..logits.len()).contains(&sampling.top_k);
    candidates.clear();
    if is_top_k && sampling.top_k <= FEW {
        let least = most(logits, sampling.top_k).last().map_or(f32::NEG_INFINITY, |(_, least)| *least);
        candidates.extend(all.filter(|(_, logit)| *logit >= least));
    } else {
        candidates.extend(all);
    }
    if is_top_k && sampling.top_k > FEW {
        let (_, (_, least), _) = candidates.select_nth_unstable_by(sampling.top_k - 1, descending);
        let least = *least;
        candidates.retain(|(_, logit)| *logit >= least);
    }
    let weight = |logit: f32| weight(logit, largest, sampling);
    if sampling.top_p < 1.0 {
        keep_top_p(candidates, sampling.top_p, weight, descending);
    }
    if sampling.min_p > 0.0 {
        // The likeliest has weight 1.
        candidates.retain(|(_, logit)| weight(*logit) >= sampling.min_p);
    }
    candidates.sort_unstable_by_key(|(token, _)| *token);
    weights.clear();
    weights.extend(candidates.iter().map(|(_, logit)| weight(*logit)));
}

/// Keeps the likeliest until they sum to `top_p`, the one that reaches it included.
fn keep_top_p(
    candidates: &mut Vec<(u32, f32)>,
    top_p: f64,
    weight: impl Fn(f32) -> f64,
    descending: impl Fn(&(u32, f32), &(u32, f32)) -> std::cmp::Ordering,
) {
    let wanted = top_p * candidates.iter().map(|(_, logit)| weight(*logit)).sum::<f64>();
    // Sorts no more of them than it must.
    let mut sorted = 256;
    loop {
        if sorted < candidates.len() {
            candidates.select_nth_unstable_by(sorted, &descending);
        }
        let end = sorted.min(candidates.len());
        candidates[..end].sort_unstable_by(&descending);
        let mut before = 0.0;
        let kept = candidates[..end].iter().take_while(|(_, logit)| {
            let is_kept = before < wanted;
            before += weight(*logit);
            is_kept
        });
        let kept = kept.count();
        if kept < end || end == candidates.len() {
            candidates.truncate(kept.max(1));
            return;
        }
        sorted *= 8;
    }
}

#[cfg(test)]
mod tests;
