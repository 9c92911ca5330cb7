//! Several operators: one leads, and hands over.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use palimpsest_tests::{Mishap, Script, World};
use serde_json::json;

use crate::mishap;

#[tokio::test(flavor = "multi_thread")]
async fn another_replica_takes_over_what_runs_without_a_step_lost() {
    let world = World::new().await;
    let script = mishap(12, Mishap::Wait);
    let mut first = world.operator(&[]);
    world.submit("zh", script, json!({})).await;
    world.wait("zh", "step 11", |job| job["status"]["progress"]["step"] == 11).await;
    let mut second = world.operator(&[]);
    first.kill();
    world.rewrite("zh", |script| script.mishaps = BTreeMap::from([(16, Mishap::Wait)]));
    // Nobody leads, and training goes on.
    let began = Instant::now();
    while world.folder("zh").step < 15 {
        assert!(began.elapsed() < Duration::from_secs(5), "{world:?}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    world.rewrite("zh", |script| script.mishaps.clear());
    let job = world.wait_for("zh", "Succeeded", "True").await;
    println!("from the leader's end to the end of the job: {:?}", began.elapsed());
    assert_eq!(job["status"]["attempt"], 1);
    let folder = world.folder("zh");
    assert_eq!((folder.repeated, folder.begun.len(), folder.harm), (0, 1, vec![]));
    // One that is told to end gives the lease up: the next leads at once.
    let _third = world.operator(&[]);
    tokio::time::sleep(Duration::from_millis(1200)).await;
    assert!(second.end().success());
    let began = Instant::now();
    world.submit("next", Script::default(), json!({"output": {"uri": "pvc://models/next"}, "suspend": true})).await;
    world.wait_for("next", "Suspended", "True").await;
    assert!(began.elapsed() < Duration::from_secs(3), "{:?}", began.elapsed());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_leader_whose_certificate_gets_old_hands_over_and_no_agent_is_lost() {
    let world = World::new().await;
    let lifetime = Duration::from_secs(9);
    let start = || world.short_lived_operator(lifetime.as_secs(), &[]);
    let began = Instant::now();
    let mut operator = start();
    // Longer than two certificates are valid.
    world.submit("zh", Script { steps: 100, step_millis: 250, ..Script::default() }, json!({})).await;
    let mut handed_over = 0;
    while began.elapsed() < lifetime * 2 + Duration::from_secs(2) {
        if let Some(status) = operator.ended() {
            assert!(status.success(), "{}", operator.log());
            handed_over += 1;
            operator = start();
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    assert!(handed_over >= 2, "{handed_over}");
    let _last = world.operator(&[]);
    let status = world.wait_for("zh", "Succeeded", "True").await["status"].clone();
    assert_eq!(
        (status["attempt"].clone(), status["restarts"].clone(), status["disruptions"].clone()),
        (json!(1), json!(0), json!(0))
    );
    let folder = world.folder("zh");
    assert_eq!((folder.repeated, folder.begun.len(), folder.harm), (0, 1, vec![]));
}
