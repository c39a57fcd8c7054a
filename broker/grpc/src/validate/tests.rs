//! One row per rule.

use broker_proto::rocketmq::Message;
use prost_types::Timestamp;

use super::*;

const NOW_MS: u64 = 1_700_000_000_000;

fn legal() -> Message {
    Message {
        system_properties: Some(SystemProperties {
            message_id: "01ABC".to_owned(),
            ..SystemProperties::default()
        }),
        body: "order 1".into(),
        ..Message::default()
    }
}

/// A legal message with one change.
fn with(change: impl FnOnce(&mut Message, &mut SystemProperties)) -> Message {
    let mut message = legal();
    let mut properties = message.system_properties.take().unwrap();
    change(&mut message, &mut properties);
    message.system_properties = Some(properties);
    message
}

fn property(name: &str, value: &str) -> Message {
    with(|m, _| {
        m.user_properties.insert(name.to_owned(), value.to_owned());
    })
}

fn tagged(tag: &str) -> Message {
    with(|_, p| p.tag = Some(tag.to_owned()))
}

fn keyed(key: &str) -> Message {
    with(|_, p| p.keys.push(key.to_owned()))
}

fn grouped(group: &str) -> Message {
    with(|_, p| p.message_group = Some(group.to_owned()))
}

fn due_in(ms: i64) -> Message {
    let at = i64::try_from(NOW_MS).unwrap() + ms;
    with(|_, p| {
        p.delivery_timestamp = Some(Timestamp {
            seconds: at / 1000,
            nanos: i32::try_from(at % 1000).unwrap() * 1_000_000,
        });
    })
}

fn recovery(seconds: i64) -> Message {
    with(|_, p| p.orphaned_transaction_recovery_duration = Some(Duration { seconds, nanos: 0 }))
}

fn lite(name: &str) -> Message {
    with(|_, p| p.lite_topic = Some(name.to_owned()))
}

fn many_properties(count: usize, value: &str) -> Message {
    with(|m, _| {
        m.user_properties = (0..count).map(|i| (format!("p{i}"), value.to_owned())).collect()
    })
}

