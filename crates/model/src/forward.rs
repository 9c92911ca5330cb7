//! The passes through the whole decoder.

use palimpsest_torch::{Rotation, Span, embedding_backward, rms_norm};
use tch::{Kind, Tensor, no_grad};

use crate::attention::Pattern;
use crate::backward;
use crate::batch::Batch;
use crate::config::Config;
use crate::decoder::Decoder;
use crate::group::check_trainable;
use crate::layer::{self, Context, Saved};
use crate::loss::{self, LossSum, Pass};
use crate::rope::{self, Angles};
use crate::weights::Weights;
use crate::{Error, Result};

/// What a layer keeps for its backward pass. The results are the same to the last bit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Checkpointing {
    /// Everything that the backward pass reads.
    #[default]
    None,
    /// The outputs of matrix products and attention; the norms' outputs and SwiGLU's are computed again from them. Saves
    /// `2 * hidden + intermediate` numbers a token and layer, at the cost of element-wise work alone.
    Selective,
    /// The layer's input; the whole layer but its last product is computed again.
    Full,
}

/// How a pass computes.
#[derive(Clone, Debug, PartialEq)]
pub struct ForwardOptions {
    /// The kind that products and the residual stream are computed in. Weights of another kind are cast once a pass, their
    /// gradients added up in their own kind. Norms, softmax and loss are float32 inside (float64 for `Double`).
    pub compute: Kind,
    /// What layers keep for their backward pass.
    pub checkpointing: Checkpointing,
    /// Positions whose logits are held at once; 0: as many as fit in 32 MB on a CPU, in 64 MB elsewhere.
    pub loss_chunk: usize,
}

impl Default for ForwardOptions {
    fn default() -> Self {
        Self { compute: Kind::Float, checkpointing: Checkpointing::None, loss_chunk: 0 }
    }
}

impl Decoder {
    /// The hidden states after the final norm, [rows, positions, hidden].
    pub fn hidden_states(&self, batch: &Batch, options: &ForwardOptions) -> Result<Tensor> {
        no_grad(|| {
            let weights = Weights::of(self, options.compute);
            let x = self.residual_stream(batch, &weights, options.compute)?;
            let (hidden, _) = rms_norm(&x, &weights.norm, self.config.rms_norm_eps)?;
            let (rows, positions) = batch.input_ids.size2()?;
            Ok(hidden.f_view([rows, positions, self.config.hidden_size])?)
        })
    }

    /// The logits of hidden states, [..., vocabulary], in their kind.
    pub fn logits(&self, hidden: &Tensor) -> Result<Tensor> {
        no_grad(|| Ok(hidden.f_matmul(&self.groups.head().value(hidden.kind()).f_tr()?)?))
    }

    /// The loss of each position, [rows, positions], float32 (float64 for a pass in float64); 0 where there is no label.
    pub fn token_losses(&self, batch: &Batch, options: &ForwardOptions) -> Result<Tensor> {
        no_grad(|| {
            let weights = Weights::of(self, options.compute);
            let x = self.residual_stream(batch, &weights, options.compute)?;
            let losses = loss::token_losses(self, &weights, &x, &batch.labels, options.loss_chunk)?;
            Ok(losses.f_view(batch.labels.size().as_slice())?)
        })
    }

    /// The batch's loss; the gradient of `scale` times its sum is added to the `.grad` of every parameter that requires
    /// one.
    pub fn loss_and_backward(&self, batch: &Batch, scale: f64, options: &ForwardOptions) -> Result<LossSum> {
        Ok(self.token_losses_and_backward(batch, scale, options)?.loss)
    }

    /// The same, with the loss of each position and where the time went.
    pub fn token_losses_and_backward(&self, batch: &Batch, scale: f64, options: &ForwardOptions) -> Result<Pass> {
        check_trainable(self.kind(), options.compute)?;
        no_grad(|| {
            let forward = Span::begin(c"forward");
            let weights = Weights::of(self, options.compute);
            let angles = self.angles_for(batch, options.compute)?;
            let context = self.context(batch, &angles)?;
            // Gradients need to come down no further than to the lowest layer that has something to train.
            let lowest = self.lowest_trained_layer();
            let ids = batch.input_ids.f_view([-1])?;
            let mut x = embed(&self.config, &ids, &weights.embedding)?;
            let mut kept: Vec<Saved> = Vec::new();
            for (index, layer) in weights.layers.iter().enumerate() {
                if index < lowest {
                    x = layer::forward(&x, layer, &context)?;
                } else {
                    let (output, saved) = layer::forward_saving(x, layer, &context, options.checkpointing)?;
                    kept.push(saved);
                    x = output;
                }
            }
            let forward = forward.end();
            let backward = Span::begin(c"backward");
            let (loss, token_losses, d) =
                loss::loss_and_gradient(self, &weights, &x, &batch.labels, scale, options.loss_chunk)?;
            drop(x);
            for index in (lowest..weights.layers.len()).rev() {
                let Some(saved) = kept.pop() else { break };
                let groups = &self.groups.layers[index];
                backward::backward(&d, saved, &weights.layers[index], groups, &self.parameters, &context)?;
            }
            if let Some(gradient) = self.groups.embedding.gradient(&self.parameters)?
                && self.is_embedding_trained_as_input()
            {
                embedding_backward(&gradient, &ids, &d, self.padding_id())?;
            }
            Ok(Pass { loss, token_losses, forward, backward: backward.end() })
        })
    }

