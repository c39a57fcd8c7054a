//! Cases of ordinary messages, of their delivery, and of the broker's restart.

use std::collections::{HashMap, HashSet};
use std::time::{Duration, Instant};

use rocketmq::Producer;

use crate::clients::{
    check, Clients, Consumer, Failure, AWAIT, COLLECT_INVISIBLE, COLLECT_LIMIT, INVISIBLE,
};
use crate::steps::{
    ask, check_dead_letter, check_each_once, expect_refusal, ids, poison, Outcome, EARLY,
};

const SHARED_MESSAGES: usize = 200;

/// Runs the case if it is one of these.
pub async fn run(case: &str, clients: &Clients) -> Option<Outcome> {
    Some(match case {
        "send" => send(clients).await,
        "properties" => properties(clients).await,
        "bodies" => bodies(clients).await,
        "ack" => ack(clients).await,
        "redelivery" => redelivery(clients).await,
        "tag-filter" => tag_filter(clients).await,
        "point-to-point" => point_to_point(clients).await,
        "publish-subscribe" => publish_subscribe(clients).await,
        "dead-letter" => dead_letter(clients).await,
        "unknown-topic" => unknown_topic(clients).await,
        "wrong-type" => wrong_type(clients).await,
        "oversize" => oversize(clients).await,
        "restart" => restart(clients).await,
        "long-poll" => long_poll(clients).await,
        "empty-receive" => empty_receive(clients).await,
        "shutdown" => shutdown(clients).await,
        "ack-twice" => ack_twice(clients).await,
        "batch-send" => batch_send(clients).await,
        _ => return None,
    })
}

async fn send(clients: &Clients) -> Outcome {
    let producer = clients.producer().await?;
    let id = clients.send(&producer, clients.message("hello")).await?;
    check(!id.is_empty(), || "the receipt has no message id".to_string())?;
    Ok(format!("message id {id}"))
}

async fn properties(clients: &Clients) -> Outcome {
    let wanted = HashMap::from([("colour", "blue"), ("name", "gr\u{fc}n")]);
    let message = clients
        .message("hello")
        .set_tag("tag-a")
        .set_keys(vec!["key-1", "key-2"])
        .set_properties(wanted.clone());
    let id = clients.send(&clients.producer().await?, message).await?;
    let views = clients.simple().await?.collect(1).await?;
    let got = &views[0];
    check(got.message_id() == id, || format!("message id {}", got.message_id()))?;
    check(got.topic() == clients.options.topic, || format!("topic {}", got.topic()))?;
    check(got.body() == b"hello", || format!("body {:?}", got.body()))?;
    check(got.tag() == Some("tag-a"), || format!("tag {:?}", got.tag()))?;
    let keys: HashSet<&str> = got.keys().iter().map(String::as_str).collect();
    check(keys == HashSet::from(["key-1", "key-2"]), || format!("keys {keys:?}"))?;
    let received: HashMap<&str, &str> =
        got.properties().iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
    check(received == wanted, || format!("properties {received:?}"))?;
    check(got.delivery_attempt() == 1, || format!("delivery attempt {}", got.delivery_attempt()))?;
    Ok(String::new())
}

fn pattern(size: usize) -> Vec<u8> {
    (0..size).map(|n| ((n % 251 * 31 + size) % 251) as u8).collect()
}

async fn bodies(clients: &Clients) -> Outcome {
    let sizes = [1, 1024, 1024 * 1024, clients.options.large_body_bytes];
    let producer = clients.producer().await?;
    for size in sizes {
        clients.send(&producer, clients.message(pattern(size))).await?;
    }
    let mut got = Vec::new();
    for view in clients.simple().await?.collect(sizes.len()).await? {
        let size = view.body().len();
        check(view.body() == pattern(size), || format!("{size} bytes changed"))?;
        got.push(size);
    }
    got.sort();
    check(got == sizes, || format!("sizes {got:?}"))?;
    Ok(format!("up to {} bytes", clients.options.large_body_bytes))
}

async fn ack(clients: &Clients) -> Outcome {
    clients.send_all(&clients.producer().await?, 3).await?;
    let consumer = clients.simple().await?;
    consumer.receive_until(3, INVISIBLE, true).await?;
    let late = consumer.receive_during(INVISIBLE + Duration::from_secs(3)).await?.len();
    check(late == 0, || format!("{late} acknowledged messages came again"))?;
    Ok(String::new())
}

async fn redelivery(clients: &Clients) -> Outcome {
    let sent = clients.send_all(&clients.producer().await?, 1).await?;
    let consumer = clients.simple().await?;
    let first = consumer.receive_until(1, INVISIBLE, false).await?;
    let received = Instant::now();
    let attempt = first[0].delivery_attempt();
    check(attempt == 1, || format!("first delivery attempt {attempt}"))?;
    let again = consumer.collect(1).await?;
    let waited = received.elapsed();
    check(ids(&again) == sent, || "another message came".to_string())?;
    let attempt = again[0].delivery_attempt();
    check(attempt == 2, || format!("second delivery attempt {attempt}"))?;
    let detail = format!("came again after {:.1} s", waited.as_secs_f64());
    let in_time = waited >= INVISIBLE - EARLY && waited <= INVISIBLE + Duration::from_secs(6);
    check(in_time, || detail.clone())?;
    Ok(detail)
}

