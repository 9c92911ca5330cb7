//! A call to the coordinator: in clear on loopback, over TLS with a token elsewhere.
//!
//! Address, certificate authority and token are read anew for each call: whoever coordinates next listens elsewhere, a token
//! is replaced every few minutes, and an authority every few months.

use std::fmt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use palimpsest_proto::control::control_client::ControlClient;
use palimpsest_proto::control::{Command, Report, report};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::metadata::{Ascii, MetadataValue};
use tonic::transport::{Certificate, ClientTlsConfig, Endpoint};
use tonic::{Code, Request, Status, Streaming};

/// How long a connection, and the answer to a call, may take.
const PATIENCE: Duration = Duration::from_secs(10);

/// How often a quiet connection is tried: a coordinator whose machine is gone closes nothing.
const KEEP_ALIVE: Duration = Duration::from_secs(5);

/// How long a coordinator may leave a report untaken, and how long it may take to hear the last one.
const SEND_PATIENCE: Duration = Duration::from_secs(5);
const LAST_WORDS: Duration = Duration::from_secs(1);

/// The reports that a coordinator may be behind.
const REPORTS: usize = 64;

/// Where the coordinator is, and how this agent shows who it is.
#[derive(Clone, Debug)]
pub(super) struct Target {
    pub(super) address: Address,
    /// The PEM file of the authority that has signed the coordinator's certificate: with `https://`, and only then.
    pub(super) authority: Option<PathBuf>,
    /// The file of the token that is shown to the coordinator: with `https://` only.
    pub(super) token: Option<PathBuf>,
}

/// Where the coordinator is.
#[derive(Clone, Debug)]
pub(super) enum Address {
    /// There.
    Url(String),
    /// Where this file says.
    File(PathBuf),
}

/// An open stream.
#[derive(Debug)]
pub(super) struct Link {
    reports: mpsc::Sender<Report>,
    pub(super) commands: Streaming<Command>,
}

impl Link {
    /// Reports; a coordinator that is behind misses steps and signs of life, but nothing else. False where it takes nothing
    /// any more.
    pub(super) async fn send(&self, report: Report) -> bool {
        if matches!(report.report, Some(report::Report::Progress(_) | report::Report::Alive(_))) {
            let _ = self.reports.try_send(report);
            return true;
        }
        // Where the stream has ended, the next command tells so.
        tokio::time::timeout(SEND_PATIENCE, self.reports.send(report)).await.is_ok()
    }

    /// Ends the stream, and waits until the coordinator has heard what it was told, but not for long.
    pub(super) async fn finish(self) {
        let Self { reports, mut commands } = self;
        drop(reports);
        let heard = async { while let Ok(Some(_)) = commands.message().await {} };
        let _ = tokio::time::timeout(LAST_WORDS, heard).await;
    }
}

/// Why a call has failed: one sentence.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Trouble {
    sentence: String,
    /// Whether it is the way things go, and no matter for a log: a coordinator that is about to be started again.
    pub(super) is_usual: bool,
}

impl fmt::Display for Trouble {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.sentence)
    }
}

impl Trouble {
    fn new(sentence: String) -> Self {
        Self { sentence, is_usual: false }
    }

    fn usual(sentence: String) -> Self {
        Self { sentence, is_usual: true }
    }
}

impl Target {
    /// Refuses what cannot be dialled whatever the files hold.
    pub(super) fn check(&self) -> Result<(), String> {
        match &self.address {
            Address::Url(url) => self.check_url(url),
            Address::File(_) => Ok(()),
        }
    }

    fn check_url(&self, url: &str) -> Result<(), String> {
        let is_secure = url.starts_with("https://");
        if !is_secure && !url.starts_with("http://") {
            return Err(format!(
                "the coordinator \"{url}\" is no URL; write https://HOST:PORT, or http:// on loopback"
            ));
        }
        match (is_secure, &self.authority, &self.token) {
            (true, None, _) => Err(format!("{url} needs --ca FILE, the authority that has signed its certificate")),
            (false, Some(_), _) => Err(format!("--ca has no use with {url}; write https:// or leave --ca out")),
            (false, _, Some(_)) => {
                Err(format!("a token is not shown in clear to {url}; write https:// or leave --token-file out"))
            }
            _ => Ok(()),
        }
    }

    fn url(&self) -> Result<String, Trouble> {
        match &self.address {
            Address::Url(url) => Ok(url.clone()),
            Address::File(path) => match std::fs::read_to_string(path) {
                Ok(text) => Ok(text.trim().to_owned()),
                Err(error) => Err(Trouble::usual(format!("cannot read {}: {error}", path.display()))),
            },
        }
    }

