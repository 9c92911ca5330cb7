//! The leader's work: watches, and the visits that they ask for.

use std::sync::Arc;

use anyhow::{Context as _, Result, bail};
use futures::{Stream, StreamExt, pin_mut};
use k8s_openapi::NamespaceResourceScope;
use k8s_openapi::api::core::v1::Pod;
use kube::runtime::WatchStreamExt;
use kube::runtime::watcher::{self, Event, watcher};
use kube::{Api, Client, Resource};
use tokio::sync::oneshot;
use tokio::task::JoinSet;

use crate::children::{MANAGED_BY_LABEL, OPERATOR};
use crate::jobs::JobKey;
use crate::queue::{Served, Workload};
use crate::reconcile::{Context, reconcile};
use crate::resource::TrainingJob;

/// Watches and visits until the future is dropped.
pub(crate) async fn run(
    client: Client,
    namespace: Option<&str>,
    concurrency: u16,
    context: Arc<Context>,
) -> Result<()> {
    let (pods_listed, pods_are_listed) = oneshot::channel();
    let (jobs_listed, jobs_are_listed) = oneshot::channel();
    let (looked_for, are_looked_for) = oneshot::channel();
    let visits = async {
        // Before it is known which pods there are, each job seems to have none; and before it is known which are admitted, none may run.
        let listed = tokio::try_join!(pods_are_listed, are_looked_for, jobs_are_listed);
        listed.context("a watch has ended")?;
        visit_all(concurrency, &context).await
    };
    let pods = watch_pods(scoped(client.clone(), namespace), &context, pods_listed);
    let workloads = watch_workloads(scoped(client.clone(), namespace), &context, looked_for);
    tokio::select! {
        () = pods => bail!("the watch of pods has ended"),
        () = workloads => bail!("the watch of workloads has ended"),
        () = watch_jobs(scoped(client, namespace), &context, jobs_listed) => bail!("the watch of jobs has ended"),
        visited = visits => visited,
    }
}

/// Makes the visits that are asked for. Those under way end with the future.
async fn visit_all(concurrency: u16, context: &Arc<Context>) -> Result<()> {
    let mut visits = JoinSet::new();
    loop {
        tokio::select! {
            key = context.visits.take(), if visits.len() < usize::from(concurrency) => {
                visits.spawn(visit(key, context.clone()));
            }
            Some(ended) = visits.join_next() => ended.context("a visit broke off")?,
        }
    }
}

async fn visit(key: JobKey, context: Arc<Context>) {
    let again = match context.listed.get(&key) {
        Some(job) => reconcile(&job, &context).await,
        None => None,
    };
    context.visits.done(&key, again);
}

fn scoped<K>(client: Client, namespace: Option<&str>) -> Api<K>
where
    K: Resource<Scope = NamespaceResourceScope, DynamicType = ()>,
{
    match namespace {
        Some(namespace) => Api::namespaced(client, namespace),
        None => Api::all(client),
    }
}

/// Keeps what is known of jobs, asks for visits to those that change, and tells when all were listed once.
async fn watch_jobs(jobs: Api<TrainingJob>, context: &Context, listed: oneshot::Sender<()>) {
    let mut listed = Some(listed);
    let events = watcher(jobs, watcher::Config::default()).default_backoff();
    pin_mut!(events);
    while let Some(event) = next_of(&mut events, "jobs").await {
        let is_listed = matches!(event, Event::InitDone);
        let concerned = context.listed.watch(event);
        for key in &concerned.gone {
            context.jobs.forget(key);
        }
        for key in &concerned.changed {
            context.visits.add(key);
        }
        tell_once(is_listed, &mut listed);
    }
}

/// Keeps the index of pods, asks for visits to the jobs whose pods change, and tells when all pods were listed once.
async fn watch_pods(pods: Api<Pod>, context: &Context, listed: oneshot::Sender<()>) {
    let mut listed = Some(listed);
    let ours = watcher::Config::default().labels(&format!("{MANAGED_BY_LABEL}={OPERATOR}"));
    let events = watcher(pods, ours).default_backoff();
    pin_mut!(events);
    while let Some(event) = next_of(&mut events, "pods").await {
        for key in context.pods.watch(&event) {
            context.visits.add(&key);
        }
        tell_once(matches!(event, Event::InitDone), &mut listed);
    }
}

/// What a watch says next. It goes on by itself after an error.
async fn next_of<K>(
    events: &mut (impl Stream<Item = watcher::Result<Event<K>>> + Unpin),
    what: &str,
) -> Option<Event<K>> {
    loop {
        match events.next().await? {
            Ok(event) => return Some(event),
            Err(error) => tracing::warn!("watching {what}: {error}"),
        }
    }
}

fn tell_once(is_listed: bool, listed: &mut Option<oneshot::Sender<()>>) {
    if is_listed && let Some(listed) = listed.take() {
        // Nobody waits any more once this replica ends.
        let _ = listed.send(());
    }
}

/// Keeps the index of Workloads, asks for visits to the jobs whose Workloads change, and tells when it is known which there are, or that
/// there can be none. Kueue may be installed at any time: where its API is not served, it is looked for again every half minute.
async fn watch_workloads(workloads: Api<Workload>, context: &Context, looked_for: oneshot::Sender<()>) {
    let mut looked_for = Some(looked_for);
    let ours = watcher::Config::default().labels(&format!("{MANAGED_BY_LABEL}={OPERATOR}"));
    let events = watcher(workloads, ours).default_backoff();
    pin_mut!(events);
    while let Some(event) = events.next().await {
        let is_answer = !matches!(event, Ok(Event::Init | Event::Apply(_) | Event::InitApply(_) | Event::Delete(_)));
        let before = context.workloads.served();
        let mut concerned = match event {
            Ok(event) => context.workloads.watch(event),
            Err(error) => match not_served(&error, before == Served::Yes) {
                Some(why) => context.workloads.not_served(why),
                None => {
                    tracing::warn!("watching workloads: {error}");
                    continue;
                }
            },
        };
        if before != context.workloads.served() {
            match context.workloads.served() {
                Served::Yes => tracing::info!("Kueue is there: jobs with the label of a queue are queued"),
                Served::No(why) => tracing::info!("there is no Kueue: {why}"),
            }
            concerned.extend(context.jobs.in_state("Queued"));
        }
        for key in concerned {
            context.visits.add(&key);
        }
        tell_once(is_answer, &mut looked_for);
    }
}

/// Why an API server serves no Workloads, where that is what an error says. Where it has served them, a right that was taken away changes
/// nothing of what is known.
fn not_served(error: &watcher::Error, did_serve: bool) -> Option<String> {
    let status = match error {
        watcher::Error::InitialListFailed(kube::Error::Api(status))
        | watcher::Error::WatchStartFailed(kube::Error::Api(status))
        | watcher::Error::WatchFailed(kube::Error::Api(status)) => status,
        watcher::Error::WatchError(status) => status,
        _ => return None,
    };
    match status.code {
        404 => Some("the API server serves no Workloads".to_owned()),
        403 if !did_serve => Some(format!("the operator may not see them: {}", status.message)),
        _ => None,
    }
}
