//! The definitions in a real API server: what is refused, with which words, and what defaults are filled in.

use kube::api::{DynamicObject, Patch, PatchParams, PostParams};
use kube::core::{ApiResource, GroupVersionKind, Request};
use kube::{Api, Client};
use operator_api::{BrokerCluster, ConsumerGroup, Topic};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::world::World;

#[derive(Deserialize)]
struct Table {
    objects: Vec<Refusal>,
    changes: Vec<Change>,
}

#[derive(Deserialize)]
struct Refusal {
    name: String,
    message: String,
    api: Option<String>,
    object: Value,
}

#[derive(Deserialize)]
struct Change {
    name: String,
    message: String,
    old: Value,
    new: Value,
}

/// Creates an object as `kubectl create` does: an unknown field is an error, not a warning.
async fn create(world: &World, object: &Value) -> Result<DynamicObject, String> {
    let mut object = object.clone();
    object["apiVersion"] = json!("pinnace.dev/v1alpha1");
    let api = api(&world.client, &world.namespace, &object);
    let body = serde_json::to_vec(&object).unwrap();
    let request = Request::new(api.resource_url()).create(&PostParams::default(), body);
    let mut request = request.unwrap();
    let uri = format!("{}&fieldValidation=Strict", request.uri());
    *request.uri_mut() = uri.parse().unwrap();
    world.client.request(request).await.map_err(|error| error.to_string())
}

/// The table that the loader of manifest files is held to as well.
fn table() -> Table {
    serde_yaml::from_str(include_str!("../../../../operator/api/tests/refusals.yaml")).unwrap()
}

fn api(client: &Client, namespace: &str, object: &Value) -> Api<DynamicObject> {
    let kind = object["kind"].as_str().unwrap();
    let kind = GroupVersionKind::gvk("pinnace.dev", "v1alpha1", kind);
    Api::namespaced_with(client.clone(), namespace, &ApiResource::from_gvk(&kind))
}

async fn apply(world: &World, object: &Value) -> Result<DynamicObject, String> {
    let mut object = object.clone();
    object["apiVersion"] = json!("pinnace.dev/v1alpha1");
    let name = object["metadata"]["name"].as_str().unwrap().to_owned();
    let params = PatchParams::apply("people").force();
    let api = api(&world.client, &world.namespace, &object);
    api.patch(&name, &params, &Patch::Apply(&object)).await.map_err(|error| error.to_string())
}

#[tokio::test]
async fn the_api_server_refuses_every_object_of_the_table_with_its_message() {
    let world = World::new().await;
    for refusal in table().objects {
        let wanted = refusal.api.unwrap_or(refusal.message);
        let error = create(&world, &refusal.object).await.expect_err(&refusal.name);
        assert!(error.contains(&wanted), "{}: wanted {wanted:?} in {error}", refusal.name);
    }
}

#[tokio::test]
async fn the_api_server_refuses_every_change_of_the_table_with_its_message() {
    let world = World::new().await;
    for change in table().changes {
        apply(&world, &change.old).await.unwrap();
        let error = apply(&world, &change.new).await.expect_err(&change.name);
        assert!(error.contains(&change.message), "{}: {error}", change.name);
        let name = change.old["metadata"]["name"].as_str().unwrap();
        let api = api(&world.client, &world.namespace, &change.old);
        api.delete(name, &kube::api::DeleteParams::default()).await.unwrap();
    }
}

#[tokio::test]
async fn what_is_not_said_stays_unsaid_and_a_new_object_counts_as_in_progress() {
    let world = World::new().await;
    let topic: Topic = world.apply("orders", json!({})).await;
    assert_eq!(topic.spec, operator_api::TopicSpec::default());
    assert_eq!((topic.spec.queues, topic.spec.cluster_ref.name.as_str()), (None, "default"));
    assert_eq!(topic.status.unwrap().observed_generation, Some(-1));
    let group: ConsumerGroup = world.apply("billing", json!({})).await;
    assert_eq!(group.spec, operator_api::ConsumerGroupSpec::default());
    let cluster: BrokerCluster = world.apply("default", json!({})).await;
    assert_eq!(cluster.spec, operator_api::BrokerClusterSpec::default());
}

#[tokio::test]
async fn a_refusal_names_the_field_and_speaks_no_other_language() {
    let world = World::new().await;
    for refusal in table().objects {
        let error = create(&world, &refusal.object).await.expect_err(&refusal.name);
        // Behind the sentence stands the whole answer. Of rules that were not looked at the API server speaks in its own words.
        let sentence = error.split(": Invalid (Status").next().unwrap_or_default();
        let error = sentence.replace("<nil>: Invalid value: null: some validation rules", "");
        let foreign = ["<nil>", "type conversion error", "no such overload", "no such key"];
        let found = foreign.iter().find(|words| error.contains(**words));
        assert!(found.is_none(), "{}: {error}", refusal.name);
    }
}

#[tokio::test]
async fn the_examples_are_accepted_as_they_stand() {
    let world = World::new().await;
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples");
    let mut count = 0;
    for example in ["orders", "payments", "reminders", "notifications", "logs"] {
        for file in std::fs::read_dir(folder.join(example)).unwrap() {
            let path = file.unwrap().path();
            if path.extension().is_none_or(|extension| extension != "yaml") {
                continue;
            }
            let text = std::fs::read_to_string(&path).unwrap();
            operator_api::manifest::load(&path.to_string_lossy(), &text).unwrap();
            for document in serde_yaml::Deserializer::from_str(&text) {
                apply(&world, &Value::deserialize(document).unwrap()).await.unwrap();
                count += 1;
            }
        }
    }
    assert_eq!(count, 16);
}
