//! Test data, fuzzed strings, and the reference libraries in their Python environment.

#![allow(dead_code, reason = "each test uses a part")]

use palimpsest_random::Stream;
use serde_json::{Value, json};
use std::path::{Path, PathBuf};
use std::process::Command;

/// The folder of the unpacked test data, unless it is absent, which fails in CI.
pub(crate) fn data() -> Option<PathBuf> {
    let folder = cached("data");
    there(folder.join("tokenizers").is_dir(), &format!("no test data in {}", folder.display())).then_some(folder)
}

/// A folder below `$PALIMPSEST_CACHE`, which is `~/.cache/palimpsest` where it is not set.
fn cached(name: &str) -> PathBuf {
    let default = || Path::new(&std::env::var("HOME").unwrap_or_default()).join(".cache/palimpsest");
    std::env::var_os("PALIMPSEST_CACHE").map_or_else(default, PathBuf::from).join(name)
}

fn there(found: bool, reason: &str) -> bool {
    assert!(found || std::env::var("CI").as_deref() != Ok("true"), "{reason}");
    if !found {
        println!("skipped: {reason}");
    }
    found
}

/// Every text of these folders of the corpora: prompts and targets.
pub(crate) fn corpus_texts(data: &Path, folders: &[&str]) -> Vec<String> {
    let mut texts = Vec::new();
    for folder in folders {
        let mut files: Vec<_> =
            std::fs::read_dir(data.join("corpus").join(folder)).unwrap().map(|entry| entry.unwrap().path()).collect();
        files.sort();
        for file in files {
            for line in std::fs::read_to_string(file).unwrap().lines() {
                let record: Value = serde_json::from_str(line).unwrap();
                let text = |key: &str| record[key].as_str().unwrap_or_default();
                texts.push(format!("{}{}", text("source"), text("target")));
            }
        }
    }
    texts
}

/// Strings of every kind that a tokenizer may stumble over.
pub(crate) fn fuzzed(count: u64) -> Vec<String> {
    const SPECIAL: [&str; 28] = [
        "<s>",
        "</s>",
        "<unk>",
        "<0x0A>",
        "<0xE4>",
        "▁",
        "▁▁",
        " ",
        "  ",
        "\n",
        "\r\n",
        "\t",
        "\0",
        "\u{FEFF}",
        "\u{200B}",
        "\u{200D}",
        "\u{3000}",
        "\u{A0}",
        "<|endoftext|>",
        "é",
        "e\u{301}",
        "ﬁ",
        "①",
        "Ⅷ",
        "\u{FFFD}",
        "\u{2585}",
        "ﷺ",
        "가",
    ];
    const WORDS: [&str; 20] = [
        "the",
        "The",
        "hello",
        "world",
        "return",
        "function",
        "中国",
        "人民",
        "我们",
        "的",
        "哈哈哈",
        "的的的",
        "。",
        "，",
        "don't",
        "I'LL",
        "2024",
        "3.14",
        "tokenization",
        "Привет",
    ];
    const SCRIPTS: [(u32, u32); 16] = [
        (0x20, 0x7E),
        (0x20, 0x7E),
        (0x4E00, 0x9FA5),
        (0x4E00, 0x4FFF),
        (0x3040, 0x30FF),
        (0xAC00, 0xD7A3),
        (0x400, 0x4FF),
        (0x600, 0x6FF),
        (0x900, 0x97F),
        (0x1F300, 0x1FAFF),
        (0, 0x1F),
        (0xFF00, 0xFFEF),
        (0x2000, 0x206F),
        (0x300, 0x36F),
        (0x80, 0x24F),
        (0x20000, 0x2A6DF),
    ];
    let strings = (0..count).map(|index| {
        let mut random = Stream::new(1, "fuzzed strings", &[index]);
        let parts = random.below(14);
        let only_script = random.below(3) == 0;
        let script = random.below(SCRIPTS.len() as u64) as usize;
        let mut text = String::new();
        for _ in 0..parts {
            match random.below(6) {
                0 => text.push_str(SPECIAL[random.below(SPECIAL.len() as u64) as usize]),
                1 => text.push_str(WORDS[random.below(WORDS.len() as u64) as usize]),
                2 => text.push_str(&" ".repeat(random.below(20) as usize)),
                3 => {
                    let character = any_character(&mut random, 0, 0x10FFFF);
                    let times = 1 + random.below(7);
                    (0..times).for_each(|_| text.push(character));
                }
                _ => {
                    let script = if only_script { script } else { random.below(SCRIPTS.len() as u64) as usize };
                    let (first, last) = SCRIPTS[script];
                    let length = random.below(12);
                    (0..length).for_each(|_| text.push(any_character(&mut random, first, last)));
                }
            }
        }
        text
    });
    strings.collect()
}

