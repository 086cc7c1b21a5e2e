//! The runtimes that every scenario runs under, with the same verbs.

use everwire_core::{Client, Config, ConfigError, Endpoint, Event, Events, ProviderError};
use std::future::Future;

/// A way to run sessions, and the tests around them.
pub trait Runtime: Sized + 'static {
    /// For messages.
    const NAME: &'static str;

    /// Its inline driver.
    type Driver: Inline;

    /// Runs a test on this thread.
    fn block_on<F: Future>(future: F) -> F::Output;

    /// Runs a future on the side, to its end.
    fn background(future: impl Future<Output = ()> + Send + 'static);

    /// A driver that was not run yet.
    ///
    /// # Errors
    /// As the driver's.
    fn driver(config: Config) -> Result<Self::Driver, ConfigError>;

    /// A driver that asks `provider` where to connect.
    ///
    /// # Errors
    /// As the driver's.
    fn provided<F, T>(config: Config, provider: F) -> Result<Self::Driver, ConfigError>
    where
        F: FnMut() -> T + Send + 'static,
        T: Future<Output = Result<Endpoint, ProviderError>> + Send + 'static;

    /// The crate's `spawn`.
    fn spawn(driver: Self::Driver) -> (Client, Events);

    /// The crate's `connect`.
    ///
    /// # Errors
    /// As the crate's.
    fn connect(config: Config) -> Result<(Client, Events), ConfigError>;
}

/// A driver that runs within the task that asks it for events.
pub trait Inline {
    /// The crate's `client`.
    fn client(&self) -> Client;

    /// The next event, for as long as `look` looks at it; `None` once the session is closed. Dropping the future must lose nothing.
    fn next<T>(&mut self, look: impl FnOnce(Event<'_>) -> T) -> impl Future<Output = Option<T>>;
}

/// Tokio with two worker threads.
#[derive(Debug)]
pub struct Tokio;

/// Tokio with this thread alone: sessions run while the test awaits, and at no other time.
#[derive(Debug)]
pub struct TokioThread;

macro_rules! tokio_runtime {
    ($runtime:ident, $name:literal, $builder:expr) => {
        impl Runtime for $runtime {
            const NAME: &'static str = $name;

            type Driver = everwire_tokio::Driver;

            fn block_on<F: Future>(future: F) -> F::Output {
                let runtime = $builder.enable_all().build();
                runtime.expect("the operating system has threads and an epoll left").block_on(future)
            }

            fn background(future: impl Future<Output = ()> + Send + 'static) {
                tokio::spawn(future);
            }

            fn driver(config: Config) -> Result<Self::Driver, ConfigError> {
                everwire_tokio::Driver::new(config)
            }

            fn provided<F, T>(config: Config, provider: F) -> Result<Self::Driver, ConfigError>
            where
                F: FnMut() -> T + Send + 'static,
                T: Future<Output = Result<Endpoint, ProviderError>> + Send + 'static,
            {
                Ok(Self::driver(config)?.provider(provider))
            }

            fn spawn(driver: Self::Driver) -> (Client, Events) {
                everwire_tokio::spawn(driver)
            }

            fn connect(config: Config) -> Result<(Client, Events), ConfigError> {
                everwire_tokio::connect(config)
            }
        }
    };
}

tokio_runtime!(Tokio, "tokio", tokio::runtime::Builder::new_multi_thread().worker_threads(2));
tokio_runtime!(TokioThread, "tokio on one thread", tokio::runtime::Builder::new_current_thread());

impl Inline for everwire_tokio::Driver {
    fn client(&self) -> Client {
        Self::client(self)
    }

    async fn next<T>(&mut self, look: impl FnOnce(Event<'_>) -> T) -> Option<T> {
        Self::next(self).await.map(look)
    }
}
