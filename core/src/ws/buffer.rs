//! The buffer that a socket is read into and that messages are handed out of.

/// ```text
/// 0        head              tail           len
/// |  dead  |     unread      |   writable   |
/// ```
///
/// Always initialised, so that it can be lent as `&mut [u8]` without being zeroed again for each read. Unread bytes move
/// to the front only when there is no room behind them.
#[derive(Debug)]
pub(crate) struct RecvBuffer {
    bytes: Vec<u8>,
    head: usize,
    tail: usize,
    /// Length that it has when no frame needs more.
    base: usize,
    /// Length of the incomplete frame at `head`, as far as known.
    want: usize,
    /// Times it was drained since a frame last needed more than `base`.
    calm: u32,
}

impl RecvBuffer {
    /// Drains without need of the extra room before it is given back.
    const CALM: u32 = 256;
    /// Bytes of a frame so long that a short read at its end costs less than moving what came behind it.
    const LONG: usize = 16 << 10;
    /// A read is offered at least this much, or all there is.
    const MIN_READ: usize = 4096;

    pub(crate) fn new(base: usize) -> Self {
        Self { bytes: Vec::new(), head: 0, tail: 0, base, want: 0, calm: 0 }
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
        self.tail += len.min(self.bytes.len().saturating_sub(self.tail));
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
            let used = self.tail;
            (self.head, self.tail) = (0, 0);
            if self.bytes.len() == self.base && self.want == 0 {
                return &mut self.bytes;
            }
            if used > self.base {
                self.calm = 0;
            }
            self.settle();
        }
        self.make_room()
    }

    fn make_room(&mut self) -> &mut [u8] {
        let room = self.bytes.len() - self.tail;
        let fits = self.head + self.want <= self.bytes.len();
        if self.head > 0 && (room < Self::MIN_READ || !fits) {
            self.bytes.copy_within(self.head..self.tail, 0);
            self.tail -= self.head;
            self.head = 0;
        }
        if self.want > self.bytes.len() && self.tail == self.bytes.len() {
            // Doubling: memory follows the bytes that came, not the length that a header promised. The spare `base`
            // lets a read take the beginning of the next frame along.
            let len = (self.want + self.base).min(self.bytes.len() * 2);
            self.bytes.resize(len, 0);
        }
        if self.want > self.base {
            self.calm = 0;
        }
        // A read that ends with a long frame leaves none of the next one to be moved out of the way.
        let end = if self.want >= Self::LONG { self.head + self.want } else { usize::MAX };
        let end = end.min(self.bytes.len());
        &mut self.bytes[self.tail..end]
    }

    /// Called when empty: allocates it the first time, and gives back room that has not been needed for long.
    fn settle(&mut self) {
        self.calm = self.calm.saturating_add(1);
        if self.bytes.is_empty() || (self.bytes.len() > self.base && self.calm > Self::CALM) {
            self.bytes = vec![0; self.base];
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
        assert!(buffer.all().len() <= (1 << 20) + 8192);
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
}
