//! Which objects claim which name of which cluster: an index that the watches keep, so that no reconcile walks over all
//! objects to find the few that matter to it. Holds what the API server told, and decides nothing.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::{Mutex, MutexGuard};

use crate::names::ClusterKey;
use crate::ownership::Claim;
use crate::signals::Scope;

/// Namespace and name of an object.
type ObjectKey = (String, String);
/// A cluster and a name in it.
type Target = (ClusterKey, String);

/// One object of the index.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// Its claim.
    pub claim: Claim,
    /// Whether it is being deleted: it claims nothing any more, but is still looked after.
    pub is_deleted: bool,
    /// Whether its adoption policy lets it take over what exists.
    pub takes_over: bool,
    /// Topics that it subscribes to.
    pub topics: BTreeSet<String>,
}

/// All objects of one kind by what they claim.
#[derive(Debug, Default)]
pub struct Claims(Mutex<Index>);

#[derive(Debug, Default)]
struct Index {
    claims: BTreeMap<Target, BTreeMap<ObjectKey, Entry>>,
    targets: HashMap<ObjectKey, Target>,
    /// Objects by a topic that they subscribe to.
    subscribers: BTreeMap<Target, BTreeSet<ObjectKey>>,
}

impl Index {
    fn remove(&mut self, object: &ObjectKey) {
        let Some(target) = self.targets.remove(object) else { return };
        let Some(entries) = self.claims.get_mut(&target) else { return };
        let removed = entries.remove(object);
        if entries.is_empty() {
            self.claims.remove(&target);
        }
        for topic in removed.into_iter().flat_map(|entry| entry.topics) {
            let topic = (target.0.clone(), topic);
            if let Some(objects) = self.subscribers.get_mut(&topic) {
                objects.remove(object);
                if objects.is_empty() {
                    self.subscribers.remove(&topic);
                }
            }
        }
    }
}