    /// Dials, says hello with the call, and waits until that is answered.
    pub(super) async fn call(&self, hello: Report) -> Result<Link, Trouble> {
        let url = self.url()?;
        self.check_url(&url).map_err(Trouble::new)?;
        let (reports, receiver) = mpsc::channel(REPORTS);
        // There is room for it.
        let _ = reports.try_send(hello);
        let mut request = Request::new(ReceiverStream::new(receiver));
        if let Some(path) = &self.token {
            request.metadata_mut().insert("authorization", read_token(path)?);
        }
        let unreachable = |error: &dyn std::error::Error| self.unreachable(&url, error);
        let mut endpoint = Endpoint::from_shared(url.clone()).map_err(|error| unreachable(&error))?;
        if let Some(path) = &self.authority {
            let certificate = Certificate::from_pem(read(path, "--ca", "mount the operator's authority there")?);
            let tls = ClientTlsConfig::new().ca_certificate(certificate);
            endpoint = endpoint.tls_config(tls).map_err(|error| {
                let chain = chain(&error);
                Trouble::new(format!("--ca {}: {chain}; it has to hold certificates as PEM", path.display()))
            })?;
        }
        let endpoint = endpoint
            .connect_timeout(PATIENCE)
            .http2_keep_alive_interval(KEEP_ALIVE)
            .keep_alive_timeout(KEEP_ALIVE)
            .keep_alive_while_idle(true);
        let channel = endpoint.connect().await.map_err(|error| unreachable(&error))?;
        let mut client = ControlClient::new(channel);
        let answered = tokio::time::timeout(PATIENCE, client.attach(request)).await;
        let answered = answered.map_err(|_| Trouble::usual(format!("{url} does not answer")))?;
        let commands = answered.map_err(|status| self.refused(&url, &status))?.into_inner();
        Ok(Link { reports, commands })
    }

    fn unreachable(&self, url: &str, error: &dyn std::error::Error) -> Trouble {
        let chain = chain(error);
        match &self.authority {
            Some(path) if chain.contains("invalid peer certificate") => Trouble::new(format!(
                "{url} shows a certificate that --ca {} does not vouch for ({chain}); give the authority of that operator",
                path.display()
            )),
            Some(_) => {
                Trouble::new(format!("cannot reach {url}: {chain}; see that the operator runs and may be reached"))
            }
            None => Trouble::usual(format!("cannot reach {url}: {chain}")),
        }
    }

    fn refused(&self, url: &str, status: &Status) -> Trouble {
        let why = status.message();
        let token = match &self.token {
            Some(path) => format!("the token in --token-file {}", path.display()),
            None => "a worker without --token-file".to_owned(),
        };
        match status.code() {
            Code::Unauthenticated => Trouble::new(format!(
                "{url} does not accept {token}: {why}; give a token of this pod's service account for the audience palimpsest.dev"
            )),
            Code::PermissionDenied => {
                Trouble::new(format!("{url} has no work for {token}: {why}; let the operator make its pods"))
            }
            // Replicas that do not coordinate say so: the next call may reach the one that does.
            Code::FailedPrecondition => Trouble::usual(format!("{url} does not coordinate: {why}")),
            _ => Trouble::usual(format!("{url} cannot take this worker now: {why}")),
        }
    }
}

fn read(path: &Path, option: &str, remedy: &str) -> Result<Vec<u8>, Trouble> {
    std::fs::read(path)
        .map_err(|error| Trouble::new(format!("{option} {}: it cannot be read ({error}); {remedy}", path.display())))
}

fn read_token(path: &Path) -> Result<MetadataValue<Ascii>, Trouble> {
    let remedy = "mount a projected service-account token there";
    let bytes = read(path, "--token-file", remedy)?;
    let token = bytes.trim_ascii();
    let value = [b"Bearer ", token].concat();
    match MetadataValue::try_from(value.as_slice()) {
        Ok(mut value) if !token.is_empty() => {
            value.set_sensitive(true);
            Ok(value)
        }
        _ => Err(Trouble::new(format!("--token-file {}: it holds no token; {remedy}", path.display()))),
    }
}

/// An error and what lies behind it, in one line.
fn chain(error: &dyn std::error::Error) -> String {
    let mut parts: Vec<String> = Vec::new();
    let mut next = Some(error);
    while let Some(error) = next {
        let part = error.to_string();
        if parts.last() != Some(&part) {
            parts.push(part);
        }
        next = error.source();
    }
    parts.join(": ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(url: &str, has_authority: bool, has_token: bool, wanted: Result<(), &str>) {
        let file = |is_there: bool| is_there.then(|| PathBuf::from("file"));
        let address = Address::Url(url.to_owned());
        let target = Target { address, authority: file(has_authority), token: file(has_token) };
        match (target.check(), wanted) {
            (Ok(()), Ok(())) => {}
            (Err(sentence), Err(part)) => assert!(sentence.contains(part), "{sentence}"),
            (got, wanted) => panic!("{url}: {got:?}, not {wanted:?}"),
        }
    }

    #[test]
    fn a_token_is_shown_over_tls_alone() {
        check("http://127.0.0.1:1", false, false, Ok(()));
        check("https://operator:1", true, true, Ok(()));
        check("https://operator:1", true, false, Ok(()));
        check("https://operator:1", false, true, Err("needs --ca FILE"));
        check("http://127.0.0.1:1", false, true, Err("not shown in clear"));
        check("http://127.0.0.1:1", true, false, Err("--ca has no use"));
        check("operator:1", true, true, Err("is no URL"));
    }

    #[test]
    fn a_token_is_read_without_its_line_end() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("token");
        let shown = |text: &str| {
            std::fs::write(&path, text).unwrap();
            read_token(&path).map(|value| value.to_str().unwrap().to_owned()).map_err(|trouble| trouble.to_string())
        };
        assert_eq!(shown("abc.def\n").as_deref(), Ok("Bearer abc.def"));
        for unfit in ["", "\n", "one\ntwo"] {
            assert!(shown(unfit).unwrap_err().contains("it holds no token"), "{unfit:?}");
        }
        std::fs::remove_file(&path).unwrap();
        assert!(read_token(&path).unwrap_err().to_string().contains("--token-file"));
    }
}
