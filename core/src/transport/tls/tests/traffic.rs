//! What goes right: handshakes, data, backpressure, closing.

use super::*;

#[test]
fn agrees_and_says_on_what() {
    for version in VERSIONS {
        let mut link = Link::good(version);
        assert!(link.client.is_handshaking());
        assert_eq!(link.client.handshake_info(), None);
        assert_eq!(link.client.write_plaintext(b"too early"), 0);
        link.run();
        let info = link.client.handshake_info().unwrap();
        let (protocol, suite) =
            if version == &TLS13 { ("TLS 1.3", "TLS_") } else { ("TLS 1.2", "TLS_ECDHE_") };
        assert_eq!((info.protocol, info.alpn.as_deref(), info.resumed), (protocol, Some("http/1.1"), false));
        assert!(info.cipher_suite.starts_with(suite), "{info:?}");
        assert!(!link.client.peer_closed());
        assert!(link.server_got.is_empty());
        let text = format!("{:?}", link.client);
        assert!(text.contains("handshaking: false") && text.len() < 200, "{text}");
    }
}

#[test]
fn a_slow_reader_stops_the_reading_and_loses_nothing() {
    for version in VERSIONS {
        let mut link = Link::connected(version);
        let sent = bytes(1 << 20);
        link.server.set_buffer_limit(None);
        link.server.writer().write_all(&sent).unwrap();
        let mut stops = 0;
        while link.client_got.len() < sent.len() {
            link.download(usize::MAX);
            assert!(link.take(1_000) > 0);
            if link.client.recv_buffer().is_empty() {
                stops += 1;
                assert_eq!(link.download(usize::MAX), 0);
            } else {
                assert!(link.client.recv_buffer().len() >= MAX_RECORD);
            }
        }
        assert!(stops > 900, "{stops}");
        assert!(link.client_got == sent);
        // With everything taken there is room again.
        assert_eq!(link.take(10), 0);
        assert_eq!(link.client.recv_buffer().len(), RECV_CAPACITY);
    }
}

#[test]
fn several_records_come_out_of_one_call() {
    for version in VERSIONS {
        let mut link = Link::connected(version);
        for record in 0..50_u8 {
            link.server.writer().write_all(&[record; 100]).unwrap();
        }
        link.download(usize::MAX);
        assert_eq!(link.take(0), 0);
        assert_eq!(link.take(4_999), 4_999);
        assert!(link.client.recv_buffer().is_empty());
        assert_eq!(link.take(10_000), 1);
        assert_eq!(link.client.recv_buffer().len(), RECV_CAPACITY);
        assert_eq!(link.take(10_000), 0);
    }
}

#[test]
fn a_slow_socket_stops_the_writing_and_loses_nothing() {
    for version in VERSIONS {
        let mut link = Link::connected(version);
        let sent = bytes(1 << 20);
        let mut rest = &sent[..];
        while !rest.is_empty() || !link.client.transmit().is_empty() {
            rest = &rest[link.client.write_plaintext(rest)..];
            let waiting = link.client.transmit().len();
            assert!(waiting < TRANSMIT_LIMIT + MAX_RECORD, "{waiting}");
            assert!(waiting < TRANSMIT_LIMIT || link.client.write_plaintext(b"x") == 0);
            assert!(link.client.out.len() <= 2 * (TRANSMIT_LIMIT + MAX_RECORD));
            // A little at a time: the bytes still to be written must stay the same.
            let expected = link.client.transmit()[waiting.min(777)..].to_vec();
            link.upload(777);
            assert!(link.client.transmit() == expected);
        }
        assert!(link.server_got == sent);
    }
}

#[test]
fn what_was_transmitted_is_gone_and_counts_cannot_overshoot() {
    let mut link = Link::connected(&TLS13);
    assert_eq!(link.client.write_plaintext(b"hello"), 5);
    link.client.handle_transmitted(usize::MAX);
    assert!(link.client.transmit().is_empty());
    link.client.handle_transmitted(1);
    assert!(link.client.transmit().is_empty());
    link.client.handle_received(0);
    assert_eq!(link.take(10), 0);
    // More than there is room for is a bug of the driver; the stream fails and does not panic.
    link.client.handle_received(usize::MAX);
    assert!(matches!(link.client.read_plaintext(&mut [0; 10]), Err(TlsError::Protocol(_))));
}

