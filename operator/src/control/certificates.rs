//! The operator's own certificate authority. Its key lies in a Secret beside the operator and nowhere else; its certificate
//! goes into the ConfigMap of each job, so that agents know whom they dial.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result, bail};
use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::Secret;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::api::PostParams;
use kube::{Api, Client};
use palimpsest_control::Identity;
use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair, KeyUsagePurpose, date_time_ymd};

/// The Secret, in the operator's own namespace.
const SECRET: &str = "palimpsest-operator-ca";

/// The Secret's keys, as Kubernetes' own kind of such Secrets has them.
const CERTIFICATE: &str = "tls.crt";
const KEY: &str = "tls.key";

/// Who vouches for whom. A running agent trusts the certificate that it was started with, so that it is not renewed while the
/// Secret is there.
#[derive(Debug)]
pub(crate) struct Authority {
    certificate: String,
    key: String,
}

impl Authority {
    /// Finds the authority of this installation, or founds it. Of replicas that found one at once, one is found by all.
    pub(crate) async fn find_or_found(client: Client, namespace: &str) -> Result<Self> {
        let api: Api<Secret> = Api::namespaced(client, namespace);
        loop {
            let found =
                api.get_opt(SECRET).await.with_context(|| format!("cannot read the Secret {namespace}/{SECRET}"))?;
            if let Some(secret) = found {
                return Self::of(&secret).with_context(|| format!("the Secret {namespace}/{SECRET} is of no use"));
            }
            let secret = Self::found()?.secret();
            match api.create(&PostParams::default(), &secret).await {
                Ok(_) => {}
                Err(kube::Error::Api(status)) if status.code == 409 => {}
                Err(error) => {
                    return Err(error).with_context(|| format!("cannot write the Secret {namespace}/{SECRET}"));
                }
            }
        }
    }

    fn found() -> Result<Self> {
        let key = KeyPair::generate().context("cannot make a key")?;
        let certificate = parameters()?.self_signed(&key).context("cannot make a certificate")?;
        Ok(Self { certificate: certificate.pem(), key: key.serialize_pem() })
    }

    fn of(secret: &Secret) -> Result<Self> {
        let text = |key: &str| {
            let bytes = secret.data.as_ref().and_then(|data| data.get(key));
            bytes.and_then(|bytes| String::from_utf8(bytes.0.clone()).ok())
        };
        let (Some(certificate), Some(key)) = (text(CERTIFICATE), text(KEY)) else {
            bail!(
                "it lacks {CERTIFICATE} or {KEY}; delete it to have it made anew, and the pods of jobs to have them read it"
            );
        };
        Ok(Self { certificate, key })
    }

    fn secret(&self) -> Secret {
        let bytes = |text: &str| ByteString(text.as_bytes().to_vec());
        Secret {
            metadata: ObjectMeta { name: Some(SECRET.to_owned()), ..ObjectMeta::default() },
            type_: Some("kubernetes.io/tls".to_owned()),
            data: Some([(CERTIFICATE.to_owned(), bytes(&self.certificate)), (KEY.to_owned(), bytes(&self.key))].into()),
            ..Secret::default()
        }
    }

    /// The certificate that agents trust, as PEM.
    pub(crate) fn certificate(&self) -> &str {
        &self.certificate
    }

    /// A certificate for whoever serves agents at `host`, valid for so long from now.
    pub(crate) fn identity(&self, host: &str, lifetime: Duration) -> Result<Identity> {
        let issuer = KeyPair::from_pem(&self.key).context("the authority's key cannot be read")?;
        let issuer = Issuer::new(parameters()?, issuer);
        let key = KeyPair::generate().context("cannot make a key")?;
        let mut leaf = CertificateParams::new(vec![host.to_owned()]).with_context(|| format!("{host} is no host"))?;
        leaf.distinguished_name.push(DnType::CommonName, host);
        let now = SystemTime::now().duration_since(UNIX_EPOCH).context("the clock is before 1970")?;
        leaf.not_after = parameters()?.not_after.min(date_time_ymd(1970, 1, 1) + now + lifetime);
        leaf.use_authority_key_identifier_extension = true;
        let certificate = leaf.signed_by(&key, &issuer).context("cannot make a certificate")?;
        Ok(Identity::from_pem(certificate.pem(), key.serialize_pem()))
    }
}

/// What the authority's certificate says. All of it but the key is fixed, so that the key is enough to sign in its name.
fn parameters() -> Result<CertificateParams> {
    let mut parameters = CertificateParams::new(Vec::new()).context("cannot make a certificate")?;
    parameters.distinguished_name.push(DnType::CommonName, "palimpsest-operator");
    parameters.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    parameters.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    parameters.not_after = date_time_ymd(2050, 1, 1);
    Ok(parameters)
}
