//! What decides the last bits of a result besides the job itself.

use serde::{Deserialize, Serialize};
use tch::{Device, Kind};

use crate::error::Result;

/// Two runs of a job with the same fingerprint and world give the same bits.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Fingerprint {
    /// The precision of the forward and backward passes.
    pub precision: String,
    /// The device.
    pub device: String,
    /// Threads of libtorch inside an operation.
    pub threads: usize,
    /// The instruction set that libtorch's kernels were chosen for.
    pub instruction_set: String,
    /// libtorch's version.
    pub libtorch: String,
}

impl Fingerprint {
    pub(crate) fn new(compute: Kind, device: Device, threads: usize) -> Result<Self> {
        Ok(Self {
            precision: match compute {
                Kind::BFloat16 => "BFloat16",
                Kind::Double => "Float64",
                _ => "Float32",
            }
            .to_owned(),
            device: if device.is_cuda() { "cuda" } else { "cpu" }.to_owned(),
            threads,
            instruction_set: palimpsest_torch::cpu_capability()?,
            libtorch: palimpsest_torch::version(),
        })
    }

    /// What differs, as a clause each; empty where the bits will be the same.
    pub(crate) fn differences(&self, other: &Self) -> Vec<String> {
        let fields = [
            ("precision", &self.precision, &other.precision),
            ("device", &self.device, &other.device),
            ("threads", &self.threads.to_string(), &other.threads.to_string()),
            ("instruction set", &self.instruction_set, &other.instruction_set),
            ("libtorch", &self.libtorch, &other.libtorch),
        ];
        let differing = fields.iter().filter(|(_, ours, theirs)| ours != theirs);
        differing.map(|(name, ours, theirs)| format!("{name} {theirs} before, {ours} now")).collect()
    }

    /// A warning where BFloat16 runs on a CPU that has no instructions for it.
    pub(crate) fn emulation(&self, cpu_has_bfloat16: bool) -> Option<String> {
        let is_emulated = self.precision == "BFloat16" && self.device == "cpu" && !cpu_has_bfloat16;
        is_emulated.then(|| {
            format!(
                "BFloat16 is emulated on this CPU ({}), many times slower than Float32; set precision to Float32 or run \
                 where there is AVX-512 BF16 or a GPU",
                self.instruction_set
            )
        })
    }
}

#[cfg(test)]
mod tests {
    use tch::{Device, Kind};

    use super::Fingerprint;

    #[test]
    fn emulated_bfloat16_is_warned_of() {
        let is_warned = |kind, has| Fingerprint::new(kind, Device::Cpu, 1).unwrap().emulation(has).is_some();
        assert!(is_warned(Kind::BFloat16, false));
        assert!(!is_warned(Kind::BFloat16, true) && !is_warned(Kind::Float, false));
        let mut on_gpu = Fingerprint::new(Kind::BFloat16, Device::Cpu, 1).unwrap();
        on_gpu.device = "cuda".to_owned();
        assert_eq!(on_gpu.emulation(false), None);
    }
}
