//! What the operator and those who submit jobs may do, in an installation for a cluster and in one for a namespace.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use expect_test::{Expect, expect};
use futures::{StreamExt, stream};
use k8s_openapi::api::authorization::v1::{
    ResourceAttributes, ResourceRule, SelfSubjectRulesReview, SelfSubjectRulesReviewSpec, SubjectAccessReview,
    SubjectAccessReviewSpec,
};
use kube::api::PostParams;
use kube::discovery::Discovery;
use kube::{Api, Client};
use palimpsest_tests::{ApiServer, Kueue, Script, World, condition, repository};
use serde_json::{Value, json};

/// Every verb that an API server asks about.
const VERBS: [&str; 11] = [
    "get",
    "list",
    "watch",
    "create",
    "update",
    "patch",
    "delete",
    "deletecollection",
    "impersonate",
    "bind",
    "escalate",
];

/// Verbs by GROUP/RESOURCE, or RESOURCE where the group is the core's, and the name of the only object that is meant.
type Rights = BTreeMap<String, BTreeSet<String>>;

/// What whoever holds a client may do in a namespace.
async fn rights(client: Client, namespace: &str) -> Rights {
    let review = SelfSubjectRulesReview {
        spec: SelfSubjectRulesReviewSpec { namespace: Some(namespace.to_owned()) },
        ..SelfSubjectRulesReview::default()
    };
    let answer = Api::all(client).create(&PostParams::default(), &review).await.unwrap();
    let mut rights = Rights::new();
    for rule in answer.status.unwrap().resource_rules {
        let ResourceRule { api_groups, resource_names, resources, verbs } = rule;
        let names = resource_names.unwrap_or_default();
        let names = if names.is_empty() { String::new() } else { format!(" {}", names.join(" ")) };
        for group in api_groups.unwrap() {
            for resource in resources.iter().flatten() {
                rights.entry(format!("{}{names}", named(&group, resource))).or_default().extend(verbs.clone());
            }
        }
    }
    rights
}

fn named(group: &str, resource: &str) -> String {
    if group.is_empty() { resource.to_owned() } else { format!("{group}/{resource}") }
}

/// Without what every account may, which is to ask what it may.
fn in_words(rights: &Rights) -> String {
    let own = rights.iter().filter(|(what, _)| !what.contains("/selfsubject"));
    own.map(|(what, verbs)| format!("{what}: {}\n", verbs.iter().cloned().collect::<Vec<_>>().join(" "))).collect()
}

/// Asks about each verb and each resource that the API server has: what an account may do with objects of any name.
async fn asked_one_by_one(client: &Client, user: &str, namespace: &str) -> Rights {
    let discovered = Discovery::new(client.clone()).run().await.unwrap();
    let mut resources = BTreeSet::new();
    for group in discovered.groups() {
        for (resource, capabilities) in group.recommended_resources() {
            resources.insert((resource.group.clone(), resource.plural.clone(), None));
            for (subresource, _) in capabilities.subresources {
                let name = subresource.plural.rsplit('/').next().map(str::to_owned);
                resources.insert((resource.group.clone(), resource.plural.clone(), name));
            }
        }
    }
    assert!(resources.len() > 80, "{resources:?}");
    let questions = resources.iter().flat_map(|resource| VERBS.map(|verb| (resource, verb)));
    let answers = stream::iter(questions.map(async |((group, resource, subresource), verb)| {
        let attributes = ResourceAttributes {
            group: Some(group.clone()),
            resource: Some(resource.clone()),
            subresource: subresource.clone(),
            namespace: Some(namespace.to_owned()),
            verb: Some(verb.to_owned()),
            ..ResourceAttributes::default()
        };
        let groups = ["system:serviceaccounts", "system:authenticated"].map(str::to_owned).to_vec();
        let spec = SubjectAccessReviewSpec {
            user: Some(user.to_owned()),
            groups: Some(groups),
            resource_attributes: Some(attributes),
            ..SubjectAccessReviewSpec::default()
        };
        let review = SubjectAccessReview { spec, ..SubjectAccessReview::default() };
        let answer = Api::all(client.clone()).create(&PostParams::default(), &review).await.unwrap();
        let what = subresource.as_ref().map_or(resource.clone(), |name| format!("{resource}/{name}"));
        answer.status.unwrap().allowed.then(|| (named(group, &what), verb.to_owned()))
    }));
    let mut rights = Rights::new();
    let mut answers = answers.buffer_unordered(16);
    while let Some(answer) = answers.next().await {
        if let Some((what, verb)) = answer {
            rights.entry(what).or_default().insert(verb);
        }
    }
    rights
}

