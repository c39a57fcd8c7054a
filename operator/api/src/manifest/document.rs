//! One document: from a value to manifests of the served kinds, read as `kubectl apply` and the API server read it. What
//! they ignore is ignored; what they refuse is refused with the place of the mistake.

use serde::de::DeserializeOwned;
use serde_yaml::{Mapping, Value};

use super::{Declared, Loaded, Manifest, ManifestError, Origin};
use crate::limits::{NAMESPACE_BYTES_MAX, OBJECT_NAME_BYTES_MAX};
use crate::rules::{self, Violation};
use crate::{API_VERSION, BrokerClusterSpec, ConsumerGroupSpec, TopicSpec};

/// What the API server keeps in the metadata of an object that it is given back.
const SERVER_FILLED: [&str; 13] = [
    "labels",
    "annotations",
    "uid",
    "resourceVersion",
    "generation",
    "creationTimestamp",
    "deletionTimestamp",
    "deletionGracePeriodSeconds",
    "managedFields",
    "ownerReferences",
    "finalizers",
    "selfLink",
    "generateName",
];

/// Whether this is no object of any API: neither version nor kind.
pub(super) fn is_foreign(value: &Value) -> bool {
    value.get("apiVersion").is_none() && value.get("kind").is_none()
}

/// Reads an object, or the objects of a list.
pub(super) fn read(origin: &Origin, mut value: Value, loaded: &mut Loaded) {
    if !is_list(&value) {
        return read_one(origin, value, loaded);
    }
    let items = value.as_mapping_mut().and_then(|document| document.remove("items"));
    match items {
        None | Some(Value::Null) => {}
        Some(Value::Sequence(items)) => {
            for (item, value) in (1..).zip(items) {
                read_one(&Origin { item: Some(item), ..origin.clone() }, value, loaded);
            }
        }
        Some(_) => loaded.errors.push(ManifestError {
            origin: origin.clone(),
            field: "items".to_owned(),
            message: "is no list; a List has its objects there".to_owned(),
        }),
    }
}

/// `kind: List`, as `kubectl get -o yaml` writes it, or a list of one kind, as the API server does.
fn is_list(value: &Value) -> bool {
    let text = |key: &str| value.get(key).and_then(Value::as_str).unwrap_or_default();
    let kind = text("kind");
    match text("apiVersion") {
        "v1" => kind == "List",
        API_VERSION => ["TopicList", "ConsumerGroupList", "BrokerClusterList"].contains(&kind),
        _ => false,
    }
}

fn read_one(origin: &Origin, value: Value, loaded: &mut Loaded) {
    match read_document(origin, value) {
        Ok(manifest) => loaded.manifests.push(manifest),
        Err(errors) => loaded.errors.extend(errors),
    }
}

/// The parts of a document before its spec is looked at.
struct Envelope {
    kind: String,
    name: String,
    namespace: Option<String>,
    spec: Value,
}

fn read_document(origin: &Origin, value: Value) -> Result<Manifest, Vec<ManifestError>> {
    let error = |field: &str, message: String| ManifestError {
        origin: origin.clone(),
        field: field.to_owned(),
        message,
    };
    let envelope = envelope(value).map_err(|(field, message)| vec![error(&field, message)])?;
    let Envelope { kind, name, namespace, spec } = envelope;
    let violations = |found: Vec<Violation>| {
        found.into_iter().map(|v| error(&v.field, v.message)).collect::<Vec<_>>()
    };
    match kind.as_str() {
        "Topic" => {
            let spec: TopicSpec = read_spec(spec).map_err(violations)?;
            refuse(rules::check_topic(&name, &spec)).map_err(violations)?;
            Ok(Manifest::Topic(Declared { name, namespace, spec, origin: origin.clone() }))
        }
        "ConsumerGroup" => {
            let spec: ConsumerGroupSpec = read_spec(spec).map_err(violations)?;
            refuse(rules::check_consumer_group(&name, &spec)).map_err(violations)?;
            Ok(Manifest::ConsumerGroup(Declared { name, namespace, spec, origin: origin.clone() }))
        }
        "BrokerCluster" => {
            let spec: BrokerClusterSpec = read_spec(spec).map_err(violations)?;
            refuse(rules::check_broker_cluster(&name, &spec)).map_err(violations)?;
            let declared = Declared { name, namespace, spec, origin: origin.clone() };
            Ok(Manifest::BrokerCluster(Box::new(declared)))
        }
        other => {
            let message =
                format!("unknown kind {other:?}; use Topic, ConsumerGroup or BrokerCluster");
            Err(vec![error("kind", message)])
        }
    }
}

fn refuse(found: Vec<Violation>) -> Result<(), Vec<Violation>> {
    if found.is_empty() { Ok(()) } else { Err(found) }
}

type FieldError = (String, String);

