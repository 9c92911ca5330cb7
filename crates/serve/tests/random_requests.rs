//! Whatever is asked, the answer is one of ours: 200, or 4xx in OpenAI's shape.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

mod support;

use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};
use serde_json::{Map, Value, json};
use support::World;
use support::client::{Answer, ask, post};

const FIELDS: [&str; 34] = [
    "model",
    "prompt",
    "messages",
    "max_tokens",
    "max_completion_tokens",
    "n",
    "best_of",
    "stream",
    "stream_options",
    "stop",
    "stop_token_ids",
    "seed",
    "logprobs",
    "top_logprobs",
    "echo",
    "ignore_eos",
    "temperature",
    "top_p",
    "top_k",
    "min_p",
    "repetition_penalty",
    "frequency_penalty",
    "presence_penalty",
    "logit_bias",
    "response_format",
    "guided_json",
    "guided_regex",
    "guided_choice",
    "structured_outputs",
    "user",
    "priority",
    "tools",
    "chat_template_kwargs",
    "add_generation_prompt",
];

/// Values that are likely to be read as something.
fn leaf() -> impl Strategy<Value = Value> {
    prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        (-3i64..40).prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        (-2.5f64..2.5).prop_map(Value::from),
        ".{0,20}".prop_map(Value::from),
        prop::sample::select(vec!["user", "assistant", "text", "json_object", "arithmetic", "a~0"])
            .prop_map(Value::from),
    ]
}

fn value() -> impl Strategy<Value = Value> {
    let keys = prop_oneof![
        prop::sample::select(vec!["role", "content", "type", "text", "include_usage", "schema", "json", "5", "260"])
            .prop_map(str::to_owned),
        ".{0,8}",
    ];
    leaf().prop_recursive(4, 24, 6, move |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..6).prop_map(Value::from),
            prop::collection::vec((keys.clone(), inner), 0..6)
                .prop_map(|entries| Value::from(entries.into_iter().collect::<Map<_, _>>())),
        ]
    })
}

/// A request that would be answered, with some of its fields replaced.
fn body() -> impl Strategy<Value = Value> {
    let replaced = prop::collection::vec((prop::sample::select(FIELDS.to_vec()), value()), 0..4);
    replaced.prop_map(|replaced| {
        let mut body = json!({"max_tokens": 2});
        for (field, value) in replaced {
            body[field] = value;
        }
        body
    })
}

fn check(asked: &[u8], answer: &Answer) {
    let asked = String::from_utf8_lossy(asked);
    match answer.status {
        200 if answer.header("content-type") == Some("text/event-stream") => drop(answer.parts()),
        200 => assert!(answer.json()["choices"].is_array(), "{asked}"),
        400..500 => drop(answer.error()),
        other => panic!("{other} to {asked}: {}", answer.text()),
    }
}

#[test]
fn no_body_is_answered_by_anything_else() {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let world = runtime.block_on(World::start());
    let mut runner = TestRunner::new(Config { cases: 1500, failure_persistence: None, ..Config::default() });
    let strategy = (body(), any::<bool>());
    let answered = std::cell::Cell::new(0);
    runner
        .run(&strategy, |(mut body, is_chat)| {
            let path = if is_chat { "/v1/chat/completions" } else { "/v1/completions" };
            let (field, default) =
                if is_chat { ("messages", json!([{"role": "user", "content": "a"}])) } else { ("prompt", json!("a")) };
            if body.get(field).is_none() {
                body[field] = default;
            }
            let answer = runtime.block_on(post(world.address, path, &body));
            check(body.to_string().as_bytes(), &answer);
            answered.set(answered.get() + u32::from(answer.status == 200));
            Ok(())
        })
        .unwrap();
    // Neither all nor none of them make sense.
    assert!((200..1400).contains(&answered.get()), "{}", answered.get());
    let mut runner = TestRunner::new(Config { cases: 300, failure_persistence: None, ..Config::default() });
    runner
        .run(&prop::collection::vec(any::<u8>(), 0..200), |bytes| {
            let answer = runtime.block_on(ask(world.address, "POST", "/v1/completions", &[], &bytes));
            check(&bytes, &answer);
            Ok(())
        })
        .unwrap();
    // All of them are over, and the engine is as it was.
    runtime.block_on(world.wait_for("requests_running", 0.0));
    assert!(!world.engine.is_finished());
}