#[test]
fn each_rule_of_a_message_has_its_code() {
    let rows: Vec<(&str, Message, Option<Code>)> = vec![
        ("legal", legal(), None),
        (
            "no system properties",
            Message { system_properties: None, ..legal() },
            Some(Code::IllegalMessageId),
        ),
        ("no id", with(|_, p| p.message_id.clear()), Some(Code::IllegalMessageId)),
        ("blank id", with(|_, p| p.message_id = "  ".to_owned()), Some(Code::IllegalMessageId)),
        ("no body", with(|m, _| m.body.clear()), Some(Code::MessageBodyEmpty)),
        ("largest body", with(|m, _| m.body = vec![1; BODY_BYTES_MAX].into()), None),
        (
            "larger body",
            with(|m, _| m.body = vec![1; BODY_BYTES_MAX + 1].into()),
            Some(Code::MessageBodyTooLarge),
        ),
        ("tag", tagged("paid"), None),
        ("empty tag", tagged(""), None),
        ("blank tag", tagged(" "), Some(Code::IllegalMessageTag)),
        ("tag with a bar", tagged("a|b"), Some(Code::IllegalMessageTag)),
        ("tag with a control character", tagged("a\u{7}"), Some(Code::IllegalMessageTag)),
        ("tag with a high control character", tagged("a\u{85}"), Some(Code::IllegalMessageTag)),
        ("tag beyond ASCII", tagged("\u{e9}"), None),
        ("key", keyed("order-1"), None),
        ("empty key", keyed(""), None),
        ("blank key", keyed("\t"), Some(Code::IllegalMessageKey)),
        ("key with a control character", keyed("a\u{0}b"), Some(Code::IllegalMessageKey)),
        ("group", grouped("customer-1"), None),
        ("blank group", grouped("  "), Some(Code::IllegalMessageGroup)),
        ("group of 63 bytes", grouped(&"g".repeat(63)), None),
        ("group of 64 bytes", grouped(&"g".repeat(64)), Some(Code::IllegalMessageGroup)),
        ("group with a control character", grouped("a\n"), Some(Code::IllegalMessageGroup)),
        ("property", property("color", "blue"), None),
        ("reserved property", property("UNIQ_KEY", "x"), Some(Code::IllegalMessagePropertyKey)),
        ("control in a name", property("a\u{1}", "x"), Some(Code::IllegalMessagePropertyKey)),
        ("control in a value", property("a", "x\u{7f}"), Some(Code::IllegalMessagePropertyKey)),
        ("128 properties", many_properties(128, "x"), None),
        ("129 properties", many_properties(129, "x"), Some(Code::MessagePropertiesTooLarge)),
        (
            "17 KiB of properties",
            property("a", &"x".repeat(17 * 1024)),
            Some(Code::MessagePropertiesTooLarge),
        ),
        (
            "16 KiB of key",
            keyed(&"k".repeat(PROPERTIES_BYTES_MAX + 1)),
            Some(Code::MessagePropertiesTooLarge),
        ),
        ("due in the past", due_in(-5_000), None),
        ("due in 24 h", due_in(24 * 3_600_000), None),
        ("due in 2 d", due_in(48 * 3_600_000), Some(Code::IllegalDeliveryTime)),
        ("recovery of 1 h", recovery(3_600), None),
        ("recovery of more", recovery(3_601), Some(Code::BadRequest)),
        ("negative recovery", recovery(-1), Some(Code::BadRequest)),
        ("lite topic", lite("chat-1"), None),
        ("empty lite topic", lite(""), Some(Code::IllegalLiteTopic)),
        ("lite topic with a dollar", lite("a$b"), Some(Code::IllegalLiteTopic)),
        ("long lite topic", lite(&"l".repeat(65)), Some(Code::IllegalLiteTopic)),
    ];
    for (name, given, expected) in rows {
        assert_eq!(message(&given, None, NOW_MS).err().map(|f| f.code), expected, "{name}");
    }
    let own_limit = message(&legal(), Some(3), NOW_MS).unwrap_err();
    assert_eq!(own_limit.code, Code::MessageBodyTooLarge, "a topic's own limit counts");
}

#[test]
fn the_type_follows_from_the_properties() {
    let of = |change: fn(&mut SystemProperties)| {
        let mut properties = SystemProperties::default();
        change(&mut properties);
        message_type(&properties)
    };
    assert_eq!(of(|_| {}), MessageType::Normal);
    assert_eq!(of(|p| p.set_message_type(wire::MessageType::Fifo)), MessageType::Normal);
    assert_eq!(of(|p| p.message_group = Some(String::new())), MessageType::Normal);
    assert_eq!(of(|p| p.message_group = Some("g".into())), MessageType::Fifo);
    assert_eq!(of(|p| p.lite_topic = Some("l".into())), MessageType::Lite);
    assert_eq!(of(|p| p.priority = Some(3)), MessageType::Priority);
    let delayed = |p: &mut SystemProperties| {
        p.message_group = Some("g".into());
        p.delivery_timestamp = Some(Timestamp::default());
    };
    assert_eq!(of(delayed), MessageType::Delay);
    assert_eq!(
        of(|p| p.set_message_type(wire::MessageType::Transaction)),
        MessageType::Transaction
    );
}

#[test]
fn names_are_checked_with_their_own_codes() {
    let named =
        |name: &str| Some(Resource { resource_namespace: String::new(), name: name.into() });
    assert_eq!(topic(named("orders").as_ref()).unwrap().as_str(), "orders");
    assert_eq!(topic(named("bad topic").as_ref()).unwrap_err().code, Code::IllegalTopic);
    assert_eq!(topic(None).unwrap_err().code, Code::IllegalTopic);
    assert_eq!(group(named("billing").as_ref()).unwrap().as_str(), "billing");
    assert_eq!(
        group(named("CID_RMQ_SYS_x").as_ref()).unwrap_err().code,
        Code::IllegalConsumerGroup
    );
    assert_eq!(group(None).unwrap_err().code, Code::IllegalConsumerGroup);
}

