//! A visit to a job: look, plan, write. What is to be written first stands first, so that whoever visits next, after a crash at
//! any point, finds what it needs.

mod cluster;
mod error;
mod events;
mod queue;
mod workloads;

use std::sync::{Arc, Mutex};
use std::time::Duration;

use k8s_openapi::jiff::Timestamp;
use palimpsest_api::{Condition, ConditionStatus, TrainingJobSpec, TrainingJobStatus};
use tokio::time::Instant;

pub(crate) use cluster::Cluster;
use cluster::Said;
pub(crate) use error::Result;

use crate::budget::Budget;
use crate::children::{Identity, config_map, pod};
use crate::jobs::{Entry, JobKey, Jobs, Listed, PodIndex, WorkloadIndex, lock};
use crate::metrics::Metrics;
use crate::observe::Refusal;
use crate::plan::{Agents, Plan, Refused, Sight, plan};
use crate::queue::{Place, Terms, Workload, as_admitted, place};
use crate::resource::TrainingJob;
use crate::settings::Settings;
use crate::status::{Urgency, urgency};
use crate::visits::Visits;

/// Whose jobs are ours, in `spec.managedBy`.
const MANAGER: &str = "palimpsest.dev/operator";

/// How often figures of a job are written at most. Where many jobs run, the budget of all makes it less often.
const FIGURES_INTERVAL: Duration = Duration::from_secs(2);

/// When a pod that was refused is tried again.
const REFUSED_AGAIN: Duration = Duration::from_secs(5);

/// What visits share.
pub(crate) struct Context {
    pub(crate) cluster: Cluster,
    pub(crate) settings: Settings,
    pub(crate) jobs: Arc<Jobs>,
    pub(crate) listed: Listed,
    pub(crate) pods: PodIndex,
    pub(crate) workloads: WorkloadIndex,
    pub(crate) visits: Visits,
    pub(crate) budget: Mutex<Budget>,
    pub(crate) began: Instant,
    pub(crate) metrics: Metrics,
}

/// Visits a job, and says after how long it is to be visited again if nothing is heard of it.
pub(crate) async fn reconcile(job: &TrainingJob, context: &Context) -> Option<Duration> {
    let measured = context.metrics.visit();
    let visited = visit(job, context).await;
    drop(measured);
    context.metrics.visited(&visited);
    match visited {
        Ok(again) => again,
        Err(error) => {
            let delay = lock(&context.jobs.enter(job)).retry_delay();
            tracing::warn!(job = %JobKey::of(job), "{error}; tried again in {delay:?}");
            Some(delay)
        }
    }
}

