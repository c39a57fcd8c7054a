//! What was applied last of every object that the operator makes, and how the API server answered: what is there already is
//! not applied again, and what somebody changed meanwhile is known by name. Keeps nothing that a restart would miss: an
//! object that is not remembered is applied, which changes nothing where nothing differs.

use std::collections::{BTreeSet, HashMap};
use std::sync::{Mutex, MutexGuard};

use serde_json::Value;

use crate::context::shorten;
use crate::names::ClusterKey;

/// Fields that are named when an object is not as it was applied; all others are counted.
const FIELDS_NAMED_MAX: usize = 6;
/// Longest value that is shown.
const VALUE_BYTES_MAX: usize = 100;

/// Every object by its cluster and by what it is called there, with its kind.
#[derive(Debug, Default)]
pub struct Applied(Mutex<HashMap<ClusterKey, HashMap<String, Record>>>);

#[derive(Debug)]
struct Record {
    wanted: Value,
    /// Of what the API server answered, the fields that were wanted: it writes some of them in its own way.
    answered: Value,
}

/// How an object stands to what was applied of it last.
#[derive(Debug, PartialEq, Eq)]
pub enum Standing {
    /// It is there and has not changed.
    InPlace,
    /// This process has not applied it yet, or applied something else.
    ToApply,
    /// Somebody else changed these fields.
    Changed(String),
    /// Somebody else deleted it.
    Gone,
}

impl Applied {
    fn lock(&self) -> MutexGuard<'_, HashMap<ClusterKey, HashMap<String, Record>>> {
        self.0.lock().expect("nothing panics while it holds this lock")
    }

    /// How it stands.
    #[must_use]
    pub fn standing(
        &self,
        cluster: &ClusterKey,
        object: &str,
        wanted: &Value,
        live: Option<&Value>,
    ) -> Standing {
        let all = self.lock();
        let Some(record) = all.get(cluster).and_then(|objects| objects.get(object)) else {
            return Standing::ToApply;
        };
        let Some(live) = live else { return Standing::Gone };
        if record.wanted != *wanted {
            return Standing::ToApply;
        }
        let seen = project(live, wanted);
        if seen == record.answered {
            return Standing::InPlace;
        }
        Standing::Changed(told(&seen, &record.answered))
    }

    /// Notes an answered apply.
    pub fn note(&self, cluster: &ClusterKey, object: &str, wanted: Value, answer: &Value) {
        let answered = project(answer, &wanted);
        let record = Record { wanted, answered };
        self.lock().entry(cluster.clone()).or_default().insert(object.to_owned(), record);
    }

    /// Forgets all objects of a cluster but these.
    pub fn retain(&self, cluster: &ClusterKey, objects: &BTreeSet<String>) {
        if let Some(known) = self.lock().get_mut(cluster) {
            known.retain(|object, _| objects.contains(object));
        }
    }

    /// Forgets a cluster that is gone.
    pub fn forget(&self, cluster: &ClusterKey) {
        self.lock().remove(cluster);
    }
}

/// Of an object, the fields that another one has.
fn project(object: &Value, shape: &Value) -> Value {
    match (object, shape) {
        (Value::Object(object), Value::Object(shape)) => {
            let field = |(name, shape): (&String, &Value)| {
                let value = object.get(name).map_or(Value::Null, |value| project(value, shape));
                (name.clone(), value)
            };
            Value::Object(shape.iter().map(field).collect())
        }
        (Value::Array(object), Value::Array(shape)) if object.len() == shape.len() => {
            let both = object.iter().zip(shape);
            Value::Array(both.map(|(object, shape)| project(object, shape)).collect())
        }
        _ => object.clone(),
    }
}