#[test]
fn filters_are_tags_unless_they_say_sql() {
    let of = |kind: FilterType, text: &str| {
        filter(Some(&FilterExpression { r#type: kind.into(), expression: text.into() }))
    };
    assert_eq!(filter(None), Ok(Filter::All));
    assert_eq!(of(FilterType::Unspecified, "*"), Ok(Filter::All));
    assert!(matches!(of(FilterType::Tag, "a || b"), Ok(Filter::Tags(_))));
    assert_eq!(of(FilterType::Tag, "||").unwrap_err().code, Code::IllegalFilterExpression);
    assert!(matches!(of(FilterType::Sql, "a = 1"), Ok(Filter::Sql(_))));
    assert_eq!(of(FilterType::Sql, " ").unwrap_err().code, Code::IllegalFilterExpression);
    let long = "a".repeat(5_000);
    assert_eq!(of(FilterType::Sql, &long).unwrap_err().code, Code::IllegalFilterExpression);
    let wrong = of(FilterType::Sql, "(a = 1").unwrap_err();
    assert_eq!(wrong.code, Code::IllegalFilterExpression);
    assert_eq!(wrong.message, "the SQL filter is wrong at character 7: expected ')'");
}

#[test]
fn invisible_durations_stay_in_their_range() {
    let of = |seconds| Duration { seconds, nanos: 0 };
    let code = |result: Result<u64, Failure>| result.unwrap_err().code;
    assert_eq!(invisible_at_receive(Some(&of(10))), Ok(10_000));
    assert_eq!(invisible_at_receive(Some(&of(43_200))), Ok(43_200_000));
    assert_eq!(code(invisible_at_receive(Some(&of(9)))), Code::IllegalInvisibleTime);
    assert_eq!(code(invisible_at_receive(Some(&of(43_201)))), Code::IllegalInvisibleTime);
    assert_eq!(code(invisible_at_receive(None)), Code::IllegalInvisibleTime);
    assert_eq!(invisible_at_change(Some(&of(0))), Ok(0));
    assert_eq!(invisible_at_change(None), Ok(0));
    assert_eq!(code(invisible_at_change(Some(&of(-1)))), Code::IllegalInvisibleTime);
    assert_eq!(code(invisible_at_change(Some(&of(43_201)))), Code::IllegalInvisibleTime);
}

#[test]
fn batches_are_cut_to_what_is_allowed() {
    let rows = [(-1, 1), (0, 1), (1, 1), (32, 32), (1000, 32)];
    for (asked, given) in rows {
        assert_eq!(batch_size(asked), given, "{asked}");
    }
}

#[test]
fn polls_wait_between_5_and_20_seconds_and_end_before_the_deadline() {
    let rows = [
        (Some(1_000), Some(10_000), "5.1.0", Ok(5_000)),
        (Some(15_000), Some(18_000), "5.1.0", Ok(15_000)),
        (Some(60_000), Some(63_000), "5.1.0", Ok(20_000)),
        (Some(60_000), None, "", Ok(20_000)),
        (None, None, "5.1.0", Ok(18_500)),
        (None, Some(9_000), "5.1.0", Ok(7_500)),
        (Some(60_000), Some(8_000), "5.1.0", Ok(7_840)),
        (Some(5_000), Some(5_000), "5.1.0", Ok(4_900)),
        (Some(40_000), Some(40_000), "5.1.0", Ok(20_000)),
        (None, Some(4_000), "5.1.0", Err(Code::IllegalPollingTime)),
        (None, Some(4_000), "5.0.2", Err(Code::BadRequest)),
        (None, Some(4_000), "", Err(Code::BadRequest)),
    ];
    for (asked_ms, remaining_ms, client_version, expected) in rows {
        let wish =
            PollingWish { asked_ms, remaining_ms, request_timeout_ms: 3_000, client_version };
        assert_eq!(polling_ms(&wish).map_err(|f| f.code), expected, "{wish:?}");
    }
}