async fn visit(job: &TrainingJob, context: &Context) -> Result<Option<Duration>> {
    let spec = match &job.spec.0 {
        Ok(spec) if spec.managed_by == MANAGER => spec.clone(),
        Ok(_) => return Ok(None),
        Err(why) => return refuse_to_read(job, why, context).await,
    };
    let entry = context.jobs.enter(job);
    if lock(&entry).is_overtaken(job) {
        tracing::warn!(job = %JobKey::of(job), "the operator that led before has written to the job; taken over anew");
        context.jobs.forget(&JobKey::of(job));
        return Ok(Some(Duration::ZERO));
    }
    if !job.is_deleted() && !lock(&entry).is_kept(Cluster::is_kept(job)) {
        let kept = context.cluster.keep(job, true).await?;
        lock(&entry).keep(kept.as_ref());
    }
    let now = Timestamp::now();
    let workload = context.workloads.of(job);
    let place = {
        let served = context.workloads.served();
        place(job, &spec, &served, workload.as_ref(), lock(&entry).kept_from_queue())
    };
    let spec = as_admitted(&spec, &place);
    find_those_left(job, &spec, &entry, context).await?;
    let seen = Seen { job, spec: &spec, place: &place, workload: workload.as_ref() };
    try_template(seen, &entry, context).await?;
    let (old, plan) = look(seen, &entry, context, now);
    if plan.claims_that_none_runs(&old) && !knows_all(seen, &entry, &old, context).await? {
        return Ok(Some(Duration::ZERO));
    }
    let slot = match write_status(job, &entry, &old, &plan, context, now).await? {
        Written::Yes => None,
        Written::NotYet(slot) => Some(slot),
        Written::Late => {
            if let Some(found) = context.cluster.job(job).await? {
                context.listed.renew(found);
            }
            // As a rule the first try after this one goes by what was found.
            return Ok(Some(lock(&entry).retry_delay()));
        }
    };
    {
        let mut entry = lock(&entry);
        entry.tell(plan.agents, job, &spec, now);
        context.metrics.lost_work(entry.take_lost_work());
    }
    let refused = make_pods(seen, &entry, &old, &plan, context).await?;
    for deletion in &plan.pods.deletions {
        if let Some(pod) = context.cluster.delete_pod(job, deletion).await? {
            context.pods.told_to_go(&pod);
        }
    }
    let walked = queue::walk(plan.step.as_ref(), job, workload.as_ref(), &entry, context).await?;
    if plan.is_outdated {
        context.cluster.delete_job(job).await?;
    }
    if job.is_deleted() && plan.is_released {
        if !queue::has_left(walked, job, workload.as_ref(), context).await? {
            return Ok(Some(walked.again().unwrap_or_default()));
        }
        if Cluster::is_kept(job) {
            context.cluster.keep(job, false).await?;
        }
        context.jobs.forget(&JobKey::of(job));
        return Ok(None);
    }
    lock(&entry).succeeded();
    let look_again = plan.look_again.map(|time| Duration::try_from(time.duration_since(now)).unwrap_or_default());
    // What a plan began is looked at once more, now that it has begun.
    let began = (plan.agents == Agents::Coordinate && lock(&entry).is_new()).then_some(Duration::ZERO);
    Ok(look_again.into_iter().chain(slot).chain(refused).chain(began).chain(walked.again()).min())
}

/// A job as a visit finds it.
#[derive(Clone, Copy)]
struct Seen<'s> {
    job: &'s TrainingJob,
    spec: &'s TrainingJobSpec,
    place: &'s Place,
    workload: Option<&'s Workload>,
}

/// Asks the API server for the pods of an attempt that an operator before this one left under way, where the watch knows nothing of them:
/// one that is missing counts as taken away.
async fn find_those_left(
    job: &TrainingJob,
    spec: &TrainingJobSpec,
    entry: &Mutex<Entry>,
    context: &Context,
) -> Result<()> {
    let known = context.pods.of(&JobKey::of(job), job.uid());
    if lock(entry).is_to_find(spec, &known) {
        context.pods.find(job.uid(), &context.cluster.pods_of(job).await?);
    }
    Ok(())
}

/// Has the API server judge the template of a job that makes no pods yet: what is wrong with it is said before anybody waits for its turn.
/// What may change until then, as a quota, is said when the job is to run.
async fn try_template(seen: Seen<'_>, entry: &Mutex<Entry>, context: &Context) -> Result<()> {
    let Seen { job, spec, place, .. } = seen;
    let is_idle = !job.is_deleted() && (spec.suspend || place.block().is_some());
    let next = {
        let mut entry = lock(entry);
        if entry.is_over() || !entry.is_to_try(job, is_idle) {
            return Ok(());
        }
        entry.status().incarnation.unwrap_or(0) + 1
    };
    let identity = Identity { index: 0, incarnation: next };
    let refusal = match pod(job, spec, &context.settings, identity, None) {
        Ok(pod) => context.cluster.try_to_make(job, &pod).await?,
        Err(message) => Some(Refusal::Invalid(message)),
    };
    let refused = match refusal {
        Some(Refusal::Invalid(message)) => Some(Refused::Invalid(message)),
        _ => None,
    };
    lock(entry).refuse(refused, job.metadata.generation);
    Ok(())
}

