//! From the texts of manifests to the model's topics and groups. Pure: texts in, declarations and what is wrong out.

use std::collections::BTreeMap;
use std::fmt;

use broker_engine::{OffsetAt, ResetOffsets};
use broker_model::consumer_group::Subscription;
use broker_model::{
    Backoff, ConsumerGroup, DeadLetterPolicy, GroupName, MessageType, Model, Order, Owner,
    RetryPolicy, ShardId, StartFrom, Topic, TopicName,
};
use operator_api::consumer_group as group_spec;
use operator_api::limits::QUEUES_DEFAULT;
use operator_api::manifest::{Declared, Manifest, Origin};
use operator_api::quantity::QuantityError;
use operator_api::topic::{
    AdoptionPolicy, DeletionPolicy, MessageType as TypeSpec, PlacementPolicy,
};
use operator_api::{ConsumerGroupSpec, TopicSpec, rules};

use super::folder::Contents;

/// `instance` of the owner of everything declared by files.
pub(super) const OWNER_INSTANCE: &str = "manifests";
/// The cluster that a manifest means when it names none.
const CLUSTER_DEFAULT: &str = "default";

/// Topics come before groups: that is the order of applying.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Key {
    Topic(String),
    Group(String),
}

/// The declared thing.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Thing {
    Topic(Box<Topic>),
    Group(Box<ConsumerGroup>),
}

impl fmt::Display for Thing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Topic(topic) => write!(f, "topic {}", topic.name),
            Self::Group(group) => write!(f, "consumer group {}", group.name),
        }
    }
}

/// New progress of a group, set once for each id.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Reset {
    id: String,
    to: OffsetAt,
    topics: Vec<TopicName>,
}

impl Reset {
    /// What the shards are asked for.
    pub(super) fn of(&self, group: &GroupName) -> ResetOffsets {
        let Self { id, to, topics } = self.clone();
        ResetOffsets { group: group.clone(), topics, to, id }
    }
}

/// One manifest in the words of the model.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Declaration {
    pub(super) thing: Thing,
    /// Of a group.
    pub(super) reset: Option<Reset>,
    pub(super) take_ownership: bool,
    pub(super) delete_when_removed: bool,
    /// File and document.
    pub(super) origin: Origin,
    /// What it was made of.
    pub(super) manifest: Manifest,
}

impl Declaration {
    /// The topic as it is declared; what its manifest does not say is as in `held`. One that is to spread over `shards` gets
    /// as many queues as it takes for each to have as many as the fullest one, or one less: added queues go where there are
    /// fewest.
    pub(super) fn topic_beside(
        &self,
        declared: &Topic,
        held: Option<&Topic>,
        shards: &[ShardId],
    ) -> Topic {
        let mut topic = declared.clone();
        if let (Manifest::Topic(manifest), Some(held)) = (&self.manifest, held) {
            if manifest.spec.queues.is_none() {
                topic.queues = held.queues;
            }
            if manifest.spec.message_type.is_none() {
                topic.message_type = held.message_type;
            }
            if self.spreads() {
                let fullest = held.placement.iter().map(|placed| placed.queues).max().unwrap_or(0);
                let share = fullest.saturating_sub(1);
                let even = shards.iter().map(|&shard| held.queues_on(shard).max(share));
                topic.queues = topic.queues.max(even.fold(0, u32::saturating_add));
            }
        }
        topic
    }

    fn spreads(&self) -> bool {
        let Manifest::Topic(manifest) = &self.manifest else { return false };
        manifest.spec.placement == Some(PlacementPolicy::Spread)
    }

    /// Checks whether the topic that is there may do what is declared, where the manifest does not say of which type it is.
    ///
    /// # Errors
    /// One line with file, document and what cannot be done.
    pub(super) fn check_beside(&self, held: Option<&Topic>) -> Result<(), String> {
        let may_spread = |held: &Topic| spec_type(held.message_type).may_spread();
        if self.spreads() && !held.is_none_or(may_spread) {
            return Err(wrong(&self.origin, "spec", rules::TOPIC_SPEC[5].message));
        }
        Ok(())
    }

