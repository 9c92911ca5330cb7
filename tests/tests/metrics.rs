//! What a worker serves to Prometheus is what docs/metrics.md lists, and true; and what a crash cost is told afterwards.
#![allow(clippy::panic, clippy::unwrap_used, reason = "a test fails by panicking")]

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use palimpsest_tests::{
    ONE_THREAD, SMALL_JOB, children, free_address, palimpsest, read_json, read_json_lines, repository, signal,
    write_job,
};

/// Far longer than anything here takes.
const LONG: Duration = Duration::from_secs(120);

/// A run that is killed with its worker when the test is over.
struct Run(Child);

impl Drop for Run {
    fn drop(&mut self) {
        for process in descendants(self.0.id()).into_iter().chain([self.0.id()]) {
            // It may be gone already.
            let _ = Command::new("kill").args(["-KILL", &process.to_string()]).stderr(Stdio::null()).status();
        }
        self.0.wait().unwrap();
    }
}

fn descendants(process: u32) -> Vec<u32> {
    let below = children(process).into_iter();
    below.flat_map(|child| descendants(child).into_iter().chain([child])).collect()
}

/// The page at `path` of a port, its status line first.
fn get(port: u16, path: &str) -> Option<String> {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).ok()?;
    write!(stream, "GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n").ok()?;
    let mut page = String::new();
    stream.read_to_string(&mut page).ok()?;
    Some(page)
}

/// The samples of a page, by name and labels.
fn samples(page: &str) -> BTreeMap<String, f64> {
    let lines = page.lines().filter(|line| line.starts_with("palimpsest_"));
    lines
        .filter_map(|line| line.rsplit_once(' '))
        .map(|(name, value)| (name.to_owned(), value.parse().unwrap()))
        .collect()
}

