//! What a deletion does, from all that decides about it.

use broker_proto::admin::{ClusterMap, Owner, Topic as WireTopic};

use super::*;
use crate::broker_admin::{BrokerEndpoint, Connect as _, GrpcConnector};
use crate::links::Silence;

fn claim() -> Claim {
    Claim {
        namespace: "shop".to_owned(),
        name: "orders".to_owned(),
        uid: "u1".to_owned(),
        created: String::new(),
    }
}

fn broker(number: u32, owner: Option<Owner>, is_silent: bool) -> BrokerView<WireTopic> {
    let endpoint = BrokerEndpoint { broker: number, host: "localhost".to_owned(), port: 1 };
    let lasted = Duration::from_secs(1);
    BrokerView {
        broker: number,
        admin: GrpcConnector.connect(&endpoint).unwrap(),
        session: 1,
        silence: is_silent.then(|| Silence { lasted, error: "gone".to_owned() }),
        held: Some(WireTopic { name: "orders".to_owned(), owner, ..WireTopic::default() }),
        pushed: None,
    }
}

/// What is decided about the deletion of shop/orders; brokers that are asked to delete are listed.
struct Case {
    policy: DeletionPolicy,
    cluster: Option<&'static str>,
    namespace: &'static str,
    has_successor: bool,
    brokers: Option<Vec<BrokerView<WireTopic>>>,
    uses: Option<Vec<String>>,
}

fn case() -> Case {
    let mine = || Some(claim().mark("kubernetes"));
    Case {
        policy: DeletionPolicy::Delete,
        cluster: Some("{}"),
        namespace: "shop",
        has_successor: false,
        brokers: Some(vec![broker(0, mine(), false), broker(1, mine(), false)]),
        uses: Some(Vec::new()),
    }
}

fn decided(case: Case) -> String {
    let cluster: Option<BrokerCluster> = case.cluster.map(|spec| {
        let yaml = format!(
            "{{apiVersion: pinnace.dev/v1alpha1, kind: BrokerCluster, metadata: {{name: default}}, spec: {spec}}}"
        );
        serde_yaml::from_str(&yaml).unwrap()
    });
    let key = ClusterKey { namespace: case.namespace.to_owned(), name: "default".to_owned() };
    let map = Arc::new(ClusterMap::default());
    let view = case.brokers.map(|brokers| ClusterView { map, brokers });
    let facts = Facts {
        name: "orders",
        claim: &claim(),
        policy: case.policy,
        instance: "kubernetes",
        cluster: cluster.as_ref(),
        key: &key,
        has_successor: case.has_successor,
        view: view.as_ref(),
        uses: case.uses,
    };
    match decide(&facts) {
        Decision::LetGo(why) => why.to_owned(),
        Decision::Wait(wait) => format!("{}: {}", wait.word, wait.cause),
        Decision::Destroy(brokers) => {
            let numbers = brokers.iter().map(|broker| broker.broker.to_string());
            format!("delete on {}", numbers.collect::<Vec<_>>().join(", "))
        }
    }
}

#[tokio::test]
async fn what_is_to_go_goes_from_every_broker_and_what_is_to_stay_stays() {
    assert_eq!(decided(case()), "delete on 0, 1");
    let kept = Case { policy: DeletionPolicy::Retain, ..case() };
    assert_eq!(decided(kept), "its policy is Retain");
    assert_eq!(decided(Case { cluster: None, ..case() }), "its cluster is gone");
    let foreign = Case { namespace: "platform", ..case() };
    assert_eq!(decided(foreign), "its namespace may not change the cluster");
}

#[tokio::test]
async fn what_somebody_else_declares_too_stays() {
    let decided = decided(Case { has_successor: true, ..case() });
    assert_eq!(decided, "another object declares the same and takes over");
}

#[tokio::test]
async fn what_a_namesake_made_that_was_created_again_is_not_deleted() {
    let again = Owner { uid: "u2".to_owned(), ..claim().mark("kubernetes") };
    let theirs = || vec![broker(0, Some(again.clone()), false), broker(1, None, false)];
    let left = decided(Case { brokers: Some(theirs()), ..case() });
    assert_eq!(left, "no broker holds anything of it");
    let mut mixed = theirs();
    mixed.push(broker(2, Some(claim().mark("kubernetes")), false));
    assert_eq!(decided(Case { brokers: Some(mixed), ..case() }), "delete on 2");
}

#[tokio::test]
async fn no_broker_is_asked_before_all_are_heard() {
    let mine = || Some(claim().mark("kubernetes"));
    let brokers = vec![broker(0, mine(), false), broker(1, mine(), true), broker(2, mine(), true)];
    let waits = decided(Case { brokers: Some(brokers), ..case() });
    let told = "DeletionWaitsForBroker: no answer from broker 1, 2 of BrokerCluster shop/default";
    assert_eq!(waits, told);
    let waits = decided(Case { brokers: None, ..case() });
    assert!(waits.starts_with("DeletionWaitsForCluster: BrokerCluster shop/default is not set up"));
}

#[tokio::test]
async fn what_is_used_waits_only_when_the_policy_says_so() {
    let uses = || Some(vec!["consumers of it run".to_owned(), "it has dead letters".to_owned()]);
    assert_eq!(decided(Case { uses: uses(), ..case() }), "delete on 0, 1");
    let careful = || Case { policy: DeletionPolicy::DeleteIfUnused, ..case() };
    let waits = decided(Case { uses: uses(), ..careful() });
    let told =
        "DeletionWaitsForUse: topic \"orders\" is used: consumers of it run; it has dead letters";
    assert_eq!(waits, told);
    assert!(decided(Case { uses: None, ..careful() }).contains("is not known yet"));
    assert_eq!(decided(careful()), "delete on 0, 1");
}
