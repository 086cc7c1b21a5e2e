//! Random races, against a reckoning.

use super::common::*;
use super::*;
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};

/// What an address does, in milliseconds after it was begun.
#[derive(Debug, Clone, Copy)]
enum Does {
    Connect(u64),
    Refuse(u64),
    Nothing,
}

/// Random races, against a reckoning that looks at the whole race at once.
#[test]
fn any_race_is_run_as_reckoned() {
    for seed in 0..500_u64 {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        let mut below = |n: u64| rng.next_u64() % n;
        let delay = 10 + below(200);
        let timeout = 200 + below(1200);
        let names = ["4a", "4b", "4c", "4d", "4e", "4f"];
        let count = 1 + below(6) as usize;
        let plan: Vec<Does> = (0..count)
            .map(|_| match below(4) {
                0 => Does::Connect(below(500)),
                1 | 2 => Does::Refuse(below(300)),
                _ => Does::Nothing,
            })
            .collect();

        // When each is begun, if nothing ends the race.
        let mut begins = vec![0];
        for n in 1..count {
            let patience = begins[n - 1] + delay;
            begins.push(match plan[n - 1] {
                Does::Refuse(after) => patience.min(begins[n - 1] + after),
                _ => patience,
            });
        }
        let wins = (0..count).filter_map(|n| match plan[n] {
            Does::Connect(after) if begins[n] + after < timeout => Some((begins[n] + after, n)),
            _ => None,
        });
        let won = wins.min();
        let all_refuse = plan.iter().all(|does| matches!(does, Does::Refuse(_)));
        let last = (0..count).filter_map(|n| match plan[n] {
            Does::Refuse(after) => Some(begins[n] + after),
            _ => None,
        });
        let lost = last.max().filter(|at| all_refuse && *at < timeout);
        let end = won.map(|(at, _)| at).or(lost).unwrap_or(timeout);

        let config = named().race_delay(millis(delay)).connect_timeout(millis(timeout));
        let mut h = racing(config, &names[..count].join(" "));
        let mut gone = vec![];
        'race: for ms in 0..=timeout {
            h.now = start().instant + millis(ms);
            // What the network says at a moment is heard before the timers of that moment are run.
            loop {
                let due = (0..h.conns.len()).find(|n| {
                    let at = h.conns[*n].at.duration_since(start().instant).as_millis() as u64;
                    let after = match plan[*n] {
                        Does::Connect(after) | Does::Refuse(after) => at + after,
                        Does::Nothing => u64::MAX,
                    };
                    after == ms && ms < timeout && !gone.contains(n)
                });
                let Some(n) = due else {
                    let begun = h.conns.len();
                    h.run();
                    if h.conns.len() == begun {
                        break;
                    }
                    continue;
                };
                gone.push(n);
                if let Does::Connect(_) = plan[n] {
                    h.s.handle_connected(h.conns[n].id, h.now);
                    h.run();
                    break 'race;
                }
                fail(&mut h, n);
                if !h.events.is_empty() {
                    break 'race;
                }
            }
            h.run();
            if !h.events.is_empty() {
                break;
            }
        }
        let told = h.told();
        let context = format!("seed {seed}: {plan:?}, delay {delay}, timeout {timeout}: {told:?}");
        assert_eq!(h.now.duration_since(start().instant), millis(end), "{context}");
        for (n, conn) in h.conns.iter().enumerate() {
            assert_eq!(conn.at.duration_since(start().instant), millis(begins[n]), "{n} {context}");
            let winner = won.is_some_and(|(_, winner)| winner == n);
            let refused = gone.contains(&n) && matches!(plan[n], Does::Refuse(_));
            assert_eq!(conn.dropped, !winner && !refused, "{n} {context}");
        }
        assert!(begins.get(h.conns.len()).is_none_or(|next| *next >= end), "{context}");
        match (won, lost) {
            (Some((_, winner)), _) => {
                assert!(told.is_empty(), "{context}");
                h.flush(winner);
                let response = accept(&h.conns[winner].written, "");
                h.feed(winner, &response);
                assert_eq!(brief(&mut h), ["online false"], "{context}");
            }
            (None, Some(_)) => assert!(
                matches!(told[..], [OwnedEvent::AttemptFailed { error: Error::Connect { .. }, .. }]),
                "{context}"
            ),
            (None, None) => assert!(
                matches!(
                    told[..],
                    [OwnedEvent::AttemptFailed { error: Error::Timeout(Timeout::Connect), .. }]
                ),
                "{context}"
            ),
        }
    }
}
