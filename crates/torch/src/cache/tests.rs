//! Attention over a cache against PyTorch's over whole sequences in float64.

use tch::{Device, Kind, Tensor};

use super::{BLOCK_POSITIONS, CachedLayer, CachedSpan, cached_attention, fallback};
use crate::attention::AttentionHeads;

/// What PyTorch says of a whole sequence, [tokens, queries * width].
fn expected(columns: &Tensor, heads: AttentionHeads) -> Tensor {
    let AttentionHeads { queries, keys, width } = heads;
    let length = columns.size()[0];
    let all = columns.to_kind(Kind::Double).view([1, length, queries + 2 * keys, width]).transpose(1, 2);
    let (query, key) = (all.narrow(1, 0, queries), all.narrow(1, queries, keys));
    let value = all.narrow(1, queries + keys, keys);
    let output = Tensor::scaled_dot_product_attention(&query, &key, &value, None::<&Tensor>, 0.0, true, None, true);
    output.transpose(1, 2).reshape([length, queries * width])
}

type Make = fn(i64, AttentionHeads, (Kind, Device)) -> crate::Result<CachedLayer>;

/// These sequences computed in steps of at most `step` tokens of each, their blocks scattered over the cache.
fn in_steps(all: &[Tensor], step: i64, heads: AttentionHeads, make: Make) -> Vec<Tensor> {
    let blocks_of = |tensor: &Tensor| (tensor.size()[0] as usize).div_ceil(BLOCK_POSITIONS as usize);
    let total: usize = all.iter().map(blocks_of).sum();
    let cache = make(total as i64, heads, (all[0].kind(), Device::Cpu)).unwrap();
    // What a block held before must not matter.
    let _ = cache.keys.shallow_clone().fill_(f64::NAN);
    let _ = cache.values.narrow(-1, 0, heads.width).fill_(f64::NAN);
    let mut numbers: Vec<u32> = (0..total as u32).rev().collect();
    let places: Vec<Vec<u32>> = all.iter().map(|tensor| numbers.split_off(numbers.len() - blocks_of(tensor))).collect();
    let mut outputs: Vec<Vec<Tensor>> = all.iter().map(|_| Vec::new()).collect();
    let mut done = 0;
    while all.iter().any(|tensor| tensor.size()[0] > done) {
        let part = |tensor: &Tensor| (tensor.size()[0] - done).clamp(0, step);
        let present: Vec<usize> = (0..all.len()).filter(|index| part(&all[*index]) > 0).collect();
        let rows: Vec<Tensor> = present.iter().map(|index| all[*index].narrow(0, done, part(&all[*index]))).collect();
        let spans: Vec<CachedSpan> = present
            .iter()
            .map(|index| {
                let tokens = part(&all[*index]);
                let blocks = &places[*index][..((done + tokens) as usize).div_ceil(BLOCK_POSITIONS as usize)];
                CachedSpan { position: done, tokens, blocks }
            })
            .collect();
        let output = cached_attention(&Tensor::cat(&rows, 0), &cache, &spans, heads).unwrap();
        let mut first = 0;
        for (index, span) in present.iter().zip(&spans) {
            outputs[*index].push(output.narrow(0, first, span.tokens));
            first += span.tokens;
        }
        done += step;
    }
    outputs.iter().map(|parts| Tensor::cat(parts, 0)).collect()
}

#[test]
fn output_is_pytorchs_however_it_is_divided() {
    let cases: [(&[i64], [i64; 3]); 5] = [
        (&[1], [1, 1, 1]),
        (&[3, 1, 70], [2, 2, 8]),
        (&[256, 7, 33, 32], [4, 2, 32]),
        (&[300, 513], [9, 3, 64]),
        (&[65, 64], [6, 2, 80]),
    ];
    for (lengths, [queries, keys, width]) in cases {
        let heads = AttentionHeads { queries, keys, width };
        for (kind, tolerance) in [(Kind::Float, 5e-6), (Kind::Double, 1e-12), (Kind::BFloat16, 2e-2)] {
            let make = |length: &i64| {
                (Tensor::randn([*length, heads.columns()], (Kind::Double, Device::Cpu)) * 2.0).to_kind(kind)
            };
            let all: Vec<Tensor> = lengths.iter().map(make).collect();
            let whole = in_steps(&all, i64::MAX, heads, CachedLayer::new);
            let by_libtorch = in_steps(&all, 33, heads, fallback::layer);
            for (columns, ours) in all.iter().chain(&all).zip(whole.iter().chain(&by_libtorch)) {
                let theirs = expected(columns, heads);
                let difference = (ours.to_kind(Kind::Double) - &theirs).abs().max() / theirs.abs().max();
                let difference = f64::try_from(difference).unwrap();
                assert!(difference <= tolerance, "{kind:?} {lengths:?} {heads:?} differs by {difference:e}");
            }
            for step in [1, 5, 100] {
                let divided = in_steps(&all, step, heads, CachedLayer::new);
                let is_same = whole.iter().zip(&divided).all(|(one, other)| one.equal(other));
                assert!(is_same, "{kind:?} {lengths:?} {heads:?} in steps of {step}");
            }
            let alone = in_steps(&all[..1], i64::MAX, heads, CachedLayer::new);
            assert!(alone[0].equal(&whole[0]), "{kind:?} {lengths:?} {heads:?} alone");
        }
    }
}

#[test]
fn a_block_that_is_none_is_refused() {
    let heads = AttentionHeads { queries: 2, keys: 1, width: 8 };
    let cache = CachedLayer::new(2, heads, (Kind::Float, Device::Cpu)).unwrap();
    let columns = Tensor::randn([3, heads.columns()], (Kind::Float, Device::Cpu));
    let refused = |position: i64, blocks: &[u32], problem: &str| {
        let spans = [CachedSpan { position, tokens: 3, blocks }];
        let error = cached_attention(&columns, &cache, &spans, heads).unwrap_err().to_string();
        assert!(error.contains(problem), "{error}");
    };
    refused(0, &[2], "block 2 is none of 2");
    refused(0, &[u32::MAX], "block -1 is none of 2");
    refused(30, &[0], "from position 30 on has 1 blocks");
    refused(0, &[], "has 0 blocks");
}
