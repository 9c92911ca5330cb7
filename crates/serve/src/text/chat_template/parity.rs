//! Templates of models, rendered as transformers renders them.

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde_json::json;

use super::*;

/// Python of the parity environment, which `scripts/parity-venv.sh` makes; an error without it in CI.
fn python() -> Option<PathBuf> {
    let default = || Path::new(&std::env::var("HOME").unwrap_or_default()).join(".cache/palimpsest");
    let cache = std::env::var_os("PALIMPSEST_CACHE").map_or_else(default, PathBuf::from);
    let python = cache.join("venv/bin/python");
    assert!(python.exists() || std::env::var("CI").as_deref() != Ok("true"), "no {}", python.display());
    if !python.exists() {
        assert!(std::env::var("CI").as_deref() != Ok("true"), "{} is absent", python.display());
        println!("skipped: {} is absent", python.display());
    }
    python.exists().then_some(python)
}

fn conversations() -> Vec<Json> {
    let user = |text: &str| json!({"role": "user", "content": text});
    let assistant = |text: &str| json!({"role": "assistant", "content": text});
    let system = json!({"role": "system", "content": " You are\ta <b>pirate</b> & \"friend\" 'é'. "});
    vec![
        json!([user("hi")]),
        json!([user("  a banana \n"), assistant(" yes "), user("你好 😀")]),
        json!([
            system,
            user("a\nb"),
            assistant("<think>\nwhy\n</think>\n\nso"),
            user("x"),
            assistant("<think>y</think>z")
        ]),
        json!([system, user("")]),
        json!([assistant("first")]),
        json!([user("a"), user("b")]),
        json!([user("1"), assistant("2"), user("3"), assistant("4"), user("5")]),
    ]
}

#[test]
fn templates_are_rendered_as_transformers_renders_them() {
    let Some(python) = python() else { return };
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut templates: Vec<_> =
        std::fs::read_dir(root.join("tests/templates")).unwrap().map(|entry| entry.unwrap().path()).collect();
    templates.sort();
    let special = BTreeMap::from([("bos_token", "<s>"), ("eos_token", "</s>")]);
    let special: BTreeMap<String, String> =
        special.into_iter().map(|(name, text)| (name.to_owned(), text.to_owned())).collect();
    let mut cases = Vec::new();
    for path in &templates {
        for messages in conversations() {
            for (prompts, arguments) in
                [(true, json!({})), (false, json!({})), (true, json!({"enable_thinking": false}))]
            {
                cases.push(json!({
                    "name": path.file_name().unwrap().to_str(), "template": std::fs::read_to_string(path).unwrap(),
                    "messages": messages, "add_generation_prompt": prompts, "arguments": arguments, "special": special,
                }));
            }
        }
    }
    let mut child = Command::new(python)
        .arg(root.join("tests/parity.py"))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(Json::from(cases.clone()).to_string().as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    let theirs: Vec<Json> = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(theirs.len(), cases.len());
    let mut raised = 0;
    for (case, theirs) in cases.iter().zip(&theirs) {
        let template = ChatTemplate::new(case["template"].as_str().unwrap()).unwrap();
        let messages: Vec<Map<String, Json>> = serde_json::from_value(case["messages"].clone()).unwrap();
        let prompts = case["add_generation_prompt"].as_bool().unwrap();
        let ours = template.render(&messages, &special, prompts, case["arguments"].as_object().unwrap());
        let label = format!("{} {}", case["name"], case["messages"]);
        match &theirs["text"] {
            Json::String(text) => assert_eq!(ours.as_deref(), Ok(text.as_str()), "{label}"),
            _ => {
                raised += 1;
                assert_eq!(ours.unwrap_err(), theirs["error"], "{label}");
            }
        }
    }
    // Some of them do not alternate.
    assert!(raised > 0);
}
