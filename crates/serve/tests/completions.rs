//! Completions over HTTP, from a client to an engine's thread and back.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

mod support;

use serde_json::{Value, json};
use support::client::{complete, get};
use support::{MODEL, World, figure};

#[tokio::test]
async fn the_model_is_listed_and_others_are_not() {
    let world = World::start().await;
    let list = get(world.address, "/v1/models").await.json();
    assert_eq!(list["data"][0]["id"], MODEL);
    assert_eq!(list["data"][0]["max_model_len"], 2048);
    assert_eq!(get(world.address, "/v1/models/arithmetic").await.json()["object"], "model");
    let other = get(world.address, "/v1/models/org/other").await;
    assert_eq!((other.status, other.error()["code"].as_str()), (404, Some("model_not_found")));
    let asked = complete(world.address, json!({"model": "other", "prompt": "a"})).await;
    assert_eq!((asked.status, asked.param().as_deref()), (404, Some("model")));
}

#[tokio::test]
async fn a_prompt_is_gone_on_from() {
    let world = World::start().await;
    let answer = complete(world.address, json!({"model": MODEL, "prompt": "abc"})).await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    assert!(answer.header("x-request-id").is_some());
    let body = answer.json();
    // 16 tokens, as OpenAI gives where nothing is said.
    let choice = json!({"index": 0, "text": "defghijklmnopqrs", "logprobs": null, "finish_reason": "length"});
    assert_eq!(body["choices"], json!([choice]));
    assert_eq!(body["object"], "text_completion");
    // BOS and three bytes.
    assert_eq!(body["usage"]["prompt_tokens"], 4);
    assert_eq!(body["usage"]["completion_tokens"], 16);
    assert_eq!(body["usage"]["total_tokens"], 20);
    let to_the_end = complete(world.address, json!({"prompt": "w", "max_tokens": 100})).await.json();
    assert_eq!(to_the_end["choices"][0]["text"], "xyz");
    assert_eq!(to_the_end["choices"][0]["finish_reason"], "stop");
    // The end is one of the tokens.
    assert_eq!(to_the_end["usage"]["completion_tokens"], 4);
}

#[tokio::test]
async fn prompts_are_texts_or_ids_and_bos_is_never_doubled() {
    let world = World::start().await;
    let ask = async |prompt: Value| complete(world.address, json!({"prompt": prompt, "max_tokens": 2})).await.json();
    let texts = |body: &Value| -> Vec<String> {
        let choices = body["choices"].as_array().unwrap();
        choices.iter().map(|choice| choice["text"].as_str().unwrap().to_owned()).collect()
    };
    let lists = ask(json!(["a", "g"])).await;
    assert_eq!(texts(&lists), ["bc", "hi"]);
    assert_eq!(lists["usage"]["prompt_tokens"], 4);
    // Ids are taken as they are: with BOS, and without.
    let (bos, a) = (0, 4 + 97);
    assert_eq!(ask(json!([bos, a])).await["usage"]["prompt_tokens"], 2);
    let without = ask(json!([[a], [a, a + 2]])).await;
    assert_eq!(without["usage"]["prompt_tokens"], 3);
    assert_eq!(texts(&without), ["bc", "de"]);
    // A text that names a token is a text, unless the request says otherwise.
    assert_eq!(ask(json!("<s>a")).await["usage"]["prompt_tokens"], 5);
    let named = json!({"prompt": "<s>a", "parse_special": true});
    assert_eq!(complete(world.address, named).await.json()["usage"]["prompt_tokens"], 2);
    let bare = json!({"prompt": "a", "add_special_tokens": false});
    assert_eq!(complete(world.address, bare).await.json()["usage"]["prompt_tokens"], 1);
}

#[tokio::test]
async fn an_answer_is_streamed_as_it_comes() {
    let world = World::start().await;
    let body = json!({"prompt": ["a", "5"], "n": 2, "max_tokens": 3, "stream": true, "stream_options": {"include_usage": true}});
    let answer = complete(world.address, body).await;
    assert_eq!(answer.header("content-type"), Some("text/event-stream"));
    let mut parts = answer.parts();
    let last = parts.pop().unwrap();
    assert_eq!(last["choices"], json!([]));
    assert_eq!(last["usage"]["completion_tokens"], 12);
    let mut texts = vec![String::new(); 4];
    let mut finished = vec![Value::Null; 4];
    for part in &parts {
        assert_eq!(part["usage"], Value::Null);
        let choice = &part["choices"][0];
        let index = choice["index"].as_u64().unwrap() as usize;
        texts[index].push_str(choice["text"].as_str().unwrap());
        finished[index] = choice["finish_reason"].clone();
    }
    assert_eq!(texts, ["bcd", "bcd", "678", "678"]);
    assert!(finished.iter().all(|reason| reason == "length"));
    let plain = complete(world.address, json!({"prompt": "a", "max_tokens": 1, "stream": true})).await.parts();
    assert!(plain.iter().all(|part| part.get("usage").is_none()));
}

