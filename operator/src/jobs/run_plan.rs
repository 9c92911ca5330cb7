//! What the agents of a job are given to run.

use palimpsest_api::TrainingJobSpec;
use palimpsest_proto::control::RunPlan;

use crate::children::{WORKER, claims};
use crate::resource::TrainingJob;

/// The resource of which each unit is a rank's device.
const GPU: &str = "nvidia.com/gpu";

/// What the agents of a job are given to run.
pub(super) fn run_plan(job: &TrainingJob, spec: &TrainingJobSpec) -> RunPlan {
    let mut as_job = job.as_job(spec);
    // It is told of only while it is not.
    as_job.spec.suspend = false;
    RunPlan {
        profile_steps: 0,
        // Plain data with text keys, which JSON always can express.
        job_json: serde_json::to_string(&as_job).unwrap_or_default(),
        // Not used: on a cluster no URI is relative.
        job_folder: "/".to_owned(),
        mounts: claims(spec).into_iter().map(|claim| (claim.name.clone(), claim.folder())).collect(),
        // As many as the container may use.
        threads: 0,
        device: if asks_for_gpus(spec) { "cuda".to_owned() } else { "cpu".to_owned() },
    }
}

fn asks_for_gpus(spec: &TrainingJobSpec) -> bool {
    let template = spec.workers.template.as_ref();
    let containers = template.and_then(|template| template.pointer("/spec/containers")?.as_array());
    let worker = containers.into_iter().flatten().find(|container| container["name"] == WORKER);
    worker.is_some_and(|worker| match &worker["resources"]["limits"][GPU] {
        serde_json::Value::Null => false,
        quantity => quantity.as_str() != Some("0") && quantity.as_u64() != Some(0),
    })
}
