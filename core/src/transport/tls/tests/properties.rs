//! Whatever the chunks, whatever the bytes.

use proptest::prelude::*;

use super::*;

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    /// However the bytes are cut, both sides get what was sent.
    #[test]
    fn both_directions_in_any_chunks(
        tls13: bool,
        steps in prop::collection::vec(prop_oneof![1_usize..8, 1_usize..40_000], 1..200),
        take in prop_oneof![1_usize..50, 1_usize..70_000],
        up in prop::collection::vec(1_usize..20_000, 0..6),
        down in prop::collection::vec(1_usize..20_000, 0..6),
    ) {
        let mut link = Link::good(if tls13 { &TLS13 } else { &TLS12 });
        let mut steps = steps.into_iter();
        link.run_in_steps(&mut steps, take);
        prop_assert!(!link.client.is_handshaking());
        let (mut sent_up, mut sent_down) = (Vec::new(), Vec::new());
        for len in down {
            sent_down.extend(bytes(len));
            link.server.writer().write_all(&bytes(len)).unwrap();
            link.run_in_steps(&mut steps, take);
        }
        for len in up {
            let piece = bytes(len);
            prop_assert_eq!(link.client.write_plaintext(&piece), len);
            sent_up.extend(piece);
            link.run_in_steps(&mut steps, take);
        }
        prop_assert_eq!(link.client_error, None);
        prop_assert!(link.client_got == sent_down);
        prop_assert!(link.server_got == sent_up);
    }

    /// Bytes that are not TLS, or damaged on the way, end the connection: no panic, no spin, nothing made up.
    #[test]
    fn damage_never_panics_and_never_delivers(
        tls13: bool,
        at in 0_usize..6_000,
        flip in 1_u8..,
        step in 1_usize..3_000,
    ) {
        let mut link = Link::good(if tls13 { &TLS13 } else { &TLS12 });
        let sent = bytes(3_000);
        // Sent by the server and handed to the client so far; `at` counts in the same way.
        let (mut answered, mut received, mut damaged) = (false, 0, false);
        loop {
            let mut moved = link.upload(usize::MAX);
            if !link.server.is_handshaking() && link.server_error.is_none() && !answered {
                link.server.writer().write_all(&sent).unwrap();
                link.server.send_close_notify();
                answered = true;
            }
            while link.server.wants_write() {
                link.server.write_tls(&mut link.in_flight).unwrap();
            }
            if !damaged && (received..received + link.in_flight.len()).contains(&at) {
                link.in_flight[at - received] ^= flip;
                damaged = true;
            }
            let len = link.download(step);
            received += len;
            moved += len + link.take(5_000);
            if moved == 0 {
                break;
            }
        }
        // Whatever the damage did, what came out is what was sent, as far as it came.
        prop_assert!(sent.starts_with(&link.client_got));
        // A clean end has everything.
        prop_assert!(!link.client.peer_closed() || link.client_got == sent);
        prop_assert!(damaged || link.client_got == sent);
    }

    #[test]
    fn garbage_never_panics(garbage in prop::collection::vec(any::<u8>(), 0..5_000), step in 1_usize..5_000) {
        let mut client = TlsStream::new(&trusting_ca(), "localhost").unwrap();
        for piece in garbage.chunks(step) {
            let room = client.recv_buffer();
            room[..piece.len()].copy_from_slice(piece);
            client.handle_received(piece.len());
            let _ = client.read_plaintext(&mut [0; 64]);
        }
        prop_assert!(client.is_handshaking());
        prop_assert!(client.handle_eof().is_err());
    }
}