    /// The embeddings of ids [...], [tokens, hidden], in kind `compute`.
    pub fn input_embeddings(&self, ids: &Tensor, compute: Kind) -> Result<Tensor> {
        no_grad(|| embed(&self.config, &ids.f_view([-1])?, &self.groups.embedding.value(compute)))
    }

    /// The part of [`Self::loss_and_backward`] that comes after the last layer, for a residual stream `x` [tokens, hidden] in
    /// the pass's kind: the loss and the gradient of `scale` times its sum with respect to x.
    pub fn head_loss_and_backward(
        &self,
        x: &Tensor,
        labels: &Tensor,
        scale: f64,
        options: &ForwardOptions,
    ) -> Result<(LossSum, Tensor)> {
        check_trainable(self.kind(), options.compute)?;
        no_grad(|| {
            let weights = Weights::of(self, options.compute);
            let (sum, _, d) = loss::loss_and_gradient(self, &weights, x, labels, scale, options.loss_chunk)?;
            Ok((sum, d))
        })
    }

    /// The residual stream after the last layer, [tokens, hidden].
    fn residual_stream(&self, batch: &Batch, weights: &Weights, compute: Kind) -> Result<Tensor> {
        let angles = self.angles_for(batch, compute)?;
        let context = self.context(batch, &angles)?;
        let mut x = embed(&self.config, &batch.input_ids.f_view([-1])?, &weights.embedding)?;
        for layer in &weights.layers {
            x = layer::forward(&x, layer, &context)?;
        }
        Ok(x)
    }

    fn angles_for(&self, batch: &Batch, compute: Kind) -> Result<Turns> {
        let positions = match rope::depends_on_length(&self.config) {
            true => batch.positions.f_max()?.f_int64_value(&[])? + 1,
            false => batch.input_ids.size2()?.1,
        };
        let angles = self.angles.angles(&self.config, positions, compute, batch.input_ids.device());
        Ok(Turns { angles, positions: batch.positions.f_view([-1])? })
    }

    fn context<'a>(&self, batch: &Batch, turns: &'a Turns) -> Result<Context<'a>> {
        Ok(Context {
            heads: self.config.heads(),
            pattern: Pattern::of(batch)?,
            rotation: turns.rotation(),
            epsilon: self.config.rms_norm_eps,
        })
    }

    /// The row of the embedding that inputs do not train; a negative id counts from the end, as in PyTorch.
    fn padding_id(&self) -> Option<i64> {
        let id = self.config.pad_token_id?;
        Some(if id < 0 { id + self.config.vocab_size } else { id })
    }

    fn is_embedding_trained_as_input(&self) -> bool {
        self.groups.embedding.is_trained(&self.parameters)
    }

    /// The first layer below whose output nothing is trained; the number of layers where only what comes after is.
    fn lowest_trained_layer(&self) -> usize {
        if self.is_embedding_trained_as_input() {
            return 0;
        }
        let is_trained =
            |groups: &crate::decoder::LayerGroups| groups.all().any(|group| group.is_trained(&self.parameters));
        self.groups.layers.iter().position(is_trained).unwrap_or(self.groups.layers.len())
    }
}

/// The rows of the embedding for ids [tokens], [tokens, hidden].
pub(crate) fn embed(config: &Config, ids: &Tensor, embedding: &Tensor) -> Result<Tensor> {
    embedding.f_index_select(0, ids).map_err(|_| {
        Error::Invalid(format!("the batch has ids outside the model's vocabulary of {}", config.vocab_size))
    })
}

/// The angles of a batch's positions.
pub(crate) struct Turns {
    pub(crate) angles: Angles,
    /// [tokens]
    pub(crate) positions: Tensor,
}

impl Turns {
    pub(crate) fn rotation(&self) -> Rotation<'_> {
        Rotation { cosine: &self.angles.cosine, sine: &self.angles.sine, positions: &self.positions, inverse: false }
    }
}
