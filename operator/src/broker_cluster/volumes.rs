//! The volumes of a cluster as PersistentVolumeClaims tell of them. A claim outlives its StatefulSet and its cluster, so it
//! carries what was found on its volume. Pure.

use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::api::core::v1::PersistentVolumeClaim;
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use kube::ResourceExt as _;

use crate::links::BrokerReport;
use crate::names::{ClusterKey, DISK_ANNOTATION, SHARDS_ANNOTATION};

/// The volume of one broker.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Volume {
    /// Number of the broker.
    pub broker: u32,
    /// Name of the claim.
    pub name: String,
    /// Uid of the claim.
    pub uid: Option<String>,
    /// The shards that were found on it; none when nobody looked yet.
    pub shards: Option<BTreeSet<u32>>,
    /// The disk that it was when its broker first reported.
    pub disk: Option<String>,
    /// The size that the claim asks for.
    pub asked: Option<String>,
    /// The size that the volume has; none while there is none.
    pub capacity: Option<String>,
}

/// What a connected broker found on its volume.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Found {
    /// Its shards.
    pub shards: BTreeSet<u32>,
    /// Some shard stopped.
    pub failed: bool,
    /// The id of its disk; none from a broker that does not tell.
    pub disk: Option<String>,
    /// Disks that it had before, as it seems, and on which nothing can have been stored.
    pub empty_disks: Vec<String>,
}

/// Disks by the number of their broker.
pub type Disks = BTreeMap<u32, String>;

impl Volume {
    /// A claim of the cluster; none for another one, and for one that is being deleted.
    #[must_use]
    pub fn of(key: &ClusterKey, claim: &PersistentVolumeClaim) -> Option<Self> {
        let name = claim.name_any();
        let broker = key.broker_of_volume(&name)?;
        if claim.metadata.deletion_timestamp.is_some() {
            return None;
        }
        let shards = claim.annotations().get(SHARDS_ANNOTATION).map(|text| parse(text));
        let disk = claim.annotations().get(DISK_ANNOTATION).cloned();
        let spec = claim.spec.as_ref();
        let requests = spec.and_then(|s| s.resources.as_ref()).and_then(|r| r.requests.as_ref());
        let capacity = claim.status.as_ref().and_then(|status| status.capacity.as_ref());
        let storage = |sizes: Option<&BTreeMap<String, Quantity>>| {
            sizes.and_then(|sizes| sizes.get("storage")).map(|size| size.0.clone())
        };
        let (asked, capacity) = (storage(requests), storage(capacity));
        Some(Self { broker, name, uid: claim.uid(), shards, disk, asked, capacity })
    }
}

/// Numbers of shards as annotations write them, like `0,2`.
#[must_use]
pub fn parse(text: &str) -> BTreeSet<u32> {
    text.split(',').filter_map(|id| id.trim().parse().ok()).collect()
}

/// Numbers of shards as annotations write them.
#[must_use]
pub fn text(shards: &BTreeSet<u32>) -> String {
    let ids: Vec<String> = shards.iter().map(u32::to_string).collect();
    ids.join(",")
}

/// What brokers found on their volumes, by their own word.
#[must_use]
pub fn reported(reports: &[BrokerReport]) -> BTreeMap<u32, Found> {
    let of_broker = |report: &BrokerReport| {
        let status = report.status.as_ref().filter(|_| report.silence.is_none())?;
        let shards: BTreeSet<u32> = status.shards.iter().map(|shard| shard.id).collect();
        let disk = Some(status.disk_id.clone()).filter(|disk| !disk.is_empty());
        let failed = status.shards.iter().any(|shard| !shard.failure.is_empty());
        let empty_disks = report.empty_disks.clone();
        let found = Found { shards, failed, disk, empty_disks };
        (!found.shards.is_empty()).then_some((report.broker, found))
    };
    reports.iter().filter_map(of_broker).collect()
}

/// What is to be noted on a claim.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Note {
    /// The claim.
    pub volume: Volume,
    /// The shards on it.
    pub shards: BTreeSet<u32>,
    /// The disk that it is.
    pub disk: Option<String>,
}

/// What is to be noted on claims: what their brokers report, where it is more than is known. A broker that reports fewer
/// shards has not found what was there before, and nothing is noted of it, nor of a disk that was not expected.
#[must_use]
pub fn to_note(volumes: &[Volume], reported: &BTreeMap<u32, Found>, expected: &Disks) -> Vec<Note> {
    let note = |volume: &Volume| {
        let found = reported.get(&volume.broker)?;
        if found.disk.as_ref() != expected.get(&volume.broker) {
            return None;
        }
        let known = volume.shards.clone().unwrap_or_default();
        let is_more = found.shards != known || found.disk != volume.disk;
        (found.shards.is_superset(&known) && is_more).then(|| Note {
            volume: volume.clone(),
            shards: found.shards.clone(),
            disk: found.disk.clone(),
        })
    };
    volumes.iter().filter_map(note).collect()
}

/// A disk that is not the one of before.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Replaced {
    /// Number of the broker.
    pub broker: u32,
    /// The disk that its messages were on.
    pub lost: String,
    /// The disk that it has now.
    pub found: String,
}

/// What is known of disks.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct DiskFindings {
    /// Those to expect from now on.
    pub expected: Disks,
    /// Those that came in the place of others, and that nobody accepted.
    pub replaced: Vec<Replaced>,
    /// Those that came in the place of others with which nothing was lost.
    pub empty: Vec<Replaced>,
}

