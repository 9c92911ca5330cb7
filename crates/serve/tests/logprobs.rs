//! Log-probabilities and formats, through the engine's own.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

mod support;

use serde_json::{Value, json};
use support::World;
use support::client::{complete, post};

fn lists(choice: &Value) -> [Vec<Value>; 4] {
    ["tokens", "token_logprobs", "top_logprobs", "text_offset"]
        .map(|name| choice["logprobs"][name].as_array().unwrap_or_else(|| panic!("no {name} in {choice}")).clone())
}

#[tokio::test]
async fn an_echo_tells_how_likely_the_prompt_was() {
    let world = World::start().await;
    // BOS, n, o, and the two bytes of é, which nothing leads to.
    let body = json!({"prompt": "noé", "max_tokens": 0, "echo": true, "logprobs": 2});
    let answer = complete(world.address, body).await.json();
    let choice = &answer["choices"][0];
    assert_eq!((choice["text"].as_str(), choice["finish_reason"].as_str()), (Some("noé"), Some("length")), "{answer}");
    let [tokens, logprobs, likeliest, offsets] = lists(choice);
    assert_eq!(tokens, [json!("<s>"), json!("n"), json!("o"), json!("\u{FFFD}"), json!("\u{FFFD}")]);
    assert_eq!(offsets, [0, 0, 1, 2, 2]);
    assert_eq!((&logprobs[0], &likeliest[0]), (&Value::Null, &Value::Null));
    let number = |value: &Value| value.as_f64().unwrap();
    assert!(number(&logprobs[1]) < -70.0 && number(&logprobs[2]) > -1e-6 && number(&logprobs[3]) < -70.0);
    // The token itself is among them, though it is none of the likeliest.
    assert_eq!(likeliest[2]["o"], logprobs[2]);
    assert_eq!(likeliest[3]["p"].as_f64().map(f64::round), Some(0.0));
    assert_eq!(answer["usage"]["completion_tokens"], 0);
    // What was found in the cache by another request changes nothing.
    assert_eq!(complete(world.address, json!({"prompt": "noé", "max_tokens": 1})).await.status, 200);
    let named =
        json!({"prompt": "noé", "max_tokens": 1, "echo": true, "logprobs": 0, "return_tokens_as_token_ids": true});
    let choice = complete(world.address, named).await.json()["choices"][0].clone();
    let [tokens, again, _, offsets] = lists(&choice);
    assert_eq!(tokens[1..3], [json!("token_id:114"), json!("token_id:115")]);
    assert_eq!(again[..5], logprobs);
    assert_eq!(offsets, [0, 0, 1, 2, 2, 3]);
}

#[tokio::test]
async fn outputs_tell_how_likely_they_were_in_both_shapes() {
    let world = World::start().await;
    let streamed = json!({"prompt": "~", "logprobs": 1, "stream": true});
    let parts = complete(world.address, streamed).await.parts();
    let count: usize = parts.iter().map(|part| lists(&part["choices"][0])[0].len()).sum();
    // Twelve bytes and the end.
    assert_eq!(count, 13);
    let body =
        json!({"messages": [{"role": "user", "content": "x"}], "max_tokens": 2, "logprobs": true, "top_logprobs": 3});
    let answer = post(world.address, "/v1/chat/completions", &body).await.json();
    let content = answer["choices"][0]["logprobs"]["content"].as_array().unwrap().clone();
    assert_eq!(content.len(), 2);
    assert_eq!((&content[0]["token"], &content[0]["bytes"]), (&json!("\u{b}"), &json!([11])));
    assert_eq!(content[0]["top_logprobs"].as_array().unwrap().len(), 3);
    assert_eq!(content[0]["top_logprobs"][0]["token"], "\u{b}");
}

#[tokio::test]
async fn outputs_follow_formats() {
    let world = World::start().await;
    let ask = async |field: &str, value: Value| {
        // White space is as likely as anything where it may stand.
        let mut body = json!({"prompt": "a", "max_tokens": 1000});
        body[field] = value;
        complete(world.address, body).await
    };
    let choice = ask("guided_regex", json!("b[x-z]{3}")).await.json()["choices"][0].clone();
    let text = choice["text"].as_str().unwrap();
    assert!(text.len() == 4 && text.starts_with('b'), "{choice}");
    assert_eq!(choice["finish_reason"], "stop");
    let choice = ask("guided_choice", json!(["yes.", "no"])).await.json()["choices"][0].clone();
    assert!(["yes.", "no"].contains(&choice["text"].as_str().unwrap()), "{choice}");
    let schema = json!({"type": "object", "properties": {"a": {"type": "boolean"}}, "required": ["a"], "additionalProperties": false});
    let format = json!({"type": "json_schema", "json_schema": {"name": "x", "schema": schema}});
    let choice = ask("response_format", format).await.json()["choices"][0].clone();
    let output: Value = serde_json::from_str(choice["text"].as_str().unwrap()).unwrap();
    assert!(output["a"].is_boolean(), "{output}");
    for (field, value) in
        [("guided_regex", json!("(")), ("guided_grammar", json!("start: nothing")), ("guided_json", json!({"type": 3}))]
    {
        let refused = ask(field, value).await;
        assert_eq!((refused.status, refused.param().as_deref()), (400, Some(field)), "{field}");
    }
    assert_eq!(complete(world.address, json!({"prompt": "a"})).await.status, 200);
}
