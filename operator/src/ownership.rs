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
    /// Who holds it, for people who may see the claim's namespace and no other.
    pub owner: String,
    /// Whether `adoptionPolicy: Adopt` would take it over.
    pub adoptable: bool,
    /// Whether whoever is told may see the owner.
    pub is_visible: bool,
}

/// What a mark on something that a broker holds means to a claim that was granted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Standing {
    /// The claim's own object made it, or took it over.
    Mine,
    /// An object of the same namespace declared it, and declares it no more.
    Predecessor,
    /// An object of another namespace declared it, and declares it no more.
    Elsewhere,
    /// Somebody outside this Kubernetes cluster declared it.
    Foreign,
    /// Nobody declared it.
    Nobody,
}

/// How a claim that was granted stands to a mark.
#[must_use]
pub fn standing(claim: &Claim, mark: Option<&Owner>, instance: &str) -> Standing {
    match mark.filter(|mark| !mark.instance.is_empty()) {
        None => Standing::Nobody,
        Some(mark) if mark.instance != instance => Standing::Foreign,
        Some(mark) if claim.is_named_by(mark) => Standing::Mine,
        Some(mark) if claim.namespace == mark.namespace => Standing::Predecessor,
        Some(_) => Standing::Elsewhere,
    }
}

/// What an owner is called whose namespace is not the claim's.
const ELSEWHERE: &str = "an object of another namespace";

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
    let living = |holder: &Claim| {
        let is_visible = holder.namespace == claim.namespace;
        let owner = if is_visible {
            format!("{}/{}", holder.namespace, holder.name)
        } else {
            ELSEWHERE.to_owned()
        };
        OwnedByAnother { owner, adoptable: false, is_visible }
    };
    // A living object whose mark is in the brokers holds the name.
    let holder = |mark: &&Owner| mark.instance == instance;
    let marked = marks.iter().filter(holder).find_map(|mark| {
        std::iter::once(claim).chain(rivals).find(|claim| claim.is_named_by(mark))
    });
    if let Some(marked) = marked
        && marked.uid != claim.uid
    {
        return Err(living(marked));
    }
    let foreign = marks.iter().find(|mark| mark.instance != instance);
    if let Some(mark) = foreign
        && policy != AdoptionPolicy::Adopt
    {
        return Err(OwnedByAnother { owner: describe(mark), adoptable: true, is_visible: true });
    }
    // Nobody living is marked: the oldest object has the name.
    let age = |c: &Claim| (c.created.clone(), c.uid.clone());
    let oldest = rivals.iter().min_by_key(|rival| age(rival));
    if marked.is_none()
        && let Some(oldest) = oldest
        && age(oldest) < age(claim)
    {
        return Err(living(oldest));
    }
    let take_over = marks.iter().any(|mark| mark.instance != instance || !claim.is_named_by(mark));
    Ok(Granted { take_over })
}

/// Somebody outside this Kubernetes cluster. Namespaces there are nobody's business here.
fn describe(mark: &Owner) -> String {
    if mark.namespace.is_empty() {
        format!("{} {}", mark.instance, mark.name)
    } else {
        format!("an object of another Kubernetes cluster ({})", mark.instance)
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
        assert_eq!(refused, Err(ELSEWHERE.to_owned()));
    }

    #[test]
    fn an_owner_is_named_within_its_namespace_only() {
        let old = Claim { name: "first".to_owned(), uid: "1".to_owned(), ..claim("a", 1) };
        let policy = AdoptionPolicy::default();
        for marks in [Vec::new(), vec![old.mark(HERE)]] {
            let refused = |young: &Claim| {
                decided(young, std::slice::from_ref(&old), &marks, policy).unwrap_err()
            };
            assert_eq!(refused(&claim("a", 2)), "a/first");
            assert_eq!(refused(&claim("b", 2)), ELSEWHERE);
        }
        let elsewhere = [Owner { instance: "other".to_owned(), ..old.mark(HERE) }];
        let refused = decided(&claim("a", 2), &[], &elsewhere, policy).unwrap_err();
        assert!(!refused.contains("first"), "{refused}");
    }

    #[test]
    fn a_mark_is_ones_own_a_neighbours_or_a_strangers() {
        let mine = claim("a", 1);
        let stands = |mark: &Owner| standing(&mine, Some(mark), HERE);
        let again = Claim { uid: "created-again".to_owned(), ..mine.clone() };
        assert_eq!(stands(&again.mark(HERE)), Standing::Mine);
        let neighbour = Claim { name: "old".to_owned(), ..mine.clone() };
        assert_eq!(stands(&neighbour.mark(HERE)), Standing::Predecessor);
        assert_eq!(stands(&claim("b", 1).mark(HERE)), Standing::Elsewhere);
        assert_eq!(stands(&mine.mark("cli")), Standing::Foreign);
        assert_eq!(stands(&Owner::default()), Standing::Nobody);
        assert_eq!(standing(&mine, None, HERE), Standing::Nobody);
    }

    #[test]
    fn a_living_object_keeps_the_name_that_the_brokers_know_it_by() {
        let (old, young) = (claim("a", 1), claim("b", 2));
        for policy in [AdoptionPolicy::IfIdentical, AdoptionPolicy::Adopt] {
            let marks = [young.mark(HERE)];
            assert_eq!(decided(&young, std::slice::from_ref(&old), &marks, policy), Ok(false));
            let refused = decided(&old, std::slice::from_ref(&young), &marks, policy);
            assert_eq!(refused, Err(ELSEWHERE.to_owned()));
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
