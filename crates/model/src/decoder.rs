//! The decoder: its config, its parameters under transformers' names, and how they are laid out in memory.

use palimpsest_random::Stream;
use serde_json::{Map, Value};
use tch::{Device, Kind, Tensor, no_grad};

use crate::config::Config;
use crate::group::Group;
use crate::loss::ChunkMemory;
use crate::rope::AngleTable;
use crate::{Error, Result};

/// A tensor of weights under the name that transformers gives it.
#[derive(Debug)]
pub struct Parameter {
    /// Such as `model.layers.0.self_attn.q_proj.weight`.
    pub name: String,
    /// A leaf tensor. Where it `requires_grad`, as it does at first, training adds to its `.grad`; where not, its gradient is
    /// never computed.
    pub tensor: Tensor,
}

impl AsRef<Tensor> for Parameter {
    fn as_ref(&self) -> &Tensor {
        &self.tensor
    }
}

/// A decoder of the LLaMA family.
#[derive(Debug)]
pub struct Decoder {
    /// Its shape.
    pub config: Config,
    pub(crate) parameters: Vec<Parameter>,
    pub(crate) groups: Groups,
    pub(crate) angles: AngleTable,
    pub(crate) logits: ChunkMemory,
    /// `generation_config.json` of the folder it came from.
    pub(crate) generation_config: Option<Map<String, Value>>,
}

/// The groups by their place in the model.
#[derive(Debug)]
pub(crate) struct Groups {
    pub(crate) embedding: Group,
    pub(crate) layers: Vec<LayerGroups>,
    pub(crate) norm: Group,
    /// `None` where the head is the embedding.
    pub(crate) head: Option<Group>,
}

#[derive(Debug)]
pub(crate) struct LayerGroups {
    pub(crate) input_norm: Group,
    pub(crate) query_key_value: Linear,
    pub(crate) output: Linear,
    pub(crate) mlp_norm: Group,
    pub(crate) gate_up: Linear,
    pub(crate) down: Linear,
}

/// A projection: `x * weight^T + bias`.
#[derive(Debug)]
pub(crate) struct Linear {
    pub(crate) weight: Group,
    pub(crate) bias: Option<Group>,
}

impl Groups {
    pub(crate) fn all(&self) -> impl Iterator<Item = &Group> {
        let layers = self.layers.iter().flat_map(LayerGroups::all);
        [&self.embedding].into_iter().chain(layers).chain([&self.norm]).chain(self.head.as_ref())
    }

    pub(crate) fn head(&self) -> &Group {
        self.head.as_ref().unwrap_or(&self.embedding)
    }
}

impl LayerGroups {
    pub(crate) fn all(&self) -> impl Iterator<Item = &Group> {
        let linears = [&self.query_key_value, &self.output, &self.gate_up, &self.down];
        let weights = linears.into_iter().flat_map(|linear| [Some(&linear.weight), linear.bias.as_ref()]);
        [&self.input_norm, &self.mlp_norm].into_iter().chain(weights.flatten())
    }
}

impl Decoder {
    /// Random weights as transformers draws them: projections and embeddings from a normal distribution of standard
    /// deviation `initializer_range`, norms 1, biases 0. Each parameter is drawn from its own stream of the seed.
    pub fn random(config: &Config, seed: u64, device: Device, kind: Kind) -> Result<Self> {
        let decoder = Self::zeros(config, device, kind);
        for parameter in &decoder.parameters {
            let mut tensor = parameter.tensor.detach();
            if parameter.name.ends_with("norm.weight") {
                let _ = tensor.f_fill_(1.0)?;
            } else if !parameter.name.ends_with(".bias") {
                let stream = Stream::new(seed, &format!("weights/{}", parameter.name), &[]);
                tensor.f_copy_(&normal(stream, &tensor.size(), config.initializer_range))?;
            }
        }
        Ok(decoder)
    }

    /// All weights zero.
    pub(crate) fn zeros(config: &Config, device: Device, kind: Kind) -> Self {
        Self::allocated(config, |shape| Tensor::zeros(shape, (kind, device)))
    }

    /// Weights that hold anything yet: all of them are to be set.
    pub(crate) fn unset(config: &Config, device: Device, kind: Kind) -> Self {
        Self::allocated(config, |shape| Tensor::empty(shape, (kind, device)))
    }

    fn allocated(config: &Config, allocate: impl Fn(&[i64]) -> Tensor) -> Self {
        let mut allocation = Allocation { parameters: Vec::new(), allocate };
        let groups = allocation.groups(config);
        let parameters = allocation.parameters;
        Self {
            config: config.clone(),
            parameters,
            groups,
            angles: AngleTable::default(),
            logits: ChunkMemory::default(),
            generation_config: None,
        }
    }

    /// The parameters in transformers' order. A head that is the embedding is not listed.
    pub fn parameters(&self) -> &[Parameter] {
        &self.parameters
    }

    /// The parameter of that name.
    pub fn parameter(&self, name: &str) -> Option<&Tensor> {
        self.parameters.iter().find(|parameter| parameter.name == name).map(|parameter| &parameter.tensor)
    }

    /// A copy of the weights on the CPU that training does not touch, to be written while training goes on.
    pub fn snapshot(&self) -> Result<Self> {
        let mut copy = Self::zeros(&self.config, Device::Cpu, self.kind());
        copy.generation_config = self.generation_config.clone();
        copy.copy_from(self)?;
        Ok(copy)
    }

