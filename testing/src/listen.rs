//! The server thread: accepts TCP connections and brings each to an open WebSocket, or to its scripted fault.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::mpsc::Sender;
use std::time::Duration;

use tokio::io::AsyncWriteExt;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc::UnboundedReceiver;

use crate::conn::story_path;
use crate::conn_state::ConnState;
use crate::fault_stream::{FaultState, FaultStream};
use crate::handshake::{HandshakeFault, accept, bad_answer, refusal};
use crate::http::{self, is_upgrade, read_head};
use crate::pump::{Pump, call_handler};
use crate::shared::Shared;
use crate::tls::Mode;
use crate::transcript::FrameLog;
use crate::transport::{Transport, discard_all};
use crate::{ConnHandle, ConnectionEnd};

/// Pause after a failed accept, which mostly means that the process has no file descriptors left.
const ACCEPT_PAUSE: Duration = Duration::from_millis(20);

/// An order from the handle to the accept loop.
pub(crate) enum Control {
    /// Close the listening socket, or open it again, and report.
    Refuse(bool, Sender<io::Result<()>>),
}

/// Serves until the handle drops its end of `control`.
pub(crate) async fn serve(
    shared: Arc<Shared>,
    listener: std::net::TcpListener,
    addr: SocketAddr,
    mut control: UnboundedReceiver<Control>,
) {
    let mut listener = TcpListener::from_std(listener).ok();
    loop {
        tokio::select! {
            accepted = next(listener.as_ref()) => match accepted {
                Ok((tcp, peer)) => start_attempt(&shared, tcp, peer),
                Err(_) => tokio::time::sleep(ACCEPT_PAUSE).await,
            },
            order = control.recv() => match order {
                None => return,
                Some(Control::Refuse(refuse, done)) => {
                    let result = set_refusing(&mut listener, refuse, addr).await;
                    // The handle waits for this unless it has given up.
                    let _ = done.send(result);
                }
            },
        }
    }
}

async fn next(listener: Option<&TcpListener>) -> io::Result<(TcpStream, SocketAddr)> {
    match listener {
        Some(listener) => listener.accept().await,
        None => std::future::pending().await,
    }
}

async fn set_refusing(listener: &mut Option<TcpListener>, refuse: bool, addr: SocketAddr) -> io::Result<()> {
    if refuse {
        *listener = None;
    } else if listener.is_none() {
        *listener = Some(TcpListener::bind(addr).await?);
    }
    Ok(())
}

fn start_attempt(shared: &Arc<Shared>, tcp: TcpStream, peer: SocketAddr) {
    // Other requests use none of the faults up, so that where there may be some the request comes first.
    let fault = if shared.routes().is_empty() { Some(shared.handshake().next()) } else { None };
    let tls = shared.tls.as_ref().map(|tls| tls.next());
    shared.change(|state| state.attempts += 1);
    let shared = shared.clone();
    tokio::spawn(async move {
        if let Err(failure) = attempt(&shared, tcp, peer, fault, tls).await {
            shared.failure(failure);
        }
    });
}

/// One TCP connection from accept to end. An error says why it did not become a WebSocket.
async fn attempt(
    shared: &Arc<Shared>,
    tcp: TcpStream,
    peer: SocketAddr,
    fault: Option<Option<HandshakeFault>>,
    tls: Option<Mode>,
) -> Result<(), String> {
    // Only fails if the client is gone already, which the first read will tell.
    let _ = tcp.set_nodelay(true);
    let fault_state = Arc::new(FaultState::default());
    fault_state.set_throttle(shared.config.throttle);
    let mut socket = FaultStream::new(tcp, fault_state.clone());
    if fault == Some(Some(HandshakeFault::Silent)) {
        discard_all(&mut socket).await;
        return Err("fault: Silent".to_owned());
    }
    let mut transport = match tls {
        None => Transport::Plain(socket),
        Some(mode) => mode.accept(socket).await?,
    };
    let (request, input) = match read_head(&mut transport).await {
        Ok(read) => read,
        Err((why, can_be_told)) => {
            if can_be_told {
                answer_and_end(transport, &refusal(400, &[], why.as_bytes())).await;
                return Err(format!("bad request: {why}"));
            }
            return Err(why);
        }
    };
    let fault = match fault {
        Some(fault) => fault,
        None if is_upgrade(&request) => shared.handshake().next(),
        None => {
            let answer = http::serve(&mut transport, request, input, shared).await?;
            answer_and_end(transport, &answer).await;
            return Ok(());
        }
    };
    let request = Arc::new(request);
    shared.request(request.clone());

    let mut judged = None;
    if fault.is_none() {
        call_handler(|| judged = shared.judge(&request))
            .map_err(|panic| format!("judge panicked: {panic}"))?;
    }
    match fault.as_ref().or(judged.as_ref()) {
        None => {}
        Some(HandshakeFault::Delay(delay)) => tokio::time::sleep(*delay).await,
        Some(HandshakeFault::Silent) => {
            discard_all(&mut transport).await;
            return Err("fault: Silent".to_owned());
        }
        Some(fault) => {
            match bad_answer(fault, &request) {
                None => transport.cut(),
                Some(answer) => match fault {
                    HandshakeFault::WrongAccept
                    | HandshakeFault::BadExtension(_)
                    | HandshakeFault::BadSubprotocol(_) => {
                        // It is for the client to end it.
                        if write(&mut transport, &answer).await.is_ok() {
                            discard_all(&mut transport).await;
                        }
                    }
                    _ => answer_and_end(transport, &answer).await,
                },
            }
            return Err(format!("fault: {fault:?}"));
        }
    }
    let response = match accept(&request, &shared.config) {
        Ok(response) => response,
        Err((why, answer)) => {
            answer_and_end(transport, &answer).await;
            return Err(why);
        }
    };

    let index = shared.state().accepted;
    let log = Arc::new(FrameLog::new(shared.started));
    log.note(format!("GET {}, answered with 101", story_path(&request)));
    let signal = shared.signal.clone();
    let state = Arc::new(ConnState::new(index, peer, request, fault_state, log, signal));
    let conn = ConnHandle::new(state.clone());
    let pump =
        Pump::new(transport, response, &shared.config.first_frames, input, state.clone(), shared.clone());
    // Before the test can see the connection, so that what the handler does comes first.
    let connected = call_handler(|| shared.connected(&conn));
    shared.accepted(conn);
    match connected {
        Ok(()) => pump.run().await,
        Err(panic) => shared.connection_ended(&state, ConnectionEnd::HandlerPanicked(panic)),
    }
    Ok(())
}

async fn write(transport: &mut Transport, bytes: &[u8]) -> io::Result<()> {
    transport.write_all(bytes).await?;
    transport.flush().await
}

async fn answer_and_end(mut transport: Transport, answer: &[u8]) {
    if write(&mut transport, answer).await.is_ok() && transport.finish().await.is_ok() {
        transport.drain().await;
    }
}
