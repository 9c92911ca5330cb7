//! The claims that a job's URIs name: where each is mounted, and whether anything is written there.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{PersistentVolumeClaimVolumeSource, Volume, VolumeMount};
use palimpsest_api::{Scheme, TrainingJobSpec, Uri};

/// The folder in which claims are mounted, each in a folder of its name.
const FOLDER: &str = "/mnt/palimpsest";

/// A claim of a job.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Claim {
    /// The PersistentVolumeClaim's name.
    pub(crate) name: String,
    /// Whether the job writes there: its output, checkpoints and packed data.
    pub(crate) is_written: bool,
}

impl Claim {
    /// Where the worker finds it.
    pub(crate) fn folder(&self) -> String {
        format!("{FOLDER}/{}", self.name)
    }

    /// A claim's name may be longer than a volume's, and have dots: volumes are numbered.
    pub(super) fn volume(&self, number: usize) -> Volume {
        Volume {
            name: format!("palimpsest-claim-{number}"),
            persistent_volume_claim: Some(PersistentVolumeClaimVolumeSource {
                claim_name: self.name.clone(),
                read_only: (!self.is_written).then_some(true),
            }),
            ..Volume::default()
        }
    }

    pub(super) fn mount(&self, number: usize) -> VolumeMount {
        VolumeMount {
            name: format!("palimpsest-claim-{number}"),
            mount_path: self.folder(),
            read_only: (!self.is_written).then_some(true),
            ..VolumeMount::default()
        }
    }
}

/// What a worker says, with files named as its job names them: the worker knows only where they are mounted.
pub(crate) fn with_uris(text: &str) -> String {
    const BESIDE: &str = " (\"pvc://";
    let text = text.replace(&format!("{FOLDER}/"), "pvc://");
    let (mut told, mut rest) = (String::new(), text.as_str());
    // Where the worker said the URI beside the file, it is said once.
    while let Some((before, after)) = rest.split_once(BESIDE) {
        told += before;
        rest = match after.split_once("\")") {
            Some((path, after)) if told.ends_with(&format!("pvc://{path}")) => after,
            _ => {
                told += BESIDE;
                after
            }
        };
    }
    told + rest
}

/// The claims that a job names, each once and by name.
pub(crate) fn claims(spec: &TrainingJobSpec) -> Vec<Claim> {
    let mut claims: BTreeMap<String, bool> = BTreeMap::new();
    for (uri, is_written) in uris(spec) {
        let Ok(uri) = Uri::parse(uri) else { continue };
        if uri.scheme() == Scheme::Pvc {
            *claims.entry(uri.split().0.to_owned()).or_default() |= is_written;
        }
    }
    claims.into_iter().map(|(name, is_written)| Claim { name, is_written }).collect()
}

/// Every URI of a job, and whether it is written to.
fn uris(spec: &TrainingJobSpec) -> Vec<(&str, bool)> {
    let model = &spec.model;
    let read = [model.uri.as_deref(), model.checkpoint.as_ref().map(|checkpoint| checkpoint.uri.as_str())];
    let tokenizer = spec.tokenizer.as_ref();
    let pieces = tokenizer.and_then(|tokenizer| tokenizer.extension.as_ref()?.pieces.as_ref());
    let of_tokenizer =
        [tokenizer.and_then(|tokenizer| tokenizer.uri.as_deref()), pieces.map(|pieces| pieces.uri.as_str())];
    let datasets = spec.data.datasets.iter().map(|dataset| Some(dataset.uri.as_str()));
    let suites = spec.evaluation.iter().map(|evaluation| Some(evaluation.suite.as_ref()?.uri.as_str()));
    let read = read.into_iter().chain(of_tokenizer).chain(datasets).chain(suites).flatten().map(|uri| (uri, false));
    let written = [
        Some(spec.output.uri.as_str()),
        spec.checkpoint.uri.as_deref(),
        spec.data.prepared.as_ref().map(|prepared| prepared.uri.as_str()),
    ];
    read.chain(written.into_iter().flatten().map(|uri| (uri, true))).collect()
}

#[cfg(test)]
mod tests {
    use super::with_uris;

    fn check(text: &str, expected: &str) {
        assert_eq!(with_uris(text), expected);
    }

    #[test]
    fn files_are_named_as_the_job_names_them() {
        check(
            "the file /mnt/palimpsest/data/zh.jsonl, line 7: no JSON",
            "the file pvc://data/zh.jsonl, line 7: no JSON",
        );
        check(
            "there is nothing at /mnt/palimpsest/data/zh (\"pvc://data/zh\"); check the path",
            "there is nothing at pvc://data/zh; check the path",
        );
        check("/mnt/palimpsest/a/b (\"pvc://c/d\") and (\"pvc://e\")", "pvc://a/b (\"pvc://c/d\") and (\"pvc://e\")");
        check("the rank crashed (signal 6)", "the rank crashed (signal 6)");
    }
}
