//! The reference values of `tests/parity/model_reference.py`, made once and kept in the cache, and how they are compared.

#![allow(dead_code, reason = "each test uses a part")]

use std::collections::HashMap;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use palimpsest_model::{Batch, Decoder, ForwardOptions, read_tensors};
use tch::{Device, IndexOp, Kind, Tensor};

/// The random models.
pub(crate) const CASES: [&str; 12] = [
    "mha",
    "gqa-tied",
    "head-dim",
    "llama3-rope",
    "linear-rope",
    "dynamic-rope",
    "yarn-rope",
    "long-rope",
    "biases",
    "mistral",
    "bfloat16",
    "float16-sharded",
];

/// The real models.
pub(crate) const REAL: [&str; 2] = ["stories260k", "smollm2-135m"];

/// The lengths of the packed reference's segments.
pub(crate) const SEGMENTS: [&[i64]; 3] = [&[10, 14], &[24], &[5, 5, 7, 7]];

pub(crate) struct References {
    folder: PathBuf,
    data: PathBuf,
}

/// The references, unless Python or the data are absent, which fails in CI.
pub(crate) fn references() -> Option<&'static References> {
    static MADE: OnceLock<Option<References>> = OnceLock::new();
    MADE.get_or_init(make).as_ref()
}

fn make() -> Option<References> {
    let data = folder_of("PALIMPSEST_DATA_CACHE", "data");
    let python = python()?;
    let models: Vec<String> = REAL
        .iter()
        .map(|name| (name, data.join("models").join(name)))
        .filter(|(_, folder)| {
            there(
                folder.is_dir(),
                &format!("there is no {}: scripts/test-data.sh and scripts/smollm2.sh make it", folder.display()),
            )
        })
        .map(|(name, folder)| format!("{name}={}", folder.display()))
        .collect();
    let script = script("model_reference.py");
    let mut hasher = DefaultHasher::new();
    (std::fs::read(&script).unwrap(), &models).hash(&mut hasher);
    let folder = data.join("references").join(format!("model-{:016x}", hasher.finish()));
    if !folder.join("complete").exists() {
        let beside = folder.with_extension(std::process::id().to_string());
        // The script's own folder must not hide packages of the same names.
        let output =
            Command::new(python).env("PYTHONSAFEPATH", "1").arg(script).arg(&beside).args(&models).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        // Another test may have been faster.
        if std::fs::rename(&beside, &folder).is_err() {
            std::fs::remove_dir_all(&beside).unwrap();
        }
    }
    Some(References { folder, data })
}

/// The Python of the parity environment, unless it is absent, which fails in CI.
pub(crate) fn python() -> Option<PathBuf> {
    let python = folder_of("PALIMPSEST_CACHE", "").join("venv/bin/python");
    there(python.exists(), &format!("there is no {}: scripts/parity-venv.sh makes it", python.display()))
        .then_some(python)
}

pub(crate) fn script(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/parity").join(name)
}

fn folder_of(variable: &str, name: &str) -> PathBuf {
    let default = || Path::new(&std::env::var("HOME").unwrap_or_default()).join(".cache/palimpsest").join(name);
    std::env::var_os(variable).map_or_else(default, PathBuf::from)
}

fn there(found: bool, reason: &str) -> bool {
    assert!(found || std::env::var("CI").as_deref() != Ok("true"), "{reason}");
    if !found {
        println!("skipped: {reason}");
    }
    found
}

impl References {
    pub(crate) fn tensors(&self, file: &str) -> HashMap<String, Tensor> {
        read_tensors(&self.folder.join(file)).unwrap().into_iter().collect()
    }

    /// A random model, or a real one that is there.
    pub(crate) fn case(&self, name: &str) -> Option<Case> {
        let reference = self.folder.join(name).join("reference.safetensors");
        let is_real = REAL.contains(&name);
        let folder = if is_real { self.data.join("models").join(name) } else { self.folder.join(name).join("model") };
        let is_there = reference.exists() || !is_real;
        is_there.then(|| Case {
            name: name.to_owned(),
            folder,
            values: self.tensors(&format!("{name}/reference.safetensors")),
        })
    }

