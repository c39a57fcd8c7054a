//! Topics and ConsumerGroups declared as YAML files in a directory, for a broker without Kubernetes: read at start,
//! watched afterwards. What is wrong is told, and stays as it was; the rest is put in force. Removing a file keeps the
//! data unless its `deletionPolicy` is Delete, and the absence has to last. docs/operations/manifests.md is for users.

mod absence;
mod declaration;
mod folder;
mod kept;
mod put;

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use broker_grpc::BrokerContext;
use broker_proto::admin::ManifestsStatus;
use broker_replication::Catalog;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::cli::failure::Failure;
use crate::cli::message::rfc3339;
use absence::{Absences, Verdict};
use declaration::{Declaration, Key, OWNER_INSTANCE, Set};
use folder::Contents;
use put::Put;

/// How often the directory is looked at. A change counts when two looks in a row read the same: a file that is being
/// written is not taken.
const WATCH_INTERVAL: Duration = Duration::from_secs(1);
/// Problems, and notices, in the status of the broker.
const LINES_TOLD: usize = 16;
/// Tells a debug build how long something has to be away, in milliseconds.
const ABSENCE_VARIABLE: &str = "PINNACE_TEST_ABSENCE_MS";

/// Why something that is declared is not in force.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Problem {
    /// The files are wrong, or ask for what cannot be.
    Wrong(String),
    /// The broker could not do it now.
    Failed(String),
    /// A shard is read-only because its log is damaged; a repair ends with a restart, which applies it.
    ReadOnly(String),
}

impl Problem {
    fn text(&self) -> &str {
        match self {
            Self::Wrong(text) | Self::Failed(text) | Self::ReadOnly(text) => text,
        }
    }
}

/// A directory of manifests and what of it is in force.
#[derive(Debug)]
pub(crate) struct Manifests {
    directory: PathBuf,
    data: PathBuf,
    cluster: String,
    absence_ms: u64,
    /// What the last look read; none when it could not.
    last: Option<Contents>,
    /// What the last two looks read alike.
    set: Set,
    /// `set` is older than `last`.
    is_behind: bool,
    in_force: BTreeMap<Key, Declaration>,
    /// What this process put in force, or found so.
    confirmed: BTreeSet<Key>,
    absences: Absences,
    /// What is said about each thing that is away.
    away: BTreeMap<Key, String>,
    problems: Vec<Problem>,
}

impl Manifests {
    /// Reads all files and puts them in force: topics before groups. What was in force before this process stays, whatever
    /// the files say now.
    ///
    /// # Errors
    /// Of the first start with manifests only: wrong files, or what the broker could not do. Nothing was in force before.
    pub(crate) async fn start(
        directory: PathBuf,
        data: PathBuf,
        cluster: String,
        catalog: &Catalog,
    ) -> Result<Self, Failure> {
        let kept = kept::read(&data).unwrap_or_else(|error| {
            tracing::warn!("the kept manifests cannot be read, and are found out again: {error}");
            None
        });
        let is_first = kept.is_none() && !owns_anything(catalog);
        let mut manifests = Self {
            directory,
            data,
            cluster,
            absence_ms: absence_ms(),
            last: None,
            set: Set::default(),
            is_behind: false,
            in_force: kept.unwrap_or_default(),
            confirmed: BTreeSet::new(),
            absences: Absences::default(),
            away: BTreeMap::new(),
            problems: Vec::new(),
        };
        let contents = manifests.read().await;
        let problems = match contents {
            Ok(contents) => {
                manifests.set = declaration::read(&contents, &manifests.cluster);
                manifests.last = Some(contents);
                manifests.reconcile(catalog, 0).await
            }
            Err(text) => vec![Problem::Wrong(text)],
        };
        if is_first && let Some(failure) = failure_of(&problems) {
            return Err(failure);
        }
        manifests.tell(problems);
        Ok(manifests)
    }

    /// Follows every change of the directory until stopped.
    pub(crate) async fn watch(mut self, context: Arc<BrokerContext>, stop: CancellationToken) {
        let begun = Instant::now();
        loop {
            context.set_manifests(self.status());
            tokio::select! {
                () = stop.cancelled() => return,
                () = tokio::time::sleep(WATCH_INTERVAL) => {}
            }
            let contents = self.read().await;
            let now_ms = u64::try_from(begun.elapsed().as_millis()).unwrap_or(u64::MAX);
            self.look(contents, &context.catalog, now_ms).await;
        }
    }

