//! AdamW over slots: each a range of rows of a parameter with its own moments and its own count of steps.
//!
//! A vocabulary extension cuts the embedding and the head in two slots, the old rows and the new ones, so that a stage
//! may train the new ones alone: the old rows then get no update, no moment, no decay and no share in the clip norm.

use std::collections::{BTreeMap, BTreeSet};

use palimpsest_api::{NoDecay, Optimizer as OptimizerSpec, Trainable};
use palimpsest_model::Decoder;
use tch::{Kind, Tensor};

use crate::error::{Error, Result};

/// The tensors of an optimizer's state by name, as a checkpoint keeps them.
pub(crate) type Moments = BTreeMap<String, Tensor>;

/// AdamW's state over all slots that have ever been trained since moments were last reset.
#[derive(Debug)]
pub(crate) struct Optimizer {
    slots: Vec<Slot>,
}

/// A range of rows of a parameter.
#[derive(Debug)]
struct Slot {
    /// The parameter's name, with the rows in brackets where it is a part: `model.embed_tokens.weight[2048:3072]`.
    name: String,
    parameter: usize,
    /// First row and number of rows; `None`: the whole parameter.
    rows: Option<(i64, i64)>,
    kind: SlotKind,
    trained: bool,
    exp_avg: Tensor,
    exp_avg_sq: Tensor,
    /// A scalar tensor, as the fused kernel takes it.
    steps: Tensor,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum SlotKind {
    Norm,
    OldEmbedding,
    NewEmbedding,
    Projection,
}

/// The gradient's norm over all trained slots, before clipping, and whether it was clipped.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Clip {
    pub(crate) norm: f64,
    pub(crate) clipped: bool,
}

impl Optimizer {
    /// Fresh state for a model whose rows from `first_new_row` on of the embedding and the head were appended.
    pub(crate) fn new(model: &Decoder, first_new_row: Option<i64>) -> Self {
        let mut slots = Vec::new();
        for (index, parameter) in model.parameters().iter().enumerate() {
            let rows = parameter.tensor.size()[0];
            match (slot_kind(&parameter.name), first_new_row) {
                (SlotKind::OldEmbedding, Some(first)) if first < rows => {
                    slots.push(Slot::new(model, index, Some((0, first)), SlotKind::OldEmbedding));
                    slots.push(Slot::new(model, index, Some((first, rows - first)), SlotKind::NewEmbedding));
                }
                (kind, _) => slots.push(Slot::new(model, index, None, kind)),
            }
        }
        Self { slots }
    }

    /// The state that a checkpoint keeps of a model, with the slots that it was written with.
    pub(crate) fn of_checkpoint(model: &Decoder, mut moments: Moments) -> Result<Self> {
        let mut optimizer = Self::new(model, first_new_row(&moments));
        for slot in &mut optimizer.slots {
            slot.load(&mut moments)?;
        }
        Ok(optimizer)
    }

    /// Chooses what a stage trains, and makes the model keep gradients of just those parameters.
    pub(crate) fn set_trainable(&mut self, model: &mut Decoder, trainable: Trainable) -> Result<()> {
        for slot in &mut self.slots {
            slot.trained = match trainable {
                Trainable::All => true,
                Trainable::Embeddings => matches!(slot.kind, SlotKind::OldEmbedding | SlotKind::NewEmbedding),
                Trainable::NewEmbeddings => slot.kind == SlotKind::NewEmbedding,
            };
        }
        let parameters = model.parameters();
        let trained: BTreeSet<String> = self.trained().map(|slot| parameters[slot.parameter].name.clone()).collect();
        Ok(model.set_trainable(|name| trained.contains(name))?)
    }

    /// Forgets all moments, as at the start of a stage that carries over weights alone.
    pub(crate) fn reset(&mut self) {
        for slot in &mut self.slots {
            let _ = slot.exp_avg.zero_();
            let _ = slot.exp_avg_sq.zero_();
            let _ = slot.steps.zero_();
        }
    }

    /// Computes the norm of the gradient of all trained slots and scales it down to `max_norm` if it is larger, as
    /// `torch.nn.utils.clip_grad_norm_` does; `max_norm` 0 clips nothing.
    pub(crate) fn clip(&self, model: &Decoder, max_norm: f64) -> Result<Clip> {
        let gradients: Vec<Tensor> = self.trained().map(|slot| slot.gradient(model)).collect();
        let norm = palimpsest_torch::total_norm(&gradients)?.double_value(&[]);
        let factor = if max_norm > 0.0 { max_norm / (norm + 1e-6) } else { 1.0 };
        let clipped = factor < 1.0;
        if clipped {
            let factor = Tensor::from(factor).to_kind(gradients[0].kind()).to_device(gradients[0].device());
            palimpsest_torch::scale_all(&gradients, &factor)?;
        }
        Ok(Clip { norm, clipped })
    }

