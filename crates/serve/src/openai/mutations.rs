//! Requests that are almost right: each is read, or refused by the name of a field.

use proptest::prelude::*;
use proptest::sample::Index;
use serde_json::{Map, Value, json};

use super::{ApiError, ChatRequest, CompletionRequest};

/// Requests in which each field is right.
fn valid() -> [Value; 2] {
    let shared = json!({
        "model": "m", "max_tokens": 5, "max_completion_tokens": 5, "n": 2, "best_of": 2, "temperature": 0.5, "top_k": 5, "top_p": 0.5,
        "min_p": 0.1, "repetition_penalty": 1.5, "frequency_penalty": 1, "presence_penalty": -1, "logit_bias": {"5": 1.5}, "seed": -1,
        "stop": ["a", "b"], "stop_token_ids": [1, 2], "ignore_eos": true, "stream": true, "stream_options": {"include_usage": true},
        "response_format": {"type": "json_schema", "json_schema": {"name": "x", "strict": true, "schema": {"type": "object"}}},
        "priority": -3, "return_tokens_as_token_ids": true, "user": "me",
    });
    let with = |own: Value| {
        let mut body = shared.as_object().cloned().unwrap_or_default();
        body.extend(own.as_object().cloned().unwrap_or_default());
        Value::from(body)
    };
    let parts = json!([{"type": "text", "text": "a"}]);
    let messages = json!([{"role": "system", "content": "x"}, {"role": "user", "content": parts, "name": "me"}]);
    [
        with(json!({
            "prompt": ["a", [1, 2]], "echo": true, "logprobs": 3, "add_special_tokens": true, "parse_special": false,
        })),
        with(json!({
            "messages": messages, "logprobs": true, "top_logprobs": 2, "add_generation_prompt": true,
            "chat_template_kwargs": {"a": [1]},
        })),
    ]
}

/// What is done to a request at a place.
#[derive(Clone, Debug)]
enum Change {
    Replace(Value),
    Remove,
    Insert(String, Value),
    /// Puts what stands at another place here.
    Copy(Index),
}

fn value() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<u64>().prop_map(Value::from),
        (-3i64..40).prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        ".{0,12}".prop_map(Value::from),
        "[a-z]{1,3}".prop_map(|text| Value::from(text.repeat(700))),
    ];
    leaf.prop_recursive(3, 16, 5, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..5).prop_map(Value::from),
            prop::collection::vec((".{0,8}", inner), 0..5)
                .prop_map(|entries| Value::from(entries.into_iter().collect::<Map<_, _>>())),
        ]
    })
}

fn change() -> impl Strategy<Value = Change> {
    let names = prop_oneof![
        prop::sample::select(vec!["tools", "guided_regex", "structured_outputs", "type", "text", "schema", "5"])
            .prop_map(str::to_owned),
        ".{0,8}",
    ];
    prop_oneof![
        4 => value().prop_map(Change::Replace),
        1 => Just(Change::Remove),
        1 => (names, value()).prop_map(|(name, value)| Change::Insert(name, value)),
        1 => any::<Index>().prop_map(Change::Copy),
    ]
}

/// The places of a value, as JSON pointers, but for its own.
fn places(value: &Value, prefix: &str, found: &mut Vec<String>) {
    let inner: Vec<(String, &Value)> = match value {
        Value::Object(map) => map.iter().map(|(name, value)| (name.clone(), value)).collect(),
        Value::Array(list) => list.iter().enumerate().map(|(number, value)| (number.to_string(), value)).collect(),
        _ => Vec::new(),
    };
    for (name, value) in inner {
        let place = format!("{prefix}/{}", name.replace('~', "~0").replace('/', "~1"));
        places(value, &place, found);
        found.push(place);
    }
}

fn apply(body: &mut Value, at: Index, change: Change) {
    let mut found = Vec::new();
    places(body, "", &mut found);
    if found.is_empty() {
        return;
    }
    let place = at.get(&found);
    let copied = match &change {
        Change::Copy(from) => body.pointer(&found[from.index(found.len())]).cloned(),
        _ => None,
    };
    let (parent, name) = place.rsplit_once('/').unwrap_or(("", place));
    match change {
        Change::Replace(value) => body.pointer_mut(place).into_iter().for_each(|there| *there = value.clone()),
        Change::Copy(_) => {
            body.pointer_mut(place).into_iter().for_each(|there| *there = copied.clone().unwrap_or_default());
        }
        Change::Remove => {
            if let Some(Value::Object(map)) = body.pointer_mut(parent) {
                map.remove(name);
            }
        }
        Change::Insert(name, value) => {
            if let Some(Value::Object(map)) = body.pointer_mut(parent) {
                map.insert(name, value);
            }
        }
    }
}

fn parse(is_chat: bool, body: &[u8]) -> Result<(), ApiError> {
    if is_chat { ChatRequest::parse(body).map(drop) } else { CompletionRequest::parse(body).map(drop) }
}

#[test]
fn what_is_changed_is_right() {
    for (is_chat, body) in [(false, &valid()[0]), (true, &valid()[1])] {
        assert_eq!(parse(is_chat, body.to_string().as_bytes()), Ok(()));
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(3_000) })]

    #[test]
    fn a_changed_request_is_read_or_refused_by_the_name_of_a_field(
        is_chat in any::<bool>(), changes in prop::collection::vec((any::<Index>(), change()), 1..4),
    ) {
        let mut body = valid()[usize::from(is_chat)].clone();
        for (at, change) in changes {
            apply(&mut body, at, change);
        }
        if let Err(error) = parse(is_chat, body.to_string().as_bytes()) {
            let param = error.param.unwrap_or_default();
            prop_assert!(!param.is_empty(), "{} names no field: {body}", error.message);
            prop_assert!(error.message.contains(&param), "{} does not name {param}", error.message);
        }
    }

    #[test]
    fn bytes_that_are_changed_make_no_reader_fail(
        is_chat in any::<bool>(), changes in prop::collection::vec((any::<Index>(), any::<u8>()), 1..6), end in any::<Index>(),
    ) {
        let mut body = valid()[usize::from(is_chat)].to_string().into_bytes();
        for (at, byte) in changes {
            let place = at.index(body.len());
            body[place] = byte;
        }
        body.truncate(body.len() - end.index(body.len()) / 64);
        if let Err(error) = parse(is_chat, &body) {
            prop_assert!(error.param.is_some() || error.message.starts_with("the body"), "{}", error.message);
        }
    }
}