impl Claims {
    fn lock(&self) -> MutexGuard<'_, Index> {
        self.0.lock().expect("nothing panics while it holds this lock")
    }

    /// Notes an object as it is now.
    pub fn note(&self, cluster: ClusterKey, name: String, entry: Entry) {
        let object = (entry.claim.namespace.clone(), entry.claim.name.clone());
        let target = (cluster, name);
        let mut index = self.lock();
        // An object that was created again may claim something else, and one that changed subscribe to something else.
        index.remove(&object);
        for topic in &entry.topics {
            let topic = (target.0.clone(), topic.clone());
            index.subscribers.entry(topic).or_default().insert(object.clone());
        }
        index.targets.insert(object.clone(), target.clone());
        index.claims.entry(target).or_default().insert(object, entry);
    }

    /// Forgets an object that is gone, unless another one of the same name has taken its place.
    pub fn forget(&self, claim: &Claim) {
        let object = (claim.namespace.clone(), claim.name.clone());
        let mut index = self.lock();
        let target = index.targets.get(&object);
        let known = target.and_then(|target| index.claims.get(target)?.get(&object));
        if known.is_some_and(|known| known.claim.uid == claim.uid) {
            index.remove(&object);
        }
    }

    /// Objects other than `claim`'s that claim the same name and are not being deleted.
    #[must_use]
    pub fn rivals(&self, cluster: &ClusterKey, name: &str, claim: &Claim) -> Vec<Entry> {
        let index = self.lock();
        let entries = index.claims.get(&(cluster.clone(), name.to_owned()));
        let entries = entries.into_iter().flat_map(BTreeMap::values);
        let is_rival = |entry: &&Entry| !entry.is_deleted && entry.claim.uid != claim.uid;
        entries.filter(is_rival).cloned().collect()
    }

    /// Namespace and name of every object that claims something in one of the scopes, those included that are being
    /// deleted.
    #[must_use]
    pub fn objects(&self, scopes: &BTreeSet<Scope>) -> BTreeSet<(String, String)> {
        let index = self.lock();
        let mut objects = BTreeSet::new();
        for scope in scopes {
            match scope {
                Scope::One(cluster, name) => {
                    let entries = index.claims.get(&(cluster.clone(), name.clone()));
                    objects.extend(entries.into_iter().flat_map(BTreeMap::keys).cloned());
                }
                Scope::Subscribers(cluster, topic) => {
                    let found = index.subscribers.get(&(cluster.clone(), topic.clone()));
                    objects.extend(found.into_iter().flatten().cloned());
                }
                Scope::All(cluster) => {
                    let first = (cluster.clone(), String::new());
                    let of_cluster = index.claims.range(first..);
                    let of_cluster = of_cluster.take_while(|((of, _), _)| of == cluster);
                    objects.extend(of_cluster.flat_map(|(_, entries)| entries.keys()).cloned());
                }
            }
        }
        objects
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cluster(name: &str) -> ClusterKey {
        ClusterKey { namespace: "shop".to_owned(), name: name.to_owned() }
    }

    fn entry(name: &str, uid: &str) -> Entry {
        let claim = Claim {
            namespace: "shop".to_owned(),
            name: name.to_owned(),
            uid: uid.to_owned(),
            created: String::new(),
        };
        Entry { claim, is_deleted: false, takes_over: true, topics: BTreeSet::new() }
    }

    fn note(claims: &Claims, of: &str, name: &str, entry: Entry) {
        claims.note(cluster(of), name.to_owned(), entry);
    }

    fn objects(claims: &Claims, scope: Scope) -> Vec<String> {
        claims.objects(&BTreeSet::from([scope])).into_iter().map(|(_, name)| name).collect()
    }

    #[test]
    fn a_scope_holds_what_claims_in_its_cluster_only() {
        let claims = Claims::default();
        note(&claims, "a", "orders", entry("first", "1"));
        note(&claims, "a", "orders", entry("second", "2"));
        note(&claims, "a", "payments", Entry { is_deleted: true, ..entry("third", "3") });
        note(&claims, "b", "orders", entry("fourth", "4"));
        let one = Scope::One(cluster("a"), "orders".to_owned());
        assert_eq!(objects(&claims, one), ["first", "second"]);
        assert_eq!(objects(&claims, Scope::All(cluster("a"))), ["first", "second", "third"]);
        assert_eq!(objects(&claims, Scope::All(cluster("c"))), Vec::<String>::new());
    }

    #[test]
    fn subscribers_of_a_topic_are_those_of_its_cluster_as_they_are_now() {
        let claims = Claims::default();
        let subscribed = |name: &str, topics: &[&str]| Entry {
            topics: topics.iter().map(|&topic| topic.to_owned()).collect(),
            ..entry(name, name)
        };
        note(&claims, "a", "billing", subscribed("billing", &["orders", "refunds"]));
        note(&claims, "a", "audit", subscribed("audit", &["orders"]));
        note(&claims, "b", "billing", subscribed("elsewhere", &["orders"]));
        let of = |topic: &str| Scope::Subscribers(cluster("a"), topic.to_owned());
        assert_eq!(objects(&claims, of("orders")), ["audit", "billing"]);
        note(&claims, "a", "billing", subscribed("billing", &["refunds"]));
        claims.forget(&entry("audit", "audit").claim);
        assert_eq!(objects(&claims, of("orders")), Vec::<String>::new());
        assert_eq!(objects(&claims, of("refunds")), ["billing"]);
    }

    #[test]
    fn what_is_being_deleted_is_no_rival_and_neither_is_the_object_itself() {
        let claims = Claims::default();
        let mine = entry("mine", "1");
        note(&claims, "a", "orders", mine.clone());
        note(&claims, "a", "orders", Entry { is_deleted: true, ..entry("leaving", "2") });
        note(&claims, "a", "orders", entry("other", "3"));
        let rivals = claims.rivals(&cluster("a"), "orders", &mine.claim);
        assert_eq!(rivals, [entry("other", "3")]);
    }

    #[test]
    fn an_object_created_again_stands_under_its_new_name_only_and_outlives_the_end_of_the_old_one()
    {
        let claims = Claims::default();
        let old = entry("orders", "1");
        note(&claims, "a", "orders", old.clone());
        note(&claims, "a", "renamed", entry("orders", "2"));
        claims.forget(&old.claim);
        let scope = |name: &str| Scope::One(cluster("a"), name.to_owned());
        assert_eq!(objects(&claims, scope("orders")), Vec::<String>::new());
        assert_eq!(objects(&claims, scope("renamed")), ["orders"]);
        claims.forget(&entry("orders", "2").claim);
        assert_eq!(objects(&claims, Scope::All(cluster("a"))), Vec::<String>::new());
    }
}
