//! What is wrong is answered in OpenAI's shape, whatever it is.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

mod support;

use std::time::Duration;

use palimpsest_infer::Limits;
use serde_json::{Value, json};
use support::client::{ask, ask_on, complete, get, head, post};
use support::{Options, World};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

#[tokio::test]
async fn wrong_paths_methods_and_bodies_have_their_statuses() {
    let world = World::start().await;
    let address = world.address;
    assert_eq!(get(address, "/v1/nothing").await.error()["code"], "unknown_url");
    let wrong = get(address, "/v1/completions").await;
    assert_eq!((wrong.status, wrong.error()["code"].as_str()), (405, Some("method_not_allowed")));
    let bodies: [&[u8]; 8] = [
        b"",
        b"{",
        b"[]",
        b"null",
        b"\"a\"",
        b"{\"prompt\": \"\xff\xfe\"}",
        b"{\"prompt\": \"\\ud800\"}",
        b"{\"temperature\": 1e999}",
    ];
    for body in bodies {
        let answer = ask(address, "POST", "/v1/completions", &[], body).await;
        assert_eq!(answer.status, 400, "{}", String::from_utf8_lossy(body));
        answer.error();
    }
    let deep = [b"{\"prompt\": ".to_vec(), vec![b'['; 1 << 20]].concat();
    let bomb = ask(address, "POST", "/v1/completions", &[], &deep).await;
    assert_eq!(bomb.status, 400);
    bomb.error();
}

#[tokio::test]
async fn what_is_not_supported_is_named_and_never_ignored() {
    let world = World::start().await;
    for field in ["tools", "functions", "function_call", "suffix", "audio", "best_of", "prefix", "modalities"] {
        let mut body = json!({"prompt": "a"});
        body[field] = json!(3);
        let answer = complete(world.address, body).await;
        assert_eq!((answer.status, answer.param().as_deref()), (400, Some(field)));
    }
    let tools = json!({"messages": [{"role": "user", "content": "a"}], "tools": [], "stream": true});
    assert_eq!(post(world.address, "/v1/chat/completions", &tools).await.param().as_deref(), Some("tools"));
    let long = "x".repeat(10_000);
    let answer = complete(world.address, json!({"prompt": "a", long: 1})).await;
    assert!(answer.body.len() < 1000);
}

#[tokio::test]
async fn bodies_and_heads_are_bounded() {
    let configure = Box::new(|config: &mut palimpsest_serve::Config| {
        config.limits.body_bytes = 100_000;
        config.limits.header_bytes = 8192;
        config.limits.header_timeout = Duration::from_millis(300);
        config.limits.body_timeout = Duration::from_millis(300);
    });
    let world = World::with(Options { configure, ..Options::default() }).await;
    let address = world.address;
    let large = complete(address, json!({"prompt": "a".repeat(200_000)})).await;
    assert_eq!((large.status, large.error()["code"].as_str()), (413, Some("body_too_large")));

    let mut stream = TcpStream::connect(address).await.unwrap();
    let chunked = format!(
        "POST /v1/completions HTTP/1.1\r\nhost: x\r\nconnection: close\r\ntransfer-encoding: chunked\r\n\r\n{:x}\r\n{}\r\n0\r\n\r\n",
        200_000,
        "a".repeat(200_000)
    );
    let _ = stream.write_all(chunked.as_bytes()).await;
    let mut answer = [0; 12];
    stream.read_exact(&mut answer).await.unwrap();
    assert_eq!(&answer, b"HTTP/1.1 413");

    let wide = "x".repeat(20_000);
    let stream = TcpStream::connect(address).await.unwrap();
    let answer = ask_on(stream, "GET", "/v1/models", &[("x-wide", &wide)], b"").await.unwrap();
    assert_eq!(answer.status, 431);

    // A head and a body that do not come to an end.
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.write_all(b"GET /v1/models HTTP/1.1\r\nhos").await.unwrap();
    let mut rest = Vec::new();
    tokio::time::timeout(Duration::from_secs(5), stream.read_to_end(&mut rest)).await.unwrap().unwrap();
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.write_all(&head("POST", "/v1/completions", &[], 1000)).await.unwrap();
    let mut answer = [0; 12];
    stream.read_exact(&mut answer).await.unwrap();
    assert_eq!(&answer, b"HTTP/1.1 408");
}

