//! Several watches of one kind, each of objects that no other one has, told as one. Their first lists become one list, for
//! nobody may take half of the objects for all; a list that a watch begins again with becomes the changes that it brings.

use std::collections::HashSet;
use std::sync::Arc;

use kube::ResourceExt as _;
use kube::runtime::watcher::Event;

use crate::status_writer::Kind;

/// The state between events.
#[derive(Debug)]
pub(super) struct Joined<K> {
    sources: Vec<Source<K>>,
    /// Every watch has listed its objects once.
    is_told: bool,
}

#[derive(Debug)]
struct Source<K> {
    /// The list that is under way.
    listing: Vec<K>,
    /// What was listed while others had not; kept until all have.
    first: Option<Vec<K>>,
    /// Uids of what it has told of.
    uids: HashSet<String>,
}

impl<K> Default for Source<K> {
    fn default() -> Self {
        Self { listing: Vec::new(), first: None, uids: HashSet::new() }
    }
}

impl<K: Kind> Source<K> {
    fn apply(&mut self, object: K) {
        self.uids.extend(object.uid());
        if let Some(first) = &mut self.first {
            first.retain(|other| !is_same_name(other, &object));
            first.push(object);
        }
    }

    fn delete(&mut self, object: &K) {
        if let Some(uid) = object.uid() {
            self.uids.remove(&uid);
        }
        if let Some(first) = &mut self.first {
            first.retain(|other| !is_same_name(other, object));
        }
    }
}

fn is_same_name<K: Kind>(one: &K, other: &K) -> bool {
    one.name_any() == other.name_any() && one.namespace() == other.namespace()
}

impl<K: Kind> Joined<K> {
    /// The state before any event, of so many watches.
    pub(super) fn new(watches: usize) -> Self {
        let sources = (0..watches).map(|_| Source::default()).collect();
        Self { sources, is_told: false }
    }

    /// Takes an event of one of the watches; answers the events of the one watch. `known` is all that was told before.
    pub(super) fn take(
        &mut self,
        source: usize,
        event: Event<K>,
        known: impl FnOnce() -> Vec<Arc<K>>,
    ) -> std::vec::IntoIter<Event<K>> {
        let is_told = self.is_told;
        let Some(of) = self.sources.get_mut(source) else { return Vec::new().into_iter() };
        let told = match event {
            Event::Init => {
                of.listing.clear();
                Vec::new()
            }
            Event::InitApply(object) => {
                of.listing.push(object);
                Vec::new()
            }
            Event::InitDone if is_told => of.changes(&known()),
            Event::InitDone => {
                let listed = std::mem::take(&mut of.listing);
                of.uids = listed.iter().filter_map(|object| object.uid()).collect();
                of.first = Some(listed);
                self.first_list()
            }
            Event::Apply(object) if is_told => {
                of.uids.extend(object.uid());
                vec![Event::Apply(object)]
            }
            Event::Apply(object) => {
                of.apply(object);
                Vec::new()
            }
            Event::Delete(object) => {
                of.delete(&object);
                if is_told { vec![Event::Delete(object)] } else { Vec::new() }
            }
        };
        told.into_iter()
    }

    /// The list of all, once every watch has listed.
    fn first_list(&mut self) -> Vec<Event<K>> {
        if self.sources.iter().any(|source| source.first.is_none()) {
            return Vec::new();
        }
        self.is_told = true;
        let all =
            self.sources.iter_mut().flat_map(|source| source.first.take().unwrap_or_default());
        let all = all.map(Event::InitApply);
        std::iter::once(Event::Init).chain(all).chain(std::iter::once(Event::InitDone)).collect()
    }
}

impl<K: Kind> Source<K> {
    /// What a new list says otherwise than what was told: what is gone first, since another object may have its name.
    fn changes(&mut self, known: &[Arc<K>]) -> Vec<Event<K>> {
        let listed = std::mem::take(&mut self.listing);
        let uids: HashSet<String> = listed.iter().filter_map(|object| object.uid()).collect();
        let is_gone = |object: &&Arc<K>| {
            object.uid().is_some_and(|uid| self.uids.contains(&uid) && !uids.contains(&uid))
        };
        let gone = known.iter().filter(is_gone).map(|object| Event::Delete(K::clone(object)));
        let told = gone.chain(listed.into_iter().map(Event::Apply)).collect();
        self.uids = uids;
        told
    }
}

