//! What a turn took: of a process, as the kernel counts it, and of the API server, as it counts itself.

use std::collections::BTreeMap;
use std::fs;

use hyper::Request;
use palimpsest_tests::World;

/// The kernel's ticks a second.
const TICKS: f64 = 100.0;

/// A process of this machine.
#[derive(Debug)]
pub(crate) struct Process(u32);

impl Process {
    pub(crate) fn of(id: u32) -> Self {
        Self(id)
    }

    fn read(&self, name: &str) -> String {
        fs::read_to_string(format!("/proc/{}/{name}", self.0)).unwrap_or_else(|error| panic!("{}: {error}", self.0))
    }

    /// The time that it has computed for.
    pub(crate) fn cpu_seconds(&self) -> f64 {
        let stat = self.read("stat");
        // Behind the name, which may hold anything: the 12th and 13th field are its own time and the kernel's for it.
        let fields = stat.rsplit(')').next().unwrap_or_default().split_whitespace();
        fields.skip(11).take(2).filter_map(|field| field.parse::<f64>().ok()).sum::<f64>() / TICKS
    }

    /// The most that was ever resident.
    pub(crate) fn peak_bytes(&self) -> u64 {
        let status = self.read("status");
        let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
        let kilobytes = line.and_then(|line| line.split_whitespace().next()?.parse::<u64>().ok());
        kilobytes.unwrap_or(0) * 1024
    }
}

/// How many requests the API server has answered, by verb and resource. Those of the control plane itself are among them.
#[derive(Debug)]
pub(crate) struct Requests(BTreeMap<String, u64>);

/// What is no part of a job's way to its children: the benchmark's own calls, leases, tokens.
const ASIDE: [&str; 8] = [
    "leases",
    "tokenreviews",
    "secrets",
    "namespaces",
    "POST trainingjobs",
    "apiservices",
    "flowschemas",
    "prioritylevel",
];

impl Requests {
    /// Asks the API server.
    pub(crate) async fn read(world: &World) -> Self {
        let request = Request::get("/metrics").body(Vec::new()).unwrap_or_else(|error| panic!("{error}"));
        let text = world.client().request_text(request).await.unwrap_or_else(|error| panic!("{error}"));
        let mut counts = BTreeMap::new();
        for line in text.lines().filter_map(|line| line.strip_prefix("apiserver_request_total{")) {
            let Some((labels, count)) = line.rsplit_once("} ") else { continue };
            let label = |name: &str| {
                let found = labels.split(',').find_map(|pair| pair.strip_prefix(&format!("{name}=\"")));
                found.map(|value| value.trim_end_matches('"')).unwrap_or_default()
            };
            let slash = if label("subresource").is_empty() { "" } else { "/" };
            let what = format!("{} {}{slash}{}", label("verb"), label("resource"), label("subresource"));
            if !ASIDE.iter().any(|aside| what.contains(aside)) {
                *counts.entry(what).or_insert(0) += count.parse::<f64>().unwrap_or(0.0) as u64;
            }
        }
        Self(counts)
    }

    /// What has come since.
    pub(crate) fn since(&self, before: &Self) -> Self {
        let difference = |(what, count): (&String, &u64)| {
            let count = count - before.0.get(what).copied().unwrap_or(0);
            (count > 0).then(|| (what.clone(), count))
        };
        Self(self.0.iter().filter_map(difference).collect())
    }

    fn is_write(what: &str) -> bool {
        ["APPLY", "PATCH", "POST", "PUT", "DELETE"].iter().any(|verb| what.starts_with(verb))
    }

    /// How many of them write.
    pub(crate) fn writes(&self) -> u64 {
        self.0.iter().filter(|(what, _)| Self::is_write(what)).map(|(_, count)| count).sum()
    }

    /// Those that write, for each job.
    pub(crate) fn per(&self, jobs: usize) -> BTreeMap<&str, f64> {
        let writes = self.0.iter().filter(|(what, _)| Self::is_write(what));
        writes.map(|(what, count)| (what.as_str(), *count as f64 / jobs as f64)).collect()
    }
}
