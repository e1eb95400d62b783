use futures_util::future::join_all;
use serde_json::json;

use crate::desk::{Desk, person, with, zoe};

#[tokio::test]
async fn the_same_person_again_is_a_possible_duplicate() {
    let desk = Desk::open().await;
    let mut first = zoe();
    first.as_object_mut().unwrap().remove("identifiers");
    let id = desk.registered(&first).await;
    let rows = desk.rows_of_all().await;
    for (again, score) in [
        (first.clone(), 1.0),
        (person("ZOE", "muller", "1990-01-02"), 0.85),
        (person("Müller", "Zoë", "1990-01-02"), 0.85),
        (with(person("Zoe", "Mueller", "1991-03-04"), "phone", json!("0016175550100")), 0.55),
    ] {
        let reply = desk.register(&again).await;
        assert_eq!((reply.status, reply.code()), (409, "possible-duplicate"), "{again}");
        assert_eq!(reply.body["candidates"], json!([{"id": id, "score": score}]), "{again}");
        assert!(!reply.text.contains("uller") && !reply.text.contains("5550100"), "{}", reply.text);
    }
    assert_eq!(desk.rows_of_all().await, rows, "no row and no event");

    let reply = desk.register(&with(first, "acceptDuplicate", json!(true))).await;
    assert_eq!(reply.status, 201, "{}", reply.text);
}

#[tokio::test]
async fn candidates_come_likeliest_first_and_are_few() {
    let desk = Desk::open().await;
    let body = with(person("Ann", "Lee", "1980-05-06"), "acceptDuplicate", json!(true));
    for _ in 0..6 {
        desk.registered(&body).await;
    }
    let likeliest = desk.registered(&with(body.clone(), "phone", json!("+16175550100"))).await;
    let again = with(person("Ann", "Lee", "1980-05-06"), "phone", json!("+16175550100"));
    let reply = desk.register(&again).await;
    let candidates = reply.body["candidates"].as_array().unwrap();
    assert_eq!(candidates.len(), 5);
    assert_eq!(candidates[0]["id"], json!(likeliest));
}

#[tokio::test]
async fn families_and_namesakes_are_registered_without_a_warning() {
    let desk = Desk::open().await;
    let phone = json!("+16175550100");
    for (given, family, birth_date, shares_phone) in [
        ("Anna", "Lee", "1980-05-06", true),
        ("Robert", "Lee", "1979-01-01", true),
        ("Hanna", "Lee", "2012-05-06", true),
        ("Robert", "Lee", "1950-11-12", false),
        ("Maynard46", "Mosciski958", "2014-10-06", false),
        ("Curt84", "Schmidt332", "2014-10-06", false),
    ] {
        let mut body = person(given, family, birth_date);
        if shares_phone {
            body["phone"] = phone.clone();
        }
        desk.registered(&body).await;
    }
}

#[tokio::test]
async fn a_taken_identifier_says_whose_it_is_before_any_likeness() {
    let desk = Desk::open().await;
    let id = desk.registered(&zoe()).await;
    let stranger =
        with(person("Bob", "Ray", "1960-01-01"), "identifiers", zoe()["identifiers"].clone());
    let rows = desk.rows_of_all().await;
    for body in [zoe(), stranger.clone(), with(stranger, "acceptDuplicate", json!(true))] {
        let reply = desk.register(&body).await;
        assert_eq!((reply.status, reply.code()), (409, "identifier-taken"), "{body}");
        assert_eq!(reply.body["patientId"], json!(id), "{body}");
        assert!(!reply.text.contains("999-45"), "{}", reply.text);
    }
    assert_eq!(desk.rows_of_all().await, rows, "no row and no event");
}

#[tokio::test]
async fn one_value_in_two_systems_is_two_identifiers() {
    let desk = Desk::open().await;
    for (name, system) in [("Ann", "urn:a"), ("Bob", "urn:b")] {
        let identifiers = json!([{"system": system, "value": "1"}]);
        desk.registered(&with(person(name, "X", "1960-01-01"), "identifiers", identifiers)).await;
    }
}

#[tokio::test]
async fn of_twenty_who_want_one_identifier_one_gets_it() {
    let desk = Desk::open().await;
    let bodies: Vec<_> = (0..20)
        .map(|i| with(zoe(), "birthDate", json!(format!("19{:02}-01-02", 40 + i))))
        .map(|body| with(body, "acceptDuplicate", json!(true)))
        .collect();
    let replies = join_all(bodies.iter().map(|body| desk.register(body))).await;
    let of = |status| replies.iter().filter(move |r| r.status == status);
    assert_eq!((of(201).count(), of(409).count()), (1, 19));
    let winner = of(201).next().unwrap().id();
    for loser in of(409) {
        assert_eq!((loser.code(), &loser.body["patientId"]), ("identifier-taken", &json!(winner)));
    }
    assert_eq!((desk.rows("patient").await, desk.rows("outbox").await), (1, 1));
}
