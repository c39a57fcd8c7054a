//! Cases of who gets what: SQL filters and broadcasting.

use std::collections::HashMap;
use std::time::Duration;

use crate::clients::{check, Clients, Failure, INVISIBLE};
use crate::steps::{bodies, check_bodies, check_each_once, expect_refusal, ids, Outcome};

const BROADCAST_MESSAGES: usize = 50;

/// Runs the case if it is one of these.
pub async fn run(case: &str, clients: &Clients) -> Option<Outcome> {
    Some(match case {
        "sql-filter" => sql_filter(clients).await,
        "sql-null" => sql_null(clients).await,
        "sql-broken" => sql_broken(clients).await,
        "broadcasting-simple" => broadcasting_simple(clients).await,
        _ => return None,
    })
}

/// Five of each: blue and heavy, blue and light, red and heavy, without any property.
async fn send_coloured(clients: &Clients) -> Result<(), Failure> {
    let producer = clients.producer().await?;
    for _ in 0..5 {
        for (colour, weight) in [("blue", "20"), ("blue", "5"), ("red", "20")] {
            let properties = HashMap::from([("colour", colour), ("weight", weight)]);
            let message = clients.message(format!("{colour}-{weight}"));
            clients.send(&producer, message.set_properties(properties)).await?;
        }
        clients.send(&producer, clients.message("plain")).await?;
    }
    Ok(())
}

async fn sql_filter(clients: &Clients) -> Outcome {
    send_coloured(clients).await?;
    let filter = "colour = 'blue' AND weight > 10";
    let consumer = clients.sql_simple(&clients.options.group, filter).await?;
    let mut views = consumer.collect(5).await?;
    views.extend(consumer.receive_during(Duration::from_secs(2)).await?);
    check_bodies(&views, &["blue-20"; 5])?;
    Ok(String::new())
}

async fn sql_null(clients: &Clients) -> Outcome {
    send_coloured(clients).await?;
    let options = &clients.options;
    check_kinds(clients, &options.group, "colour <> 'red'", &["blue-20", "blue-5"]).await?;
    check_kinds(clients, &options.second_group, "colour IS NULL", &["plain"]).await
}

/// The group gets all five of each expected kind, and nothing else.
async fn check_kinds(clients: &Clients, group: &str, filter: &str, kinds: &[&str]) -> Outcome {
    let consumer = clients.sql_simple(group, filter).await?;
    let mut views = consumer.collect(kinds.len() * 5).await?;
    views.extend(consumer.receive_during(Duration::from_secs(2)).await?);
    let mut came = bodies(&views);
    came.sort();
    let expected: Vec<&str> = kinds.iter().flat_map(|kind| [*kind; 5]).collect();
    check(came == expected, || format!("{came:?} came for {filter}"))?;
    Ok(String::new())
}

async fn sql_broken(clients: &Clients) -> Outcome {
    let answer = match clients.sql_simple(&clients.options.group, "colour = = 'blue' AND").await {
        Ok(consumer) => consumer.receive(INVISIBLE).await,
        Err(refusal) => Err(refusal),
    };
    expect_refusal(answer, &["ILLEGAL_FILTER_EXPRESSION", "40010"])
}

async fn broadcasting_simple(clients: &Clients) -> Outcome {
    let (first, second) = (clients.simple().await?, clients.simple().await?);
    // This client does not wait for the broker at its start; its first receive does.
    let (left, right) = tokio::join!(first.receive(INVISIBLE), second.receive(INVISIBLE));
    check(left?.is_empty() && right?.is_empty(), || "a message came from nowhere".to_string())?;
    let sent = clients.send_all(&clients.producer().await?, BROADCAST_MESSAGES).await?;
    for consumer in [first, second] {
        let mut views = consumer.collect(BROADCAST_MESSAGES).await?;
        views.extend(consumer.receive_during(Duration::from_secs(1)).await?);
        check_each_once(ids(&views), sent.clone())?;
    }
    Ok(String::new())
}
