//! The HTTP edge that every service has alike: requests in, answers and problems out.

mod answer;
mod body;
mod connections;
mod docs;
mod edge;
mod health;
mod problem;
mod problems;
mod query;
mod receive;
mod request;
mod seldom;
mod server;
mod share;
mod source;
mod strict;
mod trace;

/// The header by which an answer says which service gave it. It is there only where the service
/// knows the address: a wrong path, a proxy and another service say nothing, or something else.
pub const ANSWERED_BY: &str = "hospital-service";

pub use self::{
    answer::Answer,
    body::{Body, EmptyBody, Patch, PatchBody, not_null},
    docs::{security, with_docs},
    edge::{Edge, EdgeSettings},
    health::{Check, Health, Need},
    problem::Problem,
    problems::{CreateProblems, ListProblems, ReadProblems, StepProblems},
    query::{Cursor, Limit, Page, Query},
    receive::BodySettings,
    request::{
        Allowed, AnyRole, FrontDesk, IdempotencyKey, IfMatch, Keyed, PathId, Permission,
        RequiredIdempotencyKey, Staff,
    },
    server::{ServerSettings, serve},
    trace::{Trace, current_trace},
};
