//! Frames made by hand, good ones and bad ones (RFC 6455 section 5.2).

use std::fmt;

use tungstenite::Message;

/// One frame, every bit of it as the test wants it; for [`ConnHandle::send_frames`](crate::ConnHandle::send_frames).
///
/// ```
/// use everwire_testing::RawFrame;
///
/// // A text in two fragments with a ping between them.
/// let frames = [RawFrame::text("frag").unfinished(), RawFrame::ping("p"), RawFrame::continuation("ment")];
/// assert_eq!(frames.map(|frame| frame.bytes()).concat(), b"\x01\x04frag\x89\x01p\x80\x04ment");
///
/// // Lies about its length: 3 bytes of the 10 that it claims.
/// assert_eq!(RawFrame::binary([1, 2, 3]).claiming(10).bytes(), [0x82, 10, 1, 2, 3]);
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RawFrame {
    pub(crate) fin: bool,
    pub(crate) rsv: u8,
    pub(crate) opcode: u8,
    pub(crate) payload: Vec<u8>,
    pub(crate) mask: Option<[u8; 4]>,
    claimed: Option<u64>,
    long_length: bool,
}

impl RawFrame {
    /// A final frame with this opcode, of which the low 4 bits count, and no reserved bit; not masked, as a server's
    /// are.
    pub fn new(opcode: u8, payload: impl Into<Vec<u8>>) -> Self {
        Self {
            fin: true,
            rsv: 0,
            opcode: opcode & 0x0f,
            payload: payload.into(),
            mask: None,
            claimed: None,
            long_length: false,
        }
    }

    /// A text frame (opcode 1); its payload need not be UTF-8.
    pub fn text(payload: impl Into<Vec<u8>>) -> Self {
        Self::new(0x1, payload)
    }

    /// A binary frame (opcode 2).
    pub fn binary(payload: impl Into<Vec<u8>>) -> Self {
        Self::new(0x2, payload)
    }

    /// A continuation frame (opcode 0), the last of its message unless [`unfinished`](Self::unfinished).
    pub fn continuation(payload: impl Into<Vec<u8>>) -> Self {
        Self::new(0x0, payload)
    }

    /// A ping (opcode 9).
    pub fn ping(payload: impl Into<Vec<u8>>) -> Self {
        Self::new(0x9, payload)
    }

    /// A pong (opcode 10).
    pub fn pong(payload: impl Into<Vec<u8>>) -> Self {
        Self::new(0xa, payload)
    }

    /// A close frame (opcode 8) with any code and reason, allowed or not.
    pub fn close(code: u16, reason: impl AsRef<[u8]>) -> Self {
        Self::new(0x8, [&code.to_be_bytes(), reason.as_ref()].concat())
    }

    /// The frames of a text or binary message in fragments of `size` bytes, which may fall inside of a character. A
    /// message of no more than `size` bytes is one frame. Of another message nothing, a `size` of 0 is 1.
    pub fn fragments(message: &Message, size: usize) -> Vec<Self> {
        let (opcode, payload) = match message {
            Message::Text(text) => (0x1, text.as_bytes()),
            Message::Binary(data) => (0x2, &**data),
            _ => return Vec::new(),
        };
        if payload.is_empty() {
            return vec![Self::new(opcode, payload)];
        }
        let size = size.max(1);
        let count = payload.len().div_ceil(size);
        let opcodes = std::iter::once(opcode).chain(std::iter::repeat(0));
        let frames = payload.chunks(size).zip(opcodes).enumerate();
        frames
            .map(|(i, (payload, opcode))| {
                let frame = Self::new(opcode, payload);
                if i + 1 < count { frame.unfinished() } else { frame }
            })
            .collect()
    }

    /// Without the FIN bit: more of the message follows.
    pub fn unfinished(mut self) -> Self {
        self.fin = false;
        self
    }

    /// With these reserved bits: 4 is RSV1 (compressed, RFC 7692), 2 is RSV2, 1 is RSV3; more than 7 is cut off.
    pub fn reserved(mut self, bits: u8) -> Self {
        self.rsv = bits & 0x7;
        self
    }

    /// Masked with this key, as no server may (RFC 6455 section 5.1).
    pub fn masked(mut self, key: [u8; 4]) -> Self {
        self.mask = Some(key);
        self
    }

