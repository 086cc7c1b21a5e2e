//! The buffer that a socket is read into and that messages are handed out of.

/// ```text
/// 0      lead     head              tail           lead + capacity
/// | pad  |  dead  |     unread      |   writable   | pad  |
/// ```
///
/// Always initialised, so that it can be lent as `&mut [u8]` without being zeroed again for each read. Unread bytes move
/// to the front only when there is no room behind them.
///
/// The padding puts the payload of a message that begins the buffer on a multiple of [`ALIGN`](Self::ALIGN) in memory: vector code
/// checks long text a seventh faster there. How much there is to read or write never depends on it.
#[derive(Debug)]
pub(crate) struct RecvBuffer {
    bytes: Vec<u8>,
    head: usize,
    tail: usize,
    lead: usize,
    capacity: usize,
    /// Bytes that lay before the text of the last message, which is a good guess for the next; 0 if there was no text to check. And the
    /// number that `lead` was chosen for.
    header: u8,
    lead_for: Option<u8>,
    /// Capacity that it has when no frame needs more.
    base: usize,
    /// Length of the incomplete frame at `head`, as far as known.
    want: usize,
    /// Times it was drained since a frame last needed more than `base`.
    calm: u32,
}

impl RecvBuffer {
    /// A power of two: the longest vectors, and a line of the cache.
    const ALIGN: usize = 64;
    /// Drains without need of the extra room before it is given back.
    const CALM: u32 = 256;
    /// Bytes of a frame so long that a short read at its end costs less than moving what came behind it.
    const LONG: usize = 16 << 10;
    /// A read is offered at least this much, or all there is.
    const MIN_READ: usize = 4096;

    pub(crate) fn new(base: usize) -> Self {
        Self {
            bytes: Vec::new(),
            head: 0,
            tail: 0,
            lead: 0,
            capacity: 0,
            header: 0,
            lead_for: None,
            base,
            want: 0,
            calm: 0,
        }
    }

    #[inline]
    pub(crate) fn all(&self) -> &[u8] {
        &self.bytes
    }

    #[inline]
    pub(crate) fn unread(&self) -> &[u8] {
        &self.bytes[self.head..self.tail]
    }

    #[inline]
    pub(crate) fn head(&self) -> usize {
        self.head
    }

    pub(crate) fn base(&self) -> usize {
        self.base
    }

    #[inline]
    pub(crate) fn advance_head(&mut self, len: usize) {
        debug_assert!(len <= self.tail - self.head, "taking more than there is");
        self.head += len;
        self.want = 0;
    }

    /// `len` bytes were written to the front of [`writable`](Self::writable). More than that offered cannot have been.
    #[inline]
    pub(crate) fn advance_tail(&mut self, len: usize) {
        self.tail += len.min((self.lead + self.capacity).min(self.bytes.len()).saturating_sub(self.tail));
    }

    /// So many bytes lay before the text of the last message; 0 for bytes, which nobody looks at.
    #[inline]
    pub(crate) fn saw_header(&mut self, len: usize) {
        self.header = len as u8;
    }

    /// Throws away all that is unread.
    pub(crate) fn clear(&mut self) {
        self.advance_head(self.tail - self.head);
    }

