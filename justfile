# The same steps as .ci/run, one by one. `just --list` shows them.

# What the continuous integration does.
ci: fmt clippy test doc examples

# All tests and doctests, and the core as small as it can be built.
test:
    cargo test --workspace
    cargo test -p everwire-core --no-default-features

fmt:
    cargo fmt --all --check

clippy:
    cargo clippy --workspace --all-targets -- -D warnings
    cargo clippy -p everwire-core --no-default-features --all-targets -- -D warnings

doc:
    RUSTDOCFLAGS="-D warnings" cargo doc --workspace --no-deps

# Examples are built; the demo runs, plain and encrypted.
examples:
    cargo build --workspace --examples
    cargo run -q -p everwire-cli -- demo
    cargo run -q -p everwire-cli -- demo --tls

# Conformance: every case of the Autobahn suite.
autobahn:
    tests/autobahn/run

# Each fuzz target for a minute; needs cargo-fuzz and a nightly toolchain.
fuzz-short seconds="60":
    cargo +nightly fuzz run frames -- -max_total_time={{seconds}}
    cargo +nightly fuzz run handshake -- -max_total_time={{seconds}}
    cargo +nightly fuzz run deflate -- -max_total_time={{seconds}}
    cargo +nightly fuzz run session -- -max_total_time={{seconds}}

# Our codec and seven others on the same bytes.
compare *args:
    cargo run --release --manifest-path benches/Cargo.toml --bin compare -- {{args}}
