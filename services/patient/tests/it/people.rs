//! People as they are: with one name, with none, born some time.

use std::collections::BTreeSet;

use futures_util::future::join_all;
use hospital_testkit::eventually;
use serde_json::{Value, json};

use crate::desk::{Desk, person, with, zoe};

fn unidentified() -> Value {
    json!({"unidentified": true, "gender": "unknown"})
}

#[tokio::test]
async fn one_name_is_enough() {
    let desk = Desk::open().await;
    let suharto = json!({"familyName": "Suharto", "birthDate": "1921-06-08", "gender": "male"});
    let madonna = json!({"givenName": "Madonna", "birthDate": "1958-08-16", "gender": "female"});
    let (suharto, madonna) = (desk.registered(&suharto).await, desk.registered(&madonna).await);
    let body = desk.show(suharto).await;
    assert_eq!(
        (&body["givenName"], &body["familyName"], &body["displayName"], &body["unidentified"]),
        (&Value::Null, &json!("Suharto"), &json!("Suharto"), &json!(false))
    );
    assert_eq!(desk.show(madonna).await["familyName"], Value::Null);
    assert_eq!(desk.found("name=suharto").await, [suharto]);
    assert_eq!(desk.found("name=madonna").await, [madonna]);
    let zoe = desk.registered(&zoe()).await;
    assert_eq!(desk.show(zoe).await["displayName"], "Zoë Müller");
}

#[tokio::test]
async fn one_of_the_two_names_has_to_stay() {
    let desk = Desk::open().await;
    let id = desk.registered(&person("Ann", "Lee", "1980-05-06")).await;
    let reply = desk.change(id, &json!({"familyName": null})).await;
    assert_eq!((reply.status, &reply.body["familyName"]), (200, &Value::Null), "{}", reply.text);
    assert!(desk.found("name=lee").await.is_empty());
    let before = desk.rows_of_all().await;
    let reply = desk.change(id, &json!({"givenName": null})).await;
    assert_eq!((reply.status, reply.code()), (422, "name-missing"), "{}", reply.text);
    assert_eq!(desk.rows_of_all().await, before);
    let reply = desk.change(id, &json!({"givenName": null, "familyName": "Li"})).await;
    assert_eq!((reply.status, &reply.body["displayName"]), (200, &json!("Li")));
}

#[tokio::test]
async fn a_birth_date_is_kept_as_far_as_it_is_known() {
    let desk = Desk::open().await;
    for (given, date, estimated) in [
        ("Ann", "1980", true),
        ("Bob", "1980-06", false),
        ("Cem", "1980-06-05", true),
        ("Dan", "2000-02-29", false),
    ] {
        let body = with(person(given, "Lee", date), "birthDateEstimated", json!(estimated));
        let body = desk.show(desk.registered(&body).await).await;
        assert_eq!(
            (&body["birthDate"], &body["birthDateEstimated"]),
            (&json!(date), &json!(estimated))
        );
    }
    let id = desk.registered(&person("Eve", "Ray", "1990")).await;
    assert_eq!(desk.show(id).await["birthDateEstimated"], false);
    let exact = json!({"birthDate": "1990-07-08"});
    let reply = desk.change(id, &exact).await;
    assert_eq!((reply.status, &reply.body["birthDate"]), (200, &exact["birthDate"]));
    let reply = desk.change(id, &json!({"birthDateEstimated": true})).await;
    assert_eq!(
        (&reply.body["birthDate"], &reply.body["birthDateEstimated"], &reply.body["version"]),
        (&exact["birthDate"], &json!(true), &json!(3))
    );
    let this_year = desk.clock().now().to_zoned(jiff::tz::TimeZone::UTC).year();
    desk.registered(&person("New", "Born", &this_year.to_string())).await;
    for date in ["1869", "1980-00", "1980-13", "80", "2190", "2190-01", "1980-6", "June 1980"] {
        let reply = desk.register(&person("No", "Body", date)).await;
        assert_eq!(reply.status, 422, "{date}: {}", reply.text);
        assert_eq!(reply.body["errors"][0]["pointer"], "/birthDate", "{date}");
    }
}

