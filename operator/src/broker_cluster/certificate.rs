//! The certificate that brokers present: read from a Secret that people or cert-manager fill, or made here, once, with an
//! authority of the cluster's own. Private keys go into Secrets and nowhere else: no log line, error or status holds one.

pub mod check;
pub mod issuer;
pub mod make;
pub mod names;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::{ConfigMap, Secret};
use k8s_openapi::jiff::Timestamp;
use kube::api::{Api, ObjectMeta};
use operator_api::broker_cluster::{CertificateStatus, IssuerReference};
use operator_api::condition::{Finding, Truth};

use super::apply::apply_untold;
use super::fetch::{Observed, is_left_behind, is_owned};
use super::halt::Halt;
use super::validate::ValidCluster;
use crate::context::Context;
use crate::error::Error;
use crate::verdict::{Reason, Verdict};
use check::Leaf;
use make::{Authority, Pair};

/// Key of the certificate chain in a Secret.
pub const CHAIN_KEY: &str = "tls.crt";
/// Key of the private key in a Secret.
pub const PRIVATE_KEY: &str = "tls.key";
/// Key of the authority in Secrets and in the ConfigMap for clients.
pub const AUTHORITY_KEY: &str = "ca.crt";
/// Condition: what is known of the certificate.
const CONDITION: &str = "CertificateReady";
/// Secrets are not watched, so that the operator needs no list of all of them: this is how often they are read.
const LOOK_AGAIN: Duration = Duration::from_secs(30);
/// How often a Secret is looked for that brokers wait for.
const LOOK_FOR_MISSING: Duration = Duration::from_secs(5);

/// Where the certificate comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Source<'a> {
    /// Made here.
    SelfMade,
    /// From this Secret.
    Secret(&'a str),
    /// From cert-manager.
    Issuer(&'a IssuerReference),
}

/// Where the certificate of a cluster comes from.
#[must_use]
pub fn source(valid: &ValidCluster) -> Source<'_> {
    let tls = valid.spec.tls.as_ref();
    let secret = tls.and_then(|tls| tls.secret_name.as_deref());
    let issuer = tls.and_then(|tls| tls.issuer_ref.as_ref());
    match (secret, issuer) {
        (Some(secret), _) => Source::Secret(secret),
        (None, Some(issuer)) => Source::Issuer(issuer),
        (None, None) => Source::SelfMade,
    }
}

/// The Secret that brokers mount.
#[must_use]
pub fn secret_name(valid: &ValidCluster) -> String {
    match source(valid) {
        Source::SelfMade => valid.key.tls_secret(),
        Source::Secret(name) => name.to_owned(),
        Source::Issuer(_) => valid.key.issued_tls_secret(),
    }
}

/// What became of the certificate.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Certificate {
    /// Why there is none that brokers could start with.
    pub trouble: Option<Verdict>,
    /// What is known of the one that there is.
    pub status: Option<CertificateStatus>,
    /// The condition.
    pub finding: Option<Finding>,
    /// When to look again.
    pub again_after: Option<Duration>,
}

impl Certificate {
    fn missing(trouble: Verdict) -> Self {
        let Reason { word, message } = trouble.reason().clone();
        let finding = Finding { type_: CONDITION, status: Truth::False, reason: word, message };
        let again_after = Some(LOOK_FOR_MISSING);
        Self { trouble: Some(trouble), status: None, finding: Some(finding), again_after }
    }

    fn found(
        valid: &ValidCluster,
        word: &'static str,
        leaf: &Leaf,
        is_trusted: bool,
        now_s: i64,
    ) -> Self {
        let secret_name = secret_name(valid);
        let not_after = time_text(leaf.not_after_s);
        let authority = is_trusted.then(|| valid.key.authority());
        let trust = authority.as_ref().map_or_else(
            || format!("the Secret has no {AUTHORITY_KEY} that clients could be given"),
            |name| {
                format!("clients find its authority in the ConfigMap {name}, key {AUTHORITY_KEY}")
            },
        );
        let (status, reason, message) = if leaf.not_after_s <= now_s {
            let message = format!(
                "the certificate in the Secret {secret_name} ended at {not_after}; brokers present it, and clients that check \
                 it refuse it: put a new one into the Secret"
            );
            (Truth::False, "CertificateExpired", message)
        } else {
            let message = format!(
                "the certificate in the Secret {secret_name} is valid until {not_after}; {trust}"
            );
            (Truth::True, word, message)
        };
        Self {
            trouble: None,
            status: Some(CertificateStatus { secret_name, not_after, authority }),
            finding: Some(Finding { type_: CONDITION, status, reason, message }),
            again_after: Some(LOOK_AGAIN),
        }
    }
}

