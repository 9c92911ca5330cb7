//! The commands beside `run`, as a person drives them, and what they print.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::fs;
use std::path::Path;

use palimpsest_tests::{SMALL_JOB, read_json, repository, run, succeed, write_job};
use serde_json::Value;

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

/// Runs a command and expects exit code 2 with one sentence that holds all of `expected`.
fn refused(arguments: &[&str], expected: &[&str]) {
    let ended = run(arguments);
    assert_eq!(ended.code, Some(2), "{arguments:?}: {}\n{}", ended.stdout, ended.stderr);
    let errors: Vec<&str> = ended.stderr.lines().filter(|line| line.starts_with("error: ")).collect();
    assert_eq!(errors.len(), 1, "{}", ended.stderr);
    for part in expected {
        assert!(errors[0].contains(part), "{part:?} is not in {:?}", errors[0]);
    }
}

#[test]
fn validate_says_what_is_valid_and_all_that_is_not() {
    let folder = tempfile::tempdir().unwrap();
    let job = write_job(folder.path(), SMALL_JOB);
    let ended = succeed(&["validate", text(&job)]);
    assert_eq!(ended.stdout, format!("{}: TrainingJob small is valid\n", job.display()));
    write_job(folder.path(), &SMALL_JOB.replace("weight: 3", "weight: 0").replace("buckets: 1", "buckets: 0"));
    let ended = run(&["validate", text(&job)]);
    assert_eq!(ended.code, Some(2));
    for field in ["spec.stages[0].mixture[0].weight", "spec.stages[1].buckets"] {
        assert!(ended.stderr.contains(field), "{}", ended.stderr);
    }
}

#[test]
fn a_plan_trains_nothing_and_refuses_what_a_run_refuses() {
    let folder = tempfile::tempdir().unwrap();
    let plan = |yaml: &str| {
        let job = write_job(folder.path(), yaml);
        let output = folder.path().join("out");
        ["run", text(&job), "--plan", "--output", text(&output)].map(str::to_owned)
    };
    let check = |yaml: &str, expected: &[&str]| {
        let arguments = plan(yaml);
        refused(&arguments.each_ref().map(String::as_str), expected);
    };
    let arguments = plan(SMALL_JOB);
    let ended = succeed(&arguments.each_ref().map(String::as_str));
    for part in ["small: ", "steps", "recipes", "fill", "parameters", "checkpoint"] {
        assert!(ended.stdout.contains(part), "{part}: {}", ended.stdout);
    }
    assert!(!folder.path().join("out/metrics.jsonl").exists());
    check(&SMALL_JOB.replace("sequenceLength: 64", "sequenceLength: 128"), &["spec.data.sequenceLength", "64"]);
    check(&SMALL_JOB.replace("warmupSteps: 5", "warmupSteps: 5000"), &["spec.stages[0].schedule", "5000"]);
    check(
        &SMALL_JOB.replace("{model_type: llama,", "{model_type: llama, vocab_size: 500,"),
        &["spec.tokenizer", "500"],
    );
    fs::create_dir_all(folder.path().join("out/model")).unwrap();
    let arguments = plan(SMALL_JOB);
    succeed(&arguments.each_ref().map(String::as_str));
    fs::write(folder.path().join("out/model/precious"), "kept").unwrap();
    check(SMALL_JOB, &["spec.output", "onExisting"]);
}

#[test]
fn a_claim_is_given_a_folder_and_data_is_prepared_and_inspected() {
    let folder = tempfile::tempdir().unwrap();
    let claim = folder.path().join("claim");
    fs::create_dir(&claim).unwrap();
    fs::copy(repository().join("examples/corpora/en/recipes.jsonl"), claim.join("recipes.jsonl")).unwrap();
    fs::write(claim.join("notes.txt"), "not read").unwrap();
    let yaml = SMALL_JOB.replace("file://CORPORA/en/recipes.jsonl", "pvc://corpora/");
    let job = write_job(folder.path(), &yaml);
    let (output, mount) = (folder.path().join("out"), format!("corpora={}", claim.display()));
    let options = [text(&job), "--output", text(&output), "--mount", &mount];
    refused(&["data", "prepare", text(&job), "--output", text(&output)], &["corpora", "--mount"]);
    let ended = succeed(&[&["data", "prepare"], options.as_slice()].concat());
    assert!(ended.stdout.contains("held out") && ended.stdout.contains("questions"), "{}", ended.stdout);
    assert!(ended.stderr.contains("notes.txt"), "what is left out is told: {}", ended.stderr);

    fn inspected<'a>(options: &[&'a str], more: &[&'a str]) -> Vec<&'a str> {
        [&["data", "inspect"], options, more].concat()
    }
    let shown = succeed(&inspected(&options, &["--stage", "text", "--bucket", "2", "--sequence", "3"])).stdout;
    assert!(shown.starts_with("sequence 3 of bucket 2, "), "{shown}");
    assert!(shown.contains(".jsonl line ") && shown.contains("read in its step "), "{shown}");
    let json = succeed(&inspected(&options, &["--stage", "text", "--bucket", "2", "--sequence", "3", "--json"])).stdout;
    let json: Value = serde_json::from_str(&json).unwrap();
    assert_eq!((&json["bucket"], &json["sequenceInBucket"]), (&2.into(), &3.into()));
    assert!(json["pieces"][0]["record"].as_u64().unwrap() > 0, "{json}");
    refused(&inspected(&options, &["--stage", "text", "--bucket", "3"]), &["--bucket 3", "1 to 2"]);
    refused(&inspected(&options, &["--stage", "none"]), &["--stage none", "questions"]);

    // Another job with the same tokenizer has a table of its own, and none of what it does not read.
    let unused = "      - {name: absent, uri: \"file://absent.jsonl\"}\n  stages:";
    let other = yaml.replace("  stages:", unused).replace("language: en, holdOut", "language: fr, holdOut");
    write_job(folder.path(), &other);
    succeed(&[&["data", "prepare"], options.as_slice()].concat());
    let tables = fs::read_dir(output.join("prepared/tokenizer-tables")).unwrap();
    let mut languages: Vec<Vec<String>> = tables
        .map(|table| {
            let rows = read_json(&table.unwrap().path());
            rows.as_array().unwrap().iter().map(|row| row["language"].as_str().unwrap().to_owned()).collect()
        })
        .collect();
    languages.sort();
    assert_eq!(languages, [vec!["en"], vec!["en", "fr"]]);
}

