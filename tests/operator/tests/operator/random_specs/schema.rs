//! Random specs out of the schema of a definition, so that a new field is tried as soon as it is there. Texts come from
//! small pools by the name of their field; some are wrong in a way that a schema does not see.

use serde_json::{Map, Value, json};

use crate::random::Random;

/// Optional fields that are there, out of 1,000.
const OPTIONAL_PER_THOUSAND: u64 = 250;
/// Texts that are wrong wherever they stand, out of 1,000.
const WRONG_PER_THOUSAND: u64 = 15;
/// Entries of a list or map at most.
const ENTRIES_MAX: u64 = 2;

/// Fields that stay away: everything belongs to the one cluster of the test, and what `tls` names would be waited for.
const LEFT_OUT: [&str; 2] = ["clusterRef", "tls"];

/// Texts for fields of one name: a part of the path to it, and what may stand there.
const TEXTS: [(&str, &[&str]); 29] = [
    // What does not exist is waited for.
    ("serviceAccountName", &["default"]),
    ("priorityClassName", &["system-cluster-critical"]),
    ("offsetReset.to.time", &["2026-01-31T08:00:00Z", "2026-01-31T08:00:00.5+01:00"]),
    ("offsetReset.id", &["one", "two", "three"]),
    (".topicName", &["a-name", "another", "%DLQ%no"]),
    (".groupName", &["a-name", "another", "no name"]),
    (".liteTopic", &["rooms", "orders"]),
    (".topics[]", &["orders", "payments"]),
    (".topic", &["orders", "payments"]),
    (
        ".expression",
        &["*", "a || b", "amount > 3", "amount >", "x IS NOT NULL AND y BETWEEN 1 AND 2", "a ||"],
    ),
    ("sizeLimit", &["1Gi", "10Mi"]),
    ("retention.time", &["1m", "72h", "1s", "90m30s"]),
    ("retention.bytes", &["100Gi", "1073741824", "1k"]),
    ("storage.size", &["1Gi", "2Gi", "100Gi"]),
    ("resources.requests", &["100m", "256Mi", "1e3"]),
    ("resources.limits", &["1", "1Gi", "2.5"]),
    ("backoff", &["1s", "10s", "1m", "0s", "200h"]),
    ("liteExpiry", &["1s", "24h", "1ms"]),
    ("image.digest", &["sha256:0000000000000000000000000000000000000000000000000000000000000000"]),
    ("image.tag", &["0.1.0", "latest"]),
    (".version", &["0.1.0", "0.2.0-rc.1"]),
    (".cidr", &["10.0.0.0/8", "192.168.0.0/16", "fd00::/8"]),
    (".except[]", &["10.1.0.0/16", "172.16.0.0/12"]),
    ("topologyKey", &["kubernetes.io/hostname", "topology.kubernetes.io/zone"]),
    (".fieldPath", &["metadata.name", "spec.nodeName", "status.podIP"]),
    (".mountPath", &["/scratch", "/etc/extra"]),
    ("volumes[].name", &["scratch", "certificates"]),
    ("volumeMounts[].name", &["scratch", "certificates"]),
    ("env[].name", &["LANG", "TZ"]),
];
/// Brokers that the test has for a cluster.
pub(super) const BROKERS_MAX: f64 = 3.0;
const OTHER_TEXTS: [&str; 3] = ["shop", "a", "x-1"];
const WRONG_TEXTS: [&str; 4] = ["not a name!", "", "-", "\u{1F4E8}"];
const KEYS: [&str; 4] = ["app", "example.com/team", "cpu", "memory"];

/// A value for a schema; `path` names it from the spec on.
pub(super) fn value(schema: &Value, path: &str, random: &mut Random) -> Value {
    if let Some(choices) = schema["enum"].as_array() {
        let choices: Vec<_> = choices.iter().filter(|choice| !choice.is_null()).collect();
        return (*random.pick(&choices)).clone();
    }
    match schema["type"].as_str() {
        Some("object") if schema["properties"].is_object() => object(schema, path, random),
        Some("object") => {
            let of = &schema["additionalProperties"];
            let entries = random.below(ENTRIES_MAX + 1);
            let entry = |_| ((*random.pick(&KEYS)).to_owned(), value(of, path, random));
            Value::Object((0..entries).map(entry).collect())
        }
        Some("array") => {
            let entries = random.below(ENTRIES_MAX + 1);
            let path = format!("{path}[]");
            (0..entries).map(|_| value(&schema["items"], &path, random)).collect()
        }
        Some("boolean") => json!(random.happens(500)),
        Some("integer") => {
            let bound = |name: &str, otherwise: f64| schema[name].as_f64().unwrap_or(otherwise);
            let (least, most) = (bound("minimum", -1000.0), bound("maximum", 1000.0));
            let most = if path == ".brokers" { BROKERS_MAX } else { most };
            let any = random.below(12);
            #[expect(
                clippy::cast_possible_truncation,
                clippy::cast_precision_loss,
                reason = "bounds are small"
            )]
            let number = match any {
                0 => most as i64,
                any => (least + any as f64 - 1.0).min(most) as i64,
            };
            json!(number)
        }
        _ => text(path, random),
    }
}

fn object(schema: &Value, path: &str, random: &mut Random) -> Value {
    let required = schema["required"].as_array();
    let is_required = |name: &str| required.is_some_and(|all| all.iter().any(|one| one == name));
    let mut fields = Map::new();
    for (name, of) in schema["properties"].as_object().unwrap() {
        let is_wanted = is_required(name) || random.happens(OPTIONAL_PER_THOUSAND);
        if is_wanted && !LEFT_OUT.contains(&name.as_str()) {
            let made = value(of, &format!("{path}.{name}"), random);
            if is_required(name) || !is_empty(&made) {
                fields.insert(name.clone(), made);
            }
        }
    }
    Value::Object(fields)
}

/// Of an empty list or object server-side apply makes now one thing, now another.
fn is_empty(made: &Value) -> bool {
    [json!({}), json!([])].contains(made)
}

fn text(path: &str, random: &mut Random) -> Value {
    if random.happens(WRONG_PER_THOUSAND) {
        return json!(random.pick(&WRONG_TEXTS));
    }
    let known = TEXTS.iter().find(|(part, _)| path.contains(part));
    json!(random.pick(known.map_or(&OTHER_TEXTS[..], |(_, texts)| texts)))
}

/// The spec with one of its fields made anew, added or taken away.
pub(super) fn mutation(schema: &Value, spec: &Value, random: &mut Random) -> (Value, String) {
    let names = schema["properties"].as_object().unwrap().keys();
    let names: Vec<&String> = names.filter(|name| !LEFT_OUT.contains(&name.as_str())).collect();
    let name = *random.pick(&names);
    let mut changed = spec.clone();
    let fields = changed.as_object_mut().unwrap();
    if fields.contains_key(name) && random.happens(300) {
        fields.remove(name);
    } else {
        let made = value(&schema["properties"][name], &format!(".{name}"), random);
        if !is_empty(&made) {
            fields.insert(name.clone(), made);
        }
    }
    (changed, name.clone())
}
