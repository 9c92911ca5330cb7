//! Keys and values of the ids so far, so that a further id costs one row of each product.

use tch::{Kind, Tensor, no_grad};

use crate::Result;
use crate::attention::turn;
use crate::decoder::Decoder;
use crate::forward::Turns;
use crate::layer::mlp;
use crate::weights::{LayerWeights, Weights};
use palimpsest_torch::rms_norm;

/// Room for keys and values grows by this many positions at least.
const GROWTH: i64 = 256;

pub(super) struct Cache<'a> {
    decoder: &'a Decoder,
    weights: Weights,
    compute: Kind,
    /// Keys and values of each layer, [1, key heads, room, width].
    layers: Vec<(Tensor, Tensor)>,
    length: i64,
    room: i64,
}

impl<'a> Cache<'a> {
    pub(super) fn new(decoder: &'a Decoder, compute: Kind) -> Self {
        let weights = Weights::of(decoder, compute);
        Self { decoder, weights, compute, layers: Vec::new(), length: 0, room: 0 }
    }

    /// Positions so far.
    pub(super) fn length(&self) -> i64 {
        self.length
    }

    /// Takes up further ids; the logits after the last of them, [vocabulary].
    pub(super) fn extend(&mut self, ids: &[u32]) -> Result<Tensor> {
        no_grad(|| {
            let config = &self.decoder.config;
            let (device, count) = (self.decoder.device(), ids.len() as i64);
            self.make_room(count)?;
            let ids: Vec<i64> = ids.iter().map(|id| i64::from(*id)).collect();
            let end = self.length + count;
            let turns = Turns {
                angles: self.decoder.angles.angles(config, end, self.compute, device),
                positions: Tensor::f_arange_start(self.length, end, (Kind::Int64, device))?,
            };
            let mut x = self.decoder.embed(&Tensor::from_slice(&ids).to_device(device), &self.weights.embedding)?;
            for (index, layer) in self.weights.layers.iter().enumerate() {
                x = self.layer(&x, layer, index, &turns)?;
            }
            self.length = end;
            let (hidden, _) = rms_norm(&x.f_narrow(0, count - 1, 1)?, &self.weights.norm, config.rms_norm_eps)?;
            Ok(hidden.f_mm(&self.weights.head.f_tr()?)?.f_view([-1])?)
        })
    }

    fn layer(&self, x: &Tensor, weights: &LayerWeights, index: usize, turns: &Turns) -> Result<Tensor> {
        let heads = self.decoder.config.heads();
        let epsilon = self.decoder.config.rms_norm_eps;
        let count = x.size2()?.0;
        let (normed, _) = rms_norm(x, &weights.input_norm, epsilon)?;
        let columns = weights.query_key_value.apply(&normed)?;
        turn(&columns, heads, &turns.rotation())?;
        let all = columns.f_view([1, count, heads.queries + 2 * heads.keys, heads.width])?.f_transpose(1, 2)?;
        let query = all.f_narrow(1, 0, heads.queries)?;
        let end = self.length + count;
        let (keys, values) = &self.layers[index];
        keys.f_narrow(2, self.length, count)?.f_copy_(&all.f_narrow(1, heads.queries, heads.keys)?)?;
        values.f_narrow(2, self.length, count)?.f_copy_(&all.f_narrow(1, heads.queries + heads.keys, heads.keys)?)?;
        let key = repeat(&keys.f_narrow(2, 0, end)?, heads.group())?;
        let value = repeat(&values.f_narrow(2, 0, end)?, heads.group())?;
        // The mask's corner is where the first query stands; one query alone sees everything.
        let mask = (count > 1 && self.length > 0).then(|| self.mask(count, end, query.kind()));
        let is_causal = count > 1 && self.length == 0;
        let attended =
            Tensor::f_scaled_dot_product_attention(&query, &key, &value, mask.as_ref(), 0.0, is_causal, None, false)?;
        let attended = attended.f_transpose(1, 2)?.f_reshape([count, heads.queries * heads.width])?;
        let middle = weights.output.apply_onto(x, &attended)?;
        mlp(&middle, weights, epsilon)
    }

    /// 0 where a query may look, minus infinity where not, [count, end].
    fn mask(&self, count: i64, end: i64, kind: Kind) -> Tensor {
        let all = Tensor::full([count, end], f64::NEG_INFINITY, (kind, self.decoder.device()));
        all.triu(self.length + 1)
    }

    fn make_room(&mut self, count: i64) -> Result<()> {
        let needed = self.length + count;
        if needed <= self.room {
            return Ok(());
        }
        let config = &self.decoder.config;
        let room = needed.max(2 * self.room).max(GROWTH);
        let shape = [1, config.num_key_value_heads, room, config.head_dim];
        let mut layers = Vec::with_capacity(self.weights.layers.len());
        for index in 0..self.weights.layers.len() {
            let make = || Tensor::f_zeros(shape, (self.compute, self.decoder.device()));
            let (keys, values) = (make()?, make()?);
            if let Some((old_keys, old_values)) = self.layers.get(index) {
                keys.f_narrow(2, 0, self.room)?.f_copy_(old_keys)?;
                values.f_narrow(2, 0, self.room)?.f_copy_(old_values)?;
            }
            layers.push((keys, values));
        }
        self.layers = layers;
        self.room = room;
        Ok(())
    }
}

/// Each head `group` times in a row: [count, heads, length, width] to [count, heads * group, length, width].
fn repeat(heads: &Tensor, group: i64) -> Result<Tensor> {
    if group == 1 {
        return Ok(heads.shallow_clone());
    }
    let (count, keys, length, width) = heads.size4()?;
    let expanded = heads.f_unsqueeze(2)?.f_expand([count, keys, group, length, width], false)?;
    Ok(expanded.f_reshape([count, keys * group, length, width])?)
}
