//! What Everwire's drivers need of the operating system, whatever their runtime: random bytes, the time, and TCP sockets as
//! [`SocketOptions`] say. Nothing here waits.

use everwire_core::{Clock, SocketOptions};
use socket2::{Domain, Protocol, Socket, TcpKeepalive, Type};
use std::io;
use std::net::{SocketAddr, TcpStream};
use std::time::{Instant, SystemTime};

/// What time it is for a session that begins now, by a runtime's clock, and a seed for it.
///
/// # Errors
/// What the operating system said, if it has no random bytes.
pub fn start(now: Instant) -> io::Result<(Clock, [u8; 32])> {
    let mut seed = [0; 32];
    getrandom::fill(&mut seed).map_err(|error| io::Error::other(format!("no random bytes: {error}")))?;
    Ok((Clock { instant: now, system: SystemTime::now() }, seed))
}

/// Begins a TCP connection with these options: the socket is non-blocking, and becomes writable when it is connected or could not be
/// ([`TcpStream::take_error`] then says why).
///
/// # Errors
/// What the operating system said of the options, or of the connection if it knows at once.
pub fn connect(addr: SocketAddr, options: &SocketOptions) -> io::Result<TcpStream> {
    let socket = Socket::new(Domain::for_address(addr), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_nonblocking(true)?;
    set(&socket, addr, options)?;
    match socket.connect(&addr.into()) {
        Ok(()) => {}
        Err(error) if is_begun(&error) => {}
        Err(error) => return Err(error),
    }
    Ok(socket.into())
}

/// What a connect that goes on in the background says.
fn is_begun(error: &io::Error) -> bool {
    #[cfg(unix)]
    if error.raw_os_error() == Some(libc::EINPROGRESS) {
        return true;
    }
    error.kind() == io::ErrorKind::WouldBlock
}

/// What is set before a socket connects.
fn set(socket: &Socket, peer: SocketAddr, options: &SocketOptions) -> io::Result<()> {
    socket.set_tcp_nodelay(options.nodelay).map_err(|error| refused("nodelay", &error))?;
    if let Some(keepalive) = options.keepalive {
        let probes = TcpKeepalive::new().with_time(keepalive.time);
        #[cfg(not(any(
            target_os = "openbsd",
            target_os = "redox",
            target_os = "solaris",
            target_os = "haiku"
        )))]
        let probes = probes.with_interval(keepalive.interval);
        #[cfg(any(
            target_os = "android",
            target_os = "freebsd",
            target_os = "linux",
            target_vendor = "apple",
            windows
        ))]
        let probes = probes.with_retries(keepalive.retries);
        socket.set_tcp_keepalive(&probes).map_err(|error| refused("keepalive", &error))?;
    }
    if let Some(bytes) = options.send_buffer {
        socket.set_send_buffer_size(bytes).map_err(|error| refused("send_buffer", &error))?;
    }
    if let Some(bytes) = options.recv_buffer {
        socket.set_recv_buffer_size(bytes).map_err(|error| refused("recv_buffer", &error))?;
    }
    if let Some(name) = &options.interface {
        bind_to_interface(socket, name).map_err(|error| refused("interface", &error))?;
    }
    if let Some(local) = options.local_for(peer) {
        socket.bind(&local.into()).map_err(|error| refused("local_address", &error))?;
    }
    Ok(())
}

#[cfg(any(target_os = "android", target_os = "fuchsia", target_os = "linux"))]
fn bind_to_interface(socket: &Socket, name: &str) -> io::Result<()> {
    socket.bind_device(Some(name.as_bytes()))
}

#[cfg(not(any(target_os = "android", target_os = "fuchsia", target_os = "linux")))]
fn bind_to_interface(_: &Socket, _: &str) -> io::Result<()> {
    Err(io::Error::new(io::ErrorKind::Unsupported, "this system cannot bind a socket to an interface"))
}

/// Says which of the options it is that the operating system refused.
fn refused(option: &str, error: &io::Error) -> io::Error {
    io::Error::new(error.kind(), format!("sockets.{option}: {error}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use everwire_core::Keepalive;
    use socket2::SockRef;
    use std::io::ErrorKind;
    use std::net::TcpListener;
    use std::time::Duration;

    fn listener() -> (TcpListener, SocketAddr) {
        let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
        let addr = listener.local_addr().unwrap();
        (listener, addr)
    }

    #[test]
    fn options_are_set() {
        let (listener, addr) = listener();
        let keepalive =
            Keepalive { time: Duration::from_secs(77), interval: Duration::from_secs(7), retries: 3 };
        let options = SocketOptions::default()
            .nodelay(false)
            .keepalive(keepalive)
            .local_address([127, 0, 0, 9])
            .send_buffer(64 << 10)
            .recv_buffer(32 << 10);
        let stream = connect(addr, &options).unwrap();
        let (_, peer) = listener.accept().unwrap();
        assert_eq!(peer.ip().to_string(), "127.0.0.9");
        let socket = SockRef::from(&stream);
        assert!(!socket.tcp_nodelay().unwrap());
        assert!(socket.keepalive().unwrap());
        #[cfg(target_os = "linux")]
        {
            assert_eq!(socket.tcp_keepalive_time().unwrap(), Duration::from_secs(77));
            assert_eq!(socket.tcp_keepalive_interval().unwrap(), Duration::from_secs(7));
            assert_eq!(socket.tcp_keepalive_retries().unwrap(), 3);
            // Linux doubles what it is told, for its own bookkeeping (socket(7)).
            assert_eq!(socket.send_buffer_size().unwrap(), 128 << 10);
            assert_eq!(socket.recv_buffer_size().unwrap(), 64 << 10);
        }
    }

    #[test]
    fn defaults_are_no_delay_and_nothing_else() {
        let (_listener, addr) = listener();
        let stream = connect(addr, &SocketOptions::default()).unwrap();
        let socket = SockRef::from(&stream);
        assert!(socket.tcp_nodelay().unwrap());
        assert!(!socket.keepalive().unwrap());
        // It does not block.
        assert!(
            matches!(stream.peek(&mut [0]), Err(error) if error.kind() == ErrorKind::WouldBlock || error.kind() == ErrorKind::NotConnected)
        );
    }

    /// Linux lets anybody do that since 5.7.
    #[cfg(target_os = "linux")]
    #[test]
    fn a_socket_is_bound_to_an_interface() {
        let (listener, addr) = listener();
        let stream = connect(addr, &SocketOptions::default().interface("lo")).unwrap();
        listener.accept().unwrap();
        assert_eq!(SockRef::from(&stream).device().unwrap().as_deref(), Some(&b"lo"[..]));
    }

    #[test]
    fn what_cannot_be_set_is_named() {
        let (_listener, addr) = listener();
        let foreign = SocketOptions::default().local_address([192, 0, 2, 1]);
        let error = connect(addr, &foreign).unwrap_err();
        assert!(error.to_string().starts_with("sockets.local_address: "), "{error}");
        let nowhere = SocketOptions::default().interface("nosuchdev0");
        let error = connect(addr, &nowhere).unwrap_err();
        assert!(error.to_string().starts_with("sockets.interface: "), "{error}");
    }

    #[test]
    fn seeds_differ() {
        let now = Instant::now();
        let (clock, seed) = start(now).unwrap();
        assert_eq!(clock.instant, now);
        assert_ne!(seed, start(now).unwrap().1);
    }
}
