//! Stands between a client and the API server: it sees every call, and answers some of them itself, as a test wants.

mod call;

use std::convert::Infallible;
use std::io::{self, Write};
use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use futures::{StreamExt, stream};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Full, StreamBody};
use hyper::body::{Bytes, Frame, Incoming};
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use kube::Client;
use serde_json::json;
use tokio::net::TcpListener;

pub use call::Call;

/// What becomes of a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// The API server answers it.
    Answered,
    /// The proxy answers it with a status: 409, 429 or 500. The API server hears nothing of it.
    Refused(u16),
    /// The connection is reset, and the API server hears nothing of it.
    Lost,
    /// The API server answers it, and the connection is reset before the answer arrives.
    Unheard,
    /// What the API server answers breaks off after this time: a watch, mostly.
    CutAfter(Duration),
    /// Each piece of the answer comes so much later: a watch that lags.
    LateBy(Duration),
    /// The connection is reset, and so much later the API server hears of it all the same: a write that nobody waits for any more.
    Overdue(Duration),
}

type Judge = dyn FnMut(&Call) -> Fate + Send;
type Body = UnsyncBoxBody<Bytes, io::Error>;

/// After how many seconds the proxy has those ask again whom it refuses with 429.
pub const RETRY_AFTER: Duration = Duration::from_secs(1);

/// A proxy that lives as long as this value.
#[derive(Debug)]
pub struct Proxy {
    address: SocketAddr,
    kubeconfig: tempfile::NamedTempFile,
    shared: Arc<Shared>,
    listening: tokio::task::JoinHandle<()>,
}

struct Shared {
    client: Client,
    judge: Mutex<Box<Judge>>,
    calls: Mutex<Vec<(Call, Fate)>>,
    overdue: Mutex<Vec<u16>>,
}

impl std::fmt::Debug for Shared {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Shared").field("calls", &self.calls).finish_non_exhaustive()
    }
}

impl Proxy {
    /// Starts one whose calls the API server sees as `client`'s; `judge` is asked about each.
    pub async fn start(client: Client, judge: impl FnMut(&Call) -> Fate + Send + 'static) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap_or_else(|error| panic!("{error}"));
        let address = listener.local_addr().unwrap_or_else(|error| panic!("{error}"));
        let kubeconfig = kubeconfig(address);
        let shared = Arc::new(Shared {
            client,
            judge: Mutex::new(Box::new(judge)),
            calls: Mutex::default(),
            overdue: Mutex::default(),
        });
        let listening = tokio::spawn(listen(listener, shared.clone()));
        Self { address, kubeconfig, shared, listening }
    }

    /// The file by which clients find it.
    pub fn kubeconfig(&self) -> &Path {
        self.kubeconfig.path()
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// What was called until now, and what became of it.
    pub fn calls(&self) -> Vec<(Call, Fate)> {
        lock(&self.shared.calls).clone()
    }

    /// What the API server answered to calls that were overdue.
    pub fn answers_to_overdue(&self) -> Vec<u16> {
        lock(&self.shared.overdue).clone()
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.listening.abort();
    }
}

/// How it is found: it needs no certificate and asks for no token.
fn kubeconfig(address: SocketAddr) -> tempfile::NamedTempFile {
    let config = json!({
        "apiVersion": "v1", "kind": "Config", "current-context": "proxy",
        "clusters": [{"name": "proxy", "cluster": {"server": format!("http://{address}")}}],
        "users": [{"name": "nobody", "user": {}}],
        "contexts": [{"name": "proxy", "context": {"cluster": "proxy", "user": "nobody"}}],
    });
    let mut file = tempfile::NamedTempFile::new().unwrap_or_else(|error| panic!("{error}"));
    file.write_all(config.to_string().as_bytes()).unwrap_or_else(|error| panic!("{error}"));
    file
}

async fn listen(listener: TcpListener, shared: Arc<Shared>) {
    while let Ok((stream, _)) = listener.accept().await {
        // A connection that is given up is reset, instead of ended in peace.
        let _ = stream.set_zero_linger();
        let _ = stream.set_nodelay(true);
        let shared = shared.clone();
        tokio::spawn(async move {
            let service = service_fn(move |request| {
                let shared = shared.clone();
                async move { serve(request, &shared).await }
            });
            // It ends with an error where a test wants that.
            let _ = hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), service).await;
        });
    }
}