/// What was said last, and what happens next.
fn look(
    Seen { job, spec, place, workload }: Seen<'_>,
    entry: &Mutex<Entry>,
    context: &Context,
    now: Timestamp,
) -> (TrainingJobStatus, Plan) {
    let mut pods = context.pods.of(&JobKey::of(job), job.uid());
    let mut entry = lock(entry);
    for pod in &mut pods {
        // A kubelet alone may be silent: its pods train on, and are heard of here.
        pod.is_cut_off &= !entry.is_attached(&pod.name);
    }
    let may_run = !spec.suspend && place.block().is_none();
    entry.look_at(job, spec, may_run, &pods, now);
    let plan = plan(&Sight {
        job,
        spec,
        place,
        workload,
        status: entry.status(),
        pods: &pods,
        coordination: entry.coordination(now),
        told: entry.told(),
        refusal: entry.refused(),
        unused: entry.unused(),
        failures: entry.failures(),
        now,
    });
    (entry.status().clone(), plan)
}

/// What has come of a status.
enum Written {
    /// It is as a plan wants it.
    Yes,
    /// It holds figures only, which have to wait so long.
    NotYet(Duration),
    /// The job has changed since it was seen: nothing was written.
    Late,
}

/// Says what is new, where it is a turn or its turn has come.
async fn write_status(
    job: &TrainingJob,
    entry: &Mutex<Entry>,
    old: &TrainingJobStatus,
    plan: &Plan,
    context: &Context,
    now: Timestamp,
) -> Result<Written> {
    match urgency(old, &plan.status) {
        Urgency::Unchanged => return Ok(Written::Yes),
        Urgency::Transition => {}
        Urgency::Progress => {
            let mut entry = lock(entry);
            let since = context.began.elapsed();
            let own = entry.now();
            // Each job counts its time from when it was first seen, the budget from when the operator began.
            let slot = entry.slot(FIGURES_INTERVAL, |earliest| {
                lock(&context.budget).reserve(since + earliest.saturating_sub(own)).saturating_sub(since) + own
            });
            if slot > own {
                entry.await_slot();
                return Ok(Written::NotYet(slot - own));
            }
        }
    }
    let failure = lock(entry).failure();
    let turns = events::turns(old, &plan.status, failure.as_deref());
    // What is counted is told of first: whoever comes to the same count tells of it under the same name.
    for turn in turns.iter().filter(|turn| turn.count.is_some()) {
        context.cluster.publish(job, &turn.event(job, now)).await?;
    }
    let version = lock(entry).writes(&plan.status);
    match context.cluster.say(job, &plan.status, version).await? {
        Said::Yes(job) => lock(entry).wrote(*job),
        Said::Gone => {}
        Said::Late => return Ok(Written::Late),
    }
    for turn in turns.iter().filter(|turn| turn.count.is_none()) {
        context.cluster.publish(job, &turn.event(job, now)).await?;
    }
    Ok(Written::Yes)
}

/// Whether a plan knows of every pod there is. Where a name was used up before, its pod may be there although the plan knows nothing of it:
/// the answer to its making was lost, and the watch lagged, or has told of it since.
async fn knows_all(seen: Seen<'_>, entry: &Mutex<Entry>, old: &TrainingJobStatus, context: &Context) -> Result<bool> {
    if old.incarnation.is_none() {
        return Ok(true);
    }
    let there = context.pods.find(seen.job.uid(), &context.cluster.pods_of(seen.job).await?);
    let entry = lock(entry);
    Ok(there.iter().all(|pod| entry.has_seen(pod)))
}

