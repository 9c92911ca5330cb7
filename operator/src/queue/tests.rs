//! Jobs and the Workloads that Kueue leaves, and what follows for each.

use std::fmt::Write as _;

use expect_test::{Expect, expect};
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::jiff::Timestamp;
use palimpsest_api::{TrainingJobSpec, TrainingJobStatus};
use palimpsest_coordinator::State;
use serde_json::{Value, json};

use super::*;
use crate::children::pod_template;
use crate::observe::{Life, PodView};
use crate::plan::tests::{mk_coordination, mk_pod};
use crate::plan::{Failures, Plan, Sight, Told, plan};
use crate::resource::TrainingJob;
use crate::settings::Settings;

const NOW: i64 = 1_800_000_000;

fn at(seconds: i64) -> Timestamp {
    Timestamp::from_second(NOW + seconds).unwrap()
}

fn merge(into: &mut Value, more: &Value) {
    match (into, more) {
        (Value::Object(into), Value::Object(more)) => {
            for (key, value) in more {
                merge(into.entry(key).or_insert(Value::Null), value);
            }
        }
        (into, more) => *into = more.clone(),
    }
}

fn mk_job(more: &Value) -> TrainingJob {
    let mut job = json!({
        "metadata": {"name": "zh", "namespace": "team", "uid": "j1", "generation": 2,
            "labels": {"kueue.x-k8s.io/queue-name": "gpus"}},
        "spec": {
            "model": {"uri": "pvc://models/llama"},
            "data": {"datasets": [{"name": "zh", "uri": "pvc://data/zh"}]},
            "stages": [{"name": "one", "mixture": [{"dataset": "zh", "weight": 1}], "budget": {"steps": 4}}],
            "output": {"uri": "pvc://models/zh"},
        },
    });
    merge(&mut job, more);
    serde_json::from_value(job).unwrap()
}

fn spec_of(job: &TrainingJob) -> &TrainingJobSpec {
    job.spec.0.as_ref().unwrap()
}

fn settings() -> Settings {
    Settings {
        worker_image: "worker:1".to_owned(),
        coordinator: "https://operator.system.svc:7443".to_owned(),
        certificate_authority: "PEM".to_owned(),
    }
}

/// A Workload of the job `zh`.
fn mk_workload(more: &Value) -> Workload {
    let mut workload = json!({
        "metadata": {"name": "trainingjob-zh-4a1b2", "namespace": "team", "uid": "w1", "generation": 1,
            "finalizers": ["kueue.x-k8s.io/resource-in-use"]},
        "spec": {"queueName": "gpus", "podSets": [{"name": "workers", "count": 1, "template": {}}]},
    });
    merge(&mut workload, more);
    serde_json::from_value(workload).unwrap()
}

fn condition(kind: &str, status: &str, reason: &str, message: &str) -> Value {
    json!({"type": kind, "status": status, "reason": reason, "message": message,
        "lastTransitionTime": "2027-01-15T07:00:00Z"})
}

fn admitted(more: &[Value], admission: &Value) -> Value {
    let mut conditions = vec![
        condition("QuotaReserved", "True", "QuotaReserved", "Quota reserved in ClusterQueue all"),
        condition("Admitted", "True", "Admitted", "The workload is admitted"),
    ];
    conditions.extend_from_slice(more);
    let mut whole =
        json!({"clusterQueue": "all", "podSetAssignments": [{"name": "workers", "flavors": {"cpu": "spot"}}]});
    merge(&mut whole, admission);
    json!({"status": {"conditions": conditions, "admission": whole}})
}

fn check_place(job: &Value, workload: Option<Value>, expected: Expect) {
    let job = mk_job(job);
    let workload = workload.map(|workload| mk_workload(&workload));
    let place = place(&job, spec_of(&job), &Served::Yes, workload.as_ref(), None);
    expected.assert_eq(&match place {
        Place::Waiting { has_quota, reason, message } => format!("{reason}, quota: {has_quota}: {message}"),
        other => format!("{other:?}"),
    });
}

