//! The operator against a real API server, with brokers that are a small admin server in this process. One namespace, one
//! operator and its brokers for each test.
#![expect(clippy::unwrap_used, clippy::panic, reason = "a test that cannot go on ends")]

#[path = "operator/broker_cluster.rs"]
mod broker_cluster;
#[path = "operator/brokers_away.rs"]
mod brokers_away;
#[path = "operator/consumer_group.rs"]
mod consumer_group;
#[path = "operator/definitions.rs"]
mod definitions;
#[path = "operator/deletion.rs"]
mod deletion;
#[path = "operator/events.rs"]
mod events;
#[path = "operator/fake_broker.rs"]
mod fake_broker;
#[path = "operator/faults.rs"]
mod faults;
#[path = "operator/leadership.rs"]
mod leadership;
#[path = "operator/namespaces.rs"]
mod namespaces;
#[path = "operator/outside.rs"]
mod outside;
#[path = "operator/ownership.rs"]
mod ownership;
#[path = "operator/process.rs"]
mod process;
#[path = "operator/random.rs"]
mod random;
#[path = "operator/random_specs.rs"]
mod random_specs;
#[path = "operator/real_broker.rs"]
mod real_broker;
#[path = "operator/rollouts.rs"]
mod rollouts;
#[path = "operator/scale.rs"]
mod scale;
#[path = "operator/steadiness.rs"]
mod steadiness;
#[path = "operator/storage.rs"]
mod storage;
#[path = "operator/survival.rs"]
mod survival;
#[path = "operator/topic.rs"]
mod topic;
#[path = "operator/world.rs"]
mod world;