async fn tag_filter(clients: &Clients) -> Outcome {
    let producer = clients.producer().await?;
    for _ in 0..5 {
        for tag in ["a", "b", "c"] {
            clients.send(&producer, clients.message("tagged").set_tag(tag)).await?;
        }
        clients.send(&producer, clients.message("not tagged")).await?;
    }
    let options = &clients.options;
    let consumer = clients.simple_of(&options.group, &options.topic, "a || b", AWAIT).await?;
    let mut got = consumer.collect(10).await?;
    got.extend(consumer.receive_during(Duration::from_secs(2)).await?);
    let mut tags: Vec<&str> = got.iter().map(|view| view.tag().unwrap_or("none")).collect();
    tags.sort();
    check(tags.concat() == "aaaaabbbbb", || format!("tags {tags:?}"))?;
    Ok(String::new())
}

/// Two simple consumers side by side until all messages came, and once more for late ones.
async fn share(first: &Consumer, second: &Consumer) -> Result<[Vec<String>; 2], Failure> {
    let mut got = [Vec::new(), Vec::new()];
    let mut quiet = false;
    let began = Instant::now();
    while !quiet && began.elapsed() < COLLECT_LIMIT {
        let (left, right) =
            tokio::join!(first.receive(COLLECT_INVISIBLE), second.receive(COLLECT_INVISIBLE));
        let (left, right) = (left?, right?);
        quiet = left.is_empty() && right.is_empty();
        for view in &left {
            first.ack(view).await?;
        }
        for view in &right {
            second.ack(view).await?;
        }
        got[0].extend(ids(&left));
        got[1].extend(ids(&right));
    }
    Ok(got)
}

async fn point_to_point(clients: &Clients) -> Outcome {
    let (first, second) = (clients.simple().await?, clients.simple().await?);
    let sent = clients.send_all(&clients.producer().await?, SHARED_MESSAGES).await?;
    let [left, right] = share(&first, &second).await?;
    let detail = format!("{} and {}", left.len(), right.len());
    let both = !left.is_empty() && !right.is_empty();
    check_each_once([left, right].concat(), sent)?;
    check(both, || "one consumer got everything".to_string())?;
    Ok(detail)
}

async fn publish_subscribe(clients: &Clients) -> Outcome {
    let options = &clients.options;
    let first = clients.simple().await?;
    let second = clients.simple_of(&options.second_group, &options.topic, "*", AWAIT).await?;
    let sent = clients.send_all(&clients.producer().await?, SHARED_MESSAGES).await?;
    for got in share(&first, &second).await? {
        check_each_once(got, sent.clone())?;
    }
    Ok(String::new())
}

/// Without a call to change the invisible duration both attempts wait for its end.
async fn dead_letter(clients: &Clients) -> Outcome {
    let sent = clients.send(&clients.producer().await?, poison(clients)).await?;
    let consumer = clients.simple().await?;
    for attempt in [1, 2] {
        let got = consumer.receive_until(1, INVISIBLE, false).await?[0].delivery_attempt();
        check(got == attempt, || format!("delivery attempt {got}"))?;
    }
    let third = consumer.receive_during(INVISIBLE + Duration::from_secs(1)).await?;
    check(third.is_empty(), || "came a third time".to_string())?;
    check_dead_letter(clients, &sent).await
}

async fn unknown_topic(clients: &Clients) -> Outcome {
    let topic = clients.options.unknown_topic.as_str();
    let answer = match clients.producer_of(topic).await {
        Ok(producer) => clients.send(&producer, clients.message("nowhere").set_topic(topic)).await,
        Err(refusal) => Err(refusal),
    };
    expect_refusal(answer, &["TOPIC_NOT_FOUND", "40402", topic])
}

async fn wrong_type(clients: &Clients) -> Outcome {
    let message = clients.message("ordered").set_message_group("order-1");
    let answer = clients.send(&clients.producer().await?, message).await;
    expect_refusal(answer, &["type", "TYPE", "40014"])
}

async fn oversize(clients: &Clients) -> Outcome {
    let message = clients.message(vec![0; 4 * 1024 * 1024 + 1]);
    let answer = clients.send(&clients.producer().await?, message).await;
    expect_refusal(answer, &["size", "large", "LARGE", "4194304", "exceed"])
}

