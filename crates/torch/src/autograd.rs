//! Autograd with gradients of the outputs given, which tch's `backward` of a scalar cannot do.

use std::ptr::null_mut;

use tch::Tensor;

use crate::ffi::{self, check, raw, raws, take_tensor};
use crate::{Error, Result};

/// Accumulates into the leaves' `.grad` the gradient of the sum of `outputs[i] * gradients[i]`.
pub fn backward<T: AsRef<Tensor>, G: AsRef<Tensor>>(outputs: &[T], gradients: &[G]) -> Result<()> {
    same_length("backward", outputs.len(), gradients.len())?;
    let (outputs, gradients) = (raws(outputs), raws(gradients));
    // SAFETY: both lists hold `outputs.len()` pointers to tensors that outlive the call.
    unsafe { check(ffi::palimpsest_backward(outputs.as_ptr(), gradients.as_ptr(), outputs.len())) }
}

/// The gradients, with respect to `inputs`, of the sum of `outputs[i] * gradients[i]`; `None` for an input without a part
/// in it. No `.grad` is touched.
pub fn grad<T, G, I>(outputs: &[T], gradients: &[G], inputs: &[I]) -> Result<Vec<Option<Tensor>>>
where
    T: AsRef<Tensor>,
    G: AsRef<Tensor>,
    I: AsRef<Tensor>,
{
    same_length("grad", outputs.len(), gradients.len())?;
    let (outputs, gradients, inputs) = (raws(outputs), raws(gradients), raws(inputs));
    let mut results = vec![null_mut(); inputs.len()];
    // SAFETY: the lists hold as many live tensors as stated; the results, one for each input, are ours.
    unsafe {
        check(ffi::palimpsest_grad(
            outputs.as_ptr(),
            gradients.as_ptr(),
            outputs.len(),
            inputs.as_ptr(),
            inputs.len(),
            results.as_mut_ptr(),
        ))?;
        Ok(results.into_iter().map(|result| take_tensor(result)).collect())
    }
}

/// Makes `gradient` the tensor's `.grad`, sharing its memory; `None` clears it.
pub fn set_gradient(tensor: &Tensor, gradient: Option<&Tensor>) -> Result<()> {
    // SAFETY: both are live tensors or null; C++ copies the handle.
    unsafe { check(ffi::palimpsest_set_gradient(raw(tensor), gradient.map_or(null_mut(), raw))) }
}

pub(crate) fn same_length(function: &str, left: usize, right: usize) -> Result<()> {
    if left == right {
        return Ok(());
    }
    Err(Error(format!("{function} was given lists of {left} and {right} tensors")))
}

#[cfg(test)]
mod tests {
    use tch::{Device, Kind, Tensor};

    use super::{backward, grad, set_gradient};

    fn leaf(values: &[f32]) -> Tensor {
        Tensor::from_slice(values).set_requires_grad(true)
    }

    #[test]
    fn backward_weighs_outputs_by_their_gradients_and_accumulates() {
        let x = leaf(&[1.0, 2.0]);
        for _ in 0..2 {
            backward(&[&x * &x], &[Tensor::from_slice(&[10.0f32, 1.0])]).unwrap();
        }
        assert_eq!(Vec::<f32>::try_from(x.grad()).unwrap(), [40.0, 8.0]);
    }

    #[test]
    fn grad_returns_none_for_what_has_no_part() {
        let (x, y) = (leaf(&[3.0]), leaf(&[5.0]));
        let gradients = grad(&[&x * 7.0], &[Tensor::ones([1], (Kind::Float, Device::Cpu))], &[&x, &y]).unwrap();
        assert_eq!(f64::try_from(gradients[0].as_ref().unwrap()).unwrap(), 7.0);
        assert!(gradients[1].is_none());
        assert!(!x.grad().defined());
    }

    #[test]
    fn a_gradient_can_be_set_shared_and_cleared() {
        let x = leaf(&[1.0, 2.0]);
        let buffer = Tensor::zeros([4], (Kind::Float, Device::Cpu));
        set_gradient(&x, Some(&buffer.narrow(0, 2, 2))).unwrap();
        backward(&[&x * 3.0], &[Tensor::ones([2], (Kind::Float, Device::Cpu))]).unwrap();
        set_gradient(&x, None).unwrap();
        assert!(!x.grad().defined());
        assert_eq!(Vec::<f32>::try_from(buffer).unwrap(), [0.0, 0.0, 3.0, 3.0]);
    }

    #[test]
    fn an_exception_becomes_a_message() {
        let x = Tensor::from_slice(&[1.0f32]);
        let error = backward(&[&x], &[&x]).unwrap_err().to_string();
        assert!(error.contains("does not require grad"), "{error}");
        let error = backward(&[&x, &x], &[&x]).unwrap_err().to_string();
        assert!(error.contains("lists of 2 and 1"), "{error}");
    }
}
