//! One declaration and the catalog: putting it in force, and letting go of it. What is refused is told with the place of
//! the manifest, what to do, and what is in force instead.

use broker_engine::Refusal;
use broker_model::{ConsumerGroup, Owner, Topic};
use broker_replication::{ApplyOptions, Catalog, CatalogError, ShardHandle};

use super::Problem;
use super::declaration::{Declaration, OWNER_INSTANCE, Thing};

/// What putting something in force did.
#[derive(Debug, Default)]
pub(super) struct Put {
    /// Anything changed.
    pub(super) has_changed: bool,
    /// The manifest that it belonged to before.
    pub(super) taken_from: Option<Owner>,
}

/// Whether the broker has what is declared.
pub(super) fn is_known(catalog: &Catalog, declaration: &Declaration) -> bool {
    match &declaration.thing {
        Thing::Topic(topic) => catalog.topic(topic.name.as_str()).is_some(),
        Thing::Group(group) => catalog.group(group.name.as_str()).is_some(),
    }
}

/// Puts it in force. `before` is what was declared earlier of the same thing.
///
/// # Errors
/// [`Problem`]; the thing then stays as it was.
pub(super) async fn put(
    catalog: &Catalog,
    declaration: &Declaration,
    before: Option<&Declaration>,
) -> Result<Put, Problem> {
    if let Some(before) = before {
        declaration
            .check_change(before)
            .map_err(|text| Problem::Wrong(stays(text, declaration)))?;
    }
    let known = owner(catalog, declaration);
    // Of one set of files two never declare the same thing: an owner that is another manifest declares nothing any more.
    let taken_from = known.filter(|known| {
        let is_other = declaration.owner().is_none_or(|owner| !owner.is_same_object(known));
        known.instance == OWNER_INSTANCE && is_other
    });
    let take_ownership = declaration.take_ownership || taken_from.is_some();
    let options = ApplyOptions { take_ownership, ..ApplyOptions::default() };
    let outcome = match &declaration.thing {
        Thing::Topic(topic) => {
            let held = catalog.topic(topic.name.as_str());
            let held = held.as_ref().map(|entry| &entry.topic);
            let checked = declaration.check_beside(held);
            checked.map_err(|text| Problem::Wrong(stays(text, declaration)))?;
            let shards: Vec<_> = catalog.shards().iter().map(ShardHandle::id).collect();
            let topic = declaration.topic_beside(topic, held, &shards);
            catalog.apply_topic(topic, options).await.map(|(_, changed)| changed)
        }
        Thing::Group(group) => {
            let held = catalog.group(group.name.as_str());
            let group = declaration.group_beside(group, held.as_ref().map(|entry| &entry.group));
            catalog.apply_group(group, options).await.map(|(_, changed)| changed)
        }
    };
    let has_changed = outcome.map_err(|error| explain(declaration, &error))?;
    if let (Thing::Group(group), Some(reset)) = (&declaration.thing, &declaration.reset) {
        // The shards remember its id: at the next start they are asked again, and do nothing.
        let done = catalog.reset_offsets(&reset.of(&group.name)).await;
        done.map_err(|refusal| explain(declaration, &refusal.into()))?;
    }
    Ok(Put { has_changed, taken_from })
}

/// Deletes it when its manifest asked for that, else leaves it to nobody; says in a sentence what became of it.
///
/// # Errors
/// [`Problem`]; the thing is then as it was.
pub(super) async fn let_go(
    catalog: &Catalog,
    declaration: &Declaration,
) -> Result<String, Problem> {
    let Declaration { thing, origin, .. } = declaration;
    let known = owner(catalog, declaration);
    let is_ours = match (&known, declaration.owner()) {
        (Some(known), Some(owner)) => owner.is_same_object(known),
        _ => false,
    };
    if !is_ours {
        return Ok(format!("no file declares {thing} any more (it was {origin}); it is not ours"));
    }
    let outcome = if declaration.delete_when_removed {
        delete(catalog, declaration).await
    } else {
        release(catalog, declaration).await
    };
    outcome.map_err(|error| explain(declaration, &error))?;
    Ok(if declaration.delete_when_removed {
        format!("{thing} deleted, as its removed manifest asked (it was {origin})")
    } else {
        format!("the manifest of {thing} is gone (it was {origin}); its data is kept")
    })
}

async fn delete(catalog: &Catalog, declaration: &Declaration) -> Result<(), CatalogError> {
    match &declaration.thing {
        Thing::Topic(topic) => {
            catalog.delete_topic(&topic.name, topic.owner.as_ref(), false).await.map(drop)
        }
        Thing::Group(group) => {
            catalog.delete_group(&group.name, group.owner.as_ref(), false).await.map(drop)
        }
    }
}

/// Leaves it to nobody: whoever wants may change it or declare it.
async fn release(catalog: &Catalog, declaration: &Declaration) -> Result<(), CatalogError> {
    let options = ApplyOptions { take_ownership: true, ..ApplyOptions::default() };
    match &declaration.thing {
        Thing::Topic(topic) => {
            let Some(entry) = catalog.topic(topic.name.as_str()) else { return Ok(()) };
            let nobodys = Topic { owner: None, ..entry.topic.clone() };
            catalog.apply_topic(nobodys, options).await.map(drop)
        }
        Thing::Group(group) => {
            let Some(entry) = catalog.group(group.name.as_str()) else { return Ok(()) };
            let nobodys = ConsumerGroup { owner: None, ..entry.group.clone() };
            catalog.apply_group(nobodys, options).await.map(drop)
        }
    }
}

/// Messages that would go with it; none when nobody knows.
pub(super) async fn messages(catalog: &Catalog, declaration: &Declaration) -> Option<u64> {
    let Thing::Topic(topic) = &declaration.thing else { return None };
    let numbers = catalog.topic_numbers().await.ok()?;
    numbers.iter().find(|numbers| numbers.topic == topic.name).map(|numbers| numbers.messages)
}

fn owner(catalog: &Catalog, declaration: &Declaration) -> Option<Owner> {
    match &declaration.thing {
        Thing::Topic(topic) => catalog.topic(topic.name.as_str())?.topic.owner.clone(),
        Thing::Group(group) => catalog.group(group.name.as_str())?.group.owner.clone(),
    }
}

fn explain(declaration: &Declaration, error: &CatalogError) -> Problem {
    let mut text = format!("{}: {error}", declaration.origin);
    if matches!(error, CatalogError::OwnedByAnother(_)) {
        text.push_str(", or set spec.adoptionPolicy: Adopt here to take it over");
    }
    let text = stays(text, declaration);
    match error {
        CatalogError::Shard(
            Refusal::TopicNotFound(_)
            | Refusal::ResetDiffers { .. }
            | Refusal::TooManyResets { .. },
        ) => Problem::Wrong(text),
        CatalogError::Shard(Refusal::ReadOnly(_)) => Problem::ReadOnly(text),
        CatalogError::Shard(_) => Problem::Failed(text),
        _ => Problem::Wrong(text),
    }
}

/// Says what is in force instead.
fn stays(text: String, declaration: &Declaration) -> String {
    format!("{text}; {} stays as it is", declaration.thing)
}
