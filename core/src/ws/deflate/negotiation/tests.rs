//! Offers and answers: tables of what may be agreed on, and any header at all.

use super::*;
use NegotiationError as E;

fn config(snct: bool, cnct: bool, server_bits: u8, client_bits: u8) -> DeflateConfig {
    DeflateConfig {
        server_no_context_takeover: snct,
        client_no_context_takeover: cnct,
        server_max_window_bits: server_bits,
        client_max_window_bits: client_bits,
        ..DeflateConfig::default()
    }
}

fn params(snct: bool, cnct: bool, server_bits: u8, client_bits: u8) -> DeflateParams {
    DeflateParams {
        server_no_context_takeover: snct,
        client_no_context_takeover: cnct,
        server_max_window_bits: server_bits,
        client_max_window_bits: client_bits,
    }
}

#[test]
fn offers() {
    for (config, offer) in [
        (DeflateConfig::default(), "permessage-deflate; client_max_window_bits"),
        (
            config(true, false, 15, 15),
            "permessage-deflate; server_no_context_takeover; client_max_window_bits",
        ),
        (
            config(false, true, 15, 9),
            "permessage-deflate; client_no_context_takeover; client_max_window_bits=9",
        ),
        (
            config(true, true, 8, 14),
            "permessage-deflate; server_no_context_takeover; client_no_context_takeover; \
             server_max_window_bits=8; client_max_window_bits=14",
        ),
    ] {
        config.validate().unwrap();
        assert_eq!(config.offer(), offer);
    }
}

