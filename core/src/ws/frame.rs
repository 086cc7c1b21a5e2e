//! Frame headers (RFC 6455 section 5.2).

use super::error::ProtocolError;

/// FIN: the last frame of a message.
pub(crate) const FIN: u8 = 0x80;
/// RSV1: the message is compressed (RFC 7692 section 6).
pub(crate) const RSV1: u8 = 0x40;

pub(crate) const CONTINUATION: u8 = 0x0;
pub(crate) const TEXT: u8 = 0x1;
pub(crate) const BINARY: u8 = 0x2;
pub(crate) const CLOSE: u8 = 0x8;
pub(crate) const PING: u8 = 0x9;
pub(crate) const PONG: u8 = 0xa;

/// A server's frame header.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Header {
    pub(crate) fin: bool,
    pub(crate) rsv1: bool,
    pub(crate) opcode: u8,
    /// Payload length in bytes.
    pub(crate) len: u64,
    /// Bytes that the header itself takes.
    pub(crate) size: usize,
}

impl Header {
    pub(crate) fn is_control(&self) -> bool {
        self.opcode & 0x8 != 0
    }
}

/// Reads the header that `bytes` begins with; `None` if it is not all there. What is wrong with the first byte or two is
/// said at once, without waiting for the rest.
pub(crate) fn parse(bytes: &[u8]) -> Result<Option<Header>, ProtocolError> {
    let Some(&first) = bytes.first() else { return Ok(None) };
    if first & 0x30 != 0 {
        return Err(ProtocolError::ReservedBits((first >> 4) & 7));
    }
    let opcode = first & 0x0f;
    if !matches!(opcode, CONTINUATION | TEXT | BINARY | CLOSE | PING | PONG) {
        return Err(ProtocolError::ReservedOpcode(opcode));
    }
    let (fin, rsv1, control) = (first & FIN != 0, first & RSV1 != 0, opcode & 0x8 != 0);
    if control && !fin {
        return Err(ProtocolError::FragmentedControl);
    }
    if rsv1 && (control || opcode == CONTINUATION) {
        // RFC 7692 section 6.1: only the first frame of a data message says that it is compressed.
        return Err(ProtocolError::ReservedBits(4));
    }
    let Some(&second) = bytes.get(1) else { return Ok(None) };
    if second & 0x80 != 0 {
        return Err(ProtocolError::MaskedFrame);
    }
    if control && second > 125 {
        return Err(ProtocolError::OversizedControl);
    }
    let (len, size) = match second {
        126 => match bytes[2..].first_chunk() {
            Some(len) => (u64::from(u16::from_be_bytes(*len)), 4),
            None => return Ok(None),
        },
        127 => match bytes[2..].first_chunk() {
            Some(len) => (u64::from_be_bytes(*len), 10),
            None => return Ok(None),
        },
        short => (u64::from(short), 2),
    };
    if (second == 126 && len < 126) || (second == 127 && (len <= 0xffff || len >> 63 != 0)) {
        return Err(ProtocolError::BadLength);
    }
    Ok(Some(Header { fin, rsv1, opcode, len, size }))
}

/// Header of a masked frame of up to 125 bytes.
#[inline]
pub(crate) fn short_header(first: u8, len: u8, key: [u8; 4]) -> [u8; 6] {
    debug_assert!(len <= 125);
    // As one number: the compiler writes it in one go, not byte by byte.
    let number = u64::from(u32::from_le_bytes(key)) << 16 | u64::from(0x80 | len) << 8 | u64::from(first);
    let [a, b, c, d, e, f, ..] = number.to_le_bytes();
    [a, b, c, d, e, f]
}

/// Header of a masked frame of 126 to 65,535 bytes.
#[inline]
pub(crate) fn medium_header(first: u8, len: u16, key: [u8; 4]) -> [u8; 8] {
    let front = u32::from_le_bytes([first, 0x80 | 126, 0, 0]) | u32::from(len.swap_bytes()) << 16;
    (u64::from(u32::from_le_bytes(key)) << 32 | u64::from(front)).to_le_bytes()
}

