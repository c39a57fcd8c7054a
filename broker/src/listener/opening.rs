//! The first bytes of a connection: TLS, HTTP/2 with prior knowledge, a PROXY header before one of them, or
//! something that is not spoken here (protocol section 7.0). The decision is a pure function of the bytes.

use std::io;
use std::net::{IpAddr, SocketAddr};

use bytes::{Buf, Bytes, BytesMut};
use tokio::io::{AsyncRead, AsyncReadExt};

/// What every HTTP/2 client says first (RFC 9113, 3.4).
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
const PROXY_V1: &[u8] = b"PROXY ";
/// Longest line of version 1, line end included.
const PROXY_V1_BYTES_MAX: usize = 107;
const PROXY_V2: &[u8] = b"\r\n\r\n\0\r\nQUIT\n";
/// Fixed part of a version 2 header.
const PROXY_V2_HEAD_BYTES: usize = 16;
/// Longest version 2 header taken, additions of the proxy included.
const PROXY_V2_BYTES_MAX: usize = 4096;
/// Room for the first read; a longer PROXY header makes it grow up to its limit.
const FIRST_READ_BYTES: usize = 1024;

/// What the client speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Speech {
    Tls,
    Http2,
    /// Nothing of ours.
    Foreign,
    /// The client closed before it said enough.
    Nothing,
}

/// The outcome of listening to the first bytes.
#[derive(Debug)]
pub(crate) struct Opening {
    pub(crate) speech: Speech,
    /// Read already; to be given again to the next layer.
    pub(crate) read: Bytes,
    /// The client as a proxy in front of us named it.
    pub(crate) proxied_peer: Option<SocketAddr>,
}

#[derive(Debug, PartialEq, Eq)]
enum Decision {
    More,
    Is(Speech),
    Proxy { header_bytes: usize, peer: Option<SocketAddr> },
}

/// Reads until it is clear what the client speaks. Reads no more than a few kilobytes.
///
/// # Errors
/// Those of the stream.
pub(crate) async fn listen<T: AsyncRead + Unpin>(stream: &mut T) -> io::Result<Opening> {
    let mut read = BytesMut::with_capacity(FIRST_READ_BYTES);
    let mut proxied_peer = None;
    let mut proxy_seen = false;
    let speech = loop {
        match decide(&read, proxy_seen) {
            Decision::Is(speech) => break speech,
            Decision::Proxy { header_bytes, peer } => {
                read.advance(header_bytes);
                proxied_peer = peer;
                proxy_seen = true;
            }
            Decision::More => {
                if stream.read_buf(&mut read).await? == 0 {
                    break Speech::Nothing;
                }
            }
        }
    };
    Ok(Opening { speech, read: read.freeze(), proxied_peer })
}

fn decide(read: &[u8], proxy_seen: bool) -> Decision {
    match read {
        [] | [0x16] | [0x16, 0x03] => Decision::More,
        // A TLS record of type handshake; its legacy version is 3.1 to 3.3 (RFC 8446, 5.1).
        [0x16, 0x03, 0..=4, ..] => Decision::Is(Speech::Tls),
        _ if read.starts_with(PREFACE) => Decision::Is(Speech::Http2),
        _ if PREFACE.starts_with(read) => Decision::More,
        _ if proxy_seen => Decision::Is(Speech::Foreign),
        _ if read.starts_with(PROXY_V1) => proxy_v1(read),
        _ if read.starts_with(PROXY_V2) => proxy_v2(read),
        _ if PROXY_V1.starts_with(read) || PROXY_V2.starts_with(read) => Decision::More,
        _ => Decision::Is(Speech::Foreign),
    }
}

fn proxy_v1(read: &[u8]) -> Decision {
    let Some(end) = read.windows(2).take(PROXY_V1_BYTES_MAX - 1).position(|pair| pair == b"\r\n")
    else {
        let too_long = read.len() >= PROXY_V1_BYTES_MAX;
        return if too_long { Decision::Is(Speech::Foreign) } else { Decision::More };
    };
    let Ok(line) = std::str::from_utf8(&read[..end]) else {
        return Decision::Is(Speech::Foreign);
    };
    // PROXY TCP4 <source> <destination> <source port> <destination port>
    let mut words = line.split(' ').skip(2);
    let address = words.next().and_then(|text| text.parse::<IpAddr>().ok());
    let port = words.nth(1).and_then(|text| text.parse::<u16>().ok());
    let peer = address.zip(port).map(SocketAddr::from);
    Decision::Proxy { header_bytes: end + 2, peer }
}