#[test]
fn answers_to_the_default_offer() {
    let full = params(false, false, 15, 15);
    #[rustfmt::skip]
    let good: &[(&[&str], Option<DeflateParams>)] = &[
        (&[], None),
        (&[""], None),
        (&[" , \t,"], None),
        (&["permessage-deflate"], Some(full)),
        (&["", "permessage-deflate"], Some(full)),
        (&[" \tpermessage-deflate\t "], Some(full)),
        (&[",permessage-deflate, ,"], Some(full)),
        (&["permessage-deflate; server_no_context_takeover"], Some(params(true, false, 15, 15))),
        (&["permessage-deflate;client_no_context_takeover"], Some(params(false, true, 15, 15))),
        (&["permessage-deflate; server_max_window_bits=8"], Some(params(false, false, 8, 15))),
        (&["permessage-deflate; server_max_window_bits=15"], Some(full)),
        (&["permessage-deflate; client_max_window_bits=8"], Some(params(false, false, 15, 8))),
        (&["permessage-deflate; client_max_window_bits=15"], Some(full)),
        (&["permessage-deflate ; client_max_window_bits = 12"], Some(params(false, false, 15, 12))),
        (&["permessage-deflate; client_max_window_bits=\"12\""], Some(params(false, false, 15, 12))),
        (&["permessage-deflate; client_max_window_bits=\"1\\0\" "], Some(params(false, false, 15, 10))),
        (
            &["permessage-deflate; client_max_window_bits=11; server_no_context_takeover; \
               server_max_window_bits=13; client_no_context_takeover"],
            Some(params(true, true, 13, 11)),
        ),
    ];
    for (response, expected) in good {
        assert_eq!(DeflateConfig::default().accept(response), Ok(*expected), "{response:?}");
    }

    #[rustfmt::skip]
    let bad: &[(&[&str], NegotiationError)] = &[
        (&["permessage-bzip2"], E::UnknownExtension("permessage-bzip2".into())),
        (&["x-webkit-deflate-frame"], E::UnknownExtension("x-webkit-deflate-frame".into())),
        (&["Permessage-Deflate"], E::UnknownExtension("Permessage-Deflate".into())),
        (&["permessage-deflate, mux"], E::UnknownExtension("mux".into())),
        (&["mux; max-channels=4, permessage-deflate"], E::UnknownExtension("mux".into())),
        (&["permessage-deflate, permessage-deflate"], E::DuplicateExtension),
        (&["permessage-deflate", "permessage-deflate; server_max_window_bits=9"], E::DuplicateExtension),
        (&["permessage-deflate; window=9"], E::UnknownParameter("window".into())),
        (&["permessage-deflate; SERVER_MAX_WINDOW_BITS=9"], E::UnknownParameter("SERVER_MAX_WINDOW_BITS".into())),
        (&["permessage-deflate; server_no_context_takeover; server_no_context_takeover"], E::DuplicateParameter(SERVER_NO_CONTEXT_TAKEOVER)),
        (&["permessage-deflate; client_no_context_takeover; client_no_context_takeover"], E::DuplicateParameter(CLIENT_NO_CONTEXT_TAKEOVER)),
        (&["permessage-deflate; server_max_window_bits=9; server_max_window_bits=9"], E::DuplicateParameter(SERVER_MAX_WINDOW_BITS)),
        (&["permessage-deflate; client_max_window_bits=9; client_max_window_bits=10"], E::DuplicateParameter(CLIENT_MAX_WINDOW_BITS)),
        (&["permessage-deflate; server_no_context_takeover=true"], E::UnexpectedValue(SERVER_NO_CONTEXT_TAKEOVER)),
        (&["permessage-deflate; client_no_context_takeover=\"1\""], E::UnexpectedValue(CLIENT_NO_CONTEXT_TAKEOVER)),
        (&["permessage-deflate; server_max_window_bits"], E::MissingValue(SERVER_MAX_WINDOW_BITS)),
        (&["permessage-deflate; client_max_window_bits"], E::MissingValue(CLIENT_MAX_WINDOW_BITS)),
        (&["permessage-deflate; server_max_window_bits=7"], E::InvalidWindowBits(SERVER_MAX_WINDOW_BITS)),
        (&["permessage-deflate; server_max_window_bits=16"], E::InvalidWindowBits(SERVER_MAX_WINDOW_BITS)),
        (&["permessage-deflate; server_max_window_bits=08"], E::InvalidWindowBits(SERVER_MAX_WINDOW_BITS)),
        (&["permessage-deflate; client_max_window_bits=010"], E::InvalidWindowBits(CLIENT_MAX_WINDOW_BITS)),
        (&["permessage-deflate; client_max_window_bits=+9"], E::InvalidWindowBits(CLIENT_MAX_WINDOW_BITS)),
        (&["permessage-deflate; client_max_window_bits=0"], E::InvalidWindowBits(CLIENT_MAX_WINDOW_BITS)),
        (&["permessage-deflate; client_max_window_bits=-9"], E::InvalidWindowBits(CLIENT_MAX_WINDOW_BITS)),
        (&["permessage-deflate; client_max_window_bits=99999999999999999999"], E::InvalidWindowBits(CLIENT_MAX_WINDOW_BITS)),
        (&["permessage-deflate; client_max_window_bits=0x9"], E::InvalidWindowBits(CLIENT_MAX_WINDOW_BITS)),
        (&["permessage-deflate; client_max_window_bits=nine"], E::InvalidWindowBits(CLIENT_MAX_WINDOW_BITS)),
        (&["permessage-deflate; client_max_window_bits="], E::Syntax),
        (&["permessage-deflate; client_max_window_bits=\"\""], E::Syntax),
        (&["permessage-deflate; client_max_window_bits=\"9"], E::Syntax),
        (&["permessage-deflate; client_max_window_bits=\"9\\"], E::Syntax),
        (&["permessage-deflate; client_max_window_bits=\" 9\""], E::Syntax),
        (&["permessage-deflate; client_max_window_bits=9\"9\""], E::Syntax),
        (&["permessage-deflate; client_max_window_bits=\"12\"5"], E::Syntax),
        (&["permessage-deflate; client_max_window_bits=12 5"], E::Syntax),
        (&["permessage-deflate; client_max_window_bits==9"], E::Syntax),
        (&["permessage-deflate; =9"], E::Syntax),
        (&["permessage-deflate;"], E::Syntax),
        (&["permessage-deflate;; server_no_context_takeover"], E::Syntax),
        (&["; server_no_context_takeover"], E::Syntax),
        (&["permessage-deflate server_no_context_takeover"], E::Syntax),
        (&["permessage-deflate=1"], E::Syntax),
        (&["permessage-deflate/1"], E::Syntax),
        (&["\"permessage-deflate\""], E::Syntax),
        (&["permessage-deflate\u{a0}"], E::Syntax),
        (&["permessage-deflate; server_max_window_bits=\u{661}\u{660}"], E::Syntax),
        (&["permessage-deflate; server_max_window_bits=\"1\\\u{660}\""], E::Syntax),
        (&["\u{fc}"], E::Syntax),
        (&["\0"], E::Syntax),
    ];
    for (response, expected) in bad {
        assert_eq!(DeflateConfig::default().accept(response), Err(expected.clone()), "{response:?}");
        assert!(expected.to_string().len() > 40);
    }
}