/// Header of a masked frame of 65,536 bytes and more.
#[inline]
pub(crate) fn long_header(first: u8, len: u64, key: [u8; 4]) -> [u8; 14] {
    let mut header = [0; 14];
    header[0] = first;
    header[1] = 0x80 | 127;
    header[2..10].copy_from_slice(&len.to_be_bytes());
    header[10..].copy_from_slice(&key);
    header
}

/// Bytes of header before a masked payload of `len` bytes.
#[inline]
pub(crate) fn masked_header_len(len: usize) -> usize {
    match len {
        0..=125 => 6,
        126..=0xffff => 8,
        _ => 14,
    }
}

/// First byte and whole size, in bytes, of one of our own frames at the front of `bytes`.
pub(crate) fn own_frame(bytes: &[u8]) -> Option<(u8, usize)> {
    let (&[first, second], rest) = bytes.split_first_chunk::<2>()?;
    let len = match second & 0x7f {
        126 => usize::from(u16::from_be_bytes(*rest.first_chunk()?)),
        127 => u64::from_be_bytes(*rest.first_chunk()?) as usize,
        short => usize::from(short),
    };
    Some((first, masked_header_len(len) + len))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn good_headers() {
        let data = |opcode, len, size| Header { fin: true, rsv1: false, opcode, len, size };
        assert_eq!(parse(&[0x81, 0x05]), Ok(Some(data(TEXT, 5, 2))));
        assert_eq!(parse(&[0x82, 126, 0x01, 0x00]), Ok(Some(data(BINARY, 256, 4))));
        assert_eq!(parse(&[0x82, 127, 0, 0, 0, 0, 0, 1, 0, 0]), Ok(Some(data(BINARY, 65536, 10))));
        assert_eq!(parse(&[0x8a, 0x7d]), Ok(Some(data(PONG, 125, 2))));
        let fragment = Header { fin: false, rsv1: true, opcode: TEXT, len: 0, size: 2 };
        assert_eq!(parse(&[0x41, 0x00]), Ok(Some(fragment)));
        for cut in [&[][..], &[0x81], &[0x82, 126], &[0x82, 126, 1], &[0x82, 127, 0, 0, 0, 0, 0, 1, 0]] {
            assert_eq!(parse(cut), Ok(None), "{cut:?}");
        }
    }

    #[test]
    fn bad_headers_fail_at_their_first_bad_byte() {
        for (bytes, error) in [
            (&[0x91][..], ProtocolError::ReservedBits(1)),
            (&[0xa1], ProtocolError::ReservedBits(2)),
            (&[0xc0], ProtocolError::ReservedBits(4)),
            (&[0xc9], ProtocolError::ReservedBits(4)),
            (&[0x83], ProtocolError::ReservedOpcode(3)),
            (&[0x8f], ProtocolError::ReservedOpcode(15)),
            (&[0x09], ProtocolError::FragmentedControl),
            (&[0x89, 126], ProtocolError::OversizedControl),
            (&[0x81, 0x85], ProtocolError::MaskedFrame),
            (&[0x81, 126, 0, 125], ProtocolError::BadLength),
            (&[0x81, 127, 0, 0, 0, 0, 0, 0, 0xff, 0xff], ProtocolError::BadLength),
            (&[0x81, 127, 0x80, 0, 0, 0, 0, 0, 0, 0], ProtocolError::BadLength),
        ] {
            assert_eq!(parse(bytes), Err(error), "{bytes:02x?}");
        }
    }

    #[test]
    fn own_frames_are_measured() {
        let key = [1, 2, 3, 4];
        let check = |header: &[u8], len: usize| {
            assert_eq!(header.len(), masked_header_len(len));
            assert_eq!(own_frame(header), Some((FIN | TEXT, header.len() + len)), "{len}");
            assert_eq!(header[header.len() - 4..], key);
        };
        for len in [0, 1, 125] {
            check(&short_header(FIN | TEXT, len, key), usize::from(len));
        }
        for len in [126, 127, 256, 65535] {
            check(&medium_header(FIN | TEXT, len, key), usize::from(len));
        }
        for len in [65536, 100_000, 1 << 31] {
            check(&long_header(FIN | TEXT, len, key), len as usize);
        }
    }
}
