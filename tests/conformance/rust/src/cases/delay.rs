//! Cases of messages for later. This client sends their time in whole seconds.

use std::collections::HashMap;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use rocketmq::model::message::MessageView;
use rocketmq::Producer;

use crate::clients::{check, Clients, Consumer, Failure, COLLECT_INVISIBLE};
use crate::steps::{ask_and_wait, body, check_bodies, expect_refusal, Outcome};

const LATE_SECONDS: f64 = 1.0;

/// Runs the case if it is one of these.
pub async fn run(case: &str, clients: &Clients) -> Option<Outcome> {
    Some(match case {
        "delay" => delay(clients).await,
        "delay-order" => order(clients).await,
        "delay-past" => past(clients).await,
        "delay-too-far" => too_far(clients).await,
        "delay-restart" => restart(clients).await,
        _ => return None,
    })
}

fn now_seconds() -> f64 {
    SystemTime::now().duration_since(UNIX_EPOCH).expect("it is after 1970").as_secs_f64()
}

fn due_in(seconds: i64) -> i64 {
    now_seconds().ceil() as i64 + seconds
}

async fn send_later(clients: &Clients, producer: &Producer, text: &str, due: i64) -> Outcome {
    clients.send(producer, clients.message(text).set_delivery_timestamp(due)).await
}

struct Arrival {
    view: MessageView,
    at_seconds: f64,
}

/// Receives until `count` messages came, and acknowledges none.
async fn arrivals_until(consumer: &Consumer, count: usize) -> Result<Vec<Arrival>, Failure> {
    let mut arrivals = Vec::new();
    while arrivals.len() < count {
        let views = consumer.receive_until(1, COLLECT_INVISIBLE, false).await?;
        let at_seconds = now_seconds();
        arrivals.extend(views.into_iter().map(|view| Arrival { view, at_seconds }));
    }
    Ok(arrivals)
}

fn check_in_time(arrival: &Arrival, due: i64, at_most: f64) -> Outcome {
    let late = arrival.at_seconds - due as f64;
    let detail = format!("{:.0} ms after its time", late * 1000.0);
    let in_time = (0.0..=at_most).contains(&late);
    check(in_time, || format!("{} came {detail}", body(&arrival.view)))?;
    let shown = arrival.view.delivery_timestamp();
    check(shown == Some(due), || format!("delivery timestamp {shown:?} instead of {due}"))?;
    Ok(detail)
}

async fn delay(clients: &Clients) -> Outcome {
    let (producer, consumer) = (clients.producer().await?, clients.simple().await?);
    let due = due_in(3);
    send_later(clients, &producer, "later", due).await?;
    check_in_time(&arrivals_until(&consumer, 1).await?[0], due, LATE_SECONDS)
}

async fn order(clients: &Clients) -> Outcome {
    let (producer, consumer) = (clients.producer().await?, clients.simple().await?);
    let mut due = HashMap::new();
    for seconds in [6, 4, 2] {
        due.insert(seconds.to_string(), due_in(seconds));
        send_later(clients, &producer, &seconds.to_string(), due[&seconds.to_string()]).await?;
    }
    let arrivals = arrivals_until(&consumer, 3).await?;
    for arrival in &arrivals {
        check_in_time(arrival, due[&body(&arrival.view)], LATE_SECONDS)?;
    }
    let views: Vec<MessageView> = arrivals.into_iter().map(|arrival| arrival.view).collect();
    check_bodies(&views, &["2", "4", "6"])?;
    Ok(String::new())
}

async fn past(clients: &Clients) -> Outcome {
    let (producer, consumer) = (clients.producer().await?, clients.simple().await?);
    send_later(clients, &producer, "late", due_in(-60)).await?;
    let sent = Instant::now();
    arrivals_until(&consumer, 1).await?;
    let waited = sent.elapsed();
    check(waited <= Duration::from_secs(1), || format!("came after {waited:?}"))?;
    Ok(String::new())
}

async fn too_far(clients: &Clients) -> Outcome {
    let producer = clients.producer().await?;
    let answer = send_later(clients, &producer, "too far", due_in(25 * 3600)).await;
    expect_refusal(answer, &["ILLEGAL_DELIVERY_TIME", "40012"])
}

async fn restart(clients: &Clients) -> Outcome {
    let due = due_in(10);
    send_later(clients, &clients.producer().await?, "pending", due).await?;
    ask_and_wait("restart", "").await?;
    let at_most = LATE_SECONDS + (now_seconds() - due as f64).max(0.0);
    let consumer = clients.simple().await?;
    let detail = check_in_time(&arrivals_until(&consumer, 1).await?[0], due, at_most)?;
    let again = consumer.receive_during(Duration::from_secs(1)).await?;
    check(again.is_empty(), || "came twice".to_string())?;
    Ok(detail)
}
