//! The children of a job, as they are sent to an API server.

use expect_test::{Expect, expect};
use k8s_openapi::api::core::v1::Pod;
use serde_json::{Value, json};

use super::*;
use crate::resource::TrainingJob;
use crate::settings::Settings;

fn mk_job(spec: Value) -> TrainingJob {
    let mut whole = json!({
        "model": {"uri": "pvc://models/llama"},
        "data": {"datasets": [{"name": "zh", "uri": "pvc://data/zh"}]},
        "stages": [{"name": "one", "mixture": [{"dataset": "zh", "weight": 1}], "budget": {"steps": 4}}],
        "output": {"uri": "pvc://models/zh"},
    });
    for (field, value) in spec.as_object().unwrap() {
        whole[field] = value.clone();
    }
    let job = json!({"metadata": {"name": "zh", "namespace": "team", "uid": "j1"}, "spec": whole});
    serde_json::from_value(job).unwrap()
}

fn mk_pod(spec: Value) -> Pod {
    let job = mk_job(spec);
    let settings = Settings {
        worker_image: "worker:1".to_owned(),
        coordinator: "https://operator.system.svc:7443".to_owned(),
        certificate_authority: "PEM".to_owned(),
    };
    let identity = Identity { index: 0, incarnation: 3 };
    pod(&job, job.spec.0.as_ref().unwrap(), &settings, identity, None).unwrap()
}

fn check(value: impl serde::Serialize, expected: Expect) {
    expected.assert_eq(&serde_json::to_string(&value).unwrap());
}

fn worker(pod: &Pod) -> &k8s_openapi::api::core::v1::Container {
    pod.spec.as_ref().unwrap().containers.iter().find(|container| container.name == WORKER).unwrap()
}

#[test]
fn a_pod_has_a_name_of_its_own_its_owner_and_its_arguments() {
    let pod = mk_pod(json!({}));
    check(
        &pod.metadata,
        expect![[
            r#"{"labels":{"app.kubernetes.io/managed-by":"palimpsest-operator","palimpsest.dev/incarnation":"3","palimpsest.dev/index":"0","palimpsest.dev/job":"zh"},"name":"zh-0-3","namespace":"team","ownerReferences":[{"apiVersion":"palimpsest.dev/v1alpha1","blockOwnerDeletion":true,"controller":true,"kind":"TrainingJob","name":"zh","uid":"j1"}]}"#
        ]],
    );
    check(
        &worker(&pod).args,
        expect![[
            r#"["agent","--coordinator","https://operator.system.svc:7443","--ca","/var/run/palimpsest/ca.crt","--token-file","/var/run/palimpsest/token","--name","zh-0-3","--job","zh","--namespace","team","--grace-seconds","120","--metrics","0.0.0.0:9400"]"#
        ]],
    );
    assert_eq!(pod.spec.as_ref().unwrap().termination_grace_period_seconds, Some(135));
}

#[test]
fn claims_are_mounted_once_and_only_what_is_written_to_can_be_written() {
    let spec = mk_pod(json!({"checkpoint": {"uri": "pvc://scratch/zh"}}));
    check(
        &worker(&spec).volume_mounts,
        expect![[
            r#"[{"mountPath":"/var/run/palimpsest","name":"palimpsest-identity","readOnly":true},{"mountPath":"/tmp","name":"palimpsest-tmp"},{"mountPath":"/mnt/palimpsest/data","name":"palimpsest-claim-0","readOnly":true},{"mountPath":"/mnt/palimpsest/models","name":"palimpsest-claim-1"},{"mountPath":"/mnt/palimpsest/scratch","name":"palimpsest-claim-2"}]"#
        ]],
    );
    check(
        &spec.spec.unwrap().volumes,
        expect![[
            r#"[{"name":"palimpsest-identity","projected":{"sources":[{"serviceAccountToken":{"audience":"palimpsest.dev","expirationSeconds":3600,"path":"token"}},{"configMap":{"items":[{"key":"ca.crt","path":"ca.crt"}],"name":"zh-palimpsest"}}]}},{"emptyDir":{},"name":"palimpsest-tmp"},{"name":"palimpsest-claim-0","persistentVolumeClaim":{"claimName":"data","readOnly":true}},{"name":"palimpsest-claim-1","persistentVolumeClaim":{"claimName":"models"}},{"name":"palimpsest-claim-2","persistentVolumeClaim":{"claimName":"scratch"}}]"#
        ]],
    );
}

#[test]
fn a_template_wins_over_defaults_and_loses_to_what_the_operator_needs() {
    let template = json!({
        "metadata": {"labels": {"team": "nlp", "palimpsest.dev/job": "other"}, "annotations": {"note": "mine"}},
        "spec": {
            "serviceAccountName": "trainer",
            "nodeSelector": {"gpu": "h100"},
            "terminationGracePeriodSeconds": 30,
            "securityContext": {"fsGroup": 7},
            "containers": [
                {"name": "sidecar", "image": "proxy:2"},
                {"name": "worker", "image": "mine:9", "args": ["nonsense"],
                 "env": [{"name": "NCCL_DEBUG", "value": "INFO"}],
                 "volumeMounts": [{"name": "cache", "mountPath": "/cache"}],
                 "resources": {"limits": {"nvidia.com/gpu": 8}}},
            ],
            "volumes": [{"name": "cache", "emptyDir": {}}],
        },
    });
    let pod = mk_pod(json!({"workers": {"template": template}}));
    let spec = pod.spec.as_ref().unwrap();
    check(
        &pod.metadata.labels,
        expect![[
            r#"{"app.kubernetes.io/managed-by":"palimpsest-operator","palimpsest.dev/incarnation":"3","palimpsest.dev/index":"0","palimpsest.dev/job":"zh","team":"nlp"}"#
        ]],
    );
    check(
        &spec.security_context,
        expect![[
            r#"{"fsGroup":7,"fsGroupChangePolicy":"OnRootMismatch","runAsNonRoot":true,"seccompProfile":{"type":"RuntimeDefault"}}"#
        ]],
    );
    check(
        (&spec.service_account_name, &spec.node_selector, &spec.restart_policy, spec.termination_grace_period_seconds),
        expect![[r#"["trainer",{"gpu":"h100"},"Never",135]"#]],
    );
    let names: Vec<_> = spec.containers.iter().map(|container| container.name.as_str()).collect();
    assert_eq!(names, ["worker", "sidecar"]);
    let worker = worker(&pod);
    assert_eq!((worker.image.as_deref(), worker.args.as_ref().unwrap()[0].as_str()), (Some("mine:9"), "agent"));
    check(
        (&worker.env, &worker.resources, &worker.security_context),
        expect![[
            r#"[[{"name":"NCCL_DEBUG","value":"INFO"}],{"limits":{"nvidia.com/gpu":"8"}},{"allowPrivilegeEscalation":false,"capabilities":{"drop":["ALL"]},"readOnlyRootFilesystem":true}]"#
        ]],
    );
    let mounts: Vec<_> = worker.volume_mounts.iter().flatten().map(|mount| mount.mount_path.as_str()).collect();
    assert!(mounts.contains(&"/cache") && mounts.contains(&"/var/run/palimpsest"), "{mounts:?}");
}

#[test]
fn a_grace_period_longer_than_needed_is_kept() {
    let template = json!({"spec": {"terminationGracePeriodSeconds": 600}});
    let pod = mk_pod(json!({"workers": {"template": template}, "checkpoint": {"terminationSeconds": 60}}));
    assert_eq!(pod.spec.unwrap().termination_grace_period_seconds, Some(600));
}
