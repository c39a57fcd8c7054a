//! What has to be looked at again, as sets: a thing that changes a thousand times before anybody looks stands there once.
//! This is how brokers and controllers wake controllers; it is bounded by the number of names there are.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::Mutex;

use futures::{Stream, stream};
use tokio::sync::Notify;

use crate::names::ClusterKey;

/// Topics or groups of a cluster: one by its name there, those about a topic, or all of them.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Scope {
    /// Everything in the cluster.
    All(ClusterKey),
    /// One name in the cluster.
    One(ClusterKey, String),
    /// The groups of the cluster that subscribe to a topic.
    Subscribers(ClusterKey, String),
}

/// A set that wakes its one reader.
#[derive(Debug)]
pub struct Dirty<T> {
    set: Mutex<BTreeSet<T>>,
    wake: Notify,
}

impl<T> Default for Dirty<T> {
    fn default() -> Self {
        Self { set: Mutex::default(), wake: Notify::new() }
    }
}

impl<T: Ord + Send + 'static> Dirty<T> {
    /// Adds something to look at.
    pub fn mark(&self, item: T) {
        self.set.lock().expect("nothing panics while it holds this lock").insert(item);
        self.wake.notify_one();
    }

    fn take(&self) -> BTreeSet<T> {
        std::mem::take(&mut *self.set.lock().expect("nothing panics while it holds this lock"))
    }

    /// Waits until there is something and takes all of it.
    pub async fn next(&self) -> BTreeSet<T> {
        loop {
            let taken = self.take();
            if !taken.is_empty() {
                return taken;
            }
            self.wake.notified().await;
        }
    }

    /// The batches as a stream without end.
    pub fn batches(self: Arc<Self>) -> impl Stream<Item = BTreeSet<T>> + Send {
        stream::unfold(self, |dirty| async move { Some((dirty.next().await, dirty)) })
    }
}

/// The three sets, one for each controller.
#[derive(Debug, Clone, Default)]
pub struct Signals {
    /// Clusters to look at.
    pub clusters: Arc<Dirty<ClusterKey>>,
    /// Topics to look at.
    pub topics: Arc<Dirty<Scope>>,
    /// Groups to look at.
    pub groups: Arc<Dirty<Scope>>,
}

impl Signals {
    /// Everything that names the cluster is to be looked at.
    pub fn all_of(&self, cluster: &ClusterKey) {
        self.topics.mark(Scope::All(cluster.clone()));
        self.groups.mark(Scope::All(cluster.clone()));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn many_marks_of_one_thing_are_one_thing_to_look_at() {
        let dirty = Dirty::default();
        for _ in 0..1000 {
            dirty.mark(7);
            dirty.mark(8);
        }
        assert_eq!(dirty.next().await, BTreeSet::from([7, 8]));
        assert!(dirty.take().is_empty());
    }

    #[tokio::test]
    async fn a_mark_wakes_a_waiting_reader() {
        let dirty = Arc::new(Dirty::default());
        let reader = tokio::spawn({
            let dirty = Arc::clone(&dirty);
            async move { dirty.next().await }
        });
        dirty.mark("x");
        assert_eq!(reader.await.unwrap(), BTreeSet::from(["x"]));
    }
}
