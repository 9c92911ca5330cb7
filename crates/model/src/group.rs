//! Parameters that one matrix product reads together share one piece of memory: a group.
//!
//! Query, key and value projections are the rows of one matrix, gate and up projections those of another, so that a layer
//! needs four products instead of seven. Each parameter, under its own name, is a view of its rows; its gradient is a
//! view of the group's gradient.

use std::cell::RefCell;

use palimpsest_torch::set_gradient;
use tch::{Kind, Tensor, no_grad};

use crate::decoder::Parameter;
use crate::{Error, Result};

/// Neighbouring rows of one tensor, each part a parameter.
#[derive(Debug)]
pub(crate) struct Group {
    value: Tensor,
    parts: Vec<Part>,
    gradient: RefCell<Option<Tensor>>,
}

#[derive(Clone, Copy, Debug)]
struct Part {
    /// Index of the parameter.
    parameter: usize,
    first_row: i64,
    rows: i64,
}

impl Group {
    /// Room, by `allocate`, for parameters of the given indices and shapes, which differ in their first size at most. The views of
    /// it, in order, are to become the parameters' tensors.
    pub(crate) fn new(parameters: &[(usize, Vec<i64>)], allocate: impl Fn(&[i64]) -> Tensor) -> (Self, Vec<Tensor>) {
        let mut parts = Vec::new();
        let mut rows = 0;
        for (parameter, shape) in parameters {
            parts.push(Part { parameter: *parameter, first_row: rows, rows: shape[0] });
            rows += shape[0];
        }
        let mut shape = parameters.first().map_or_else(Vec::new, |(_, shape)| shape.clone());
        shape[0] = rows;
        let value = allocate(&shape);
        let views = parts.iter().map(|part| value.narrow(0, part.first_row, part.rows).detach()).collect();
        (Self { value, parts, gradient: RefCell::new(None) }, views)
    }

    /// All rows in kind `compute`; the memory itself where it is of that kind already.
    pub(crate) fn value(&self, compute: Kind) -> Tensor {
        if self.value.kind() == compute { self.value.shallow_clone() } else { self.value.to_kind(compute) }
    }

    /// Whether any part asks for a gradient.
    pub(crate) fn is_trained(&self, parameters: &[Parameter]) -> bool {
        self.parts.iter().any(|part| parameters[part.parameter].tensor.requires_grad())
    }

    /// Where gradients of the rows are added up; `None` where no part asks for one. The parameters' `.grad` are views
    /// of it: one that was cleared counts as zero, one that was replaced is taken over.
    pub(crate) fn gradient(&self, parameters: &[Parameter]) -> Result<Option<Tensor>> {
        if !self.is_trained(parameters) {
            return Ok(None);
        }
        let mut place = self.gradient.borrow_mut();
        let buffer = place.get_or_insert_with(|| self.value.zeros_like());
        for part in &self.parts {
            let tensor = &parameters[part.parameter].tensor;
            if !tensor.requires_grad() {
                continue;
            }
            let mut view = buffer.narrow(0, part.first_row, part.rows);
            let current = tensor.grad();
            if current.defined() && current.data_ptr() == view.data_ptr() {
                continue;
            }
            no_grad(|| match current.defined() {
                true => view.f_copy_(&current),
                false => view.f_zero_().map(|_| ()),
            })?;
            set_gradient(tensor, Some(&view))?;
        }
        Ok(Some(buffer.shallow_clone()))
    }

    /// Zeroes the gradient, or frees it where no part asks for one any more.
    pub(crate) fn zero_gradient(&self, parameters: &[Parameter]) -> Result<()> {
        let trained = self.is_trained(parameters);
        if trained {
            if let Some(mut buffer) = self.gradient(parameters)? {
                let _ = no_grad(|| buffer.f_zero_())?;
            }
            return Ok(());
        }
        self.gradient.replace(None);
        for part in &self.parts {
            set_gradient(&parameters[part.parameter].tensor, None)?;
        }
        Ok(())
    }
}

/// Adds a product's result, of whatever kind it was computed in, to a gradient.
pub(crate) fn accumulate_product(gradient: &Tensor, left: &Tensor, right: &Tensor) -> Result<()> {
    let mut gradient = gradient.shallow_clone();
    if gradient.kind() == left.kind() {
        let _ = gradient.f_addmm_(left, right)?;
    } else {
        let _ = gradient.f_add_(&left.f_mm(right)?)?;
    }
    Ok(())
}

/// Adds the sum over rows to a bias's gradient.
pub(crate) fn accumulate_rows(gradient: &Tensor, rows: &Tensor) -> Result<()> {
    let sum = rows.f_sum_dim_intlist([0i64].as_slice(), false, gradient.kind())?;
    let _ = gradient.shallow_clone().f_add_(&sum)?;
    Ok(())
}

/// Training adds gradients in the parameters' own kind, which must not be coarser than that of the sums.
pub(crate) fn check_trainable(parameters: Kind, compute: Kind) -> Result<()> {
    match (parameters, compute) {
        (Kind::Float, Kind::Float | Kind::BFloat16) | (Kind::Double, Kind::Double) => Ok(()),
        _ => Err(Error::Invalid(format!(
            "a model with {parameters:?} weights cannot be trained in {compute:?}; train Float weights in Float or \
             BFloat16, or Double in Double"
        ))),
    }
}