/// The disks to expect from now on, and those that came in the place of others. A lost disk stays the one to expect until
/// a person accepts the new one by its id, unless nothing can have been stored on it.
#[must_use]
pub fn disks(
    recorded: &Disks,
    volumes: &[Volume],
    reported: &BTreeMap<u32, Found>,
    accepted: &BTreeSet<&str>,
) -> DiskFindings {
    let noted = volumes.iter().filter_map(|v| Some((v.broker, v.disk.clone()?)));
    let mut standing = DiskFindings { expected: noted.collect(), ..DiskFindings::default() };
    let recorded = recorded.iter().map(|(&broker, disk)| (broker, disk.clone()));
    standing.expected.extend(recorded);
    for (&broker, Found { disk, empty_disks, .. }) in reported {
        let Some(found) = disk else { continue };
        let known = standing.expected.entry(broker).or_insert_with(|| found.clone());
        if known == found {
            continue;
        }
        let replaced = Replaced { broker, lost: known.clone(), found: found.clone() };
        if accepted.contains(found.as_str()) {
            known.clone_from(found);
        } else if empty_disks.contains(known) {
            known.clone_from(found);
            standing.empty.push(replaced);
        } else {
            standing.replaced.push(replaced);
        }
    }
    standing
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key() -> ClusterKey {
        ClusterKey { namespace: "shop".to_owned(), name: "default".to_owned() }
    }

    fn claim(name: &str, shards: Option<&str>) -> PersistentVolumeClaim {
        let mut claim = PersistentVolumeClaim::default();
        claim.metadata.name = Some(name.to_owned());
        let note = |text: &str| BTreeMap::from([(SHARDS_ANNOTATION.to_owned(), text.to_owned())]);
        claim.metadata.annotations = shards.map(note);
        claim
    }

    #[test]
    fn a_claim_of_another_cluster_is_none_of_ours() {
        let names =
            ["data-default-broker-2-0", "data-default-broker-02-0", "data-other-broker-2-0"];
        let found = names.map(|name| Volume::of(&key(), &claim(name, Some("1, 4"))));
        assert_eq!(found.each_ref().map(Option::is_some), [true, false, false]);
        let volume = found[0].clone().unwrap();
        assert_eq!((volume.broker, volume.shards), (2, Some(BTreeSet::from([1, 4]))));
    }

    #[test]
    fn only_more_shards_than_are_known_are_noted() {
        let volume = |name, shards| Volume::of(&key(), &claim(name, shards)).unwrap();
        let volumes = [
            volume("data-default-broker-0-0", None),
            volume("data-default-broker-1-0", Some("1")),
            volume("data-default-broker-2-0", Some("2,5")),
            volume("data-default-broker-3-0", Some("3")),
        ];
        let found =
            |shards: &[u32]| Found { shards: shards.iter().copied().collect(), ..Found::default() };
        let reported = BTreeMap::from([
            (0, found(&[0])),
            (1, found(&[1, 4])),
            (2, found(&[2])),
            (3, found(&[3])),
        ]);
        let noted = to_note(&volumes, &reported, &Disks::new());
        let noted: Vec<_> =
            noted.iter().map(|note| (note.volume.broker, text(&note.shards))).collect();
        assert_eq!(noted, [(0, "0".to_owned()), (1, "1,4".to_owned())]);
    }

    #[test]
    fn a_disk_that_came_in_the_place_of_another_is_expected_only_when_it_is_accepted() {
        let found = |disk: &str| Found {
            shards: BTreeSet::from([0]),
            disk: Some(disk.to_owned()),
            ..Found::default()
        };
        let reported = |disk| BTreeMap::from([(0, found(disk))]);
        let nobody = BTreeSet::new();
        let first = disks(&Disks::new(), &[], &reported("old"), &nobody).expected;
        assert_eq!(first[&0], "old");
        let held = disks(&first, &[], &reported("new"), &nobody);
        let lost = Replaced { broker: 0, lost: "old".to_owned(), found: "new".to_owned() };
        let replaced = vec![lost.clone()];
        assert_eq!(held, DiskFindings { expected: first.clone(), replaced, empty: Vec::new() });
        let accepted = disks(&first, &[], &reported("new"), &BTreeSet::from(["new"]));
        assert_eq!((accepted.expected[&0].as_str(), accepted.replaced.len()), ("new", 0));
        let accepted = accepted.expected;
        let newer = disks(&accepted, &[], &reported("newer"), &BTreeSet::from(["new"]));
        assert_eq!(newer.replaced[0].found, "newer");

        // Only the disk that is lost has to have been empty.
        let with_empty = |disk: &str| {
            let found = Found { empty_disks: vec![disk.to_owned()], ..found("new") };
            disks(&first, &[], &BTreeMap::from([(0, found)]), &nobody)
        };
        assert_eq!(with_empty("older"), held);
        let empty = with_empty("old");
        assert_eq!((empty.expected[&0].as_str(), empty.replaced.len()), ("new", 0));
        assert_eq!(empty.empty, std::slice::from_ref(&lost));

        // Without record the note on the claim tells, and nothing is noted of the new disk.
        let mut volume = Volume::of(&key(), &claim("data-default-broker-0-0", Some("0"))).unwrap();
        volume.disk = Some("old".to_owned());
        let volumes = [volume];
        let held = disks(&Disks::new(), &volumes, &reported("new"), &nobody);
        assert_eq!(held.replaced, [lost]);
        assert!(to_note(&volumes, &reported("new"), &held.expected).is_empty());
        let noted = to_note(&volumes, &reported("new"), &accepted);
        assert_eq!(noted[0].disk.as_deref(), Some("new"));
    }
}
