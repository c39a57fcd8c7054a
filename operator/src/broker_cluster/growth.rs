//! Volumes that are to be larger. StatefulSets cannot change the claims that they made, so the claims are asked one by one;
//! whether a claim can grow is for its StorageClass to say. Pure.

use operator_api::quantity::SizeText;

use super::volumes::Volume;
use crate::verdict::Verdict;

/// What keeps the volumes from having the size that is asked for.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Growth {
    /// Claims that are to ask for more.
    pub to_ask: Vec<Volume>,
    /// Claims that asked, and whose volumes are not larger yet.
    pub under_way: Vec<String>,
    /// Claims that may not ask for more, each with the words of Kubernetes.
    pub refused: Vec<(String, String)>,
}

/// What is to be done so that every volume is at least this large. One that is larger already, because somebody resized it,
/// stays as it is.
#[must_use]
pub fn growth(volumes: &[Volume], brokers: u32, wanted: &SizeText) -> Growth {
    let mut growth = Growth::default();
    let Ok(wanted) = wanted.as_bytes() else { return growth };
    let bytes = |text: &Option<String>| SizeText(text.clone()?).as_bytes().ok();
    for volume in volumes.iter().filter(|volume| volume.broker < brokers) {
        // A claim without a volume cannot change what it asks for.
        let (Some(asked), Some(has)) = (bytes(&volume.asked), bytes(&volume.capacity)) else {
            continue;
        };
        if asked < wanted {
            growth.to_ask.push(volume.clone());
        } else if has < wanted {
            growth.under_way.push(volume.name.clone());
        }
    }
    growth
}

impl Growth {
    /// What is to be said of volumes that are not as large as they should be; none when all are.
    #[must_use]
    pub fn verdict(&self, wanted: &SizeText) -> Option<Verdict> {
        if let Some((claim, words)) = self.refused.first() {
            let message = format!(
                "PersistentVolumeClaim {claim} cannot grow to {wanted}: {words}; set spec.storage.size back, or let its \
                 StorageClass allow it (allowVolumeExpansion: true)"
            );
            return Some(Verdict::stalled("VolumesCannotGrow", message));
        }
        let asked = self.to_ask.iter().map(|volume| volume.name.as_str());
        let growing: Vec<&str> = asked.chain(self.under_way.iter().map(String::as_str)).collect();
        if growing.is_empty() {
            return None;
        }
        let message = format!("waits until volumes have grown to {wanted}: {}", growing.join(", "));
        Some(Verdict::waiting("VolumesGrow", message))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn volume(broker: u32, asked: &str, capacity: Option<&str>) -> Volume {
        Volume {
            broker,
            name: format!("data-default-broker-{broker}-0"),
            uid: None,
            shards: None,
            disk: None,
            asked: Some(asked.to_owned()),
            capacity: capacity.map(str::to_owned),
        }
    }

    fn size(text: &str) -> SizeText {
        SizeText(text.to_owned())
    }

    #[test]
    fn claims_of_brokers_ask_for_more_and_never_for_less() {
        let volumes = [
            volume(0, "10Gi", Some("10Gi")),
            volume(1, "20Gi", Some("10Gi")),
            volume(2, "1Ti", Some("1Ti")),
            volume(3, "10Gi", None),
            volume(4, "10Gi", Some("10Gi")),
        ];
        let growth = growth(&volumes, 4, &size("20Gi"));
        assert_eq!(growth.to_ask, [volumes[0].clone()]);
        assert_eq!(growth.under_way, ["data-default-broker-1-0"]);
        let verdict = growth.verdict(&size("20Gi")).unwrap();
        assert_eq!(verdict.reason().word, "VolumesGrow");
        let said = "grown to 20Gi: data-default-broker-0-0, data-default-broker-1-0";
        assert!(verdict.reason().message.ends_with(said), "{verdict:?}");
    }

    #[test]
    fn volumes_that_are_as_large_as_asked_are_not_spoken_of() {
        let volumes = [volume(0, "20Gi", Some("20Gi")), volume(1, "30Gi", Some("30Gi"))];
        let growth = growth(&volumes, 2, &size("20480Mi"));
        assert_eq!(growth, Growth::default());
        assert_eq!(growth.verdict(&size("20480Mi")), None);
    }

    #[test]
    fn a_claim_that_may_not_grow_waits_for_a_person() {
        let refused = vec![("data-default-broker-0-0".to_owned(), "no".to_owned())];
        let growth = Growth { refused, ..Growth::default() };
        let verdict = growth.verdict(&size("20Gi")).unwrap();
        assert!(matches!(verdict, Verdict::Stalled(_)));
        let said = "data-default-broker-0-0 cannot grow to 20Gi: no; set spec.storage.size back";
        assert!(verdict.reason().message.contains(said), "{verdict:?}");
    }
}