#[test]
fn after_close_notify_one_can_still_send_and_what_comes_is_dropped() {
    for version in VERSIONS {
        let mut link = Link::connected(version);
        link.server.send_close_notify();
        while link.server.wants_write() {
            link.server.write_tls(&mut link.in_flight).unwrap();
        }
        link.in_flight.extend(bytes(9_000));
        link.run();
        assert!(link.client.peer_closed() && link.in_flight.is_empty());
        assert_eq!(link.client.write_plaintext(b"last words"), 10);
        link.client.close_notify();
        link.client.close_notify();
        assert_eq!(link.client.write_plaintext(b"no more"), 0);
        link.run();
        assert_eq!(link.server_got, b"last words");
        assert!(link.server.process_new_packets().unwrap().peer_has_closed());
        let room = link.client.recv_buffer();
        assert_eq!(room.len(), RECV_CAPACITY);
        room[..7].copy_from_slice(b"garbage");
        link.client.handle_received(7);
        assert_eq!(link.client.read_plaintext(&mut [0; 10]), Ok(0));
        assert_eq!(link.client.handle_eof(), Ok(()));
    }
}

#[test]
fn a_client_certificate_is_accepted_or_refused_by_its_issuer() {
    for version in VERSIONS {
        let ours = Identity::for_names(&["client"]);
        let config = trusting_ca()
            .client_certificate_pem(ours.pem.as_bytes(), ours.key.serialize_pem().as_bytes())
            .unwrap();
        let mut link = Link::new(&config, "localhost", &demanding_server(version));
        link.run();
        assert_eq!(link.client.write_plaintext(b"hello"), 5);
        link.run();
        assert_eq!((link.client_error, link.server_error), (None, None));
        assert_eq!(link.server_got, b"hello");
        assert_eq!(link.server.peer_certificates().unwrap(), &ours.chain[..]);

        let theirs = Identity::issue(&authority("a stranger"), &names_params(&["client"]));
        let config = trusting_ca()
            .client_certificate_pem(theirs.pem.as_bytes(), theirs.key.serialize_pem().as_bytes())
            .unwrap();
        let (error, _) = Link::new(&config, "localhost", &demanding_server(version)).failure();
        assert!(matches!(error, TlsError::Alert(alert) if alert.code() == 48), "{error:?}");
    }
}

#[test]
fn an_ip_address_is_a_name_too() {
    for version in VERSIONS {
        let server = server_config(&Identity::for_names(&["127.0.0.1", "::1"]), version);
        for name in ["127.0.0.1", "::1"] {
            let mut link = Link::new(&trusting_ca(), name, &server);
            link.run();
            assert_eq!((link.client_error, link.client.is_handshaking()), (None, false));
        }
        let (error, _) = Link::new(&trusting_ca(), "127.0.0.2", &server).failure();
        assert!(error.to_string().contains("\"127.0.0.2\" but for 127.0.0.1, ::1"), "{error}");
    }
}

#[test]
fn a_second_connection_resumes_the_session() {
    for version in VERSIONS {
        let server = server_config(&Identity::for_names(&["localhost"]), version);
        let config = trusting_ca();
        let mut resumed = Vec::new();
        for config in [config.clone(), config.clone(), config, trusting_ca()] {
            let mut link = Link::new(&config, "localhost", &server);
            link.run();
            link.server.writer().write_all(b"hello").unwrap();
            link.run();
            assert_eq!(link.client_got, b"hello");
            resumed.push(link.client.handshake_info().unwrap().resumed);
        }
        // The last one is another configuration, which shares nothing.
        assert_eq!(resumed, [false, true, true, false]);
    }
}

#[test]
fn traffic_goes_on_over_key_updates() {
    // TLS 1.3 only: TLS 1.2 has none.
    let mut link = Link::connected(&TLS13);
    for round in 0..10_u8 {
        link.server.refresh_traffic_keys().unwrap();
        link.server.writer().write_all(&[round; 100]).unwrap();
        link.run();
        assert_eq!(link.client.write_plaintext(&[round; 50]), 50);
        link.run();
    }
    assert_eq!((link.client_got.len(), link.server_got.len()), (1_000, 500));
    assert_eq!((link.client_error, link.server_error), (None, None));
}

