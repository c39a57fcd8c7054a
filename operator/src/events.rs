//! Events for people, each at the object that it is about. The same words again within some minutes are one event with a
//! count, and an object with much to say is cut short, so that no fault floods the API server.

use std::collections::HashMap;
use std::fmt;
use std::sync::{Mutex, MutexGuard};
use std::time::Duration;

use k8s_openapi::api::events::v1::{Event, EventSeries};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{MicroTime, ObjectMeta};
use k8s_openapi::jiff::Timestamp;
use kube::api::{Api, Patch, PatchParams, PostParams};
use kube::{Client, ResourceExt as _};
use serde_json::json;
use tokio::time::Instant;
use tracing::debug;
use xxhash_rust::xxh3::xxh3_64;

use crate::context::shorten;
use crate::metrics::Metrics;
use crate::status_writer::{Kind, describe};

/// Who tells.
const REPORTER: &str = "pinnace-operator";
/// Longest note of an event that Kubernetes takes.
const NOTE_BYTES_MAX: usize = 1000;
/// Longest part of an object's name in the name of its event.
const NAME_BYTES_MAX: usize = 200;
/// The same words within this time are one event with a count.
const SERIES_TIME: Duration = Duration::from_secs(360);
/// Events that are remembered for that.
const REMEMBERED_MAX: usize = 1024;
/// Events of one object in a row.
const BURST_MAX: u32 = 20;
/// After a burst, one more event of the object each.
const BURST_PAUSE: Duration = Duration::from_secs(30);
/// Objects whose bursts are counted.
const OBJECTS_MAX: usize = 4096;

/// Something that happened, for people.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Happening {
    /// Somebody should look.
    pub is_warning: bool,
    /// One word for programs.
    pub reason: String,
    /// A sentence for people.
    pub note: String,
}

impl Happening {
    /// Something that went as it should.
    pub fn normal(reason: impl Into<String>, note: impl Into<String>) -> Self {
        Self { is_warning: false, reason: reason.into(), note: note.into() }
    }

    /// Something that somebody should look at.
    pub fn warning(reason: impl Into<String>, note: impl Into<String>) -> Self {
        Self { is_warning: true, reason: reason.into(), note: note.into() }
    }
}

/// Writes events.
pub struct Events {
    client: Client,
    instance: String,
    metrics: Metrics,
    recent: Mutex<Recent>,
}

impl fmt::Debug for Events {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Events").field("instance", &self.instance).finish_non_exhaustive()
    }
}

/// What was told a while ago.
#[derive(Debug, Default)]
struct Recent {
    told: HashMap<u64, Told>,
    bursts: HashMap<String, Burst>,
}

#[derive(Debug, Clone)]
struct Told {
    name: String,
    count: i32,
    at: Instant,
}

#[derive(Debug)]
struct Burst {
    spent: u32,
    at: Instant,
}

/// What is to be done about a happening.
#[derive(Debug, PartialEq, Eq)]
enum Step {
    /// A new event.
    Write,
    /// The event of this name, with its count.
    Repeat(String, i32),
    /// Nothing: the object has said too much.
    Drop,
}

impl Recent {
    fn step(&mut self, object: &str, words: u64, now: Instant) -> Step {
        if self.told.len() >= REMEMBERED_MAX {
            self.told.retain(|_, told| now.duration_since(told.at) < SERIES_TIME);
        }
        if self.told.len() >= REMEMBERED_MAX {
            // Then some are told anew rather than counted.
            self.told.clear();
        }
        if self.bursts.len() >= OBJECTS_MAX {
            self.bursts.clear();
        }
        let burst = self.bursts.entry(object.to_owned()).or_insert(Burst { spent: 0, at: now });
        let pauses = now.duration_since(burst.at).as_secs() / BURST_PAUSE.as_secs();
        if let Ok(pauses) = u32::try_from(pauses)
            && pauses > 0
        {
            *burst = Burst { spent: burst.spent.saturating_sub(pauses), at: now };
        }
        if burst.spent >= BURST_MAX {
            return Step::Drop;
        }
        burst.spent += 1;
        match self.told.get_mut(&words).filter(|told| now.duration_since(told.at) < SERIES_TIME) {
            Some(told) => {
                told.count = told.count.saturating_add(1);
                told.at = now;
                Step::Repeat(told.name.clone(), told.count)
            }
            None => Step::Write,
        }
    }
}

impl Events {
    /// None told yet.
    #[must_use]
    pub fn new(client: Client, instance: String, metrics: Metrics) -> Self {
        Self { client, instance, metrics, recent: Mutex::default() }
    }