#[cfg(test)]
mod tests {
    use operator_api::Topic;
    use serde_json::json;

    use super::*;

    fn topic(namespace: &str, name: &str, uid: &str) -> Topic {
        let metadata = json!({"namespace": namespace, "name": name, "uid": uid});
        serde_json::from_value(json!({
            "apiVersion": "pinnace.dev/v1alpha1", "kind": "Topic", "metadata": metadata, "spec": {},
        }))
        .unwrap()
    }

    /// Events as short words, and the objects that are known behind them.
    struct Bench {
        joined: Joined<Topic>,
        known: Vec<Arc<Topic>>,
    }

    impl Bench {
        fn new(watches: usize) -> Self {
            Self { joined: Joined::new(watches), known: Vec::new() }
        }

        fn take(&mut self, source: usize, event: Event<Topic>) -> Vec<String> {
            let known = self.known.clone();
            let told: Vec<_> = self.joined.take(source, event, || known).collect();
            let word = |event: &Event<Topic>| match event {
                Event::Init => "init".to_owned(),
                Event::InitApply(object) => format!("list {}", object.uid().unwrap()),
                Event::InitDone => "done".to_owned(),
                Event::Apply(object) => format!("apply {}", object.uid().unwrap()),
                Event::Delete(object) => format!("delete {}", object.uid().unwrap()),
            };
            let words = told.iter().map(word).collect();
            for event in told {
                match event {
                    Event::InitApply(object) | Event::Apply(object) => {
                        self.known.retain(|other| !is_same_name(other.as_ref(), &object));
                        self.known.push(Arc::new(object));
                    }
                    Event::Delete(object) => {
                        self.known.retain(|other| !is_same_name(other.as_ref(), &object));
                    }
                    Event::Init | Event::InitDone => {}
                }
            }
            words
        }

        fn list(&mut self, source: usize, objects: Vec<Topic>) -> Vec<String> {
            let mut told = self.take(source, Event::Init);
            for object in objects {
                told.extend(self.take(source, Event::InitApply(object)));
            }
            told.extend(self.take(source, Event::InitDone));
            told
        }
    }

    #[test]
    fn nothing_is_told_before_every_watch_has_listed() {
        let mut bench = Bench::new(2);
        assert!(bench.list(0, vec![topic("a", "x", "1"), topic("a", "y", "2")]).is_empty());
        // What changes meanwhile counts.
        assert!(bench.take(0, Event::Apply(topic("a", "z", "3"))).is_empty());
        assert!(bench.take(0, Event::Apply(topic("a", "x", "4"))).is_empty());
        assert!(bench.take(0, Event::Delete(topic("a", "y", "2"))).is_empty());
        let told = bench.list(1, vec![topic("b", "x", "5")]);
        assert_eq!(told, ["init", "list 3", "list 4", "list 5", "done"]);
        assert_eq!(bench.take(1, Event::Apply(topic("b", "w", "6"))), ["apply 6"]);
        assert_eq!(bench.take(0, Event::Delete(topic("a", "z", "3"))), ["delete 3"]);
    }

    #[test]
    fn a_first_list_that_begins_again_counts_once() {
        let mut bench = Bench::new(1);
        assert!(bench.take(0, Event::Init).is_empty());
        assert!(bench.take(0, Event::InitApply(topic("a", "x", "1"))).is_empty());
        assert_eq!(bench.list(0, vec![topic("a", "y", "2")]), ["init", "list 2", "done"]);
    }

    #[test]
    fn a_new_list_tells_what_went_while_nobody_watched_and_nothing_of_other_namespaces() {
        let mut bench = Bench::new(2);
        bench.list(0, vec![topic("a", "x", "1"), topic("a", "y", "2"), topic("a", "z", "3")]);
        bench.list(1, vec![topic("b", "x", "4")]);
        bench.take(0, Event::Apply(topic("a", "v", "5")));
        // y is gone, z is another one, v too is gone; nothing was heard of it.
        let told = bench.list(0, vec![topic("a", "x", "1"), topic("a", "z", "6")]);
        assert_eq!(told, ["delete 2", "delete 3", "delete 5", "apply 1", "apply 6"]);
        let mut known: Vec<_> = bench.known.iter().map(|object| object.uid().unwrap()).collect();
        known.sort();
        assert_eq!(known, ["1", "4", "6"]);
        assert_eq!(bench.list(1, vec![]), ["delete 4"]);
    }
}