/// Scrapes until `wanted` picks something.
fn scrape_until(port: u16, wanted: impl Fn(&BTreeMap<String, f64>) -> bool) -> (String, BTreeMap<String, f64>) {
    let began = Instant::now();
    loop {
        if let Some(page) = get(port, "/metrics") {
            let samples = samples(&page);
            if wanted(&samples) {
                return (page, samples);
            }
        }
        assert!(began.elapsed() < LONG, "nothing of the kind is served");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// Name and type of each metric in docs/metrics.md.
fn listed() -> BTreeMap<String, String> {
    let text = std::fs::read_to_string(repository().join("docs/metrics.md")).unwrap();
    let rows = text.lines().filter(|line| line.starts_with("| `palimpsest_"));
    rows.map(|row| {
        let cells: Vec<&str> = row.split('|').map(str::trim).collect();
        (cells[1].trim_matches('`').to_owned(), cells[2].to_owned())
    })
    .collect()
}

/// Name and type of each metric of a page.
fn served(page: &str) -> BTreeMap<String, String> {
    let lines = page.lines().filter_map(|line| line.strip_prefix("# TYPE ")?.split_once(' '));
    lines.map(|(name, kind)| (name.to_owned(), kind.to_owned())).collect()
}

fn start(job: &Path, output: &Path, options: &[&str]) -> Child {
    let mut command = palimpsest();
    command.args(["run", job.to_str().unwrap(), "--output", output.to_str().unwrap()]).args(ONE_THREAD);
    command.args(options).stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap()
}

#[test]
fn a_worker_serves_what_is_listed_and_counts_on_over_a_restart() {
    let folder = tempfile::tempdir().unwrap();
    // Losses go up and down enough for some to count as spikes.
    let spikes = "budget: {tokens: 400000}\n      spikes: {lossSigma: \"1\", window: 20, action: Ignore}";
    let job = write_job(folder.path(), &SMALL_JOB.replace("budget: {tokens: 20000}", spikes));
    let output = folder.path().join("out");
    let port = free_address().port();
    let run = Run(start(&job, &output, &["--metrics-port", &port.to_string()]));
    let of = |samples: &BTreeMap<String, f64>, figure: &str| samples[&format!("palimpsest_training_{figure}")];

    let (page, samples) = scrape_until(port, |samples| {
        samples.get("palimpsest_training_mfu_ratio").is_some_and(|mfu| mfu.is_finite())
            && of(samples, "spikes_total") > 0.0
    });
    assert!(page.starts_with("HTTP/1.1 200") && page.contains("content-type: text/plain; version=0.0.4"), "{page}");
    assert!(get(port, "/other").unwrap().starts_with("HTTP/1.1 404"));
    assert_eq!(served(&page), listed());
    let steps = of(&samples, "steps_total");
    assert_eq!((of(&samples, "step"), of(&samples, "step_seconds_count")), (steps, steps));
    let records = read_json_lines(&output.join("metrics.jsonl"));
    let done = &records[..steps as usize];
    let sum = |of: &dyn Fn(&serde_json::Value) -> f64| done.iter().map(of).sum::<f64>();
    let is_sum = |figure: &str, of: &dyn Fn(&serde_json::Value) -> f64| {
        let (served, expected) = (samples[&format!("palimpsest_training_{figure}")], sum(of));
        assert!((served - expected).abs() <= 1e-9 * expected, "{figure}: {served}, {expected}");
    };
    is_sum("tokens_total", &|record| record["tokens"].as_f64().unwrap());
    is_sum("target_tokens_total", &|record| record["targets"].as_f64().unwrap());
    is_sum("clipped_steps_total", &|record| f64::from(record["clipped"].as_bool().unwrap()));
    is_sum("step_seconds_sum", &|record| record["seconds"].as_f64().unwrap());
    is_sum("checkpoint_stall_seconds_total", &|record| record["checkpointSeconds"].as_f64().unwrap());
    for part in ["data", "forward", "backward", "optimizer"] {
        let field = format!("{part}Seconds");
        is_sum(&format!("step_part_seconds_total{{part=\"{part}\"}}"), &|record| record[&field].as_f64().unwrap());
    }
    let last = done.last().unwrap();
    is_sum("spikes_total", &|record| f64::from(record["spike"].as_bool().unwrap()));
    for (figure, field) in [
        ("loss", "loss"),
        ("gradient_norm", "gradNorm"),
        ("learning_rate", "learningRate"),
        ("fill_ratio", "fill"),
        ("resident_bytes", "residentBytes"),
    ] {
        assert_eq!(of(&samples, figure), last[field].as_f64().unwrap(), "{figure}");
    }
    let newest = &done[done.len().saturating_sub(20)..];
    let total = |field: &str| newest.iter().map(|record| record[field].as_f64().unwrap()).sum::<f64>();
    let pace = total("tokens") / total("seconds");
    assert!((of(&samples, "tokens_per_second") / pace - 1.0).abs() < 1e-9, "{pace}");
    // Operations of a token, tokens and seconds against the rate are the ratio.
    let rate = of(&samples, "matrix_product_flops_per_second");
    let operations = of(&samples, "flops_per_token") * last["tokens"].as_f64().unwrap();
    let mfu = operations / last["seconds"].as_f64().unwrap() / rate;
    assert!((of(&samples, "mfu_ratio") / mfu - 1.0).abs() < 1e-9 && mfu < 1.0, "{mfu}");
    assert_eq!(of(&samples, "restarts_total"), 0.0);
    assert!(of(&samples, "device_bytes").is_nan());

    // The rank dies; its agent and what that has counted do not.
    let agent = children(run.0.id())[0];
    signal(children(agent)[0], "KILL");
    let (_, samples) = scrape_until(port, |samples| {
        of(samples, "restarts_total") == 1.0 && of(samples, "step_seconds_count") > steps + 20.0
    });
    assert!(of(&samples, "steps_total") >= of(&samples, "step"), "steps that were done again count again");
}

#[test]
fn goodput_counts_what_a_crash_cost() {
    let folder = tempfile::tempdir().unwrap();
    let job = write_job(folder.path(), &SMALL_JOB.replace("tokens: 20000", "tokens: 60000"));
    let output = folder.path().join("out");
    let mut run = Run(start(&job, &output, &[]));
    let metrics = output.join("metrics.jsonl");
    while std::fs::read_to_string(&metrics).map_or(0, |text| text.lines().count()) < 25 {
        assert!(run.0.try_wait().unwrap().is_none(), "the run ended before step 25");
        std::thread::sleep(Duration::from_millis(2));
    }
    let rank = children(children(run.0.id())[0])[0];
    signal(rank, "STOP");
    std::thread::sleep(Duration::from_millis(50));
    let before = read_json_lines(&metrics);
    signal(rank, "KILL");
    assert!(run.0.wait().unwrap().success());

    let attempts = read_json_lines(&output.join("attempts.jsonl"));
    assert_eq!(attempts.len(), 2, "{attempts:?}");
    let number = |value: &serde_json::Value| value.as_f64().unwrap_or_else(|| panic!("{value}"));
    let from = number(&attempts[1]["fromStep"]);
    let lost: Vec<f64> = before
        .iter()
        .filter(|record| number(&record["step"]) > from)
        .map(|record| number(&record["seconds"]))
        .collect();
    assert!(from > 0.0 && !lost.is_empty(), "{from}");
    let summary = read_json(&output.join("summary.json"));
    let goodput = &summary["goodput"];
    assert_eq!(number(&goodput["lostSteps"]), lost.len() as f64);
    assert!((number(&goodput["lostSeconds"]) - lost.iter().sum::<f64>()).abs() < 1e-9, "{goodput}");
    let kept: f64 = read_json_lines(&metrics).iter().map(|record| number(&record["seconds"])).sum();
    let wall: f64 = attempts.iter().map(|attempt| number(&attempt["ended"]) - number(&attempt["began"])).sum();
    let share = number(&goodput["share"]);
    assert!((share - kept / wall).abs() < 1e-9 && share > 0.0, "{goodput}");
    let spent = kept + number(&goodput["lostSeconds"]) + number(&goodput["checkpointSeconds"]);
    assert!(spent < wall, "{spent} s in {wall} s");
    let page = std::fs::read_to_string(output.join("report.html")).unwrap();
    assert!(page.contains(&format!("\"goodput\":{goodput}")), "the report has it");
    // Waits before the last step are with the steps, those after it with the attempt.
    let waited = |records: &[serde_json::Value], field: &str| records.iter().map(|record| number(&record[field])).sum();
    let stalls: f64 = waited(&read_json_lines(&metrics), "checkpointSeconds");
    let last_stalls: f64 = waited(&attempts, "lastCheckpointSeconds");
    assert!(stalls > 0.0 && last_stalls > 0.0);
    assert!((number(&goodput["checkpointSeconds"]) - stalls - last_stalls).abs() < 1e-9, "{goodput}");
    let resident =
        read_json_lines(&metrics).iter().filter_map(|record| record["residentBytes"].as_u64()).max().unwrap();
    assert_eq!(summary["residentBytes"], resident);
    assert!(page.contains(&format!("\"residentBytes\":{resident}")), "the report has it");
}

#[test]
fn a_port_that_is_taken_is_told_in_one_sentence() {
    let folder = tempfile::tempdir().unwrap();
    let job = write_job(folder.path(), SMALL_JOB);
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port();
    let options = ["--metrics-port", &port.to_string()];
    let ended = start(&job, &folder.path().join("out"), &options).wait_with_output().unwrap();
    let stderr = String::from_utf8_lossy(&ended.stderr);
    assert_eq!(ended.status.code(), Some(2), "{stderr}");
    assert!(stderr.contains(&format!("--metrics-port {port}: cannot listen on 127.0.0.1:{port}")), "{stderr}");
    assert_eq!(stderr.lines().count(), 1, "{stderr}");
}
