//! The public gRPC service.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

mod support;

use palimpsest_proto::inference::finished::Reason;
use palimpsest_proto::inference::generate_reply::Event;
use palimpsest_proto::inference::generate_request::Prompt;
use palimpsest_proto::inference::inference_client::InferenceClient;
use palimpsest_proto::inference::{Finished, GenerateRequest, StatsRequest, TokenIds};
use support::{Options, World};
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
