//! What the driver's errors mean for the caller: the same again later, or somebody has to look at it. Pure.

use scylla::errors::{DbError, ExecutionError, RequestAttemptError};

use crate::tables::StoreError;

/// What a failed request means for the caller.
pub(super) struct Trouble(pub(super) StoreError);

impl From<ExecutionError> for Trouble {
    fn from(error: ExecutionError) -> Self {
        let lasting = match &error {
            ExecutionError::BadQuery(_) => true,
            ExecutionError::LastAttemptError(attempt) => is_lasting(attempt),
            _ => false,
        };
        Self(if lasting { failed(error) } else { unavailable(error) })
    }
}

/// Whether the same request would be answered the same way: the statement or the row is at fault, not the moment.
fn is_lasting(attempt: &RequestAttemptError) -> bool {
    use RequestAttemptError as E;
    match attempt {
        E::DbError(cause, _) => matches!(
            cause,
            DbError::SyntaxError | DbError::Invalid | DbError::Unauthorized | DbError::ConfigError
        ),
        E::SerializationError(_) | E::CqlRequestSerialization(_) | E::CqlResultParseError(_) => true,
        _ => false,
    }
}

/// Try again later.
pub(super) fn unavailable(error: impl std::fmt::Display) -> StoreError {
    StoreError::Unavailable(error.to_string())
}

/// Somebody has to look at it.
pub(super) fn failed(error: impl std::fmt::Display) -> StoreError {
    StoreError::Failed(error.to_string())
}
