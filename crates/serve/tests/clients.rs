//! The clients that people have: OpenAI's own, and curl.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

mod support;

use std::path::{Path, PathBuf};

use support::{Options, World};
use tokio::process::Command;

/// Python with the package `openai`: that of the parity environment.
async fn python() -> Option<PathBuf> {
    let default = || Path::new(&std::env::var("HOME").unwrap_or_default()).join(".cache/palimpsest");
    let cache = std::env::var_os("PALIMPSEST_CACHE").map_or_else(default, PathBuf::from);
    let python = cache.join("venv/bin/python");
    let found = Command::new(&python).args(["-c", "import openai"]).output().await;
    let is_there = found.is_ok_and(|output| output.status.success());
    if !is_there {
        assert!(std::env::var("CI").as_deref() != Ok("true"), "{} has no package openai", python.display());
        println!("skipped: {} has no package openai", python.display());
    }
    is_there.then_some(python)
}

async fn with_key() -> World {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("keys");
    std::fs::write(&path, "secret\n").unwrap();
    World::with(Options { configure: Box::new(move |config| config.api_keys = Some(path)), ..Options::default() }).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_client_of_openai_finds_what_it_knows() {
    let Some(python) = python().await else { return };
    let world = with_key().await;
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/openai_client.py");
    let output = Command::new(python).arg(script).arg(format!("http://{}/v1", world.address)).output().await.unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn curl_needs_no_more_than_the_page_says() {
    let world = with_key().await;
    let url = format!("http://{}/v1/completions", world.address);
    let body = r#"{"prompt": "abc", "max_tokens": 3, "stream": true}"#;
    let asked =
        Command::new("curl").args(["-sSN", "-H", "authorization: Bearer secret", "-d", body, &url]).output().await;
    let Ok(output) = asked else {
        assert!(std::env::var("CI").as_deref() != Ok("true"), "there is no curl");
        println!("skipped: there is no curl");
        return;
    };
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(text.starts_with("data: {") && text.ends_with("data: [DONE]\n\n"), "{text}");
}
