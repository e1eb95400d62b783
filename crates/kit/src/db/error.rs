//! PostgreSQL's errors as the platform understands them: a table, not a default.

use tokio_postgres::{Error, error::SqlState};

use crate::outcome::Broken;

/// Whether the same work may succeed later: the server or the way to it is away, something else held a lock, or a limit was hit.
pub fn is_unavailable(error: &Error) -> bool {
    let Some(state) = error.code() else {
        // No SQLSTATE: the connection broke, was refused or was closed.
        return true;
    };
    let transient = [
        SqlState::T_R_SERIALIZATION_FAILURE,
        SqlState::T_R_DEADLOCK_DETECTED,
        SqlState::LOCK_NOT_AVAILABLE,
        SqlState::QUERY_CANCELED,
        SqlState::ADMIN_SHUTDOWN,
        SqlState::CRASH_SHUTDOWN,
        SqlState::CANNOT_CONNECT_NOW,
        SqlState::IDLE_IN_TRANSACTION_SESSION_TIMEOUT,
        SqlState::READ_ONLY_SQL_TRANSACTION,
    ];
    // Class 08 is the connection, class 53 a resource that ran out (connections, memory, disk), class 58 the system.
    let class = &state.code()[..2];
    transient.contains(state) || matches!(class, "08" | "53" | "58")
}

/// What a database error means when no rule of the business explains it.
pub fn broken(doing: &'static str, error: Error) -> Broken {
    if is_unavailable(&error) {
        Broken::unavailable(doing, error)
    } else {
        Broken::defect(doing, error)
    }
}

/// Whether a transaction may have been committed although this is the first error of the round trip that carried its COMMIT;
/// `at_commit` says whether it is the COMMIT's own. Nothing happened if an earlier statement failed, or the COMMIT for a reason of
/// the classes 23 and 40. Anything else, such as the end of a session, is told before a commit and after it alike.
pub(super) fn may_have_committed(error: &Error, at_commit: bool) -> bool {
    // Without a SQLSTATE the connection broke, and the server may have gone on to the end.
    let Some(state) = error.code() else { return true };
    let nothing_happened = matches!(&state.code()[..2], "23" | "40")
        && *state != SqlState::T_R_STATEMENT_COMPLETION_UNKNOWN;
    at_commit && !nothing_happened
}

/// The name of the violated constraint, if one was.
pub(super) fn constraint_of(error: &Error) -> Option<&str> {
    error.as_db_error().and_then(|e| e.constraint())
}
