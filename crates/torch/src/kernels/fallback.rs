//! The kernels' mathematics in ATen operations.

use tch::{Tensor, no_grad};

use super::{Rotation, accumulation_kind};
use crate::Result;

fn wide(tensor: &Tensor) -> Tensor {
    tensor.to_kind(accumulation_kind(tensor.kind()))
}

pub(super) fn rms_norm(x: &Tensor, weight: &Tensor, epsilon: f64) -> Result<(Tensor, Tensor)> {
    no_grad(|| {
        let wide_x = wide(x);
        let rstd = (wide_x.square().mean_dim([-1i64].as_slice(), true, None) + epsilon).rsqrt();
        let y = (wide_x * &rstd).to_kind(x.kind()) * weight;
        Ok((y, rstd.squeeze_dim(-1)))
    })
}

pub(super) fn rms_norm_backward(
    dy: &Tensor,
    x: &Tensor,
    weight: &Tensor,
    rstd: &Tensor,
    residual: &Tensor,
    weight_gradient: Option<&Tensor>,
) -> Result<()> {
    no_grad(|| {
        let (dy, rstd) = (wide(dy), rstd.unsqueeze(-1));
        let normal = wide(x) * &rstd;
        if let Some(gradient) = weight_gradient {
            let _ = gradient.shallow_clone().g_add_(&(&dy * &normal).sum_dim_intlist([0i64].as_slice(), false, None));
        }
        let scaled = dy * wide(weight);
        let along = (&scaled * &normal).mean_dim([-1i64].as_slice(), true, None);
        let _ = residual.shallow_clone().g_add_(&((scaled - normal * along) * rstd));
        Ok(())
    })
}

pub(super) fn rotate(source: &Tensor, target: &Tensor, offset: i64, rotation: &Rotation) -> Result<()> {
    no_grad(|| {
        let (batch, positions, heads, width) = source.size4()?;
        let angles = |table: &Tensor| {
            table.index_select(0, &rotation.positions.reshape([-1])).view([batch, positions, 1, width / 2])
        };
        let (cosine, sine) = (angles(rotation.cosine), angles(rotation.sine));
        let sine = if rotation.inverse { -sine } else { sine };
        let halves = wide(source).chunk(2, -1);
        let first = &halves[0] * &cosine - &halves[1] * &sine;
        let second = &halves[1] * &cosine + &halves[0] * &sine;
        let turned = Tensor::cat(&[first, second], -1).to_kind(target.kind());
        let turned = turned.reshape([batch * positions, heads * width]);
        target.narrow(1, offset, heads * width).copy_(&turned);
        Ok(())
    })
}

pub(super) fn swiglu(gate_up: &Tensor) -> Result<Tensor> {
    no_grad(|| {
        let halves = gate_up.chunk(2, -1);
        Ok((wide(&halves[0]).silu() * wide(&halves[1])).to_kind(gate_up.kind()))
    })
}

pub(super) fn swiglu_backward(d_out: &Tensor, gate_up: &Tensor) -> Result<()> {
    no_grad(|| {
        let halves = gate_up.chunk(2, -1);
        let (gate, up, d) = (wide(&halves[0]), wide(&halves[1]), wide(d_out));
        let sigmoid = gate.sigmoid();
        let silu = &gate * &sigmoid;
        let d_gate = &d * up * (&sigmoid + &silu * (1.0 - &sigmoid));
        halves[0].shallow_clone().copy_(&d_gate);
        halves[1].shallow_clone().copy_(&(d * silu));
        Ok(())
    })
}

pub(super) fn cross_entropy(logits: &Tensor, labels: &Tensor, scale: Option<f64>) -> Result<Tensor> {
    no_grad(|| {
        let labels = labels.unsqueeze(-1);
        let mut log_probabilities = logits.log_softmax(-1, accumulation_kind(logits.kind()));
        let losses = -log_probabilities.gather(-1, &labels, false).squeeze_dim(-1);
        if let Some(scale) = scale {
            let mut gradient = log_probabilities.exp_();
            let minus_one = Tensor::full_like(&labels, -1.0).to_kind(gradient.kind());
            let mut gradient = gradient.scatter_add_(-1, &labels, &minus_one);
            logits.shallow_clone().copy_(&gradient.g_mul_scalar_(scale));
        }
        Ok(losses)
    })
}

pub(super) fn embedding_backward(gradient: &Tensor, ids: &Tensor, d: &Tensor, skipped: i64) -> Result<()> {
    no_grad(|| {
        let vocabulary = gradient.size2()?.0;
        let d = d.to_kind(gradient.kind());
        let dense = Tensor::embedding_dense_backward(&d, &ids.reshape([-1]), vocabulary, skipped, false);
        let _ = gradient.shallow_clone().g_add_(&dense);
        Ok(())
    })
}