#[test]
fn answers_to_an_offer_with_conditions() {
    let (context, windows, ours) =
        (config(true, false, 15, 15), config(false, false, 10, 12), config(false, true, 15, 15));
    #[rustfmt::skip]
    let rows: &[(&DeflateConfig, &str, Result<DeflateParams, NegotiationError>)] = &[
        // Section 7.1.1.1.
        (&context, "permessage-deflate", Err(E::ServerContextTakeover)),
        (&context, "permessage-deflate; client_no_context_takeover", Err(E::ServerContextTakeover)),
        (&context, "permessage-deflate; server_no_context_takeover", Ok(params(true, false, 15, 15))),
        // Section 7.1.1.2: we keep our word, answered or not.
        (&ours, "permessage-deflate", Ok(params(false, true, 15, 15))),
        (&ours, "permessage-deflate; client_no_context_takeover", Ok(params(false, true, 15, 15))),
        // Section 7.1.2.1.
        (&windows, "permessage-deflate", Err(E::ServerWindow { offered: 10, answered: None })),
        (&windows, "permessage-deflate; client_max_window_bits=9", Err(E::ServerWindow { offered: 10, answered: None })),
        (&windows, "permessage-deflate; server_max_window_bits=11", Err(E::ServerWindow { offered: 10, answered: Some(11) })),
        (&windows, "permessage-deflate; server_max_window_bits=15", Err(E::ServerWindow { offered: 10, answered: Some(15) })),
        (&windows, "permessage-deflate; server_max_window_bits=10", Ok(params(false, false, 10, 12))),
        (&windows, "permessage-deflate; server_max_window_bits=8", Ok(params(false, false, 8, 12))),
        // Section 7.1.2.2.
        (&windows, "permessage-deflate; server_max_window_bits=9; client_max_window_bits=12", Ok(params(false, false, 9, 12))),
        (&windows, "permessage-deflate; server_max_window_bits=9; client_max_window_bits=8", Ok(params(false, false, 9, 8))),
        (&windows, "permessage-deflate; server_max_window_bits=9; client_max_window_bits=13", Err(E::ClientWindow { offered: 12, answered: 13 })),
    ];
    for (config, response, expected) in rows {
        assert_eq!(config.accept(&[response]), expected.clone().map(Some), "{response:?}");
    }
    // Declining is always allowed.
    assert_eq!(windows.accept(&[]), Ok(None));
}

#[test]
fn names_in_errors_are_bounded() {
    let long = "x".repeat(10_000);
    assert_eq!(DeflateConfig::default().accept(&[&long]), Err(E::UnknownExtension("x".repeat(64))));
    assert_eq!(
        DeflateConfig::default().accept(&[&format!("permessage-deflate; {long}")]),
        Err(E::UnknownParameter("x".repeat(64)))
    );
}

#[test]
fn validation() {
    assert_eq!(DeflateConfig::default().validate(), Ok(()));
    for (field, range) in [(0, 8..=15), (1, 9..=15), (2, 0..=9)] {
        for value in 0..=255u8 {
            let mut config = DeflateConfig::default();
            let error = match field {
                0 => {
                    config.server_max_window_bits = value;
                    DeflateConfigError::ServerMaxWindowBits(value)
                }
                1 => {
                    config.client_max_window_bits = value;
                    DeflateConfigError::ClientMaxWindowBits(value)
                }
                _ => {
                    config.level = value;
                    DeflateConfigError::Level(value)
                }
            };
            let expected = if range.contains(&value) { Ok(()) } else { Err(error) };
            assert_eq!(config.validate(), expected);
        }
    }
}

proptest::proptest! {
    #[test]
    fn any_header_is_survived(values in proptest::collection::vec("\\PC*", 0..4)) {
        let values: Vec<&str> = values.iter().map(String::as_str).collect();
        let _ = DeflateConfig::default().accept(&values);
    }

    #[test]
    fn well_formed_answers_are_read(
        mut order in proptest::sample::subsequence(vec![0, 1, 2, 3], 0..=4),
        rotate in 0usize..4, server in 8u8..=15, client in 8u8..=15,
        space in "[ \t]{0,2}", quote in proptest::bool::ANY,
    ) {
        if !order.is_empty() {
            let by = rotate % order.len();
            order.rotate_left(by);
        }
        let mut header = String::from(EXTENSION);
        let mut expected = params(false, false, 15, 15);
        let quote = if quote { "\"" } else { "" };
        for parameter in order {
            header.push_str(&format!("{space};{space}"));
            match parameter {
                0 => {
                    header.push_str(SERVER_NO_CONTEXT_TAKEOVER);
                    expected.server_no_context_takeover = true;
                }
                1 => {
                    header.push_str(CLIENT_NO_CONTEXT_TAKEOVER);
                    expected.client_no_context_takeover = true;
                }
                2 => {
                    header.push_str(&format!("{SERVER_MAX_WINDOW_BITS}{space}={space}{quote}{server}{quote}"));
                    expected.server_max_window_bits = server;
                }
                _ => {
                    header.push_str(&format!("{CLIENT_MAX_WINDOW_BITS}={quote}{client}{quote}{space}"));
                    expected.client_max_window_bits = client;
                }
            }
        }
        proptest::prop_assert_eq!(DeflateConfig::default().accept(&[&header]), Ok(Some(expected)));
    }
}