    /// Takes the weights of a decoder of the same shape.
    pub fn copy_from(&self, other: &Self) -> Result<()> {
        other.parameters.iter().try_for_each(|parameter| self.set(&parameter.name, &parameter.tensor.detach()))
    }

    /// The kind of the weights.
    pub fn kind(&self) -> Kind {
        self.parameters.first().map_or(Kind::Float, |parameter| parameter.tensor.kind())
    }

    /// Where the weights are.
    pub fn device(&self) -> Device {
        self.parameters.first().map_or(Device::Cpu, |parameter| parameter.tensor.device())
    }

    /// Chooses by name the parameters that are trained. The others' gradients are freed.
    pub fn set_trainable(&mut self, is_trained: impl Fn(&str) -> bool) -> Result<()> {
        for parameter in &self.parameters {
            let _ = parameter.tensor.set_requires_grad(is_trained(&parameter.name));
        }
        self.zero_gradients()
    }

    /// The names and gradients of the trained parameters, zero where none was computed yet.
    pub fn gradients(&self) -> Result<Vec<(&str, Tensor)>> {
        for group in self.groups.all() {
            group.gradient(&self.parameters)?;
        }
        let trained = self.parameters.iter().filter(|parameter| parameter.tensor.requires_grad());
        Ok(trained.map(|parameter| (parameter.name.as_str(), parameter.tensor.grad())).collect())
    }

    /// Sets all gradients to zero.
    pub fn zero_gradients(&self) -> Result<()> {
        self.groups.all().try_for_each(|group| group.zero_gradient(&self.parameters))
    }
}

/// A tensor of normal numbers, float32, row by row from the stream.
pub(crate) fn normal(mut stream: Stream, shape: &[i64], deviation: f64) -> Tensor {
    let count: i64 = shape.iter().product();
    let values: Vec<f32> = (0..count).map(|_| (stream.normal() * deviation) as f32).collect();
    Tensor::from_slice(&values).view(shape)
}

/// Lays parameters out, one after the other in transformers' order.
struct Allocation<F> {
    parameters: Vec<Parameter>,
    allocate: F,
}

impl<F: Fn(&[i64]) -> Tensor> Allocation<F> {
    fn groups(&mut self, config: &Config) -> Groups {
        let (vocabulary, hidden) = (config.vocab_size, config.hidden_size);
        let embedding = self.group(&[("model.embed_tokens.weight".to_owned(), vec![vocabulary, hidden])]);
        let layers = (0..config.num_hidden_layers).map(|index| self.layer(config, index)).collect();
        let norm = self.group(&[("model.norm.weight".to_owned(), vec![hidden])]);
        let head = (!config.tie_word_embeddings)
            .then(|| self.group(&[("lm_head.weight".to_owned(), vec![vocabulary, hidden])]));
        Groups { embedding, layers, norm, head }
    }

    fn layer(&mut self, config: &Config, index: i64) -> LayerGroups {
        let hidden = config.hidden_size;
        let queries = config.num_attention_heads * config.head_dim;
        let keys = config.num_key_value_heads * config.head_dim;
        let middle = config.intermediate_size;
        let prefix = format!("model.layers.{index}");
        let attention = |name: &str| format!("{prefix}.self_attn.{name}_proj");
        let mlp = |name: &str| format!("{prefix}.mlp.{name}_proj");
        let query_key_value = [(attention("q"), queries), (attention("k"), keys), (attention("v"), keys)];
        let query_key_value = self.linear(&query_key_value, hidden, config.attention_bias);
        let output = self.linear(&[(attention("o"), hidden)], queries, config.attention_bias);
        let gate_up = self.linear(&[(mlp("gate"), middle), (mlp("up"), middle)], hidden, config.mlp_bias);
        let down = self.linear(&[(mlp("down"), hidden)], middle, config.mlp_bias);
        let input_norm = self.group(&[(format!("{prefix}.input_layernorm.weight"), vec![hidden])]);
        let mlp_norm = self.group(&[(format!("{prefix}.post_attention_layernorm.weight"), vec![hidden])]);
        LayerGroups { input_norm, query_key_value, output, mlp_norm, gate_up, down }
    }

    fn linear(&mut self, outputs: &[(String, i64)], inputs: i64, has_bias: bool) -> Linear {
        let weights: Vec<(String, Vec<i64>)> =
            outputs.iter().map(|(name, rows)| (format!("{name}.weight"), vec![*rows, inputs])).collect();
        let biases: Vec<(String, Vec<i64>)> =
            outputs.iter().map(|(name, rows)| (format!("{name}.bias"), vec![*rows])).collect();
        let weight = self.group(&weights);
        let bias = has_bias.then(|| self.group(&biases));
        Linear { weight, bias }
    }

    fn group(&mut self, members: &[(String, Vec<i64>)]) -> Group {
        let first = self.parameters.len();
        let indexed: Vec<(usize, Vec<i64>)> =
            members.iter().enumerate().map(|(offset, (_, shape))| (first + offset, shape.clone())).collect();
        let (group, views) = Group::new(&indexed, &self.allocate);
        for ((name, _), view) in members.iter().zip(views) {
            self.parameters.push(Parameter { name: name.clone(), tensor: view.set_requires_grad(true) });
        }
        group
    }
}

impl Decoder {
    /// Copies values into a parameter, whatever their kind.
    pub(crate) fn set(&self, name: &str, values: &Tensor) -> Result<()> {
        let tensor = self.parameter(name).ok_or_else(|| Error::Invalid(format!("there is no parameter {name}")))?;
        Ok(no_grad(|| tensor.detach().f_copy_(values))?)
    }
}