    /// Updates every trained slot from its gradient.
    pub(crate) fn step(&mut self, model: &Decoder, spec: &OptimizerSpec, learning_rate: f64) -> Result<()> {
        for decayed in [true, false] {
            let slots: Vec<&Slot> = self.trained().filter(|slot| slot.kind.decays(&spec.no_decay) == decayed).collect();
            let tensors = |of: fn(&Slot, &Decoder) -> Tensor| -> Vec<Tensor> {
                slots.iter().map(|slot| of(slot, model)).collect()
            };
            palimpsest_torch::adamw_step(
                &tensors(Slot::weights),
                &tensors(Slot::gradient),
                &tensors(|slot, _| slot.exp_avg.shallow_clone()),
                &tensors(|slot, _| slot.exp_avg_sq.shallow_clone()),
                &tensors(|slot, _| slot.steps.shallow_clone()),
                palimpsest_torch::AdamW {
                    learning_rate,
                    betas: (spec.betas[0].value(), spec.betas[1].value()),
                    epsilon: spec.epsilon.value(),
                    weight_decay: if decayed { spec.weight_decay.value() } else { 0.0 },
                },
            )?;
        }
        Ok(())
    }

    /// The moments and counts of all slots, by name, for a checkpoint.
    pub(crate) fn state(&self) -> Moments {
        let mut state = Moments::new();
        for slot in &self.slots {
            state.insert(format!("{}.exp_avg", slot.name), slot.exp_avg.shallow_clone());
            state.insert(format!("{}.exp_avg_sq", slot.name), slot.exp_avg_sq.shallow_clone());
            state.insert(format!("{}.steps", slot.name), slot.steps.shallow_clone());
        }
        state
    }

    fn trained(&self) -> impl Iterator<Item = &Slot> {
        self.slots.iter().filter(|slot| slot.trained)
    }
}

impl Slot {
    fn new(model: &Decoder, index: usize, rows: Option<(i64, i64)>, kind: SlotKind) -> Self {
        let parameter = &model.parameters()[index];
        let name = match rows {
            Some((first, count)) => format!("{}[{first}:{}]", parameter.name, first + count),
            None => parameter.name.clone(),
        };
        let view = match rows {
            Some((first, count)) => parameter.tensor.detach().narrow(0, first, count),
            None => parameter.tensor.detach(),
        };
        // Moments are at least Float32, whatever the precision of the passes.
        let kind_of_state = if view.kind() == Kind::Double { Kind::Double } else { Kind::Float };
        let zeros = || Tensor::zeros(view.size(), (kind_of_state, view.device()));
        Self {
            name,
            parameter: index,
            rows,
            kind,
            trained: true,
            exp_avg: zeros(),
            exp_avg_sq: zeros(),
            steps: Tensor::zeros([], (Kind::Float, view.device())),
        }
    }

    /// Takes its part of a checkpoint's state.
    fn load(&mut self, moments: &mut Moments) -> Result<()> {
        let fields = [("exp_avg", &mut self.exp_avg), ("exp_avg_sq", &mut self.exp_avg_sq), ("steps", &mut self.steps)];
        for (field, tensor) in fields {
            let name = format!("{}.{field}", self.name);
            let saved = moments.remove(&name).ok_or_else(|| Error::MissingMoment { name: name.clone() })?;
            if saved.size() != tensor.size() {
                return Err(Error::MissingMoment { name });
            }
            tensor.copy_(&saved);
        }
        Ok(())
    }

    fn weights(&self, model: &Decoder) -> Tensor {
        self.view(&model.parameters()[self.parameter].tensor.detach())
    }

    fn view(&self, tensor: &Tensor) -> Tensor {
        match self.rows {
            Some((first, count)) => tensor.narrow(0, first, count),
            None => tensor.shallow_clone(),
        }
    }

    fn gradient(&self, model: &Decoder) -> Tensor {
        let parameter = &model.parameters()[self.parameter].tensor;
        let gradient = parameter.grad();
        // A parameter that no sequence of the batch touched has no gradient yet.
        if gradient.defined() { self.view(&gradient) } else { self.view(&parameter.detach().zeros_like()) }
    }
}

impl SlotKind {
    fn decays(self, no_decay: &[NoDecay]) -> bool {
        !no_decay.iter().any(|exempt| match exempt {
            NoDecay::Norms => self == Self::Norm,
            NoDecay::Embeddings => matches!(self, Self::OldEmbedding | Self::NewEmbedding),
        })
    }
}

/// The first row of the slot of new rows, where the state was written with one: its name ends in `[2048:3072]`.
fn first_new_row(moments: &Moments) -> Option<i64> {
    let ranges = moments.keys().filter_map(|name| name.strip_prefix(EMBEDDING)?.strip_prefix('['));
    let firsts = ranges.filter_map(|range| range.split(':').next()?.parse().ok());
    firsts.max().filter(|first| *first > 0)
}

const EMBEDDING: &str = "model.embed_tokens.weight";

fn slot_kind(name: &str) -> SlotKind {
    if name == EMBEDDING || name == "lm_head.weight" {
        SlotKind::OldEmbedding
    } else if name.ends_with("norm.weight") {
        SlotKind::Norm
    } else {
        SlotKind::Projection
    }
}