#[test]
fn used_up_keys_are_reported_in_tls_1_2_and_renewed_in_tls_1_3() {
    let limited = |suite: &SupportedCipherSuite| match suite {
        SupportedCipherSuite::Tls12(suite) => {
            let mut common = common(&suite.common);
            common.confidentiality_limit = 20;
            SupportedCipherSuite::Tls12(Box::leak(Box::new(rustls::Tls12CipherSuite { common, ..**suite })))
        }
        SupportedCipherSuite::Tls13(suite) => {
            let mut common = common(&suite.common);
            common.confidentiality_limit = 20;
            SupportedCipherSuite::Tls13(Box::leak(Box::new(rustls::Tls13CipherSuite { common, ..**suite })))
        }
    };
    let mut crypto = CryptoProvider::clone(&provider());
    crypto.cipher_suites = crypto.cipher_suites.iter().map(limited).collect();
    let custom = ClientConfig::builder_with_provider(Arc::new(crypto))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(ca_store())
        .with_no_client_auth();
    let config = TlsConfig::custom(Arc::new(custom));
    for version in VERSIONS {
        let server = server_config(&Identity::for_names(&["localhost"]), version);
        let mut link = Link::new(&config, "localhost", &server);
        link.run();
        let mut accepted = 0;
        let mut ticks = 0;
        for _ in 0..100 {
            if link.client_error.is_none() {
                // On its way and not decrypted when the keys run out: it must not be lost.
                link.server.writer().write_all(b"tick").unwrap();
                link.download(usize::MAX);
                ticks += 1;
            }
            accepted += link.client.write_plaintext(b"hello!");
            link.run();
        }
        assert_eq!(link.client_got, b"tick".repeat(ticks));
        assert_eq!(link.server_got, b"hello!".repeat(accepted / 6));
        if version == &TLS13 {
            assert_eq!((accepted, link.client_error), (600, None));
        } else {
            assert!((10 * 6..20 * 6).contains(&accepted), "{accepted}");
            assert_eq!(link.client_error, Some(TlsError::KeysExhausted));
            assert!(!TlsError::KeysExhausted.is_fatal_config());
            // The server got close_notify, not an error.
            assert_eq!(link.server_error, None);
            assert!(link.server.process_new_packets().unwrap().peer_has_closed());
        }
    }
}

fn common(of: &rustls::crypto::CipherSuiteCommon) -> rustls::crypto::CipherSuiteCommon {
    rustls::crypto::CipherSuiteCommon { ..*of }
}

/// Roots added to a source of trust are trusted, and what it trusts itself still is: a stranger is not.
fn trusts_added_roots(config: TlsConfig) {
    let strange = authority("a stranger");
    let config = config.add_ca_pem(CA.pem().as_bytes()).unwrap();
    for version in VERSIONS {
        let server = server_config(&Identity::for_names(&["localhost"]), version);
        let mut link = Link::new(&config, "localhost", &server);
        link.run();
        assert_eq!((link.client_error, link.client.is_handshaking()), (None, false));
        let stranger = Identity::issue(&strange, &names_params(&["localhost"]));
        let (error, _) = Link::new(&config, "localhost", &server_config(&stranger, version)).failure();
        assert_eq!(error, TlsError::Certificate(CertificateProblem::UnknownIssuer));
    }
}

#[test]
fn private_authorities_add_up() {
    trusts_added_roots(TlsConfig::with_ca_pem(authority("another CA").pem().as_bytes()).unwrap());
}

// The verifiers of other systems refuse such simple certificates for reasons of their own.
#[test]
#[cfg(all(feature = "tls-platform-verifier", target_os = "linux"))]
fn the_platforms_trust_can_be_extended() {
    trusts_added_roots(TlsConfig::platform());
}

#[test]
#[cfg(feature = "tls-webpki-roots")]
fn mozillas_trust_can_be_extended() {
    trusts_added_roots(TlsConfig::webpki_roots());
}
