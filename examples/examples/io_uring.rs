//! The session over io_uring: operations are begun, and later they are done. Linux 5.11 or later.
//!
//! `cargo run -p everwire-examples --example io_uring -- [ws://an.echo.server]`

fn main() -> std::process::ExitCode {
    #[cfg(target_os = "linux")]
    return everwire_examples::main("io_uring", linux::run);
    #[cfg(not(target_os = "linux"))]
    everwire_examples::main("io_uring", |_| Err(everwire_examples::NotHere::because("only Linux has it")))
}

#[cfg(target_os = "linux")]
pub(crate) mod linux {
    use everwire_core::{ConnId, Disconnect, Output, Session};
    use everwire_examples::{Demo, Lookups, NotHere, earliest};
    use io_uring::{IoUring, opcode, squeue, types};
    use std::io::{self, Read, Write};
    use std::{error::Error, mem::ManuallyDrop, net::Shutdown, net::TcpStream, ops::Range, os::fd::AsRawFd};
    use std::{sync::Arc, time::Instant};

    /// Operations have names: on a socket the connection's number and one of these, and `BELL`.
    const CONNECT: usize = 0;
    const RECV: usize = 1;
    const SEND: usize = 2;
    const BELL: u64 = u64::MAX;
    const BUFFER: usize = 16 << 10;

    pub(crate) fn run(demo: &mut Demo) -> Result<(), Box<dyn Error>> {
        let mut ring = IoUring::new(64).map_err(NotHere::or_error)?;
        if !ring.params().is_feature_ext_arg() {
            return Err(NotHere::because("this Linux is older than 5.11"));
        }
        // How another thread ends the sleep of this one: it writes, and there is something to read.
        let (mut bell, ringer) = io::pipe()?;
        let (bell_fd, ringer) = (types::Fd(bell.as_raw_fd()), Arc::new(ringer));
        let listen = opcode::PollAdd::new(bell_fd, libc::POLLIN as u32).build().user_data(BELL);
        push(&mut ring, &listen)?;
        // Not dropped as a whole: when this function ends, however it does, the kernel may be at work in them.
        let mut sockets: ManuallyDrop<Vec<Socket>> = ManuallyDrop::default();

        let (lookups, mut now) = (Lookups::default(), Instant::now());
        let mut session = demo.session(now)?;
        loop {
            // What the session wants.
            let deadline = match session.poll_output(now) {
                Output::Resolve(id) => {
                    let ringer = ringer.clone();
                    lookups.start(id, &session, move || drop((&*ringer).write(&[1])));
                    continue;
                }
                Output::Connect(conn, addr) => {
                    // What fails at once is told like what fails later.
                    match everwire_os::connect(addr, session.socket_options()) {
                        Ok(stream) => sockets.push(Socket::new(conn, stream, &mut ring)?),
                        Err(error) => session.handle_disconnected(conn, error.into(), now),
                    }
                    continue;
                }
                Output::Disconnect(conn) => {
                    sockets.iter_mut().filter(|socket| socket.conn == conn).for_each(Socket::leave);
                    continue;
                }
                // The program has no time for an event. Until it takes it, `recv_buffer` is empty: no RECV is begun.
                Output::Event if demo.is_busy(now) => earliest(session.timeout(), demo.busy_until()),
                Output::Event => {
                    demo.take(&mut session, now);
                    continue;
                }
                Output::Wait(deadline) => deadline,
                // Only for configurations that ask for them: a provider of endpoints, transports that are not TCP.
                Output::Provide(_) | Output::Open(_) => unreachable!("there is an endpoint, and it is TCP"),
                Output::Closed => return Ok(()),
            };

            // Everything that can be done without sleeping, first.
            now = Instant::now();
            let mut moved = lookups.finish(&mut session, now);
            for socket in sockets.iter_mut() {
                moved |= socket.advance(&mut ring, &mut session, now)?;
            }
            sockets.retain(|socket| !socket.left || socket.under_way.contains(&true));
            if moved {
                continue;
            }

            demo.turn(&session);
            let time = deadline.map(|at| types::Timespec::from(at.saturating_duration_since(now)));
            let none = types::SubmitArgs::new();
            match ring.submitter().submit_with_args(1, &time.as_ref().map_or(none, |at| none.timespec(at))) {
                // Time is up, or there was a signal.
                Err(error) if matches!(error.raw_os_error(), Some(libc::ETIME | libc::EINTR)) => {}
                result => drop(result?),
            }
            now = Instant::now();
            while let Some(done) = { ring.completion().next() } {
                let (name, result) = (done.user_data(), done.result());
                let result = usize::try_from(result).map_err(|_| io::Error::from_raw_os_error(-result));
                if name == BELL {
                    let _rings = bell.read(&mut [0; 64])?;
                    push(&mut ring, &listen)?;
                } else if let Some(socket) = sockets.iter_mut().find(|it| it.conn.as_u64() == name >> 2) {
                    socket.done(name as usize & 3, result, &mut session, now);
                }
            }
            if deadline.is_some_and(|at| at <= now) {
                session.handle_timeout(now);
            }
        }
    }

