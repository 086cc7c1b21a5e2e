//! The macro.

/// Turns tables of methods into typed functions: what a client calls, and what its server says and asks. See [its module](mod@crate::rpc) for an example.
///
/// ```text
/// /// Documentation and attributes are those of what is made.
/// pub client Name {
///     type Error = MyError;                              // may be left out: OwnedRpcError
///     call function(Params) -> Result = "method";
///     call function() -> Result = "method";              // sends no parameters
///     call function(Params) = "method";                  // the result is not looked at: ()
///     notify function(Params) = "method";                // never answered
/// }
/// pub server Name {
///     notification Variant(Params) = "method";
///     notification Variant() = "method";
///     request Variant(Params) -> Result = "method";
///     request Variant() -> Result = "method";
/// }
/// ```
///
/// One macro may hold any number of tables. All that is made has the table's visibility.
///
/// # Clients
///
/// `Name` is a struct over a [`Client`](crate::Client), as cheap to clone. `Params` are [`Serialize`](serde::Serialize) and are taken by reference, so
/// that they may borrow; the result is [`DeserializeOwned`](serde::de::DeserializeOwned); the error is made of an
/// [`OwnedRpcError`](crate::protocol::OwnedRpcError) by `From`. It has these functions, the last ones in three forms:
///
/// | function | what it does |
/// | --- | --- |
/// | `Name::new(client)` | makes one |
/// | `client()` | the handle that it is over |
/// | `with(options)` | another one, whose calls have these [`RequestOptions`](crate::RequestOptions). Notifications have their timeout and priority. An id among them is for one call |
/// | `blocking()` | another one, of type `Name<BlockingCaller>`, that waits for each answer |
/// | `batch(make)` | gives `make` one of type `Name<Batch>`. The calls that it makes go out in one message when it returns, and settle each by itself. If one cannot be written none is sent |
/// | `function(&params)` | a [`Call`](crate::rpc::Call), which is a future of the result; in `Name<BlockingCaller>` the result. Of a notification, what [`send`](crate::Client::send) gives |
///
/// A function may have any name but the ones that are there: `new`, `client`, `with`, `blocking`, `batch`.
///
/// # Servers
///
/// `Name` is an enum with `Name::parse(&client, &event)`, which takes an [`Event`](crate::Event) or an [`OwnedEvent`](crate::OwnedEvent). `None`: it is about
/// something else, or a notification that the table does not have. A request has what answers it with it, a [`Reply`](crate::rpc::Reply). One that the table does not
/// have, or whose parameters cannot be read, is answered with an error and told as a [`ServerError`](crate::rpc::ServerError).
///
/// Notifications are read as JSON-RPC 2.0 has them; requests are whatever the session's protocol takes for one. The enum has the traits that
/// are derived for it: `#[derive(Debug)]` above the table.
#[macro_export]
macro_rules! rpc {
    ($( $(#[$attr:meta])* $vis:vis $kind:ident $name:ident { $($table:tt)* } )*) => {
        $( $crate::__rpc_table!{ $kind [$(#[$attr])*] [$vis] $name { $($table)* } } )*
    };
}

/// One table.
#[doc(hidden)]
#[macro_export]
macro_rules! __rpc_table {
    (client $attrs:tt $vis:tt $name:ident { type Error = $error:ty; $($table:tt)* }) => {
        $crate::__rpc_client!{ $attrs $vis $name [$error] { $($table)* } }
    };
    (client $attrs:tt $vis:tt $name:ident { $($table:tt)* }) => {
        $crate::__rpc_client!{ $attrs $vis $name [$crate::protocol::OwnedRpcError] { $($table)* } }
    };
    (server $attrs:tt $vis:tt $name:ident { $($table:tt)* }) => {
        $crate::__rpc_server!{ $attrs $vis $name { $($table)* } }
    };
    ($kind:ident $attrs:tt $vis:tt $name:ident $table:tt) => {
        ::core::compile_error!(::core::concat!(
            "rpc!: a table is of a `client` or of a `server`, not of a `", ::core::stringify!($kind), "`"
        ));
    };
}

#[doc(hidden)]
#[macro_export]
macro_rules! __rpc_client {
    (
        [$(#[$attr:meta])*] [$vis:vis] $name:ident [$error:ty]
        { $( $(#[$about:meta])* $kind:ident $function:ident ($($params:ty)?) $(-> $result:ty)? = $method:literal; )* }
    ) => {
        $(#[$attr])*
        ///
        /// Typed calls over a `Client`. Its functions are made by `everwire_core::rpc!`, which says what there are beside those of the server.
        #[derive(::core::fmt::Debug, ::core::clone::Clone)]
        $vis struct $name<Via = $crate::rpc::Caller>(Via);

        /// Calls that are awaited.
        #[allow(dead_code)]
        impl $name<$crate::rpc::Caller> {
            /// Calls over this client.
            $vis fn new(client: $crate::Client) -> Self {
                Self($crate::rpc::Caller::new(client))
            }

            /// The client that it calls over.
            $vis fn client(&self) -> &$crate::Client {
                self.0.client()
            }

            /// The same with other options for its calls.
            $vis fn with(&self, options: $crate::RequestOptions) -> Self {
                Self(self.0.with(options))
            }

            /// The same for threads that may block: each call waits for its answer.
            $vis fn blocking(&self) -> $name<$crate::rpc::BlockingCaller> {
                $name(self.0.blocking())
            }

            /// Sends the calls that `make` makes in one message when it returns; each settles by itself. Nothing can be awaited within.
            $vis fn batch<R>(&self, make: impl ::core::ops::FnOnce(&mut $name<$crate::rpc::Batch>) -> R) -> R {
                let mut batch = $name($crate::rpc::Batch::new(&self.0));
                let made = make(&mut batch);
                batch.0.send();
                made
            }

            $( $crate::__rpc_function!{
                awaited $kind [$(#[$about])*] [$vis] $function ($($params)?) [$($result)?] [$error] $method
            } )*
        }

        /// Calls that the thread waits for.
        #[allow(dead_code)]
        impl $name<$crate::rpc::BlockingCaller> {
            /// The client that it calls over.
            $vis fn client(&self) -> &$crate::Client {
                self.0.caller().client()
            }

            /// The same with other options for its calls.
            $vis fn with(&self, options: $crate::RequestOptions) -> Self {
                Self(self.0.caller().with(options).blocking())
            }

            /// Sends the calls that `make` makes in one message when it returns; each settles by itself, and can be waited for then.
            $vis fn batch<R>(&self, make: impl ::core::ops::FnOnce(&mut $name<$crate::rpc::Batch>) -> R) -> R {
                $name::<$crate::rpc::Caller>(::core::clone::Clone::clone(self.0.caller())).batch(make)
            }

            $( $crate::__rpc_function!{
                blocking $kind [$(#[$about])*] [$vis] $function ($($params)?) [$($result)?] [$error] $method
            } )*
        }

        /// Calls that go out in one message.
        #[allow(dead_code)]
        impl $name<$crate::rpc::Batch> {
            $( $crate::__rpc_function!{
                batched $kind [$(#[$about])*] [$vis] $function ($($params)?) [$($result)?] [$error] $method
            } )*
        }
    };
}

/// One function of a client, in one of its forms.
#[doc(hidden)]
#[macro_export]
macro_rules! __rpc_function {
    (
        awaited call [$(#[$attr:meta])*] [$vis:vis] $function:ident ($($params:ty)?) [$($result:ty)?] [$error:ty]
        $method:literal
    ) => {
        $(#[$attr])*
        ///
        #[doc = ::core::concat!("Calls `", $method, "`.")]
        $vis fn $function(&self $(, params: &$params)?) -> $crate::rpc::Call<$crate::__rpc_result!($($result)?), $error> {
            self.0.call($method, $crate::__rpc_params!(params $($params)?), $crate::__rpc_read!($($result)?))
        }
    };
    (
        blocking call [$(#[$attr:meta])*] [$vis:vis] $function:ident ($($params:ty)?) [$($result:ty)?] [$error:ty]
        $method:literal
    ) => {
        $(#[$attr])*
        ///
        #[doc = ::core::concat!("Calls `", $method, "`, and waits for the answer.")]
        $vis fn $function(&self $(, params: &$params)?)
            -> ::core::result::Result<$crate::__rpc_result!($($result)?), $crate::rpc::CallError<$error>>
        {
            self.0.call($method, $crate::__rpc_params!(params $($params)?), $crate::__rpc_read!($($result)?))
        }
    };
    (
        batched call [$(#[$attr:meta])*] [$vis:vis] $function:ident ($($params:ty)?) [$($result:ty)?] [$error:ty]
        $method:literal
    ) => {
        $(#[$attr])*
        ///
        #[doc = ::core::concat!("Calls `", $method, "`, in one message with others.")]
        $vis fn $function(&mut self $(, params: &$params)?)
            -> $crate::rpc::Call<$crate::__rpc_result!($($result)?), $error>
        {
            self.0.call($method, $crate::__rpc_params!(params $($params)?), $crate::__rpc_read!($($result)?))
        }
    };

    // JSON-RPC allows them in a batch; the protocol is not asked for that.
    (batched notify $($rest:tt)*) => {};
    (
        $form:ident notify [$(#[$attr:meta])*] [$vis:vis] $function:ident ($($params:ty)?) [] [$error:ty]
        $method:literal
    ) => {
        $(#[$attr])*
        ///
        #[doc = ::core::concat!("Notifies `", $method, "`: there is no answer.")]
        $vis fn $function(&self $(, params: &$params)?)
            -> ::core::result::Result<$crate::SendId, $crate::rpc::CallError<$error>>
        {
            self.0.notify($method, $crate::__rpc_params!(params $($params)?))
        }
    };

    // What cannot be is said once, not for each form.
    (awaited notify $attrs:tt $vis:tt $function:ident $($rest:tt)*) => {
        ::core::compile_error!(::core::concat!(
            "rpc!: `", ::core::stringify!($function),
            "` notifies, and a notification has no answer: leave its result out, or make it a `call`"
        ));
    };
    (awaited $kind:ident $attrs:tt $vis:tt $function:ident $($rest:tt)*) => {
        ::core::compile_error!(::core::concat!(
            "rpc!: `", ::core::stringify!($function), "` is a `call` or a `notify`, not a `",
            ::core::stringify!($kind), "`"
        ));
    };
    ($form:ident $($rest:tt)*) => {};
}

#[doc(hidden)]
#[macro_export]
macro_rules! __rpc_result {
    () => {
        ()
    };
    ($result:ty) => {
        $result
    };
}

#[doc(hidden)]
#[macro_export]
macro_rules! __rpc_read {
    () => {
        $crate::rpc::ignore
    };
    ($result:ty) => {
        $crate::rpc::read
    };
}

#[doc(hidden)]
#[macro_export]
macro_rules! __rpc_params {
    ($name:ident) => {
        &()
    };
    ($name:ident $params:ty) => {
        $name
    };
}

#[doc(hidden)]
#[macro_export]
macro_rules! __rpc_server {
    (
        [$(#[$attr:meta])*] [$vis:vis] $name:ident
        { $( $(#[$about:meta])* $kind:ident $variant:ident ($($params:ty)?) $(-> $result:ty)? = $method:literal; )* }
    ) => {
        $(#[$attr])*
        ///
        /// What a server says and asks, made by `everwire_core::rpc!`.
        $vis enum $name {
            $(
                $(#[$about])*
                ///
                #[doc = ::core::concat!("The server's `", $method, "`.")]
                $variant($($params,)? $($crate::rpc::Reply<$result>)?),
            )*
        }

        #[allow(dead_code)]
        impl $name {
            /// Reads what the server says or asks by this event. `None`: the event is about something else. A request that cannot be
            /// read is answered over `client`.
            $vis fn parse<'event>(
                client: &$crate::Client,
                event: impl ::core::convert::Into<$crate::rpc::Told<'event>>,
            ) -> ::core::option::Option<::core::result::Result<Self, $crate::rpc::ServerError>> {
                let told: $crate::rpc::Told<'event> = event.into();
                $( $crate::__rpc_parse!{ $kind told client $variant ($($params)?) [$($result)?] $method } )*
                told.unknown(client)
            }
        }
    };
}

/// Whether it is this one.
#[doc(hidden)]
#[macro_export]
macro_rules! __rpc_parse {
    (notification $told:ident $client:ident $variant:ident ($params:ty) [] $method:literal) => {
        if let ::core::option::Option::Some(params) = $told.notification($method) {
            return ::core::option::Option::Some($crate::rpc::notified_params($method, params).map(Self::$variant));
        }
    };
    (notification $told:ident $client:ident $variant:ident () [] $method:literal) => {
        if $told.notification($method).is_some() {
            return ::core::option::Option::Some(::core::result::Result::Ok(Self::$variant()));
        }
    };
    (request $told:ident $client:ident $variant:ident ($params:ty) [$result:ty] $method:literal) => {
        if let ::core::option::Option::Some(asked) = $told.request($method) {
            return ::core::option::Option::Some(
                asked.read($client).map(|(params, reply)| Self::$variant(params, reply)),
            );
        }
    };
    (request $told:ident $client:ident $variant:ident () [$result:ty] $method:literal) => {
        if let ::core::option::Option::Some(asked) = $told.request($method) {
            return ::core::option::Option::Some(::core::result::Result::Ok(Self::$variant(asked.reply($client))));
        }
    };
    (notification $told:ident $client:ident $variant:ident $params:tt [$result:ty] $method:literal) => {
        ::core::compile_error!(::core::concat!(
            "rpc!: `", ::core::stringify!($variant),
            "` is a notification, which has no answer: leave its result out, or make it a `request`"
        ));
    };
    (request $told:ident $client:ident $variant:ident $params:tt [] $method:literal) => {
        ::core::compile_error!(::core::concat!(
            "rpc!: `", ::core::stringify!($variant),
            "` is a request, which has an answer: say of what type, such as `-> ()`, or make it a `notification`"
        ));
    };
    ($kind:ident $told:ident $client:ident $variant:ident $($rest:tt)*) => {
        ::core::compile_error!(::core::concat!(
            "rpc!: `", ::core::stringify!($variant), "` is a `notification` or a `request`, not a `",
            ::core::stringify!($kind), "`"
        ));
    };
}