#[tokio::test]
async fn the_name_of_a_request_is_kept_where_it_is_fine() {
    let world = World::start().await;
    let id = async |id: &str| {
        let answer = ask(world.address, "GET", "/v1/models", &[("x-request-id", id)], b"").await;
        answer.header("x-request-id").unwrap().to_owned()
    };
    assert_eq!(id("job-7/a").await, "job-7/a");
    assert_eq!(id(&"x".repeat(200)).await.len(), 32);
    assert_eq!(id("a\"b").await.len(), 32);
}

#[tokio::test]
async fn more_choices_than_a_request_may_have_are_refused() {
    let world = World::start().await;
    let many: Vec<Value> = vec![json!("a"); 200];
    assert_eq!(complete(world.address, json!({ "prompt": many })).await.param().as_deref(), Some("prompt"));
    assert_eq!(complete(world.address, json!({"prompt": "a", "n": 1000})).await.param().as_deref(), Some("n"));
}

#[tokio::test]
async fn what_could_never_wait_is_refused_and_what_can_wait_alone_is_not() {
    let limits = Limits { waiting_requests: 4, waiting_tokens: 10, ..support::arithmetic::mk_limits() };
    let world = World::with(Options { limits, ..Options::default() }).await;
    let many = complete(world.address, json!({"prompt": "a", "n": 5})).await;
    assert_eq!((many.status, many.param().as_deref()), (400, Some("n")));
    assert_eq!(complete(world.address, json!({"prompt": "a".repeat(100)})).await.status, 200);
}

#[tokio::test]
async fn a_format_that_is_too_large_is_refused_by_its_field_however_large() {
    let world = World::start().await;
    for bytes in [200_000, 5 << 20] {
        let answer = complete(world.address, json!({"prompt": "a", "guided_regex": "a".repeat(bytes)})).await;
        assert_eq!((answer.status, answer.param().as_deref()), (400, Some("guided_regex")));
        assert!(answer.error()["message"].as_str().unwrap().contains("131072"));
    }
    let wrong = complete(world.address, json!({"prompt": "a", "guided_regex": "("})).await;
    assert_eq!((wrong.status, wrong.param().as_deref()), (400, Some("guided_regex")));
}

#[tokio::test]
async fn bodies_have_bounded_memory_together() {
    let configure = Box::new(|config: &mut palimpsest_serve::Config| {
        config.limits.body_bytes = 100_000;
        config.limits.bodies_bytes = 100_000;
    });
    let world = World::with(Options { configure, ..Options::default() }).await;
    let large = json!({"prompt": "a".repeat(60_000)});
    let mut slow = TcpStream::connect(world.address).await.unwrap();
    slow.write_all(&head("POST", "/v1/completions", &[], 90_000)).await.unwrap();
    slow.write_all(&vec![b' '; 80_000]).await.unwrap();
    let mut refused = complete(world.address, large.clone()).await;
    // Until what was sent before has come.
    for _ in 0..200 {
        if refused.status != 400 {
            break;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
        refused = complete(world.address, large.clone()).await;
    }
    assert_eq!((refused.status, refused.error()["code"].as_str()), (429, Some("queue_full")));
    assert_eq!(refused.header("retry-after"), Some("1"));
    assert_eq!(complete(world.address, json!({"prompt": "a"})).await.status, 200);
    drop(slow);
    world.wait_for("http_requests_in_flight", 1.0).await;
    assert_eq!(complete(world.address, large).await.error()["code"], "context_length_exceeded");
}
