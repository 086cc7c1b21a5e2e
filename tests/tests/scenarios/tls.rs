//! wss: whom it trusts, what is wrong with servers, how connections end.

use everwire_core::transport::tls::{CertificateProblem, TlsError};
use everwire_core::{CloseCode, Disconnect, Error, OwnedEvent, SendError};
use everwire_testing::{ConnectionEnd, Message, MockServer, TlsFault};
use everwire_tests::{
    Runtime, SOON, Scene, closed, config_for, describe, lost, message, next, noise, online, scenarios,
    trusting,
};
use std::sync::Arc;

scenarios! {
    messages_go_both_ways_and_it_closes_well,
    a_certificate_that_cannot_be_accepted_ends_the_session,
    a_peer_that_speaks_plain_http_ends_the_session,
    a_server_that_wants_a_certificate_gets_it_or_ends_the_session,
    only_a_close_notify_makes_an_end_an_end,
    the_session_is_resumed_on_reconnect,
    big_messages_go_both_ways_against_backpressure,
}

fn echo() -> MockServer {
    MockServer::builder().tls().handler(|conn, message| conn.send(message)).start()
}

async fn messages_go_both_ways_and_it_closes_well(scene: &Scene<impl Runtime>) {
    let server = echo();
    let (client, mut events) = scene.connect(config_for(&server));
    online(&mut events).await;
    client.send("over TLS").unwrap();
    assert_eq!(message(&mut events).await, Message::text("over TLS"));
    client.close(CloseCode::Normal, "done");
    assert_eq!(closed(&mut events).await, None);
    let end = server.wait_connection(0, SOON).unwrap().wait_end(SOON).unwrap();
    let ConnectionEnd::Closed { by_server: false, frame: Some(frame) } = end else { panic!("{end:?}") };
    assert_eq!((frame.code, frame.reason.as_str()), (CloseCode::Normal, "done"));
    assert_eq!(server.failures(), Vec::<String>::new());
}

/// What the session says about a server with this fault, and that it gives up at once.
async fn stops_at(scene: &Scene<impl Runtime>, fault: TlsFault) -> TlsError {
    let server = MockServer::builder().tls_with(fault).start();
    let (_client, mut events) = scene.connect(config_for(&server));
    let first = next(&mut events).await;
    let OwnedEvent::AttemptFailed { failures: 1, error, retry_at: None } = first else {
        panic!("{fault:?}: {first:?}")
    };
    assert_eq!(closed(&mut events).await, Some(error.clone()), "{fault:?}");
    assert_eq!((server.attempts(), server.connections()), (1, 0), "{fault:?}");
    let Error::Tls(error) = error else { panic!("{fault:?}: {error:?}") };
    error
}

async fn a_certificate_that_cannot_be_accepted_ends_the_session(scene: &Scene<impl Runtime>) {
    for fault in [TlsFault::UnknownIssuer, TlsFault::SelfSigned] {
        let error = stops_at(scene, fault).await;
        assert_eq!(error, TlsError::Certificate(CertificateProblem::UnknownIssuer), "{fault:?}");
    }
    let error = stops_at(scene, TlsFault::Expired).await;
    assert!(matches!(error, TlsError::Certificate(CertificateProblem::Expired { .. })), "{error:?}");
    let error = stops_at(scene, TlsFault::NotYetValid).await;
    assert!(matches!(error, TlsError::Certificate(CertificateProblem::NotYetValid { .. })), "{error:?}");
    let error = stops_at(scene, TlsFault::WrongName).await;
    let TlsError::Certificate(CertificateProblem::WrongName { expected, presented, omitted: 0 }) = &error
    else {
        panic!("{error:?}")
    };
    assert_eq!(expected.as_deref(), Some("localhost"));
    assert!(presented.iter().any(|name| name.contains("wrong.invalid")), "{presented:?}");
}

async fn a_peer_that_speaks_plain_http_ends_the_session(scene: &Scene<impl Runtime>) {
    assert_eq!(stops_at(scene, TlsFault::PlainHttp).await, TlsError::NotTls { http: true });
}

