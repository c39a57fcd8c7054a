//! The first bytes of a connection: TLS, HTTP/2 with prior knowledge, from a proxy its header before one of them, or
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

/// What is expected of the first bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Header {
    /// No proxy is in front, or its header was read: another one is not spoken here, because anybody could send it.
    None,
    /// A proxy has to say for whom it speaks.
    Proxy,
}

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
pub(crate) async fn listen<T: AsyncRead + Unpin>(
    stream: &mut T,
    mut header: Header,
) -> io::Result<Opening> {
    let mut read = BytesMut::with_capacity(FIRST_READ_BYTES);
    let mut proxied_peer = None;
    let speech = loop {
        match decide(&read, header) {
            Decision::Is(speech) => break speech,
            Decision::Proxy { header_bytes, peer } => {
                read.advance(header_bytes);
                proxied_peer = peer;
                header = Header::None;
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

fn decide(read: &[u8], header: Header) -> Decision {
    match read {
        [] => Decision::More,
        _ if header == Header::Proxy => decide_proxy(read),
        [0x16] | [0x16, 0x03] => Decision::More,
        // A TLS record of type handshake; its legacy version is 3.1 to 3.3 (RFC 8446, 5.1).
        [0x16, 0x03, 0..=4, ..] => Decision::Is(Speech::Tls),
        _ if read.starts_with(PREFACE) => Decision::Is(Speech::Http2),
        _ if PREFACE.starts_with(read) => Decision::More,
        _ => Decision::Is(Speech::Foreign),
    }
}

fn decide_proxy(read: &[u8]) -> Decision {
    match read {
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
    let line = std::str::from_utf8(&read[..end]).unwrap_or_default();
    let mut words = line.split(' ').skip(1);
    let peer = match words.next() {
        Some("UNKNOWN") => None,
        // TCP4 <source> <destination> <source port> <destination port>
        Some("TCP4" | "TCP6") => {
            let address = words.next().and_then(|text| text.parse::<IpAddr>().ok());
            let port = words.nth(1).and_then(|text| text.parse::<u16>().ok());
            let Some(peer) = address.zip(port) else { return Decision::Is(Speech::Foreign) };
            Some(SocketAddr::from(peer))
        }
        _ => return Decision::Is(Speech::Foreign),
    };
    Decision::Proxy { header_bytes: end + 2, peer }
}

fn proxy_v2(read: &[u8]) -> Decision {
    let Some(head) = read.first_chunk::<PROXY_V2_HEAD_BYTES>() else { return Decision::More };
    let [.., version_and_command, family_and_transport, high, low] = *head;
    let header_bytes = PROXY_V2_HEAD_BYTES + usize::from(u16::from_be_bytes([high, low]));
    if header_bytes > PROXY_V2_BYTES_MAX {
        return Decision::Is(Speech::Foreign);
    }
    if read.len() < header_bytes {
        return Decision::More;
    }
    let addresses = &read[PROXY_V2_HEAD_BYTES..header_bytes];
    let peer = match (version_and_command, family_and_transport >> 4) {
        // The proxy speaks for itself, to see whether we are alive; or for somebody who has no such address.
        (0x20, _) | (0x21, 0 | 3) => None,
        (0x21, family @ (1 | 2)) => match proxy_v2_peer(family, addresses) {
            Some(peer) => Some(peer),
            None => return Decision::Is(Speech::Foreign),
        },
        _ => return Decision::Is(Speech::Foreign),
    };
    Decision::Proxy { header_bytes, peer }
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
        hear_after(Header::None, pieces).await
    }

    async fn hear_proxy(pieces: &[&[u8]]) -> Opening {
        hear_after(Header::Proxy, pieces).await
    }

    async fn hear_after(header: Header, pieces: &[&[u8]]) -> Opening {
        let (mut client, mut server) = tokio::io::duplex(8192);
        let pieces: Vec<Vec<u8>> = pieces.iter().map(|p| p.to_vec()).collect();
        let writer = tokio::spawn(async move {
            use tokio::io::AsyncWriteExt;
            for piece in pieces {
                client.write_all(&piece).await.unwrap();
                tokio::task::yield_now().await;
            }
        });
        let opening = listen(&mut server, header).await.unwrap();
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
        for text in [&b""[..], b"PRI * HT", b"\x16\x03"] {
            assert_eq!(hear(&[text]).await.speech, Speech::Nothing, "{text:?}");
        }
    }

    #[tokio::test]
    async fn a_proxy_header_names_the_client_and_is_taken_off() {
        let text = b"PROXY TCP4 10.1.2.3 10.0.0.1 4711 8081\r\n";
        let opening = hear_proxy(&[text, PREFACE]).await;
        assert_eq!(opening.speech, Speech::Http2);
        assert_eq!(opening.proxied_peer, Some("10.1.2.3:4711".parse().unwrap()));
        assert_eq!(opening.read.as_ref(), PREFACE);
        let opening = hear_proxy(&[&v2(0x21, 0x11, &ADDRESSES), b"\x16\x03\x03"]).await;
        assert_eq!(opening.speech, Speech::Tls);
        assert_eq!(opening.proxied_peer, Some("10.1.2.3:4711".parse().unwrap()));
        let mut v6 = [0; 36];
        (v6[15], v6[32], v6[33]) = (1, 0x12, 0x67);
        let with_more = [&v6[..], b"additions of the proxy"].concat();
        let opening = hear_proxy(&[&v2(0x21, 0x21, &with_more), PREFACE]).await;
        assert_eq!(opening.proxied_peer, Some("[::1]:4711".parse().unwrap()));
        // A proxy that asks whether we are alive, and one that does not know.
        for header in [&v2(0x20, 0x11, &ADDRESSES)[..], &v2(0x21, 0, &[]), b"PROXY UNKNOWN\r\n"] {
            let opening = hear_proxy(&[header, PREFACE]).await;
            assert_eq!((opening.speech, opening.proxied_peer), (Speech::Http2, None));
        }
    }

    const ADDRESSES: [u8; 12] = [10, 1, 2, 3, 10, 0, 0, 1, 0x12, 0x67, 0x1f, 0x91];

    fn v2(version_and_command: u8, family_and_transport: u8, addresses: &[u8]) -> Vec<u8> {
        let length = u16::try_from(addresses.len()).unwrap().to_be_bytes();
        let head = [version_and_command, family_and_transport, length[0], length[1]];
        [PROXY_V2, &head, addresses].concat()
    }

    #[tokio::test]
    async fn who_is_no_proxy_is_not_believed_and_a_proxy_has_to_say_something() {
        for header in
            [&b"PROXY TCP4 10.1.2.3 10.0.0.1 4711 8081\r\n"[..], &v2(0x21, 0x11, &ADDRESSES)]
        {
            assert_eq!(hear(&[header, PREFACE]).await.speech, Speech::Foreign);
            assert_eq!(
                hear_proxy(&[header, header]).await.speech,
                Speech::Foreign,
                "it counts once"
            );
        }
        assert_eq!(hear_proxy(&[PREFACE]).await.speech, Speech::Foreign);
        assert_eq!(hear_proxy(&[b"\x16\x03\x01"]).await.speech, Speech::Foreign);
        assert_eq!(hear_proxy(&[b"PROXY TCP4 1.2"]).await.speech, Speech::Nothing);
    }

    #[tokio::test]
    async fn a_proxy_header_that_is_too_long_or_makes_no_sense_is_foreign() {
        let mut big = v2(0x21, 0x11, &ADDRESSES);
        (big[14], big[15]) = (0xff, 0xff);
        let endless = [PROXY_V1, &[b'x'; 200]].concat();
        for header in [
            &endless[..],
            &big,
            &v2(0x11, 0x11, &ADDRESSES),
            &v2(0x22, 0x11, &ADDRESSES),
            &v2(0x21, 0x41, &ADDRESSES),
            &v2(0x21, 0x11, &ADDRESSES[..9]),
            &v2(0x21, 0x21, &ADDRESSES),
            b"PROXY TCP4\r\n",
            b"PROXY TCP4 10.1.2 10.0.0.1 4711 8081\r\n",
            b"PROXY TCP4 10.1.2.3 10.0.0.1 65536 8081\r\n",
            b"PROXY UDP4 10.1.2.3 10.0.0.1 4711 8081\r\n",
            b"PROXY TCP4 \xff 10.0.0.1 4711 8081\r\n",
        ] {
            assert_eq!(hear_proxy(&[header, PREFACE]).await.speech, Speech::Foreign, "{header:?}");
        }
    }
}
