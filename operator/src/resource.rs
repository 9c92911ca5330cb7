//! A `TrainingJob` as the API server serves it: what `palimpsest-api` knows of it, within Kubernetes' object metadata.

use std::borrow::Cow;
use std::fmt;
use std::sync::Arc;

use k8s_openapi::NamespaceResourceScope;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference};
use kube::Resource;
use palimpsest_api::{API_VERSION, Metadata, TrainingJobSpec, TrainingJobStatus};
use serde::{Deserialize, Deserializer};

/// The kind's name.
pub(crate) const KIND: &str = "TrainingJob";

/// A `TrainingJob` of a cluster.
#[derive(Clone, Debug, Deserialize)]
pub(crate) struct TrainingJob {
    /// Name, namespace, generation, and when it was made or is to go.
    pub(crate) metadata: ObjectMeta,
    /// What is asked for.
    pub(crate) spec: Spec,
    /// What was said of it last.
    #[serde(default)]
    pub(crate) status: TrainingJobStatus,
}

/// A spec, or why it cannot be read. One job that an API server with a newer definition let pass must not keep the operator
/// from seeing all others.
#[derive(Clone, Debug)]
pub(crate) struct Spec(pub(crate) Result<Arc<TrainingJobSpec>, Arc<str>>);

impl<'de> Deserialize<'de> for Spec {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let value = serde_json::Value::deserialize(deserializer)?;
        let spec = serde_json::from_value(value);
        Ok(Self(spec.map(Arc::new).map_err(|error| Arc::from(error.to_string()))))
    }
}

/// A `resourceVersion`: of two of one object, the greater is the newer. Kubernetes has said so since 1.35, and etcd always did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Version(u64);

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl TrainingJob {
    /// Its name.
    pub(crate) fn name(&self) -> &str {
        self.metadata.name.as_deref().unwrap_or_default()
    }

    /// Its namespace.
    pub(crate) fn namespace(&self) -> &str {
        self.metadata.namespace.as_deref().unwrap_or_default()
    }

    /// What no other object ever has.
    pub(crate) fn uid(&self) -> &str {
        self.metadata.uid.as_deref().unwrap_or_default()
    }

    /// How new this sight of it is.
    pub(crate) fn version(&self) -> Version {
        let version = self.metadata.resource_version.as_deref().unwrap_or_default();
        Version(version.parse().unwrap_or_default())
    }

    /// Whether somebody deleted it.
    pub(crate) fn is_deleted(&self) -> bool {
        self.metadata.deletion_timestamp.is_some()
    }

    /// The job as a job file would say it, for those who run it.
    pub(crate) fn as_job(&self, spec: &TrainingJobSpec) -> palimpsest_api::TrainingJob {
        palimpsest_api::TrainingJob {
            api_version: API_VERSION.to_owned(),
            kind: KIND.to_owned(),
            metadata: Metadata {
                name: self.name().to_owned(),
                namespace: Some(self.namespace().to_owned()),
                ..Metadata::default()
            },
            spec: spec.clone(),
        }
    }

    /// What its children say of it: they go when it goes, and it waits for them where a person asks for that.
    pub(crate) fn owner_reference(&self) -> OwnerReference {
        OwnerReference {
            api_version: API_VERSION.to_owned(),
            kind: KIND.to_owned(),
            name: self.name().to_owned(),
            uid: self.uid().to_owned(),
            controller: Some(true),
            block_owner_deletion: Some(true),
        }
    }
}

impl Resource for TrainingJob {
    type DynamicType = ();
    type Scope = NamespaceResourceScope;

    fn kind((): &()) -> Cow<'_, str> {
        KIND.into()
    }

    fn group((): &()) -> Cow<'_, str> {
        "palimpsest.dev".into()
    }

    fn version((): &()) -> Cow<'_, str> {
        "v1alpha1".into()
    }

    fn plural((): &()) -> Cow<'_, str> {
        "trainingjobs".into()
    }

    fn meta(&self) -> &ObjectMeta {
        &self.metadata
    }

    fn meta_mut(&mut self) -> &mut ObjectMeta {
        &mut self.metadata
    }
}