fn envelope(value: Value) -> Result<Envelope, FieldError> {
    let fail = |field: &str, message: String| (field.to_owned(), message);
    let Value::Mapping(mut document) = value else {
        return Err(fail(
            "",
            "is no object; a manifest has apiVersion, kind, metadata and spec".to_owned(),
        ));
    };
    let api_version = text(&mut document, "apiVersion", "apiVersion")?;
    if api_version.as_deref() != Some(API_VERSION) {
        let given = api_version.unwrap_or_default();
        return Err(fail("apiVersion", format!("is {given:?}; only {API_VERSION:?} is served")));
    }
    let kind = text(&mut document, "kind", "kind")?.unwrap_or_default();
    let Some(Value::Mapping(mut metadata)) = document.remove("metadata") else {
        return Err(fail("metadata", "is missing; give the object metadata.name".to_owned()));
    };
    let name = text(&mut metadata, "name", "metadata.name")?.unwrap_or_default();
    check_length(&name, OBJECT_NAME_BYTES_MAX, "metadata.name")?;
    check_name(&name, &kind)?;
    let namespace = text(&mut metadata, "namespace", "metadata.namespace")?;
    if let Some(namespace) = &namespace {
        check_length(namespace, NAMESPACE_BYTES_MAX, "metadata.namespace")?;
        if !is_label(namespace) {
            let message = format!(
                "{namespace:?} is no namespace; use lower-case letters, digits and '-', with a letter or digit at both ends"
            );
            return Err(fail("metadata.namespace", message));
        }
    }
    let mut spec = document.remove("spec").unwrap_or_default();
    if spec.is_null() {
        spec = Value::Mapping(Mapping::new());
    }
    prune_nulls(&mut spec);
    read_old_booleans(&mut spec);
    // What the API server writes is ignored as `kubectl apply` ignores it, so that exported objects load again.
    document.remove("status");
    for filled in SERVER_FILLED {
        metadata.remove(filled);
    }
    refuse_rest(&metadata, "metadata.")?;
    refuse_rest(&document, "")?;
    Ok(Envelope { kind, name, namespace, spec })
}

fn text(mapping: &mut Mapping, key: &str, field: &str) -> Result<Option<String>, FieldError> {
    match mapping.remove(key) {
        None | Some(Value::Null) => Ok(None),
        Some(Value::String(text)) => Ok(Some(text)),
        Some(_) => Err((field.to_owned(), "is no text; put it in quotes".to_owned())),
    }
}

fn check_length(text: &str, max: usize, field: &str) -> Result<(), FieldError> {
    if text.is_empty() || text.len() > max {
        let message = format!("has {} characters; use 1 to {max}", text.len());
        return Err((field.to_owned(), message));
    }
    Ok(())
}

/// An object's name as the API server takes it: labels of DNS with dots between them.
fn check_name(name: &str, kind: &str) -> Result<(), FieldError> {
    if name.split('.').all(is_label) {
        return Ok(());
    }
    let field = match kind {
        "ConsumerGroup" => "; a group whose name has others is named in spec.groupName",
        "Topic" => "; a topic whose name has others is named in spec.topicName",
        _ => "",
    };
    let message = format!(
        "{name:?} is no name of an object; use lower-case letters, digits, '-' and '.', with a letter or digit at both \
         ends{field}"
    );
    Err(("metadata.name".to_owned(), message))
}

/// What DNS calls a label.
fn is_label(text: &str) -> bool {
    let is_plain = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit();
    let ends =
        text.bytes().next().is_some_and(is_plain) && text.bytes().last().is_some_and(is_plain);
    ends && text.bytes().all(|b| is_plain(b) || b == b'-')
}

/// The API server drops fields that are null before it fills in defaults.
fn prune_nulls(value: &mut Value) {
    match value {
        Value::Mapping(mapping) => {
            mapping.retain(|_, value| !value.is_null());
            mapping.values_mut().for_each(prune_nulls);
        }
        Value::Sequence(items) => items.iter_mut().for_each(prune_nulls),
        _ => {}
    }
}

/// `kubectl` reads YAML 1.1, in which `yes` and `off` are booleans.
fn read_old_booleans(spec: &mut Value) {
    let mut read = |path: &[&str]| {
        let mut at = Some(&mut *spec);
        for key in path {
            at = at.and_then(|value| value.get_mut(key));
        }
        let Some(value) = at else { return };
        let old = match value.as_str() {
            Some("y" | "Y" | "yes" | "Yes" | "YES" | "on" | "On" | "ON") => true,
            Some("n" | "N" | "no" | "No" | "NO" | "off" | "Off" | "OFF") => false,
            _ => return,
        };
        *value = Value::Bool(old);
    };
    read(&["consume"]);
    read(&["access", "read"]);
    read(&["access", "write"]);
}

fn refuse_rest(mapping: &Mapping, prefix: &str) -> Result<(), FieldError> {
    match mapping.keys().next() {
        None => Ok(()),
        Some(key) => {
            let key = key.as_str().unwrap_or("(not a text)");
            Err((format!("{prefix}{key}"), "unknown field".to_owned()))
        }
    }
}

/// Reads a spec; unknown fields are errors here, while the operator leaves them to the API server.
fn read_spec<S: DeserializeOwned>(value: Value) -> Result<S, Vec<Violation>> {
    let mut unknown = Vec::new();
    let mut track = serde_path_to_error::Track::new();
    let deserializer = serde_path_to_error::Deserializer::new(value, &mut track);
    let spec = serde_ignored::deserialize(deserializer, |path| unknown.push(path.to_string()));
    let spec = spec.map_err(|error: serde_yaml::Error| {
        let path = track.path().to_string();
        let field = if path == "." { "spec".to_owned() } else { format!("spec.{path}") };
        vec![Violation { field, message: error.to_string() }]
    })?;
    // Optional objects stand as "?" in the path of an unknown field.
    let violation = |path: String| Violation {
        field: format!("spec.{}", path.replace(".?", "").replace("?.", "")),
        message: "unknown field".to_owned(),
    };
    refuse(unknown.into_iter().map(violation).collect())?;
    Ok(spec)
}
