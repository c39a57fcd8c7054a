//! Topics and ConsumerGroups declared as YAML files in a directory, for a broker without Kubernetes: read at start,
//! watched afterwards. A bad change is logged once and changes nothing. Removing a file keeps the data unless its
//! `deletionPolicy` is Delete.

mod declaration;
mod folder;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use broker_engine::Refusal;
use broker_replication::{ApplyOptions, Catalog, CatalogError};
use tokio_util::sync::CancellationToken;

use declaration::{Declaration, Key, Thing};
use folder::Folder;

/// How often the directory is looked at.
const WATCH_INTERVAL: Duration = Duration::from_secs(2);

/// Why the manifests are not in force.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum ManifestsError {
    /// The files are wrong, or ask for what cannot be.
    Wrong(String),
    /// The broker could not do it now.
    Failed(String),
    /// A shard is read-only because its log is damaged.
    ReadOnly(String),
}

/// A directory of manifests and what of it is in force.
#[derive(Debug)]
pub(crate) struct Manifests {
    folder: Folder,
    applied: BTreeMap<Key, Declaration>,
    /// Told already.
    last_complaint: Option<String>,
}

impl Manifests {
    /// Nothing is read yet.
    pub(crate) fn new(directory: PathBuf) -> Self {
        let folder = Folder::new(directory);
        Self { folder, applied: BTreeMap::new(), last_complaint: None }
    }

    /// Reads all files and puts them in force: topics before groups.
    ///
    /// # Errors
    /// [`ManifestsError`] in one line that names file, document and field; what came before it is in force.
    pub(crate) async fn apply(&mut self, catalog: &Catalog) -> Result<(), ManifestsError> {
        let wanted = declaration::read(&self.folder.read()?)?;
        for (key, declaration) in &wanted {
            if self.applied.get(key).is_some_and(|a| a.declares_same(declaration)) {
                continue;
            }
            let changed = match put(catalog, declaration).await {
                Err(ManifestsError::ReadOnly(text)) => {
                    // The broker serves what can be read; a repair ends with a restart, which applies this again.
                    tracing::warn!("not applied: {text}");
                    continue;
                }
                put => put?,
            };
            if changed {
                tracing::info!(origin = declaration.origin, "{} applied", declaration.thing);
            }
            self.applied.insert(key.clone(), declaration.clone());
        }
        self.let_go(catalog, &wanted).await
    }

    /// What is no longer declared.
    async fn let_go(
        &mut self,
        catalog: &Catalog,
        wanted: &BTreeMap<Key, Declaration>,
    ) -> Result<(), ManifestsError> {
        let gone: Vec<Key> =
            self.applied.keys().filter(|key| !wanted.contains_key(*key)).cloned().collect();
        for key in gone {
            let Some(declaration) = self.applied.get(&key) else { continue };
            let Declaration { thing, origin, .. } = declaration;
            if declaration.delete_when_removed {
                remove(catalog, declaration).await?;
                tracing::info!(origin, "{thing} deleted, as its removed manifest asked");
            } else {
                tracing::info!(origin, "the manifest of {thing} is gone; its data is kept");
            }
            self.applied.remove(&key);
        }
        Ok(())
    }

    /// Applies every change of the directory until stopped.
    pub(crate) async fn watch(mut self, catalog: Catalog, stop: CancellationToken) {
        let mut unfinished = false;
        loop {
            tokio::select! {
                () = stop.cancelled() => return,
                () = tokio::time::sleep(WATCH_INTERVAL) => {}
            }
            if !self.folder.has_changed() && !unfinished {
                continue;
            }
            let outcome = self.apply(&catalog).await;
            // What the files ask for wrongly stays wrong until they change; the rest is tried again.
            unfinished = matches!(outcome, Err(ManifestsError::Failed(_)));
            self.tell(outcome);
        }
    }

    fn tell(&mut self, outcome: Result<(), ManifestsError>) {
        let complaint = match outcome {
            Ok(()) => None,
            Err(
                ManifestsError::Wrong(text)
                | ManifestsError::Failed(text)
                | ManifestsError::ReadOnly(text),
            ) => Some(text),
        };
        if self.last_complaint != complaint {
            match &complaint {
                Some(text) => tracing::error!("manifests not applied, the old state stays: {text}"),
                None => tracing::info!("all manifests are in force again"),
            }
        }
        self.last_complaint = complaint;
    }
}

/// Whether anything changed.
async fn put(catalog: &Catalog, declaration: &Declaration) -> Result<bool, ManifestsError> {
    let options =
        ApplyOptions { take_ownership: declaration.take_ownership, ..ApplyOptions::default() };
    let outcome = match &declaration.thing {
        Thing::Topic(topic) => {
            catalog.apply_topic((**topic).clone(), options).await.map(|(_, changed)| changed)
        }
        Thing::Group(group) => {
            catalog.apply_group((**group).clone(), options).await.map(|(_, changed)| changed)
        }
    };
    let changed = outcome.map_err(|error| explain(declaration, &error))?;
    if let (Thing::Group(group), Some(reset)) = (&declaration.thing, &declaration.reset) {
        // The shards remember its id: at the next start they are asked again, and do nothing.
        let done = catalog.reset_offsets(&reset.of(&group.name)).await;
        done.map_err(|refusal| explain(declaration, &refusal.into()))?;
    }
    Ok(changed)
}

async fn remove(catalog: &Catalog, declaration: &Declaration) -> Result<(), ManifestsError> {
    let outcome = match &declaration.thing {
        Thing::Topic(topic) => catalog.delete_topic(&topic.name, topic.owner.as_ref(), true).await,
        Thing::Group(group) => catalog.delete_group(&group.name, group.owner.as_ref(), true).await,
    };
    outcome.map(|_was_there| ()).map_err(|error| explain(declaration, &error))
}

fn explain(declaration: &Declaration, error: &CatalogError) -> ManifestsError {
    let text = format!("{}: {error}", declaration.origin);
    match error {
        CatalogError::Shard(Refusal::TopicNotFound(_)) => ManifestsError::Wrong(text),
        CatalogError::Shard(Refusal::ReadOnly(_)) => ManifestsError::ReadOnly(text),
        CatalogError::Shard(_) => ManifestsError::Failed(text),
        _ => ManifestsError::Wrong(text),
    }
}