/// The fields of `wanted` that an object has otherwise, for people.
#[must_use]
pub fn told(object: &Value, wanted: &Value) -> String {
    let mut found = Vec::new();
    compare("", &project(object, wanted), wanted, &mut found);
    let named = found.get(..FIELDS_NAMED_MAX).unwrap_or(&found).join(", ");
    match found.len().saturating_sub(FIELDS_NAMED_MAX) {
        0 => named,
        more => format!("{named}, and {more} more fields"),
    }
}

fn compare(path: &str, has: &Value, wanted: &Value, found: &mut Vec<String>) {
    match (has, wanted) {
        _ if has == wanted => {}
        (Value::Object(has), Value::Object(wanted)) => {
            for (name, wanted) in wanted {
                let path = if path.is_empty() { name.clone() } else { format!("{path}.{name}") };
                compare(&path, has.get(name).unwrap_or(&Value::Null), wanted, found);
            }
        }
        (Value::Array(has), Value::Array(wanted)) if has.len() == wanted.len() => {
            for (index, (has, wanted)) in has.iter().zip(wanted).enumerate() {
                compare(&format!("{path}[{index}]"), has, wanted, found);
            }
        }
        _ => found.push(match (short(has), short(wanted)) {
            (Some(has), Some(wanted)) => format!("{path} (has {has}, wanted {wanted})"),
            _ => path.to_owned(),
        }),
    }
}

/// A value that can be shown in a line.
fn short(value: &Value) -> Option<String> {
    match value {
        Value::Null => Some("none".to_owned()),
        Value::String(text) => Some(shorten(text, VALUE_BYTES_MAX)),
        Value::Bool(_) | Value::Number(_) => Some(value.to_string()),
        Value::Array(_) | Value::Object(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn key() -> ClusterKey {
        ClusterKey { namespace: "shop".to_owned(), name: "default".to_owned() }
    }

    fn wanted() -> Value {
        json!({"spec": {"ports": [{"port": 80, "name": "client"}], "memory": "1024Mi"}})
    }

    /// As an API server answers: with more fields, and sizes in its own way.
    fn live() -> Value {
        json!({
            "spec": {"ports": [{"port": 80, "name": "client", "nodePort": 1}], "memory": "1Gi", "ip": "10.0.0.1"},
            "status": {"ready": 1},
        })
    }

    fn standing(applied: &Applied, wanted: &Value, live: Option<&Value>) -> Standing {
        applied.standing(&key(), "Service default-client", wanted, live)
    }

    fn noted() -> Applied {
        let applied = Applied::default();
        applied.note(&key(), "Service default-client", wanted(), &live());
        applied
    }

    #[test]
    fn what_was_applied_and_did_not_change_is_in_place() {
        let applied = noted();
        let mut later = live();
        later["status"]["ready"] = 2.into();
        later["spec"]["ip"] = "10.0.0.2".into();
        assert_eq!(standing(&applied, &wanted(), Some(&later)), Standing::InPlace);
    }

    #[test]
    fn what_is_not_known_or_wanted_otherwise_is_applied() {
        let applied = noted();
        let mut fewer = wanted();
        fewer["spec"].as_object_mut().unwrap().remove("memory");
        assert_eq!(standing(&applied, &fewer, Some(&live())), Standing::ToApply);
        applied.retain(&key(), &BTreeSet::new());
        assert_eq!(standing(&applied, &wanted(), None), Standing::ToApply);
        let applied = noted();
        applied.forget(&key());
        assert_eq!(standing(&applied, &wanted(), Some(&live())), Standing::ToApply);
    }

    #[test]
    fn what_somebody_else_did_is_named() {
        let applied = noted();
        let mut changed = live();
        changed["spec"]["memory"] = "2Gi".into();
        changed["spec"]["ports"] = json!([]);
        let told = "spec.memory (has 2Gi, wanted 1Gi), spec.ports".to_owned();
        assert_eq!(standing(&applied, &wanted(), Some(&changed)), Standing::Changed(told));
        assert_eq!(standing(&applied, &wanted(), None), Standing::Gone);
    }
}
