//! The same by libtorch's own operators, sequence by sequence, where the kernel does not run.

use tch::{Device, Kind, Tensor};

use super::{BLOCK_POSITIONS, CachedLayer, CachedSpan, zeros};
use crate::Result;
use crate::attention::AttentionHeads;

pub(super) fn layer(blocks: i64, heads: AttentionHeads, options: (Kind, Device)) -> Result<CachedLayer> {
    let shape = [blocks * BLOCK_POSITIONS, heads.keys, heads.width];
    Ok(CachedLayer { keys: zeros(&shape, options)?, values: zeros(&shape, options)?, is_ours: false })
}

pub(super) fn cached_attention(
    query_key_value: &Tensor,
    cache: &CachedLayer,
    spans: &[CachedSpan<'_>],
    heads: AttentionHeads,
) -> Result<Tensor> {
    let AttentionHeads { queries, keys, width } = heads;
    let device = query_key_value.device();
    let all = query_key_value.f_view([-1, queries + 2 * keys, width])?;
    let mut outputs = Vec::with_capacity(spans.len());
    let mut first = 0;
    for span in spans {
        let end = span.position + span.tokens;
        let blocks = span.blocks.iter().map(|block| i64::from(*block) * BLOCK_POSITIONS);
        let places: Vec<i64> = blocks.flat_map(|first| first..first + BLOCK_POSITIONS).take(end as usize).collect();
        let places = Tensor::f_from_slice(&places)?.f_to(device)?;
        let new = places.f_narrow(0, span.position, span.tokens)?;
        let rows = all.f_narrow(0, first, span.tokens)?;
        let _ = cache.keys.shallow_clone().f_index_copy_(0, &new, &rows.f_narrow(1, queries, keys)?)?;
        let _ = cache.values.shallow_clone().f_index_copy_(0, &new, &rows.f_narrow(1, queries + keys, keys)?)?;
        let query = rows.f_narrow(1, 0, queries)?.f_unsqueeze(0)?.f_transpose(1, 2)?;
        let key = cache.keys.f_index_select(0, &places)?.f_unsqueeze(0)?.f_transpose(1, 2)?;
        let value = cache.values.f_index_select(0, &places)?.f_unsqueeze(0)?.f_transpose(1, 2)?;
        // The mask's corner is where the first query stands; one query alone sees everything.
        let mask = match span.tokens {
            1 => None,
            tokens => {
                let hidden = Tensor::f_full([tokens, end], f64::NEG_INFINITY, (query.kind(), device))?;
                Some(hidden.f_triu(span.position + 1)?)
            }
        };
        let is_grouped = queries != keys;
        let output =
            Tensor::f_scaled_dot_product_attention(&query, &key, &value, mask.as_ref(), 0.0, false, None, is_grouped)?;
        outputs.push(output.f_transpose(1, 2)?.f_reshape([span.tokens, queries * width])?);
        first += span.tokens;
    }
    Ok(Tensor::f_cat(&outputs, 0)?)
}
