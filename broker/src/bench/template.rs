//! A send request encoded once. Each use copies it and writes message ids, sequence numbers and the time into the copy.

use std::time::SystemTime;

use broker_proto::rocketmq::{
    Encoding, Message, MessageType, SendMessageRequest, SystemProperties,
};
use bytes::{Bytes, BytesMut};

use super::Run;
use super::connection::framed;
use crate::cli::client::{MessageIds, host_name, proto_now, resource};

/// What a body begins with: nonce, sequence number, time; 8 bytes each, little endian.
pub(super) const BODY_BYTES_MIN: usize = 24;
/// The last digits of a message id, which differ from message to message.
const SEQUENCE_DIGITS: usize = 8;

/// What a body says about its message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Stamp {
    /// Of the run.
    pub(super) nonce: u64,
    /// Connection in the upper 24 bits, number on the connection in the others.
    pub(super) sequence: u64,
    /// When the send began, in nanoseconds since the run's zero.
    pub(super) sent_ns: u64,
}

impl Stamp {
    /// Reads the beginning of a body; none when it is no body of a measurement.
    pub(super) fn read(body: &[u8]) -> Option<Self> {
        let number = |at: usize| {
            let bytes = body.get(at..at + 8)?.try_into().ok()?;
            Some(u64::from_le_bytes(bytes))
        };
        Some(Self { nonce: number(0)?, sequence: number(8)?, sent_ns: number(16)? })
    }

    fn write(self, body: &mut [u8]) {
        body[0..8].copy_from_slice(&self.nonce.to_le_bytes());
        body[8..16].copy_from_slice(&self.sequence.to_le_bytes());
        body[16..24].copy_from_slice(&self.sent_ns.to_le_bytes());
    }
}

/// The request of one connection.
#[derive(Debug)]
pub(super) struct Template {
    frame: Bytes,
    /// Where each message's id and body begin in the frame.
    places: Vec<(usize, usize)>,
    nonce: u64,
    next: u64,
}

impl Template {
    /// The request of connection number `connection`.
    pub(super) fn new(run: &Run, connection: u32) -> Self {
        let mut ids = MessageIds::new();
        let filler: Vec<u8> = (0..run.size_bytes).map(|i| b'a' + (i % 26) as u8).collect();
        let mut marked = Vec::new();
        let messages = (0..run.batch).map(|number| {
            let id = ids.next();
            let mut body = filler.clone();
            // A mark that is found again in the encoded request.
            let mark = Stamp { nonce: run.nonce, sequence: u64::from(number), sent_ns: !run.nonce };
            mark.write(&mut body);
            marked.push((id.clone(), body[..BODY_BYTES_MIN].to_vec()));
            message(run, number, id, body)
        });
        let request = SendMessageRequest { messages: messages.collect() };
        let frame = framed(&request).freeze();
        let mut from = 0;
        let places = marked
            .iter()
            .map(|(id, mark)| {
                let id_at = find(&frame, id.as_bytes(), from);
                let body_at = find(&frame, mark, from);
                from = id_at.max(body_at);
                (id_at + id.len() - SEQUENCE_DIGITS, body_at)
            })
            .collect();
        Self { frame, places, nonce: run.nonce, next: u64::from(connection) << 40 }
    }

    /// The next request, begun at `sent_ns`.
    pub(super) fn fill(&mut self, sent_ns: u64) -> Bytes {
        let mut frame = BytesMut::from(&self.frame[..]);
        for (id_at, body_at) in &self.places {
            let sequence = self.next;
            self.next += 1;
            write_hexadecimal(&mut frame[*id_at..*id_at + SEQUENCE_DIGITS], sequence);
            Stamp { nonce: self.nonce, sequence, sent_ns }.write(&mut frame[*body_at..]);
        }
        frame.freeze()
    }
}

fn message(run: &Run, number: u32, id: String, body: Vec<u8>) -> Message {
    // The messages of one request are due one after the other.
    let due = run.delay.map(|delay| SystemTime::now() + delay + delay * number / run.batch);
    let message_type = if due.is_some() { MessageType::Delay } else { MessageType::Normal };
    Message {
        topic: Some(resource(&run.topic)),
        system_properties: Some(SystemProperties {
            message_id: id,
            body_encoding: Encoding::Identity.into(),
            message_type: message_type.into(),
            delivery_timestamp: due.map(Into::into),
            born_timestamp: Some(proto_now()),
            born_host: host_name(),
            ..SystemProperties::default()
        }),
        body: Bytes::from(body),
        ..Message::default()
    }
}

fn find(frame: &[u8], wanted: &[u8], from: usize) -> usize {
    let at = frame[from..].windows(wanted.len()).position(|window| window == wanted);
    from + at.expect("the request holds what was just encoded into it")
}

fn write_hexadecimal(digits: &mut [u8], mut number: u64) {
    for digit in digits.iter_mut().rev() {
        *digit = b"0123456789ABCDEF"[(number & 0xf) as usize];
        number >>= 4;
    }
}
