//! SQL filters, evaluated on the properties of a message (protocol section 6.2). A shard knows tags only, so it hands out
//! what may pass; here the head of each message decides, and its body is not touched.

use broker_model::Filter;
use broker_proto::rocketmq as wire;
use bytes::Bytes;
use prost::Message as _;

/// The tag, as a property.
const TAG: &str = "TAGS";
/// All keys with a blank between them, as a property.
const KEYS: &str = "KEYS";

/// Whether the message with this head passes. Every other filter has been applied by the shard.
pub(crate) fn passes(filter: &Filter, head: &Bytes) -> bool {
    let Some(sql) = filter.as_sql() else { return true };
    // A head that cannot be read is reported where it is delivered.
    let Ok(head) = wire::Message::decode(head.clone()) else { return true };
    let properties = head.system_properties.unwrap_or_default();
    let keys = properties.keys.join(" ");
    sql.matches(&|name| match name {
        TAG => properties.tag.as_deref().filter(|tag| !tag.is_empty()),
        KEYS => Some(keys.as_str()).filter(|keys| !keys.is_empty()),
        _ => head.user_properties.get(name).map(String::as_str),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn properties_tag_and_keys_can_be_asked_for() {
        let message = wire::Message {
            user_properties: [("price".to_owned(), "12".to_owned())].into(),
            system_properties: Some(wire::SystemProperties {
                tag: Some("paid".into()),
                keys: vec!["k1".into(), "k2".into()],
                ..wire::SystemProperties::default()
            }),
            ..wire::Message::default()
        };
        let head = Bytes::from(message.encode_to_vec());
        let of = |text: &str| passes(&Filter::parse_sql(text).unwrap(), &head);
        assert!(of("price > 11 AND TAGS = 'paid' AND KEYS = 'k1 k2'"));
        assert!(!of("price > 12") && !of("weight > 1") && of("weight IS NULL"));
        assert!(passes(&Filter::All, &head));
    }
}
