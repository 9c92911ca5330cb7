//! A model as an endpoint, asked by the openai client and by curl, beside transformers.
#![allow(clippy::panic, clippy::unwrap_used, reason = "a test fails by panicking")]

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use palimpsest_tests::{palimpsest, parity_python, repository, run, signal, succeed, test_data};
use serde_json::{Value, json};

const KEY: &str = "a-key-of-the-tests";

/// An endpoint; ended with the value, if it was not before.
struct Endpoint {
    child: Child,
    url: String,
    folder: tempfile::TempDir,
    log: std::thread::JoinHandle<Vec<String>>,
}

impl Endpoint {
    /// Serves a model with more arguments, and waits until it listens.
    fn start(model: &Path, arguments: &[&str]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let keys = folder.path().join("keys");
        std::fs::write(&keys, format!("# keys\n{KEY}\n")).unwrap();
        let mut child = palimpsest()
            .args(["serve", "--port", "0", "--cache-memory", "64", "--api-keys"])
            .arg(&keys)
            .arg("--model")
            .arg(model)
            .args(arguments)
            .stderr(Stdio::piped())
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stderr.take().unwrap()).lines().map(Result::unwrap);
        let mut told = Vec::new();
        let url = loop {
            let line = lines.next().unwrap_or_else(|| panic!("it ends: {told:#?}"));
            let address = line.split_whitespace().find_map(|word| word.strip_prefix("http_address="));
            let url = address.map(|address| format!("http://{address}"));
            told.push(line);
            if let Some(url) = url {
                break url;
            }
        };
        let log = std::thread::spawn(move || told.into_iter().chain(lines).collect());
        let endpoint = Self { child, url, folder, log };
        let began = Instant::now();
        while endpoint.curl(&["/readyz"]).0 != 200 {
            assert!(began.elapsed() < Duration::from_secs(120), "it does not get ready");
            std::thread::sleep(Duration::from_millis(20));
        }
        endpoint
    }

    /// The status and the body that curl gets at a path, with more arguments.
    fn curl(&self, arguments: &[&str]) -> (u32, String) {
        let mut curl = Command::new("curl");
        curl.args(["--silent", "--show-error", "--max-time", "60", "--write-out", "\n%{http_code}"]);
        curl.arg("--header").arg(format!("Authorization: Bearer {KEY}")).arg(format!("{}{}", self.url, arguments[0]));
        let output = curl.args(&arguments[1..]).output().unwrap();
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        let (body, status) = text.rsplit_once('\n').unwrap();
        (status.parse().unwrap(), body.to_owned())
    }

    fn post(&self, path: &str, body: &Value) -> (u32, Value) {
        let (status, text) = self.curl(&[path, "--json", &body.to_string()]);
        (status, serde_json::from_str(&text).unwrap_or_else(|error| panic!("{status} {text}: {error}")))
    }

    /// A figure of /metrics, summed over its labels.
    fn metric(&self, name: &str) -> f64 {
        let (_, page) = self.curl(&["/metrics"]);
        let of_name = |line: &&str| line.strip_prefix(name).is_some_and(|rest| rest.starts_with(['{', ' ']));
        page.lines().filter(of_name).filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok()).sum()
    }

    fn engine(&self) -> u32 {
        // Any thread may have started it.
        let threads = std::fs::read_dir(format!("/proc/{}/task", self.child.id())).unwrap();
        let of_thread = |thread: PathBuf| std::fs::read_to_string(thread.join("children")).unwrap_or_default();
        let children: String = threads.map(|thread| of_thread(thread.unwrap().path())).collect();
        children.split_whitespace().next().unwrap_or_else(|| panic!("no engine runs")).parse().unwrap()
    }

    /// Asks it to end, and gives its exit code and what it has told.
    fn end(mut self) -> (Option<i32>, Vec<String>) {
        signal(self.child.id(), "TERM");
        let code = self.child.wait().unwrap().code();
        let log = std::mem::replace(&mut self.log, std::thread::spawn(Vec::new));
        (code, log.join().unwrap())
    }
}

