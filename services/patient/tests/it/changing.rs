use futures_util::future::join_all;
use hospital_testkit::read;
use hospital_types::{AppointmentId, PatientId};
use reqwest::Method;
use serde_json::{Value, json};

use crate::desk::{Desk, person, with, zoe};

#[tokio::test]
async fn a_merge_patch_changes_what_it_mentions() {
    let desk = Desk::open().await;
    let id = desk.registered(&zoe()).await;
    let before = desk.show(id).await;
    desk.clock().advance(std::time::Duration::from_secs(60));
    let patch = json!({
        "givenName": "Zoe", "phone": "+44 20 7946 0000", "email": null,
        "address": {"city": "London", "postalCode": null},
    });
    let reply = desk.change(id, &patch).await;
    assert_eq!(reply.status, 200, "{}", reply.text);
    assert_eq!(reply.headers["etag"], "\"2\"");
    let mut after = before.clone();
    after["version"] = json!(2);
    after["givenName"] = json!("Zoe");
    after["displayName"] = json!("Zoe Müller");
    after["phone"] = json!("+442079460000");
    after["email"] = Value::Null;
    after["address"] = json!({"line": "1 Main Street", "city": "London"});
    after["updatedAt"] = reply.body["updatedAt"].clone();
    assert_eq!(reply.body, after);
    assert_ne!(reply.body["updatedAt"], before["updatedAt"]);
    assert_eq!(desk.show(id).await, after);

    let told = desk.told(id).await;
    let expected = json!({"patientId": id, "version": 2, "status": "active"});
    assert_eq!(told[1..], [("patient.updated".to_owned(), expected)]);
    assert_eq!(desk.history(id).await[1], json!([2, "front-desk", "demographics", null]));
}

#[tokio::test]
async fn every_member_can_be_changed_and_optional_ones_removed() {
    let desk = Desk::open().await;
    let id = desk.registered(&zoe()).await;
    let all = json!({
        "givenName": "Ann", "familyName": "Lee", "birthDate": "1991-02-03", "gender": "other",
        "phone": "+15550001111", "email": "ann@example.org", "language": "en",
        "address": {"line": "2", "city": "3", "state": "4", "postalCode": "5", "country": "6"},
        "identifiers": [{"system": "urn:new", "value": "1"}],
    });
    let reply = desk.change(id, &all).await;
    assert_eq!(reply.status, 200, "{}", reply.text);
    for (member, value) in all.as_object().unwrap() {
        assert_eq!(&reply.body[member], value, "{member}");
    }
    assert_eq!(desk.found("name=ann%20lee").await, [id]);
    assert!(desk.found("name=zoe").await.is_empty(), "the old name is no longer found");
    assert!(desk.found("identifier=urn:example:mrn|12345").await.is_empty());

    let none = json!({"phone": null, "email": null, "language": null, "address": null, "identifiers": null});
    let reply = desk.change(id, &none).await;
    assert_eq!(reply.status, 200, "{}", reply.text);
    for member in ["phone", "email", "language", "address"] {
        assert!(reply.body[member].is_null(), "{member}");
    }
    assert_eq!(reply.body["identifiers"], json!([]));
    assert_eq!(desk.rows("patient_identifier").await, 0);
}

#[tokio::test]
async fn changing_nothing_is_no_version_and_no_event() {
    let desk = Desk::open().await;
    let id = desk.registered(&zoe()).await;
    let rows = desk.rows_of_all().await;
    let mut same = zoe();
    same["phone"] = json!("+16175550100");
    for patch in [json!({}), same, json!({"address": {}}), json!({"address": {"state": null}})] {
        let reply = desk.change(id, &patch).await;
        assert_eq!(
            (reply.status, &reply.body["version"]),
            (200, &json!(1)),
            "{patch}: {}",
            reply.text
        );
    }
    assert_eq!(desk.rows_of_all().await, rows);
}

#[tokio::test]
async fn an_address_of_which_nothing_is_left_is_none() {
    let desk = Desk::open().await;
    let id = desk.registered(&zoe()).await;
    let reply = desk
        .change(id, &json!({"address": {"line": null, "city": null, "postalCode": null}}))
        .await;
    assert!(reply.body["address"].is_null(), "{}", reply.text);
}

#[tokio::test]
async fn another_patients_identifier_cannot_be_taken() {
    let desk = Desk::open().await;
    let owner = desk.registered(&zoe()).await;
    let own = json!([{"system": "urn:own", "value": "1"}]);
    let id = desk
        .registered(&with(person("Bob", "Ray", "1960-01-01"), "identifiers", own.clone()))
        .await;
    let rows = desk.rows_of_all().await;
    let wanted = json!([own[0], zoe()["identifiers"][0]]);
    let reply = desk.change(id, &json!({"identifiers": wanted})).await;
    assert_eq!((reply.status, reply.code()), (409, "identifier-taken"), "{}", reply.text);
    assert_eq!(reply.body["patientId"], json!(owner));
    assert_eq!(desk.show(id).await["identifiers"], own);
    assert_eq!(desk.rows_of_all().await, rows);
}

