//! What can go wrong, for the API documents.

use std::collections::BTreeMap;

use utoipa::{
    IntoResponses,
    openapi::{Content, Ref, RefOr, Response, ResponseBuilder},
};

const ANYWHERE: [(&str, &str); 6] = [
    ("400", "The request is not as the schema says."),
    ("401", "No token, or one that is not accepted."),
    ("403", "The token's role may not do this."),
    ("429", "Too many requests of yours are under way; `Retry-After` says when to come again."),
    ("500", "A fault of the service; it is in its log under the answer's `traceId`."),
    ("503", "Not at the moment; `Retry-After` says when to come again."),
];
const WRITING: [(&str, &str); 4] = [
    ("408", "The body did not come in time."),
    ("413", "The body is too large."),
    ("415", "The body is not JSON."),
    ("422", "Values that cannot be accepted, or a reused Idempotency-Key."),
];
const ONE: [(&str, &str); 1] = [("404", "There is no such thing, or it is not yours to see.")];
const STEP: [(&str, &str); 2] = [
    ("409", "In conflict with what is: `code` says how."),
    ("412", "The version in If-Match is not the current one."),
];

fn problems(groups: &[&[(&str, &str)]]) -> BTreeMap<String, RefOr<Response>> {
    let one = |description: &str| {
        let content = Content::new(Some(Ref::from_schema_name("Problem")));
        ResponseBuilder::new()
            .description(description)
            .content("application/problem+json", content)
            .build()
            .into()
    };
    groups
        .iter()
        .flat_map(|group| group.iter())
        .map(|(status, description)| ((*status).to_owned(), one(description)))
        .collect()
}

/// Documents the problems of a request that reads a list.
pub struct ListProblems;
impl IntoResponses for ListProblems {
    fn responses() -> BTreeMap<String, RefOr<Response>> {
        problems(&[&ANYWHERE])
    }
}

/// Documents the problems of a request that reads one thing.
pub struct ReadProblems;
impl IntoResponses for ReadProblems {
    fn responses() -> BTreeMap<String, RefOr<Response>> {
        problems(&[&ANYWHERE, &ONE])
    }
}

/// Documents the problems of a request that creates.
pub struct CreateProblems;
impl IntoResponses for CreateProblems {
    fn responses() -> BTreeMap<String, RefOr<Response>> {
        problems(&[&ANYWHERE, &WRITING])
    }
}

/// Documents the problems of a request that changes something.
pub struct StepProblems;
impl IntoResponses for StepProblems {
    fn responses() -> BTreeMap<String, RefOr<Response>> {
        problems(&[&ANYWHERE, &ONE, &WRITING, &STEP])
    }
}
