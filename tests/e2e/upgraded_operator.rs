//! The operator is upgraded under a job, from the commit before.

use std::path::{Path, PathBuf};
use std::process::Command;

use palimpsest_tests::{install, make_image, repository};

use crate::job::{JOB, Run, STEPS};
use crate::setting::{OPERATOR, Setting, WORKER};

const OLD_OPERATOR: &str = "palimpsest.test/operator:e2e-old";

/// Where the other commit is checked out and built; kept, so that the next time takes seconds.
fn old_folder() -> PathBuf {
    repository().join("target/e2e-old")
}

/// The commit before the newest that changed the operator, or what goes into it, checked out in a folder of its own.
fn old_checkout() -> PathBuf {
    let of_operator = ["operator", "deploy", "crates/api", "crates/control", "crates/coordinator", "proto"];
    let newest = git(&repository(), &[&["log", "--max-count=1", "--format=%H~1", "--"][..], &of_operator].concat());
    let commit = git(&repository(), &["rev-parse", &newest]);
    let checkout = old_folder().join("checkout");
    if !checkout.join(".git").exists() {
        // A clone, not a worktree: nothing of it is written into this repository.
        let [this, there] = [repository(), checkout.clone()].map(|path| path.to_string_lossy().into_owned());
        git(&repository(), &["clone", "--quiet", "--shared", "--no-checkout", &this, &there]);
    }
    // Only what differs is written anew, so that cargo sees what it has to build.
    git(&checkout, &["checkout", "--quiet", "--force", "--detach", &commit]);
    println!("the operator before is that of {commit}");
    checkout
}

/// Its operator. Nobody debugs it or measures it: it is built as quickly as can be.
fn old_operator(checkout: &Path) -> PathBuf {
    let target = old_folder().join("built");
    let mut cargo = Command::new("cargo");
    cargo.args(["build", "--locked", "--package", "palimpsest-operator"]).arg("--target-dir").arg(&target);
    for quick in ["package.\"*\".opt-level=0", "opt-level=0", "debug=false"] {
        cargo.args(["--config", &format!("profile.dev.{quick}")]);
    }
    let built = cargo.current_dir(checkout).status().unwrap();
    assert!(built.success(), "the operator of the commit before cannot be built");
    target.join("debug/palimpsest-operator")
}

fn git(folder: &Path, arguments: &[&str]) -> String {
    let output = Command::new("git").args(arguments).current_dir(folder).output().unwrap();
    assert!(output.status.success(), "git {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).trim().to_owned()
}

#[test]
fn a_job_does_not_notice_that_its_operator_is_upgraded() {
    let Some(setting) = Setting::without_operator(1) else { return };
    let checkout = old_checkout();
    make_image(OLD_OPERATOR, &[old_operator(&checkout)]);
    install(&setting, &checkout, OLD_OPERATOR, WORKER);
    setting.apply(JOB);
    let run = Run::of(&setting);
    run.more_steps(30);
    let before = setting.pods().remove(0).name;

    install(&setting, &repository(), OPERATOR, WORKER);
    run.more_steps(30);
    assert_eq!(setting.pods().remove(0).name, before, "the pod of before");
    run.succeeds();
    assert_eq!(run.attempts(), 1, "nobody began anew");
    assert_eq!(run.counted(), "0 0");
    // What it says of the last step can only have been heard.
    let loss = "--output=jsonpath={.status.progress.step} {.status.progress.loss}";
    let told = setting.kubectl_succeed(&["get", "tj", "recipes", loss]).stdout;
    let told_loss = told.strip_prefix(&format!("{STEPS} "));
    assert!(told_loss.is_some_and(|loss| !loss.is_empty()), "the new operator hears the workers: {told}");
}