    fn push(ring: &mut IoUring, entry: &squeue::Entry) -> io::Result<()> {
        #[expect(unsafe_code, reason = "the kernel is given pointers")]
        // SAFETY: they point into the heap, to what a `Socket` owns. It is kept until the operation is done.
        while unsafe { ring.submission().push(entry) }.is_err() {
            ring.submit()?; // The queue is full: the kernel has to take it.
        }
        Ok(())
    }

    struct Socket {
        conn: ConnId,
        stream: TcpStream,
        under_way: [bool; 3], // By operation.
        /// A buffer is the kernel's while an operation with it is under way. The session's own may move, hence a copy.
        input: Vec<u8>,
        fresh: Range<usize>, // What of `input` the session has not had.
        output: Vec<u8>,
        left: bool, // The session does not want it any more.
    }

    impl Socket {
        fn new(conn: ConnId, stream: TcpStream, ring: &mut IoUring) -> io::Result<Self> {
            // Operations on a socket that does not block fail where they would wait.
            stream.set_nonblocking(false)?;
            let (input, output, under_way) = (vec![0; BUFFER], Vec::new(), [false; 3]);
            let mut new = Self { conn, stream, under_way, input, fresh: 0..0, output, left: false };
            // Once it can be written, connecting is over, well or not.
            let poll = opcode::PollAdd::new(types::Fd(new.stream.as_raw_fd()), libc::POLLOUT as u32);
            new.begin(CONNECT, poll.build(), ring).map(|()| new)
        }

        fn begin(&mut self, operation: usize, entry: squeue::Entry, ring: &mut IoUring) -> io::Result<()> {
            self.under_way[operation] = true;
            push(ring, &entry.user_data(self.conn.as_u64() << 2 | operation as u64))
        }

        /// Ends what waits for the peer. As with any socket that is closed, what was written still goes out.
        fn leave(&mut self) {
            self.left = true;
            let _ = self.stream.shutdown(Shutdown::Read); // Fails where nothing is left to be ended.
        }

        /// Hands over what there is and begins what can be done next. True if the session has something new.
        fn advance(&mut self, ring: &mut IoUring, session: &mut Session, now: Instant) -> io::Result<bool> {
            let (conn, fd) = (self.conn, types::Fd(self.stream.as_raw_fd()));
            let room = session.recv_buffer(conn);
            let received = room.len().min(self.fresh.len());
            room[..received].copy_from_slice(&self.input[self.fresh.start..][..received]);
            session.handle_received(conn, received, now);
            self.fresh.start += received;
            let mut moved = received > 0;
            if self.output.is_empty() {
                // Taken counts as written, as it does in any socket's buffer. Here that is no more than `BUFFER`.
                let bytes = session.transmit(conn);
                self.output.extend_from_slice(&bytes[..bytes.len().min(BUFFER)]);
                session.handle_transmitted(conn, self.output.len(), now);
                moved |= !self.output.is_empty();
            }
            if !self.output.is_empty() && !self.under_way[SEND] {
                let send = opcode::Send::new(fd, self.output.as_ptr(), self.output.len() as u32);
                self.begin(SEND, send.flags(libc::MSG_NOSIGNAL).build(), ring)?;
            }
            if self.fresh.is_empty() && !self.under_way[RECV] && !session.recv_buffer(conn).is_empty() {
                let recv = opcode::Recv::new(fd, self.input.as_mut_ptr(), BUFFER as u32);
                self.begin(RECV, recv.build(), ring)?;
            }
            Ok(moved)
        }

        fn done(&mut self, operation: usize, result: io::Result<usize>, session: &mut Session, now: Instant) {
            self.under_way[operation] = false;
            let over = match (operation, result) {
                (CONNECT, Ok(_)) => match self.stream.take_error() {
                    Ok(None) => return session.handle_connected(self.conn, now),
                    Ok(Some(error)) | Err(error) => error.into(),
                },
                // A part, perhaps: the rest is next.
                (SEND, Ok(len)) => return drop(self.output.drain(..len)),
                // What has arrived is read first. Then it is for the read to say that it is over.
                (SEND, Err(_)) => return self.output.clear(),
                (_, Ok(0)) => Disconnect::Eof,
                (_, Ok(len)) => return self.fresh = 0..len,
                (_, Err(error)) => error.into(),
            };
            self.left = true;
            session.handle_disconnected(self.conn, over, now);
        }
    }
}