#[tokio::test]
async fn what_is_missing_of_a_person_is_told() {
    let desk = Desk::open().await;
    for (body, pointers) in [
        (json!({"gender": "male"}), vec!["/givenName", "/birthDate"]),
        (json!({"gender": "male", "birthDate": "1980"}), vec!["/givenName"]),
        (json!({"gender": "male", "givenName": "Ann"}), vec!["/birthDate"]),
        (json!({"gender": "male", "unidentified": false}), vec!["/givenName", "/birthDate"]),
        (with(unidentified(), "givenName", json!("Ann")), vec!["/unidentified"]),
        (with(unidentified(), "birthDateEstimated", json!(true)), vec!["/birthDateEstimated"]),
    ] {
        let reply = desk.register(&body).await;
        assert_eq!(reply.status, 422, "{body}: {}", reply.text);
        let errors = reply.body["errors"].as_array().unwrap();
        let found: Vec<_> = errors.iter().map(|e| e["pointer"].as_str().unwrap()).collect();
        assert_eq!(found, pointers, "{body}");
    }
    assert_eq!(desk.rows_of_all().await, 0);
}

#[tokio::test]
async fn whoever_is_unidentified_is_called_by_a_name_and_completed_later() {
    let desk = Desk::open().await;
    let reply = desk.register(&unidentified()).await;
    assert_eq!(reply.status, 201, "{}", reply.text);
    let id = reply.id().parse().unwrap();
    let body = reply.body;
    let called = body["displayName"].as_str().unwrap().to_owned();
    let words: Vec<&str> = called.split(' ').collect();
    assert!(matches!(*words, ["Unknown", _, _, number] if number.len() == 2), "{called}");
    assert_eq!((&body["temporaryName"], &body["unidentified"]), (&json!(called), &json!(true)));
    for member in ["givenName", "familyName", "birthDate"] {
        assert!(body[member].is_null() && body.get(member).is_some(), "{member}: {body}");
    }
    assert_eq!(desk.show(id).await, body);
    let by_word = format!("name={}", words[1..].join("%20"));
    assert_eq!(desk.found(&by_word).await, [id]);

    let guess = json!({"birthDate": "1980", "birthDateEstimated": true});
    let reply = desk.change(id, &guess).await;
    assert_eq!((reply.status, &reply.body["unidentified"]), (200, &json!(true)));

    let known = json!({"givenName": "Ann", "familyName": "Lee", "birthDate": "1981-02-03"});
    let reply = desk.change(id, &with(known, "birthDateEstimated", json!(false))).await;
    assert_eq!(reply.status, 200, "{}", reply.text);
    assert_eq!(
        (&reply.body["displayName"], &reply.body["unidentified"], &reply.body["temporaryName"]),
        (&json!("Ann Lee"), &json!(false), &json!(called))
    );
    assert_eq!(desk.found(&by_word).await, [id], "the temporary name still finds them");
    assert_eq!(desk.found("name=ann%20lee").await, [id]);
    let again = desk.register(&person("Ann", "Lee", "1981-02-03")).await;
    assert_eq!(again.body["candidates"][0]["id"], json!(id), "{}", again.text);
}

