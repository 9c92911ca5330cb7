//! The schema's constant defaults: what a person would choose.

use super::{NoDecay, When};
use crate::Decimal;

pub(super) fn seed() -> u64 {
    42
}

pub(super) fn managed_by() -> String {
    "palimpsest.dev/operator".to_owned()
}

pub(super) fn sequence_length() -> u32 {
    4096
}

pub(super) fn text_field() -> String {
    "target".to_owned()
}

pub(super) fn prompt_field() -> String {
    "source".to_owned()
}

pub(super) fn category_field() -> String {
    "category".to_owned()
}

pub(super) fn buckets() -> u32 {
    10
}

pub(super) fn max_repeats() -> u32 {
    4
}

pub(super) fn batch_sequences() -> u32 {
    512
}

pub(super) fn micro_batch() -> u32 {
    8
}

pub(super) fn learning_rate() -> Decimal {
    Decimal::constant("1e-4")
}

pub(super) fn betas() -> [Decimal; 2] {
    [Decimal::constant("0.9"), Decimal::constant("0.95")]
}

pub(super) fn epsilon() -> Decimal {
    Decimal::constant("1e-8")
}

pub(super) fn weight_decay() -> Decimal {
    Decimal::constant("0.1")
}

pub(super) fn no_decay() -> Vec<NoDecay> {
    vec![NoDecay::Norms]
}

pub(super) fn clip_norm() -> Decimal {
    Decimal::constant("1.0")
}

pub(super) fn minimum_ratio() -> Decimal {
    Decimal::constant("0.1")
}

pub(super) fn loss_sigma() -> Decimal {
    Decimal::constant("6")
}

pub(super) fn spike_window() -> u32 {
    128
}

pub(super) fn keep() -> u32 {
    3
}

pub(super) fn termination_seconds() -> u64 {
    120
}

pub(super) fn when() -> Vec<When> {
    vec![When::JobStart, When::StageEnd]
}

pub(super) fn replicas() -> u32 {
    1
}

pub(super) fn backoff_limit() -> u32 {
    10
}

pub(super) fn start_timeout_seconds() -> u64 {
    1800
}