fn proxy_v2(read: &[u8]) -> Decision {
    let [.., high, low] = *match read.first_chunk::<PROXY_V2_HEAD_BYTES>() {
        Some(head) => head,
        None => return Decision::More,
    };
    let header_bytes = PROXY_V2_HEAD_BYTES + usize::from(u16::from_be_bytes([high, low]));
    if header_bytes > PROXY_V2_BYTES_MAX {
        return Decision::Is(Speech::Foreign);
    }
    if read.len() < header_bytes {
        return Decision::More;
    }
    Decision::Proxy { header_bytes, peer: proxy_v2_peer(read[13] >> 4, &read[16..header_bytes]) }
}

/// Family 1 is IPv4, 2 is IPv6; the two addresses come before the two ports.
fn proxy_v2_peer(family: u8, addresses: &[u8]) -> Option<SocketAddr> {
    let port_at =
        |at: usize| Some(u16::from_be_bytes([*addresses.get(at)?, *addresses.get(at + 1)?]));
    match family {
        1 => {
            let source = *addresses.first_chunk::<4>()?;
            Some(SocketAddr::from((source, port_at(8)?)))
        }
        2 => {
            let source = *addresses.first_chunk::<16>()?;
            Some(SocketAddr::from((source, port_at(32)?)))
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn hear(pieces: &[&[u8]]) -> Opening {
        let (mut client, mut server) = tokio::io::duplex(8192);
        let pieces: Vec<Vec<u8>> = pieces.iter().map(|p| p.to_vec()).collect();
        let writer = tokio::spawn(async move {
            use tokio::io::AsyncWriteExt;
            for piece in pieces {
                client.write_all(&piece).await.unwrap();
                tokio::task::yield_now().await;
            }
        });
        let opening = listen(&mut server).await.unwrap();
        writer.await.unwrap();
        opening
    }

    #[tokio::test]
    async fn tls_and_http2_are_told_apart_even_byte_by_byte() {
        let tls = hear(&[b"\x16", b"\x03", b"\x01rest"]).await;
        assert_eq!((tls.speech, tls.read.as_ref()), (Speech::Tls, &b"\x16\x03\x01rest"[..]));
        let bytes: Vec<&[u8]> = PREFACE.chunks(1).collect();
        let plain = hear(&bytes).await;
        assert_eq!((plain.speech, plain.read.as_ref()), (Speech::Http2, PREFACE));
    }

    #[tokio::test]
    async fn everything_else_is_foreign_and_a_closed_client_said_nothing() {
        for text in
            [&b"GET / HTTP/1.1\r\n"[..], b"\0\0\0", b"PRIX", b"PROXIMA", b"\x16\x02aa", b"\xff"]
        {
            assert_eq!(hear(&[text]).await.speech, Speech::Foreign, "{text:?}");
        }
        for text in [&b""[..], b"PRI * HT", b"\x16\x03", b"PROXY TCP4 1.2"] {
            assert_eq!(hear(&[text]).await.speech, Speech::Nothing, "{text:?}");
        }
    }

    #[tokio::test]
    async fn a_proxy_header_names_the_client_and_is_taken_off() {
        let text = b"PROXY TCP4 10.1.2.3 10.0.0.1 4711 8081\r\n";
        let opening = hear(&[text, PREFACE]).await;
        assert_eq!(opening.speech, Speech::Http2);
        assert_eq!(opening.proxied_peer, Some("10.1.2.3:4711".parse().unwrap()));
        assert_eq!(opening.read.as_ref(), PREFACE);
        let mut binary = PROXY_V2.to_vec();
        binary.extend([0x21, 0x11, 0, 12, 10, 1, 2, 3, 10, 0, 0, 1, 0x12, 0x67, 0x1f, 0x91]);
        let opening = hear(&[&binary, b"\x16\x03\x03"]).await;
        assert_eq!(opening.speech, Speech::Tls);
        assert_eq!(opening.proxied_peer, Some("10.1.2.3:4711".parse().unwrap()));
    }

    #[tokio::test]
    async fn a_proxy_header_counts_once_and_has_a_limit() {
        let line = b"PROXY UNKNOWN\r\n";
        assert_eq!(hear(&[line, line]).await.speech, Speech::Foreign);
        let endless = [PROXY_V1, &[b'x'; 200]].concat();
        assert_eq!(hear(&[&endless]).await.speech, Speech::Foreign);
        let mut big = PROXY_V2.to_vec();
        big.extend([0x21, 0x11, 0xff, 0xff]);
        assert_eq!(hear(&[&big]).await.speech, Speech::Foreign);
    }
}
