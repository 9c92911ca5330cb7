//! Certificates.

use std::path::Path;
use std::sync::Arc;

use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::crypto::ring;
use tonic::transport::Identity;

use crate::config::TlsFiles;
use crate::error::{Error, Result};

/// A certificate and its key, for both of the servers.
pub(crate) struct Certificate {
    certificate: Vec<u8>,
    key: Vec<u8>,
    acceptor: TlsAcceptor,
}

impl Certificate {
    /// Reads and checks them.
    pub(crate) fn read(files: &TlsFiles) -> Result<Self> {
        let certificate = read(&files.certificate)?;
        let key = read(&files.key)?;
        let chain: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&certificate).collect();
        let chain = chain.map_err(|error| Error::malformed(&files.certificate, error))?;
        if chain.is_empty() {
            return Err(Error::malformed(&files.certificate, "there is no certificate in it"));
        }
        let private = PrivateKeyDer::from_pem_slice(&key).map_err(|error| Error::malformed(&files.key, error))?;
        let mut config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()
            .map_err(|error| Error::malformed(&files.certificate, error))?
            .with_no_client_auth()
            .with_single_cert(chain, private)
            .map_err(|error| Error::malformed(&files.certificate, error))?;
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        Ok(Self { certificate, key, acceptor: TlsAcceptor::from(Arc::new(config)) })
    }

    pub(crate) fn acceptor(&self) -> TlsAcceptor {
        self.acceptor.clone()
    }

    pub(crate) fn identity(&self) -> Identity {
        Identity::from_pem(&self.certificate, &self.key)
    }
}

fn read(path: &Path) -> Result<Vec<u8>> {
    std::fs::read(path).map_err(Error::read(path))
}