#[tokio::test]
async fn characters_of_several_tokens_come_whole() {
    let world = World::start().await;
    let wide = support::arithmetic::WIDE;
    let whole = complete(world.address, json!({"prompt": "~"})).await.json();
    assert_eq!(whole["choices"][0]["text"], wide);
    let parts = complete(world.address, json!({"prompt": "~", "stream": true})).await.parts();
    let texts: Vec<&str> = parts.iter().map(|part| part["choices"][0]["text"].as_str().unwrap()).collect();
    assert_eq!(texts, ["你", "é", "€", "😀", ""]);
    // What is cut within a character is told as what it is.
    let cut = complete(world.address, json!({"prompt": "~", "max_tokens": 4})).await.json();
    assert_eq!(cut["choices"][0]["text"], "你\u{FFFD}");
}

#[tokio::test]
async fn texts_and_tokens_end_an_output() {
    let world = World::start().await;
    let ask = async |body: Value| complete(world.address, body).await.json()["choices"][0].clone();
    let choice = ask(json!({"prompt": "a", "stop": "fgh"})).await;
    assert_eq!((choice["text"].as_str(), choice["finish_reason"].as_str()), (Some("bcde"), Some("stop")));
    let choice = ask(json!({"prompt": "a", "stop": ["zzz", "e", "fgh"]})).await;
    assert_eq!(choice["text"], "bcd");
    // What was held back is told where the stop does not come.
    let choice = ask(json!({"prompt": "a", "max_tokens": 6, "stop": "fghX"})).await;
    assert_eq!((choice["text"].as_str(), choice["finish_reason"].as_str()), (Some("bcdefg"), Some("length")));
    let choice = ask(json!({"prompt": "~", "stop": "é€"})).await;
    assert_eq!(choice["text"], "你");
    let choice = ask(json!({"prompt": "a", "stop_token_ids": [4 + u32::from(b'd')]})).await;
    assert_eq!((choice["text"].as_str(), choice["finish_reason"].as_str()), (Some("bc"), Some("stop")));
    let streamed = json!({"prompt": "~", "stop_token_ids": [4 + 0xC3], "logprobs": 0});
    let choice = ask(streamed).await;
    // It is one of the tokens all the same.
    assert_eq!((choice["text"].as_str(), choice["logprobs"]["tokens"].as_array().map(Vec::len)), (Some("你"), Some(4)));
    let choice = ask(json!({"prompt": "y", "ignore_eos": true, "max_tokens": 4})).await;
    assert_eq!((choice["text"].as_str(), choice["finish_reason"].as_str()), (Some("zab"), Some("length")));
    let streamed = json!({"prompt": "a", "stop": "fgh", "stream": true});
    let parts = complete(world.address, streamed).await.parts();
    let text: String = parts.iter().map(|part| part["choices"][0]["text"].as_str().unwrap()).collect();
    assert_eq!(text, "bcde");
    assert_eq!(parts.last().unwrap()["choices"][0]["finish_reason"], "stop");
    // What was stopped by its text is not computed any more.
    world.wait_for("requests_running", 0.0).await;
}

#[tokio::test]
async fn an_echo_begins_with_the_prompt() {
    let world = World::start().await;
    let echoed = complete(world.address, json!({"prompt": "né", "max_tokens": 1, "echo": true})).await.json();
    assert_eq!(echoed["choices"][0]["text"], "né€".replace('€', "\u{FFFD}"));
    let ids = json!({"prompt": [4 + 97], "max_tokens": 2, "echo": true, "stream": true});
    let parts = complete(world.address, ids).await.parts();
    let text: String = parts.iter().map(|part| part["choices"][0]["text"].as_str().unwrap()).collect();
    assert_eq!(text, "abc");
}

#[tokio::test]
async fn what_does_not_fit_the_context_is_refused_with_both_numbers() {
    let world = World::start().await;
    let long = complete(world.address, json!({"prompt": "a".repeat(3000)})).await;
    assert_eq!((long.status, long.error()["code"].as_str()), (400, Some("context_length_exceeded")));
    let message = long.error()["message"].as_str().unwrap().to_owned();
    assert!(message.contains("3001") && message.contains("2048"), "{message}");
    let much = complete(world.address, json!({"prompt": "a", "max_tokens": 4_000_000_000u32})).await;
    assert_eq!((much.status, much.param().as_deref()), (400, Some("max_tokens")));
    let message = much.error()["message"].as_str().unwrap().to_owned();
    assert!(message.contains("4000000000") && message.contains("2048"), "{message}");
    let empty = complete(world.address, json!({"prompt": []})).await;
    assert_eq!((empty.status, empty.param().as_deref()), (400, Some("prompt")));
}