    /// What is in force, for whoever asks the broker.
    pub(crate) fn status(&self) -> ManifestsStatus {
        let problems = self.problems.iter().map(|problem| problem.text().to_owned());
        let notices = self.set.notices.iter().chain(self.away.values());
        ManifestsStatus {
            directory: self.directory.display().to_string(),
            objects: u32::try_from(self.set.wanted.len()).unwrap_or(u32::MAX),
            in_force: self.problems.is_empty(),
            problems: problems.take(LINES_TOLD).collect(),
            problems_total: u32::try_from(self.problems.len()).unwrap_or(u32::MAX),
            notices: notices.take(LINES_TOLD).cloned().collect(),
        }
    }

    /// Not on this thread: a directory may lie on a file system that hangs.
    async fn read(&self) -> Result<Contents, String> {
        let directory = self.directory.clone();
        let read = tokio::task::spawn_blocking(move || folder::read(&directory)).await;
        read.unwrap_or_else(|error| Err(format!("reading the manifests broke off: {error}")))
    }

    /// One look at the directory.
    async fn look(&mut self, contents: Result<Contents, String>, catalog: &Catalog, now_ms: u64) {
        match contents {
            Err(text) => {
                self.last = None;
                self.absences.interrupt();
                self.away.clear();
                self.tell(vec![Problem::Wrong(format!("{text}; what was in force stays"))]);
            }
            Ok(contents) if self.last.as_ref() != Some(&contents) => {
                self.last = Some(contents);
                self.is_behind = true;
            }
            Ok(contents) => {
                if self.is_behind {
                    let notices = std::mem::take(&mut self.set.notices);
                    self.set = declaration::read(&contents, &self.cluster);
                    self.is_behind = false;
                    tell_news(&notices, &self.set.notices);
                }
                let problems = self.reconcile(catalog, now_ms).await;
                self.tell(problems);
            }
        }
    }

    /// Puts in force what is declared and is not yet, and lets go of what is gone. Says what is wrong.
    async fn reconcile(&mut self, catalog: &Catalog, now_ms: u64) -> Vec<Problem> {
        let set = std::mem::take(&mut self.set);
        let as_is = |text: &String| Problem::Wrong(text.clone());
        let mut problems: Vec<Problem> = set.problems.iter().map(as_is).collect();
        let mut has_changed = false;
        for (key, declaration) in &set.wanted {
            let before = self.in_force.get(key);
            let is_known = put::is_known(catalog, declaration);
            if is_known && self.confirmed.contains(key) && before == Some(declaration) {
                continue;
            }
            if !is_known && self.confirmed.contains(key) {
                tracing::warn!("{} was deleted, and is declared", declaration.thing);
            }
            // Only what exists can be changed in a way that is not allowed.
            match put::put(catalog, declaration, before.filter(|_| is_known)).await {
                Ok(put) => {
                    tell_put(declaration, &put);
                    has_changed |= before != Some(declaration);
                    self.confirmed.insert(key.clone());
                    self.in_force.insert(key.clone(), declaration.clone());
                }
                Err(problem) => problems.push(problem),
            }
        }
        has_changed |= self.let_go(catalog, &set, now_ms, &mut problems).await;
        self.set = set;
        if has_changed && let Err(error) = kept::write(&self.data, &self.in_force) {
            let text =
                format!("what is in force cannot be kept in {}: {error}", self.data.display());
            problems.push(Problem::Failed(text));
        }
        problems
    }