    /// The group as it is declared; what its manifest does not say is as in `held`.
    pub(super) fn group_beside(
        &self,
        declared: &ConsumerGroup,
        held: Option<&ConsumerGroup>,
    ) -> ConsumerGroup {
        let mut group = declared.clone();
        if let (Manifest::ConsumerGroup(manifest), Some(held)) = (&self.manifest, held) {
            if manifest.spec.model.is_none() {
                group.model = held.model;
            }
            if manifest.spec.order.is_none() {
                group.order = held.order;
            }
        }
        group
    }

    /// What it is called.
    pub(super) fn key(&self) -> Key {
        match &self.thing {
            Thing::Topic(topic) => Key::Topic(topic.name.to_string()),
            Thing::Group(group) => Key::Group(group.name.to_string()),
        }
    }

    /// The mark that it leaves on what it declares.
    pub(super) fn owner(&self) -> Option<&Owner> {
        match &self.thing {
            Thing::Topic(topic) => topic.owner.as_ref(),
            Thing::Group(group) => group.owner.as_ref(),
        }
    }

    /// What is declared for a broker of this cluster; none for a kind that one process has no use for.
    ///
    /// # Errors
    /// One line with file, document and field.
    pub(super) fn of(manifest: &Manifest) -> Result<Option<Self>, String> {
        match manifest {
            Manifest::Topic(declared) => topic(declared, manifest).map(Some),
            Manifest::ConsumerGroup(declared) => group(declared, manifest).map(Some),
            Manifest::BrokerCluster(_) => Ok(None),
        }
    }

    /// Whether the API server would let this follow `before`, the same thing declared earlier. An object under another
    /// name is a new object, and may be of another cluster and say the name in another way.
    ///
    /// # Errors
    /// One line with file, document and what cannot be changed.
    pub(super) fn check_change(&self, before: &Self) -> Result<(), String> {
        let is_same_object = match (self.owner(), before.owner()) {
            (Some(now), Some(before)) => now.is_same_object(before),
            _ => false,
        };
        let violations = match (&before.manifest, &self.manifest) {
            (Manifest::Topic(old), Manifest::Topic(new)) => {
                let mut old = old.spec.clone();
                if !is_same_object {
                    old.cluster_ref.clone_from(&new.spec.cluster_ref);
                    old.topic_name.clone_from(&new.spec.topic_name);
                }
                rules::change_of_topic(&old, &new.spec)
            }
            (Manifest::ConsumerGroup(old), Manifest::ConsumerGroup(new)) => {
                let mut old = old.spec.clone();
                if !is_same_object {
                    old.cluster_ref.clone_from(&new.spec.cluster_ref);
                    old.group_name.clone_from(&new.spec.group_name);
                }
                rules::change_of_consumer_group(&old, &new.spec)
            }
            _ => Vec::new(),
        };
        match violations.first() {
            None => Ok(()),
            Some(first) => Err(wrong(&self.origin, &first.field, &first.message)),
        }
    }
}

/// Everything that one look at the directory tells.
#[derive(Debug, Default)]
pub(super) struct Set {
    /// What is declared, as far as it is not wrong.
    pub(super) wanted: BTreeMap<Key, Declaration>,
    /// What is wrong with files, each in one line.
    pub(super) problems: Vec<String>,
    /// What is passed over, each in one line.
    pub(super) notices: Vec<String>,
    /// Names of all manifest files.
    pub(super) files: Vec<String>,
    /// Of these, those with nothing in them at all.
    pub(super) blank_files: Vec<String>,
    /// And those with no object in them.
    pub(super) files_without_objects: Vec<String>,
}

