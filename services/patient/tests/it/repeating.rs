use futures_util::future::join_all;
use serde_json::json;

use crate::desk::{Desk, person, with, zoe};

#[tokio::test]
async fn a_repeated_registration_is_answered_again_and_done_once() {
    let desk = Desk::open().await;
    let first = desk.post_keyed("/patients", &desk.token, "k", &zoe()).await;
    let again = desk.post_keyed("/patients", &desk.token, "k", &zoe()).await;
    assert_eq!((first.status, again.status, &first.text), (201, 201, &again.text));
    assert_eq!(again.headers["idempotent-replayed"], "true");
    assert_eq!(again.headers["location"], first.headers["location"]);
    assert_eq!((desk.rows("patient").await, desk.rows("outbox").await), (1, 1));

    let other =
        desk.post_keyed("/patients", &desk.token, "k", &person("A", "B", "1950-01-01")).await;
    assert_eq!((other.status, other.code()), (422, "idempotency-key-reused"));
}

#[tokio::test]
async fn a_storm_of_repetitions_registers_one_patient() {
    let desk = Desk::open().await;
    let body = with(zoe(), "acceptDuplicate", json!(true));
    let calls = (0..30).map(|_| desk.post_keyed("/patients", &desk.token, "k", &body));
    let replies = join_all(calls).await;
    for reply in &replies {
        assert_eq!((reply.status, &reply.text), (201, &replies[0].text));
    }
    assert_eq!((desk.rows("patient").await, desk.rows("outbox").await), (1, 1));
}

#[tokio::test]
async fn a_refusal_is_answered_again() {
    let desk = Desk::open().await;
    let id = desk.registered(&zoe()).await;
    let first = desk.post_keyed("/patients", &desk.token, "k", &zoe()).await;
    let again = desk.post_keyed("/patients", &desk.token, "k", &zoe()).await;
    assert_eq!((first.status, first.code(), &again.text), (409, "identifier-taken", &first.text));
    assert_eq!(again.headers["idempotent-replayed"], "true");

    let path = format!("/patients/{id}/reactivate");
    let body = json!({"reason": "x"});
    let first = desk.post_keyed(&path, &desk.token, "r", &body).await;
    desk.step(id, "deactivate").await;
    let again = desk.post_keyed(&path, &desk.token, "r", &body).await;
    assert_eq!((first.status, again.status), (409, 409), "as it was the first time");
}

#[tokio::test]
async fn a_repeated_step_is_taken_once() {
    let desk = Desk::open().await;
    let id = desk.registered(&zoe()).await;
    for (verb, version) in [("deactivate", 2), ("reactivate", 3)] {
        let path = format!("/patients/{id}/{verb}");
        let body = json!({"reason": "x"});
        let first = desk.post_keyed(&path, &desk.token, "k", &body).await;
        let again = desk.post_keyed(&path, &desk.token, "k", &body).await;
        assert_eq!((first.status, again.status, &first.text), (200, 200, &again.text));
        assert_eq!(again.body["version"], version);
    }
    let other = desk.registered(&person("A", "B", "1950-01-01")).await;
    let path = format!("/patients/{other}/deactivate");
    let reply = desk.post_keyed(&path, &desk.token, "k", &json!({"reason": "x"})).await;
    assert_eq!((reply.status, reply.code()), (422, "idempotency-key-reused"), "another patient");
}
