//! What becomes of a topic's messages when their reader is too slow.

/// What a spawned session does with a topic's messages when more wait for the user than
/// [`Config::event_buffer`](crate::Config::event_buffer) allows. It concerns [`Events`](crate::Events), the buffer between a driver's task and its
/// user; a driver that is asked for one event after the other has no such buffer and loses nothing.
///
/// Whatever is lost is counted, and told where it is missing: [`OwnedEvent::Overflowed`](crate::OwnedEvent::Overflowed). Messages without a
/// subscription, and all other events, are never lost: with them it is always as with `Block`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Overflow {
    /// Nothing is lost: the connection is not read any further until there is room, and TCP holds the server back. A server may
    /// end the connection of a client that is too slow.
    #[default]
    Block,
    /// The oldest message of the topic that waits makes room for the newest.
    DropOldest,
    /// Messages are thrown away until there is room; those that wait stay.
    DropNewest,
    /// At most one message of the topic waits, however much room there is: the newest. For a topic whose messages each replace the one
    /// before, such as a price.
    Conflate,
    /// The subscription is ended, for all who hold a reference to it, as what follows is of no use without what was lost.
    /// [`OwnedEvent::Overflowed`](crate::OwnedEvent::Overflowed) is the last that is heard of it.
    Close,
}
