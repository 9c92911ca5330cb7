//! Sights of jobs, and what is planned for each, in a line or two.

use std::fmt::Write as _;
use std::time::Duration;

use expect_test::{Expect, expect};
use palimpsest_api::TrainingJobStatus;
use palimpsest_coordinator::{Cause, State};
use serde_json::{Value, json};

use super::*;
use crate::children::Identity;
use crate::observe::{Block, End, Life, PodView};
use crate::resource::TrainingJob;

/// A job of which much can be known.
struct Case {
    spec: Value,
    metadata: Value,
    status: TrainingJobStatus,
    pods: Vec<PodView>,
    coordination: Option<Coordination>,
    told: Told,
    refusal: Option<Refused>,
    unused: Option<u64>,
    failures: Failures,
    seconds: i64,
}

fn at(seconds: i64) -> Timestamp {
    Timestamp::from_second(1_800_000_000 + seconds).unwrap()
}

fn mk_case() -> Case {
    Case {
        spec: json!({}),
        metadata: json!({}),
        status: TrainingJobStatus::default(),
        pods: Vec::new(),
        coordination: None,
        told: Told::default(),
        refusal: None,
        unused: None,
        failures: Failures::default(),
        seconds: 0,
    }
}

pub(crate) fn mk_coordination(state: State) -> Coordination {
    Coordination {
        state,
        attempt: 1,
        under_way: None,
        restarts: 0,
        failures: 0,
        disruptions: 0,
        waiting_since: None,
        next_deadline: None,
        reason: None,
    }
}

fn waiting() -> State {
    State::Waiting { until: Duration::from_secs(1_000_000) }
}

pub(crate) fn mk_pod(incarnation: u64, life: Life) -> PodView {
    let identity = Identity { index: 0, incarnation };
    PodView {
        job: "zh".to_owned(),
        namespace: "team".to_owned(),
        owner: "j1".to_owned(),
        name: identity.pod_name("zh"),
        uid: format!("p{incarnation}"),
        identity,
        life,
        leaves_by: None,
        disruption: None,
        is_cut_off: false,
        image: None,
    }
}

fn running() -> Life {
    Life::Running { is_ready: true }
}

fn failed() -> Life {
    Life::Ended(End { is_failure: true, ..End::default() })
}

impl Case {
    fn plan(&self) -> Plan {
        let mut metadata = json!({"name": "zh", "namespace": "team", "uid": "j1", "generation": 2});
        metadata.as_object_mut().unwrap().extend(self.metadata.as_object().unwrap().clone());
        let mut spec = json!({
            "model": {"uri": "pvc://models/llama"},
            "data": {"datasets": [{"name": "zh", "uri": "pvc://data/zh"}]},
            "stages": [{"name": "one", "mixture": [{"dataset": "zh", "weight": 1}], "budget": {"steps": 4}}],
            "output": {"uri": "pvc://models/zh"},
        });
        spec.as_object_mut().unwrap().extend(self.spec.as_object().unwrap().clone());
        let job: TrainingJob = serde_json::from_value(json!({"metadata": metadata, "spec": spec})).unwrap();
        plan(&Sight {
            job: &job,
            spec: job.spec.0.as_ref().unwrap(),
            place: &queue::Place::Free,
            workload: None,
            status: &self.status,
            pods: &self.pods,
            coordination: self.coordination.clone(),
            told: &self.told,
            refusal: self.refusal.as_ref(),
            unused: self.unused,
            failures: &self.failures,
            now: at(self.seconds),
        })
    }

    fn check(&self, expected: Expect) -> Plan {
        let plan = self.plan();
        expected.assert_eq(&in_words(&plan, at(self.seconds)));
        plan
    }
}

