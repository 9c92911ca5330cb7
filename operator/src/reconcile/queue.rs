//! A job's dealings with its queue: what a plan wants written to its Workload, and the terms of an admission.

use std::sync::Mutex;
use std::time::Duration;

use k8s_openapi::api::core::v1::PodTemplateSpec;
use kube::runtime::watcher::Event;
use palimpsest_api::TrainingJobSpec;
use serde_json::{Value, json};

use super::error::Result;
use super::workloads::Taken;
use super::{Context, REFUSED_AGAIN};
use crate::children::pod_template;
use crate::jobs::{Entry, lock};
use crate::observe::{Block, Refusal};
use crate::queue::{Priority, Served, Step, Terms, Workload, flavors, make, priority_class, queue_name};
use crate::resource::TrainingJob;

/// When something is looked at again that Kueue has changed meanwhile; as a rule its watch tells of it first.
const LATE_AGAIN: Duration = Duration::from_millis(500);

/// What has come of a step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Walked {
    /// It is done, or there was none.
    Done,
    /// The Workload has changed since it was seen: nothing was done.
    Late,
    /// It was refused, and is tried again after this time.
    Refused(Duration),
}

impl Walked {
    /// When to look again, where nothing else will ask for that.
    pub(super) fn again(self) -> Option<Duration> {
        match self {
            Self::Done => None,
            Self::Late => Some(LATE_AGAIN),
            Self::Refused(again) => Some(again),
        }
    }
}

/// Writes what a plan wants written.
pub(super) async fn walk(
    step: Option<&Step>,
    job: &TrainingJob,
    workload: Option<&Workload>,
    entry: &Mutex<Entry>,
    context: &Context,
) -> Result<Walked> {
    // What is asked for, and not what was admitted of it.
    let (Some(step), Ok(spec)) = (step, &job.spec.0) else { return Ok(Walked::Done) };
    let cluster = &context.cluster;
    let taken = match (step, workload) {
        (Step::Make, _) => make_workload(job, spec, context).await?,
        (_, None) => return Ok(Walked::Done),
        (Step::Move, Some(seen)) => {
            let change = json!({"spec": {"queueName": queue_name(job)}});
            cluster.change_workload(job, seen, change).await?
        }
        (Step::Rank, Some(seen)) => match priority(job, spec, context).await? {
            Ok(priority) => cluster.change_workload(job, seen, json!({"spec": priority.fields()})).await?,
            Err(why) => Taken::No(why),
        },
        (Step::Say(conditions), Some(seen)) => {
            cluster.say_in_workload(job, seen, json!({"conditions": conditions})).await?
        }
        (Step::GiveBack(conditions, seconds), Some(seen)) => {
            let status = json!({
                "conditions": conditions, "admission": null, "accumulatedPastExecutionTimeSeconds": seconds,
            });
            cluster.say_in_workload(job, seen, status).await?
        }
        (Step::Release, Some(seen)) => cluster.change_workload(job, seen, released(seen)).await?,
        (Step::Drop, Some(seen)) => match cluster.change_workload(job, seen, released(seen)).await? {
            Taken::Yes => {
                cluster.delete_workload(job, seen).await?;
                Taken::Yes
            }
            refused => refused,
        },
    };
    let (why, is_refused) = match taken {
        Taken::Yes => (None, false),
        Taken::Late => return Ok(Walked::Late),
        Taken::No(why) => (Some(why), true),
    };
    let is_new = lock(entry).keep_from_queue(why);
    Ok(match is_refused {
        true => Walked::Refused(if is_new { Duration::ZERO } else { REFUSED_AGAIN }),
        false => Walked::Done,
    })
}

/// Whether a job that goes leaves no Workload behind, which its finalizer would keep with its quota. One that the watch has not told of yet
/// is asked for, and is seen at the next visit.
pub(super) async fn has_left(
    walked: Walked,
    job: &TrainingJob,
    workload: Option<&Workload>,
    context: &Context,
) -> Result<bool> {
    if walked == Walked::Late {
        return Ok(false);
    }
    if workload.is_some() || queue_name(job).is_none() || context.workloads.served() != Served::Yes {
        return Ok(true);
    }
    for found in context.cluster.workloads_of(job).await? {
        context.workloads.watch(Event::Apply(found));
    }
    Ok(context.workloads.of(job).is_none())
}

async fn make_workload(job: &TrainingJob, spec: &TrainingJobSpec, context: &Context) -> Result<Taken> {
    let template = match pod_template(job, spec, &context.settings) {
        Ok(template) => template,
        Err(why) => return Ok(Taken::No(why)),
    };
    let priority = match of_classes(job, &template, context).await? {
        Ok(priority) => priority,
        Err(why) => return Ok(Taken::No(why)),
    };
    match make(job, spec, &template, &priority) {
        Ok(workload) => context.cluster.make_workload(job, workload).await,
        Err(why) => Ok(Taken::No(why)),
    }
}

async fn priority(job: &TrainingJob, spec: &TrainingJobSpec, context: &Context) -> Result<Result<Priority, String>> {
    match pod_template(job, spec, &context.settings) {
        Ok(template) => of_classes(job, &template, context).await,
        Err(why) => Ok(Err(why)),
    }
}

async fn of_classes(
    job: &TrainingJob,
    template: &PodTemplateSpec,
    context: &Context,
) -> Result<Result<Priority, String>> {
    let of_pods = template.spec.as_ref().and_then(|spec| spec.priority_class_name.as_deref());
    context.cluster.priority(job, priority_class(job), of_pods).await
}

/// The metadata of a Workload that Kueue's finalizer does not keep any more.
fn released(seen: &Workload) -> Value {
    let others = seen.metadata.finalizers.iter().flatten().filter(|finalizer| *finalizer != crate::queue::FINALIZER);
    json!({"metadata": {"finalizers": others.collect::<Vec<_>>()}})
}

/// The terms on which an admitted job's pods are made, or why there are none.
pub(super) async fn terms(
    job: &TrainingJob,
    workload: &Workload,
    context: &Context,
) -> Result<std::result::Result<Terms, Refusal>> {
    let mut found = Vec::new();
    for name in flavors(workload) {
        match context.cluster.flavor(job, &name).await? {
            Some(flavor) => found.push(flavor),
            None => {
                let message =
                    format!("the job is admitted with the ResourceFlavor {name}, which is not there any more");
                return Ok(Err(Refusal::Blocked(Block::new("FlavorNotFound", message))));
            }
        }
    }
    Ok(Terms::of(workload, &found).map_err(Refusal::Invalid))
}
