//! An agent that dials an operator over TLS: whom it trusts, what it shows, and what it says where that fails.
#![allow(clippy::panic, clippy::unwrap_used, reason = "a test fails by panicking")]

use palimpsest_api::TrainingJob;
use palimpsest_control::Refusal;
use palimpsest_proto::control::{RunPlan, finished, report};
use palimpsest_tests::{
    AgentFolder, Authority, Door, Operator, SMALL_JOB, Seen, free_address, job_of, plan_of, write_job,
};

fn mk_job(folder: &std::path::Path) -> (TrainingJob, RunPlan) {
    let longer = SMALL_JOB.replace("budget: {tokens: 20000}", "budget: {tokens: 100000}\n      maxRepeats: 100");
    let job = job_of(&std::fs::read_to_string(write_job(folder, &longer)).unwrap());
    let plan = RunPlan { threads: 1, ..plan_of(&job, folder) };
    (job, plan)
}

fn attached(seen: &Seen) -> Option<(String, Option<u64>)> {
    match seen {
        Seen::Attached(caller, _, running) => Some((caller.uid.clone(), *running)),
        _ => None,
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_keeps_an_agent_from_its_operator_is_said_once_with_the_file_and_the_remedy() {
    let folder = tempfile::tempdir().unwrap();
    let (job, plan) = mk_job(folder.path());
    let mounted = AgentFolder::new(folder.path(), "pod");
    let (authority, other) = (Authority::new(), Authority::new());
    let (address, door) = (free_address(), Door::default());
    door.accept("new");
    let mut operator = Operator::start(address, authority.identity(), &door, &job, plan.clone()).await;
    let agent = mounted.start(&[], &format!("https://{address}"), "small-0-0", &[]);

    agent.logs("token: it cannot be read");
    mounted.write_token("");
    agent.logs("token: it holds no token");
    mounted.write_token("old");
    agent.logs("ca.pem: it cannot be read");
    mounted.write_authority("no PEM");
    agent.logs("does not vouch for");
    let others = agent.logs("does not vouch for");
    mounted.write_authority(&other.pem());
    // No PEM at all and another authority are the same trouble: an unknown issuer.
    tokio::time::sleep(std::time::Duration::from_millis(500)).await;
    assert_eq!(agent.logs("does not vouch for"), others);
    mounted.write_authority(&authority.pem());
    agent.logs("does not accept the token in --token-file");
    // Another replica coordinates: that goes without saying.
    door.refuse(Refusal::NotLeader("the leader is operator-1".to_owned()));
    tokio::time::sleep(std::time::Duration::from_secs(1)).await;
    door.accept("new");
    mounted.write_token("new");
    assert_eq!(operator.until(attached).await, ("new".to_owned(), None));
    agent.logs("the coordinator answers again");
    drop(operator);
    let operator = Operator::start(address, authority.expired_identity(), &door, &job, plan).await;
    agent.logs("certificate expired");
    drop(operator);

    let log = agent.log();
    assert!(!log.contains("operator-1"), "{log}");
    for said_once in ["cannot be read", "holds no token", "does not accept"] {
        let lines = log.lines().filter(|line| line.contains(said_once));
        let wanted = if said_once == "cannot be read" { 2 } else { 1 };
        assert_eq!(lines.count(), wanted, "{said_once}: {log}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_operator_that_comes_back_with_another_authority_and_token_finds_its_ranks_training() {
    let folder = tempfile::tempdir().unwrap();
    let (job, plan) = mk_job(folder.path());
    let mounted = AgentFolder::new(folder.path(), "pod");
    let (first, second) = (Authority::new(), Authority::new());
    let (address, door) = (free_address(), Door::default());
    door.accept("one");
    mounted.write_authority(&first.pem());
    mounted.write_token("one");
    let mut operator = Operator::start(address, first.identity(), &door, &job, plan.clone()).await;
    let mut agent = mounted.start(&[], &format!("https://{address}"), "small-0-0", &[]);
    assert_eq!(operator.until(attached).await, ("one".to_owned(), None));
    operator.step(12).await;
    drop(operator);

    let steps = || std::fs::read_to_string(folder.path().join("out/metrics.jsonl")).unwrap().lines().count();
    let before = steps();
    while steps() < before + 3 {
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    }
    mounted.write_authority(&second.pem());
    mounted.write_token("two");
    door.accept("two");
    let mut operator = Operator::start(address, second.identity(), &door, &job, plan).await;
    assert_eq!(operator.until(attached).await, ("two".to_owned(), Some(1)), "it goes on meanwhile");
    // What was told to the first is told again.
    let mut told = Vec::new();
    operator
        .until(|seen| match seen {
            Seen::Told(report::Report::Progress(_)) => Some(()),
            Seen::Told(report) => {
                told.push(report.clone());
                None
            }
            _ => None,
        })
        .await;
    assert!(told.iter().any(|report| matches!(report, report::Report::Planned(_))), "{told:?}");
    assert!(told.iter().any(|report| matches!(report, report::Report::CheckpointCommitted(_))), "{told:?}");
    assert!(told.iter().any(|report| matches!(report, report::Report::Evaluation(_))), "{told:?}");
    let outcome = operator
        .until(|seen| match seen {
            Seen::Told(report::Report::Finished(finished)) => Some(finished.outcome()),
            _ => None,
        })
        .await;
    assert_eq!(outcome, finished::Outcome::Succeeded);
    let coordinator = operator.session.coordinator();
    assert_eq!((coordinator.attempt(), coordinator.restarts()), (1, 0));
    operator.session.dismiss();
    assert_eq!(agent.wait().0.code(), Some(0));
    let termination = agent.termination();
    assert_eq!(termination["cause"], "Succeeded", "{termination}");
}