fn in_words(plan: &Plan, now: Timestamp) -> String {
    let mut words = String::new();
    for condition in &plan.status.conditions {
        let _ = write!(words, "{}={:?} {}", condition.r#type, condition.status, condition.reason);
        words += &if condition.message.is_empty() { "; ".to_owned() } else { format!(" ({}); ", condition.message) };
    }
    let _ = write!(words, "agents: {:?}", plan.agents);
    for identity in &plan.pods.creations {
        let _ = write!(words, "; make {}-{}", identity.index, identity.incarnation);
    }
    for deletion in &plan.pods.deletions {
        let grace = deletion.grace_seconds.map_or(String::new(), |grace| format!(" in {grace} s"));
        let _ = write!(words, "; delete {}{grace}", deletion.name);
    }
    if plan.is_released {
        words += "; let go";
    }
    if plan.is_outdated {
        words += "; outdated";
    }
    if let Some(time) = plan.look_again {
        let _ = write!(words, "; again after {} s", time.duration_since(now).as_secs());
    }
    words
}

#[test]
fn all_conditions_are_there_from_the_first_visit_on() {
    let plan = mk_case().check(expect!["Progressing=True Starting (the workers are starting); Suspended=False NotSuspended; Succeeded=Unknown NotFinished; Failed=Unknown NotFinished; agents: Coordinate; make 0-1"]);
    assert_eq!((plan.status.observed_generation, plan.status.incarnation), (Some(2), Some(1)));
    assert!(plan.status.conditions.iter().all(|condition| condition.observed_generation == Some(2)));
    assert_eq!(plan.status.start_time.as_deref(), Some("2027-01-15T08:00:00Z"));
    assert_eq!(plan.status.selector.as_deref(), Some("palimpsest.dev/job=zh"));
}

#[test]
fn what_keeps_workers_is_said() {
    let blocked = |pod: Life, refusal: Option<Refused>, expected: Expect| {
        let pods = if refusal.is_some() { Vec::new() } else { vec![mk_pod(1, pod)] };
        let coordination = Some(mk_coordination(waiting()));
        let status = TrainingJobStatus { incarnation: Some(1), ..TrainingJobStatus::default() };
        let plan = Case { pods, refusal, coordination, status, ..mk_case() }.plan();
        let progressing = &plan.status.conditions[0];
        expected.assert_eq(&format!("{:?} {}: {}", progressing.status, progressing.reason, progressing.message));
    };
    let pending = |reason, message: &str| Life::Pending(Some(Block::new(reason, message)));
    blocked(pending("Unschedulable", "0/3 nodes"), None, expect!["False Unschedulable: 0/3 nodes"]);
    blocked(Life::Pending(None), None, expect!["True Starting: the workers are starting"]);
    let quota = Refused::Blocked(Block::new("QuotaExceeded", "exceeded quota: gpus"));
    blocked(running(), Some(quota), expect!["False QuotaExceeded: exceeded quota: gpus"]);
}

#[test]
fn a_name_that_no_pod_came_of_is_given_out_again() {
    let plan = |unused, pods| {
        let status = TrainingJobStatus { incarnation: Some(4), ..TrainingJobStatus::default() };
        Case { pods, status, unused, coordination: Some(mk_coordination(waiting())), ..mk_case() }.plan()
    };
    let made = |unused, pods| plan(unused, pods).pods.creations[0].incarnation;
    assert_eq!(made(None, vec![]), 5);
    assert_eq!((made(Some(4), vec![]), plan(Some(4), vec![]).status.incarnation), (4, Some(4)));
    // One of that name is there all the same.
    assert_eq!(made(Some(4), vec![mk_pod(4, failed())]), 5);
}

#[test]
fn there_are_never_two_pods_of_an_index_that_may_run() {
    let case = |pods: Vec<PodView>, seconds| {
        let status = TrainingJobStatus { incarnation: Some(2), ..TrainingJobStatus::default() };
        Case { pods, status, seconds, coordination: Some(mk_coordination(waiting())), ..mk_case() }.plan().pods
    };
    let made = |pods: &Pods| pods.creations.iter().map(|identity| identity.incarnation).collect::<Vec<_>>();
    let deleted = |pods: &Pods| pods.deletions.iter().map(|deletion| deletion.name.clone()).collect::<Vec<_>>();
    // A name that was given out is not used again, although nobody has seen its pod.
    assert_eq!(made(&case(vec![], 0)), [3]);
    assert_eq!(made(&case(vec![mk_pod(2, running())], 0)), [0_u64; 0]);
    // One whose node is silent is told to go, and counts as gone soon after.
    let cut_off = case(vec![PodView { is_cut_off: true, ..mk_pod(2, running()) }], 0);
    assert_eq!(
        (made(&cut_off), deleted(&cut_off), cut_off.deletions[0].grace_seconds),
        (vec![], vec!["zh-0-2".to_owned()], Some(1))
    );
    // So is one that the cluster told to go with all of its grace. Once is enough.
    let evicted = PodView { is_cut_off: true, leaves_by: Some(at(135)), ..mk_pod(2, running()) };
    let sooner = case(vec![evicted.clone()], 0);
    assert_eq!((made(&sooner), deleted(&sooner)), (vec![], vec!["zh-0-2".to_owned()]));
    assert_eq!(deleted(&case(vec![PodView { leaves_by: Some(at(1)), ..evicted }], 0)), [""; 0]);
    // The one before is still ending: until it has, or its machine has to be given up.
    let leaving = PodView { leaves_by: Some(at(30)), ..mk_pod(2, running()) };
    assert_eq!(made(&case(vec![leaving.clone()], 39)), [0_u64; 0]);
    assert_eq!(made(&case(vec![leaving], 40)), [3]);
    assert_eq!(made(&case(vec![mk_pod(2, failed())], 0)), [3]);
    // Two leaders made one each: the newer one stays.
    let both = case(vec![mk_pod(1, running()), mk_pod(2, running())], 0);
    assert_eq!((made(&both), deleted(&both)), (vec![], vec!["zh-0-1".to_owned()]));
    // Of those that ended the newest is kept for its log.
    let three = case(vec![mk_pod(1, failed()), mk_pod(2, failed()), mk_pod(3, running())], 0);
    assert_eq!((made(&three), deleted(&three)), (vec![], vec!["zh-0-1".to_owned()]));
}

#[test]
fn a_job_ends_by_what_its_coordinator_says_and_stays_so() {
    let succeeded = Case {
        coordination: Some(mk_coordination(State::Succeeded { already: false })),
        pods: vec![mk_pod(1, running())],
        seconds: 90,
        status: TrainingJobStatus { start_time: Some("2027-01-15T08:00:00Z".to_owned()), ..mk_case().status },
        ..mk_case()
    };
    let plan = succeeded.check(expect!["Progressing=False Succeeded (the model is in pvc://models/zh); Suspended=False NotSuspended; Succeeded=True Succeeded (the model is in pvc://models/zh); Failed=False Succeeded; agents: Dismiss"]);
    assert_eq!((plan.status.active_seconds, plan.status.completion_time.is_some()), (Some(90), true));
    // The last steps were taken while nobody listened.
    let heard = json!({"step": 5, "steps": 100, "tokens": 50, "progressPercentage": 5, "loss": "3.5", "tokensPerSecond": "9",
        "lastUpdatedTime": "2027-01-15T08:00:00Z"});
    let status =
        TrainingJobStatus { progress: Some(serde_json::from_value(heard).unwrap()), ..succeeded.status.clone() };
    let progress = Case { status, ..succeeded }.plan().status.progress.unwrap();
    assert_eq!((progress.step, progress.progress_percentage, progress.loss), (100, 100, None));
    // Whatever is deleted afterwards, nothing is made again.
    let over = Case {
        status: plan.status.clone(),
        seconds: 120,
        spec: json!({"runPolicy": {"ttlSecondsAfterFinished": 60}}),
        ..mk_case()
    };
    let after = over.check(expect!["Progressing=False Succeeded (the model is in pvc://models/zh); Suspended=False NotSuspended; Succeeded=True Succeeded (the model is in pvc://models/zh); Failed=False Succeeded; agents: Dismiss; again after 30 s"]);
    assert_eq!(after.status.conditions, plan.status.conditions);
    assert!(Case { seconds: 150, ..over }.plan().is_outdated);

    let message = "there is no data at pvc://data/zh".to_owned();
    let mut coordination = mk_coordination(State::Failed { cause: Cause::User, message });
    coordination.reason = Some("DatasetNotFound".to_owned());
    Case { coordination: Some(coordination), ..mk_case() }.check(expect!["Progressing=False Failed (there is no data at pvc://data/zh); Suspended=False NotSuspended; Succeeded=False Failed; Failed=True DatasetNotFound (there is no data at pvc://data/zh); agents: Dismiss"]);
}

#[test]
fn time_fails_a_job_that_does_not_begin_or_does_not_end() {
    let start = TrainingJobStatus { start_time: Some("2027-01-15T08:00:00Z".to_owned()), ..mk_case().status };
    let policy = json!({"runPolicy": {"activeDeadlineSeconds": 100, "startTimeoutSeconds": 50}});
    let running_since = |seconds| Case {
        spec: policy.clone(),
        status: start.clone(),
        coordination: Some(mk_coordination(State::Running)),
        pods: vec![mk_pod(1, running())],
        seconds,
        ..mk_case()
    };
    running_since(60).check(expect!["Progressing=True Running (the workers have been told to begin); Suspended=False NotSuspended; Succeeded=Unknown NotFinished; Failed=Unknown NotFinished; agents: Coordinate; again after 40 s"]);
    running_since(100).check(expect!["Progressing=False Failed (the job took longer than runPolicy.activeDeadlineSeconds (100)); Suspended=False NotSuspended; Succeeded=False Failed; Failed=True DeadlineExceeded (the job took longer than runPolicy.activeDeadlineSeconds (100)); agents: Dismiss"]);
    let pending = mk_pod(1, Life::Pending(Some(Block::new("Unschedulable", "0/3 nodes"))));
    let waiting = Coordination { waiting_since: Some(at(0)), ..mk_coordination(waiting()) };
    Case { pods: vec![pending], coordination: Some(waiting), ..running_since(50) }.check(expect!["Progressing=False Failed (the workers were not ready after 50 seconds (runPolicy.startTimeoutSeconds); Unschedulable: 0/3 nodes); Suspended=False NotSuspended; Succeeded=False Failed; Failed=True StartTimeout (the workers were not ready after 50 seconds (runPolicy.startTimeoutSeconds); Unschedulable: 0/3 nodes); agents: Dismiss"]);
}

#[test]
fn suspension_waits_for_a_checkpoint_and_then_for_the_pods() {
    let suspended = |state, pods| Case {
        spec: json!({"suspend": true}),
        status: TrainingJobStatus { start_time: Some("2027-01-15T08:00:00Z".to_owned()), ..mk_case().status },
        coordination: Some(mk_coordination(state)),
        pods,
        seconds: 70,
        ..mk_case()
    };
    let draining = State::Draining { until: Duration::from_secs(100) };
    suspended(draining, vec![mk_pod(1, running())]).check(expect!["Progressing=True Suspending (the workers write a last checkpoint); Suspended=False Suspending (the workers write a last checkpoint); Succeeded=Unknown NotFinished; Failed=Unknown NotFinished; agents: Stop"]);
    suspended(State::Stopped, vec![mk_pod(1, running())]).check(expect!["Progressing=True Suspending (the workers write a last checkpoint); Suspended=False Suspending (the workers write a last checkpoint); Succeeded=Unknown NotFinished; Failed=Unknown NotFinished; agents: Stop; delete zh-0-1"]);
    // A pod that may still run keeps it from being true; one that is listed though it has ended, or its machine is gone, does not.
    let leaving = |seconds| PodView { leaves_by: Some(at(seconds)), ..mk_pod(1, running()) };
    for (pod, is_true) in [
        (mk_pod(1, running()), false),
        (mk_pod(1, Life::Pending(None)), false),
        (leaving(70), false),
        (leaving(61), false),
        (leaving(60), true),
        (mk_pod(1, failed()), true),
    ] {
        let case = suspended(State::Stopped, vec![pod.clone()]);
        let plan = case.plan();
        assert_eq!(verdict::is_true(&plan.status, "Suspended"), is_true, "{pod:?}");
        assert_eq!(plan.claims_that_none_runs(&case.status), is_true, "{pod:?}");
    }
    let plan = suspended(State::Stopped, vec![]).check(expect!["Progressing=False Suspended (spec.suspend is true); Suspended=True Suspended (spec.suspend is true; set it to false to go on); Succeeded=Unknown NotFinished; Failed=Unknown NotFinished; agents: Continue"]);
    assert_eq!((plan.status.active_seconds, plan.status.start_time), (Some(70), None));
}

#[test]
fn a_deleted_job_goes_when_its_pods_have_or_cannot() {
    let deleted = |pods, seconds| Case {
        metadata: json!({"deletionTimestamp": "2027-01-15T08:00:00Z"}),
        coordination: Some(mk_coordination(State::Running)),
        pods,
        seconds,
        ..mk_case()
    };
    let conditions = "Progressing=False Terminating (the job is deleted; its pods are ending); Suspended=False NotSuspended; Succeeded=Unknown NotFinished; Failed=Unknown NotFinished; ";
    let check = |case: Case, expected: Expect| {
        let words = in_words(&case.plan(), at(case.seconds));
        expected.assert_eq(words.strip_prefix(conditions).unwrap());
    };
    check(deleted(vec![mk_pod(1, running())], 1), expect!["agents: Abort; delete zh-0-1 in 1 s; again after 299 s"]);
    let leaving = PodView { leaves_by: Some(at(130)), ..mk_pod(1, running()) };
    check(deleted(vec![leaving.clone()], 1), expect!["agents: Abort; delete zh-0-1 in 1 s; again after 139 s"]);
    check(deleted(vec![], 1), expect!["agents: Abort; let go; again after 299 s"]);
    let stuck = PodView { leaves_by: Some(at(1000)), ..leaving };
    check(deleted(vec![stuck], 300), expect!["agents: Abort; delete zh-0-1 in 1 s; let go; again after 710 s"]);
}

#[test]
fn after_pods_that_failed_on_their_own_the_next_is_made_when_its_time_has_come() {
    let message = "the pod zh-0-1 failed: the worker ended with exit code 1".to_owned();
    let failing = |state, seconds| Case {
        coordination: Some(Coordination { failures: 3, ..mk_coordination(state) }),
        pods: vec![mk_pod(1, failed())],
        failures: Failures { not_before: Some(at(4)), of_user: None },
        seconds,
        ..mk_case()
    };
    let backing_off = State::BackingOff { until: Duration::from_secs(4), message };
    let plan = failing(backing_off, 3).plan();
    assert_eq!((plan.status.conditions[0].reason.as_str(), plan.pods.creations.len()), ("BackingOff", 0));
    assert_eq!(plan.status.failures_since_checkpoint, Some(3));
    let plan = failing(waiting(), 4).plan();
    assert_eq!((plan.status.conditions[0].reason.as_str(), plan.pods.creations.len()), ("Starting", 1));
}