    /// What no file declares any more; says whether any of it was let go of.
    async fn let_go(
        &mut self,
        catalog: &Catalog,
        set: &Set,
        now_ms: u64,
        problems: &mut Vec<Problem>,
    ) -> bool {
        let told = std::mem::take(&mut self.away);
        let is_away = |key: &&Key| !set.wanted.contains_key(*key);
        let away: Vec<Key> = self.in_force.keys().filter(is_away).cloned().collect();
        let mut provable = Vec::new();
        for key in away {
            let Some(declaration) = self.in_force.get(&key) else { continue };
            let doubt = match problems.first() {
                Some(_) => Some("not all manifests are in force".to_owned()),
                None => absence::doubt(declaration, set),
            };
            match doubt {
                None => provable.push(key),
                Some(doubt) => {
                    let (thing, origin) = (&declaration.thing, &declaration.origin);
                    let text = format!(
                        "no file declares {thing} any more (it was {origin}); it stays, because {doubt}"
                    );
                    self.away.insert(key, text);
                }
            }
        }
        let mut has_changed = false;
        for (key, verdict) in self.absences.look(provable, now_ms, self.absence_ms) {
            let Some(declaration) = self.in_force.get(&key) else { continue };
            match verdict {
                Verdict::New(after_ms) => {
                    let text = announcement(catalog, declaration, after_ms).await;
                    self.away.insert(key, text);
                }
                Verdict::Waiting => {
                    let text = told.get(&key).cloned().unwrap_or_default();
                    self.away.insert(key, text);
                }
                Verdict::Gone => match put::let_go(catalog, declaration).await {
                    Ok(what) => {
                        tracing::warn!("{what}");
                        self.in_force.remove(&key);
                        self.confirmed.remove(&key);
                        has_changed = true;
                    }
                    Err(problem) => problems.push(problem),
                },
            }
        }
        for (key, text) in self.away.iter().filter(|(key, text)| told.get(*key) != Some(*text)) {
            tracing::warn!(?key, "{text}");
        }
        has_changed
    }

    /// Each problem is told once, and once when there is none any more.
    fn tell(&mut self, problems: Vec<Problem>) {
        for problem in problems.iter().filter(|problem| !self.problems.contains(problem)) {
            tracing::error!("a manifest is not in force: {}", problem.text());
        }
        if problems.is_empty() && !self.problems.is_empty() {
            tracing::info!("all manifests are in force again");
        }
        self.problems = problems;
    }
}

fn absence_ms() -> u64 {
    let told = std::env::var(ABSENCE_VARIABLE).ok().filter(|_| cfg!(debug_assertions));
    told.and_then(|text| text.parse().ok()).unwrap_or(absence::ABSENCE_MS_MIN)
}

/// Whether files ever declared what this broker has.
fn owns_anything(catalog: &Catalog) -> bool {
    let is_ours = |owner: Option<&broker_model::Owner>| {
        owner.is_some_and(|owner| owner.instance == OWNER_INSTANCE)
    };
    catalog.topics().iter().any(|entry| is_ours(entry.topic.owner.as_ref()))
        || catalog.groups().iter().any(|entry| is_ours(entry.group.owner.as_ref()))
}

/// Why a first start ends, in one line.
fn failure_of(problems: &[Problem]) -> Option<Failure> {
    let counts = |problem: &&Problem| !matches!(problem, Problem::ReadOnly(_));
    let mut counted = problems.iter().filter(counts);
    let first = counted.next()?;
    let more = counted.count();
    let more = if more == 0 { String::new() } else { format!(" (and {more} more problems)") };
    let text = format!("{}{more}", first.text());
    Some(match first {
        Problem::Wrong(_) => Failure::input(text),
        Problem::Failed(_) | Problem::ReadOnly(_) => Failure::runtime(text),
    })
}

fn tell_put(declaration: &Declaration, put: &Put) {
    let Declaration { thing, origin, .. } = declaration;
    if let Some(before) = &put.taken_from {
        tracing::warn!(%origin, "{thing} belonged to {before}, which no file declares any more");
    }
    if put.has_changed {
        tracing::info!(%origin, "{thing} applied");
    }
}

fn tell_news(before: &[String], now: &[String]) {
    for notice in now.iter().filter(|notice| !before.contains(notice)) {
        tracing::warn!("{notice}");
    }
}

/// What will become of something that is away, and when.
async fn announcement(catalog: &Catalog, declaration: &Declaration, after_ms: u64) -> String {
    let Declaration { thing, origin, .. } = declaration;
    let now_ms = SystemTime::UNIX_EPOCH.elapsed().map_or(0, |now| now.as_millis());
    let at = rfc3339(u64::try_from(now_ms).unwrap_or(0).saturating_add(after_ms));
    let what = if declaration.delete_when_removed {
        let messages = put::messages(catalog, declaration).await;
        let with = messages.map_or_else(String::new, |count| format!(" with its {count} messages"));
        format!("is deleted{with}, as its deletionPolicy asks,")
    } else {
        "belongs to nobody, and keeps its data,".to_owned()
    };
    format!(
        "no file declares {thing} any more (it was {origin}): it {what} at {at} unless a file declares it again"
    )
}

#[cfg(test)]
mod tests;
