//! Places of consumer groups: who makes them by first use takes none from those that are declared.

use broker_engine::Known;
use broker_model::limits::GROUPS_BY_FIRST_USE_MAX;

use super::*;

#[tokio::test]
async fn groups_by_first_use_leave_places_for_those_that_are_declared() {
    let group = |n: usize| {
        let name = GroupName::parse(&format!("group-{n}")).unwrap();
        (ConsumerGroup::with_defaults(name), 1)
    };
    let groups = (1..GROUPS_BY_FIRST_USE_MAX).map(group).collect();
    let catalog = Catalog::new(Vec::new(), vec![Known { groups, ..Known::default() }], 1);
    let name = |text: &str| GroupName::parse(text).unwrap();
    assert!(catalog.ensure_group(&name("last")).await.is_ok());
    let refused = catalog.ensure_group(&name("one-more")).await.unwrap_err();
    assert!(matches!(&refused, CatalogError::Limit(_)), "{refused:?}");
    assert!(refused.to_string().contains("declare the group one-more"), "{refused}");
    assert!(catalog.ensure_group(&name("last")).await.is_ok(), "what is there is used");
    let declared = ConsumerGroup::with_defaults(name("declared"));
    assert!(catalog.apply_group(declared, ApplyOptions::default()).await.is_ok());
    assert!(catalog.ensure_group(&name("declared")).await.is_ok());
}
