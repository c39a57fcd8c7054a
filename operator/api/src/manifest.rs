//! The one loader of manifests from files: the same YAML that `kubectl apply` takes, with the same rules and messages.
//! Pure: text in, manifests or every error out; reading files is the caller's.

use std::collections::BTreeMap;
use std::fmt;

use serde::Deserialize as _;
use serde::de::DeserializeOwned;
use serde_yaml::{Mapping, Value};

use crate::limits::{
    MANIFEST_BYTES_MAX, MANIFEST_DOCUMENTS_MAX, NAMESPACE_BYTES_MAX, OBJECT_NAME_BYTES_MAX,
};
use crate::rules::{self, Violation};
use crate::{API_VERSION, BrokerClusterSpec, ConsumerGroupSpec, TopicSpec};

/// One declared object.
#[derive(Debug, Clone, PartialEq)]
pub struct Declared<S> {
    /// `metadata.name`.
    pub name: String,
    /// `metadata.namespace`, when given.
    pub namespace: Option<String>,
    /// The spec with defaults filled in.
    pub spec: S,
    /// Where it stands.
    pub origin: Origin,
}

/// Where a manifest stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Origin {
    /// The file's name as given by the caller.
    pub file: String,
    /// Number of the document in the file, from 1.
    pub document: usize,
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} document {}", self.file, self.document)
    }
}

/// A manifest of one of the served kinds.
#[derive(Debug, Clone, PartialEq)]
pub enum Manifest {
    /// `kind: Topic`
    Topic(Declared<TopicSpec>),
    /// `kind: ConsumerGroup`
    ConsumerGroup(Declared<ConsumerGroupSpec>),
    /// `kind: BrokerCluster`
    BrokerCluster(Box<Declared<BrokerClusterSpec>>),
}

impl Manifest {
    /// The kind's name.
    #[must_use]
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Topic(_) => "Topic",
            Self::ConsumerGroup(_) => "ConsumerGroup",
            Self::BrokerCluster(_) => "BrokerCluster",
        }
    }

    /// Kind, namespace and name: what makes two manifests the same object.
    fn key(&self) -> (&'static str, &str, &str) {
        let (namespace, name) = match self {
            Self::Topic(d) => (&d.namespace, &d.name),
            Self::ConsumerGroup(d) => (&d.namespace, &d.name),
            Self::BrokerCluster(d) => (&d.namespace, &d.name),
        };
        (self.kind(), namespace.as_deref().unwrap_or_default(), name)
    }

    /// What it is called in the message model: two of one kind with the same name declare the same thing.
    fn declares(&self) -> &str {
        match self {
            Self::Topic(d) => d.spec.topic_name(&d.name),
            Self::ConsumerGroup(d) => d.spec.group_name(&d.name),
            Self::BrokerCluster(d) => &d.name,
        }
    }

    /// Where it stands.
    #[must_use]
    pub fn origin(&self) -> &Origin {
        match self {
            Self::Topic(d) => &d.origin,
            Self::ConsumerGroup(d) => &d.origin,
            Self::BrokerCluster(d) => &d.origin,
        }
    }
}

/// Why a manifest is refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ManifestError {
    /// Where it stands.
    pub origin: Origin,
    /// The field, like `spec.queues`; empty when the whole document is meant.
    pub field: String,
    /// What is wrong and what to do.
    pub message: String,
}

impl fmt::Display for ManifestError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.origin)?;
        if !self.field.is_empty() {
            write!(f, ", field {}", self.field)?;
        }
        write!(f, ": {}", self.message)
    }
}

impl std::error::Error for ManifestError {}

/// Reads all manifests of one file. Empty documents are skipped.
///
/// # Errors
/// Every error of the file, each with its document and field.
pub fn load(file: &str, text: &str) -> Result<Vec<Manifest>, Vec<ManifestError>> {
    let origin = |document| Origin { file: file.to_owned(), document };
    if text.len() > MANIFEST_BYTES_MAX {
        let message = format!("has {} bytes; at most {MANIFEST_BYTES_MAX} are read", text.len());
        return Err(vec![whole(origin(1), message)]);
    }
    let mut manifests = Vec::new();
    let mut errors = Vec::new();
    for (index, document) in serde_yaml::Deserializer::from_str(text).enumerate() {
        let origin = origin(index + 1);
        if index == MANIFEST_DOCUMENTS_MAX {
            let message = format!("more than {MANIFEST_DOCUMENTS_MAX} documents; split the file");
            errors.push(whole(origin, message));
            break;
        }
        match Value::deserialize(document) {
            Ok(Value::Null) => {}
            Ok(value) => match read_document(&origin, value) {
                Ok(manifest) => manifests.push(manifest),
                Err(found) => errors.extend(found),
            },
            // A text that is no YAML ends the file: where the next document starts is not known.
            Err(error) => {
                errors.push(whole(origin, format!("no legal YAML: {error}")));
                break;
            }
        }
    }
    if errors.is_empty() { Ok(manifests) } else { Err(errors) }
}

/// Reads all manifests of several files as one set: a thing declared twice is refused.
///
/// # Errors
/// Every error of every file.
pub fn load_all<'a>(
    files: impl IntoIterator<Item = (&'a str, &'a str)>,
) -> Result<Vec<Manifest>, Vec<ManifestError>> {
    let mut manifests = Vec::new();
    let mut errors = Vec::new();
    for (file, text) in files {
        match load(file, text) {
            Ok(found) => manifests.extend(found),
            Err(found) => errors.extend(found),
        }
    }
    errors.extend(duplicates(&manifests));
    if errors.is_empty() { Ok(manifests) } else { Err(errors) }
}

fn duplicates(manifests: &[Manifest]) -> Vec<ManifestError> {
    let mut objects = BTreeMap::new();
    let mut things = BTreeMap::new();
    let mut errors = Vec::new();
    for manifest in manifests {
        let (kind, name) = (manifest.kind(), manifest.declares());
        let first = objects.insert(manifest.key(), manifest);
        let first = first.or_else(|| things.insert((kind, name), manifest));
        if let Some(first) = first {
            let message = format!("{kind} {name:?} is already declared in {}", first.origin());
            errors.push(whole(manifest.origin().clone(), message));
        }
    }
    errors
}

fn whole(origin: Origin, message: String) -> ManifestError {
    ManifestError { origin, field: String::new(), message }
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
    let namespace = text(&mut metadata, "namespace", "metadata.namespace")?;
    if let Some(namespace) = &namespace {
        check_length(namespace, NAMESPACE_BYTES_MAX, "metadata.namespace")?;
    }
    let spec = document.remove("spec").unwrap_or_else(|| Value::Mapping(Mapping::new()));
    // What the API server writes is ignored as `kubectl apply` ignores it, so that exported objects load again.
    document.remove("status");
    for filled in SERVER_FILLED {
        metadata.remove(filled);
    }
    refuse_rest(&metadata, "metadata.")?;
    refuse_rest(&document, "")?;
    Ok(Envelope { kind, name, namespace, spec })
}

const SERVER_FILLED: [&str; 10] = [
    "labels",
    "annotations",
    "uid",
    "resourceVersion",
    "generation",
    "creationTimestamp",
    "managedFields",
    "ownerReferences",
    "finalizers",
    "selfLink",
];

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

#[cfg(test)]
mod tests;
