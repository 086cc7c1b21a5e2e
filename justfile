# The steps of the continuous integration, one by one; `just --list` shows them. What each does is written in .ci/run alone.

# All of it.
ci:
    .ci/run

# All tests, examples and doctests.
test:
    .ci/run test

fmt:
    .ci/run fmt

# Lints; warnings are errors.
clippy:
    .ci/run clippy

# The documentation; broken links are errors.
doc:
    .ci/run docs

# The core with other sets of features.
features:
    .ci/run features

# The examples, each against a server of its own.
examples:
    .ci/run examples

# The demo, plain and with TLS.
demo:
    .ci/run demo

# The session against its reference model, in virtual time.
simulate seeds="10000":
    cargo run --release -p everwire-tests --bin simulate -- --seeds {{seeds}}

# Sessions through real proxies, which it installs.
proxies:
    .ci/run proxies

# Conformance: every case of the Autobahn suite.
autobahn:
    .ci/run autobahn

# Each fuzz target for so long; needs a nightly toolchain.
fuzz seconds="60":
    fuzz/run {{seconds}}

# Our session and seven other crates on the same bytes.
compare *args:
    cargo run --release --locked --manifest-path benches/Cargo.toml --bin compare -- {{args}}
