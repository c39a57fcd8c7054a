//! Steps that several cases take.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use rocketmq::model::message::{MessageBuilder, MessageView};
use serde_json::json;
use tokio::sync::oneshot;

use crate::clients::{check, Clients, Consumer, Failure, AWAIT, COLLECT_LIMIT};

/// How much before its duration a lease may end: clocks and rounding of two processes.
pub const EARLY: Duration = Duration::from_millis(500);

pub type Outcome = Result<String, Failure>;

pub fn ids(views: &[MessageView]) -> Vec<String> {
    views.iter().map(|view| view.message_id().to_string()).collect()
}

pub fn body(view: &MessageView) -> String {
    String::from_utf8_lossy(view.body()).into_owned()
}

pub fn bodies(views: &[MessageView]) -> Vec<String> {
    views.iter().map(body).collect()
}

pub fn check_each_once(mut got: Vec<String>, mut sent: Vec<String>) -> Result<(), Failure> {
    got.sort();
    sent.sort();
    check(got == sent, || format!("{} deliveries for {} messages", got.len(), sent.len()))
}

pub fn check_bodies(views: &[MessageView], expected: &[&str]) -> Result<(), Failure> {
    let came = bodies(views);
    check(came == expected, || format!("came as {came:?}"))
}

/// Every message group in turn; a body is its place in the group.
pub async fn send_in_groups(clients: &Clients, groups: usize, each: usize) -> Result<(), Failure> {
    let producer = clients.producer().await?;
    for n in 0..each {
        for group in 0..groups {
            let message =
                clients.message(n.to_string()).set_message_group(format!("group-{group}"));
            clients.send(&producer, message).await?;
        }
    }
    Ok(())
}

/// Each message group is there from first to last, nothing twice.
pub fn check_in_order(views: &[MessageView], groups: usize, each: usize) -> Result<(), Failure> {
    let mut got: HashMap<&str, Vec<String>> = HashMap::new();
    for view in views {
        got.entry(view.message_group().unwrap_or_default()).or_default().push(body(view));
    }
    check(got.len() == groups, || format!("{} groups of {groups}", got.len()))?;
    let expected: Vec<String> = (0..each).map(|n| n.to_string()).collect();
    for (group, places) in got {
        check(places == expected, || format!("{group} came as {places:?}"))?;
    }
    Ok(())
}

/// The dead letter topic may appear with the first dead letter.
async fn open_dead_letters(clients: &Clients) -> Result<Consumer, Failure> {
    let topic = format!("%DLQ%{}", clients.options.group);
    let began = Instant::now();
    loop {
        match clients.simple_of(&clients.options.second_group, &topic, "*", AWAIT).await {
            Ok(consumer) => return Ok(consumer),
            Err(missing) if began.elapsed() > COLLECT_LIMIT => return Err(missing),
            Err(_) => tokio::time::sleep(Duration::from_millis(500)).await,
        }
    }
}

pub async fn receive_dead_letter(clients: &Clients) -> Result<MessageView, Failure> {
    Ok(open_dead_letters(clients).await?.collect(1).await?.remove(0))
}

pub async fn check_dead_letter(clients: &Clients, sent: &str) -> Outcome {
    let got = receive_dead_letter(clients).await?;
    check(got.body() == b"poison", || "another message is in the dead letters".to_string())?;
    check(got.tag() == Some("tag-a"), || format!("tag {:?}", got.tag()))?;
    let colour = got.properties().get("colour").map(String::as_str);
    check(colour == Some("blue"), || format!("properties {:?}", got.properties()))?;
    Ok(id_kept(&got, sent))
}

pub fn id_kept(got: &MessageView, sent: &str) -> String {
    if got.message_id() == sent { "message id kept" } else { "new message id" }.to_string()
}

pub fn poison(clients: &Clients) -> MessageBuilder {
    clients
        .message("poison")
        .set_tag("tag-a")
        .set_keys(vec!["key-1"])
        .set_properties(HashMap::from([("colour", "blue")]))
}

pub fn expect_refusal<T>(answer: Result<T, Failure>, words: &[&str]) -> Outcome {
    let Err(refusal) = answer else {
        return Err(Failure("nothing was refused".to_string()));
    };
    let text = refusal.to_string();
    check(words.iter().any(|word| text.contains(word)), || format!("unclear error: {text}"))?;
    Ok(text)
}

/// Has the driver do something to the broker, and receives when that is done: "restart" kills
/// it and starts it again, "reset" (to some place) and "redrive" are its commands.
pub fn ask(event: &str, to: &str) -> oneshot::Receiver<()> {
    let (answered, done) = oneshot::channel();
    println!("{}", json!({"event": event, "to": to}));
    std::thread::spawn(move || {
        let mut line = String::new();
        if std::io::stdin().read_line(&mut line).is_ok() {
            // Nobody waits any more when the case has failed meanwhile.
            let _ = answered.send(());
        }
    });
    done
}

pub async fn ask_and_wait(event: &str, to: &str) -> Result<(), Failure> {
    ask(event, to).await.map_err(|_| Failure(format!("the driver did not answer to {event}")))
}