    /// Gives the storage away for a while; until it is [restored](Self::restore), nothing is unread or writable in it.
    pub(crate) fn lend(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.bytes)
    }

    pub(crate) fn restore(&mut self, bytes: Vec<u8>) {
        self.bytes = bytes;
    }

    /// The frame at `head` is `len` bytes long and not all there.
    pub(crate) fn want(&mut self, len: usize) {
        self.want = len;
    }

    /// Room for the next read. Empty once it is full of bytes that nobody takes: that is the backpressure.
    ///
    /// Moves and grows the buffer, so that ranges of bytes already consumed are void.
    #[inline]
    pub(crate) fn writable(&mut self) -> &mut [u8] {
        if self.head == self.tail {
            let used = self.tail - self.lead;
            if self.capacity != self.base || self.want != 0 || self.lead_for != Some(self.header) {
                self.settle(used);
            }
            (self.head, self.tail) = (self.lead, self.lead);
        }
        let end = self.lead + self.capacity;
        if self.head == self.lead && self.want == 0 && self.tail < end {
            return &mut self.bytes[self.tail..end];
        }
        self.make_room()
    }

    fn make_room(&mut self) -> &mut [u8] {
        let mut end = self.lead + self.capacity;
        let fits = self.head + self.want <= end;
        if self.head > self.lead && (end - self.tail < Self::MIN_READ || !fits) {
            self.bytes.copy_within(self.head..self.tail, self.lead);
            self.tail -= self.head - self.lead;
            self.head = self.lead;
        }
        if self.want > self.capacity && self.tail == end {
            // Doubling: memory follows the bytes that came, not the length that a header promised. The spare `base`
            // lets a read take the beginning of the next frame along.
            self.capacity = (self.want + self.base).min(self.capacity * 2);
            self.bytes.resize(self.capacity + Self::ALIGN, 0);
            (end, self.lead_for) = (self.lead + self.capacity, None);
        }
        if self.want > self.base {
            self.calm = 0;
        }
        // A read that ends with a long frame leaves none of the next one to be moved out of the way.
        let frame = if self.want >= Self::LONG { self.head + self.want } else { usize::MAX };
        &mut self.bytes[self.tail..frame.min(end)]
    }

    /// Called when empty: allocates it the first time, gives back room that has not been needed for long, and chooses where the next
    /// read begins.
    fn settle(&mut self, used: usize) {
        self.calm = if used > self.base { 0 } else { self.calm.saturating_add(1) };
        if self.bytes.is_empty() || (self.capacity > self.base && self.calm > Self::CALM) {
            self.capacity = self.base;
            self.bytes = vec![0; self.base + Self::ALIGN];
            self.lead_for = None;
        }
        if self.lead_for != Some(self.header) {
            self.lead_for = Some(self.header);
            let aligned = self.bytes.as_ptr().align_offset(Self::ALIGN);
            self.lead = aligned.wrapping_sub(usize::from(self.header)) % Self::ALIGN;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fill(buffer: &mut RecvBuffer, len: usize) {
        let room = buffer.writable();
        assert!(room.len() >= len, "room {} for {len}", room.len());
        room[..len].fill(7);
        buffer.advance_tail(len);
    }

    #[test]
    fn untaken_bytes_stop_the_reads() {
        let mut buffer = RecvBuffer::new(8192);
        fill(&mut buffer, 8192);
        assert!(buffer.writable().is_empty());
        buffer.advance_head(10);
        assert_eq!(buffer.writable().len(), 10);
    }

    #[test]
    fn grows_with_the_bytes_of_a_long_frame_and_gives_the_room_back() {
        let mut buffer = RecvBuffer::new(8192);
        fill(&mut buffer, 8192);
        buffer.want(1 << 20);
        let mut received = 8192;
        while received < 1 << 20 {
            let room = buffer.writable().len();
            assert!(room > 0 && received + room <= 2 * received.max(8192), "grew by a promise: {room}");
            let len = room.min((1 << 20) - received);
            buffer.advance_tail(len);
            received += len;
        }
        assert!(buffer.all().len() <= (1 << 20) + 8192 + RecvBuffer::ALIGN);
        buffer.advance_head(1 << 20);
        for _ in 0..=RecvBuffer::CALM {
            fill(&mut buffer, 100);
            buffer.advance_head(100);
        }
        assert_eq!(buffer.writable().len(), 8192);
    }

    #[test]
    fn moves_a_partial_frame_to_the_front_only_for_want_of_room() {
        let mut buffer = RecvBuffer::new(8192);
        fill(&mut buffer, 3000);
        buffer.advance_head(2000);
        assert_eq!(buffer.writable().len(), 8192 - 3000, "not moved");
        fill(&mut buffer, 4000);
        assert_eq!(buffer.writable().len(), 8192 - 5000, "moved");
        assert_eq!(buffer.unread(), vec![7; 5000]);
    }

    #[test]
    fn a_payload_behind_a_header_as_long_as_the_last_is_aligned() {
        for header in [0, 2, 4, 10] {
            let mut buffer = RecvBuffer::new(8192);
            fill(&mut buffer, 100);
            buffer.saw_header(header);
            buffer.advance_head(100);
            assert_eq!(buffer.writable().len(), 8192, "how much can be read does not depend on it");
            fill(&mut buffer, 1000);
            assert_eq!((buffer.unread().as_ptr().addr() + header) % RecvBuffer::ALIGN, 0);
        }
    }
}
