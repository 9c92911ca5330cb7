//! Steps over a cache against whole passes.

use serde_json::json;
use tch::{Device, Kind, Tensor};

use super::{CachedDecoder, NewTokens, Wanted};
use crate::{Batch, Config, Decoder, ForwardOptions};

fn mk_model() -> Decoder {
    let fields = json!({
        "vocab_size": 50, "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4,
        "num_key_value_heads": 2, "max_position_embeddings": 600, "initializer_range": 0.3,
    });
    let config = Config::from_json(fields.as_object().unwrap(), "test").unwrap();
    Decoder::random(&config, 1, Device::Cpu, Kind::Double).unwrap()
}

/// The logits after each token of a whole pass, [tokens, vocabulary].
fn whole(model: &Decoder, ids: &[u32]) -> Tensor {
    let tensor = Tensor::from_slice(&ids.iter().map(|id| i64::from(*id)).collect::<Vec<_>>()).view([1, -1]);
    let options = ForwardOptions { compute: Kind::Double, ..ForwardOptions::default() };
    model.logits(&model.hidden_states(&Batch::of_documents(&tensor), &options).unwrap()).unwrap().get(0)
}

#[track_caller]
fn assert_close(ours: &Tensor, theirs: &Tensor) {
    assert_eq!(ours.size(), theirs.size());
    let difference = (ours - theirs).abs().max().double_value(&[]);
    assert!(difference < 1e-11, "differs by {difference:e}");
}

#[test]
fn steps_of_mixed_sequences_give_what_whole_passes_give() {
    let model = mk_model();
    let cached = CachedDecoder::new(mk_model(), Kind::Double, 12).unwrap();
    let long: Vec<u32> = (0..300).map(|index| (index * 7 + 3) % 50).collect();
    let short: Vec<u32> = (0..40).map(|index| (index * 11 + 5) % 50).collect();
    let (long_whole, short_whole) = (whole(&model, &long), whole(&model, &short));
    let long_blocks = [11, 2, 9, 4, 7, 0, 5, 8, 3, 10];
    let short_blocks = [6, 1];
    let (mut long_end, mut short_end) = (0, 0);
    // Pieces of a prompt beside single tokens, over the bounds of blocks.
    for (of_long, of_short) in [(5, 1), (1, 30), (58, 1), (1, 1), (200, 4), (34, 2), (1, 1)] {
        let sequences = [
            NewTokens {
                ids: &long[long_end..long_end + of_long],
                position: long_end,
                blocks: &long_blocks[..(long_end + of_long).div_ceil(32)],
                logits: Wanted::Last,
            },
            NewTokens {
                ids: &short[short_end..short_end + of_short],
                position: short_end,
                blocks: &short_blocks[..(short_end + of_short).div_ceil(32)],
                logits: Wanted::All,
            },
        ];
        let logits = cached.step(&sequences).unwrap();
        long_end += of_long;
        assert_close(&logits.narrow(0, 0, 1), &long_whole.narrow(0, long_end as i64 - 1, 1));
        assert_close(&logits.narrow(0, 1, of_short as i64), &short_whole.narrow(0, short_end as i64, of_short as i64));
        short_end += of_short;
    }
    assert_eq!((long_end, short_end), (300, 40));
}

#[test]
fn logits_that_nobody_wants_are_not_given() {
    let model = mk_model();
    let cached = CachedDecoder::new(mk_model(), Kind::Double, 2).unwrap();
    let first = NewTokens { ids: &[1, 2, 3], position: 0, blocks: &[1], logits: Wanted::None };
    assert_eq!(cached.step(&[first]).unwrap().size(), [0, 50]);
    let other = NewTokens { ids: &[4], position: 0, blocks: &[0], logits: Wanted::None };
    let next = NewTokens { ids: &[4], position: 3, blocks: &[1], logits: Wanted::Last };
    assert_close(&cached.step(&[other, next]).unwrap(), &whole(&model, &[1, 2, 3, 4]).narrow(0, 3, 1));
    assert_eq!(cached.step(&[]).unwrap_err().to_string(), "a step of no tokens");
    assert_eq!(CachedDecoder::block_bytes(&model, Kind::Double), 2 * 2 * 32 * (8 + 32) * 8);
}

#[test]
fn of_a_deterministic_one_a_sequences_logits_are_the_same_bits_whatever_is_computed_with_it() {
    let fields = json!({
        "vocab_size": 1000, "hidden_size": 576, "intermediate_size": 1536, "num_hidden_layers": 2, "num_attention_heads": 9,
        "num_key_value_heads": 3, "max_position_embeddings": 600,
    });
    let config = Config::from_json(fields.as_object().unwrap(), "test").unwrap();
    let model = Decoder::random(&config, 1, Device::Cpu, Kind::Float).unwrap();
    let cached = CachedDecoder::new(model, Kind::Float, 40).unwrap().deterministic();
    let ids: Vec<u32> = (0..100).map(|index| (index * 7 + 3) % 1000).collect();
    let blocks = [0, 1, 2, 3];
    let alone = NewTokens { ids: &ids, position: 0, blocks: &blocks, logits: Wanted::All };
    let expected = cached.step(&[alone]).unwrap();
    let mut end = 0;
    for (count, others) in [(1, 0), (30, 1), (1, 31), (1, 3), (60, 12), (1, 0), (6, 35)] {
        let piece = NewTokens {
            ids: &ids[end..end + count],
            position: end,
            blocks: &blocks[..(end + count).div_ceil(32)],
            logits: Wanted::All,
        };
        let other = |number: u32| (vec![number + 1; 1 + number as usize % 5], [4 + number]);
        let others: Vec<_> = (0..others).map(other).collect();
        // Half of them before it.
        let mut step: Vec<NewTokens<'_>> =
            others.iter().map(|(ids, blocks)| NewTokens { ids, position: 0, blocks, logits: Wanted::Last }).collect();
        let place = step.len() / 2;
        step.insert(place, piece);
        let logits = cached.step(&step).unwrap().narrow(0, place as i64, count as i64);
        assert_eq!(logits, expected.narrow(0, end as i64, count as i64), "{count} tokens from {end}");
        end += count;
    }
    assert_eq!(end, 100);
}

#[test]
fn int8_weights_change_logits_by_what_they_are_rounded_by() {
    let steps = |model: Decoder, is_quantized: bool| {
        let cached = CachedDecoder::new(model, Kind::BFloat16, 1).unwrap();
        let cached = if is_quantized { cached.quantized().unwrap() } else { cached };
        let step = [NewTokens { ids: &[1, 2, 3, 4], position: 0, blocks: &[0], logits: Wanted::All }];
        cached.step(&step).unwrap().to_kind(Kind::Double)
    };
    let exact = whole(&mk_model(), &[1, 2, 3, 4]);
    let error = |logits: &Tensor| ((logits - &exact).norm() / exact.norm()).double_value(&[]);
    let (rounded, quantized) = (error(&steps(mk_model(), false)), error(&steps(mk_model(), true)));
    assert!(rounded < 0.02 && quantized < 0.04 && quantized > rounded, "{rounded} {quantized}");
    let error = CachedDecoder::new(mk_model(), Kind::Double, 1).unwrap().quantized().unwrap_err();
    assert_eq!(error.to_string(), "int8 weights are computed with in BFloat16, not Double");
}
