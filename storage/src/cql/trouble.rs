//! What the driver's errors mean for the caller: the same again later, or somebody has to look at it. Pure.

use scylla::errors::{
    DbError, ExecutionError, NextPageError, NextRowError, PagerExecutionError, RequestAttemptError,
    RequestError, TypeCheckError,
};

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

impl From<PagerExecutionError> for Trouble {
    fn from(error: PagerExecutionError) -> Self {
        match error {
            PagerExecutionError::NextPageError(error) => NextRowError::from(error).into(),
            PagerExecutionError::SerializationError(error) => Self(failed(error)),
            error => Self(unavailable(error)),
        }
    }
}

impl From<NextRowError> for Trouble {
    fn from(error: NextRowError) -> Self {
        let passing = match &error {
            NextRowError::NextPageError(NextPageError::RequestFailure(request)) => match request {
                RequestError::LastAttemptError(attempt) => !is_lasting(attempt),
                _ => true,
            },
            _ => false,
        };
        Self(if passing { unavailable(error) } else { failed(error) })
    }
}

impl From<TypeCheckError> for Trouble {
    fn from(error: TypeCheckError) -> Self {
        Self(failed(error))
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
