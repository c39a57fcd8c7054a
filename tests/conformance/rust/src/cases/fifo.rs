//! Cases of messages in order per message group.

use std::time::{Duration, Instant};

use rocketmq::model::message::MessageView;

use crate::clients::{
    check, Clients, Consumer, Failure, COLLECT_INVISIBLE, COLLECT_LIMIT, INVISIBLE,
};
use crate::steps::{
    bodies, check_bodies, check_dead_letter, check_in_order, poison, send_in_groups, Outcome, EARLY,
};

/// Runs the case if it is one of these.
pub async fn run(case: &str, clients: &Clients) -> Option<Outcome> {
    Some(match case {
        "fifo-order" => in_order(clients, 6, 10).await,
        "fifo-one-in-flight" => one_in_flight(clients).await,
        "fifo-redelivery" => redelivery(clients).await,
        "fifo-dead-letter" => dead_letter(clients).await,
        "fifo-two-producers" => two_producers(clients).await,
        "fifo-point-to-point" => point_to_point(clients).await,
        "fifo-throughput" => in_order(clients, 20, 25).await,
        "fifo-many-groups" => in_order(clients, 150, 2).await,
        _ => return None,
    })
}

async fn in_order(clients: &Clients, groups: usize, each: usize) -> Outcome {
    let began = Instant::now();
    send_in_groups(clients, groups, each).await?;
    let views = clients.simple().await?.collect(groups * each).await?;
    let took = began.elapsed().as_secs_f64();
    check_in_order(&views, groups, each)?;
    Ok(format!("{} messages in {took:.1} s", views.len()))
}

/// Messages "a-0" and the like; the letter is the message group.
async fn send_named(clients: &Clients, names: &[&str]) -> Result<(), Failure> {
    let producer = clients.producer().await?;
    for name in names {
        clients.send(&producer, clients.message(*name).set_message_group(&name[..1])).await?;
    }
    Ok(())
}

async fn one_in_flight(clients: &Clients) -> Outcome {
    send_named(clients, &["a-0", "a-1", "b-0", "b-1"]).await?;
    let (first, second) = (clients.simple().await?, clients.simple().await?);
    let mut held = vec![
        first.receive_one(COLLECT_INVISIBLE).await?,
        first.receive_one(COLLECT_INVISIBLE).await?,
    ];
    held.sort_by(|one, other| one.body().cmp(other.body()));
    check_bodies(&held, &["a-0", "b-0"])?;
    let early = second.receive_during(Duration::from_secs(1)).await?;
    check(early.is_empty(), || format!("{:?} came too early", bodies(&early)))?;
    for (view, next) in held.iter().zip(["a-1", "b-1"]) {
        first.ack(view).await?;
        check_bodies(&second.collect(1).await?, &[next])?;
    }
    Ok(String::new())
}

async fn redelivery(clients: &Clients) -> Outcome {
    send_named(clients, &["a-0", "a-1", "a-2"]).await?;
    let consumer = clients.simple().await?;
    consumer.receive_one(INVISIBLE).await?;
    let received = Instant::now();
    let again = consumer.receive_one(COLLECT_INVISIBLE).await?;
    let waited = received.elapsed();
    consumer.ack(&again).await?;
    let detail = format!("came again after {:.1} s", waited.as_secs_f64());
    check(waited >= INVISIBLE - EARLY, || detail.clone())?;
    let attempt = again.delivery_attempt();
    check(attempt == 2, || format!("delivery attempt {attempt}"))?;
    let mut views = vec![again];
    views.extend(consumer.collect(2).await?);
    check_bodies(&views, &["a-0", "a-1", "a-2"])?;
    Ok(detail)
}

/// Without a call to change the invisible duration both attempts wait for its end.
async fn dead_letter(clients: &Clients) -> Outcome {
    let producer = clients.producer().await?;
    let sent = clients.send(&producer, poison(clients).set_message_group("a")).await?;
    send_named(clients, &["a-1"]).await?;
    let consumer = clients.simple().await?;
    for attempt in [1, 2] {
        let view = consumer.receive_one(INVISIBLE).await?;
        let got = view.delivery_attempt();
        check_bodies(&[view], &["poison"])?;
        check(got == attempt, || format!("delivery attempt {got}"))?;
    }
    check_bodies(&consumer.collect(1).await?, &["a-1"])?;
    check_dead_letter(clients, &sent).await
}

async fn two_producers(clients: &Clients) -> Outcome {
    let producers = [clients.producer().await?, clients.producer().await?];
    for n in 0..30 {
        let message = clients.message(n.to_string()).set_message_group("shared");
        clients.send(&producers[n % 2], message).await?;
    }
    check_in_order(&clients.simple().await?.collect(30).await?, 1, 30)?;
    Ok(String::new())
}

/// Handles messages until the group is empty or the limit has passed; each with its time.
async fn handle(consumer: &Consumer) -> Result<Vec<(Instant, MessageView)>, Failure> {
    let mut handled = Vec::new();
    let began = Instant::now();
    while began.elapsed() < COLLECT_LIMIT {
        let views = consumer.receive(COLLECT_INVISIBLE).await?;
        if views.is_empty() && !handled.is_empty() {
            break;
        }
        for view in views {
            let at = Instant::now();
            consumer.ack(&view).await?;
            handled.push((at, view));
        }
    }
    Ok(handled)
}

async fn point_to_point(clients: &Clients) -> Outcome {
    let (first, second) = (clients.simple().await?, clients.simple().await?);
    send_in_groups(clients, 20, 10).await?;
    let (left, right) = tokio::join!(handle(&first), handle(&second));
    let (left, right) = (left?, right?);
    let detail = format!("{} and {}", left.len(), right.len());
    let is_shared = !left.is_empty() && !right.is_empty();
    let mut both: Vec<(Instant, MessageView)> = left.into_iter().chain(right).collect();
    both.sort_by_key(|(at, _)| *at);
    let views: Vec<MessageView> = both.into_iter().map(|(_, view)| view).collect();
    check_in_order(&views, 20, 10)?;
    check(is_shared, || "one consumer got everything".to_string())?;
    Ok(detail)
}
