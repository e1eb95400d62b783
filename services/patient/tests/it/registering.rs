use hospital_contracts::patient::{Gender, PatientStatus, PatientView};
use serde_json::json;

use crate::desk::{Desk, person, with, zoe};

#[tokio::test]
async fn a_registered_patient_is_answered_whole_and_stays_so() {
    let desk = Desk::open().await;
    let reply = desk.register(&zoe()).await;
    assert_eq!(reply.status, 201, "{}", reply.text);
    assert_eq!(reply.headers["location"], format!("/patients/{}", reply.id()));
    assert_eq!(reply.headers["etag"], "\"1\"");
    let view: PatientView = serde_json::from_value(reply.body.clone()).unwrap();
    assert_eq!(
        (view.version, view.status, view.gender),
        (1, PatientStatus::Active, Gender::Female)
    );
    assert_eq!(view.phone.unwrap().expose(), "+16175550100");
    assert_eq!(view.created_at, view.updated_at);
    assert_eq!(reply.body["identifiers"][0]["value"], "12345", "ordered by system");
    assert_eq!(
        reply.body["address"],
        json!({"line": "1 Main Street", "city": "Boston", "postalCode": "02115"})
    );

    assert_eq!(desk.show(view.id).await, reply.body);
}

#[tokio::test]
async fn what_is_not_given_is_null() {
    let desk = Desk::open().await;
    let id = desk.registered(&with(person("Ann", "Lee", "1980-05-06"), "address", json!({}))).await;
    let body = desk.show(id).await;
    for member in ["phone", "email", "language", "address"] {
        assert!(body[member].is_null() && body.get(member).is_some(), "{member}: {body}");
    }
    assert_eq!(body["identifiers"], json!([]));
}

#[tokio::test]
async fn a_registration_is_one_history_row_and_one_event_without_anything_personal() {
    let desk = Desk::open().await;
    let id = desk.registered(&zoe()).await;
    assert_eq!(desk.history(id).await, json!([[1, "front-desk", "registered", null]]));
    let told = json!({"patientId": id, "version": 1, "status": "active"});
    assert_eq!(desk.told(id).await, [("patient.registered".to_owned(), told)]);
    let records = desk.topic_of("patient.registered", 1).await;
    let record = format!("{records:?}") + &String::from_utf8_lossy(&records[0].value);
    for canary in ["Zo", "ller", "6175550100", "zoe@", "999-45-3308", "Main"] {
        assert!(!record.contains(canary), "{canary} in {record}");
    }
}

#[tokio::test]
async fn names_are_stored_as_given() {
    let desk = Desk::open().await;
    for (i, name) in [
        "<script>alert(1)</script>",
        "{{7*7}}",
        "${jndi:ldap://example.org/a}",
        "👩🏽‍⚕️",
        "\u{202e}nnA",
        "محمد",
        "O'Brien; DROP TABLE patient; --",
        "100%",
        "名",
        &"é".repeat(100),
    ]
    .into_iter()
    .enumerate()
    {
        let birth_date = format!("19{:02}-01-01", 10 + i);
        let id = desk.registered(&person(name, name, &birth_date)).await;
        let body = desk.show(id).await;
        assert_eq!((&body["givenName"], &body["familyName"]), (&json!(name), &json!(name)));
    }
}

#[tokio::test]
async fn spaces_around_a_name_go() {
    let desk = Desk::open().await;
    let id = desk.registered(&person("  Ann ", " Lee", "1980-05-06")).await;
    assert_eq!(desk.show(id).await["givenName"], "Ann");
}

#[tokio::test]
async fn who_was_born_today_can_be_registered() {
    let desk = Desk::open().await;
    let today = desk.clock().now().to_zoned(jiff::tz::TimeZone::UTC).date();
    desk.registered(&person("New", "Born", &today.to_string())).await;
    desk.registered(&person("Old", "Timer", "1870-01-01")).await;
}
