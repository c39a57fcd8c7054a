//! Whether the members of a group ask for the same: for what is declared, or else for what most of them ask for. Pure.
//! Members share every queue message by message, so one that asks for something else takes messages from the others.

use std::collections::{BTreeMap, BTreeSet};

use broker_proto::admin;
use operator_api::consumer_group::{FilterType, Subscription};

use crate::context::shorten;

/// Members that are named; all others are counted.
const NAMED_MAX: usize = 5;
/// Most of a client id or of a list of subscriptions that is shown.
const SHOWN_BYTES_MAX: usize = 200;

/// One wish in a form that can be compared.
type Wish = (String, &'static str, String);
/// All that somebody asks for.
type Wishes = BTreeSet<Wish>;

/// Tags in another order, or with other blanks between them, ask for the same.
pub(super) fn tags(expression: &str) -> String {
    let tags: BTreeSet<&str> =
        expression.split("||").map(str::trim).filter(|tag| !tag.is_empty()).collect();
    if tags.is_empty() || tags.contains("*") {
        return "*".to_owned();
    }
    tags.into_iter().collect::<Vec<_>>().join(" || ")
}

fn of_member(subscription: &admin::Subscription) -> Wish {
    let topic = subscription.topic.clone();
    match subscription.filter_type() {
        admin::FilterType::Sql92 => (topic, "SQL ", subscription.expression.trim().to_owned()),
        admin::FilterType::Tag | admin::FilterType::Unspecified => {
            (topic, "", tags(&subscription.expression))
        }
    }
}

fn declared(subscription: &Subscription) -> Wish {
    let topic = subscription.topic.clone();
    match &subscription.filter {
        None => (topic, "", "*".to_owned()),
        Some(filter) if filter.type_ == FilterType::Sql92 => {
            (topic, "SQL ", filter.expression.trim().to_owned())
        }
        Some(filter) => (topic, "", tags(&filter.expression)),
    }
}

fn shown(wishes: &Wishes) -> String {
    let all: Vec<_> =
        wishes.iter().map(|(topic, kind, filter)| format!("{topic} ({kind}{filter})")).collect();
    shorten(&all.join(", "), SHOWN_BYTES_MAX)
}

/// What most members ask for; of several wishes that as many have, what the first client by id does.
fn majority<'a>(members: &BTreeMap<&str, &'a Wishes>) -> Option<&'a Wishes> {
    let mut counts: BTreeMap<&Wishes, usize> = BTreeMap::new();
    for wishes in members.values() {
        *counts.entry(wishes).or_default() += 1;
    }
    // Of equals the last one comes out, so the first client goes last.
    members.values().rev().copied().max_by_key(|wishes| counts.get(wishes))
}

/// A sentence that names the members that ask for something else than the others, or than what is declared.
#[must_use]
pub fn inconsistent_members(
    subscriptions: &[Subscription],
    parts: &[admin::GroupStatus],
) -> Option<String> {
    let mut wishes: BTreeMap<&str, Wishes> = BTreeMap::new();
    for member in parts.iter().flat_map(|part| &part.members) {
        // A client of several brokers tells each the same; one that asks for nothing yet takes nothing away.
        let theirs = wishes.entry(&member.client_id).or_default();
        theirs.extend(member.subscriptions.iter().map(of_member));
    }
    let members: BTreeMap<&str, &Wishes> =
        wishes.iter().filter(|(_, wishes)| !wishes.is_empty()).map(|(id, w)| (*id, w)).collect();
    let wanted: Wishes = subscriptions.iter().map(declared).collect();
    let (reference, whose) = if wanted.is_empty() {
        (majority(&members)?, "most members ask for")
    } else {
        (&wanted, "spec.subscriptions declares")
    };
    let mut others = members.iter().filter(|(_, wishes)| **wishes != reference);
    let named: Vec<_> = others
        .by_ref()
        .take(NAMED_MAX)
        .map(|(id, wishes)| format!("{} asks for {}", shorten(id, SHOWN_BYTES_MAX), shown(wishes)))
        .collect();
    if named.is_empty() {
        return None;
    }
    let more = match others.count() {
        0 => String::new(),
        more => format!(", and {more} more"),
    };
    Some(format!(
        "{whose} {}, but {}{more}; give all members of the group the same subscriptions",
        shown(reference),
        named.join(", ")
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn member(client_id: &str, wishes: &[(&str, &str)]) -> admin::Member {
        let subscription = |(topic, expression): &(&str, &str)| admin::Subscription {
            topic: (*topic).to_owned(),
            filter_type: admin::FilterType::Tag.into(),
            expression: (*expression).to_owned(),
            ..Default::default()
        };
        admin::Member {
            client_id: client_id.to_owned(),
            subscriptions: wishes.iter().map(subscription).collect(),
            ..Default::default()
        }
    }

    fn told(declared: &str, members: Vec<admin::Member>) -> Option<String> {
        let declared: Vec<Subscription> = serde_yaml::from_str(declared).unwrap();
        inconsistent_members(&declared, &[admin::GroupStatus { members, ..Default::default() }])
    }

    #[test]
    fn the_members_that_differ_from_most_are_named() {
        let members = vec![
            member("a", &[("orders", "*")]),
            member("b", &[("orders", "paid")]),
            member("c", &[("orders", "paid")]),
        ];
        let text = told("[]", members).unwrap();
        let begin = "most members ask for orders (paid), but a asks for orders (*); give all";
        assert!(text.starts_with(begin), "{text}");
    }

    #[test]
    fn a_topic_that_only_some_ask_for_is_a_difference() {
        let both = [("orders", "*"), ("refunds", "*")];
        let members = vec![member("a", &both), member("b", &both), member("c", &[("orders", "*")])];
        let text = told("[]", members).unwrap();
        assert!(text.contains("but c asks for orders (*)"), "{text}");
    }

    #[test]
    fn what_is_declared_counts_more_than_a_majority() {
        let members = vec![member("a", &[("orders", "*")]), member("b", &[("orders", "*")])];
        let declared = "[{topic: orders, filter: {type: Sql92, expression: amount > 10}}]";
        let text = told(declared, members.clone()).unwrap();
        let begin = "spec.subscriptions declares orders (SQL amount > 10), but a asks";
        assert!(text.starts_with(begin), "{text}");
        assert_eq!(told("[{topic: orders}]", members), None);
    }

    #[test]
    fn the_same_in_other_words_or_nothing_yet_is_no_difference() {
        let members = vec![
            member("a", &[("orders", "paid || refunded")]),
            member("b", &[("orders", "refunded||paid")]),
            member("c", &[]),
        ];
        assert_eq!(told("[]", members), None);
        assert_eq!(told("[]", Vec::new()), None);
    }

    #[test]
    fn many_members_are_counted_and_not_listed() {
        let mut members: Vec<_> =
            (0..20).map(|n| member(&format!("n{n:02}"), &[("orders", "*")])).collect();
        members.extend((0..8).map(|n| member(&format!("x{n}"), &[("orders", "paid")])));
        let text = told("[]", members).unwrap();
        assert!(text.contains("x4 asks for orders (paid), and 3 more"), "{text}");
    }
}
