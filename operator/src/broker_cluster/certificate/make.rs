//! Makes the authority of a cluster and certificates that it signs. Pure but for the randomness of keys; the time is an
//! argument.

use std::collections::BTreeSet;
use std::fmt;

use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa,
    Issuer, KeyPair, KeyUsagePurpose, SerialNumber,
};
use time::OffsetDateTime;

use super::check::{self, Leaf};
use crate::broker_cluster::validate::ValidCluster;

const DAY_S: i64 = 86_400;
/// How long an authority is valid.
const AUTHORITY_VALID_S: i64 = 3_650 * DAY_S;
/// An authority gets a new certificate, of the same key and name, when it is valid for no longer than this: clients that
/// trust the earlier one have so long to take the new one.
const AUTHORITY_RENEWED_BEFORE_S: i64 = 2 * 365 * DAY_S;
/// How long a certificate of brokers is valid; it is made anew when a third of that is left.
const LEAF_VALID_S: i64 = 365 * DAY_S;
/// How far the clock of a client may be behind.
const CLOCK_SKEW_S: i64 = 3_600;
/// Bytes of a public key that stand in the name of its authority, so that no two have the same name.
const NAME_KEY_BYTES: usize = 16;

/// A certificate and its private key, both PEM.
pub struct Pair {
    /// The certificate.
    pub chain: String,
    /// The private key.
    pub key: String,
}

impl fmt::Debug for Pair {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Pair")
    }
}

/// An authority that can sign.
pub struct Authority {
    pair: Pair,
    key: KeyPair,
    leaf: Leaf,
}

impl fmt::Debug for Authority {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Authority").field("certificate", &self.leaf).finish_non_exhaustive()
    }
}

impl Authority {
    /// Reads what [`authority`] made; none when it is anything else.
    #[must_use]
    pub fn read(chain: &[u8], key: &[u8]) -> Option<Self> {
        let leaf = check::secret(Some(chain), Some(key)).ok().filter(|leaf| leaf.is_authority)?;
        let (chain, key) = (std::str::from_utf8(chain).ok()?, std::str::from_utf8(key).ok()?);
        let pair = Pair { chain: chain.to_owned(), key: key.to_owned() };
        let key = KeyPair::from_pem(&pair.key).ok()?;
        Some(Self { pair, key, leaf })
    }

    /// What is to be kept.
    #[must_use]
    pub fn pair(&self) -> &Pair {
        &self.pair
    }

    /// What clients are to trust.
    #[must_use]
    pub fn pem(&self) -> &str {
        &self.pair.chain
    }

    /// Whether its certificate is to be made anew.
    #[must_use]
    pub fn is_due(&self, now_s: i64) -> bool {
        self.leaf.not_after_s - now_s < AUTHORITY_RENEWED_BEFORE_S
    }

    /// Whether a certificate is signed by this authority, by the name that holds a part of its key.
    #[must_use]
    pub fn signed(&self, leaf: &Leaf) -> bool {
        leaf.issuer == self.leaf.subject
    }
}

/// Whether a certificate is to be made anew.
#[must_use]
pub fn is_due(leaf: &Leaf, now_s: i64) -> bool {
    leaf.not_after_s - now_s < (leaf.not_after_s - leaf.not_before_s) / 3
}

fn time(unix_s: i64) -> Result<OffsetDateTime, String> {
    OffsetDateTime::from_unix_timestamp(unix_s).map_err(|error| error.to_string())
}

fn named(valid: &ValidCluster, common: String) -> DistinguishedName {
    let mut name = DistinguishedName::new();
    name.push(DnType::OrganizationName, valid.key.namespace.clone());
    name.push(DnType::OrganizationalUnitName, valid.key.name.clone());
    name.push(DnType::CommonName, common);
    name
}

fn authority_params(
    valid: &ValidCluster,
    key: &KeyPair,
    now_s: i64,
) -> Result<CertificateParams, String> {
    let begin = key.public_key_raw().iter().skip(1).take(NAME_KEY_BYTES);
    let begin: String = begin.map(|byte| format!("{byte:02x}")).collect();
    let mut params = CertificateParams::default();
    params.distinguished_name = named(valid, format!("Pinnace authority {begin}"));
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    params.not_before = time(now_s - CLOCK_SKEW_S)?;
    params.not_after = time(now_s + AUTHORITY_VALID_S)?;
    // Two certificates of one key must not have the same number.
    params.serial_number = Some(SerialNumber::from(now_s.unsigned_abs()));
    Ok(params)
}

/// Makes an authority, with the key of the one before if there is one: what that one signed stays valid, and who trusts it
/// trusts what comes.
///
/// # Errors
/// What the library says; never a key.
pub fn authority(
    valid: &ValidCluster,
    before: Option<Authority>,
    now_s: i64,
) -> Result<Authority, String> {
    let key = match before {
        Some(before) => before.key,
        None => KeyPair::generate().map_err(|error| error.to_string())?,
    };
    let params = authority_params(valid, &key, now_s)?;
    let made = params.self_signed(&key).map_err(|error| error.to_string())?;
    let (chain, key) = (made.pem(), key.serialize_pem());
    let read = Authority::read(chain.as_bytes(), key.as_bytes());
    read.ok_or_else(|| "the new authority cannot be read".to_owned())
}

/// Makes a certificate of brokers, with a key of its own.
///
/// # Errors
/// What the library says; never a key.
pub fn leaf(
    valid: &ValidCluster,
    authority: &Authority,
    names: &BTreeSet<String>,
    now_s: i64,
) -> Result<Pair, String> {
    let text = |error: rcgen::Error| error.to_string();
    let key = KeyPair::generate().map_err(text)?;
    let names: Vec<String> = names.iter().cloned().collect();
    let mut params = CertificateParams::new(names).map_err(text)?;
    params.distinguished_name = named(valid, "Pinnace broker".to_owned());
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    params.use_authority_key_identifier_extension = true;
    params.not_before = time(now_s - CLOCK_SKEW_S)?;
    params.not_after = time((now_s + LEAF_VALID_S).min(authority.leaf.not_after_s))?;
    let issuer = authority_params(valid, &authority.key, now_s)?;
    let issuer = Issuer::from_params(&issuer, &authority.key);
    let made = params.signed_by(&key, &issuer).map_err(text)?;
    Ok(Pair { chain: made.pem(), key: key.serialize_pem() })
}