#[tokio::test]
async fn what_the_engine_refuses_names_the_field() {
    let world = World::start().await;
    let param = async |body: Value| {
        let answer = complete(world.address, body).await;
        assert_eq!(answer.status, 400, "{}", answer.text());
        answer.param().unwrap()
    };
    assert_eq!(param(json!({"prompt": "a", "stop_token_ids": [100000]})).await, "stop_token_ids");
    assert_eq!(param(json!({"prompt": "a", "logit_bias": {"100000": 1}})).await, "logit_bias");
    assert_eq!(param(json!({"prompt": [100000]})).await, "prompt");
}

#[tokio::test]
async fn one_request_that_fails_touches_no_other() {
    let world = World::start().await;
    let bad = complete(world.address, json!({"prompt": "\u{1}"}));
    let good = complete(world.address, json!({"prompt": "a"}));
    let (bad, good) = tokio::join!(bad, good);
    assert_eq!((bad.status, bad.error()["type"].as_str()), (500, Some("server_error")));
    assert_eq!(good.status, 200);
    let streamed = complete(world.address, json!({"prompt": "\u{1}", "stream": true})).await;
    assert_eq!(streamed.status, 200);
    let events = streamed.events();
    let error: Value = serde_json::from_str(&events[0]).unwrap();
    assert_eq!((events.len(), error["error"]["type"].as_str()), (1, Some("server_error")));
    assert_eq!(figure(world.address, "requests_finished_total{reason=\"error\"}").await, 2.0);
    assert_eq!(figure(world.address, "requests_finished_total{reason=\"length\"}").await, 1.0);
}

#[tokio::test]
async fn seeds_make_outputs_that_come_again() {
    let world = World::start().await;
    // Biased so that digits are as likely as anything.
    let bias: serde_json::Map<_, _> = (0..10).map(|digit| ((4 + 48 + digit).to_string(), json!(80))).collect();
    let ask = async |seed: u64, n: usize| {
        let body =
            json!({"prompt": "0", "seed": seed, "n": n, "logit_bias": bias, "max_tokens": 12, "temperature": 100});
        let body = complete(world.address, body).await.json();
        let choices = body["choices"].as_array().unwrap().clone();
        choices.iter().map(|choice| choice["text"].as_str().unwrap().to_owned()).collect::<Vec<_>>()
    };
    let twice = ask(7, 2).await;
    assert_ne!(twice[0], twice[1]);
    assert_eq!(twice, ask(7, 2).await);
    assert_eq!(ask(8, 1).await[0], twice[1]);
}

#[tokio::test]
async fn each_way_to_draw_reaches_the_engine() {
    let world = World::start().await;
    let ask = async |more: Value| {
        let mut body = json!({"prompt": "8", "max_tokens": 14, "temperature": 0, "seed": 3});
        body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        complete(world.address, body).await.json()["choices"][0]["text"].as_str().unwrap().to_owned()
    };
    // `z` is next to what comes next, so that it comes where that is made a little less likely.
    let next_best = json!({(4 + u32::from(b'z')).to_string(): 79});
    let counted = "90123456789012";
    assert_eq!(ask(json!({})).await, counted);
    assert_eq!(ask(json!({"logit_bias": next_best})).await, counted);
    assert_eq!(ask(json!({"logit_bias": {(4 + u32::from(b'q')).to_string(): 90}})).await, "q".repeat(14));
    assert_eq!(ask(json!({"logit_bias": next_best, "frequency_penalty": 2})).await, "9012345678z");
    assert_eq!(ask(json!({"logit_bias": next_best, "presence_penalty": 2})).await, "9012345678z");
    // Of the prompt, too.
    assert_eq!(ask(json!({"logit_bias": next_best, "repetition_penalty": 1.1})).await, "901234567z");
    assert_ne!(ask(json!({"temperature": 100})).await, counted);
    for filter in [json!({"min_p": 1}), json!({"top_k": 1}), json!({"top_p": 0.001})] {
        let mut more = filter.clone();
        more["temperature"] = json!(100);
        assert_eq!(ask(more).await, counted, "{filter}");
    }
}

#[tokio::test]
async fn a_format_is_followed_by_all_choices_of_a_request() {
    let world = World::start().await;
    let body = json!({"prompt": "a", "n": 128, "max_tokens": 9, "guided_regex": "[a-z]{3}[0-9]"});
    let body = complete(world.address, body).await.json();
    let choices = body["choices"].as_array().unwrap();
    assert_eq!(choices.len(), 128);
    let is_followed = |text: &str| text.starts_with("bcd") && text.len() == 4 && text.as_bytes()[3].is_ascii_digit();
    assert!(choices.iter().all(|choice| is_followed(choice["text"].as_str().unwrap())), "{body}");
}
