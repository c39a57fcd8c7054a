//! The admin service of the RocketMQ protocol, against real shards and clients on telemetry streams.

use broker_proto::admin::{ApplyGroupRequest, Group, Subscription as Declared};
use broker_proto::rocketmq::change_log_level_request::Level;
use broker_proto::rocketmq::list_message_request::SearchKey;
use broker_proto::rocketmq::settings::PubSub;
use broker_proto::rocketmq::telemetry_command::Command;
use broker_proto::rocketmq::*;
use prost_types::Timestamp;

use crate::broker::{TestBroker, as_client, bodies, code, message, named, receive, start};
use crate::clients::{Link, consumer, producer};

fn filter(expression: &str) -> FilterExpression {
    FilterExpression { r#type: FilterType::Tag.into(), expression: expression.into() }
}

fn subscribed(group: &str, topic: &str, expression: &str) -> Settings {
    let mut settings = consumer(group);
    let Some(PubSub::Subscription(subscription)) = &mut settings.pub_sub else { panic!() };
    let (topic, expression) = (named(topic), Some(filter(expression)));
    subscription.subscriptions.push(SubscriptionEntry { topic, expression });
    let (version, hostname) = ("5.1.0".into(), "worker-7".into());
    settings.user_agent =
        Some(Ua { language: Language::Java.into(), version, hostname, ..Ua::default() });
    settings
}

/// A consumer that introduced itself.
async fn connected(broker: &mut TestBroker, client_id: &str, settings: Settings) -> Link {
    let mut link = Link::open(broker, client_id).await;
    link.say(settings).await;
    link.hear().await;
    link
}

/// A topic with messages "0" to "4" and the group "billing", one message of which is acknowledged by nobody.
async fn five() -> TestBroker {
    let mut broker = start(2).await;
    broker.topic("orders", 2).await;
    for number in 0..5 {
        broker.send(vec![message("orders", &number.to_string(), &number.to_string())]).await;
    }
    group(&mut broker, Vec::new()).await;
    broker
}

async fn group(broker: &mut TestBroker, subscriptions: Vec<Declared>) {
    let group = Some(Group { name: "billing".into(), subscriptions, ..Group::default() });
    let request = ApplyGroupRequest { group, ..ApplyGroupRequest::default() };
    broker.admin.apply_group(request).await.unwrap();
}

#[tokio::test]
async fn a_topic_tells_its_type_and_its_route() {
    let mut broker = five().await;
    let admin = &mut broker.rocketmq_admin;
    let ask = |topic| DescribeTopicStatusRequest { topic, ..Default::default() };
    let answer = admin.describe_topic_status(ask(named("orders"))).await.unwrap().into_inner();
    assert_eq!(code(answer.status.as_ref()), Code::Ok);
    assert_eq!(answer.topic_message_type(), MessageType::Normal);
    let absent = admin.describe_topic_status(ask(named("absent"))).await.unwrap().into_inner();
    assert_eq!(code(absent.status.as_ref()), Code::TopicNotFound);

    let ask = GetTopicRouteRequest { topic: named("orders"), ..Default::default() };
    let route = admin.get_topic_route(ask).await.unwrap().into_inner();
    assert_eq!(code(route.status.as_ref()), Code::Ok);
    for part in ["\"brokerName\":\"shard-1\"", "\"perm\":6", "\"0\":\"127.0.0.1:"] {
        assert!(route.topic_route_data.contains(part), "{}", route.topic_route_data);
    }
}

#[tokio::test]
async fn subscriptions_are_told_online_and_offline_and_when_clients_differ() {
    let mut broker = five().await;
    broker.topic("refunds", 1).await;
    broker.receive(as_client("c", receive("refunds", "billing", "shard-0"))).await;
    let _a = connected(&mut broker, "a", subscribed("billing", "orders", "paid")).await;
    let _b = connected(&mut broker, "b", subscribed("billing", "orders", "shipped")).await;
    let admin = &mut broker.rocketmq_admin;
    let ask = ListSubscriptionRequest { group: named("billing"), ..Default::default() };
    let listed = admin.list_subscription(ask).await.unwrap().into_inner();
    let told: Vec<_> = listed
        .subscription_info
        .iter()
        .map(|info| {
            let topic = info.topic.as_ref().unwrap().name.as_str();
            (topic, info.online, info.subscription_consistency, info.message_model())
        })
        .collect();
    let model = MessageModel::Clustering;
    assert_eq!(told, [("orders", true, false, model), ("refunds", false, true, model)]);

    let ask = DescribeSubscriptionRequest { topic: named("orders"), ..Default::default() };
    let described = admin.describe_subscription(ask).await.unwrap().into_inner();
    let told: Vec<_> = described
        .client_subscription_info
        .iter()
        .map(|info| {
            let expression = info.subscription_info.as_ref().unwrap().expression.as_ref();
            let client = info.client_info.as_ref().unwrap();
            (&*client.client_id, &*client.hostname, &*expression.unwrap().expression)
        })
        .collect();
    assert_eq!(told, [("a", "worker-7", "paid"), ("b", "worker-7", "shipped")]);

    let ask = |group, topic| ListConsumerConnectionRequest { group, topic, ..Default::default() };
    let clients = admin.list_consumer_connection(ask(named("billing"), None)).await.unwrap();
    assert_eq!(clients.get_ref().client_info.len(), 2);
    assert_eq!(clients.get_ref().client_info[0].egress_ip, "127.0.0.1");
    let none = ask(named("billing"), named("refunds"));
    let none = admin.list_consumer_connection(none).await.unwrap();
    assert!(none.get_ref().client_info.is_empty());
    let absent = admin.list_consumer_connection(ask(named("absent"), None)).await.unwrap();
    assert_eq!(code(absent.get_ref().status.as_ref()), Code::ConsumerGroupNotFound);
}

#[tokio::test]
async fn a_declared_subscription_is_deleted_once_nobody_uses_it() {
    let mut broker = five().await;
    let topic = "orders".into();
    group(&mut broker, vec![Declared { topic, expression: "*".into(), ..Default::default() }])
        .await;
    let request = || DeleteSubscriptionRequest {
        topic: named("orders"),
        group: named("billing"),
        ..Default::default()
    };
    let link = connected(&mut broker, "a", subscribed("billing", "orders", "*")).await;
    let used = broker.rocketmq_admin.delete_subscription(request()).await.unwrap();
    assert_eq!(code(used.get_ref().status.as_ref()), Code::PreconditionFailed);
    drop(link);
    let farewell = as_client("a", NotifyClientTerminationRequest::default());
    broker.client.notify_client_termination(farewell).await.unwrap();
    for expected in [Code::Ok, Code::NotFound] {
        let answer = broker.rocketmq_admin.delete_subscription(request()).await.unwrap();
        assert_eq!(code(answer.get_ref().status.as_ref()), expected);
    }
    let held = broker.context.catalog.group("billing").unwrap();
    assert!(held.group.subscriptions.is_empty());
}

#[tokio::test]
async fn progress_is_told_and_reset() {
    let mut broker = five().await;
    for shard in ["shard-0", "shard-1"] {
        broker.receive(as_client("c", receive("orders", "billing", shard))).await;
    }
    let ask = DescribeGroupAccumulationRequest { group: named("billing"), ..Default::default() };
    let answer = broker.rocketmq_admin.describe_group_accumulation(ask.clone()).await.unwrap();
    let answer = answer.into_inner();
    let all = answer.accumulation.unwrap();
    assert_eq!((all.accumulation, all.inflight_messages, all.ready_messages), (5, 5, 0));
    assert_eq!(answer.topic_accumulation["orders"], all);
    let lite = DescribeGroupAccumulationRequest { lite_topic: Some("l".into()), ..ask.clone() };
    let lite = broker.rocketmq_admin.describe_group_accumulation(lite).await.unwrap();
    assert_eq!(code(lite.get_ref().status.as_ref()), Code::NotImplemented);

    let ask_span = QueryTimeSpanRequest { group: named("billing"), ..Default::default() };
    let spans = broker.rocketmq_admin.query_time_span(ask_span).await.unwrap().into_inner();
    assert_eq!(spans.queue_time_span_list.len(), 2);
    for span in &spans.queue_time_span_list {
        assert!(span.min_timestamp > 0 && span.min_timestamp <= span.max_timestamp, "{span:?}");
        assert_eq!(span.consume_timestamp, span.min_timestamp, "nothing is acknowledged");
    }
    let reset = ResetGroupOffsetRequest {
        group: named("billing"),
        topic: named("orders"),
        reset_timestamp: Some(Timestamp { seconds: 4_000_000_000, nanos: 0 }),
        ..Default::default()
    };
    let untimed = ResetGroupOffsetRequest { reset_timestamp: None, ..reset.clone() };
    let refused = broker.rocketmq_admin.reset_group_offset(untimed).await.unwrap();
    assert_eq!(code(refused.get_ref().status.as_ref()), Code::BadRequest);
    let done = broker.rocketmq_admin.reset_group_offset(reset).await.unwrap();
    assert_eq!(code(done.get_ref().status.as_ref()), Code::Ok);
    let answer = broker.rocketmq_admin.describe_group_accumulation(ask).await.unwrap();
    assert_eq!(answer.into_inner().accumulation.unwrap().accumulation, 0);
}

#[tokio::test]
async fn messages_are_queried_in_pages_and_scrolls() {
    let mut broker = five().await;
    let ask = ListMessageRequest { topic: named("orders"), ..Default::default() };
    let mut query = async |request: ListMessageRequest| {
        broker.rocketmq_admin.query_message(request).await.unwrap().into_inner()
    };
    let all = query(ask.clone()).await;
    assert_eq!(
        (bodies(&all.messages), &*all.scroll_id),
        (["0", "1", "2", "3", "4"].map(String::from).to_vec(), "")
    );
    let properties = all.messages[0].system_properties.as_ref().unwrap();
    assert!(properties.store_timestamp.is_some() && properties.queue_offset.is_some());
    assert!(properties.body_digest.is_some() && properties.receipt_handle.is_none());
    let by_id = SearchKey::MessageId("3".into());
    let one = query(ListMessageRequest { search_key: Some(by_id), ..ask.clone() }).await;
    assert_eq!(bodies(&one.messages), ["3"]);
    // Within a millisecond the order between shards means nothing, but it is the same in every answer.
    let all = all.messages;
    for (number, expected) in [(1, &all[0..2]), (2, &all[2..4]), (3, &all[4..])] {
        let (page_num, page_size) = (Some(number), Some(2));
        let page = query(ListMessageRequest { page_num, page_size, ..ask.clone() }).await;
        assert_eq!(page.messages, expected);
    }
    let first = query(ListMessageRequest { max_message_nums: 2, ..ask.clone() }).await;
    assert_eq!(first.messages, &all[0..2]);
    let scroll_id = Some(first.scroll_id);
    let rest = query(ListMessageRequest { scroll_id, ..ask.clone() }).await;
    assert!(rest.messages.ends_with(&all[2..]), "goes on from there, and leaves nothing out");
    let mut parts = Vec::new();
    for shard in ["shard-0", "shard-1"] {
        let broker_name = Some(shard.to_owned());
        parts.extend(query(ListMessageRequest { broker_name, ..ask.clone() }).await.messages);
    }
    assert_eq!(bodies(&parts).len(), 5);
    let broker_name = Some("shard-0".to_owned());
    let begun = ListMessageRequest { broker_name, max_message_nums: 1, ..ask.clone() };
    let scroll_id = Some(query(begun.clone()).await.scroll_id);
    let rest = query(ListMessageRequest { scroll_id, max_message_nums: 9, ..begun }).await;
    assert!(rest.messages.len() >= 2, "scrolls through one shard, too: {rest:?}");
    for (refused, expected) in [
        (ListMessageRequest { scroll_id: Some("x".into()), ..ask.clone() }, Code::BadRequest),
        (ListMessageRequest { page_num: Some(900), ..ask.clone() }, Code::BadRequest),
        (ListMessageRequest { topic: named("absent"), ..ask.clone() }, Code::TopicNotFound),
        (
            ListMessageRequest {
                search_key: Some(SearchKey::Subscription("s".into())),
                ..ask.clone()
            },
            Code::NotImplemented,
        ),
    ] {
        assert_eq!(code(query(refused).await.status.as_ref()), expected);
    }
}

#[tokio::test]
async fn an_admin_sends_a_message_that_consumers_get() {
    let mut broker = five().await;
    broker.topic("trial", 1).await;
    let send = AdminSendMessageRequest {
        topic: named("trial"),
        tag: Some("t".into()),
        key: Some("k".into()),
        body: "trial".into(),
        ..Default::default()
    };
    let sent = broker.rocketmq_admin.admin_send_message(send.clone()).await.unwrap().into_inner();
    assert_eq!((code(sent.status.as_ref()), sent.message_id.len()), (Code::Ok, 34));
    let (_, got) = broker.receive(as_client("c", receive("trial", "billing", "shard-0"))).await;
    let properties = got[0].system_properties.as_ref().unwrap();
    assert_eq!(
        (properties.message_id.as_str(), &*properties.keys),
        (&*sent.message_id, &["k".into()][..])
    );
    assert_eq!(properties.tag.as_deref(), Some("t"));
    let empty = AdminSendMessageRequest { body: "".into(), ..send.clone() };
    let refused = broker.rocketmq_admin.admin_send_message(empty).await.unwrap();
    assert_eq!(code(refused.get_ref().status.as_ref()), Code::MessageBodyEmpty);
    let message_type = MessageType::Transaction.into();
    let half = SystemProperties { message_type, ..Default::default() };
    let half = AdminSendMessageRequest { system_properties: Some(half), ..send };
    let refused = broker.rocketmq_admin.admin_send_message(half).await.unwrap();
    assert_eq!(code(refused.get_ref().status.as_ref()), Code::NotImplemented);
}

#[tokio::test]
async fn a_client_is_asked_for_its_threads_and_to_verify_a_message() {
    let mut broker = five().await;
    let mut link = connected(&mut broker, "a", subscribed("billing", "orders", "*")).await;
    let mut admin = broker.rocketmq_admin.clone();
    let print = |client_id: &str| PrintThreadStackTraceRequest {
        client_id: client_id.into(),
        group: named("billing"),
        ..Default::default()
    };
    let (answer, ()) = tokio::join!(admin.print_thread_stack_trace(print("a")), async {
        let asked = link.answers.message().await.unwrap().unwrap();
        let Some(Command::PrintThreadStackTraceCommand(asked)) = asked.command else { panic!() };
        let thread_stack_trace = Some("main: waits".to_owned());
        let trace = ThreadStackTrace { nonce: asked.nonce, thread_stack_trace };
        link.answer(None, Command::ThreadStackTrace(trace)).await;
    });
    let answer = answer.unwrap().into_inner();
    assert_eq!(code(answer.status.as_ref()), Code::Ok);
    assert_eq!(answer.thread_stack_trace.as_deref(), Some("main: waits"));
    let stranger = admin.print_thread_stack_trace(print("b")).await.unwrap().into_inner();
    assert_eq!(code(stranger.status.as_ref()), Code::NotFound);

    let verify = |message_id: &str| VerifyMessageRequest {
        client_id: "a".into(),
        group: named("billing"),
        topic: named("orders"),
        message_id: message_id.into(),
        ..Default::default()
    };
    let (answer, ()) = tokio::join!(admin.verify_message(verify("3")), async {
        let asked = link.answers.message().await.unwrap().unwrap();
        let Some(Command::VerifyMessageCommand(asked)) = asked.command else { panic!() };
        let message = asked.message.unwrap();
        assert_eq!(&message.body[..], b"3");
        assert_eq!(message.system_properties.unwrap().delivery_attempt, Some(1));
        let failed = Status { code: Code::FailedToConsumeMessage.into(), message: "no".into() };
        let result = VerifyMessageResult { nonce: asked.nonce };
        link.answer(Some(failed), Command::VerifyMessageResult(result)).await;
    });
    let answer = answer.unwrap().into_inner();
    assert_eq!(code(answer.status.as_ref()), Code::FailedToConsumeMessage);
    let absent = admin.verify_message(verify("absent")).await.unwrap().into_inner();
    assert_eq!(code(absent.status.as_ref()), Code::MessageNotFound);
}

#[tokio::test]
async fn a_client_that_does_not_answer_is_told_after_five_seconds() {
    let mut broker = five().await;
    let _link = connected(&mut broker, "a", subscribed("billing", "orders", "*")).await;
    let (client_id, group) = ("a".to_owned(), named("billing"));
    let print = PrintThreadStackTraceRequest { client_id, group, ..Default::default() };
    let answer = broker.rocketmq_admin.print_thread_stack_trace(print).await.unwrap();
    assert_eq!(code(answer.get_ref().status.as_ref()), Code::ProxyTimeout);
}

#[tokio::test]
async fn a_consumer_and_the_broker_tell_how_they_are() {
    let mut broker = five().await;
    let _consumer = connected(&mut broker, "a", subscribed("billing", "orders", "paid")).await;
    let _producer = connected(&mut broker, "p", producer()).await;
    let admin = &mut broker.rocketmq_admin;
    let (group, client_id) = (named("billing"), "a".to_owned());
    let ask = GetConsumerRunningInfoRequest { group, client_id, ..Default::default() };
    let info = admin.get_consumer_running_info(ask).await.unwrap().into_inner();
    let info = info.consumer_running_info.unwrap();
    assert_eq!(info.subscriptions["orders"], filter("paid"));
    assert_eq!(info.properties["clientType"], "PUSH_CONSUMER");
    assert_eq!(info.message_queue_table.len(), 2);

    let stats = admin.get_proxy_runtime_stats(GetProxyRuntimeStatsRequest {}).await.unwrap();
    let stats = stats.into_inner();
    assert_eq!((stats.producers, stats.consumers, stats.connections), (1, 1, 2));
    assert_eq!((stats.version.as_str(), stats.in_tps), ("test", 0.0));

    for (level, remark) in [(Level::Debug, "is DEBUG"), (Level::Trace, "too much for a test")] {
        let request = ChangeLogLevelRequest { level: level.into() };
        let answer = admin.change_log_level(request).await.unwrap().into_inner();
        assert!(answer.remark.contains(remark), "{}", answer.remark);
    }
}
