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

    /// Tells every shard of a FIFO topic that has more queues than before. Whoever asked for that may leave in the middle,
    /// and a shard may refuse: then the rounds go on, because those that have it take no sends by the old layout.
    pub(super) async fn grow(&self, topic: &Topic) -> Result<(), Refusal> {
        {
            let mut state = self.write();
            state.growing.insert(topic.name.clone(), topic.clone());
            state.has_grown = true;
        }
        for (told, shard) in self.shards().iter().enumerate() {
            if let Err(refusal) = shard.submit(Command::PutTopic(Box::new(topic.clone()))).await {
                if told == 0 {
                    self.write().growing.remove(&topic.name);
                }
                return Err(refusal);
            }
        }
        if self.is_whole_here(topic) {
            for shard in self.shards() {
                // One that refuses is told in a round.
                let _open = shard.submit(open(topic.name.clone(), topic.queues)).await;
            }
        }
        Ok(())
    }

    /// Goes on with topics whose growth was begun and not ended.
    async fn grow_on(&self) {
        let _one_at_a_time = self.inner.changing.lock().await;
        let growing: Vec<Topic> = self.read().growing.values().cloned().collect();
        for topic in growing {
            if let Err(error) = self.grow(&topic).await {
                tracing::warn!(topic = %topic.name, %error,
                    "the topic takes no sends before every shard has its new queues; tried again");
                continue;
            }
            let entry = self.write().put_topic(topic);
            self.tell(CatalogChange::Topic(entry));
        }
    }

    /// Tells the shards of this broker which topics take sends again, and which groups may go on. What a shard refuses is
    /// asked for again in the next round.
    pub async fn layout_round(&self, others: &AskOthers<'_>) {
        if !self.read().growing.is_empty() {
            self.grow_on().await;
        }
        for shard in self.shards() {
            if let Err(error) = self.tell_shard(shard, others).await {
                tracing::debug!(shard = shard.name(), %error, "the shard is told in the next round");
            }
        }
    }

    async fn tell_shard(&self, shard: &ShardHandle, others: &AskOthers<'_>) -> Result<(), Refusal> {
        let mut next = Some(ProgressPlace::default());
        while let Some(from) = next.take() {
            let ask = Command::Layout(LayoutCommand::ReadHeld(from));
            let Outcome::Held { closed, held, next: after } = shard.submit(ask).await? else {
                return Ok(());
            };
            for (topic, layout) in closed {
                self.open(shard, LayoutQuestion { topic, layout, group: None }, others).await?;
            }
            for group in held {
                self.pass(shard, group, others).await?;
            }
            next = after;
        }
        Ok(())
    }

    async fn open(
        &self,
        shard: &ShardHandle,
        question: LayoutQuestion,
        others: &AskOthers<'_>,
    ) -> Result<(), Refusal> {
        if self.is_passed_here(&question).await? && self.is_passed_there(&question, others).await {
            let LayoutQuestion { topic, layout, .. } = question;
            shard.submit(open(topic.clone(), layout)).await?;
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
        if !self.is_passed_here(&question).await? || !self.is_passed_there(&question, others).await
        {
            return Ok(());
        }
        // A reset that is between two shards would be behind on one, and not yet on the other. Nobody waits here for other
        // brokers, so that a reset waits for little.
        let _no_reset = self.inner.moving.lock().await;
        if self.is_passed_here(&question).await? {
            let passed = PassLayout { group, topic, layout, as_of };
            shard.submit(Command::Layout(LayoutCommand::Pass(passed))).await?;
        }
        Ok(())
    }

    /// Whether the answer of every other broker is yes; they are not asked about a topic that is here alone.
    async fn is_passed_there(&self, question: &LayoutQuestion, others: &AskOthers<'_>) -> bool {
        let topic = self.topic(question.topic.as_str());
        let is_whole = topic.is_some_and(|entry| self.is_whole_here(&entry.topic));
        is_whole || others(question.clone()).await
    }

    /// Whether all queues of a topic are on this broker.
    fn is_whole_here(&self, topic: &Topic) -> bool {
        topic.placement.iter().all(|placed| self.shard(placed.shard).is_some())
    }
}

/// Sends may go by a layout.
fn open(topic: TopicName, layout: u32) -> Command {
    Command::Layout(LayoutCommand::Open { topic, layout })
}
