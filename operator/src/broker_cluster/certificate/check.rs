//! What is in a certificate and its private key, and whether brokers could use them. Pure. Errors name what is wrong and
//! never show a key.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::sync::Arc;

use rustls::sign::CertifiedKey;
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use x509_cert::Certificate;
use x509_cert::der::{Decode as _, Encode as _};
use x509_cert::ext::pkix::name::GeneralName;
use x509_cert::ext::pkix::{BasicConstraints, SubjectAltName};
use x509_cert::time::Time;

use super::names::normal;

/// What is known of the first certificate of a chain.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Leaf {
    /// Its names and addresses.
    pub names: BTreeSet<String>,
    /// When it begins, in seconds of Unix time.
    pub not_before_s: i64,
    /// When it ends.
    pub not_after_s: i64,
    /// Who signed it, as encoded.
    pub issuer: Vec<u8>,
    /// Whose it is, as encoded.
    pub subject: Vec<u8>,
    /// Whether it may sign others.
    pub is_authority: bool,
}

/// Why brokers cannot use what is in a Secret.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Flaw {
    /// A key of the Secret is not there, or empty.
    #[error("it has no {0}; a Secret of type kubernetes.io/tls has tls.crt and tls.key")]
    Absent(&'static str),
    /// No PEM, or no certificate in it.
    #[error(
        "tls.crt holds no certificate that can be read ({0}); it has to be PEM, the certificate of the brokers first"
    )]
    Chain(String),
    /// No private key.
    #[error(
        "tls.key holds no private key that can be read; it has to be one key as PEM, without a password"
    )]
    Key,
    /// Of two different pairs.
    #[error("tls.key is not the private key of the first certificate in tls.crt")]
    Mismatch,
}

impl Flaw {
    /// One word for programs.
    #[must_use]
    pub fn word(&self) -> &'static str {
        match self {
            Self::Absent(_) => "CertificateIncomplete",
            Self::Chain(_) | Self::Key => "CertificateUnreadable",
            Self::Mismatch => "CertificateMismatch",
        }
    }
}

/// Looks at what a Secret holds.
///
/// # Errors
/// [`Flaw`].
pub fn secret(chain: Option<&[u8]>, key: Option<&[u8]>) -> Result<Leaf, Flaw> {
    let chain = chain.ok_or(Flaw::Absent(super::CHAIN_KEY))?;
    let key = key.ok_or(Flaw::Absent(super::PRIVATE_KEY))?;
    let chain: Vec<_> = CertificateDer::pem_slice_iter(chain)
        .collect::<Result<_, _>>()
        .map_err(|error| Flaw::Chain(error.to_string()))?;
    let first = chain.first().ok_or_else(|| Flaw::Chain("no certificate in it".to_owned()))?;
    let leaf = read(first).map_err(Flaw::Chain)?;
    // Its errors may show what was read: they are not passed on.
    let key = PrivateKeyDer::from_pem_slice(key).map_err(|_| Flaw::Key)?;
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    match CertifiedKey::from_der(chain, key, &provider) {
        Ok(_) => Ok(leaf),
        Err(rustls::Error::InconsistentKeys(_)) => Err(Flaw::Mismatch),
        Err(rustls::Error::InvalidCertificate(error)) => Err(Flaw::Chain(format!("{error:?}"))),
        Err(_) => Err(Flaw::Key),
    }
}

fn read(certificate: &CertificateDer<'_>) -> Result<Leaf, String> {
    let text = |error: x509_cert::der::Error| error.to_string();
    let parsed = Certificate::from_der(certificate).map_err(text)?.tbs_certificate;
    let names = parsed.get::<SubjectAltName>().map_err(text)?;
    let name = |name: &GeneralName| match name {
        GeneralName::DnsName(host) => Some(normal(host.as_str())),
        GeneralName::IpAddress(bytes) => address(bytes.as_bytes()).map(|ip| ip.to_string()),
        _ => None,
    };
    let constraints = parsed.get::<BasicConstraints>().map_err(text)?;
    let unix_s = |time: Time| i64::try_from(time.to_unix_duration().as_secs()).unwrap_or(i64::MAX);
    Ok(Leaf {
        names: names.iter().flat_map(|(_, names)| &names.0).filter_map(name).collect(),
        not_before_s: unix_s(parsed.validity.not_before),
        not_after_s: unix_s(parsed.validity.not_after),
        issuer: parsed.issuer.to_der().map_err(text)?,
        subject: parsed.subject.to_der().map_err(text)?,
        is_authority: constraints.is_some_and(|(_, constraints)| constraints.ca),
    })
}

fn address(bytes: &[u8]) -> Option<IpAddr> {
    let v4 = <[u8; 4]>::try_from(bytes).map(IpAddr::from);
    v4.or_else(|_| <[u8; 16]>::try_from(bytes).map(IpAddr::from)).ok()
}
