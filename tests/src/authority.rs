//! A certificate authority, and the certificates that it signs for an operator on loopback.

use palimpsest_control::Identity;
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};

/// A certificate authority.
#[derive(Debug)]
pub struct Authority(CertifiedIssuer<'static, KeyPair>);

impl Authority {
    /// A new one, which nobody trusts yet.
    #[allow(clippy::new_without_default, reason = "each is another")]
    pub fn new() -> Self {
        let mut params = CertificateParams::new(Vec::new()).unwrap_or_else(|error| panic!("{error}"));
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        Self(CertifiedIssuer::self_signed(params, mk_key()).unwrap_or_else(|error| panic!("{error}")))
    }

    /// Its own certificate.
    pub fn pem(&self) -> String {
        self.0.pem()
    }

    /// A certificate for 127.0.0.1, with its key.
    pub fn identity(&self) -> Identity {
        self.sign(2100)
    }

    /// One that has expired.
    pub fn expired_identity(&self) -> Identity {
        self.sign(2001)
    }

    fn sign(&self, until: i32) -> Identity {
        let mut params = CertificateParams::new(vec!["127.0.0.1".to_owned()]).unwrap_or_else(|error| panic!("{error}"));
        params.not_before = rcgen::date_time_ymd(2000, 1, 1);
        params.not_after = rcgen::date_time_ymd(until, 1, 1);
        let key = mk_key();
        let certificate = params.signed_by(&key, &self.0).unwrap_or_else(|error| panic!("{error}"));
        Identity::from_pem(certificate.pem(), key.serialize_pem())
    }
}

fn mk_key() -> KeyPair {
    KeyPair::generate().unwrap_or_else(|error| panic!("{error}"))
}