#[test]
fn a_job_waits_for_as_long_as_kueue_says_and_says_so_in_kueues_words() {
    let none = json!({});
    check_place(&none, None, expect!["Pending, quota: false: in the queue gpus: Kueue is being told of the job"]);
    check_place(
        &none,
        Some(json!({})),
        expect!["Pending, quota: false: in the queue gpus: Kueue has not answered yet"],
    );
    let said = |conditions: Value| Some(json!({"status": {"conditions": conditions}}));
    let pending = condition(
        "QuotaReserved",
        "False",
        "Pending",
        "insufficient unused quota for nvidia.com/gpu in flavor h100, 8 more needed",
    );
    check_place(
        &none,
        said(json!([pending])),
        expect![
            "Pending, quota: false: in the queue gpus: insufficient unused quota for nvidia.com/gpu in flavor h100, 8 more needed"
        ],
    );
    let reserved = condition("QuotaReserved", "True", "QuotaReserved", "Quota reserved in ClusterQueue all");
    let mut checked = said(json!([reserved])).unwrap();
    checked["status"]["admissionChecks"] = json!([
        {"name": "machines", "state": "Pending", "message": "ETA 10 minutes"}, {"name": "budget", "state": "Ready"},
    ]);
    check_place(
        &none,
        Some(checked),
        expect![
            "AdmissionChecks, quota: true: in the queue gpus: quota is reserved; admission checks are awaited (machines: ETA 10 minutes)"
        ],
    );
    check_place(
        &none,
        Some(admitted(&[], &json!({}))),
        expect![[r#"Admitted { workers: 1, message: "Quota reserved in ClusterQueue all" }"#]],
    );
    // Evicted: still admitted, until the job has stopped.
    let evicted = condition("Evicted", "True", "Preempted", "Preempted to accommodate a workload (UID: w9)");
    check_place(
        &none,
        Some(admitted(&[evicted], &json!({}))),
        expect!["Preempted, quota: true: in the queue gpus: Preempted to accommodate a workload (UID: w9)"],
    );
    let mut inactive = admitted(&[], &json!({}));
    inactive["spec"] = json!({"active": false});
    check_place(
        &none,
        Some(inactive),
        expect![
            "Deactivated, quota: true: in the queue gpus: spec.active of the Workload trainingjob-zh-4a1b2 is false; set it to true to go on"
        ],
    );
    let mut deleted = admitted(&[], &json!({}));
    deleted["metadata"] = json!({"deletionTimestamp": "2027-01-15T08:00:00Z"});
    check_place(
        &none,
        Some(deleted),
        expect![
            "Pending, quota: true: in the queue gpus: the Workload trainingjob-zh-4a1b2 was deleted; another one is made"
        ],
    );
    let finished = condition("Finished", "True", "OutOfSync", "out of sync");
    check_place(
        &none,
        said(json!([finished])),
        expect![
            "Finished, quota: false: in the queue gpus: the Workload trainingjob-zh-4a1b2 is finished (out of sync) although the job is not; delete it to have the job queued anew"
        ],
    );
    let moved = json!({"metadata": {"labels": {"kueue.x-k8s.io/queue-name": "cpus"}}});
    check_place(
        &moved,
        Some(admitted(&[], &json!({}))),
        expect![
            "Changed, quota: true: in the queue cpus: the job was in the queue gpus before; the job is queued anew"
        ],
    );
    let grown = json!({"spec": {"workers": {"replicas": 3}}});
    check_place(
        &grown,
        Some(admitted(&[], &json!({}))),
        expect![
            "Changed, quota: true: in the queue gpus: spec.workers.replicas was 1, and is 3; the job is queued anew"
        ],
    );
    let free = json!({"metadata": {"labels": {"kueue.x-k8s.io/queue-name": ""}}});
    check_place(&free, None, expect!["Free"]);
}

#[test]
fn without_kueue_a_job_says_what_it_misses() {
    let job = mk_job(&json!({}));
    let served = Served::No("the API server serves no Workloads".to_owned());
    let place = place(&job, spec_of(&job), &served, None, None);
    expect!["Queued: the job is put in the queue gpus, but there is no Kueue here (the API server serves no Workloads); install Kueue 0.15 or newer, which serves kueue.x-k8s.io/v1beta2, or remove the label kueue.x-k8s.io/queue-name"]
        .assert_eq(&place.block().map(|block| format!("{}: {}", block.reason, block.message)).unwrap());
}

#[test]
fn a_queue_without_room_for_all_workers_gives_fewer() {
    let job = mk_job(&json!({"spec": {"workers": {"replicas": 4, "elastic": {"minReplicas": 2, "maxReplicas": 4}}}}));
    let assignment = json!({"podSetAssignments": [{"name": "workers", "count": 3}]});
    let mut workload = admitted(&[], &assignment);
    workload["spec"] = json!({"podSets": [{"name": "workers", "count": 4}]});
    let place = place(&job, spec_of(&job), &Served::Yes, Some(&mk_workload(&workload)), None);
    let admitted = as_admitted(job.spec.0.as_ref().unwrap(), &place);
    assert_eq!((admitted.workers.replicas, spec_of(&job).workers.replicas), (3, 4));
}

#[test]
fn a_workload_asks_for_the_pods_as_they_will_be() {
    let job = mk_job(&json!({
        "metadata": {"labels": {"kueue.x-k8s.io/max-exec-time-seconds": "3600"}, "annotations": {"provreq.kueue.x-k8s.io/maxRun": "1h", "other": "x"}},
        "spec": {"workers": {"replicas": 4, "elastic": {"minReplicas": 2, "maxReplicas": 4}, "template": {
            "metadata": {"annotations": {"kueue.x-k8s.io/podset-required-topology": "rack"}},
            "spec": {"containers": [{"name": "worker", "resources": {"limits": {"nvidia.com/gpu": "8"}}}]},
        }}},
    }));
    let template = pod_template(&job, spec_of(&job), &settings()).unwrap();
    let class = Some(("kueue.x-k8s.io", "WorkloadPriorityClass", "high".to_owned()));
    let mut workload = make(&job, spec_of(&job), &template, &Priority { class, value: 7 }).unwrap();
    let template = workload["spec"]["podSets"][0]["template"].take();
    expect![[r#"{"apiVersion":"kueue.x-k8s.io/v1beta2","kind":"Workload","metadata":{"name":"trainingjob-zh-46164","namespace":"team","labels":{"app.kubernetes.io/managed-by":"palimpsest-operator","kueue.x-k8s.io/job-uid":"j1","palimpsest.dev/job":"zh"},"annotations":{"provreq.kueue.x-k8s.io/maxRun":"1h"},"finalizers":["kueue.x-k8s.io/resource-in-use"],"ownerReferences":[{"apiVersion":"palimpsest.dev/v1alpha1","blockOwnerDeletion":true,"controller":true,"kind":"TrainingJob","name":"zh","uid":"j1"}]},"spec":{"queueName":"gpus","podSets":[{"name":"workers","count":4,"template":null,"minCount":2,"topologyRequest":{"required":"rack","podIndexLabel":"palimpsest.dev/index"}}],"priority":7,"priorityClassRef":{"group":"kueue.x-k8s.io","kind":"WorkloadPriorityClass","name":"high"},"maximumExecutionTimeSeconds":3600}}"#]].assert_eq(&workload.to_string());
    let worker = &template["spec"]["containers"][0];
    assert_eq!((&worker["name"], &worker["resources"]["limits"]["nvidia.com/gpu"]), (&json!("worker"), &json!("8")));
    assert_eq!(
        template["metadata"]["labels"],
        json!({"app.kubernetes.io/managed-by": "palimpsest-operator", "palimpsest.dev/job": "zh"})
    );
    // A job that is made again has another Workload, and one of the longest name a name that is a label's value.
    let again = mk_job(&json!({"metadata": {"uid": "j2"}}));
    assert_ne!(workload_name(&again), workload_name(&job));
    let longest = mk_job(&json!({"metadata": {"name": "n".repeat(48)}}));
    assert_eq!(workload_name(&longest).len(), 63);
    let slice = json!({"spec": {"workers": {"template": {"metadata": {"annotations": {"kueue.x-k8s.io/podset-slice-size": "2"}}}}}});
    let job = mk_job(&slice);
    let template = pod_template(&job, spec_of(&job), &settings()).unwrap();
    expect!["spec.workers.template.metadata.annotations: kueue.x-k8s.io/podset-slice-size is not supported; remove it, or use kueue.x-k8s.io/podset-required-topology"]
        .assert_eq(&make(&job, spec_of(&job), &template, &Priority::default()).unwrap_err());
}

fn flavor(name: &str, spec: Value) -> ResourceFlavor {
    serde_json::from_value(json!({"metadata": {"name": name}, "spec": spec})).unwrap()
}

fn on_terms(workload: &Value, pod: Value) -> Result<Pod, String> {
    let toleration = json!({"key": "spot", "operator": "Exists", "effect": "NoSchedule"});
    let spot = flavor("spot", json!({"nodeLabels": {"machine": "spot"}, "tolerations": [toleration]}));
    let terms = Terms::of(&mk_workload(workload), &[spot])?;
    let mut pod: Pod = serde_json::from_value(pod).unwrap();
    terms.apply(&mut pod)?;
    Ok(pod)
}

#[test]
fn pods_are_made_on_the_terms_of_the_admission() {
    let mut workload = admitted(&[], &json!({}));
    let toleration = json!({"key": "spot", "operator": "Exists", "effect": "NoSchedule"});
    workload["status"]["admissionChecks"] = json!([{"name": "machines", "state": "Ready", "podSetUpdates": [{
        "name": "workers", "labels": {"l": "1"}, "annotations": {"a": "2"}, "nodeSelector": {"pool": "p7"}, "tolerations": [toleration],
    }]}]);
    assert_eq!(flavors(&mk_workload(&workload)).into_iter().collect::<Vec<_>>(), ["spot"]);
    let own = json!({"metadata": {"labels": {"mine": "m"}}, "spec": {"containers": [], "nodeSelector": {"zone": "z"}}});
    let pod = on_terms(&workload, own).unwrap();
    expect![[r#"{"apiVersion":"v1","kind":"Pod","metadata":{"annotations":{"a":"2","kueue.x-k8s.io/workload":"trainingjob-zh-4a1b2"},"labels":{"kueue.x-k8s.io/cluster-queue-name":"all","kueue.x-k8s.io/local-queue-name":"gpus","kueue.x-k8s.io/podset":"workers","l":"1","mine":"m"}},"spec":{"containers":[],"nodeSelector":{"machine":"spot","pool":"p7","zone":"z"},"schedulingGates":[],"tolerations":[{"effect":"NoSchedule","key":"spot","operator":"Exists"}]}}"#]]
        .assert_eq(&serde_json::to_string(&pod).unwrap());
    let contrary = json!({"spec": {"containers": [], "nodeSelector": {"machine": "owned"}}});
    expect!["the queue's nodeSelector want machine to be spot, but it is owned already; remove one of them"]
        .assert_eq(&on_terms(&workload, contrary).unwrap_err());
    // Kueue says where, once the pod is there.
    let placed = json!({"podSetAssignments": [{"name": "workers", "flavors": {"cpu": "spot"}, "topologyAssignment": {"levels": ["rack"]}}]});
    let pod = on_terms(&admitted(&[], &placed), json!({"spec": {"containers": []}})).unwrap();
    assert_eq!(pod.spec.unwrap().scheduling_gates.unwrap()[0].name, "kueue.x-k8s.io/topology");
    assert_eq!(pod.metadata.annotations.unwrap()["kueue.x-k8s.io/podset-unconstrained-topology"], "true");
}

/// A job of which much can be known.
struct Case {
    job: Value,
    workload: Option<Value>,
    status: TrainingJobStatus,
    state: Option<State>,
    pods: Vec<PodView>,
}

fn running() -> Vec<PodView> {
    vec![mk_pod(1, Life::Running { is_ready: true })]
}

impl Case {
    fn plan(&self) -> Plan {
        let job = mk_job(&self.job);
        let workload = self.workload.as_ref().map(mk_workload);
        let place = place(&job, spec_of(&job), &Served::Yes, workload.as_ref(), None);
        let coordination = self.state.clone().map(mk_coordination);
        plan(&Sight {
            job: &job,
            spec: spec_of(&job),
            place: &place,
            workload: workload.as_ref(),
            status: &self.status,
            pods: &self.pods,
            coordination,
            told: &Told::default(),
            refusal: None,
            unused: None,
            failures: &Failures::default(),
            now: at(0),
        })
    }

    fn check(&self, expected: Expect) {
        let plan = self.plan();
        let shown = plan.status.condition("Progressing").unwrap();
        let mut words = format!("{}; {:?}; ", shown.reason, plan.agents);
        if let Some(quota) = plan.status.condition("QuotaReserved") {
            let _ = write!(words, "quota {:?} {}; ", quota.status, quota.reason);
        }
        let _ = write!(words, "pods +{} -{}; ", plan.pods.creations.len(), plan.pods.deletions.len());
        let say = |conditions: &[k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition]| {
            let new = conditions.iter().filter(|said| said.observed_generation.is_some());
            new.map(|said| format!("{}={} {}", said.type_, said.status, said.reason)).collect::<Vec<_>>().join(", ")
        };
        words += &match &plan.step {
            Some(Step::Say(conditions)) => format!("say {}", say(conditions)),
            Some(Step::GiveBack(conditions, seconds)) => {
                format!("give back after {seconds} s: {}", say(conditions))
            }
            other => format!("{other:?}"),
        };
        expected.assert_eq(&words);
    }
}

fn mk_case() -> Case {
    Case { job: json!({}), workload: None, status: TrainingJobStatus::default(), state: None, pods: Vec::new() }
}

#[test]
fn a_job_joins_its_queue_runs_when_it_is_admitted_and_says_that_its_pods_are_ready() {
    mk_case().check(expect!["Queued; Continue; quota False Pending; pods +0 -0; Some(Make)"]);
    Case { workload: Some(json!({})), ..mk_case() }
        .check(expect!["Queued; Continue; quota False Pending; pods +0 -0; None"]);
    let ready = |more: &[Value], pods| Case { workload: Some(admitted(more, &json!({}))), pods, ..mk_case() };
    ready(&[], Vec::new())
        .check(expect!["Starting; Coordinate; quota True QuotaReserved; pods +1 -0; say PodsReady=False WaitForStart"]);
    ready(&[], running())
        .check(expect!["Starting; Coordinate; quota True QuotaReserved; pods +0 -0; say PodsReady=True Started"]);
    let started = condition("PodsReady", "True", "Started", "");
    ready(std::slice::from_ref(&started), running())
        .check(expect!["Starting; Coordinate; quota True QuotaReserved; pods +0 -0; None"]);
    ready(&[started], vec![mk_pod(1, Life::Pending(None))]).check(expect![
        "Starting; Coordinate; quota True QuotaReserved; pods +0 -0; say PodsReady=False WaitForRecovery"
    ]);
    let waits = condition("PodsReady", "False", "WaitForRecovery", "");
    ready(&[waits], running())
        .check(expect!["Starting; Coordinate; quota True QuotaReserved; pods +0 -0; say PodsReady=True Recovered"]);
}

#[test]
fn an_evicted_job_stops_and_then_gives_its_quota_back() {
    let evicted = |reason| condition("Evicted", "True", reason, "Preempted to accommodate a workload");
    let ready = condition("PodsReady", "True", "Started", "");
    let case = |reason, state, pods| Case {
        workload: Some(admitted(&[evicted(reason), ready.clone()], &json!({}))),
        state,
        pods,
        ..mk_case()
    };
    case("Preempted", Some(State::Running), running())
        .check(expect!["Evicting; Stop; quota True Preempted; pods +0 -0; None"]);
    case("Preempted", Some(State::Stopped), running())
        .check(expect!["Evicting; Stop; quota True Preempted; pods +0 -1; None"]);
    // Another operator knows of no coordination: the pods are asked to go, and write a checkpoint.
    case("Preempted", None, running()).check(expect!["Evicting; Stop; quota True Preempted; pods +0 -1; None"]);
    case("Preempted", Some(State::Stopped), Vec::new())
        .check(expect!["Queued; Continue; quota True Preempted; pods +0 -0; give back after 3600 s: QuotaReserved=False Pending, Admitted=False NoReservation, Requeued=True Preempted, PodsReady=False WaitForStart"]);
    case("Deactivated", Some(State::Stopped), Vec::new())
        .check(expect!["Queued; Continue; quota True Deactivated; pods +0 -0; give back after 3600 s: QuotaReserved=False Pending, Admitted=False NoReservation, Requeued=False Deactivated, PodsReady=False WaitForStart"]);
    // Its Workload was deleted: it goes once nothing runs.
    let mut deleted = admitted(&[], &json!({}));
    deleted["metadata"] = json!({"deletionTimestamp": "2027-01-15T08:00:00Z"});
    let deleted = |state, pods| Case { workload: Some(deleted.clone()), state: Some(state), pods, ..mk_case() };
    deleted(State::Running, running()).check(expect!["Evicting; Stop; quota True Pending; pods +0 -0; None"]);
    deleted(State::Stopped, Vec::new())
        .check(expect!["Queued; Continue; quota True Pending; pods +0 -0; Some(Release)"]);
}

#[test]
fn a_job_leaves_its_queue_when_it_is_suspended_deleted_unlabelled_or_over() {
    let running_in_queue = || Case {
        workload: Some(admitted(&[condition("PodsReady", "True", "Started", "")], &json!({}))),
        state: Some(State::Running),
        pods: running(),
        ..mk_case()
    };
    let stopped = |job| Case { job, state: Some(State::Stopped), pods: Vec::new(), ..running_in_queue() };
    let suspend = json!({"spec": {"suspend": true}});
    Case { job: suspend.clone(), ..running_in_queue() }
        .check(expect!["Suspending; Stop; quota True QuotaReserved; pods +0 -0; None"]);
    stopped(suspend.clone()).check(expect!["Suspended; Continue; quota False Suspended; pods +0 -0; Some(Drop)"]);
    Case { job: suspend, ..mk_case() }.check(expect!["Suspended; Continue; quota False Suspended; pods +0 -0; None"]);
    let deletion = json!({"metadata": {"deletionTimestamp": "2027-01-15T08:00:00Z"}});
    Case { job: deletion.clone(), ..running_in_queue() }
        .check(expect!["Terminating; Abort; quota True QuotaReserved; pods +0 -1; None"]);
    stopped(deletion).check(expect!["Terminating; Abort; quota True QuotaReserved; pods +0 -0; Some(Drop)"]);
    let unlabelled = json!({"metadata": {"labels": {"kueue.x-k8s.io/queue-name": ""}}});
    Case { job: unlabelled, ..running_in_queue() }.check(expect!["Running; Coordinate; pods +0 -0; Some(Drop)"]);
    let moved = json!({"metadata": {"labels": {"kueue.x-k8s.io/queue-name": "cpus"}}});
    Case { job: moved.clone(), ..running_in_queue() }
        .check(expect!["Evicting; Stop; quota True Changed; pods +0 -0; None"]);
    stopped(moved.clone()).check(expect!["Queued; Continue; quota True Changed; pods +0 -0; Some(Drop)"]);
    Case { job: moved, workload: Some(json!({})), ..mk_case() }
        .check(expect!["Queued; Continue; quota False Pending; pods +0 -0; Some(Move)"]);

    let succeeded = Case { state: Some(State::Succeeded { already: false }), ..running_in_queue() };
    succeeded.check(expect!["Succeeded; Dismiss; quota False Finished; pods +0 -0; None"]);
    let said = |kind: &str, reason: &str| palimpsest_api::Condition {
        r#type: kind.to_owned(),
        status: palimpsest_api::ConditionStatus::True,
        observed_generation: None,
        last_transition_time: String::new(),
        reason: reason.to_owned(),
        message: "the model is in pvc://models/zh".to_owned(),
    };
    let over = |kind, reason, pods| Case {
        status: TrainingJobStatus {
            conditions: vec![said(kind, reason), said("Progressing", reason)],
            ..TrainingJobStatus::default()
        },
        pods,
        ..running_in_queue()
    };
    over("Succeeded", "Succeeded", running()).check(expect!["Succeeded; Dismiss; pods +0 -1; None"]);
    over("Succeeded", "Succeeded", Vec::new())
        .check(expect!["Succeeded; Dismiss; pods +0 -0; say Finished=True Succeeded"]);
    over("Failed", "DeadlineExceeded", Vec::new())
        .check(expect!["DeadlineExceeded; Dismiss; pods +0 -0; say Finished=True Failed"]);
    let finished = admitted(&[condition("Finished", "True", "Succeeded", "")], &json!({}));
    Case { workload: Some(finished), ..over("Succeeded", "Succeeded", Vec::new()) }
        .check(expect!["Succeeded; Dismiss; pods +0 -0; Some(Release)"]);
}

#[test]
fn a_workload_follows_the_class_that_its_job_names_as_far_as_kueue_allows() {
    let check = |label: &str, class: Value, has_quota: bool, is_ranked: bool| {
        let job = json!({"metadata": {"labels": {"kueue.x-k8s.io/priority-class": label}}});
        let ready = condition("PodsReady", "True", "Started", "");
        let mut workload = if has_quota { admitted(&[ready], &json!({})) } else { json!({}) };
        workload["spec"] = json!({"priorityClassRef": class});
        let pods = if has_quota { running() } else { Vec::new() };
        let plan = Case { job, workload: Some(workload), pods, ..mk_case() }.plan();
        assert_eq!(plan.step == Some(Step::Rank), is_ranked, "{label}, {class}, quota: {has_quota}");
    };
    let of_queue = json!({"group": "kueue.x-k8s.io", "kind": "WorkloadPriorityClass", "name": "low"});
    for has_quota in [false, true] {
        check("low", of_queue.clone(), has_quota, false);
        check("high", of_queue.clone(), has_quota, true);
        check("", Value::Null, has_quota, false);
    }
    check("high", Value::Null, false, true);
    check("high", Value::Null, true, false);
    check("", of_queue.clone(), false, true);
    check("", of_queue, true, false);
}
