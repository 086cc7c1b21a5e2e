//! What is done about close codes and HTTP statuses, as data.

/// What the session does after each close code and each HTTP status.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Policy {}
