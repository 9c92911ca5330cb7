//! The public gRPC service.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

mod support;

use palimpsest_proto::inference::finished::Reason;
use palimpsest_proto::inference::format::Kind;
use palimpsest_proto::inference::generate_reply::Event;
use palimpsest_proto::inference::generate_request::Prompt;
use palimpsest_proto::inference::inference_client::InferenceClient;
use palimpsest_proto::inference::{Finished, Format, GenerateRequest, Sampling, StatsRequest, TokenIds};
use support::client::head;
use support::{Options, World};
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpStream;
use tonic::transport::Channel;
use tonic::{Code, Request, Status};

async fn client(world: &World) -> InferenceClient<Channel> {
    InferenceClient::connect(format!("http://{}", world.grpc)).await.unwrap()
}

fn text(prompt: &str, max_tokens: u32) -> GenerateRequest {
    let prompt = Some(Prompt::Text(prompt.to_owned()));
    GenerateRequest { prompt, max_tokens, ..GenerateRequest::default() }
}

/// Tokens of the prompt, the text, and the end.
async fn generate(world: &World, request: GenerateRequest) -> Result<(u32, String, Finished), Status> {
    let mut replies = client(world).await.generate(request).await?.into_inner();
    let Some(Event::Accepted(accepted)) = replies.message().await?.unwrap().event else { panic!("not accepted") };
    let mut text = String::new();
    loop {
        match replies.message().await?.unwrap().event.unwrap() {
            Event::Token(token) => text.push_str(&token.text),
            Event::Finished(finished) => {
                text.push_str(&finished.text);
                assert!(replies.message().await?.is_none());
                return Ok((accepted.prompt_tokens, text, finished));
            }
            other => panic!("{other:?}"),
        }
    }
}

#[tokio::test]
async fn texts_and_ids_are_gone_on_from() {
    let world = World::start().await;
    let (prompt, given, finished) = generate(&world, text("abc", 3)).await.unwrap();
    assert_eq!((prompt, given.as_str(), finished.tokens), (4, "def", 3));
    assert_eq!(finished.reason(), Reason::Length);
    let ids = GenerateRequest { prompt: Some(Prompt::Ids(TokenIds { ids: vec![4 + 126] })), ..text("", 100) };
    let (prompt, given, finished) = generate(&world, ids).await.unwrap();
    assert_eq!((prompt, given.as_str()), (1, support::arithmetic::WIDE));
    assert_eq!(finished.reason(), Reason::Stop);
    let stopped = GenerateRequest { stop: vec!["fgh".to_owned()], ..text("a", 100) };
    assert_eq!(generate(&world, stopped).await.unwrap().1, "bcde");
    let held = GenerateRequest { stop: vec!["fghX".to_owned()], ..text("a", 6) };
    assert_eq!(generate(&world, held).await.unwrap().1, "bcdefg");
}

#[tokio::test]
async fn refusals_have_their_codes() {
    let world = World::start().await;
    let code = async |request| generate(&world, request).await.unwrap_err().code();
    assert_eq!(code(GenerateRequest { prompt: None, ..text("", 1) }).await, Code::InvalidArgument);
    assert_eq!(code(text(&"a".repeat(3000), 1)).await, Code::InvalidArgument);
    assert_eq!(code(text("a", 0)).await, Code::InvalidArgument);
    assert_eq!(code(text("\u{1}", 1)).await, Code::Internal);
    let stats = client(&world).await.stats(StatsRequest {}).await.unwrap().into_inner();
    assert_eq!((stats.device.as_str(), stats.context, stats.cache_tokens), ("cpu", 2048, 8192));
}

#[tokio::test]
async fn a_stream_that_is_left_is_cancelled() {
    let world = World::with(Options { pause: std::time::Duration::from_millis(20), ..Options::default() }).await;
    let replies = client(&world).await.generate(text("0", 1000)).await.unwrap();
    world.wait_for("requests_running", 1.0).await;
    drop(replies);
    world.wait_for("requests_running", 0.0).await;
}

#[tokio::test]
async fn keys_are_those_of_http() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("keys");
    std::fs::write(&path, "secret").unwrap();
    let configure = Box::new(move |config: &mut palimpsest_serve::Config| config.api_keys = Some(path));
    let world = World::with(Options { configure, ..Options::default() }).await;
    let mut client = client(&world).await;
    assert_eq!(client.generate(text("a", 1)).await.unwrap_err().code(), Code::Unauthenticated);
    assert_eq!(client.stats(StatsRequest {}).await.unwrap_err().code(), Code::Unauthenticated);
    let mut request = Request::new(text("a", 1));
    request.metadata_mut().insert("authorization", "Bearer secret".parse().unwrap());
    assert!(client.generate(request).await.is_ok());
}

#[tokio::test]
async fn requests_are_bounded_as_over_http() {
    let configure = Box::new(|config: &mut palimpsest_serve::Config| {
        config.limits.body_bytes = 300_000;
        config.limits.bodies_bytes = 300_000;
    });
    let world = World::with(Options { configure, ..Options::default() }).await;
    let field = async |request| {
        let status = generate(&world, request).await.unwrap_err();
        let field = status.metadata().get("field").map(|field| field.to_str().unwrap().to_owned());
        (status.code(), field.unwrap_or_default())
    };
    let wrong = |field: &str| (Code::InvalidArgument, field.to_owned());
    assert_eq!(field(GenerateRequest { stop_ids: vec![5; 257], ..text("a", 1) }).await, wrong("stop_ids"));
    assert_eq!(field(GenerateRequest { stop_ids: vec![9999], ..text("a", 1) }).await, wrong("stop_ids"));
    let bias = Sampling { logit_bias: (0..1025).map(|id| (id, 1.0)).collect(), ..Sampling::default() };
    assert_eq!(field(GenerateRequest { sampling: Some(bias), ..text("a", 1) }).await, wrong("logit_bias"));
    let format = Some(Format { kind: Some(Kind::Regex("a".repeat(200_000))) });
    assert_eq!(field(GenerateRequest { format, ..text("a", 1) }).await, wrong("format"));
    assert_eq!(field(text(&"a".repeat(500_000), 1)).await.0, Code::OutOfRange);
    // The memory of what is being read is that of HTTP, too.
    let mut slow = TcpStream::connect(world.address).await.unwrap();
    slow.write_all(&head("POST", "/v1/completions", &[], 290_000)).await.unwrap();
    slow.write_all(&vec![b' '; 250_000]).await.unwrap();
    let mut code = Code::InvalidArgument;
    for _ in 0..200 {
        code = field(text(&"a".repeat(200_000), 1)).await.0;
        if code != Code::InvalidArgument {
            break;
        }
        tokio::time::sleep(std::time::Duration::from_millis(5)).await;
    }
    assert_eq!(code, Code::ResourceExhausted);
    assert!(generate(&world, text("a", 1)).await.is_ok());
}
