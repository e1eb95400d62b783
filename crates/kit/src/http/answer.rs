//! A finished answer, which can be stored and given again byte for byte.

use axum::{
    body::Body,
    http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};
use serde::Serialize;
use serde_json::{Map, Value};

use super::{Problem, Trace, current_trace};

const PROBLEM: &str = "application/problem+json";

/// Status, headers and body of an answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    status: StatusCode,
    headers: Vec<(HeaderName, String)>,
    body: Vec<u8>,
    replayed: bool,
}

impl Answer {
    fn json(status: StatusCode, version: i32, resource: &impl Serialize) -> Self {
        Self {
            status,
            headers: vec![
                (header::CONTENT_TYPE, "application/json".to_owned()),
                (header::ETAG, format!("\"{version}\"")),
            ],
            body: serde_json::to_vec(resource).expect("views are plain data"),
            replayed: false,
        }
    }

    /// 200 with a resource and its version as ETag.
    pub fn ok(version: i32, resource: &impl Serialize) -> Self {
        Self::json(StatusCode::OK, version, resource)
    }

    /// 201 with the whole resource.
    pub fn created(location: impl Into<String>, version: i32, resource: &impl Serialize) -> Self {
        Self::json(StatusCode::CREATED, version, resource).at(location)
    }

    /// 202 with what is known so far; `location` is where to look later.
    pub fn accepted(location: impl Into<String>, version: i32, resource: &impl Serialize) -> Self {
        Self::json(StatusCode::ACCEPTED, version, resource).at(location)
    }

    /// 200 with something that has no version, such as a list.
    pub fn plain(body: &impl Serialize) -> Self {
        let mut answer = Self::json(StatusCode::OK, 0, body);
        answer.headers.truncate(1);
        answer
    }

    #[expect(clippy::needless_pass_by_value, reason = "a problem ends here")]
    pub fn problem(problem: Problem) -> Self {
        let mut headers = vec![(header::CONTENT_TYPE, PROBLEM.to_owned())];
        for (name, value) in problem.headers() {
            headers.push((HeaderName::from_static(name), value.clone()));
        }
        Self {
            status: StatusCode::from_u16(problem.status())
                .unwrap_or(StatusCode::INTERNAL_SERVER_ERROR),
            headers,
            body: problem.body(),
            replayed: false,
        }
    }

    fn at(mut self, location: impl Into<String>) -> Self {
        self.headers.push((header::LOCATION, location.into()));
        self
    }

    pub fn status(&self) -> u16 {
        self.status.as_u16()
    }

    pub fn body(&self) -> &[u8] {
        &self.body
    }

    /// Marks the answer as one that was given before.
    #[must_use]
    pub fn replayed(mut self) -> Self {
        self.replayed = true;
        self
    }

    /// What an idempotency key's row keeps.
    pub fn to_stored(&self) -> (i16, Value, Vec<u8>) {
        let headers: Map<String, Value> = self
            .headers
            .iter()
            .map(|(name, value)| (name.to_string(), value.clone().into()))
            .collect();
        let status = i16::try_from(self.status.as_u16()).expect("a status has three digits");
        (status, Value::Object(headers), self.body.clone())
    }

    /// The answer that such a row keeps.
    pub fn from_stored(status: i16, headers: Value, body: Vec<u8>) -> Self {
        let Value::Object(headers) = headers else { unreachable!("stored as an object") };
        let headers = headers
            .into_iter()
            .filter_map(|(name, value)| {
                Some((HeaderName::try_from(name).ok()?, value.as_str()?.to_owned()))
            })
            .collect();
        let status = u16::try_from(status).ok().and_then(|s| StatusCode::from_u16(s).ok());
        Self {
            status: status.unwrap_or(StatusCode::INTERNAL_SERVER_ERROR),
            headers,
            body,
            replayed: false,
        }
    }
}

impl Answer {
    /// Gives a problem this trace's id, unless it has one: a refusal that was found out for several
    /// requests together was made in no request's own trace.
    #[must_use]
    pub(crate) fn traced(mut self, trace_id: Option<&str>) -> Self {
        const MEMBER: &[u8] = b"\"traceId\":";
        let is_problem = self.headers.iter().any(|(_, value)| value == PROBLEM);
        if is_problem
            && let Some(id) = trace_id
            // Nearly every one has it, and need not be read for that.
            && !self.body.windows(MEMBER.len()).any(|part| part == MEMBER)
            && let Ok(Value::Object(mut body)) = serde_json::from_slice(&self.body)
        {
            body.insert("traceId".to_owned(), id.into());
            self.body = Value::Object(body).to_string().into_bytes();
        }
        self
    }
}

impl IntoResponse for Answer {
    fn into_response(self) -> Response {
        let trace = current_trace();
        let this = self.traced(trace.as_ref().map(Trace::id));
        let mut response = Response::new(Body::from(this.body));
        *response.status_mut() = this.status;
        let headers: &mut HeaderMap = response.headers_mut();
        for (name, value) in this.headers {
            if let Ok(value) = HeaderValue::try_from(value) {
                headers.insert(name, value);
            }
        }
        if this.replayed {
            headers.insert("idempotent-replayed", HeaderValue::from_static("true"));
        }
        response
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_problem_gets_the_trace_that_it_lacks_and_keeps_the_one_that_it_has() {
        let bare = Answer::problem(Problem::new(409, "slot-unavailable", "It is taken."));
        let traced = bare.clone().traced(Some("one"));
        let body: Value = serde_json::from_slice(traced.body()).unwrap();
        assert_eq!((&body["traceId"], &body["code"]), (&"one".into(), &"slot-unavailable".into()));
        assert_eq!(traced.clone().traced(Some("two")), traced);
        assert_eq!(bare.clone().traced(None), bare);
        let done = Answer::plain(&serde_json::json!({}));
        assert_eq!(done.clone().traced(Some("one")), done);
    }

    #[test]
    fn an_answer_survives_being_stored() {
        let answer = Answer::created("/payments/1", 1, &serde_json::json!({"id": 1}));
        let (status, headers, body) = answer.to_stored();
        assert_eq!(Answer::from_stored(status, headers, body), {
            let mut sorted = answer;
            sorted.headers.sort_by(|a, b| a.0.as_str().cmp(b.0.as_str()));
            sorted
        });
    }
}