async fn a_server_that_wants_a_certificate_gets_it_or_ends_the_session(scene: &Scene<impl Runtime>) {
    let error = stops_at(scene, TlsFault::ClientCertificateRequired).await;
    let TlsError::Alert(alert) = error else { panic!("{error:?}") };
    // certificate_required (RFC 8446 section 6).
    assert_eq!(alert.code(), 116);

    let server = MockServer::builder().tls_with(TlsFault::ClientCertificateRequired).start();
    let identity = server.client_identity().unwrap();
    let tls =
        trusting(&server).client_certificate_pem(identity.cert_pem.as_bytes(), identity.key_pem.as_bytes());
    let (_client, mut events) = scene.connect(config_for(&server).tls(tls.unwrap()));
    online(&mut events).await;
}

async fn only_a_close_notify_makes_an_end_an_end(scene: &Scene<impl Runtime>) {
    let truncating = MockServer::builder().tls_with(TlsFault::NoCloseNotify).start();
    let orderly = MockServer::builder().tls().start();
    for (server, expected) in
        [(truncating, Error::Tls(TlsError::Truncated)), (orderly, Error::Disconnected(Disconnect::Eof))]
    {
        let (_client, mut events) = scene.connect(config_for(&server));
        online(&mut events).await;
        let conn = server.wait_connection(0, SOON).unwrap();
        conn.send_text("whole");
        conn.hang_up();
        assert_eq!(message(&mut events).await, Message::text("whole"));
        assert_eq!(lost(&mut events).await, expected);
        assert_eq!(online(&mut events).await.as_u64(), 2, "both are reasons to connect again");
    }
}

/// A resumed handshake has no certificate and no signature in it, which is most of a full one.
async fn the_session_is_resumed_on_reconnect(scene: &Scene<impl Runtime>) {
    let server = echo();
    let config = config_for(&server);
    let tls = trusting(&server);
    assert!(Arc::ptr_eq(&tls.client_config().unwrap(), &tls.clone().client_config().unwrap()));
    let (client, mut events) = scene.connect(config.ping_interval(None).tls(tls));
    let mut received = Vec::new();
    let mut before = 0;
    for n in 0..4 {
        online(&mut events).await;
        // The answer comes behind the tickets, which TLS 1.3 sends after the handshake.
        client.send("are the tickets here?").unwrap();
        message(&mut events).await;
        let total = client.stats().bytes_received;
        received.push(total - before);
        before = total;
        if n < 3 {
            client.reconnect();
            assert_eq!(lost(&mut events).await, Error::Reconnect);
        }
    }
    assert_eq!(client.stats().connections, 4);
    for resumed in &received[1..] {
        assert!(resumed + 400 < received[0], "bytes received by each connection: {received:?}");
    }
}

async fn big_messages_go_both_ways_against_backpressure(scene: &Scene<impl Runtime>) {
    const COUNT: u64 = 16;
    const LEN: usize = 1 << 20;
    // When there is room again is up to chance.
    scene.log_as(|event| if matches!(event, OwnedEvent::Writable) { None } else { describe(event) });
    let server = echo();
    let (client, mut events) = scene.connect(config_for(&server).send_buffer(2 << 20));
    online(&mut events).await;
    // Until nothing more is taken, the server reads nothing.
    let conn = server.last().unwrap();
    conn.stall(true);
    let (mut sent, mut received, mut refused) = (0, 0, 0);
    while received < COUNT {
        while sent < COUNT {
            match client.send(&noise(sent, LEN)[..]) {
                Ok(_) => sent += 1,
                Err(SendError::Full) => {
                    refused += 1;
                    conn.stall(false);
                    break;
                }
                Err(error) => panic!("message {sent}: {error}"),
            }
        }
        let got = message(&mut events).await;
        assert_eq!(got.len(), LEN);
        assert!(got.into_data() == noise(received, LEN), "echo {received} differs");
        received += 1;
    }
    assert!(refused > 0, "16 MiB do not fit into a send buffer of 2 MiB, nor into those of sockets");
    client.close(CloseCode::Normal, "");
    assert_eq!(closed(&mut events).await, None);
    assert_eq!(client.stats().connections, 1);
}
