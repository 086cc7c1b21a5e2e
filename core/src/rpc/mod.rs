//! Typed calls: what [`rpc!`](crate::rpc!) makes of tables of methods, and what it is made with.
//!
//! ```
//! use everwire_core::protocol::OwnedRpcError;
//! use everwire_core::rpc::CallError;
//! use everwire_core::{Client, OwnedEvent, RequestOptions};
//! use serde::{Deserialize, Serialize};
//! use std::time::Duration;
//!
//! everwire_core::rpc! {
//!     /// Deribit, as far as this bot needs it.
//!     pub client Deribit {
//!         type Error = DeribitError;
//!         /// Places a buy order.
//!         call buy(BuyParams<'_>) -> Order = "private/buy";
//!         /// The time of the server, in milliseconds since the Unix epoch.
//!         call time() -> u64 = "public/get_time";
//!         /// Says who we are.
//!         notify hello(Hello) = "public/hello";
//!     }
//!
//!     /// What it says and asks.
//!     pub server FromDeribit {
//!         /// It will go down, or is up again.
//!         notification Platform(Platform) = "platform_state";
//!         /// It asks whether we are there.
//!         request Test() -> str = "test_request";
//!     }
//! }
//!
//! #[derive(Serialize)]
//! pub struct BuyParams<'a> {
//!     instrument_name: &'a str,
//!     amount: f64,
//! }
//!
//! #[derive(Serialize)]
//! pub struct Hello {
//!     client_name: String,
//! }
//!
//! #[derive(Debug, Deserialize)]
//! pub struct Order {
//!     order_id: String,
//! }
//!
//! #[derive(Debug, Deserialize)]
//! pub struct Platform {
//!     locked: bool,
//! }
//!
//! #[derive(Debug)]
//! pub enum DeribitError {
//!     NotEnoughFunds,
//!     Other(OwnedRpcError),
//! }
//!
//! impl From<OwnedRpcError> for DeribitError {
//!     fn from(error: OwnedRpcError) -> Self {
//!         if error.code == 10009 { Self::NotEnoughFunds } else { Self::Other(error) }
//!     }
//! }
//!
//! async fn trade(client: &Client) -> Result<(), CallError<DeribitError>> {
//!     let deribit = Deribit::new(client.clone());
//!     deribit.hello(&Hello { client_name: "bot".into() })?;
//!     let time = deribit.time().await?;
//!     let params = BuyParams { instrument_name: "BTC-PERPETUAL", amount: 10.0 };
//!     let quick = RequestOptions::default().timeout(Duration::from_secs(1));
//!     match deribit.with(quick).buy(&params).await {
//!         Ok(order) => println!("{time}: {}", order.order_id),
//!         Err(CallError::Refused { error: DeribitError::NotEnoughFunds, .. }) => println!("later"),
//!         // Not one byte of it was sent.
//!         Err(error) if error.not_sent() => return Box::pin(trade(client)).await,
//!         // The server may have acted on it: ask it for the open orders.
//!         Err(error) => return Err(error),
//!     }
//!
//!     // One message; each call settles by itself.
//!     let (first, second) = deribit.batch(|batch| (batch.buy(&params), batch.time()));
//!     println!("{} {}", first.await?.order_id, second.await?);
//!     Ok(())
//! }
//!
//! // On a thread that may block.
//! fn wait(client: &Client) -> Result<u64, CallError<DeribitError>> {
//!     Deribit::new(client.clone()).blocking().time()
//! }
//!
//! fn hear(client: &Client, event: &OwnedEvent) {
//!     match FromDeribit::parse(client, event) {
//!         Some(Ok(FromDeribit::Platform(Platform { locked }))) => println!("locked: {locked}"),
//!         Some(Ok(FromDeribit::Test(reply))) => match reply.ok("here") {
//!             Ok(_) => {}
//!             Err(error) => eprintln!("{error}"),
//!         },
//!         // It was answered already, if it was a request.
//!         Some(Err(error)) => eprintln!("{error}"),
//!         None => println!("{event:?}"),
//!     }
//! }
//! ```
//!
//! What is sent and read goes through the session's [`Protocol`](crate::Protocol): `request`, `batch`, `notification`, `respond`. A protocol that is
//! not JSON-RPC is called the same way, as long as it takes parameters as JSON text and gives results as such.

mod batch;
mod call;
mod error;
mod path;
mod serve;
mod table;

pub use batch::Batch;
pub use call::{BlockingCaller, Call, Caller};
#[doc(hidden)]
pub use call::{Read, ignore, read};
pub use error::{CallError, Unreadable};
#[doc(hidden)]
pub use serve::{Asked, notified_params};
pub use serve::{Reply, ReplyError, ServerError, Told};