async fn check(world: &World, user: &str, namespace: &str, expected: Expect) {
    let told = rights(world.client_as_operator().await, namespace).await;
    expected.assert_eq(&in_words(&told));
    let asked = asked_one_by_one(&world.client(), user, namespace).await;
    // Not asked for: what a name is needed for, and what no object is of.
    let told = told.into_iter().filter(|(what, _)| !what.contains(' ') && !what.ends_with("/finalizers")).collect();
    assert_eq!(asked, told, "in {namespace}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_operator_of_a_cluster_may_do_what_it_needs_and_no_more() {
    let world = World::without_nodes().await;
    // Rights are asked for by the names that the API server knows.
    let _kueue = Kueue::install(&world).await;
    let user = "system:serviceaccount:palimpsest-system:palimpsest-operator";
    check(
        &world,
        user,
        "default",
        expect![[r#"
        authentication.k8s.io/tokenreviews: create
        configmaps: create patch
        events: create
        kueue.x-k8s.io/resourceflavors: get
        kueue.x-k8s.io/workloadpriorityclasses: get
        kueue.x-k8s.io/workloads: create delete list patch watch
        kueue.x-k8s.io/workloads/status: patch
        palimpsest.dev/trainingjobs: delete get list patch watch
        palimpsest.dev/trainingjobs/finalizers: update
        palimpsest.dev/trainingjobs/status: patch
        pods: create delete get list watch
        scheduling.k8s.io/priorityclasses: get list
    "#]],
    )
    .await;
    check(
        &world,
        user,
        "palimpsest-system",
        expect![[r#"
        authentication.k8s.io/tokenreviews: create
        configmaps: create patch
        coordination.k8s.io/leases: create
        coordination.k8s.io/leases palimpsest-operator: get update
        events: create
        kueue.x-k8s.io/resourceflavors: get
        kueue.x-k8s.io/workloadpriorityclasses: get
        kueue.x-k8s.io/workloads: create delete list patch watch
        kueue.x-k8s.io/workloads/status: patch
        palimpsest.dev/trainingjobs: delete get list patch watch
        palimpsest.dev/trainingjobs/finalizers: update
        palimpsest.dev/trainingjobs/status: patch
        pods: create delete get list watch
        scheduling.k8s.io/priorityclasses: get list
        secrets: create
        secrets palimpsest-operator-ca: get
    "#]],
    )
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_operator_of_a_namespace_runs_jobs_there_and_touches_no_other() {
    let world = World::of_one_namespace().await;
    let _kueue = Kueue::install(&world).await;
    let user = "system:serviceaccount:default:palimpsest-operator";
    world.server().kubectl_succeed(&["create", "namespace", "other"]);
    check(
        &world,
        user,
        "other",
        expect![[r#"
        authentication.k8s.io/tokenreviews: create
        kueue.x-k8s.io/resourceflavors: get
        kueue.x-k8s.io/workloadpriorityclasses: get
        scheduling.k8s.io/priorityclasses: get list
    "#]],
    )
    .await;
    check(
        &world,
        user,
        "default",
        expect![[r#"
        authentication.k8s.io/tokenreviews: create
        configmaps: create patch
        coordination.k8s.io/leases: create
        coordination.k8s.io/leases palimpsest-operator: get update
        events: create
        kueue.x-k8s.io/resourceflavors: get
        kueue.x-k8s.io/workloadpriorityclasses: get
        kueue.x-k8s.io/workloads: create delete list patch watch
        kueue.x-k8s.io/workloads/status: patch
        palimpsest.dev/trainingjobs: delete get list patch watch
        palimpsest.dev/trainingjobs/finalizers: update
        palimpsest.dev/trainingjobs/status: patch
        pods: create delete get list watch
        scheduling.k8s.io/priorityclasses: get list
        secrets: create
        secrets palimpsest-operator-ca: get
    "#]],
    )
    .await;
    // One for another namespace takes nothing away.
    let before = rights(world.client_as_operator().await, "default").await;
    world.server().kubectl_succeed(&["create", "namespace", "third"]);
    world.install_for_namespace("third");
    assert_eq!(rights(world.client_as_operator().await, "default").await, before);

    let operator = world.operator(&[("POD_NAMESPACE", "default"), ("WATCH_NAMESPACE", "default")]);
    world.submit("zh", Script::default(), json!({})).await;
    // The same job, elsewhere.
    let mut job = world.job("zh").await.unwrap();
    job["metadata"] = json!({"name": "zh", "namespace": "other"});
    job["status"].take();
    world.server().apply(&job.to_string());
    world.wait_for("zh", "Succeeded", "True").await;
    tokio::time::sleep(Duration::from_secs(2)).await;
    let told = ["get", "tj,pods,configmaps,events.events.k8s.io,workloads", "--namespace=other", "--output=json"];
    let found: Value = serde_json::from_str(&world.server().kubectl_succeed(&told).stdout).unwrap();
    let found = found["items"].as_array().unwrap();
    assert_eq!(found.len(), 1, "{found:#?}");
    assert_eq!((&found[0]["status"], &found[0]["metadata"]["finalizers"]), (&Value::Null, &Value::Null), "{found:#?}");
    assert!(!operator.log().contains("orbidden"), "{}", operator.log());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_is_admitted_where_pods_are_restricted() {
    let world = World::new().await;
    let restrict = ["label", "namespace", "default", "pod-security.kubernetes.io/enforce=restricted"];
    world.server().kubectl_succeed(&restrict);
    let refused = ["run", "loose", "--image=loose:1", "--dry-run=server"];
    assert!(world.server().kubectl(&refused).stderr.contains("violates PodSecurity"));
    let _operator = world.operator(&[]);
    world.submit("zh", Script::default(), json!({})).await;
    let job = world.wait_for("zh", "Succeeded", "True").await;
    assert_eq!(condition(&job, "Succeeded")["reason"], "Succeeded");
    assert_eq!(world.folder("zh").begun, ["zh-0-1"]);
}

#[test]
fn who_may_view_or_edit_a_namespace_may_view_or_edit_its_jobs() {
    let server = ApiServer::start_with_controllers();
    server.kubectl_succeed(&["apply", "--server-side", "-k", &repository().join("deploy").to_string_lossy()]);
    server.kubectl_succeed(&["create", "namespace", "team"]);
    for (user, role) in [("ann", "view"), ("bob", "edit")] {
        let flags = [format!("--clusterrole={role}"), format!("--user={user}")];
        server.kubectl_succeed(&["create", "rolebinding", user, &flags[0], &flags[1], "--namespace=team"]);
    }
    let may = |user: &str, verb: &str, what: &str, namespace: &str| {
        let (resource, subresource) = what.split_once('/').unwrap_or((what, ""));
        let flags =
            [format!("--as={user}"), format!("--namespace={namespace}"), format!("--subresource={subresource}")];
        let asked = ["auth", "can-i", verb, resource, &flags[0], &flags[1], &flags[2]];
        server.kubectl(&asked).stdout.trim() == "yes"
    };
    // The controller adds them up a moment after they are there.
    let began = Instant::now();
    while !may("ann", "get", "trainingjobs", "team") || !may("bob", "create", "trainingjobs", "team") {
        assert!(began.elapsed() < Duration::from_secs(30), "the roles are not added up");
        std::thread::sleep(Duration::from_millis(200));
    }
    let told = |user: &str, namespace: &str| -> String {
        let resources = ["trainingjobs", "trainingjobs/status", "trainingjobs/scale", "trainingjobs/finalizers"];
        let line = |resource: &str| {
            let verbs: Vec<&str> = VERBS.into_iter().filter(|verb| may(user, verb, resource, namespace)).collect();
            format!("{resource}: {}", verbs.join(" ")).trim_end().to_owned() + "\n"
        };
        resources.into_iter().map(line).collect()
    };
    expect![[r#"
        trainingjobs: get list watch
        trainingjobs/status: get list watch
        trainingjobs/scale: get list watch
        trainingjobs/finalizers:
    "#]]
    .assert_eq(&told("ann", "team"));
    expect![[r#"
        trainingjobs: get list watch create update patch delete deletecollection
        trainingjobs/status: get list watch
        trainingjobs/scale: get list watch update patch
        trainingjobs/finalizers:
    "#]]
    .assert_eq(&told("bob", "team"));
    expect![[r#"
        trainingjobs:
        trainingjobs/status:
        trainingjobs/scale:
        trainingjobs/finalizers:
    "#]]
    .assert_eq(&told("bob", "default"));
}