#[tokio::test]
async fn no_two_who_are_unidentified_are_called_alike() {
    let desk = Desk::open().await;
    let body = unidentified();
    let replies = join_all((0..20).map(|_| desk.register(&body))).await;
    let names: BTreeSet<String> =
        replies.iter().map(|r| r.body["temporaryName"].as_str().unwrap().to_owned()).collect();
    assert_eq!(names.len(), 20);
    // All names have been given, and the first come again: those who have them keep them.
    desk.db.execute("SELECT setval('patient.temporary_name', 51840)").await.unwrap();
    let reply = desk.register(&body).await;
    assert_eq!(reply.status, 201, "{}", reply.text);
    assert!(!names.contains(reply.body["temporaryName"].as_str().unwrap()));
    let twice = format!(
        "UPDATE patient.patient SET temporary_name = '{}' WHERE id = '{}'",
        names.first().unwrap(),
        reply.id()
    );
    let refused = desk.db.execute(&twice).await.unwrap_err();
    assert!(format!("{refused:?}").contains("patient_temporary_name_taken"), "{refused:?}");
}

#[tokio::test]
async fn nothing_that_is_missing_makes_a_duplicate() {
    let desk = Desk::open().await;
    let found = with(unidentified(), "phone", json!("+16175550100"));
    for _ in 0..2 {
        desk.registered(&unidentified()).await;
        desk.registered(&found).await;
    }
    desk.registered(&with(person("Ann", "Lee", "1980"), "phone", json!("+16175550100"))).await;
    for (given, family, birth) in
        [("Ann", "Lee", "1981"), ("Ann", "Ray", "1980"), ("Anna", "Lee", "1980-05")]
    {
        desk.registered(&person(given, family, birth)).await;
    }
    let taken = json!([{"system": "urn:x", "value": "1"}]);
    let id = desk.registered(&with(unidentified(), "identifiers", taken.clone())).await;
    let reply = desk.register(&with(unidentified(), "identifiers", taken)).await;
    assert_eq!((reply.code(), &reply.body["patientId"]), ("identifier-taken", &json!(id)));
}

#[tokio::test]
async fn duplicates_are_scored_with_what_is_there() {
    let desk = Desk::open().await;
    let ann = desk.registered(&person("Łukasz", "Żółć", "1980-06")).await;
    let suharto = json!({"familyName": "Suharto", "birthDate": "1921", "gender": "male"});
    let suharto = desk.registered(&suharto).await;
    for (given, family, birth, id, score) in [
        ("Lukasz", "Zolc", "1980-06-05", ann, 0.75),
        ("Zolc", "Lukasz", "1980", ann, 0.65),
        ("Lukasz", "Zolc", "1980-06", ann, 0.75),
        ("", "Suharto", "1921-06-08", suharto, 0.65),
    ] {
        let mut body = person(given, family, birth);
        if given.is_empty() {
            body.as_object_mut().unwrap().remove("givenName");
        }
        let reply = desk.register(&body).await;
        assert_eq!((reply.status, reply.code()), (409, "possible-duplicate"), "{body}");
        assert_eq!(reply.body["candidates"], json!([{"id": id, "score": score}]), "{body}");
    }
}

#[tokio::test]
async fn a_phone_number_without_a_country_code_is_the_facilitys() {
    let desk = Desk::open().await;
    let id = desk.registered(&with(zoe(), "phone", json!("617-555-0100 ext. 5"))).await;
    assert_eq!(desk.show(id).await["phone"], "+16175550100;ext=5");
    for (query, finds) in [
        ("phone=617-555-0100", true),
        ("phone=%2B16175550100", true),
        ("phone=(617)%205550100%20x5", true),
        ("phone=617-555-0100%20x6", false),
        ("phone=617-555-0101", false),
    ] {
        assert_eq!(desk.found(query).await == [id], finds, "{query}");
    }
    let reply =
        desk.register(&with(person("Zoe", "Muller", "1991"), "phone", json!("6175550100"))).await;
    assert_eq!(reply.code(), "possible-duplicate", "{}", reply.text);
    let reply = desk.change(id, &json!({"phone": "020 7946 0000"})).await;
    assert_eq!(reply.status, 422, "a British number, in the United States: {}", reply.text);
}