/// Reads all files as one set, for a broker of this cluster.
pub(super) fn read(contents: &Contents, cluster: &str) -> Set {
    let files = contents.files.iter().map(|(name, text)| (name.as_str(), text.as_str()));
    let loaded = operator_api::manifest::load_all(files);
    let is_blank = |text: &str| text.trim_start_matches('\u{feff}').trim().is_empty();
    let blank = contents.files.iter().filter(|(_, text)| is_blank(text));
    let mut set = Set {
        files: contents.files.keys().cloned().collect(),
        blank_files: blank.map(|(name, _)| name.clone()).collect(),
        files_without_objects: loaded.without_objects,
        ..Set::default()
    };
    set.problems.clone_from(&contents.unreadable);
    set.problems.extend(loaded.errors.iter().map(ToString::to_string));
    let mut not_read = contents.not_read.clone();
    not_read.extend(loaded.passed_over);
    set.notices.extend(not_read_notice(&not_read));
    for manifest in &loaded.manifests {
        match Declaration::of(manifest) {
            Ok(None) => {}
            Ok(Some(declaration)) => match other_cluster(manifest, cluster) {
                Some(other) => set.notices.push(format!(
                    "{}: {} is for the cluster {other:?} and this is {cluster:?}; passed over",
                    declaration.origin, declaration.thing
                )),
                None => drop(set.wanted.insert(declaration.key(), declaration)),
            },
            Err(problem) => set.problems.push(problem),
        }
    }
    set
}

/// The cluster that a manifest names when it is another one.
fn other_cluster<'a>(manifest: &'a Manifest, own: &str) -> Option<&'a str> {
    let named = match manifest {
        Manifest::Topic(declared) => &declared.spec.cluster_ref,
        Manifest::ConsumerGroup(declared) => &declared.spec.cluster_ref,
        Manifest::BrokerCluster(_) => return None,
    };
    Some(named.name.as_str()).filter(|name| *name != own && *name != CLUSTER_DEFAULT)
}

/// Names in one line.
const NAMES_TOLD: usize = 10;

fn not_read_notice(names: &[String]) -> Option<String> {
    let first = names.get(..NAMES_TOLD).unwrap_or(names).join(", ");
    let more = names.len().saturating_sub(NAMES_TOLD);
    let more = if more == 0 { String::new() } else { format!(" and {more} more") };
    (!names.is_empty()).then(|| format!("not read, because they are no manifests: {first}{more}"))
}

fn wrong(origin: &Origin, field: &str, error: impl fmt::Display) -> String {
    format!("{origin}, field {field}: {error}")
}

fn owner<S>(declared: &Declared<S>) -> Option<Owner> {
    Some(Owner {
        instance: OWNER_INSTANCE.to_owned(),
        namespace: declared.namespace.clone().unwrap_or_default(),
        name: declared.name.clone(),
        uid: String::new(),
    })
}

/// Some policies need the whole cluster in sight, which the operator has and a broker has not.
fn policies(
    deletion: DeletionPolicy,
    adoption: AdoptionPolicy,
    origin: &Origin,
) -> Result<(), String> {
    if deletion == DeletionPolicy::DeleteIfUnused {
        let text = "DeleteIfUnused is for the operator only; use Retain or Delete in files";
        return Err(wrong(origin, "spec.deletionPolicy", text));
    }
    if adoption == AdoptionPolicy::Never {
        let text = "Never is for the operator only; use IfIdentical or Adopt in files";
        return Err(wrong(origin, "spec.adoptionPolicy", text));
    }
    Ok(())
}

fn topic(declared: &Declared<TopicSpec>, manifest: &Manifest) -> Result<Declaration, String> {
    let Declared { name, spec, origin, .. } = declared;
    policies(spec.deletion_policy, spec.adoption_policy, origin)?;
    let name = TopicName::parse_declared(spec.topic_name(name))
        .map_err(|error| wrong(origin, "spec.topicName", error))?;
    let retention = spec.retention.as_ref();
    let retention_ms = retention.and_then(|r| r.time.as_ref()).map(|t| t.as_ms()).transpose();
    let retention_bytes =
        retention.and_then(|r| r.bytes.as_ref()).map(|b| b.as_bytes()).transpose();
    let lite_expiry_ms = spec.lite_expiry.as_ref().map(|expiry| expiry.as_ms()).transpose();
    let topic = Topic {
        name,
        message_type: message_type(spec.message_type.unwrap_or_default()),
        queues: spec.queues.unwrap_or(QUEUES_DEFAULT),
        placement: Vec::new(),
        first_queues: None,
        owner: owner(declared),
        retention_ms: retention_ms.map_err(|e| wrong(origin, "spec.retention.time", e))?,
        retention_bytes: retention_bytes.map_err(|e| wrong(origin, "spec.retention.bytes", e))?,
        max_message_bytes: spec.max_message_bytes,
        lite_expiry_ms: lite_expiry_ms.map_err(|e| wrong(origin, "spec.liteExpiry", e))?,
        readable: spec.access.as_ref().is_none_or(|access| access.read),
        writable: spec.access.as_ref().is_none_or(|access| access.write),
    };
    Ok(Declaration {
        thing: Thing::Topic(Box::new(topic)),
        reset: None,
        take_ownership: spec.adoption_policy == AdoptionPolicy::Adopt,
        delete_when_removed: spec.deletion_policy == DeletionPolicy::Delete,
        origin: origin.clone(),
        manifest: manifest.clone(),
    })
}

