//! Agents dial the leader. What they tell goes to the job of their pod, and what changes by that is a reason for a visit.

mod certificates;
mod tokens;

use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use anyhow::{Context as _, Result};
use k8s_openapi::jiff::Timestamp;
use palimpsest_control::{Attached, Heard, Identity, LinkId};
use palimpsest_proto::control::{Attempt, Command, Leave, command, report};
use tokio::net::TcpListener;
use tokio::sync::mpsc;

pub(crate) use certificates::Authority;
use tokens::Tokens;

use crate::children::with_uris;
use crate::jobs::{Entry, JobKey, lock};
use crate::reconcile::Context;

/// Serves agents for as long as this replica leads.
pub(crate) async fn serve(
    listener: TcpListener,
    identity: Identity,
    client: kube::Client,
    context: Arc<Context>,
) -> Result<()> {
    let tokens = Tokens::new(client, context.clone());
    let heard = palimpsest_control::serve(listener, Some(identity), tokens).context("cannot serve agents")?;
    listen(heard, &context).await;
    Ok(())
}

async fn listen(mut heard: mpsc::Receiver<Heard>, context: &Context) {
    let mut links: HashMap<LinkId, (JobKey, Arc<Mutex<Entry>>)> = HashMap::new();
    while let Some(heard) = heard.recv().await {
        let concerned = match heard {
            Heard::Attached(attached) => attach(attached, context, &mut links),
            Heard::Reported(mut reported) => links.get(&reported.link).and_then(|(key, entry)| {
                if let report::Report::Failure(failure) = &mut reported.report {
                    failure.message = with_uris(&failure.message);
                }
                let is_due = lock(entry).report(&reported, Timestamp::now());
                is_due.then(|| key.clone())
            }),
            Heard::Detached { link } => links.remove(&link).map(|(key, entry)| {
                lock(&entry).detach(link);
                context.metrics.agent_attached(false);
                key
            }),
        };
        if let Some(key) = concerned {
            context.visits.add(&key);
        }
    }
}

fn attach(
    attached: Attached,
    context: &Context,
    links: &mut HashMap<LinkId, (JobKey, Arc<Mutex<Entry>>)>,
) -> Option<JobKey> {
    let caller = &attached.caller;
    let key = context.pods.job_of(&caller.namespace, &caller.pod, &caller.uid)?;
    // A job that was not visited yet: the stream ends here, and the agent dials again.
    let entry = context.jobs.get(&key)?;
    let link = attached.link;
    let taken = lock(&entry).attach(attached);
    match taken {
        Ok(()) => {
            links.insert(link, (key.clone(), entry));
            context.metrics.agent_attached(true);
        }
        Err(attached) if lock(&entry).is_over() => dismiss(&attached),
        Err(_) => {}
    }
    Some(key)
}

/// Tells an agent that nobody needs it any more: its job is over.
fn dismiss(attached: &Attached) {
    let attempt = attached.attempt.clone().unwrap_or_else(|| Attempt { job_uid: String::new(), number: 0 });
    let leave = command::Command::Leave(Leave {});
    attached.commands.send(Command { attempt: Some(attempt), command: Some(leave) });
}
