//! Products of one shape, whatever the step: then what a row gives does not depend on how many there are.
//!
//! Libraries choose how they add up by a product's shape: a row alone may round otherwise than among others. Among as many, wherever it
//! stands, it does not.

use tch::{TchError, Tensor};

/// Rows of every product.
const ROWS: i64 = 64;

/// A product of x: [rows, inputs], made in pieces of [`ROWS`] rows, the last filled up with zeros.
pub(super) fn in_pieces(x: &Tensor, product: impl Fn(&Tensor) -> Result<Tensor, TchError>) -> Result<Tensor, TchError> {
    let rows = x.size()[0];
    if rows == 0 {
        return product(x);
    }
    let mut pieces = Vec::new();
    let mut first = 0;
    while first < rows {
        let count = ROWS.min(rows - first);
        let piece = x.f_narrow(0, first, count)?;
        pieces.push(if count == ROWS {
            product(&piece)?
        } else {
            let filled = x.f_new_zeros([ROWS, x.size()[1]], (x.kind(), x.device()))?;
            filled.f_narrow(0, 0, count)?.f_copy_(&piece)?;
            product(&filled)?.f_narrow(0, 0, count)?
        });
        first += ROWS;
    }
    Tensor::f_cat(&pieces, 0)
}
