//! The fused AdamW step, and the norm and scaling that clipping needs.

use std::ptr::null_mut;

use tch::Tensor;

use crate::autograd::same_length;
use crate::ffi::{self, check, raw, raws, take_tensor};
use crate::{Error, Result};

/// The settings of one AdamW step (Loshchilov and Hutter, <https://arxiv.org/abs/1711.05101>).
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct AdamW {
    /// The learning rate of this step.
    pub learning_rate: f64,
    /// Decay rates of the two moments.
    pub betas: (f64, f64),
    /// Added to the root of the second moment.
    pub epsilon: f64,
    /// Decoupled weight decay: each step multiplies the parameters by `1 - learning_rate * weight_decay`.
    pub weight_decay: f64,
}

/// One AdamW step in place, as `torch.optim.AdamW(fused=True)` takes it, on CPU and CUDA.
///
/// The lists run in parallel: parameters, their gradients and the two moments, all of one kind; `steps` holds the f32
/// counts of steps already taken (tensors without dimensions), which this call increments. Gradients are left alone.
pub fn adamw_step<P, G, A, S, N>(
    parameters: &[P],
    gradients: &[G],
    averages: &[A],
    square_averages: &[S],
    steps: &[N],
    settings: AdamW,
) -> Result<()>
where
    P: AsRef<Tensor>,
    G: AsRef<Tensor>,
    A: AsRef<Tensor>,
    S: AsRef<Tensor>,
    N: AsRef<Tensor>,
{
    let count = parameters.len();
    for length in [gradients.len(), averages.len(), square_averages.len(), steps.len()] {
        same_length("adamw_step", count, length)?;
    }
    if count == 0 {
        return Ok(());
    }
    let (parameters, gradients, steps) = (raws(parameters), raws(gradients), raws(steps));
    let (averages, square_averages) = (raws(averages), raws(square_averages));
    // SAFETY: five lists of `count` pointers to tensors that outlive the call.
    unsafe {
        check(ffi::palimpsest_adamw_step(
            parameters.as_ptr(),
            gradients.as_ptr(),
            averages.as_ptr(),
            square_averages.as_ptr(),
            steps.as_ptr(),
            count,
            settings.learning_rate,
            settings.betas.0,
            settings.betas.1,
            settings.epsilon,
            settings.weight_decay,
        ))
    }
}

/// The 2-norm of all tensors taken as one vector, on their device (no synchronisation): what
/// `torch.nn.utils.clip_grad_norm_` measures.
pub fn total_norm<T: AsRef<Tensor>>(tensors: &[T]) -> Result<Tensor> {
    let tensors = raws(tensors);
    let mut result = null_mut();
    // SAFETY: a list of live tensors; the result is ours.
    let norm = unsafe {
        check(ffi::palimpsest_total_norm(tensors.as_ptr(), tensors.len(), &mut result))?;
        take_tensor(result)
    };
    norm.ok_or_else(|| Error("the norm was not computed".into()))
}

/// Multiplies all tensors in place by `factor`, a tensor of one element on their device.
pub fn scale_all<T: AsRef<Tensor>>(tensors: &[T], factor: &Tensor) -> Result<()> {
    if tensors.is_empty() {
        return Ok(());
    }
    let tensors = raws(tensors);
    // SAFETY: a list of live tensors and one more.
    unsafe { check(ffi::palimpsest_scale(tensors.as_ptr(), tensors.len(), raw(factor))) }
}

#[cfg(test)]
mod tests {
    use tch::{Device, Kind, Tensor};

    use super::{AdamW, adamw_step, scale_all, total_norm};

    fn values(tensor: &Tensor) -> Vec<f64> {
        Vec::try_from(tensor.to_kind(Kind::Double)).unwrap()
    }

    /// The formula of the paper, by hand.
    #[test]
    fn adamw_follows_the_paper() {
        for kind in [Kind::Float, Kind::Double] {
            let settings = AdamW { learning_rate: 0.01, betas: (0.9, 0.95), epsilon: 1e-8, weight_decay: 0.1 };
            let parameter = Tensor::from_slice(&[1.0, -2.0, 0.5]).to_kind(kind);
            let (average, square) = (parameter.zeros_like(), parameter.zeros_like());
            let step = Tensor::zeros([] as [i64; 0], (Kind::Float, Device::Cpu));
            let (mut p, mut m, mut v) = ([1.0, -2.0, 0.5], [0.0; 3], [0.0; 3]);
            for t in 1..=5 {
                let gradient: Vec<f64> = (0..3).map(|i| (t as f64) * 0.1 - i as f64 * 0.2).collect();
                let given = Tensor::from_slice(&gradient).to_kind(kind);
                adamw_step(&[&parameter], &[&given], &[&average], &[&square], &[&step], settings).unwrap();
                for i in 0..3 {
                    m[i] = 0.9 * m[i] + 0.1 * gradient[i];
                    v[i] = 0.95 * v[i] + 0.05 * gradient[i] * gradient[i];
                    let (mean, spread) = (m[i] / (1.0 - 0.9f64.powi(t)), v[i] / (1.0 - 0.95f64.powi(t)));
                    p[i] -= 0.01 * 0.1 * p[i] + 0.01 * mean / (spread.sqrt() + 1e-8);
                }
            }
            assert_eq!(f64::try_from(&step).unwrap(), 5.0);
            for (ours, expected) in values(&parameter).iter().zip(p) {
                assert!((ours - expected).abs() < 1e-6, "{kind:?}: {ours} {expected}");
            }
        }
    }

    #[test]
    fn norm_and_scale_take_all_tensors_as_one() {
        let tensors = [Tensor::from_slice(&[3.0f32]), Tensor::from_slice(&[0.0f32, 4.0])];
        let norm = total_norm(&tensors).unwrap();
        assert_eq!(f64::try_from(&norm).unwrap(), 5.0);
        scale_all(&tensors, &norm.reciprocal()).unwrap();
        assert!((f64::try_from(total_norm(&tensors).unwrap()).unwrap() - 1.0).abs() < 1e-6);
        assert!(total_norm::<Tensor>(&[]).is_err());
    }

    #[test]
    fn lists_of_different_lengths_are_refused() {
        let settings = AdamW { learning_rate: 0.01, betas: (0.9, 0.95), epsilon: 1e-8, weight_decay: 0.1 };
        let x = Tensor::from_slice(&[1.0f32]);
        assert!(adamw_step(&[&x], &[&x], &[&x, &x], &[&x], &[&x], settings).is_err());
    }
}
