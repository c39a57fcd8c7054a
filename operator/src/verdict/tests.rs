//! The statuses on which the health script of Argo CD is tested are those that controllers write.

use operator_api::condition::{Condition, merge};
use serde_json::Value;

use super::*;

#[test]
fn the_cases_of_the_health_script_are_what_controllers_write() {
    let cases: Vec<Value> =
        serde_json::from_str(include_str!("../../../tests/golden/health/cases.json")).unwrap();
    let mut compared = 0;
    for case in &cases {
        let Some(told) = case["object"]["status"].get("conditions") else { continue };
        let mut told: Vec<Condition> = serde_json::from_value(told.clone()).unwrap();
        told.retain(|condition| [READY, RECONCILING, STALLED].contains(&condition.type_.as_str()));
        let first = told[0].clone();
        let reason = Reason::new(first.reason.leak(), first.message);
        let verdict = match case["verdict"].as_str().unwrap() {
            "Ready" => Verdict::Ready(reason),
            "Waiting" => Verdict::Waiting(reason),
            "Unknown" => Verdict::Unknown(reason),
            "Stalled" => Verdict::Stalled(reason),
            other => panic!("{other} is no verdict"),
        };
        let written =
            merge(&[], &verdict.findings(), first.observed_generation, &first.last_transition_time);
        assert_eq!(written, told, "{}", case["name"]);
        compared += 1;
    }
    assert_eq!(compared, 8);
}
