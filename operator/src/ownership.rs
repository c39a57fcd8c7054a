//! Who may declare a name in a cluster: of several objects that claim it, and against what the brokers say. Pure; every
//! operator decides the same from the same objects, so that nothing flips to and fro.

use broker_proto::admin::Owner;
use operator_api::topic::AdoptionPolicy;

/// An object that claims a name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Claim {
    /// Namespace of the object.
    pub namespace: String,
    /// Name of the object.
    pub name: String,
    /// Uid of the object.
    pub uid: String,
    /// When it was created; orders claims.
    pub created: String,
}

impl Claim {
    /// Whether a broker's mark names this object.
    fn is_named_by(&self, mark: &Owner) -> bool {
        self.namespace == mark.namespace && self.name == mark.name
    }

    /// The mark that the object gives what it declares.
    #[must_use]
    pub fn mark(&self, instance: &str) -> Owner {
        Owner {
            instance: instance.to_owned(),
            namespace: self.namespace.clone(),
            name: self.name.clone(),
            uid: self.uid.clone(),
        }
    }
}

/// The claim holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Granted {
    /// The brokers' mark names somebody else, who is gone or is replaced.
    pub take_over: bool,
}

/// The claim does not hold.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OwnedByAnother {
    /// Who holds it, for people.
    pub owner: String,
    /// Whether `adoptionPolicy: Adopt` would take it over.
    pub adoptable: bool,
}

/// Decides for `claim` against the other claims of the same name and the marks that the brokers hold.
///
/// # Errors
/// [`OwnedByAnother`] naming who holds it.
pub fn decide(
    claim: &Claim,
    rivals: &[Claim],
    marks: &[Owner],
    instance: &str,
    policy: AdoptionPolicy,
) -> Result<Granted, OwnedByAnother> {
    let living = |c: &Claim| format!("{}/{}", c.namespace, c.name);
    // A living object whose mark is in the brokers holds the name.
    let holder = |mark: &&Owner| mark.instance == instance;
    let marked = marks.iter().filter(holder).find_map(|mark| {
        std::iter::once(claim).chain(rivals).find(|claim| claim.is_named_by(mark))
    });
    if let Some(marked) = marked
        && marked.uid != claim.uid
    {
        return Err(OwnedByAnother { owner: living(marked), adoptable: false });
    }
    let foreign = marks.iter().find(|mark| mark.instance != instance);
    if let Some(mark) = foreign
        && policy != AdoptionPolicy::Adopt
    {
        let owner = describe(mark);
        return Err(OwnedByAnother { owner, adoptable: true });
    }
    // Nobody living is marked: the oldest object has the name.
    let age = |c: &Claim| (c.created.clone(), c.uid.clone());
    let oldest = rivals.iter().min_by_key(|rival| age(rival));
    if marked.is_none()
        && let Some(oldest) = oldest
        && age(oldest) < age(claim)
    {
        return Err(OwnedByAnother { owner: living(oldest), adoptable: false });
    }
    let take_over = marks.iter().any(|mark| mark.instance != instance || !claim.is_named_by(mark));
    Ok(Granted { take_over })
}

fn describe(mark: &Owner) -> String {
    if mark.namespace.is_empty() {
        format!("{} {}", mark.instance, mark.name)
    } else {
        format!("{} {}/{}", mark.instance, mark.namespace, mark.name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HERE: &str = "kubernetes";

    fn claim(namespace: &str, created: u32) -> Claim {
        Claim {
            namespace: namespace.to_owned(),
            name: "orders".to_owned(),
            uid: format!("uid-{namespace}"),
            created: format!("2026-01-{created:02}"),
        }
    }

    fn decided(
        claim: &Claim,
        rivals: &[Claim],
        marks: &[Owner],
        policy: AdoptionPolicy,
    ) -> Result<bool, String> {
        decide(claim, rivals, marks, HERE, policy).map(|g| g.take_over).map_err(|o| o.owner)
    }

    #[test]
    fn without_a_mark_the_oldest_object_has_the_name() {
        let (old, young) = (claim("a", 1), claim("b", 2));
        let policy = AdoptionPolicy::default();
        assert_eq!(decided(&old, std::slice::from_ref(&young), &[], policy), Ok(false));
        let refused = decided(&young, std::slice::from_ref(&old), &[], policy);
        assert_eq!(refused, Err("a/orders".to_owned()));
    }

    #[test]
    fn a_living_object_keeps_the_name_that_the_brokers_know_it_by() {
        let (old, young) = (claim("a", 1), claim("b", 2));
        for policy in [AdoptionPolicy::IfIdentical, AdoptionPolicy::Adopt] {
            let marks = [young.mark(HERE)];
            assert_eq!(decided(&young, std::slice::from_ref(&old), &marks, policy), Ok(false));
            let refused = decided(&old, std::slice::from_ref(&young), &marks, policy);
            assert_eq!(refused, Err("b/orders".to_owned()));
        }
    }

    #[test]
    fn the_mark_of_an_object_that_is_gone_is_taken_over() {
        let gone = claim("z", 1);
        let marks = [gone.mark(HERE)];
        assert_eq!(decided(&claim("a", 2), &[], &marks, AdoptionPolicy::default()), Ok(true));
    }

    #[test]
    fn what_somebody_else_declared_is_adopted_only_on_request() {
        let marks =
            [Owner { instance: "cli".to_owned(), name: "ada".to_owned(), ..Owner::default() }];
        let mine = claim("a", 1);
        let refused = decided(&mine, &[], &marks, AdoptionPolicy::IfIdentical);
        assert_eq!(refused, Err("cli ada".to_owned()));
        assert_eq!(decided(&mine, &[], &marks, AdoptionPolicy::Adopt), Ok(true));
    }
}