#[tokio::test]
async fn a_birth_date_finds_all_who_may_be_born_then() {
    let desk = Desk::open().await;
    let mut ids = Vec::new();
    for (given, birth) in [
        ("Ann", "1980"),
        ("Bob", "1980-01-01"),
        ("Cem", "1980-06"),
        ("Dan", "1980-06-01"),
        ("Eve", "1980-06-05"),
        ("Fay", "1981"),
    ] {
        ids.push(desk.registered(&person(given, "Lee", birth)).await);
    }
    desk.registered(&unidentified()).await;
    let [ann, bob, cem, dan, eve, fay] = *ids else { unreachable!() };
    for (query, found) in [
        ("birthDate=1980-06-05", &[ann, cem, eve][..]),
        ("birthDate=1980-06", &[ann, cem, dan, eve]),
        ("birthDate=1980", &[ann, bob, cem, dan, eve]),
        ("birthDate=1980-01-01", &[ann, bob]),
        ("birthDate=1981-03", &[fay]),
        ("birthDate=1980&name=lee", &[ann, bob, cem, dan, eve]),
        ("birthDate=1980-06&name=eve", &[eve]),
        ("birthDate=1980-06-05&name=lee%20ann", &[ann]),
        ("birthDate=1979", &[]),
    ] {
        assert_eq!(desk.found(query).await, found, "{query}");
        let (mut seen, mut cursor) = (Vec::new(), String::new());
        while let [id] = *desk.found(&format!("{query}&limit=1{cursor}")).await {
            seen.push(id);
            let page = desk.get(&format!("/patients?{query}&limit=1{cursor}"), &desk.token).await;
            let Some(next) = page.body["nextCursor"].as_str() else { break };
            cursor = format!("&cursor={next}");
        }
        assert_eq!(seen, found, "{query}, page by page");
    }
}

/// What the version before sends to the database while both run.
const BEFORE: &str = "
    INSERT INTO patient.patient (id, version, status, given_name, family_name, birth_date, gender, created_at, updated_at)
    VALUES ('00000000-0000-7000-8000-000000000001', 1, 'active', 'Łukasz', 'O''Brien-Żółć', '1980-06-05', 'male', now(), now());
    INSERT INTO patient.patient_name (patient_id, word)
    SELECT '00000000-0000-7000-8000-000000000001', unnest(ARRAY['łukasz', 'o', 'brien', 'zołc'])";

const BEFORE_CHANGES: &str = "
    UPDATE patient.patient SET given_name = 'Søren', family_name = 'Weiß', birth_date = '1980-06-05', gender = 'male', phone = NULL,
           email = NULL, language = NULL, address = NULL WHERE id = '00000000-0000-7000-8000-000000000001';
    DELETE FROM patient.patient_name WHERE patient_id = '00000000-0000-7000-8000-000000000001';
    INSERT INTO patient.patient_name (patient_id, word)
    SELECT '00000000-0000-7000-8000-000000000001', unnest(ARRAY['søren', 'weiß'])";

#[tokio::test]
async fn whom_the_version_before_writes_is_found_as_people_type_it() {
    let desk = Desk::open().await;
    let found = async |query: &str| {
        eventually(query, async || (!desk.found(query).await.is_empty()).then_some(())).await;
    };
    desk.db.execute(BEFORE).await.unwrap();
    assert_eq!(desk.found("name=brien").await.len(), 1, "at once, by what it is found by there");
    found("name=lukasz%20obrien").await;
    found("name=zolc").await;
    found("name=zolc&birthDate=1980").await;
    desk.db.execute(BEFORE_CHANGES).await.unwrap();
    found("name=soren%20weiss").await;
    assert!(desk.found("name=lukasz").await.is_empty());
    desk.db
        .execute("UPDATE patient.patient SET status = 'inactive', birth_date = '1981-02-03'")
        .await
        .unwrap();
    found("name=soren&status=inactive").await;
    found("name=soren%20weiss&birthDate=1981").await;
    assert!(desk.found("name=soren&birthDate=1980").await.is_empty());
}
