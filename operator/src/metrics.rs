//! What the operator counts, in the text form that Prometheus reads. No label holds the name of an object: there are as many
//! series as there are kinds, states and reasons. `docs/operations/operator-events-and-metrics.md` lists them.

use std::fmt;
use std::sync::{Arc, Mutex, OnceLock};
use std::time::Duration;

use broker_proto::admin::{Group, Topic};
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::Registry;

use crate::push::Pushable as _;

/// A controller.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Controller {
    controller: &'static str,
}

/// A controller and how a reconcile ended.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Ended {
    controller: &'static str,
    outcome: &'static str,
}

/// How something ended.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Outcome {
    outcome: String,
}

/// An answered request to the API server.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct Request {
    /// What was asked for: get, list, watch, create, patch, update or delete.
    pub verb: &'static str,
    /// Plural name of the kind, with the part of the object behind a slash.
    pub resource: String,
    /// Status code of the answer; none without one.
    pub code: String,
}

/// Objects in one state.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, EncodeLabelSet)]
pub struct Objects {
    /// Their kind.
    pub kind: &'static str,
    /// Ready, reconciling, stalled, unknown or new.
    pub state: &'static str,
    /// Reason of their readiness.
    pub reason: String,
}

/// A kind.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OfKind {
    kind: &'static str,
}

/// Connections in one state.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct State {
    state: &'static str,
}

/// What became of something that the operator keeps as it is declared.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Drift {
    /// Somebody changed it.
    Changed,
    /// Somebody deleted it.
    Gone,
}

impl Drift {
    fn word(self) -> &'static str {
        match self {
            Self::Changed => "changed",
            Self::Gone => "gone",
        }
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Repaired {
    kind: String,
    drift: &'static str,
}

/// What is looked at for each page, because it can be counted at any time.
#[derive(Debug, Clone, Default)]
pub struct Survey {
    /// How many objects are in which state.
    pub objects: Vec<(Objects, i64)>,
    /// Of each kind, how many deletions wait, and for how many seconds the oldest of them.
    pub deletions: Vec<(&'static str, i64, i64)>,
    /// Brokers that are connected, and those that are silent.
    pub links: (i64, i64),
}

type Look = Box<dyn Fn() -> Survey + Send + Sync>;

/// All counters; cheap to clone.
#[derive(Clone)]
pub struct Metrics {
    registry: Arc<Registry>,
    look: Arc<OnceLock<Look>>,
    /// Held while a page is made.
    page: Arc<Mutex<()>>,
    reconciles: Family<Ended, Counter>,
    seconds: Family<Controller, Histogram, fn() -> Histogram>,
    status_writes: Family<Controller, Counter>,
    leader: Gauge,
    requests: Family<Request, Counter>,
    events: Family<Outcome, Counter>,
    repaired: Family<Repaired, Counter>,
    resets: Family<Outcome, Counter>,
    restarts: Counter,
    objects: Family<Objects, Gauge>,
    deletions: Family<OfKind, Gauge>,
    deletion_seconds: Family<OfKind, Gauge>,
    links: Family<State, Gauge>,
}

impl fmt::Debug for Metrics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Metrics").finish_non_exhaustive()
    }
}

fn seconds_histogram() -> Histogram {
    Histogram::new(exponential_buckets(0.001, 4.0, 8))
}

impl Default for Metrics {
    fn default() -> Self {
        let mut metrics = Self {
            registry: Arc::default(),
            look: Arc::default(),
            page: Arc::default(),
            reconciles: Family::default(),
            seconds: Family::new_with_constructor(seconds_histogram as fn() -> Histogram),
            status_writes: Family::default(),
            leader: Gauge::default(),
            requests: Family::default(),
            events: Family::default(),
            repaired: Family::default(),
            resets: Family::default(),
            restarts: Counter::default(),
            objects: Family::default(),
            deletions: Family::default(),
            deletion_seconds: Family::default(),
            links: Family::default(),
        };
        // An increase from nothing is none: what is alerted on begins with zero.
        for kind in [Topic::NOUN, Group::NOUN] {
            for drift in [Drift::Changed, Drift::Gone] {
                let repaired = Repaired { kind: kind.to_owned(), drift: drift.word() };
                metrics.repaired.get_or_create(&repaired).inc_by(0);
            }
        }
        metrics.registry = Arc::new(metrics.registry());
        metrics
    }
}

