//! FIFO topics that grow. Sends go by a new layout once every shard of the cluster has it, and a group gets what was sent by
//! it once it has done on every shard what was sent before. Each broker asks all shards, its own and through other
//! brokers, and tells its own.

use broker_engine::{
    Command, HeldGroup, LayoutCommand, Outcome, PassLayout, ProgressPlace, Refusal,
};
use broker_model::{GroupName, Topic, TopicName};
use futures::future::BoxFuture;

use super::{Catalog, CatalogChange};
use crate::shard::ShardHandle;

/// What all shards of other brokers are asked.
#[derive(Debug, Clone)]
pub struct LayoutQuestion {
    /// A FIFO topic.
    pub topic: TopicName,
    /// One of its layouts: queues over all shards.
    pub layout: u32,
    /// Whether the group has done there what was sent before; without one, whether they have the layout.
    pub group: Option<GroupName>,
}

/// Asks all other brokers; false unless all of them say yes.
type AskOthers<'a> = dyn Fn(LayoutQuestion) -> BoxFuture<'a, bool> + Sync + 'a;

impl Catalog {
    /// Whether a FIFO topic ever grew: there may be something to ask.
    #[must_use]
    pub fn has_grown_topics(&self) -> bool {
        self.read().has_grown
    }

    /// Whether the answer of every shard of this broker is yes.
    ///
    /// # Errors
    /// [`Refusal`] of a shard.
    pub async fn is_passed_here(&self, question: &LayoutQuestion) -> Result<bool, Refusal> {
        for shard in self.shards() {
            let LayoutQuestion { topic, layout, group } = question.clone();
            let answer = shard
                .submit(Command::Layout(LayoutCommand::ReadPassed { group, topic, layout }))
                .await?;
            if !matches!(answer, Outcome::Passed(true)) {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Tells the shards of this broker which topics take sends again, and which groups may go on.
    ///
    /// # Errors
    /// [`Refusal`] of a shard; the next round goes on.
    pub async fn layout_round(&self, others: &AskOthers<'_>) -> Result<(), Refusal> {
        for shard in self.shards() {
            let mut next = Some(ProgressPlace::default());
            while let Some(from) = next.take() {
                // A reset that is between two shards would be behind on one, and not yet on the other.
                let _no_reset = self.inner.moving.lock().await;
                let answer = shard.submit(Command::Layout(LayoutCommand::ReadHeld(from))).await?;
                let Outcome::Held { closed, held, next: after } = answer else { break };
                for (topic, layout) in closed {
                    self.open(shard, LayoutQuestion { topic, layout, group: None }, others).await?;
                }
                for group in held {
                    self.pass(shard, group, others).await?;
                }
                next = after;
            }
        }
        Ok(())
    }

    async fn open(
        &self,
        shard: &ShardHandle,
        question: LayoutQuestion,
        others: &AskOthers<'_>,
    ) -> Result<(), Refusal> {
        if self.is_passed(&question, others).await? {
            let LayoutQuestion { topic, layout, .. } = question;
            shard
                .submit(Command::Layout(LayoutCommand::Open { topic: topic.clone(), layout }))
                .await?;
            if let Some(entry) = self.topic(topic.as_str()) {
                self.tell(CatalogChange::Topic(entry));
            }
        }
        Ok(())
    }

    async fn pass(
        &self,
        shard: &ShardHandle,
        held: HeldGroup,
        others: &AskOthers<'_>,
    ) -> Result<(), Refusal> {
        let HeldGroup { group, topic, layout, as_of } = held;
        let (asked, about) = (Some(group.clone()), topic.clone());
        let question = LayoutQuestion { topic: about, layout, group: asked };
        if self.is_passed(&question, others).await? {
            let passed = PassLayout { group, topic, layout, as_of };
            shard.submit(Command::Layout(LayoutCommand::Pass(passed))).await?;
        }
        Ok(())
    }

    async fn is_passed(
        &self,
        question: &LayoutQuestion,
        others: &AskOthers<'_>,
    ) -> Result<bool, Refusal> {
        if !self.is_passed_here(question).await? {
            return Ok(false);
        }
        let topic = self.topic(question.topic.as_str());
        let is_whole = topic.is_some_and(|entry| self.is_whole_here(&entry.topic));
        Ok(is_whole || others(question.clone()).await)
    }

    /// Whether all queues of a topic are on this broker.
    fn is_whole_here(&self, topic: &Topic) -> bool {
        topic.placement.iter().all(|placed| self.shard(placed.shard).is_some())
    }

    /// Sends may go by the newest layout at once when all shards that have it are here, and have stored it.
    pub(super) async fn open_if_here(&self, topic: &Topic) -> Result<(), Refusal> {
        if !self.is_whole_here(topic) {
            return Ok(());
        }
        for shard in self.shards() {
            let (topic, layout) = (topic.name.clone(), topic.queues);
            shard.submit(Command::Layout(LayoutCommand::Open { topic, layout })).await?;
        }
        Ok(())
    }
}