    fn recent(&self) -> MutexGuard<'_, Recent> {
        self.recent.lock().expect("nothing panics while it holds this lock")
    }

    /// Tells it. An event that cannot be written is no reason to stop: conditions and metrics say the same.
    pub async fn tell<K: Kind>(&self, object: &K, happening: &Happening) {
        let uid = object.uid().unwrap_or_default();
        let Happening { is_warning, reason, note } = happening;
        let words = xxh3_64(format!("{uid} {is_warning} {reason} {note}").as_bytes());
        let now = Instant::now();
        let step = self.recent().step(&uid, words, now);
        let api = Api::namespaced(self.client.clone(), &object.namespace().unwrap_or_default());
        let (outcome, written) = match step {
            Step::Drop => ("dropped", Ok(())),
            Step::Repeat(name, count) => ("repeated", repeat(&api, &name, count).await),
            Step::Write => {
                let event = self.event(object, happening);
                let name = event.name_any();
                let written = api.create(&PostParams::default(), &event).await;
                if written.is_ok() {
                    self.recent().told.insert(words, Told { name, count: 1, at: now });
                }
                ("written", written.map(|_| ()))
            }
        };
        if let Err(error) = &written {
            debug!(object = %describe(object), %error, reason, "cannot write an event");
        }
        self.metrics.event_told(if written.is_ok() { outcome } else { "failed" });
    }

    fn event<K: Kind>(&self, object: &K, happening: &Happening) -> Event {
        let now = Timestamp::now();
        let object_name = shorten(&object.name_any(), NAME_BYTES_MAX);
        Event {
            metadata: ObjectMeta {
                namespace: object.namespace(),
                name: Some(format!("{object_name}.{:x}", now.as_nanosecond())),
                ..ObjectMeta::default()
            },
            action: Some("Reconcile".to_owned()),
            event_time: Some(MicroTime(now)),
            note: Some(shorten(&happening.note, NOTE_BYTES_MAX)),
            reason: Some(happening.reason.clone()),
            regarding: Some(object.object_ref(&())),
            reporting_controller: Some(REPORTER.to_owned()),
            reporting_instance: Some(self.instance.clone()),
            type_: Some(if happening.is_warning { "Warning" } else { "Normal" }.to_owned()),
            ..Event::default()
        }
    }
}

/// Says that an event happened again.
async fn repeat(api: &Api<Event>, name: &str, count: i32) -> Result<(), kube::Error> {
    let series = EventSeries { count, last_observed_time: MicroTime(Timestamp::now()) };
    let patch = Patch::Merge(json!({"series": series}));
    api.patch(name, &PatchParams::default(), &patch).await.map(|_| ())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Takes a step, and remembers what was written.
    fn step(recent: &mut Recent, object: &str, words: u64, now: Instant) -> Step {
        let step = recent.step(object, words, now);
        if step == Step::Write {
            let told = Told { name: format!("event-{words}"), count: 1, at: now };
            recent.told.insert(words, told);
        }
        step
    }

    #[test]
    fn the_same_words_are_counted_and_told_anew_after_a_while() {
        let (mut recent, start) = (Recent::default(), Instant::now());
        assert_eq!(step(&mut recent, "a", 1, start), Step::Write);
        assert_eq!(step(&mut recent, "a", 2, start), Step::Write);
        let again = |count| Step::Repeat("event-1".to_owned(), count);
        assert_eq!(step(&mut recent, "a", 1, start + Duration::from_secs(300)), again(2));
        assert_eq!(step(&mut recent, "a", 1, start + Duration::from_secs(600)), again(3));
        let later = start + Duration::from_secs(600) + SERIES_TIME;
        assert_eq!(step(&mut recent, "a", 1, later), Step::Write);
    }

    #[test]
    fn an_object_that_says_too_much_is_cut_short_and_others_are_heard() {
        let (mut recent, now) = (Recent::default(), Instant::now());
        for words in 0..u64::from(BURST_MAX) {
            assert_eq!(step(&mut recent, "loud", words, now), Step::Write);
        }
        assert_eq!(step(&mut recent, "loud", 99, now), Step::Drop);
        assert_eq!(step(&mut recent, "quiet", 100, now), Step::Write);
        assert_eq!(step(&mut recent, "loud", 99, now + BURST_PAUSE), Step::Write);
        assert_eq!(step(&mut recent, "loud", 98, now + BURST_PAUSE), Step::Drop);
    }

    #[test]
    fn what_is_remembered_is_bounded() {
        let (mut recent, now) = (Recent::default(), Instant::now());
        for number in 0..20_000 {
            step(&mut recent, &number.to_string(), number, now);
        }
        assert!(recent.told.len() <= REMEMBERED_MAX && recent.bursts.len() <= OBJECTS_MAX);
    }
}
