//! Many clients, clients that vanish, clients that do not read, and prompts that are too long for anybody.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

mod support;

use std::time::{Duration, Instant};

use palimpsest_infer::Limits;
use serde_json::json;
use support::client::{complete, head};
use support::{Options, World, figure};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

/// Long enough to see a step, and short enough for a test.
const STEP: Duration = Duration::from_millis(20);

async fn slow() -> World {
    World::with(Options { pause: STEP, ..Options::default() }).await
}

/// Sends a request for digits without end, and reads nothing.
async fn ask_and_stay(world: &World, stream: bool) -> TcpStream {
    let mut connection = TcpStream::connect(world.address).await.unwrap();
    let body = json!({"prompt": "0", "max_tokens": 2000, "stream": stream}).to_string();
    connection.write_all(&head("POST", "/v1/completions", &[], body.len())).await.unwrap();
    connection.write_all(body.as_bytes()).await.unwrap();
    connection
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_of_a_thousand_clients_is_answered() {
    let world = World::with(Options { pause: Duration::from_millis(2), ..Options::default() }).await;
    let address = world.address;
    let clients: Vec<_> = (0..1000)
        .map(|number| {
            let body = json!({"prompt": "a", "max_tokens": 20, "stream": number % 2 == 0});
            tokio::spawn(async move { complete(address, body).await })
        })
        .collect();
    let mut counts = [0, 0];
    for client in clients {
        let answer = tokio::time::timeout(Duration::from_secs(60), client).await.unwrap().unwrap();
        match answer.status {
            200 => counts[0] += 1,
            429 => {
                counts[1] += 1;
                assert_eq!(answer.error()["code"], "queue_full");
                assert!(answer.header("retry-after").is_some());
            }
            other => panic!("{other}: {}", answer.text()),
        }
    }
    let [answered, refused] = counts;
    assert_eq!(answered + refused, 1000);
    // As many as run and wait, at least.
    assert!(answered >= 288 && refused > 0, "{answered} answered and {refused} refused");
    assert_eq!(figure(address, "http_requests_total{code=\"429\"}").await, f64::from(refused));
    world.wait_for("requests_running", 0.0).await;
    assert_eq!(world.figure("cache_usage_ratio").await, 0.0);
}

#[tokio::test]
async fn who_vanishes_is_computed_for_no_more() {
    let world = slow().await;
    for stream in [false, true] {
        let connections = [ask_and_stay(&world, stream).await, ask_and_stay(&world, stream).await];
        world.wait_for("requests_running", 2.0).await;
        drop(connections);
        let took = world.wait_for("requests_running", 0.0).await;
        // A step may be under way, and another begin before the word is there; machines of tests are slow.
        assert!(took < STEP * 15, "stream {stream}: {took:?}");
    }
    assert_eq!(world.figure("requests_finished_total{reason=\"abort\"}").await, 4.0);
    assert!(world.figure("generation_tokens_total").await < 1000.0);
}

#[tokio::test]
async fn who_vanishes_while_waiting_leaves_the_queue() {
    let limits = Limits { running: 1, ..support::arithmetic::mk_limits() };
    let world = World::with(Options { pause: STEP, limits, ..Options::default() }).await;
    let first = ask_and_stay(&world, true).await;
    world.wait_for("requests_running", 1.0).await;
    let waiting = [ask_and_stay(&world, true).await, ask_and_stay(&world, false).await];
    world.wait_for("requests_waiting", 2.0).await;
    drop(waiting);
    world.wait_for("requests_waiting", 0.0).await;
    assert_eq!(world.figure("requests_running").await, 1.0);
    drop(first);
    world.wait_for("requests_running", 0.0).await;
}

#[tokio::test]
async fn who_waits_for_too_long_is_told_so() {
    let limits = Limits { running: 1, ..support::arithmetic::mk_limits() };
    let configure = Box::new(|config: &mut palimpsest_serve::Config| {
        config.limits.queue_timeout = Some(Duration::from_millis(200));
    });
    let world = World::with(Options { pause: STEP, limits, configure }).await;
    let _first = ask_and_stay(&world, true).await;
    world.wait_for("requests_running", 1.0).await;
    let late = complete(world.address, json!({"prompt": "a"})).await;
    assert_eq!((late.status, late.error()["code"].as_str()), (503, Some("queue_timeout")));
    assert!(late.header("retry-after").is_some());
    world.wait_for("requests_waiting", 0.0).await;
}

#[tokio::test]
async fn who_reads_nothing_holds_up_nobody() {
    let configure = Box::new(|config: &mut palimpsest_serve::Config| {
        config.limits.write_timeout = Duration::from_millis(500);
    });
    let limits = Limits { context: 200_000, blocks: 200_000, ..support::arithmetic::mk_limits() };
    let world = World::with(Options { limits, configure, ..Options::default() }).await;
    let mut connection = TcpStream::connect(world.address).await.unwrap();
    let body = json!({"prompt": "0", "max_tokens": 190_000, "stream": true}).to_string();
    connection.write_all(&head("POST", "/v1/completions", &[], body.len())).await.unwrap();
    connection.write_all(body.as_bytes()).await.unwrap();
    connection.read_exact(&mut [0; 12]).await.unwrap();
    let began = Instant::now();
    for _ in 0..20 {
        assert_eq!(complete(world.address, json!({"prompt": "a"})).await.status, 200);
    }
    assert!(began.elapsed() < Duration::from_secs(5), "{:?}", began.elapsed());
    // It is given up: by the engine that is too far ahead, or by the server that nobody reads.
    world.wait_for("requests_running", 0.0).await;
    world.wait_for("http_requests_in_flight", 1.0).await;
    assert!(world.figure("generation_tokens_total").await < 190_000.0);
}

#[tokio::test]
async fn a_megabyte_is_refused_and_delays_nobody() {
    let world = World::start().await;
    let address = world.address;
    let long = "<|im_start|> ".repeat(1 << 16);
    let refused = tokio::spawn(async move {
        let body = json!({"prompt": long, "parse_special": true});
        complete(address, body).await
    });
    let began = Instant::now();
    assert_eq!(complete(address, json!({"prompt": "a"})).await.status, 200);
    assert!(began.elapsed() < Duration::from_secs(2));
    let refused = refused.await.unwrap();
    assert_eq!((refused.status, refused.error()["code"].as_str()), (400, Some("context_length_exceeded")));
}

#[tokio::test]
async fn a_full_server_refuses_before_it_reads() {
    let configure = Box::new(|config: &mut palimpsest_serve::Config| config.limits.requests = 1);
    let world = World::with(Options { pause: STEP, configure, ..Options::default() }).await;
    let _first = ask_and_stay(&world, true).await;
    world.wait_for("requests_running", 1.0).await;
    let refused = complete(world.address, json!({"prompt": "a"})).await;
    assert_eq!((refused.status, refused.header("retry-after")), (429, Some("1")));
}
