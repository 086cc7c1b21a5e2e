//! What goes wrong, and how it is said.

use super::*;

#[test]
fn an_unknown_issuer_is_refused_and_told() {
    for version in VERSIONS {
        let stranger = Identity::issue(&authority("a stranger"), &names_params(&["localhost"]));
        let link = Link::new(&trusting_ca(), "localhost", &server_config(&stranger, version));
        let (error, mut link) = link.failure();
        assert_eq!(error, TlsError::Certificate(CertificateProblem::UnknownIssuer));
        assert!(error.is_fatal_config());
        assert!(error.to_string().contains("TlsConfig::with_ca_pem"), "{error}");
        assert_eq!(link.server_error, Some(RustlsError::AlertReceived(AlertDescription::UnknownCA)));
        // The same for ever, and nothing works any more.
        assert_eq!(link.client.read_plaintext(&mut [0; 10]), Err(error.clone()));
        assert_eq!(link.client.handle_eof(), Err(error));
        assert_eq!(link.client.write_plaintext(b"x"), 0);
        link.client.close_notify();
        assert!(link.client.transmit().is_empty());
    }
}

#[test]
fn the_alert_waits_in_transmit_after_a_failure() {
    for version in VERSIONS {
        let stranger = Identity::issue(&authority("a stranger"), &names_params(&["localhost"]));
        let mut link = Link::new(&trusting_ca(), "localhost", &server_config(&stranger, version));
        while link.client_error.is_none() {
            link.upload(usize::MAX);
            link.download(usize::MAX);
            link.take(100);
        }
        assert!(!link.client.transmit().is_empty());
        assert_eq!(link.server_error, None);
        link.upload(usize::MAX);
        assert_eq!(link.server_error, Some(RustlsError::AlertReceived(AlertDescription::UnknownCA)));
    }
}

#[test]
fn a_certificate_for_other_names_is_refused() {
    for version in VERSIONS {
        let other = Identity::for_names(&["www.example", "192.0.2.7"]);
        let (error, _) = Link::new(&trusting_ca(), "localhost", &server_config(&other, version)).failure();
        assert_eq!(
            error,
            TlsError::Certificate(CertificateProblem::WrongName {
                expected: Some("localhost".to_owned()),
                presented: vec!["www.example".to_owned(), "192.0.2.7".to_owned()],
                omitted: 0,
            })
        );
        let text = error.to_string();
        assert!(text.contains("\"localhost\" but for www.example, 192.0.2.7"), "{text}");
    }
}

#[test]
fn certificates_out_of_time_are_refused() {
    for version in VERSIONS {
        let mut params = names_params(&["localhost"]);
        params.not_after = rcgen::date_time_ymd(2020, 2, 29);
        let expired = Identity::issue(&CA, &params);
        let (error, _) = Link::new(&trusting_ca(), "localhost", &server_config(&expired, version)).failure();
        let TlsError::Certificate(CertificateProblem::Expired { not_after: Some(_), now: Some(_) }) = error
        else {
            panic!("{error:?}");
        };
        assert!(error.to_string().contains("expired (2020-02-29; here it is 2"), "{error}");

        let mut params = names_params(&["localhost"]);
        params.not_before = rcgen::date_time_ymd(4000, 1, 1);
        let early = Identity::issue(&CA, &params);
        let (error, _) = Link::new(&trusting_ca(), "localhost", &server_config(&early, version)).failure();
        assert!(error.to_string().contains("not valid yet (4000-01-01;"), "{error}");
    }
}

#[test]
fn a_ca_certificate_as_the_servers_own_is_explained() {
    for version in VERSIONS {
        let mut params = names_params(&["localhost"]);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().unwrap();
        let certificate = params.self_signed(&key).unwrap();
        let pem = certificate.pem();
        let identity = Identity { chain: vec![certificate.der().clone()], key, pem };
        let config = TlsConfig::with_ca_pem(identity.pem.as_bytes()).unwrap();
        let (error, _) = Link::new(&config, "localhost", &server_config(&identity, version)).failure();
        assert_eq!(error, TlsError::Certificate(CertificateProblem::CaUsedAsServer));
    }
}

