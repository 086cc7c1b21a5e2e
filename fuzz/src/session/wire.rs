//! Frames (RFC 6455 section 5.2) as the server's end writes and reads them.

/// The answer that accepts a handshake; `None` if the request is not complete.
pub fn accept(request: &str, extra: &str) -> Option<Vec<u8>> {
    let (head, _) = request.split_once("\r\n\r\n")?;
    let key = head.lines().find_map(|line| line.strip_prefix("Sec-WebSocket-Key: "))?;
    let accept = tungstenite::handshake::derive_accept_key(key.as_bytes());
    let head = "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n";
    Some(format!("{head}Sec-WebSocket-Accept: {accept}\r\n{extra}\r\n").into_bytes())
}

/// A frame without a mask.
pub(super) fn encode(first: u8, payload: &[u8]) -> Vec<u8> {
    let mut bytes = vec![first];
    match payload.len() {
        len @ 0..126 => bytes.push(len as u8),
        len @ 126..65_536 => {
            bytes.push(126);
            bytes.extend((len as u16).to_be_bytes());
        }
        len => {
            bytes.push(127);
            bytes.extend((len as u64).to_be_bytes());
        }
    }
    bytes.extend_from_slice(payload);
    bytes
}

/// A text message in one frame.
pub(super) fn text(message: &str) -> Vec<u8> {
    encode(0x81, message.as_bytes())
}

/// A client's frame at the front: first byte, payload unmasked, size in all.
pub(super) fn frame(bytes: &[u8]) -> Option<(u8, Vec<u8>, usize)> {
    let &[first, second, ..] = bytes else { return None };
    assert!(second & 0x80 != 0, "a frame without a mask");
    let (len, at) = match second & 0x7f {
        126 => (usize::from(u16::from_be_bytes(bytes.get(2..4)?.try_into().ok()?)), 4),
        127 => (u64::from_be_bytes(bytes.get(2..10)?.try_into().ok()?) as usize, 10),
        len => (usize::from(len), 2),
    };
    let key = bytes.get(at..at + 4)?;
    let payload = bytes.get(at + 4..at + 4 + len)?;
    let payload = payload.iter().zip(key.iter().cycle()).map(|(byte, key)| byte ^ key).collect();
    Some((first, payload, at + 4 + len))
}