impl Metrics {
    fn registry(&self) -> Registry {
        let mut all = Registry::with_prefix("pinnace_operator");
        all.register("reconciles", "Finished reconciles", self.reconciles.clone());
        all.register("reconcile_seconds", "Duration of reconciles", self.seconds.clone());
        all.register("status_writes", "Written statuses", self.status_writes.clone());
        all.register("leader", "1 while this process holds the lease", self.leader.clone());
        let help = "Requests to the Kubernetes API server; conflicts have the code 409";
        all.register("api_requests", help, self.requests.clone());
        let help = "Events for people: written, repeated as a count, dropped, failed";
        all.register("events", help, self.events.clone());
        let help = "Objects, topics and groups that somebody else changed or deleted, put back";
        all.register("drift_repaired", help, self.repaired.clone());
        let help = "Declared resets of progress by what came of them";
        all.register("offset_resets", help, self.resets.clone());
        let help = "Brokers restarted because their pods are to be different";
        all.register("broker_restarts", help, self.restarts.clone());
        let help = "Objects by state and by reason of their readiness";
        all.register("objects", help, self.objects.clone());
        let help = "Objects whose deletion waits";
        all.register("deletions_waiting", help, self.deletions.clone());
        let help = "Seconds since the deletion was asked for that waits the longest";
        all.register("deletion_oldest_seconds", help, self.deletion_seconds.clone());
        let help = "Brokers by whether the operator is connected to them";
        all.register("broker_links", help, self.links.clone());
        all
    }

    /// Counts a finished reconcile. `outcome` is `ok` or the word of an error.
    pub fn reconciled(&self, controller: &'static str, outcome: &'static str, took: Duration) {
        self.reconciles.get_or_create(&Ended { controller, outcome }).inc();
        self.seconds.get_or_create(&Controller { controller }).observe(took.as_secs_f64());
    }

    /// Counts a written status.
    pub fn status_written(&self, controller: &'static str) {
        self.status_writes.get_or_create(&Controller { controller }).inc();
    }

    /// Notes whether this process holds the lease.
    pub fn set_leader(&self, leads: bool) {
        self.leader.set(i64::from(leads));
    }

    /// Counts a request to the API server.
    pub fn requested(&self, request: &Request) {
        self.requests.get_or_create(request).inc();
    }

    /// Counts an event for people.
    pub fn event_told(&self, outcome: &'static str) {
        self.events.get_or_create(&Outcome { outcome: outcome.to_owned() }).inc();
    }

    /// Counts something that was put back.
    pub fn repaired(&self, kind: &str, drift: Drift) {
        let repaired = Repaired { kind: kind.to_owned(), drift: drift.word() };
        self.repaired.get_or_create(&repaired).inc();
    }

    /// Counts what came of a declared reset.
    pub fn reset(&self, outcome: &str) {
        self.resets.get_or_create(&Outcome { outcome: outcome.to_owned() }).inc();
    }

    /// Counts a broker that is restarted.
    pub fn restarted(&self) {
        self.restarts.inc();
    }

    /// Says how to look at what can be counted at any time.
    pub fn survey_with(&self, look: impl Fn() -> Survey + Send + Sync + 'static) {
        // The first one stays: a process works once.
        let _ = self.look.set(Box::new(look));
    }

    fn survey(&self) {
        let Some(look) = self.look.get() else { return };
        let survey = look();
        self.objects.clear();
        for (objects, count) in &survey.objects {
            self.objects.get_or_create(objects).set(*count);
        }
        for &(kind, waiting, oldest_seconds) in &survey.deletions {
            self.deletions.get_or_create(&OfKind { kind }).set(waiting);
            self.deletion_seconds.get_or_create(&OfKind { kind }).set(oldest_seconds);
        }
        let (connected, silent) = survey.links;
        self.links.get_or_create(&State { state: "connected" }).set(connected);
        self.links.get_or_create(&State { state: "silent" }).set(silent);
    }

    /// All numbers as text.
    ///
    /// # Errors
    /// Only when a text cannot be written to memory.
    pub fn encode(&self) -> Result<String, fmt::Error> {
        let _page = self.page.lock().expect("nothing panics while it holds this lock");
        self.survey();
        let mut text = String::new();
        encode(&mut text, &self.registry)?;
        Ok(text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_counted_stands_in_the_text() {
        let metrics = Metrics::default();
        metrics.reconciled("topic", "ok", Duration::from_millis(3));
        metrics.set_leader(true);
        metrics.repaired("Service", Drift::Gone);
        let text = metrics.encode().unwrap();
        assert!(text.contains(r#"reconciles_total{controller="topic",outcome="ok"} 1"#), "{text}");
        assert!(text.contains("pinnace_operator_leader 1"), "{text}");
        let repaired = r#"drift_repaired_total{kind="Service",drift="gone"} 1"#;
        assert!(text.contains(repaired), "{text}");
    }

    #[test]
    fn a_state_in_which_no_object_is_any_more_has_no_line() {
        let metrics = Metrics::default();
        let states = Mutex::new(vec!["stalled", "ready"]);
        metrics.survey_with(move || {
            let state = states.lock().unwrap().pop().unwrap();
            let objects = Objects { kind: "Topic", state, reason: "Because".to_owned() };
            Survey { objects: vec![(objects, 7)], ..Survey::default() }
        });
        let line = |state| {
            format!(
                r#"pinnace_operator_objects{{kind="Topic",state="{state}",reason="Because"}} 7"#
            )
        };
        assert!(metrics.encode().unwrap().contains(&line("ready")));
        let text = metrics.encode().unwrap();
        assert!(text.contains(&line("stalled")) && !text.contains(r#"state="ready""#), "{text}");
    }
}
