//! A certificate from cert-manager: its Certificate object is made, told of and taken away here. The kind is plain data, so
//! that nothing of cert-manager has to be there where nobody asks for it.

use std::collections::BTreeSet;
use std::net::IpAddr;

use kube::api::{Api, ApiResource, DeleteParams, DynamicObject, Patch, PatchParams, Preconditions};
use kube::{ResourceExt as _, core::GroupVersionKind};
use operator_api::broker_cluster::IssuerReference;
use serde_json::{Value, json};
use tracing::info;

use crate::broker_cluster::apply::FIELD_MANAGER;
use crate::broker_cluster::fetch::{Observed, is_owned};
use crate::broker_cluster::halt::Halt;
use crate::broker_cluster::validate::ValidCluster;
use crate::context::Context;
use crate::error::Error;
use crate::verdict::Verdict;

/// The API group of issuers, when none is named.
const GROUP: &str = "cert-manager.io";
/// The kind of issuers, when none is named.
const KIND: &str = "Issuer";

fn resource() -> ApiResource {
    ApiResource::from_gvk(&GroupVersionKind::gvk(GROUP, "v1", "Certificate"))
}

fn api(observed: &Observed, context: &Context) -> Api<DynamicObject> {
    Api::namespaced_with(context.client.clone(), &observed.key.namespace, &resource())
}

fn what(valid: &ValidCluster) -> String {
    format!("Certificate {}/{}", valid.key.namespace, valid.key.issued_certificate())
}

/// What cert-manager is asked for.
#[must_use]
pub fn certificate(
    valid: &ValidCluster,
    issuer: &IssuerReference,
    names: &BTreeSet<String>,
) -> Value {
    let is_address = |name: &&String| name.parse::<IpAddr>().is_ok();
    let (addresses, hosts): (Vec<&String>, Vec<&String>) = names.iter().partition(is_address);
    json!({
        "apiVersion": format!("{GROUP}/v1"),
        "kind": "Certificate",
        "metadata": {
            "name": valid.key.issued_certificate(),
            "namespace": valid.key.namespace,
            "labels": valid.key.labels(),
            "ownerReferences": [valid.owner],
        },
        "spec": {
            "secretName": valid.key.issued_tls_secret(),
            "issuerRef": {
                "name": issuer.name,
                "kind": issuer.kind.as_deref().unwrap_or(KIND),
                "group": issuer.group.as_deref().unwrap_or(GROUP),
            },
            "dnsNames": hosts,
            "ipAddresses": addresses,
            "usages": ["digital signature", "server auth"],
            // cert-manager labels the Secret for us; the operator only reads it.
            "secretTemplate": {"labels": valid.key.labels()},
        },
    })
}

/// Makes the Certificate, or changes it.
///
/// # Errors
/// [`Halt`]: why that is not possible.
pub async fn ask(
    observed: &Observed,
    valid: &ValidCluster,
    issuer: &IssuerReference,
    names: &BTreeSet<String>,
    context: &Context,
) -> Result<(), Halt> {
    let name = valid.key.issued_certificate();
    let wanted = certificate(valid, issuer, names);
    let live = find(observed, valid, context).await?;
    if let Some(live) = &live {
        if !is_owned(&live.metadata, &observed.cluster) {
            let message = format!(
                "{} exists and does not belong to this cluster; delete it or give the cluster another name",
                what(valid)
            );
            return Err(Verdict::stalled("NameTaken", message).into());
        }
        let spec = wanted["spec"].as_object().into_iter().flatten();
        if spec.into_iter().all(|(field, value)| live.data["spec"].get(field) == Some(value)) {
            return Ok(());
        }
    }
    let params = PatchParams::apply(FIELD_MANAGER).force();
    match api(observed, context).patch(&name, &params, &Patch::Apply(&wanted)).await {
        Ok(_) => {
            info!(object = what(valid), "asked cert-manager for a certificate");
            Ok(())
        }
        Err(kube::Error::Api(error)) if error.code == 404 => {
            let message = format!(
                "spec.tls.issuerRef needs cert-manager, and this Kubernetes cluster serves no Certificate of {GROUP}/v1; install \
                 cert-manager, name a Secret in spec.tls.secretName, or leave out spec.tls"
            );
            Err(Verdict::stalled("CertManagerMissing", message).into())
        }
        Err(kube::Error::Api(error)) if matches!(error.code, 400 | 422) => {
            let message = format!("cert-manager does not take the Certificate: {}", error.message);
            Err(Verdict::stalled("CertificateRefused", message).into())
        }
        Err(source) => Err(Error::Apply { what: what(valid), source: Box::new(source) }.into()),
    }
}

async fn find(
    observed: &Observed,
    valid: &ValidCluster,
    context: &Context,
) -> Result<Option<DynamicObject>, Error> {
    match api(observed, context).get(&valid.key.issued_certificate()).await {
        Ok(live) => Ok(Some(live)),
        // Also the answer of an API server that knows no such kind.
        Err(kube::Error::Api(error)) if error.code == 404 => Ok(None),
        Err(source) => Err(Error::Fetch { what: what(valid), source: Box::new(source) }),
    }
}

/// What is to be said while there is no Secret yet: the words of cert-manager, if it has any.
///
/// # Errors
/// [`Error::Fetch`].
pub async fn not_issued(
    observed: &Observed,
    valid: &ValidCluster,
    issuer: &IssuerReference,
    context: &Context,
) -> Result<Verdict, Error> {
    let live = find(observed, valid, context).await?;
    let conditions = live.as_ref().and_then(|live| live.data["status"]["conditions"].as_array());
    let ready = conditions.into_iter().flatten().find(|condition| condition["type"] == "Ready");
    let said = ready.and_then(|condition| condition["message"].as_str());
    let said = said.map_or_else(String::new, |said| format!(": {said}"));
    let message = format!(
        "waits until {} {} issues {}{said}",
        issuer.kind.as_deref().unwrap_or(KIND),
        issuer.name,
        what(valid)
    );
    Ok(Verdict::waiting("CertificateNotIssued", message))
}

/// Deletes the Certificate of a cluster that had an issuer before; the Secret stays with cert-manager.
///
/// # Errors
/// [`Error::Fetch`] and [`Error::Apply`].
pub async fn take_away(
    observed: &Observed,
    valid: &ValidCluster,
    context: &Context,
) -> Result<(), Error> {
    let status = observed.cluster.status.as_ref();
    let before = status.and_then(|status| status.certificate.as_ref());
    if before.is_none_or(|before| before.secret_name != valid.key.issued_tls_secret()) {
        return Ok(());
    }
    let Some(live) = find(observed, valid, context).await? else { return Ok(()) };
    if !is_owned(&live.metadata, &observed.cluster) {
        return Ok(());
    }
    let same = Preconditions { uid: live.uid(), ..Preconditions::default() };
    let params = DeleteParams { preconditions: Some(same), ..DeleteParams::default() };
    match api(observed, context).delete(&live.name_any(), &params).await {
        Ok(_) => info!(object = what(valid), "deleted; the cluster names no issuer any more"),
        Err(kube::Error::Api(error)) if error.code == 404 => {}
        Err(source) => return Err(Error::Apply { what: what(valid), source: Box::new(source) }),
    }
    Ok(())
}