#[tokio::test]
async fn a_version_that_is_no_longer_current_is_refused() {
    let desk = Desk::open().await;
    let id = desk.registered(&zoe()).await;
    let patch = |name| json!({"givenName": name});
    assert_eq!(desk.change_seen(id, "\"1\"", &patch("A")).await.status, 200);
    let reply = desk.change_seen(id, "\"1\"", &patch("B")).await;
    assert_eq!((reply.status, reply.code()), (412, "version-stale"));
    assert_eq!(desk.change_seen(id, "*", &patch("C")).await.status, 200);
    // Without quotation marks it can be understood in one way only.
    assert_eq!(desk.change_seen(id, "1", &patch("D")).await.status, 412);
    assert_eq!(desk.change_seen(id, "three", &patch("D")).await.status, 400);
    let request = desk.request(Method::POST, &format!("/patients/{id}/deactivate"));
    let request = request.bearer_auth(&desk.token).header("if-match", "\"1\"");
    assert_eq!(read(request.json(&json!({"reason": "x"}))).await.status, 412);
    assert_eq!(desk.show(id).await["version"], 3);
}

#[tokio::test]
async fn changes_at_once_all_count() {
    let desk = Desk::open().await;
    let id = desk.registered(&zoe()).await;
    let patches: Vec<_> = (0..10).map(|i| json!({"givenName": format!("Z{i}")})).collect();
    let replies = join_all(patches.iter().map(|patch| desk.change(id, patch))).await;
    assert!(replies.iter().all(|r| r.status == 200));
    assert_eq!(desk.show(id).await["version"], 11);
    let versions: Vec<_> =
        desk.told(id).await.iter().map(|(_, e)| e["version"].as_i64().unwrap()).collect();
    assert_eq!(versions, (1..=11).collect::<Vec<_>>());
}

#[tokio::test]
async fn a_patient_is_deactivated_and_reactivated() {
    let desk = Desk::open().await;
    let id = desk.registered(&zoe()).await;
    let reply = desk.step(id, "reactivate").await;
    assert_eq!((reply.status, reply.code()), (409, "invalid-transition"));

    let reply = desk.step(id, "deactivate").await;
    assert_eq!((reply.status, &reply.body["status"]), (200, &json!("inactive")), "{}", reply.text);
    assert_eq!(reply.headers["etag"], "\"2\"");
    let reply = desk.step(id, "deactivate").await;
    assert_eq!((reply.status, reply.code()), (409, "invalid-transition"));
    assert_eq!(
        (&reply.body["from"], &reply.body["to"], &reply.body["allowed"]),
        (&json!("inactive"), &json!("inactive"), &json!(["active"]))
    );
    assert_eq!(desk.show(id).await["status"], "inactive");

    let reply = desk.step(id, "reactivate").await;
    assert_eq!((reply.status, &reply.body["status"]), (200, &json!("active")));
    assert_eq!(
        desk.history(id).await,
        json!([
            [1, "front-desk", "registered", null],
            [2, "front-desk", "deactivated", "asked for it"],
            [3, "front-desk", "reactivated", "asked for it"],
        ])
    );
    let statuses: Vec<_> =
        desk.told(id).await.into_iter().map(|(_, e)| e["status"].clone()).collect();
    assert_eq!(statuses, ["active", "inactive", "active"]);
}

#[tokio::test]
async fn the_service_cannot_rewrite_history() {
    let desk = Desk::open().await;
    desk.registered(&zoe()).await;
    for sql in [
        "UPDATE patient_history SET actor = 'x' RETURNING 1",
        "DELETE FROM patient_history RETURNING 1",
    ] {
        let refused = desk
            .context
            .db
            .write_alone("test", hospital_kit::sql!(sql))
            .await
            .unwrap_err()
            .to_string();
        assert!(refused.contains("permission denied"), "{refused}");
    }
}

#[tokio::test]
async fn what_does_not_exist_is_a_404_before_anything_else() {
    let desk = Desk::open().await;
    let another = AppointmentId::new().to_string();
    for id in [
        PatientId::new().to_string().as_str(),
        &another,
        "x",
        "1",
        "%27%20OR%201=1%20--",
        "..%2f..%2fetc%2fpasswd",
        &"a".repeat(200),
    ] {
        let path = format!("/patients/{id}");
        assert_eq!(desk.get(&path, &desk.token).await.status, 404, "{id}");
        for body in [json!({}), json!({"phone": 7}), json!({"phone": "x"}), json!({"id": 1})] {
            assert_eq!(desk.patch(&path, &desk.token, &body).await.status, 404, "{id} {body}");
        }
        for verb in ["deactivate", "reactivate"] {
            for body in [json!({"reason": "x"}), json!({}), json!({"reason": ""})] {
                let reply = desk.post(&format!("{path}/{verb}"), &desk.token, &body).await;
                assert_eq!((reply.status, reply.code()), (404, "not-found"), "{id} {body}");
            }
        }
    }
    assert_eq!(desk.rows_of_all().await, 0);
}