/// The type as manifests call it.
fn spec_type(message_type: MessageType) -> TypeSpec {
    match message_type {
        MessageType::Normal => TypeSpec::Normal,
        MessageType::Fifo => TypeSpec::Fifo,
        MessageType::Delay => TypeSpec::Delay,
        MessageType::Transaction => TypeSpec::Transaction,
        MessageType::Priority => TypeSpec::Priority,
        MessageType::Lite => TypeSpec::Lite,
    }
}

fn message_type(spec: TypeSpec) -> MessageType {
    match spec {
        TypeSpec::Normal => MessageType::Normal,
        TypeSpec::Fifo => MessageType::Fifo,
        TypeSpec::Delay => MessageType::Delay,
        TypeSpec::Transaction => MessageType::Transaction,
        TypeSpec::Priority => MessageType::Priority,
        TypeSpec::Lite => MessageType::Lite,
    }
}

fn group(
    declared: &Declared<ConsumerGroupSpec>,
    manifest: &Manifest,
) -> Result<Declaration, String> {
    let Declared { name, spec, origin, .. } = declared;
    policies(spec.deletion_policy, spec.adoption_policy, origin)?;
    let name = GroupName::parse(spec.group_name(name))
        .map_err(|error| wrong(origin, "spec.groupName", error))?;
    let lite_topic = spec.lite_topic.as_deref().map(TopicName::parse).transpose();
    let group = ConsumerGroup {
        name,
        model: match spec.model.unwrap_or_default() {
            group_spec::Model::Clustering => Model::Clustering,
            group_spec::Model::Broadcasting => Model::Broadcasting,
        },
        order: match spec.order.unwrap_or_default() {
            group_spec::Order::Concurrent => Order::Concurrent,
            group_spec::Order::Fifo => Order::Fifo,
        },
        retry: retry(spec.retry.as_ref()).map_err(|e| wrong(origin, "spec.retry.backoff", e))?,
        subscriptions: subscriptions(&spec.subscriptions, origin)?,
        dead_letter: match spec.dead_letter.policy {
            group_spec::DeadLetterPolicy::Store => DeadLetterPolicy::Store,
            group_spec::DeadLetterPolicy::Discard => DeadLetterPolicy::Discard,
        },
        lite_topic: lite_topic.map_err(|e| wrong(origin, "spec.liteTopic", e))?,
        is_consuming: spec.consume,
        owner: owner(declared),
    };
    Ok(Declaration {
        thing: Thing::Group(Box::new(group)),
        reset: spec.offset_reset.as_ref().map(|wanted| reset(wanted, origin)).transpose()?,
        take_ownership: spec.adoption_policy == AdoptionPolicy::Adopt,
        delete_when_removed: spec.deletion_policy == DeletionPolicy::Delete,
        origin: origin.clone(),
        manifest: manifest.clone(),
    })
}

fn subscriptions(
    specs: &[group_spec::Subscription],
    origin: &Origin,
) -> Result<Vec<Subscription>, String> {
    let subscription = |(index, wanted): (usize, &group_spec::Subscription)| {
        let field = format!("spec.subscriptions[{index}].topic");
        let topic = TopicName::parse(&wanted.topic).map_err(|e| wrong(origin, &field, e))?;
        let filter = wanted.filter.as_ref();
        Ok(Subscription {
            topic,
            is_sql: filter.is_some_and(|f| f.type_ == group_spec::FilterType::Sql92),
            expression: filter.map_or_else(|| "*".to_owned(), |f| f.expression.clone()),
            start_from: match wanted.start_from {
                group_spec::StartFrom::Earliest => StartFrom::Earliest,
                group_spec::StartFrom::Latest => StartFrom::Latest,
            },
        })
    };
    specs.iter().enumerate().map(subscription).collect()
}

