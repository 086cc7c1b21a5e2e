//! Messages for tests: real ones, and what becomes of them by chance.

/// A small generator (SplitMix64): the same seed, the same numbers.
pub(crate) struct Dice(u64);

impl Dice {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// A number below `end`, which is at least 1.
    pub(crate) fn below(&mut self, end: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % end
    }
}

/// Messages as the documents have them, some of which are odd.
pub(crate) const SHAPES: [&str; 16] = [
    r#"{"stream":"bnbbtc@depth@100ms","data":{"e":"depthUpdate","E":1672515782136,"s":"BNBBTC","U":157,"u":160,"b":[["0.0024","10"]],"a":[["0.0026","100"]]}}"#,
    r#"{"stream":"btcusdt@depth","data":{"e":"depthUpdate","E":123456789,"T":123456788,"s":"BTCUSDT","U":157,"u":160,"pu":149,"b":[],"a":[]}}"#,
    r#"{"stream":"bnbusdt@bookTicker","data":{"u":400900217,"s":"BNBUSDT","b":"25.35190000","B":"31.21000000","a":"25.36520000","A":"40.66000000"}}"#,
    r#"{"stream":"!ticker@arr","data":[{"e":"24hrTicker","E":1672515782136,"s":"BNBBTC","p":"0.0015"}]}"#,
    r#"{"stream":"!serverShutdown","data":{"e":"serverShutdown","E":1770123456789}}"#,
    r#"{"e":"serverShutdown","E":1770123456789}"#,
    r#"{"event":{"e":"serverShutdown","E":1770123456789}}"#,
    r#"{"subscriptionId":0,"event":{"e":"outboundAccountPosition","E":1728972148778,"u":1728972148778,"B":[{"a":"ABC","f":"11818.0","l":"182.0"}]}}"#,
    r#"{"result":null,"id":1}"#,
    r#"{"id":3,"result":["btcusdt@aggTrade"]}"#,
    r#"{"code":2,"msg":"Invalid request: unknown variant X","id":7}"#,
    r#"{"code":3,"msg":"Invalid JSON: expected value at line 1 column 2"}"#,
    r#"{"error":{"code":2,"msg":"Invalid request: invalid stream"},"id":2}"#,
    r#"{"id":9,"status":200,"result":{"orderId":1},"rateLimits":[{"rateLimitType":"ORDERS","interval":"SECOND","intervalNum":10,"limit":50,"count":12}]}"#,
    r#"{"id":null,"status":401,"error":{"code":-2015,"msg":"Invalid API-key, IP, or permissions for action."}}"#,
    r#"{"e":"listenKeyExpired","E":1736996475556,"listenKey":"WsCMN0a4KHUPTQuX6IUnqEZfB1inxmv1qR4kbf1LuEjur5VdbzqvyxqG9TSjVVxv"}"#,
];

/// One of them, often with something exchanged, cut or put in.
pub(crate) fn message(dice: &mut Dice) -> String {
    let shape = SHAPES[dice.below(16) as usize];
    spoil(shape, dice)
}

/// This text, often with something exchanged, cut or put in.
pub(crate) fn spoil(text: &str, dice: &mut Dice) -> String {
    const PIECES: [&str; 14] =
        ["\"", "\\", "\\u0041", "{", "}", "[", "]", ",", ":", "null", "-1", "1e9", "\"E\":", "\u{20ac}"];
    let mut text = text.to_owned();
    for _ in 0..dice.below(4) {
        let from = place(&text, dice);
        match dice.below(4) {
            0 => text.insert_str(from, PIECES[dice.below(14) as usize]),
            1 => {
                let to = place(&text, dice);
                text.replace_range(from.min(to)..from.max(to), PIECES[dice.below(14) as usize]);
            }
            2 => {
                let to = place(&text, dice);
                text.replace_range(from.min(to)..from.max(to), "");
            }
            // A key or value becomes another one.
            _ => {
                let words: Vec<&str> =
                    text.split(['"', ':', ',', '{', '}']).filter(|word| !word.is_empty()).collect();
                if let Some(word) = words.get(dice.below(words.len().max(1) as u64) as usize) {
                    let with = ["E", "U", "u", "pu", "id", "stream", "7", "\\n"][dice.below(8) as usize];
                    text = text.replacen(*word, with, 1);
                }
            }
        }
    }
    text
}

fn place(text: &str, dice: &mut Dice) -> usize {
    let mut at = dice.below(text.len() as u64 + 1) as usize;
    while !text.is_char_boundary(at) {
        at -= 1;
    }
    at
}