#[test]
fn a_vocabulary_is_learned_extended_measured_and_used() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    let corpora = repository().join("examples/corpora");
    let (english, chinese) = (corpora.join("en/recipes.jsonl"), corpora.join("zh/recipes.jsonl"));
    let (base, extended) = (path("base"), path("extended"));
    let learn = ["tokenizer", "learn", "--size", "600", "--output", text(&base), text(&english)];
    assert!(succeed(&learn).stdout.contains("600 ids"));
    let before = fs::read(base.join("tokenizer.model")).unwrap();
    refused(&learn, &["--output", "already"]);
    assert_eq!(fs::read(base.join("tokenizer.model")).unwrap(), before);
    let extend = ["tokenizer", "extend", "--tokenizer", text(&base), "--size", "900"];
    succeed(&[&extend, ["--output", text(&extended), "--learn-from", text(&chinese)].as_slice()].concat());

    let (one, other) = (format!("before={}", base.display()), format!("after={}", extended.display()));
    let measure = ["tokenizer", "measure", "--tokenizer", &one, "--tokenizer", &other];
    let table = succeed(&[&measure, [text(&chinese)].as_slice()].concat()).stdout;
    assert!(table.contains("before") && table.contains("900"), "{table}");
    let rows = succeed(&[&measure, ["--json", text(&chinese)].as_slice()].concat()).stdout;
    let rows: Value = serde_json::from_str(&rows).unwrap();
    let rate = |row: usize| rows[row]["tokensPerCharacter"].as_f64().unwrap();
    assert!(rate(1) < 0.8 * rate(0), "{rows}");
    fs::write(path("empty.jsonl"), "").unwrap();
    refused(&[&measure, [text(&path("empty.jsonl"))].as_slice()].concat(), &["empty.jsonl", "is empty"]);

    fs::write(path("lines.txt"), "Mix the flour.\n将鸡蛋打入碗中，\n\n").unwrap();
    let ids = succeed(&["tokenizer", "encode", "--tokenizer", text(&extended), text(&path("lines.txt"))]).stdout;
    fs::write(path("ids.jsonl"), &ids).unwrap();
    let decoded = succeed(&["tokenizer", "decode", "--tokenizer", text(&extended), text(&path("ids.jsonl"))]).stdout;
    assert_eq!(decoded, fs::read_to_string(path("lines.txt")).unwrap());
    fs::write(path("ids.jsonl"), "[1, 99999]\n").unwrap();
    refused(
        &["tokenizer", "decode", "--tokenizer", text(&base), text(&path("ids.jsonl"))],
        &["line 1", "99999", "600"],
    );
}

#[test]
fn a_report_is_of_a_run_and_an_empty_file_is_not_measured() {
    let folder = tempfile::tempdir().unwrap();
    refused(&["report", text(folder.path())], &["metrics.jsonl", "name the folder"]);
    let (job, output) = (write_job(folder.path(), SMALL_JOB), folder.path().join("out"));
    succeed(&["run", text(&job), "--output", text(&output)]);
    fs::remove_file(output.join("report.html")).unwrap();
    let ended = succeed(&["report", text(&output)]);
    assert!(ended.stdout.trim_end().ends_with("out/report.html"), "{}", ended.stdout);
    assert!(fs::read_to_string(output.join("report.html")).unwrap().contains("recipes"));

    let (model, empty) = (output.join("model"), folder.path().join("empty.jsonl"));
    for content in ["", "{\"target\": \"\"}\n"] {
        fs::write(&empty, content).unwrap();
        refused(&["eval", "--model", text(&model), "--bits-per-byte", text(&empty)], &["empty.jsonl", "no text"]);
    }
}