fn reset(spec: &group_spec::OffsetReset, origin: &Origin) -> Result<Reset, String> {
    let to = match &spec.to {
        group_spec::OffsetResetTo { time: Some(time), .. } => {
            let time_ms = time.as_unix_ms();
            OffsetAt::TimeMs(time_ms.map_err(|e| wrong(origin, "spec.offsetReset.to.time", e))?)
        }
        group_spec::OffsetResetTo { shift: Some(by), .. } => OffsetAt::Shift(*by),
        // The rules let exactly one of the three through.
        group_spec::OffsetResetTo { position, .. } => match position.unwrap_or_default() {
            group_spec::StartFrom::Earliest => OffsetAt::Earliest,
            group_spec::StartFrom::Latest => OffsetAt::Latest,
        },
    };
    let topics = spec.topics.iter().map(|name| TopicName::parse(name)).collect::<Result<_, _>>();
    let topics = topics.map_err(|e| wrong(origin, "spec.offsetReset.topics", e))?;
    Ok(Reset { id: spec.id.clone(), to, topics })
}

fn retry(spec: Option<&group_spec::Retry>) -> Result<RetryPolicy, QuantityError> {
    let mut policy = RetryPolicy::default();
    let Some(spec) = spec else { return Ok(policy) };
    policy.max_attempts = spec.max_attempts.unwrap_or(policy.max_attempts);
    let Some(backoff) = &spec.backoff else { return Ok(policy) };
    if let Some(growing) = &backoff.exponential {
        policy.backoff = Backoff::Exponential {
            initial_ms: growing.initial.as_ms()?,
            max_ms: growing.max.as_ms()?,
            multiplier: f64::from(growing.multiplier),
        };
    } else if let Some(list) = backoff.list.as_ref().filter(|list| !list.is_empty()) {
        let next_ms = list.iter().map(|pause| pause.as_ms()).collect::<Result<_, _>>()?;
        policy.backoff = Backoff::Customized { next_ms };
    }
    Ok(policy)
}

#[cfg(test)]
mod tests {
    use super::*;

    const TOPIC: &str = "apiVersion: pinnace.dev/v1alpha1
kind: Topic
metadata: {name: orders, namespace: shop}
spec:
  messageType: NORMAL
  queues: 4
  retention: {time: 72h, bytes: 1Gi}
  deletionPolicy: Delete
";
    const GROUP: &str = "apiVersion: pinnace.dev/v1alpha1
kind: ConsumerGroup
metadata: {name: billing}
spec:
  order: Fifo
  subscriptions:
    - topic: orders
      filter: {type: Tag, expression: created}
  retry:
    maxAttempts: 5
    backoff: {list: [1s, 10s]}
";

    fn read_file(name: &str, text: &str) -> Set {
        let files = [(name.to_owned(), text.to_owned())].into();
        read(&Contents { files, ..Contents::default() }, "shop")
    }

    fn read_text(text: &str) -> Result<BTreeMap<Key, Declaration>, String> {
        let set = read_file("shop.yaml", text);
        if set.problems.is_empty() { Ok(set.wanted) } else { Err(set.problems.join(" / ")) }
    }

    #[test]
    fn manifests_become_topics_and_groups() {
        let wanted = read_text(&format!("{GROUP}---\n{TOPIC}")).unwrap();
        let declarations: Vec<_> = wanted.values().collect();
        let [topic, group] = declarations.as_slice() else { panic!("{wanted:?}") };
        let Thing::Topic(made) = &topic.thing else { panic!("topics come first") };
        assert_eq!((made.queues, made.retention_ms), (4, Some(72 * 3_600_000)));
        assert_eq!(made.retention_bytes, Some(1 << 30));
        assert_eq!(made.owner.as_ref().unwrap().to_string(), "manifests:shop/orders");
        assert!(topic.delete_when_removed && !group.delete_when_removed);
        let Thing::Group(made) = &group.thing else { panic!("then groups") };
        assert_eq!((made.order, made.retry.max_attempts), (Order::Fifo, 5));
        assert_eq!((made.retry.pause_ms(1), made.retry.pause_ms(9)), (1_000, 10_000));
        assert_eq!(made.subscriptions[0].expression, "created");
    }

