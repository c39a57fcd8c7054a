//! The one loader of manifests from files: the same YAML and JSON that `kubectl apply` takes, with the same rules and
//! messages. Pure: texts in, manifests and every error out; reading files is the caller's.

mod document;
mod text;

use std::collections::BTreeMap;
use std::fmt;

use crate::limits::{MANIFEST_BYTES_MAX, MANIFEST_DOCUMENTS_MAX};
use crate::{BrokerClusterSpec, ConsumerGroupSpec, TopicSpec};
use text::Format;

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
    /// Number of the item when the document is a list, from 1.
    pub item: Option<usize>,
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} document {}", self.file, self.document)?;
        self.item.map_or(Ok(()), |item| write!(f, " item {item}"))
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

/// What stands in several files.
#[derive(Debug, Default)]
pub struct Loaded {
    /// What is declared, without the things that are declared twice.
    pub manifests: Vec<Manifest>,
    /// Every error of every file.
    pub errors: Vec<ManifestError>,
    /// Files that hold no object at all: empty ones, and those with nothing but comments.
    pub without_objects: Vec<String>,
    /// JSON files that are no manifests: without `apiVersion` and `kind`.
    pub passed_over: Vec<String>,
}

/// Reads all manifests of one file. Empty documents are skipped.
///
/// # Errors
/// Every error of the file, each with its document and field.
pub fn load(file: &str, text: &str) -> Result<Vec<Manifest>, Vec<ManifestError>> {
    let Loaded { manifests, errors, .. } = load_all([(file, text)]);
    if errors.is_empty() { Ok(manifests) } else { Err(errors) }
}

/// Reads all manifests of several files as one set. What is wrong is left out and told; of a thing that is declared twice
/// neither declaration is taken.
pub fn load_all<'a>(files: impl IntoIterator<Item = (&'a str, &'a str)>) -> Loaded {
    let mut loaded = Loaded::default();
    for (file, text) in files {
        load_file(file, text, &mut loaded);
    }
    let (errors, twice) = duplicates(&loaded.manifests);
    loaded.errors.extend(errors);
    let mut index = 0..;
    loaded.manifests.retain(|_| index.next().is_none_or(|index| !twice.contains(&index)));
    loaded
}

fn load_file(file: &str, text: &str, loaded: &mut Loaded) {
    let origin = |document| Origin { file: file.to_owned(), document, item: None };
    if text.len() > MANIFEST_BYTES_MAX {
        let message = format!("has {} bytes; at most {MANIFEST_BYTES_MAX} are read", text.len());
        loaded.errors.push(whole(origin(1), message));
        return;
    }
    let format = Format::of(file);
    let mut is_empty = true;
    for (document, value) in (1..).zip(text::documents(format, text)) {
        if document > MANIFEST_DOCUMENTS_MAX {
            let message = format!("more than {MANIFEST_DOCUMENTS_MAX} documents; split the file");
            loaded.errors.push(whole(origin(document), message));
            break;
        }
        match value {
            Ok(value) if value.is_null() => {}
            Ok(value) if format == Format::Json && document::is_foreign(&value) => {
                is_empty = false;
                loaded.passed_over.push(file.to_owned());
            }
            Ok(value) => {
                is_empty = false;
                document::read(&origin(document), value, loaded);
            }
            // A text that cannot be read ends the file: where the next document starts is not known.
            Err(error) => {
                is_empty = false;
                loaded.errors.push(whole(origin(document), error));
                break;
            }
        }
    }
    if is_empty {
        loaded.without_objects.push(file.to_owned());
    }
}

/// Errors, and the places of all manifests that declare what another one declares.
fn duplicates(manifests: &[Manifest]) -> (Vec<ManifestError>, Vec<usize>) {
    let mut objects = BTreeMap::new();
    let mut things = BTreeMap::new();
    let (mut errors, mut twice) = (Vec::new(), Vec::new());
    for (index, manifest) in manifests.iter().enumerate() {
        let (kind, name) = (manifest.kind(), manifest.declares());
        let first = objects.get(&manifest.key()).or_else(|| things.get(&(kind, name))).copied();
        objects.entry(manifest.key()).or_insert(index);
        things.entry((kind, name)).or_insert(index);
        if let Some(first) = first {
            let place = manifests.get(first).map(|first| first.origin().to_string());
            let place = place.unwrap_or_default();
            let message = format!("{kind} {name:?} is already declared in {place}");
            errors.push(whole(manifest.origin().clone(), message));
            twice.extend([first, index]);
        }
    }
    (errors, twice)
}

fn whole(origin: Origin, message: String) -> ManifestError {
    ManifestError { origin, field: String::new(), message }
}

#[cfg(test)]
mod tests;