    pub(crate) fn cases(&self) -> impl Iterator<Item = Case> {
        CASES.iter().map(|name| self.case(name).unwrap())
    }
}

pub(crate) struct Case {
    pub(crate) name: String,
    pub(crate) folder: PathBuf,
    values: HashMap<String, Tensor>,
}

impl Case {
    pub(crate) fn get(&self, name: &str) -> &Tensor {
        &self.values[name]
    }

    pub(crate) fn number(&self, name: &str) -> f64 {
        self.get(name).double_value(&[])
    }

    pub(crate) fn open(&self, kind: Kind) -> Decoder {
        Decoder::open(&self.folder, Device::Cpu, kind).unwrap()
    }

    /// The batch, each row one document.
    pub(crate) fn plain(&self) -> Batch {
        let mut batch = Batch::of_documents(self.get("input_ids"));
        batch.labels = self.get("labels").shallow_clone();
        batch
    }

    /// The batch with several documents in a row.
    pub(crate) fn packed(&self) -> Batch {
        let mut batch = self.plain();
        batch.positions = self.get("positions").shallow_clone();
        batch.segments = SEGMENTS.iter().map(|lengths| lengths.to_vec()).collect();
        batch
    }

    /// The gradients under a prefix.
    pub(crate) fn gradients(&self, prefix: &str) -> HashMap<&str, &Tensor> {
        self.values.iter().filter_map(|(name, tensor)| Some((name.strip_prefix(prefix)?, tensor))).collect()
    }
}

pub(crate) fn options(compute: Kind) -> ForwardOptions {
    ForwardOptions { compute, ..ForwardOptions::default() }
}

/// Logits and the loss's gradients of a pass.
pub(crate) fn run(model: &Decoder, batch: &Batch, options: &ForwardOptions) -> (Tensor, f64, HashMap<String, Tensor>) {
    let logits = model.logits(&model.hidden_states(batch, options).unwrap()).unwrap();
    model.zero_gradients().unwrap();
    let loss = model.loss_and_backward(batch, 1.0, options).unwrap();
    assert_eq!(loss.targets, batch.labels.ge(0).sum(Kind::Int64).int64_value(&[]));
    let gradients = model.gradients().unwrap();
    (logits, loss.sum, gradients.into_iter().map(|(name, tensor)| (name.to_owned(), tensor.copy())).collect())
}

pub(crate) fn largest_difference(ours: &Tensor, theirs: &Tensor) -> f64 {
    assert_eq!(ours.size(), theirs.size());
    (ours.to_kind(Kind::Double) - theirs.to_kind(Kind::Double)).abs().max().double_value(&[])
}

/// The distance as a part of theirs.
pub(crate) fn relative_l2(ours: &Tensor, theirs: &Tensor) -> f64 {
    assert_eq!(ours.size(), theirs.size());
    let (ours, theirs) = (ours.to_kind(Kind::Double), theirs.to_kind(Kind::Double));
    (&ours - &theirs).norm().double_value(&[]) / theirs.norm().double_value(&[])
}

/// Every gradient's relative distance, the largest with its name.
pub(crate) fn worst_gradient(ours: &HashMap<String, Tensor>, theirs: &HashMap<&str, &Tensor>) -> (f64, String) {
    assert_eq!(ours.len(), theirs.len());
    let distances = ours.iter().map(|(name, tensor)| (relative_l2(tensor, theirs[name.as_str()]), name.clone()));
    distances.max_by(|left, right| left.0.total_cmp(&right.0)).unwrap()
}

/// Row `row`, positions `start..start + length`, as a batch of its own.
pub(crate) fn document(batch: &Batch, row: i64, start: i64, length: i64) -> Batch {
    let cut = |tensor: &Tensor| tensor.i((row..row + 1, start..start + length)).contiguous();
    let mut alone = Batch::of_documents(&cut(&batch.input_ids));
    alone.labels = cut(&batch.labels);
    alone
}
