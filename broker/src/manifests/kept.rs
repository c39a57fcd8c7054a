//! What of the manifests is in force, kept in the data directory: a start with wrong files goes on with it, and what went
//! from the files while the broker was down is seen. The topics and groups themselves are in the logs.

use std::collections::BTreeMap;
use std::io;
use std::path::Path;

use operator_api::manifest::{Declared, Manifest, Origin};
use operator_api::{ConsumerGroupSpec, TopicSpec};
use serde::{Deserialize, Serialize};

use super::declaration::{Declaration, Key};
use crate::serve::whole_file;

const FILE_NAME: &str = "manifests";
/// Version of the file; docs/storage-format.md describes it.
const FORMAT: u32 = 1;

#[derive(Debug, Default, Serialize, Deserialize)]
struct KeptFile {
    format: u32,
    topics: Vec<KeptObject<TopicSpec>>,
    groups: Vec<KeptObject<ConsumerGroupSpec>>,
}

/// One object, and where it stood.
#[derive(Debug, Serialize, Deserialize)]
struct KeptObject<S> {
    name: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    namespace: Option<String>,
    file: String,
    document: usize,
    #[serde(skip_serializing_if = "Option::is_none")]
    item: Option<usize>,
    spec: S,
}

impl<S: Clone> KeptObject<S> {
    fn of(declared: &Declared<S>) -> Self {
        let Declared { name, namespace, spec, origin } = declared.clone();
        let Origin { file, document, item } = origin;
        Self { name, namespace, file, document, item, spec }
    }

    fn declared(self) -> Declared<S> {
        let Self { name, namespace, file, document, item, spec } = self;
        Declared { name, namespace, spec, origin: Origin { file, document, item } }
    }
}

/// Keeps what is in force, durably, in place of what was kept before.
///
/// # Errors
/// Those of the system; what was kept before is then still there.
pub(super) fn write(data: &Path, in_force: &BTreeMap<Key, Declaration>) -> io::Result<()> {
    let mut kept = KeptFile { format: FORMAT, ..KeptFile::default() };
    for declaration in in_force.values() {
        match &declaration.manifest {
            Manifest::Topic(declared) => kept.topics.push(KeptObject::of(declared)),
            Manifest::ConsumerGroup(declared) => kept.groups.push(KeptObject::of(declared)),
            Manifest::BrokerCluster(_) => {}
        }
    }
    let bytes = serde_json::to_vec_pretty(&kept).map_err(io::Error::other)?;
    whole_file::replace(data, FILE_NAME, &bytes)
}

/// What was in force last; none when nothing ever was.
///
/// # Errors
/// Those of the system, and a file that cannot be understood.
pub(super) fn read(data: &Path) -> io::Result<Option<BTreeMap<Key, Declaration>>> {
    let Some(bytes) = whole_file::read(data, FILE_NAME)? else { return Ok(None) };
    let kept: KeptFile = serde_json::from_slice(&bytes).map_err(io::Error::other)?;
    if kept.format != FORMAT {
        let text = format!("it has the format {}, this version reads {FORMAT}", kept.format);
        return Err(io::Error::other(text));
    }
    let topics = kept.topics.into_iter().map(|kept| Manifest::Topic(kept.declared()));
    let groups = kept.groups.into_iter().map(|kept| Manifest::ConsumerGroup(kept.declared()));
    let mut in_force = BTreeMap::new();
    for manifest in topics.chain(groups) {
        if let Some(declaration) = Declaration::of(&manifest).map_err(io::Error::other)? {
            in_force.insert(declaration.key(), declaration);
        }
    }
    Ok(Some(in_force))
}

#[cfg(test)]
mod tests {
    use super::super::declaration;
    use super::super::folder::Contents;
    use super::*;

    const ALL: &str = "
apiVersion: v1
kind: List
items:
- {apiVersion: pinnace.dev/v1alpha1, kind: Topic, metadata: {name: orders, namespace: shop},
   spec: {queues: 3, retention: {time: 2h, bytes: 1Gi}, deletionPolicy: Delete}}
- {apiVersion: pinnace.dev/v1alpha1, kind: ConsumerGroup, metadata: {name: billing},
   spec: {retry: {backoff: {list: [1s]}}, offsetReset: {id: a, to: {shift: -5}}}}
";

    #[test]
    fn what_is_in_force_survives_the_round_trip() {
        let data = tempfile::tempdir().unwrap();
        assert_eq!(read(data.path()).unwrap(), None);
        let files = [("sub/all.yaml".to_owned(), ALL.to_owned())].into();
        let set = declaration::read(&Contents { files, ..Contents::default() }, "default");
        assert_eq!(set.wanted.len(), 2, "{:?}", set.problems);
        write(data.path(), &set.wanted).unwrap();
        assert_eq!(read(data.path()).unwrap(), Some(set.wanted));
    }

    #[test]
    fn a_file_that_cannot_be_understood_is_an_error_and_no_state() {
        let data = tempfile::tempdir().unwrap();
        for text in ["", "{", "{\"format\": 9, \"topics\": [], \"groups\": []}"] {
            std::fs::write(data.path().join(FILE_NAME), text).unwrap();
            assert!(read(data.path()).is_err(), "{text}");
        }
    }
}
