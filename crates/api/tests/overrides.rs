//! `--set PATH=VALUE`, and which changes of a job can change its result.

use palimpsest_api::{TrainingJob, differing_fields, load, result_digest};

const JOB: &str = include_str!("../fixtures/good/design.yaml");

fn mk_job(overrides: &[&str]) -> TrainingJob {
    let overrides: Vec<String> = overrides.iter().map(|text| (*text).to_owned()).collect();
    load(JOB, &overrides).expect("the job can be read")
}

#[test]
fn overrides_replace_add_and_take_away() {
    let job = mk_job(&[
        "spec.stages[0].budget.tokens=1000",
        "stages[1].budget={epochs: 3}",
        "seed=7",
        "metadata.name=other",
        "metadata.labels[\"example.com/team\"]=nlp",
        "stages[0].optimizer.learningRate=3e-4",
        "stages[0].spikes=null",
        "data.datasets[0].language=no",
        "tokenizer.extension.learnFrom=[zh-web]",
        "spec.output.uri=file://elsewhere",
        "model={architecture: {hidden_size: 64}}",
        "model.architecture.rope_scaling.rope_type=llama3",
    ]);
    assert_eq!(job.spec.stages[0].budget.tokens, Some(1000));
    assert_eq!(job.spec.stages[1].budget.epochs, Some(3));
    assert_eq!(job.spec.stages[1].budget.steps, None);
    assert_eq!(job.spec.seed, 7);
    assert_eq!(job.metadata.name, "other");
    assert_eq!(job.metadata.labels["example.com/team"], "nlp");
    assert_eq!(job.spec.stages[0].optimizer.learning_rate.to_string(), "3e-4");
    assert_eq!(job.spec.stages[0].spikes, Default::default());
    assert_eq!(job.spec.data.datasets[0].language.as_deref(), Some("no"));
    assert_eq!(job.spec.tokenizer.unwrap().extension.unwrap().learn_from, ["zh-web"]);
    assert_eq!(job.spec.output.uri, "file://elsewhere");
    assert_eq!(job.spec.model.architecture.unwrap()["rope_scaling"]["rope_type"], "llama3");
}

#[test]
fn an_error_in_a_file_has_its_place_as_data() {
    let error = load(&JOB.replace("buckets: 10", "buckets: ten"), &[]).unwrap_err();
    assert_eq!((error.field.as_str(), error.line), ("spec.stages[0].buckets", Some(35)));
    let error = load(JOB, &["spec.seed=many".to_owned()]).unwrap_err();
    assert_eq!((error.field.as_str(), error.line), ("spec.seed", None));
}

#[test]
fn what_cannot_change_the_result_does_not_change_the_digest() {
    let job = mk_job(&[]);
    for change in [
        "suspend=true",
        "runPolicy.backoffLimit=1",
        "checkpoint.intervalSteps=1",
        "checkpoint.intervalSteps=null",
        "checkpoint.keep=9",
        "checkpoint.terminationSeconds=9",
        "checkpoint.uri=pvc://other/place",
        "data.prepared.uri=pvc://other/place",
        "output.uri=pvc://other/place",
        "output.onExisting=Replace",
        "workers=null",
        "stores=null",
        "managedBy=example.com/other",
        "metadata.labels={a: b}",
        "metadata.annotations={a: b}",
        "metadata.namespace=other",
        "stages[0].optimizer.learningRate=0.0001",
        "stages[0].optimizer.betas=['.9', '0.950']",
    ] {
        let changed = mk_job(&[change]);
        assert_ne!(changed, job, "{change}");
        assert_eq!(differing_fields(&job, &changed), [""; 0], "{change}");
        assert_eq!(result_digest(&changed), result_digest(&job), "{change}");
    }
}

#[test]
fn what_can_change_the_result_is_named() {
    let job = mk_job(&[]);
    for (change, field) in [
        ("seed=7", "spec.seed"),
        ("metadata.name=other", "metadata.name"),
        ("stages[1].budget.steps=401", "spec.stages[1].budget.steps"),
        ("stages[0].optimizer.learningRate=2e-4", "spec.stages[0].optimizer.learningRate"),
        ("stages[0].mixture[1].weight=31", "spec.stages[0].mixture[1].weight"),
        ("stages[0].schedule.decaySteps=5", "spec.stages[0].schedule.decaySteps"),
        ("model.uri=pvc://models/other", "spec.model.uri"),
        ("tokenizer=null", "spec.tokenizer"),
        ("output.dtype=Float32", "spec.output.dtype"),
        ("parallelism.data=Replicate", "spec.parallelism.data"),
        ("precision=Float32", "spec.precision"),
        ("data.datasets[0].uri=pvc://other/place", "spec.data.datasets[0].uri"),
        ("data.datasets[0].holdOut=null", "spec.data.datasets[0].holdOut"),
        ("evaluation[1]={name: en, bitsPerByte: {dataset: zh-web}, when: [JobEnd]}", "spec.evaluation[1].name"),
    ] {
        let changed = mk_job(&[change]);
        assert_eq!(differing_fields(&job, &changed).first().map(String::as_str), Some(field), "{change}");
        assert_eq!(differing_fields(&changed, &job).first().map(String::as_str), Some(field), "{change}");
        assert_ne!(result_digest(&changed), result_digest(&job), "{change}");
    }
    let mut shorter = job.clone();
    shorter.spec.stages.pop();
    assert_eq!(differing_fields(&job, &shorter), ["spec.stages[1]"]);
}

#[test]
fn the_order_in_the_file_means_nothing() {
    let swapped = JOB.replace("{dataset: zh-web, weight: 70}", "{weight: 70, dataset: zh-web}");
    assert_ne!(swapped, JOB);
    assert_eq!(result_digest(&load(&swapped, &[]).unwrap()), result_digest(&mk_job(&[])));
}