fn time_text(unix_s: i64) -> String {
    let time = Timestamp::from_second(unix_s).unwrap_or(Timestamp::MAX);
    time.strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
}

/// Sees to the certificate: makes, renews or reads it, and tells clients its authority. `assigned` are addresses that the
/// cluster got from outside, of load balancers.
///
/// # Errors
/// What is worth another attempt by itself.
pub async fn settle(
    observed: &Observed,
    valid: &ValidCluster,
    assigned: &BTreeSet<String>,
    context: &Context,
) -> Result<Certificate, Error> {
    match Box::pin(see_to(observed, valid, assigned, context)).await {
        Ok(certificate) => Ok(certificate),
        Err(halt) => Ok(Certificate::missing(halt.verdict()?)),
    }
}

async fn see_to(
    observed: &Observed,
    valid: &ValidCluster,
    assigned: &BTreeSet<String>,
    context: &Context,
) -> Result<Certificate, Halt> {
    let names = names::names(valid, &context.settings.cluster_domain, assigned);
    let now_s = Timestamp::now().as_second();
    let source = source(valid);
    if !matches!(source, Source::Issuer(_)) {
        issuer::take_away(observed, valid, context).await?;
    }
    match source {
        Source::SelfMade => self_made(observed, valid, &names, now_s, context).await,
        Source::Secret(name) => given(observed, valid, name, "FromSecret", now_s, context).await,
        Source::Issuer(issuer) => {
            issuer::ask(observed, valid, issuer, &names, context).await?;
            let name = valid.key.issued_tls_secret();
            given(observed, valid, &name, "Issued", now_s, context).await
        }
    }
}

async fn read(observed: &Observed, name: &str, context: &Context) -> Result<Option<Secret>, Error> {
    let api: Api<Secret> = Api::namespaced(context.client.clone(), &observed.key.namespace);
    api.get_opt(name).await.map_err(|source| Error::Fetch {
        what: format!("the Secret {}/{name}", observed.key.namespace),
        source: Box::new(source),
    })
}

fn part<'a>(secret: &'a Secret, key: &str) -> Option<&'a [u8]> {
    let part = secret.data.as_ref()?.get(key)?;
    (!part.0.is_empty()).then_some(part.0.as_slice())
}

/// A certificate that somebody else puts into a Secret.
async fn given(
    observed: &Observed,
    valid: &ValidCluster,
    name: &str,
    word: &'static str,
    now_s: i64,
    context: &Context,
) -> Result<Certificate, Halt> {
    let Some(secret) = read(observed, name, context).await? else {
        let verdict = match source(valid) {
            Source::Issuer(issuer) => issuer::not_issued(observed, valid, issuer, context).await?,
            _ => {
                let message = format!(
                    "waits for the Secret {name} with {CHAIN_KEY} and {PRIVATE_KEY}, which spec.tls.secretName names: it is \
                     not there; brokers that run stay as they are"
                );
                Verdict::waiting("CertificateMissing", message)
            }
        };
        return Err(verdict.into());
    };
    let leaf = match check::secret(part(&secret, CHAIN_KEY), part(&secret, PRIVATE_KEY)) {
        Ok(leaf) => leaf,
        Err(flaw) => {
            let message = format!("the Secret {name} cannot be used: {flaw}");
            return Err(Verdict::stalled(flaw.word(), message).into());
        }
    };
    let authority = part(&secret, AUTHORITY_KEY).and_then(|pem| std::str::from_utf8(pem).ok());
    tell_authority(observed, valid, authority, context).await?;
    Ok(Certificate::found(valid, word, &leaf, authority.is_some(), now_s))
}