    #[test]
    fn policies_that_only_the_operator_carries_out_are_refused_with_those_that_files_have() {
        for (policy, advice) in [
            ("deletionPolicy: DeleteIfUnused", "use Retain or Delete in files"),
            ("adoptionPolicy: Never", "use IfIdentical or Adopt in files"),
        ] {
            for text in
                [TOPIC.replace("deletionPolicy: Delete", policy), format!("{GROUP}  {policy}\n")]
            {
                let problem = read_text(&text).unwrap_err();
                let field = policy.split(':').next().unwrap();
                assert!(problem.contains(&format!("field spec.{field}: ")), "{problem}");
                assert!(problem.contains(advice), "{problem}");
            }
        }
    }

    #[test]
    fn resets_dead_letters_and_lite_topics_are_declared_too() {
        let lite = TOPIC.replace("NORMAL", "LITE") + "  liteExpiry: 12h\n";
        let group = "apiVersion: pinnace.dev/v1alpha1
kind: ConsumerGroup
metadata: {name: billing}
spec:
  subscriptions: [{topic: orders, startFrom: Latest}]
  deadLetter: {policy: Discard}
  liteTopic: orders
  consume: false
  offsetReset: {id: again, to: {time: \"1970-01-01T00:00:01Z\"}, topics: [orders]}
";
        let wanted = read_text(&format!("{group}---\n{lite}")).unwrap();
        let declarations: Vec<_> = wanted.values().collect();
        let [topic, declared] = declarations.as_slice() else { panic!("{wanted:?}") };
        let Thing::Topic(made) = &topic.thing else { panic!("topics come first") };
        assert_eq!(made.lite_expiry_ms, Some(12 * 3_600_000));
        let Thing::Group(made) = &declared.thing else { panic!("then groups") };
        assert_eq!(made.subscriptions[0].start_from, StartFrom::Latest);
        assert_eq!(made.dead_letter, DeadLetterPolicy::Discard);
        assert_eq!(made.lite_topic.as_ref().unwrap().as_str(), "orders");
        assert!(!made.is_consuming);
        let reset = declared.reset.as_ref().unwrap().of(&made.name);
        assert_eq!((reset.id.as_str(), reset.to), ("again", OffsetAt::TimeMs(1_000)));
        assert_eq!(reset.topics[0].as_str(), "orders");
    }

    #[test]
    fn the_resources_and_the_model_have_the_same_limits() {
        use broker_model::limits as model;
        use operator_api::limits as resources;
        assert_eq!(
            [
                resources::RETENTION_MS_MIN,
                resources::RETENTION_MS_MAX,
                resources::LITE_EXPIRY_MS_MIN,
                resources::LITE_EXPIRY_MS_MAX,
                resources::RETRY_PAUSE_MS_MAX,
            ],
            [
                model::RETENTION_MS_MIN,
                model::RETENTION_MS_MAX,
                model::LITE_EXPIRY_MS_MIN,
                model::LITE_EXPIRY_MS_MAX,
                model::RETRY_PAUSE_MS_MAX,
            ]
        );
        assert_eq!(
            [
                resources::TOPIC_NAME_BYTES_MAX,
                resources::GROUP_NAME_BYTES_MAX,
                resources::MESSAGE_BYTES_MAX as usize,
                resources::BACKOFF_ENTRIES_MAX,
                resources::SUBSCRIPTIONS_MAX,
                resources::FILTER_EXPRESSION_BYTES_MAX,
                resources::OFFSET_RESET_ID_BYTES_MAX,
                resources::SYSTEM_TOPIC_NAME_BYTES_MAX,
            ],
            [
                model::TOPIC_NAME_BYTES_MAX,
                model::GROUP_NAME_BYTES_MAX,
                model::BODY_BYTES_MAX,
                model::RETRY_PAUSES_MAX,
                model::SUBSCRIPTIONS_MAX,
                model::SUBSCRIPTION_EXPRESSION_BYTES_MAX,
                model::OFFSET_RESET_ID_BYTES_MAX,
                model::SYSTEM_TOPIC_NAME_BYTES_MAX,
            ]
        );
        assert_eq!(
            [
                resources::QUEUES_PER_TOPIC_MAX,
                resources::QUEUES_DEFAULT,
                resources::ATTEMPTS_MAX,
                resources::SHARDS_PER_BROKER_MAX,
            ],
            [
                model::QUEUES_PER_TOPIC_MAX,
                model::QUEUES_DEFAULT,
                model::ATTEMPTS_MAX,
                model::SHARDS_PER_BROKER_MAX,
            ]
        );
    }

    #[test]
    fn a_topic_that_is_there_spreads_when_its_type_may() {
        let text = TOPIC.replace("  messageType: NORMAL", "  placement: Spread");
        let declared = read_text(&text).unwrap().into_values().next().unwrap();
        let name = broker_model::TopicName::parse("orders").unwrap();
        let held = |message_type| Topic::with_defaults(name.clone(), message_type, Vec::new());
        let check = |message_type| declared.check_beside(Some(&held(message_type)));
        assert_eq!(declared.check_beside(None), Ok(()));
        use MessageType::{Delay, Fifo, Lite, Normal, Priority, Transaction};
        for may in [Normal, Fifo, Delay, Transaction] {
            assert_eq!(check(may), Ok(()));
        }
        for may_not in [Priority, Lite] {
            let refused = check(may_not).unwrap_err();
            assert!(refused.contains("would lose their order"), "{refused}");
        }
    }

    #[test]
    fn errors_name_file_document_and_field() {
        let bad = format!("{TOPIC}---\n{}", TOPIC.replace("queues: 4", "queues: 0"));
        let Err(text) = read_text(&bad) else { panic!("accepted") };
        for part in ["shop.yaml", "document 2", "spec.queues"] {
            assert!(text.contains(part), "{text}");
        }
        assert!(!text.contains('\n'), "{text}");
        let reserved = TOPIC.replace("  queues: 4", "  topicName: TBW102");
        let Err(text) = read_text(&reserved) else { panic!("accepted") };
        assert!(text.contains("spec.topicName") && text.contains("reserved"), "{text}");
    }

    #[test]
    fn what_is_for_another_cluster_is_passed_over_with_a_line() {
        let named =
            |name: &str| TOPIC.replace("spec:", &format!("spec:\n  clusterRef: {{name: {name}}}"));
        for own in ["shop", "default"] {
            assert_eq!(read_file("shop.yaml", &named(own)).wanted.len(), 1, "{own}");
        }
        let set = read_file("shop.yaml", &named("other"));
        assert!(set.wanted.is_empty() && set.problems.is_empty(), "{set:?}");
        assert!(set.notices[0].contains("topic orders is for the cluster \"other\""), "{set:?}");
    }

    #[test]
    fn what_the_api_server_refuses_to_change_is_refused() {
        let one = |text: &str| read_text(text).unwrap().into_values().next().unwrap();
        let fifo = TOPIC.replace("NORMAL", "FIFO");
        let reset = |to: &str| format!("{GROUP}  offsetReset: {{id: a, to: {{position: {to}}}}}\n");
        let lite = format!("{GROUP}  liteTopic: rooms\n");
        let plain = GROUP.replace("order: Fifo", "model: Clustering");
        for (before, after, words) in [
            (fifo.clone(), fifo.replace("queues: 4", "queues: 3"), "queues can only grow"),
            (plain.clone(), plain.replace("Clustering", "Broadcasting"), "model cannot be changed"),
            (lite.clone(), lite.replace("rooms", "other"), "liteTopic cannot be changed"),
            (reset("Latest"), reset("Earliest"), "give it another id to reset again"),
        ] {
            let (before, after) = (one(&before), one(&after));
            assert_eq!(before.check_change(&before), Ok(()));
            let text = after.check_change(&before).unwrap_err();
            assert!(text.contains(words) && text.contains("shop.yaml document 1"), "{text}");
        }
        let renamed = TOPIC.replace("name: orders", "name: orders-2");
        let renamed = renamed.replace("spec:", "spec:\n  topicName: orders");
        assert_eq!(one(&renamed).check_change(&one(TOPIC)), Ok(()), "another object is a new one");
    }
}