#[test]
fn a_peer_without_tls_is_recognised() {
    for (answer, http) in
        [(&b"HTTP/1.1 400 Bad Request\r\n\r\n"[..], true), (b"220 mail.example ESMTP\r\n", false)]
    {
        for step in [1, 3, 100] {
            let mut client = TlsStream::new(&trusting_ca(), "localhost").unwrap();
            let mut result = Ok(0);
            for piece in answer.chunks(step) {
                assert_eq!(result, Ok(0));
                client.recv_buffer()[..piece.len()].copy_from_slice(piece);
                client.handle_received(piece.len());
                result = client.read_plaintext(&mut [0; 100]);
                if result.is_err() {
                    break;
                }
            }
            let error = result.unwrap_err();
            assert_eq!(error, TlsError::NotTls { http });
            assert!(error.to_string().contains("use ws://"), "{error}");
            assert!(error.is_fatal_config());
        }
    }
}

#[test]
fn an_end_with_close_notify_is_clean_and_without_it_is_not() {
    for version in VERSIONS {
        for clean in [true, false] {
            for taken_before in [0, 100] {
                let mut link = Link::connected(version);
                let sent = bytes(25_000);
                // Many records: rustls refuses more while over 16 KiB of plaintext wait.
                for piece in sent.chunks(500) {
                    link.server.writer().write_all(piece).unwrap();
                }
                if clean {
                    link.server.send_close_notify();
                }
                link.download(usize::MAX);
                assert!(link.in_flight.is_empty());
                // The end is reported before anybody has looked at the bytes.
                assert_eq!(link.take(taken_before), taken_before);
                let expected = if clean { Ok(()) } else { Err(TlsError::Truncated) };
                assert_eq!(link.client.handle_eof(), expected);
                assert_eq!(link.client.peer_closed(), clean);
                assert_eq!(link.client.read_plaintext(&mut []), Ok(0));
                while link.take(7_000) > 0 {}
                assert!(link.client_got == sent);
                assert_eq!(link.client_error, expected.clone().err());
                assert_eq!(link.client.handle_eof(), expected);
            }
        }
    }
}

#[test]
fn an_end_within_a_record_is_not_clean() {
    for version in VERSIONS {
        let mut link = Link::connected(version);
        link.server.writer().write_all(b"whole").unwrap();
        link.server.writer().write_all(&bytes(15_000)).unwrap();
        assert_eq!(link.download(9_000), 9_000);
        assert_eq!(link.client.handle_eof(), Err(TlsError::Truncated));
        // What came whole is delivered, and before the error.
        assert!(link.client.recv_buffer().is_empty());
        assert_eq!(link.client.read_plaintext(&mut []), Ok(0));
        assert_eq!(link.take(9_000), 5);
        assert_eq!(link.client_got, b"whole");
        assert_eq!(link.client.read_plaintext(&mut [0; 10]), Err(TlsError::Truncated));
        assert!(!TlsError::Truncated.is_fatal_config());
    }
}

#[test]
fn an_end_during_the_handshake_is_its_own_error() {
    for version in VERSIONS {
        for part in [0, 1, 100, 500] {
            let mut link = Link::good(version);
            link.upload(usize::MAX);
            assert_eq!(link.download(part), part);
            assert_eq!(link.take(100), 0);
            assert_eq!(link.client.handle_eof(), Err(TlsError::HandshakeEof));
            assert!(!TlsError::HandshakeEof.is_fatal_config());
        }
    }
}

#[test]
fn a_missing_client_certificate_is_reported_as_the_servers_alert() {
    for version in VERSIONS {
        let (error, _) = Link::new(&trusting_ca(), "localhost", &demanding_server(version)).failure();
        let TlsError::Alert(alert) = error else { panic!("{error:?}") };
        assert_eq!(alert.name(), Some("certificate_required"));
        assert!(error.is_fatal_config());
        assert!(error.to_string().contains("client_certificate_pem"), "{error}");
    }
}

#[test]
fn names_that_cannot_be_are_refused_at_once() {
    for name in ["", "[::1]", "fe80::1%eth0", "a b", "-x.example", "127.0.0.1:443", "b\u{fc}cher.example"] {
        let error = TlsStream::new(&trusting_ca(), name).unwrap_err();
        assert_eq!(error, TlsError::InvalidServerName(name.to_owned()));
        assert!(error.is_fatal_config());
    }
    assert!(TlsStream::new(&trusting_ca(), "host_1.example.").is_ok());
}
