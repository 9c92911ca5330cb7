//! What the design declares and this engine does not do yet: refused by name, so that nothing is silently ignored.

use super::{Violation, Violations};
use crate::training_job::TrainingJob;
use crate::uri::{Scheme, Uri};

/// The fields of a valid `job` that this engine cannot honour, for `run`.
pub fn unsupported(job: &TrainingJob) -> Vec<Violation> {
    let spec = &job.spec;
    let mut violations = Violations::default();
    violations.add_if(
        spec.suspend,
        "spec.suspend",
        "the job is suspended; write false, or pass --set spec.suspend=false",
    );
    for (field, uri) in uris(job) {
        if let Ok(parsed) = Uri::parse(&uri)
            && !matches!(parsed.scheme(), Scheme::File | Scheme::Pvc)
        {
            let message = format!(
                "{}:// is not available in this version (\"{uri}\"); copy it here and use file:// or pvc://",
                parsed.scheme()
            );
            violations.add(field, message);
        }
    }
    for (index, dataset) in spec.data.datasets.iter().enumerate() {
        let field = format!("spec.data.datasets[{index}].preparation");
        let Some(preparation) = &dataset.preparation else { continue };
        violations.add_if(
            !preparation.filters.is_empty(),
            format!("{field}.filters"),
            "filters are not available in this version; filter the files first and remove it",
        );
        violations.add_if(
            preparation.deduplicate.is_some(),
            format!("{field}.deduplicate"),
            "deduplication is not available in this version; deduplicate the files first and remove it",
        );
    }
    for (index, evaluation) in spec.evaluation.iter().enumerate() {
        violations.add_if(
            evaluation.suite.is_some(),
            format!("spec.evaluation[{index}].suite"),
            "suites are not available in this version; use bitsPerByte or remove it",
        );
    }
    violations.add_if(
        !spec.stores.is_empty(),
        "spec.stores",
        "object stores are not available in this version; remove it",
    );
    violations.add_if(
        spec.workers.replicas > 1,
        "spec.workers.replicas",
        format!(
            "{} workers are not available in this version; write 1, or pass --set spec.workers.replicas=1",
            spec.workers.replicas
        ),
    );
    violations.list
}

/// Every URI that bytes are read from or written to.
fn uris(job: &TrainingJob) -> Vec<(String, String)> {
    let spec = &job.spec;
    let mut uris: Vec<(String, String)> = Vec::new();
    let mut add = |field: String, uri: Option<&String>| uris.extend(uri.map(|uri| (field, uri.clone())));
    add("spec.model.uri".to_owned(), spec.model.uri.as_ref());
    add("spec.model.checkpoint.uri".to_owned(), spec.model.checkpoint.as_ref().map(|checkpoint| &checkpoint.uri));
    if let Some(tokenizer) = &spec.tokenizer {
        add("spec.tokenizer.uri".to_owned(), tokenizer.uri.as_ref());
        let pieces = tokenizer.extension.as_ref().and_then(|extension| extension.pieces.as_ref());
        add("spec.tokenizer.extension.pieces.uri".to_owned(), pieces.map(|pieces| &pieces.uri));
    }
    add("spec.data.prepared.uri".to_owned(), spec.data.prepared.as_ref().map(|prepared| &prepared.uri));
    for (index, dataset) in spec.data.datasets.iter().enumerate() {
        add(format!("spec.data.datasets[{index}].uri"), Some(&dataset.uri));
    }
    add("spec.checkpoint.uri".to_owned(), spec.checkpoint.uri.as_ref());
    add("spec.output.uri".to_owned(), Some(&spec.output.uri));
    uris
}