async fn serve(request: Request<Incoming>, shared: &Arc<Shared>) -> Result<Response<Body>, io::Error> {
    let (parts, body) = request.into_parts();
    let body = body.collect().await.map_err(io::Error::other)?.to_bytes();
    let content_type = parts.headers.get("content-type").and_then(|value| value.to_str().ok()).map(str::to_owned);
    let call = Call {
        method: parts.method.to_string(),
        path: parts.uri.path().to_owned(),
        query: parts.uri.query().unwrap_or_default().to_owned(),
        content_type,
        body: body.to_vec(),
        at: Instant::now(),
    };
    let fate = lock(&shared.judge)(&call);
    lock(&shared.calls).push((call.clone(), fate));
    match fate {
        Fate::Refused(status) => return refusal(status),
        Fate::Lost => return Err(as_wanted("lost")),
        Fate::Overdue(time) => {
            let shared = shared.clone();
            tokio::spawn(async move {
                tokio::time::sleep(time).await;
                if let Ok(answer) = forward(parts, body, &shared.client).await {
                    lock(&shared.overdue).push(answer.status().as_u16());
                }
            });
            return Err(as_wanted("overdue"));
        }
        _ => {}
    }
    let answer = forward(parts, body, &shared.client).await?;
    if fate == Fate::Unheard {
        return Err(as_wanted("unheard"));
    }
    let (parts, body) = answer.into_parts();
    let pieces = body.into_data_stream().map(|piece| match piece {
        Ok(piece) => Ok(Frame::data(piece)),
        Err(error) => Err(io::Error::other(error)),
    });
    let body = match fate {
        Fate::CutAfter(time) => {
            let end = stream::once(std::future::ready(Err(as_wanted("cut off"))));
            let until = Box::pin(tokio::time::sleep(time));
            BodyExt::boxed_unsync(StreamBody::new(pieces.take_until(until).chain(end)))
        }
        Fate::LateBy(time) => {
            let late = pieces.map(move |piece| async move {
                tokio::time::sleep(time).await;
                piece
            });
            // Those that come meanwhile wait beside it, and not after it.
            BodyExt::boxed_unsync(StreamBody::new(late.buffered(usize::from(u16::MAX))))
        }
        _ => BodyExt::boxed_unsync(StreamBody::new(pieces)),
    };
    Ok(Response::from_parts(parts, body))
}

async fn forward(
    mut parts: hyper::http::request::Parts,
    body: Bytes,
    client: &Client,
) -> Result<Response<kube::client::Body>, io::Error> {
    for own in ["host", "authorization", "content-length", "connection"] {
        parts.headers.remove(own);
    }
    let request = Request::from_parts(parts, kube::client::Body::from(body.to_vec()));
    let mut answer = client.send(request).await.map_err(io::Error::other)?;
    for own in ["content-length", "transfer-encoding", "connection"] {
        answer.headers_mut().remove(own);
    }
    Ok(answer)
}

fn as_wanted(what: &str) -> io::Error {
    io::Error::other(format!("{what}, as a test wants"))
}

/// As an API server says it.
fn refusal(code: u16) -> Result<Response<Body>, io::Error> {
    let (reason, message) = match code {
        409 => {
            ("Conflict", "Operation cannot be fulfilled: the object has been modified; please apply your changes again")
        }
        429 => ("TooManyRequests", "the server has received too many requests and has asked us to try again later"),
        _ => ("InternalError", "Internal error occurred: as a test wants"),
    };
    let status = json!({
        "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure",
        "message": message, "reason": reason, "code": code,
    });
    let mut answer = Response::builder().status(code).header("content-type", "application/json");
    if code == 429 {
        answer = answer.header("retry-after", RETRY_AFTER.as_secs());
    }
    answer.body(whole(Bytes::from(status.to_string()))).map_err(io::Error::other)
}

fn whole(body: Bytes) -> Body {
    Full::new(body).map_err(|never: Infallible| match never {}).boxed_unsync()
}

fn lock<T: ?Sized>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