/// Sends all the time while the broker goes and comes; the ids which were answered.
async fn send_through_restart(
    clients: &Clients,
    producer: &Producer,
) -> Result<(Vec<String>, usize), Failure> {
    let (mut sent, mut failures, mut after) = (Vec::new(), 0, 0);
    let mut restarted = ask("restart", "");
    let mut is_back = false;
    let began = Instant::now();
    while after < 20 {
        check(began.elapsed() < Duration::from_secs(45), || {
            format!("the producer did not recover ({failures} errors)")
        })?;
        is_back |= restarted.try_recv().is_ok();
        match clients.send(producer, clients.message("through the restart")).await {
            Ok(id) => {
                sent.push(id);
                after += usize::from(is_back);
            }
            Err(_) => failures += 1,
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    Ok((sent, failures))
}

async fn restart(clients: &Clients) -> Outcome {
    let (producer, consumer) = (clients.producer().await?, clients.simple().await?);
    let before = clients.send_all(&producer, 20).await?;
    let done: HashSet<String> =
        ids(&consumer.receive_until(10, INVISIBLE, true).await?).into_iter().collect();
    let (sent, failures) = send_through_restart(clients, &producer).await?;
    let mut expected: HashSet<String> = before.into_iter().chain(sent.clone()).collect();
    expected.retain(|id| !done.contains(id));
    let (count, began) = (expected.len(), Instant::now());
    while !expected.is_empty() && began.elapsed() < COLLECT_LIMIT {
        let Ok(views) = consumer.receive(INVISIBLE).await else {
            tokio::time::sleep(Duration::from_millis(100)).await;
            continue;
        };
        for view in views {
            let again = done.contains(view.message_id());
            check(!again, || "an acknowledged message came again".to_string())?;
            expected.remove(view.message_id());
            consumer.ack(&view).await?;
        }
    }
    check(expected.is_empty(), || format!("{} of {count} messages lost", expected.len()))?;
    Ok(format!("{} sent meanwhile, {failures} sends failed", sent.len()))
}

async fn long_poll(clients: &Clients) -> Outcome {
    let producer = clients.producer().await?;
    let options = &clients.options;
    let limit = Duration::from_secs(10);
    let consumer = clients.simple_of(&options.group, &options.topic, "*", limit).await?;
    let mut delays_ms = Vec::new();
    for _ in 0..5 {
        let waiting = async {
            let views = consumer.collect(1).await?;
            Ok::<_, Failure>((views, Instant::now()))
        };
        let sending = async {
            tokio::time::sleep(Duration::from_millis(500)).await;
            let began = Instant::now();
            clients.send_all(&producer, 1).await.map(|_| began)
        };
        let (received, began) = tokio::join!(waiting, sending);
        delays_ms.push(received?.1.duration_since(began?).as_millis());
    }
    delays_ms.sort();
    let in_time = delays_ms[2] <= 500 && delays_ms[4] <= 2000;
    check(in_time, || format!("delays {delays_ms:?} ms"))?;
    Ok(format!("median {} ms", delays_ms[2]))
}

async fn empty_receive(clients: &Clients) -> Outcome {
    let consumer = clients.simple().await?;
    let began = Instant::now();
    let views = consumer.receive(INVISIBLE).await?;
    check(views.is_empty(), || "a message came from nowhere".to_string())?;
    let waited = began.elapsed().as_secs_f64();
    let detail = format!("returned after {waited:.1} s");
    check((4.8..=9.5).contains(&waited), || detail.clone())?;
    Ok(detail)
}

async fn shutdown(clients: &Clients) -> Outcome {
    let (producer, consumer) = (clients.producer().await?, clients.simple().await?);
    clients.send_all(&producer, 1).await?;
    consumer.collect(1).await?;
    let began = Instant::now();
    consumer.shutdown().await?;
    producer.shutdown().await?;
    let waited = began.elapsed().as_secs_f64();
    check(waited <= 10.0, || format!("took {waited:.1} s"))?;
    Ok(format!("took {waited:.1} s"))
}

async fn ack_twice(clients: &Clients) -> Outcome {
    clients.send_all(&clients.producer().await?, 1).await?;
    let consumer = clients.simple().await?;
    let views = consumer.collect(1).await?;
    consumer.ack(&views[0]).await?;
    let again = consumer.receive_during(Duration::from_secs(1)).await?;
    check(again.is_empty(), || "came again".to_string())?;
    Ok(String::new())
}

async fn batch_send(clients: &Clients) -> Outcome {
    let messages = (0..5)
        .map(|n| clients.message(format!("message-{n}")).build())
        .collect::<Result<Vec<_>, _>>()?;
    let receipts = clients.producer().await?.batch_send(messages).await?;
    check(receipts.len() == 5, || format!("{} receipts for 5 messages", receipts.len()))?;
    let sent = receipts.iter().map(|receipt| receipt.message_id().to_string()).collect();
    let consumer = clients.simple().await?;
    let mut views = consumer.collect(5).await?;
    views.extend(consumer.receive_during(Duration::from_secs(1)).await?);
    check_each_once(ids(&views), sent)?;
    Ok(String::new())
}
