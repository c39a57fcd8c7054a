//! One operator works; another takes over as soon as the first gives the lease back.

use std::time::{Duration, Instant};

use k8s_openapi::api::coordination::v1::Lease;
use operator_api::{BrokerCluster, Topic};
use serde_json::json;

use crate::world::World;

fn held_by(identity: &'static str) -> impl Fn(&Lease) -> bool {
    move |lease| {
        let holder = lease.spec.as_ref().and_then(|spec| spec.holder_identity.as_deref());
        holder == Some(identity)
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_second_operator_stands_by_and_goes_on_when_the_first_stops() {
    let world = World::new().await;
    let _broker = world.broker("default", 0).await;
    let first = world.operator("first");
    world.wait::<Lease>("pinnace-operator", "the first holder", held_by("first")).await;
    let second = world.operator("second");
    world.apply::<BrokerCluster>("default", json!({})).await;
    world.apply::<Topic>("orders", json!({})).await;
    world.wait_condition::<Topic>("orders", "Ready", "True", "Synced").await;
    let lease = world.api::<Lease>().get("pinnace-operator").await.unwrap();
    assert!(held_by("first")(&lease), "{lease:?}");

    let stopped = Instant::now();
    first.stop().await;
    world.wait::<Lease>("pinnace-operator", "the second holder", held_by("second")).await;
    // The lease was given back: nobody waits until it runs out.
    assert!(stopped.elapsed() < Duration::from_secs(12), "{:?}", stopped.elapsed());
    world.apply::<Topic>("payments", json!({})).await;
    world.wait_condition::<Topic>("payments", "Ready", "True", "Synced").await;
    second.stop().await;
}
