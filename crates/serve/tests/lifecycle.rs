//! Keys, certificates, an engine that dies and comes again, and a server that leaves in order.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

mod support;

use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use palimpsest_serve::{Config, EngineProcess, Error, RestartPolicy, Server, TlsFiles};
use serde_json::{Value, json};
use support::arithmetic::write_model;
use support::client::{Answer, ask, ask_on, complete, get, head};
use support::{Options, World, figure, mk_config};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::process::Command;
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::pki_types::ServerName;
use tokio_rustls::rustls::{ClientConfig, RootCertStore};

/// The engine's process, which `cargo test` builds beside the tests.
fn engine(arguments: &[&str]) -> Command {
    let test = std::env::current_exe().unwrap();
    let path: PathBuf = test.ancestors().nth(2).unwrap().join("examples/arithmetic_engine");
    assert!(path.exists(), "{} is not there: run `cargo build --examples` first", path.display());
    let mut command = Command::new(path);
    command.args(arguments);
    command
}

fn policy() -> RestartPolicy {
    RestartPolicy { backoff: Duration::from_millis(300), ..RestartPolicy::default() }
}

async fn until_ready(address: SocketAddr, ready: bool) {
    let began = Instant::now();
    while (get(address, "/readyz").await.status == 200) != ready {
        assert!(began.elapsed() < Duration::from_secs(20), "never {ready}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

#[tokio::test]
async fn an_engine_that_dies_is_started_anew_and_the_server_stays() {
    let folder = tempfile::tempdir().unwrap();
    write_model(folder.path());
    let process = EngineProcess::start(engine(&["--pause-ms", "20"]), policy()).unwrap();
    let server = Server::bind(mk_config(folder.path())).await.unwrap();
    let address = server.http_address();
    let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
    let server = tokio::spawn(server.run(process.link(), async {
        let _ = stopped.await;
    }));
    // Until it is ready, it says so.
    assert_eq!(get(address, "/healthz").await.status, 200);
    until_ready(address, true).await;
    assert_eq!(complete(address, json!({"prompt": "a"})).await.status, 200);

    let whole = tokio::spawn(complete(address, json!({"prompt": "0", "max_tokens": 1000})));
    let streamed = tokio::spawn(complete(address, json!({"prompt": "0", "max_tokens": 1000, "stream": true})));
    while figure(address, "requests_running").await < 2.0 {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    tokio::time::sleep(Duration::from_millis(100)).await;
    let fatal = complete(address, json!({"prompt": "\u{2}"})).await;
    let is_restarting = |answer: &Answer| {
        assert_eq!((answer.status, answer.error()["code"].as_str()), (503, Some("engine_restarting")));
        assert!(answer.header("retry-after").is_some());
    };
    is_restarting(&fatal);
    is_restarting(&whole.await.unwrap());
    let streamed = streamed.await.unwrap();
    assert_eq!(streamed.status, 200);
    let events = streamed.events();
    let last: Value = serde_json::from_str(events.last().unwrap()).unwrap();
    assert_eq!(last["error"]["code"], "engine_restarting", "{events:?}");
    assert!(events.len() > 2);
    until_ready(address, false).await;
    is_restarting(&complete(address, json!({"prompt": "a"})).await);

    until_ready(address, true).await;
    assert_eq!(complete(address, json!({"prompt": "a"})).await.status, 200);
    assert_eq!(figure(address, "engine_restarts_total").await, 1.0);
    drop(stop);
    server.await.unwrap().unwrap();
    process.stop().await;
}

#[tokio::test]
async fn an_engine_that_is_never_ready_is_given_up() {
    let folder = tempfile::tempdir().unwrap();
    write_model(folder.path());
    let quick = RestartPolicy { backoff: Duration::from_millis(10), ..RestartPolicy::default() };
    let process = EngineProcess::start(engine(&["--dies"]), quick).unwrap();
    let server = Server::bind(mk_config(folder.path())).await.unwrap();
    let error = server.run(process.link(), std::future::pending()).await.unwrap_err();
    assert!(matches!(error, Error::EngineGone(_)));
    let message = error.to_string();
    assert!(message.contains("died 3 times before it was ready") && message.contains("exit status: 3"), "{message}");

    let process = EngineProcess::start(Command::new("/nonexistent/engine"), quick).unwrap();
    let error = process.link().ready().await.unwrap_err().to_string();
    assert!(error.contains("cannot start the engine's process"), "{error}");
}

#[tokio::test]
async fn an_engine_ends_with_whoever_started_it() {
    let process = EngineProcess::start(engine(&[]), policy()).unwrap();
    process.link().ready().await.unwrap();
    let began = Instant::now();
    process.stop().await;
    assert!(began.elapsed() < Duration::from_secs(3));
}

#[tokio::test]
async fn a_server_leaves_in_order() {
    let configure = Box::new(|config: &mut Config| config.limits.drain_delay = Duration::from_millis(300));
    let mut world = World::with(Options { pause: Duration::from_millis(20), configure, ..Options::default() }).await;
    let address = world.address;
    let under_way = tokio::spawn(complete(address, json!({"prompt": "0", "max_tokens": 60, "stream": true})));
    world.wait_for("requests_running", 1.0).await;
    world.stop();
    // For a while it is not ready and still answers.
    until_ready(address, false).await;
    assert_eq!(complete(address, json!({"prompt": "a", "max_tokens": 1})).await.status, 200);
    // Then who connects is refused, and who is connected is answered to the end.
    tokio::time::sleep(Duration::from_millis(400)).await;
    assert!(TcpStream::connect(address).await.is_err());
    let answer = under_way.await.unwrap();
    assert_eq!(answer.parts().last().unwrap()["choices"][0]["finish_reason"], "length");
    world.server.await.unwrap().unwrap();
}

#[tokio::test]
async fn what_does_not_end_in_time_is_cut_off_and_told() {
    let configure = Box::new(|config: &mut Config| config.limits.drain_timeout = Duration::from_millis(300));
    let mut world = World::with(Options { pause: Duration::from_millis(20), configure, ..Options::default() }).await;
    let address = world.address;
    let streamed = tokio::spawn(complete(address, json!({"prompt": "0", "max_tokens": 1000, "stream": true})));
    let whole = tokio::spawn(complete(address, json!({"prompt": "0", "max_tokens": 1000})));
    world.wait_for("requests_running", 2.0).await;
    // One that is idle, and one that asks for more after its answer.
    let _idle = TcpStream::connect(address).await.unwrap();
    let began = Instant::now();
    world.stop();
    let events = streamed.await.unwrap().events();
    let last: Value = serde_json::from_str(events.last().unwrap()).unwrap();
    assert_eq!(last["error"]["code"], "draining");
    assert_eq!(whole.await.unwrap().error()["code"], "draining");
    world.server.await.unwrap().unwrap();
    assert!(began.elapsed() < Duration::from_secs(4), "{:?}", began.elapsed());
}

#[tokio::test]
async fn keys_are_asked_for_where_there_are_any() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("keys");
    std::fs::write(&path, "# of the team\nsecret\n").unwrap();
    let keys = path.clone();
    let configure = Box::new(move |config: &mut Config| config.api_keys = Some(keys));
    let world = World::with(Options { configure, ..Options::default() }).await;
    let address = world.address;
    let status = async |key: &str| {
        let answer = ask(address, "GET", "/v1/models", &[("authorization", key)], b"").await;
        if answer.status != 200 {
            assert_eq!(answer.error()["code"], "invalid_api_key");
            assert_eq!(answer.header("www-authenticate"), Some("Bearer"));
        }
        answer.status
    };
    assert_eq!(status("Bearer secret").await, 200);
    for wrong in ["Bearer secre", "Bearer secret2", "secret", "Bearer", "Basic secret"] {
        assert_eq!(status(wrong).await, 401, "{wrong}");
    }
    assert_eq!(complete(address, json!({"prompt": "a"})).await.status, 401);
    // Probes and Prometheus have no key.
    for path in ["/healthz", "/readyz", "/metrics"] {
        assert_eq!(get(address, path).await.status, 200);
    }
}

#[tokio::test]
async fn certificates_are_shown_where_there_are_any() {
    let folder = tempfile::tempdir().unwrap();
    let made = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap();
    let files = TlsFiles { certificate: folder.path().join("tls.crt"), key: folder.path().join("tls.key") };
    std::fs::write(&files.certificate, made.cert.pem()).unwrap();
    std::fs::write(&files.key, made.signing_key.serialize_pem()).unwrap();
    let tls = files.clone();
    let configure = Box::new(move |config: &mut Config| config.tls = Some(tls));
    let world = World::with(Options { configure, ..Options::default() }).await;

    let mut roots = RootCertStore::empty();
    roots.add(made.cert.der().clone()).unwrap();
    let provider = Arc::new(tokio_rustls::rustls::crypto::ring::default_provider());
    let config = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
    let config = config.with_root_certificates(roots).with_no_client_auth();
    let connector = TlsConnector::from(Arc::new(config));
    let stream = TcpStream::connect(world.address).await.unwrap();
    let stream = connector.connect(ServerName::try_from("localhost").unwrap(), stream).await.unwrap();
    assert_eq!(ask_on(stream, "GET", "/v1/models", &[], b"").await.unwrap().status, 200);
    // In clear there is no answer, and nothing breaks.
    let mut clear = TcpStream::connect(world.address).await.unwrap();
    clear.write_all(&head("GET", "/v1/models", &[], 0)).await.unwrap();
    let mut answer = Vec::new();
    let _ = clear.read_to_end(&mut answer).await;
    assert!(!answer.starts_with(b"HTTP"));

    std::fs::write(&files.key, "no key").unwrap();
    let mut config = mk_config(world.folder.path());
    config.tls = Some(files);
    let error = Server::bind(config).await.unwrap_err().to_string();
    assert!(error.contains("tls.key"), "{error}");
}

#[tokio::test]
async fn what_cannot_be_served_is_said_at_the_beginning() {
    let folder = tempfile::tempdir().unwrap();
    let any = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
    let error = Server::bind(Config::new(folder.path().join("absent"), any)).await.unwrap_err().to_string();
    assert!(error.contains("absent"), "{error}");
    write_model(folder.path());
    let taken = std::net::TcpListener::bind(any).unwrap();
    let config = Config::new(folder.path(), taken.local_addr().unwrap());
    let error = Server::bind(config).await.unwrap_err().to_string();
    assert!(error.contains("cannot listen at"), "{error}");
    let mut config = Config::new(folder.path(), any);
    config.limits.requests = 0;
    assert_eq!(Server::bind(config).await.unwrap_err().to_string(), "requests has to be 1 at least");
}

#[tokio::test]
async fn a_model_that_fails_is_as_an_engine_that_is_gone() {
    let world = World::start().await;
    let failed = complete(world.address, json!({"prompt": "\u{2}"})).await;
    assert_eq!((failed.status, failed.error()["code"].as_str()), (503, Some("engine_restarting")));
    assert!(failed.header("retry-after").is_some());
    let error = world.engine.await.unwrap().unwrap_err();
    assert!(matches!(error, Error::Model(_)), "{error}");
}

#[tokio::test]
async fn processes_that_never_came_to_be_ready_are_counted_too() {
    let folder = tempfile::tempdir().unwrap();
    write_model(folder.path());
    let patient = RestartPolicy { attempts: 1000, backoff: Duration::from_millis(10), ..RestartPolicy::default() };
    let process = EngineProcess::start(engine(&["--dies"]), patient).unwrap();
    let server = Server::bind(mk_config(folder.path())).await.unwrap();
    let address = server.http_address();
    let server = tokio::spawn(server.run(process.link(), std::future::pending()));
    let began = Instant::now();
    while figure(address, "engine_restarts_total").await < 2.0 {
        assert!(began.elapsed() < Duration::from_secs(10));
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    server.abort();
    process.stop().await;
}