fn any_character(random: &mut Stream, first: u32, last: u32) -> char {
    loop {
        if let Some(character) = char::from_u32(first + random.below(u64::from(last - first) + 1) as u32) {
            return character;
        }
    }
}

/// The reference libraries: runs `tests/parity/tokenizers_reference.py` and exchanges files with it.
pub(crate) struct Reference {
    python: PathBuf,
    folder: tempfile::TempDir,
    runs: usize,
}

impl Reference {
    /// The reference, unless its Python environment is absent, which fails in CI.
    pub(crate) fn new() -> Option<Self> {
        let python = cached("venv").join("bin/python");
        there(python.exists(), &format!("no {}", python.display())).then(|| Self {
            python,
            folder: tempfile::tempdir().unwrap(),
            runs: 0,
        })
    }

    /// A folder that lives as long as the reference.
    pub(crate) fn folder(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Sets the texts.
    pub(crate) fn texts(&mut self, texts: &[String]) {
        write_texts(&self.folder("texts.jsonl"), texts);
    }

    /// Runs jobs of a kind, a path, and further fields; returns the ids that each gives the texts.
    pub(crate) fn run<'a>(&mut self, jobs: impl Iterator<Item = (&'a str, &'a Path, Value)>) -> Vec<Vec<Vec<u32>>> {
        self.run_jobs(jobs).iter().map(|path| if path.exists() { read_ids(path) } else { Vec::new() }).collect()
    }

    /// As `run`, for jobs that write texts.
    pub(crate) fn run_texts<'a>(&mut self, jobs: impl Iterator<Item = (&'a str, &'a Path, Value)>) -> Vec<Vec<String>> {
        let read = |path: &PathBuf| {
            let file = std::fs::read_to_string(path).unwrap();
            file.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
        };
        self.run_jobs(jobs).iter().map(read).collect()
    }

    fn run_jobs<'a>(&mut self, jobs: impl Iterator<Item = (&'a str, &'a Path, Value)>) -> Vec<PathBuf> {
        self.runs += 1;
        let mut outputs = Vec::new();
        let mut list = Vec::new();
        for (index, (kind, path, further)) in jobs.enumerate() {
            let ids = self.folder(&format!("ids-{}-{index}", self.runs));
            let mut job = json!({"kind": kind, "path": path, "ids": ids});
            job.as_object_mut().unwrap().extend(further.as_object().unwrap().clone());
            list.push(job);
            outputs.push(ids);
        }
        let work = self.folder(&format!("jobs-{}.json", self.runs));
        std::fs::write(&work, json!({"texts": self.folder("texts.jsonl"), "jobs": list}).to_string()).unwrap();
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/parity/tokenizers_reference.py");
        let output = Command::new(&self.python).arg(script).arg(work).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        outputs
    }
}

/// Writes lists of ids as the script reads them.
pub(crate) fn write_ids(path: &Path, lists: &[Vec<u32>]) {
    let numbers = lists.iter().flat_map(|ids| std::iter::once(ids.len() as u32).chain(ids.iter().copied()));
    std::fs::write(path, numbers.flat_map(u32::to_le_bytes).collect::<Vec<u8>>()).unwrap();
}

/// Writes a JSON string a line.
pub(crate) fn write_texts(path: &Path, texts: &[String]) {
    let lines: String = texts.iter().map(|text| format!("{}\n", Value::from(text.as_str()))).collect();
    std::fs::write(path, lines).unwrap();
}

fn read_ids(path: &Path) -> Vec<Vec<u32>> {
    let bytes = std::fs::read(path).unwrap();
    let mut numbers = bytes.chunks_exact(4).map(|chunk| u32::from_le_bytes(chunk.try_into().unwrap()));
    let mut lists = Vec::new();
    while let Some(count) = numbers.next() {
        lists.push(numbers.by_ref().take(count as usize).collect());
    }
    lists
}

/// Texts as the iterator that learning and measuring read.
pub(crate) fn ok(texts: &[String]) -> impl Iterator<Item = Result<String, std::io::Error>> {
    texts.iter().cloned().map(Ok)
}
