//! Extension of the vocabulary by rows at the end of the embedding and the head.

use palimpsest_random::Stream;
use tch::{Kind, Tensor, no_grad};

use crate::decoder::{Decoder, normal};
use crate::{Error, Result};

/// Where new rows begin.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Initialization {
    /// Each at the mean of the old rows that spelled its text (of all old rows where none did).
    #[default]
    Mean,
    /// At random, as a new model's.
    Random,
}

impl Decoder {
    /// Appends a row for each entry of `sources`, the old ids that spelled the new id's text, to the embedding and, where
    /// it is not the same, to the head. Old rows keep every bit. Gradients are dropped.
    pub fn resize_vocabulary(&mut self, sources: &[Vec<u32>], initialization: Initialization, seed: u64) -> Result<()> {
        let old = self.config.vocab_size;
        if let Some(id) = sources.iter().flatten().find(|id| i64::from(**id) >= old) {
            return Err(Error::Invalid(format!(
                "a new vocabulary entry is made from id {id}, but the model's vocabulary has {old} ids"
            )));
        }
        let mut config = self.config.clone();
        config.vocab_size = old + sources.len() as i64;
        let mut extended = Self::zeros(&config, self.device(), self.kind());
        no_grad(|| -> Result<()> {
            for (index, parameter) in self.parameters.iter().enumerate() {
                let target = &extended.parameters[index].tensor;
                let values = parameter.tensor.detach();
                let rows = values.size()[0];
                target.detach().f_narrow(0, 0, rows)?.f_copy_(&values)?;
                if target.size()[0] > rows {
                    let new_rows = match initialization {
                        Initialization::Mean => means(&values, sources)?,
                        Initialization::Random => {
                            let stream = Stream::new(seed, &format!("vocabulary/{}", parameter.name), &[]);
                            let shape = [sources.len() as i64, self.config.hidden_size];
                            normal(stream, &shape, self.config.initializer_range)
                        }
                    };
                    target.detach().f_narrow(0, rows, sources.len() as i64)?.f_copy_(&new_rows)?;
                }
                let _ = target.set_requires_grad(parameter.tensor.requires_grad());
            }
            Ok(())
        })?;
        extended.generation_config = self.generation_config.take();
        *self = extended;
        Ok(())
    }
}

/// The mean row of each list of ids, formed in float64.
fn means(rows: &Tensor, sources: &[Vec<u32>]) -> Result<Tensor> {
    let mut means = Vec::with_capacity(sources.len());
    for ids in sources {
        let chosen = if ids.is_empty() {
            rows.shallow_clone()
        } else {
            let ids: Vec<i64> = ids.iter().map(|id| i64::from(*id)).collect();
            rows.f_index_select(0, &Tensor::from_slice(&ids).to_device(rows.device()))?
        };
        means.push(chosen.f_mean_dim([0i64].as_slice(), false, Kind::Double)?);
    }
    match means.is_empty() {
        true => Ok(rows.f_narrow(0, 0, 0)?),
        false => Ok(Tensor::f_stack(&means, 0)?),
    }
}
