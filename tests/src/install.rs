//! The operator, installed as a user installs it.

use std::fs;
use std::path::Path;

use crate::Kubectl;

/// Applies `deploy/` of a checkout with these images, by a kustomization as docs/operator.md has it, and waits until all replicas are
/// of it.
pub fn install(kubectl: &Kubectl, checkout: &Path, operator: &str, worker: &str) {
    let fail = |error: std::io::Error| -> ! { panic!("{}: {error}", checkout.display()) };
    // Kustomize takes bases by relative paths alone.
    let target = checkout.join("target");
    let folder = fs::create_dir_all(&target).and_then(|()| tempfile::tempdir_in(&target)).unwrap_or_else(|e| fail(e));
    let (name, tag) = operator.rsplit_once(':').unwrap_or_else(|| panic!("{operator}: write NAME:TAG"));
    let kustomization = format!(
        "apiVersion: kustomize.config.k8s.io/v1beta1
kind: Kustomization
resources: [../../deploy]
images:
  - {{name: palimpsest-operator, newName: {name}, newTag: \"{tag}\"}}
patches:
  - target: {{kind: Deployment, name: palimpsest-operator}}
    patch: |
      - {{op: replace, path: /spec/template/spec/containers/0/env/0/value, value: \"{worker}\"}}
"
    );
    fs::write(folder.path().join("kustomization.yaml"), kustomization).unwrap_or_else(|error| fail(error));
    let kubectl = kubectl.within("palimpsest-system");
    kubectl.kubectl_succeed(&["apply", "--server-side", "--kustomize", &folder.path().to_string_lossy()]);
    kubectl.kubectl_succeed(&["rollout", "status", "deployment/palimpsest-operator", "--timeout=60s"]);
}
