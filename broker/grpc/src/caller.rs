//! What a request's metadata says about the client that sent it (protocol section 4.1).
//! The text of the headers is not trusted: an absent or odd one never fails a call, except the client id.

use std::net::SocketAddr;

use broker_proto::rocketmq::Code;
use tonic::metadata::MetadataMap;
use tonic::transport::server::TcpConnectInfo;
use tonic::{Extensions, Request};

use crate::limits::CLIENT_ID_BYTES_MAX;
use crate::peers::{self, Purpose};
use crate::status::Failure;

/// The sender of one request.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Caller<'a> {
    /// Unique per client instance; never empty.
    pub(crate) client_id: &'a str,
    /// Where the connection comes from.
    pub(crate) remote: Option<SocketAddr>,
    metadata: &'a MetadataMap,
}

impl<'a> Caller<'a> {
    /// # Errors
    /// Those of [`client_id`].
    pub(crate) fn of(metadata: &'a MetadataMap, extensions: &Extensions) -> Result<Self, Failure> {
        let client_id = client_id(metadata)?;
        let remote = extensions.get::<TcpConnectInfo>().and_then(TcpConnectInfo::remote_addr);
        Ok(Self { client_id, remote, metadata })
    }

    /// As [`Caller::of`], for a request that is still whole.
    pub(crate) fn of_request<T>(request: &'a Request<T>) -> Result<Self, Failure> {
        Self::of(request.metadata(), request.extensions())
    }

    /// All that came with the request.
    pub(crate) fn metadata(&self) -> &'a MetadataMap {
        self.metadata
    }

    /// Whether another broker passed the call on.
    pub(crate) fn is_passed_on(&self) -> bool {
        peers::is_passed_on(self.metadata)
    }

    /// What a receive is for.
    pub(crate) fn purpose(&self) -> Purpose {
        Purpose::of(self.metadata)
    }

    /// The version of the client library, or "".
    pub(crate) fn version(&self) -> &'a str {
        self.metadata.get("x-mq-client-version").and_then(|v| v.to_str().ok()).unwrap_or("")
    }

    /// Time the client gives us to answer; none when it waits for ever.
    pub(crate) fn timeout_ms(&self) -> Option<u64> {
        timeout_ms(self.metadata)
    }
}

/// Who calls.
///
/// # Errors
/// CLIENT_ID_REQUIRED without a client id, BAD_REQUEST for one that is no text or too long.
pub(crate) fn client_id(metadata: &MetadataMap) -> Result<&str, Failure> {
    let client_id = match metadata.get("x-mq-client-id") {
        None => "",
        Some(value) => value.to_str().map_err(|_| {
            Failure::new(Code::BadRequest, "the header x-mq-client-id is not plain ASCII text")
        })?,
    };
    if client_id.trim().is_empty() {
        let message = "the header x-mq-client-id is missing; every client needs an id of its own";
        return Err(Failure::new(Code::ClientIdRequired, message));
    }
    if client_id.len() > CLIENT_ID_BYTES_MAX {
        let message = format!(
            "the client id has {} bytes; at most {CLIENT_ID_BYTES_MAX} are allowed",
            client_id.len()
        );
        return Err(Failure::new(Code::BadRequest, message));
    }
    Ok(client_id)
}

/// Time that the caller gives us to answer; none when it waits for ever.
pub(crate) fn timeout_ms(metadata: &MetadataMap) -> Option<u64> {
    parse_timeout_ms(metadata.get("grpc-timeout")?.to_str().ok()?)
}

/// The standard gRPC form: up to eight digits and a unit.
fn parse_timeout_ms(text: &str) -> Option<u64> {
    let (digits, unit) = text.split_at_checked(text.len().checked_sub(1)?)?;
    if digits.is_empty() || digits.len() > 8 || !digits.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    let amount: u64 = digits.parse().ok()?;
    match unit {
        "H" => Some(amount.saturating_mul(3_600_000)),
        "M" => Some(amount.saturating_mul(60_000)),
        "S" => Some(amount.saturating_mul(1_000)),
        "m" => Some(amount),
        "u" => Some(amount / 1_000),
        "n" => Some(amount / 1_000_000),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn timeouts_are_read_in_every_unit() {
        let rows = [
            ("3S", Some(3_000)),
            ("2500m", Some(2_500)),
            ("9000000u", Some(9_000)),
            ("99999999n", Some(99)),
            ("1M", Some(60_000)),
            ("8H", Some(28_800_000)),
            ("", None),
            ("S", None),
            ("12", None),
            ("-1S", None),
            ("123456789S", None),
            ("5\u{e9}", None),
        ];
        for (text, expected) in rows {
            assert_eq!(parse_timeout_ms(text), expected, "{text:?}");
        }
    }

    #[test]
    fn a_client_id_is_required() {
        let mut request = Request::new(());
        let code = |request: &Request<()>| Caller::of_request(request).map_err(|f| f.code).err();
        assert_eq!(code(&request), Some(Code::ClientIdRequired));
        request.metadata_mut().insert("x-mq-client-id", " ".parse().unwrap());
        assert_eq!(code(&request), Some(Code::ClientIdRequired));
        request.metadata_mut().insert("x-mq-client-id", "a".repeat(256).parse().unwrap());
        assert_eq!(code(&request), Some(Code::BadRequest));
        request.metadata_mut().insert("x-mq-client-id", "host@1@2@x".parse().unwrap());
        assert_eq!(code(&request), None);
    }
}