    /// Says that the payload has this length, whatever it has.
    pub fn claiming(mut self, len: u64) -> Self {
        self.claimed = Some(len);
        self
    }

    /// With the length in 64 bits, however short it is, which is forbidden below 65,536.
    pub fn long_length(mut self) -> Self {
        self.long_length = true;
        self
    }

    /// The length that its head says.
    pub(crate) fn len(&self) -> u64 {
        self.claimed.unwrap_or(self.payload.len() as u64)
    }

    /// The bytes of the frame.
    pub fn bytes(&self) -> Vec<u8> {
        let mut bytes = vec![u8::from(self.fin) << 7 | self.rsv << 4 | self.opcode];
        let masked = u8::from(self.mask.is_some()) << 7;
        let len = self.len();
        match (u8::try_from(len), u16::try_from(len)) {
            (Ok(len), _) if len < 126 && !self.long_length => bytes.push(masked | len),
            (_, Ok(len)) if !self.long_length => {
                bytes.push(masked | 126);
                bytes.extend(len.to_be_bytes());
            }
            _ => {
                bytes.push(masked | 127);
                bytes.extend(len.to_be_bytes());
            }
        }
        match self.mask {
            None => bytes.extend(&self.payload),
            Some(key) => {
                bytes.extend(key);
                bytes.extend(self.payload.iter().zip(key.iter().cycle()).map(|(byte, key)| byte ^ key));
            }
        }
        bytes
    }
}

/// The ways in which a server's frames break RFC 6455, for [`ConnHandle::violate`](crate::ConnHandle::violate).
///
/// A client is to fail the connection, and may say so in a close frame with [`close_code`](Self::close_code).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Violation {
    /// RSV1 without an extension that gives it a meaning (section 5.2).
    ReservedBit,
    /// A data frame of the reserved opcode 3 (section 5.2).
    ReservedDataOpcode,
    /// A control frame of the reserved opcode 11 (section 5.2).
    ReservedControlOpcode,
    /// A masked frame from a server (section 5.1).
    Masked,
    /// A ping without FIN (section 5.4).
    FragmentedPing,
    /// A ping with 126 bytes of payload (section 5.5).
    LongPing,
    /// A continuation of nothing (section 5.4).
    StrayContinuation,
    /// A new text message before the last one was finished (section 5.4).
    MessageInsideMessage,
    /// A payload length whose highest bit is set (section 5.2).
    ImpossibleLength,
    /// A text that is not UTF-8 (section 5.6).
    TextNotUtf8,
    /// A text in fragments that ends in the middle of a character (section 5.6).
    TextEndsInsideCharacter,
    /// A close frame with half a code (section 5.5.1).
    CloseOneByte,
    /// A close frame with the code 1005, which may only be reported (section 7.4.1).
    CloseReservedCode,
    /// A close frame whose reason is not UTF-8 (section 5.5.1).
    CloseReasonNotUtf8,
}

impl Violation {
    /// All of them, for a test that tries each.
    pub const ALL: [Self; 14] = [
        Self::ReservedBit,
        Self::ReservedDataOpcode,
        Self::ReservedControlOpcode,
        Self::Masked,
        Self::FragmentedPing,
        Self::LongPing,
        Self::StrayContinuation,
        Self::MessageInsideMessage,
        Self::ImpossibleLength,
        Self::TextNotUtf8,
        Self::TextEndsInsideCharacter,
        Self::CloseOneByte,
        Self::CloseReservedCode,
        Self::CloseReasonNotUtf8,
    ];

    /// The code that says what is wrong (RFC 6455 section 7.4.1): 1007 for what is not UTF-8, 1002 otherwise. For
    /// [`ImpossibleLength`](Self::ImpossibleLength) clients that look at their own limit first say 1009.
    pub fn close_code(self) -> u16 {
        match self {
            Self::TextNotUtf8 | Self::TextEndsInsideCharacter | Self::CloseReasonNotUtf8 => 1007,
            _ => 1002,
        }
    }