/// Makes the pods of a plan; where one was refused, gives when to come again.
async fn make_pods(
    seen: Seen<'_>,
    entry: &Mutex<Entry>,
    old: &TrainingJobStatus,
    plan: &Plan,
    context: &Context,
) -> Result<Option<Duration>> {
    if plan.pods.creations.is_empty() {
        return Ok(None);
    }
    if !knows_all(seen, entry, old, context).await? {
        context.visits.add(&JobKey::of(seen.job));
        return Ok(None);
    }
    // Where no answer comes, any of the names may be used.
    lock(entry).keep_unused(None);
    let (refusal, unused) = make_each(seen, plan, context).await?.unzip();
    lock(entry).keep_unused(unused);
    let refused = match refusal {
        None => None,
        Some(Refusal::Blocked(block)) => Some(Refused::Blocked(block)),
        Some(Refusal::Invalid(message)) => Some(Refused::Invalid(message)),
        // The job goes with it.
        Some(Refusal::NamespaceGoes | Refusal::Exists | Refusal::Transient) => None,
    };
    let is_refused = refused.is_some();
    let is_new = lock(entry).refuse(refused, seen.job.metadata.generation);
    // What is new is to be said.
    Ok(is_refused.then_some(if is_new { Duration::ZERO } else { REFUSED_AGAIN }))
}

/// Gives why one was refused, and its number: neither it nor one of those after it was made.
async fn make_each(seen: Seen<'_>, plan: &Plan, context: &Context) -> Result<Option<(Refusal, u64)>> {
    let Seen { job, spec, place, workload } = seen;
    let Some(first) = plan.pods.creations.first().map(|identity| identity.incarnation) else { return Ok(None) };
    let terms = match (place, workload) {
        (Place::Admitted { .. }, Some(workload)) => match queue::terms(job, workload, context).await? {
            Ok(terms) => terms,
            Err(refusal) => return Ok(Some((refusal, first))),
        },
        _ => Terms::default(),
    };
    if let Some(refusal) = context.cluster.configure(job, &config_map(job, spec, &context.settings)).await? {
        return Ok(Some((refusal, first)));
    }
    for identity in &plan.pods.creations {
        if let Some(refusal) = make_pod(seen, &terms, *identity, plan, context).await? {
            return Ok(Some((refusal, identity.incarnation)));
        }
    }
    Ok(None)
}

async fn make_pod(
    Seen { job, spec, .. }: Seen<'_>,
    terms: &Terms,
    identity: Identity,
    plan: &Plan,
    context: &Context,
) -> Result<Option<Refusal>> {
    let image = plan.status.resolved.as_ref().and_then(|resolved| resolved.image.as_deref());
    let made = pod(job, spec, &context.settings, identity, image);
    let made = made.and_then(|mut pod| terms.apply(&mut pod).map(|()| pod));
    let pod = match made {
        Ok(pod) => pod,
        Err(message) => return Ok(Some(Refusal::Invalid(message))),
    };
    match context.cluster.make(job, &pod).await? {
        Ok(made) => context.pods.made(&made),
        // A leader before this one made it.
        Err(Refusal::Exists) => {
            if let Some(found) = context.cluster.pod(job, identity).await? {
                context.pods.made(&found);
            }
        }
        Err(refusal) => return Ok(Some(refusal)),
    }
    Ok(None)
}

/// A newer definition may allow what this operator cannot read. That is said, and nothing is done.
async fn refuse_to_read(job: &TrainingJob, why: &str, context: &Context) -> Result<Option<Duration>> {
    let condition = Condition {
        r#type: "Progressing".to_owned(),
        status: ConditionStatus::False,
        observed_generation: job.metadata.generation,
        last_transition_time: crate::status::time(Timestamp::now()),
        reason: "NotUnderstood".to_owned(),
        message: format!("this operator cannot read the spec: {why}; install the newest operator"),
    };
    let is_said = job
        .status
        .conditions
        .iter()
        .any(|said| said.reason == condition.reason && said.observed_generation == condition.observed_generation);
    if !is_said {
        let status = TrainingJobStatus { conditions: vec![condition], ..job.status.clone() };
        // Whoever writes to the job is a reason to come again.
        context.cluster.say(job, &status, job.version()).await?;
    }
    Ok(None)
}
