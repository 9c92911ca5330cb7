//! The peer: it makes the writes that the operator made for one job, for each job, and nothing else. It watches nothing and
//! thinks of nothing.

use futures::StreamExt;
use hyper::Request;
use kube::Client;
use palimpsest_tests::Call;
use tokio::sync::mpsc::UnboundedReceiver;
use tokio_stream::wrappers::UnboundedReceiverStream;

use crate::jobs::Made;

/// The job whose writes were recorded, and its namespace. Nothing else in them has this name.
pub(crate) const RECORDED: &str = "the-recorded-one";

/// A recorded write, in pieces.
struct Write<'w> {
    call: &'w Call,
    body: String,
}

/// Makes the writes of each job that comes, in their order, of so many jobs at once.
pub(crate) async fn write_all(
    client: Client,
    namespace: &str,
    writes: &[Call],
    concurrency: usize,
    jobs: UnboundedReceiver<Made>,
) {
    let uid = recorded_uid(writes);
    let writes: Vec<Write<'_>> = writes.iter().map(|call| Write { call, body: body_of(call) }).collect();
    let (client, uid, writes) = (&client, &uid, &writes);
    UnboundedReceiverStream::new(jobs)
        .for_each_concurrent(concurrency, async |job| {
            for write in writes {
                make(client, write, namespace, uid, &job).await;
            }
        })
        .await;
}

async fn make(client: &Client, write: &Write<'_>, namespace: &str, uid: &str, job: &Made) {
    let as_this = |text: &str| {
        // Namespace and name are the same word, each in places of its own.
        let text = text.replace(&format!("namespaces/{RECORDED}"), &format!("namespaces/{namespace}"));
        let text = text.replace(&format!("\"namespace\":\"{RECORDED}\""), &format!("\"namespace\":\"{namespace}\""));
        text.replace(&format!("\"--namespace\",\"{RECORDED}\""), &format!("\"--namespace\",\"{namespace}\""))
            .replace(RECORDED, &job.name)
            .replace(uid, &job.uid)
    };
    let uri = as_this(&format!("{}?{}", write.call.path, write.call.query));
    let mut request = Request::builder().method(write.call.method.as_str()).uri(uri);
    if let Some(kind) = &write.call.content_type {
        request = request.header("content-type", kind);
    }
    let request = request.body(as_this(&write.body).into_bytes()).unwrap_or_else(|error| panic!("{error}"));
    let answer = client.request_text(request).await;
    assert!(answer.is_ok(), "{} {}: {answer:?}", write.call.method, write.call.path);
}

/// What a write says, but for the version of the recorded job that it went by.
fn body_of(call: &Call) -> String {
    let mut body: serde_json::Value = serde_json::from_slice(&call.body).unwrap_or_else(|error| panic!("{error}"));
    if let Some(metadata) = body.get_mut("metadata").and_then(serde_json::Value::as_object_mut) {
        metadata.remove("resourceVersion");
    }
    body.to_string()
}

/// The recorded job's UID, which its writes carry.
fn recorded_uid(writes: &[Call]) -> String {
    let bodies = writes.iter().filter_map(|call| serde_json::from_slice::<serde_json::Value>(&call.body).ok());
    let mut uids =
        bodies.filter_map(|body| Some(body.pointer("/metadata/ownerReferences/0/uid")?.as_str()?.to_owned()));
    uids.next().unwrap_or_else(|| panic!("no write of the operator names the job as an owner"))
}