    /// The frames that break the rule, and nothing but that rule.
    pub fn frames(self) -> Vec<RawFrame> {
        match self {
            Self::ReservedBit => vec![RawFrame::text("x").reserved(4)],
            Self::ReservedDataOpcode => vec![RawFrame::new(0x3, "x")],
            Self::ReservedControlOpcode => vec![RawFrame::new(0xb, "x")],
            Self::Masked => vec![RawFrame::text("x").masked([1, 2, 3, 4])],
            Self::FragmentedPing => vec![RawFrame::ping("x").unfinished()],
            Self::LongPing => vec![RawFrame::ping(vec![b'x'; 126])],
            Self::StrayContinuation => vec![RawFrame::continuation("x")],
            Self::MessageInsideMessage => vec![RawFrame::text("x").unfinished(), RawFrame::text("y")],
            Self::ImpossibleLength => vec![RawFrame::binary("x").claiming(1 << 63)],
            Self::TextNotUtf8 => vec![RawFrame::text([0xff])],
            Self::TextEndsInsideCharacter => {
                vec![RawFrame::text([0xe2, 0x82]).unfinished(), RawFrame::continuation("")]
            }
            Self::CloseOneByte => vec![RawFrame::new(0x8, [0x03])],
            Self::CloseReservedCode => vec![RawFrame::close(1005, "")],
            Self::CloseReasonNotUtf8 => vec![RawFrame::close(1000, [0xff])],
        }
    }
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::ReservedBit => "a reserved bit",
            Self::ReservedDataOpcode => "a reserved data opcode",
            Self::ReservedControlOpcode => "a reserved control opcode",
            Self::Masked => "a masked frame",
            Self::FragmentedPing => "a fragmented ping",
            Self::LongPing => "a ping of 126 bytes",
            Self::StrayContinuation => "a continuation of nothing",
            Self::MessageInsideMessage => "a message inside of a message",
            Self::ImpossibleLength => "a length of more than 63 bits",
            Self::TextNotUtf8 => "a text that is not UTF-8",
            Self::TextEndsInsideCharacter => "a text that ends inside of a character",
            Self::CloseOneByte => "a close frame of one byte",
            Self::CloseReservedCode => "a close frame with code 1005",
            Self::CloseReasonNotUtf8 => "a close reason that is not UTF-8",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_form_of_length() {
        for (len, head) in [
            (0, vec![0x82, 0]),
            (125, vec![0x82, 125]),
            (126, vec![0x82, 126, 0, 126]),
            (65_535, vec![0x82, 126, 255, 255]),
            (65_536, vec![0x82, 127, 0, 0, 0, 0, 0, 1, 0, 0]),
        ] {
            let bytes = RawFrame::binary(vec![7; len]).bytes();
            assert_eq!(bytes, [head, vec![7; len]].concat());
        }
        assert_eq!(RawFrame::text("x").long_length().bytes(), b"\x81\x7f\0\0\0\0\0\0\0\x01x");
        assert_eq!(RawFrame::text("").claiming(1 << 63).bytes(), b"\x81\x7f\x80\0\0\0\0\0\0\0");
    }

    #[test]
    fn every_bit() {
        assert_eq!(RawFrame::new(0xff, "").reserved(0xff).unfinished().bytes(), [0x7f, 0]);
        assert_eq!(
            RawFrame::pong("ab").masked([1, 2, 3, 4]).bytes(),
            [0x8a, 0x82, 1, 2, 3, 4, b'a' ^ 1, b'b' ^ 2]
        );
        assert_eq!(RawFrame::close(1000, "x").bytes(), b"\x88\x03\x03\xe8x");
    }

    #[test]
    fn fragments_of_any_size() {
        let bytes = |message: &Message, size| -> Vec<Vec<u8>> {
            RawFrame::fragments(message, size).iter().map(RawFrame::bytes).collect()
        };
        assert_eq!(bytes(&Message::text("abc"), 2), [b"\x01\x02ab".to_vec(), b"\x80\x01c".to_vec()]);
        assert_eq!(bytes(&Message::text("abc"), 3), [b"\x81\x03abc"]);
        assert_eq!(bytes(&Message::binary(&b"ab"[..]), 0), [b"\x02\x01a", b"\x80\x01b"]);
        assert_eq!(bytes(&Message::text(""), 1), [b"\x81\x00"]);
        assert!(bytes(&Message::Ping("x".into()), 1).is_empty());
    }
}
