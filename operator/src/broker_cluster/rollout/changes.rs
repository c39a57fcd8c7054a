//! What differs between two pod templates, in words for people. Pure.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::PodTemplateSpec;
use serde_json::Value;

use crate::context::shorten;

/// As many changes of one broker are told.
const CHANGES_MAX: usize = 8;
/// Longest value that is shown.
const VALUE_BYTES_MAX: usize = 120;
/// Longest change that the status takes.
const CHANGE_BYTES_MAX: usize = 512;

/// The changes, like `image: pinnace:0.1.0 -> pinnace:0.2.0`; `removed`: also what is only in the first.
pub(super) fn changes(from: &PodTemplateSpec, to: &PodTemplateSpec, removed: bool) -> Vec<String> {
    let (from, to) = (leaves(from), leaves(to));
    let mut changes = Vec::new();
    for (path, value) in &to {
        match from.get(path) {
            Some(before) if before == value => {}
            Some(before) => changes.push(format!("{path}: {before} -> {value}")),
            None => changes.push(format!("{path}: {value} comes")),
        }
    }
    let gone = from.iter().filter(|(path, _)| removed && !to.contains_key(*path));
    changes.extend(gone.map(|(path, value)| format!("{path}: {value} goes")));
    let more = changes.len().saturating_sub(CHANGES_MAX);
    changes.truncate(CHANGES_MAX);
    for change in &mut changes {
        *change = shorten(change, CHANGE_BYTES_MAX);
    }
    if more > 0 {
        changes.push(format!("and {more} more"));
    }
    changes
}

/// Every value of a template by its path.
fn leaves(template: &PodTemplateSpec) -> BTreeMap<String, String> {
    let value = serde_json::to_value(template).expect("a template is plain data");
    let mut leaves = BTreeMap::new();
    collect("", &value, &mut leaves);
    leaves
}

/// The container and the spec of the pod are what everything is about, and are left out.
fn collect(path: &str, value: &Value, leaves: &mut BTreeMap<String, String>) {
    let path = match path {
        "spec" | "containers[broker]" => "",
        path => path,
    };
    let below =
        |name: &str| if path.is_empty() { name.to_owned() } else { format!("{path}.{name}") };
    match value {
        Value::Object(fields) => {
            for (name, value) in fields {
                collect(&below(name), value, leaves);
            }
        }
        Value::Array(values) => {
            for (at, value) in values.iter().enumerate() {
                let before = at.checked_sub(1).and_then(|before| values.get(before)?.as_str());
                let flag = before.filter(|text| text.starts_with("--"));
                let is_flag = value.as_str().is_some_and(|text| text.starts_with("--"));
                let name = value.get("name").and_then(Value::as_str);
                let key = name.or(flag).map_or_else(|| at.to_string(), str::to_owned);
                // A flag is told with its value.
                if !is_flag {
                    collect(&format!("{path}[{key}]"), value, leaves);
                }
            }
        }
        Value::String(text) => {
            leaves.insert(path.to_owned(), shorten(text, VALUE_BYTES_MAX));
        }
        other => {
            leaves.insert(path.to_owned(), other.to_string());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn template(text: &str) -> PodTemplateSpec {
        serde_yaml::from_str(text).unwrap()
    }

    #[test]
    fn a_change_is_told_by_its_path_in_the_container_or_pod() {
        let before = template(
            "
metadata: {labels: {a: b}}
spec:
  containers:
    - {name: broker, image: 'pinnace:0.1.0', args: [serve, --shard-ids, '0,1', --cluster, default], env: [{name: TZ, value: UTC}],
       resources: {limits: {memory: 1Gi}}}
",
        );
        let after = template(
            "
metadata: {labels: {a: c}}
spec:
  nodeSelector: {disk: nvme}
  containers:
    - {name: broker, image: 'pinnace:0.2.0', args: [serve, --shard-ids, '0,1,3', --cluster, default], resources: {limits: {memory: 2Gi}}}
",
        );
        let told = [
            "args[--shard-ids]: 0,1 -> 0,1,3",
            "image: pinnace:0.1.0 -> pinnace:0.2.0",
            "metadata.labels.a: b -> c",
            "nodeSelector.disk: nvme comes",
            "resources.limits.memory: 1Gi -> 2Gi",
            "env[TZ].name: TZ goes",
            "env[TZ].value: UTC goes",
        ];
        assert_eq!(changes(&before, &after, true), told);
        assert_eq!(changes(&before, &after, false), told[..5]);
        assert_eq!(changes(&after, &after, true), Vec::<String>::new());
    }

    #[test]
    fn many_changes_are_counted() {
        let labels = (0..20).map(|n| format!("l{n:02}: x")).collect::<Vec<_>>().join(", ");
        let after =
            template(&format!("metadata: {{labels: {{{labels}}}}}\nspec: {{containers: []}}"));
        let told = changes(&template("spec: {containers: []}"), &after, true);
        assert_eq!((told.len(), told[8].as_str()), (9, "and 12 more"));
    }
}
