//! Cases of what an operator does: dead letters brought back, progress set anew.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rocketmq::model::message::MessageView;
use time::format_description::well_known::Rfc3339;
use time::OffsetDateTime;

use crate::clients::{check, Clients, Consumer, Failure, INVISIBLE};
use crate::steps::{
    ask_and_wait, check_bodies, check_dead_letter, check_each_once, id_kept, ids, poison,
    receive_dead_letter, Outcome,
};

/// Runs the case if it is one of these.
pub async fn run(case: &str, clients: &Clients) -> Option<Outcome> {
    Some(match case {
        "dead-letter-origin" => dead_letter_origin(clients).await,
        "redrive" => redrive(clients).await,
        "reset-earliest" => reset_earliest(clients).await,
        "reset-timestamp" => reset_timestamp(clients).await,
        "reset-latest" => reset_latest(clients).await,
        _ => return None,
    })
}

/// Two attempts that end unacknowledged; the message as it was delivered.
async fn let_die(consumer: &Consumer) -> Result<MessageView, Failure> {
    consumer.receive_one(INVISIBLE).await?;
    consumer.receive_one(INVISIBLE).await
}

async fn dead_letter_origin(clients: &Clients) -> Outcome {
    clients.send(&clients.producer().await?, poison(clients)).await?;
    let was = let_die(&clients.simple().await?).await?;
    let dead = receive_dead_letter(clients).await?;
    let birth = |view: &MessageView| (view.born_host().to_string(), view.born_timestamp());
    for (what, is_same) in [
        ("message id", dead.message_id() == was.message_id()),
        ("body", dead.body() == was.body()),
        ("tag", dead.tag() == was.tag()),
        ("keys", dead.keys() == was.keys()),
        ("properties", dead.properties() == was.properties()),
        ("birth", birth(&dead) == birth(&was)),
    ] {
        check(is_same, || format!("another {what}: {dead:?} instead of {was:?}"))?;
    }
    let attempt = dead.delivery_attempt();
    check(attempt == 1, || format!("delivery attempt {attempt}"))?;
    Ok(format!("topic {}", dead.topic()))
}

async fn redrive(clients: &Clients) -> Outcome {
    let sent = clients.send(&clients.producer().await?, poison(clients)).await?;
    let consumer = clients.simple().await?;
    let_die(&consumer).await?;
    check_dead_letter(clients, &sent).await?;
    ask_and_wait("redrive", "").await?;
    let views = consumer.collect(1).await?;
    check_bodies(&views, &["poison"])?;
    check(views[0].tag() == Some("tag-a"), || format!("tag {:?}", views[0].tag()))?;
    let attempt = views[0].delivery_attempt();
    check(attempt == 1, || format!("delivery attempt {attempt}"))?;
    Ok(id_kept(&views[0], &sent))
}

async fn reset_earliest(clients: &Clients) -> Outcome {
    let sent = clients.send_all(&clients.producer().await?, 20).await?;
    let consumer = clients.simple().await?;
    consumer.collect(20).await?;
    ask_and_wait("reset", "earliest").await?;
    check_each_once(ids(&consumer.collect(20).await?), sent)?;
    Ok(String::new())
}

/// Waits for the next whole second and names it.
async fn next_second() -> String {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("it is after 1970");
    let next = Duration::from_secs(now.as_secs() + 1);
    tokio::time::sleep(next - now).await;
    let moment = OffsetDateTime::UNIX_EPOCH + next;
    moment.format(&Rfc3339).expect("every second has a name")
}

async fn reset_timestamp(clients: &Clients) -> Outcome {
    let producer = clients.producer().await?;
    clients.send_all(&producer, 10).await?;
    let between = next_second().await;
    let after = clients.send_all(&producer, 10).await?;
    let consumer = clients.simple().await?;
    consumer.collect(20).await?;
    ask_and_wait("reset", &between).await?;
    let mut again = consumer.collect(10).await?;
    again.extend(consumer.receive_during(Duration::from_secs(1)).await?);
    check_each_once(ids(&again), after)?;
    Ok(String::new())
}

async fn reset_latest(clients: &Clients) -> Outcome {
    let producer = clients.producer().await?;
    clients.send_all(&producer, 10).await?;
    let consumer = clients.simple().await?;
    consumer.ack(&consumer.receive_one(INVISIBLE).await?).await?;
    ask_and_wait("reset", "latest").await?;
    clients.send(&producer, clients.message("next")).await?;
    let mut came = consumer.collect(1).await?;
    came.extend(consumer.receive_during(Duration::from_secs(1)).await?);
    check_bodies(&came, &["next"])?;
    Ok(String::new())
}