impl Drop for Endpoint {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn model(name: &str) -> Option<PathBuf> {
    test_data(&format!("models/{name}"))
}

/// Texts with what their tokenizer has no piece for.
fn texts(folder: &Path) -> PathBuf {
    let path = folder.join("text.jsonl");
    let texts =
        ["Lily and Ben went to the park. They saw a big tree and a small bird.", "Tom said: \"I am happy!\" 你好。"];
    let lines: String = texts.iter().map(|text| format!("{}\n", json!({"target": text}))).collect();
    std::fs::write(&path, lines).unwrap();
    path
}

/// Compares an endpoint with transformers, through the openai client.
fn compare(model: &Path) {
    let Some(python) = parity_python() else { return };
    let endpoint = Endpoint::start(model, &[]);
    let text = texts(endpoint.folder.path());
    let compared = Command::new(python)
        .arg(repository().join("tests/parity/serving.py"))
        .arg(model)
        .args([&format!("{}/v1", endpoint.url), KEY])
        .arg(&text)
        .output()
        .unwrap();
    assert!(compared.status.success(), "{}", String::from_utf8_lossy(&compared.stderr));
    let theirs: Value = serde_json::from_slice(&compared.stdout).unwrap();
    println!("{theirs}");
    let ours = ["eval", "--model", model.to_str().unwrap(), "--bits-per-byte", text.to_str().unwrap(), "--json"];
    let ours: Value = serde_json::from_str(&succeed(&ours).stdout).unwrap();
    let (ours, echoed) = (ours["score"]["bitsPerByte"].as_f64().unwrap(), theirs["bitsPerByte"].as_f64().unwrap());
    assert!((ours - echoed).abs() < 1e-4 * ours, "{ours} by eval, {echoed} by echo");
    let (code, log) = endpoint.end();
    assert_eq!(code, Some(0), "{log:#?}");
    assert!(log.iter().any(|line| line.contains("cache_tokens=") && line.contains("precision=")), "{log:#?}");
    assert!(!log.iter().any(|line| line.contains("Once upon")), "no prompt is logged: {log:#?}");
}

#[test]
fn stories260k_is_served_as_transformers_computes_it() {
    let Some(model) = model("stories260k") else { return };
    compare(&model);
}

#[test]
fn smollm2_is_served_as_transformers_computes_it() {
    let Some(model) = model("smollm2-135m") else { return };
    compare(&model);
}

#[test]
fn requests_through_the_engine_are_timed() {
    let Some(model) = model("stories260k") else { return };
    let arguments =
        ["--requests", "3", "--prompt", "8", "--new", "4", "--rounds", "3", "--cache-memory", "16", "--json"];
    let ended = succeed(&[&["bench", "infer", "--model", model.to_str().unwrap()], &arguments[..]].concat());
    let told: Value = serde_json::from_str(&ended.stdout).unwrap();
    let seconds: Vec<f64> = told["seconds"].as_array().unwrap().iter().map(|value| value.as_f64().unwrap()).collect();
    assert!(seconds.len() == 2 && seconds.iter().all(|seconds| *seconds > 0.0), "{told}");
    assert!((told["tokensPerSecond"].as_f64().unwrap() * seconds[1] - 12.0).abs() < 1e-6, "{told}");
}

#[test]
fn an_engine_that_dies_is_started_again_while_the_server_stays() {
    let Some(model) = model("stories260k") else { return };
    let endpoint = Endpoint::start(&model, &[]);
    let ask = |max_tokens: u32| {
        let body = json!({"model": "stories260k", "prompt": "Once", "max_tokens": max_tokens, "ignore_eos": true});
        endpoint.post("/v1/completions", &body)
    };
    assert_eq!(ask(4).0, 200);
    let engine = endpoint.engine();
    std::thread::scope(|scope| {
        let asked = scope.spawn(|| ask(480));
        while endpoint.metric("palimpsest_inference_requests_running") == 0.0 && !asked.is_finished() {
            std::thread::sleep(Duration::from_millis(1));
        }
        signal(engine, "KILL");
        let (status, answer) = asked.join().unwrap();
        // It may just have been over.
        assert!(status == 503 || status == 200, "{status} {answer}");
    });
    let began = Instant::now();
    while ask(4).0 != 200 {
        assert!(began.elapsed() < Duration::from_secs(60), "it does not come back");
        std::thread::sleep(Duration::from_millis(20));
    }
    println!("served again after {:?}", began.elapsed());
    assert_ne!(endpoint.engine(), engine);
}

#[test]
fn who_leaves_is_forgotten_and_who_is_served_is_served_to_the_end() {
    let Some(model) = model("stories260k") else { return };
    let endpoint = Endpoint::start(&model, &[]);
    let body = json!({"model": "stories260k", "prompt": "Once", "max_tokens": 500, "ignore_eos": true, "n": 32});
    let mut leaving = Command::new("curl")
        .args(["--silent", "--json", &body.to_string(), "--header", &format!("Authorization: Bearer {KEY}")])
        .arg(format!("{}/v1/completions", endpoint.url))
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    let wait_until = |is_running: bool| {
        let began = Instant::now();
        while (endpoint.metric("palimpsest_inference_requests_running") > 0.0) != is_running {
            assert!(began.elapsed() < Duration::from_secs(30), "running: {}", !is_running);
            std::thread::sleep(Duration::from_millis(2));
        }
    };
    wait_until(true);
    leaving.kill().unwrap();
    leaving.wait().unwrap();
    wait_until(false);
    let given = endpoint.metric("palimpsest_inference_generation_tokens_total");
    assert!(given < 32.0 * 500.0, "{given} tokens were given to nobody");

    // What is under way when the end is asked for is served to its end.
    let url = format!("{}/v1/completions", endpoint.url);
    let body = json!({"model": "stories260k", "prompt": "Once", "max_tokens": 400, "ignore_eos": true, "n": 8});
    let served = Command::new("curl")
        .args(["--silent", "--json", &body.to_string(), "--header", &format!("Authorization: Bearer {KEY}"), &url])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    wait_until(true);
    let (code, log) = endpoint.end();
    assert_eq!(code, Some(0), "{log:#?}");
    let answer: Value = serde_json::from_slice(&served.wait_with_output().unwrap().stdout).unwrap();
    assert_eq!(answer["usage"]["completion_tokens"], 8 * 400, "{answer}");
}

#[test]
fn what_cannot_be_served_is_told_in_one_sentence() {
    let Some(model) = model("stories260k") else { return };
    let folder = tempfile::tempdir().unwrap();
    let refused = |arguments: &[&str], sentence: &str| {
        let ended = run(&[&["serve", "--port", "0"], arguments].concat());
        assert_eq!(ended.code, Some(2), "{ended:?}");
        let errors: Vec<&str> = ended.stderr.lines().filter(|line| line.contains(sentence)).collect();
        assert_eq!(errors.len(), 1, "{sentence}: {}", ended.stderr);
    };
    let model = model.to_str().unwrap();
    refused(&["--model", "/nowhere"], "/nowhere");
    refused(&["--model", model, "--cache-memory", "100000000"], "are left");
    refused(&["--model", model, "--max-context", "100000"], "512 positions of this model can be served");
    refused(&["--model", model, "--api-keys", "/nowhere/keys"], "/nowhere/keys");
    let cut = folder.path().join("model");
    std::fs::create_dir(&cut).unwrap();
    for entry in std::fs::read_dir(model).unwrap().map(|entry| entry.unwrap().path()).filter(|path| path.is_file()) {
        std::fs::copy(&entry, cut.join(entry.file_name().unwrap())).unwrap();
    }
    let weights = std::fs::OpenOptions::new().write(true).open(cut.join("model.safetensors")).unwrap();
    weights.set_len(100_000).unwrap();
    refused(&["--model", cut.to_str().unwrap()], "model.safetensors");
}