/// The certificate that is made here: the one in the Secret for as long as it is good.
async fn self_made(
    observed: &Observed,
    valid: &ValidCluster,
    names: &BTreeSet<String>,
    now_s: i64,
    context: &Context,
) -> Result<Certificate, Halt> {
    let (authority_name, leaf_name) = (valid.key.authority(), valid.key.tls_secret());
    let found = read(observed, &authority_name, context).await?;
    // One that was restored without its owner is taken over: clients trust it.
    let before = found.as_ref().filter(|secret| {
        is_ours(secret, observed) || is_left_behind(&secret.metadata, &observed.key)
    });
    let before = before.and_then(|s| Some((part(s, CHAIN_KEY)?, part(s, PRIVATE_KEY)?)));
    let before = before.and_then(|(chain, key)| Authority::read(chain, key));
    let (authority, is_kept) = match before {
        Some(authority) if !authority.is_due(now_s) => {
            (authority, found.as_ref().is_some_and(|secret| is_ours(secret, observed)))
        }
        before => (make::authority(valid, before, now_s).map_err(cannot_make)?, false),
    };
    if !is_kept {
        let secret = secret(valid, &authority_name, authority.pair(), authority.pem());
        apply_untold(observed, &secret, context).await?;
    }
    let found = read(observed, &leaf_name, context).await?;
    let before = found.as_ref().filter(|secret| is_ours(secret, observed)).and_then(|secret| {
        let leaf = check::secret(part(secret, CHAIN_KEY), part(secret, PRIVATE_KEY)).ok()?;
        let trusts = part(secret, AUTHORITY_KEY) == Some(authority.pem().as_bytes());
        (trusts && authority.signed(&leaf) && leaf.names == *names && !make::is_due(&leaf, now_s))
            .then_some(leaf)
    });
    let leaf = match before {
        Some(leaf) => leaf,
        None => {
            let pair = make::leaf(valid, &authority, names, now_s).map_err(cannot_make)?;
            let secret = secret(valid, &leaf_name, &pair, authority.pem());
            apply_untold(observed, &secret, context).await?;
            let made = check::secret(Some(pair.chain.as_bytes()), Some(pair.key.as_bytes()));
            made.map_err(|flaw| cannot_make(flaw.to_string()))?
        }
    };
    tell_authority(observed, valid, Some(authority.pem()), context).await?;
    Ok(Certificate::found(valid, "SelfMade", &leaf, true, now_s))
}

fn cannot_make(reason: String) -> Error {
    Error::Certificate(reason)
}

/// What somebody else keeps under our name is not read: writing it is refused with the name of the object.
fn is_ours(secret: &Secret, observed: &Observed) -> bool {
    is_owned(&secret.metadata, &observed.cluster)
}

fn metadata(valid: &ValidCluster, name: &str) -> ObjectMeta {
    ObjectMeta {
        name: Some(name.to_owned()),
        namespace: Some(valid.key.namespace.clone()),
        labels: Some(valid.key.labels()),
        owner_references: Some(vec![valid.owner.clone()]),
        ..ObjectMeta::default()
    }
}

fn secret(valid: &ValidCluster, name: &str, pair: &Pair, authority: &str) -> Secret {
    let entry = |key: &str, text: &str| (key.to_owned(), ByteString(text.as_bytes().to_vec()));
    Secret {
        metadata: metadata(valid, name),
        type_: Some("kubernetes.io/tls".to_owned()),
        data: Some(BTreeMap::from([
            entry(CHAIN_KEY, &pair.chain),
            entry(PRIVATE_KEY, &pair.key),
            entry(AUTHORITY_KEY, authority),
        ])),
        ..Secret::default()
    }
}

/// Puts the authority where every client may read it. Without one, an earlier one is taken away.
async fn tell_authority(
    observed: &Observed,
    valid: &ValidCluster,
    authority: Option<&str>,
    context: &Context,
) -> Result<(), Halt> {
    let name = valid.key.authority();
    let api: Api<ConfigMap> = Api::namespaced(context.client.clone(), &observed.key.namespace);
    let live = api.get_opt(&name).await.map_err(|source| Error::Fetch {
        what: format!("the ConfigMap {}/{name}", observed.key.namespace),
        source: Box::new(source),
    })?;
    let data = authority.map(|pem| BTreeMap::from([(AUTHORITY_KEY.to_owned(), pem.to_owned())]));
    let is_same = match &live {
        None => data.is_none(),
        Some(live) => {
            let told = live.data.as_ref().and_then(|data| data.get(AUTHORITY_KEY));
            told.map(String::as_str) == authority && is_owned(&live.metadata, &observed.cluster)
        }
    };
    // Without an authority, somebody else's object of this name is nobody's trouble.
    let is_other =
        || live.as_ref().is_some_and(|live| !is_owned(&live.metadata, &observed.cluster));
    if is_same || (authority.is_none() && is_other()) {
        return Ok(());
    }
    let map = ConfigMap { metadata: metadata(valid, &name), data, ..ConfigMap::default() };
    apply_untold(observed, &map, context).await
}

#[cfg(test)]
mod tests;
