use serde_json::{Value, json};

use crate::desk::{Desk, person, with, zoe};

/// What is changed in a good registration, and what is answered: status and pointer of a fault. The `true` ones hold for a change too.
struct Case(&'static str, Value, u16, &'static str, bool);

fn who() -> Vec<Case> {
    let tomorrow = jiff::civil::date(2190, 1, 1).to_string();
    vec![
        Case("givenName", json!(""), 422, "/givenName", true),
        Case("givenName", json!("   "), 422, "/givenName", true),
        Case("givenName", json!("a".repeat(101)), 422, "/givenName", true),
        Case("givenName", json!("a".repeat(10_000)), 422, "/givenName", true),
        Case("givenName", json!("a\u{0}b"), 422, "/givenName", true),
        Case("givenName", json!("a\nb"), 422, "/givenName", true),
        Case("givenName", Value::Null, 400, "/givenName", false),
        Case("givenName", json!(7), 400, "/givenName", true),
        Case("givenName", json!(["Ann"]), 400, "/givenName", true),
        Case("familyName", json!(""), 422, "/familyName", true),
        Case("familyName", json!("é".repeat(101)), 422, "/familyName", true),
        Case("familyName", Value::Null, 400, "/familyName", false),
        Case("birthDate", json!(tomorrow), 422, "/birthDate", true),
        Case("birthDate", json!("1990-02-31"), 422, "/birthDate", true),
        Case("birthDate", json!("2023-02-29"), 422, "/birthDate", true),
        Case("birthDate", json!("1869-12-31"), 422, "/birthDate", true),
        Case("birthDate", json!("9999-01-01"), 422, "/birthDate", true),
        Case("birthDate", json!("02/03/1990"), 422, "/birthDate", true),
        Case("birthDate", json!("1990-01-02T00:00:00Z"), 422, "/birthDate", true),
        Case("birthDate", json!(""), 422, "/birthDate", true),
        Case("birthDate", json!(19_900_102), 400, "/birthDate", true),
        Case("birthDate", Value::Null, 400, "/birthDate", true),
        Case("birthDate", json!("1990-1"), 422, "/birthDate", true),
        Case("birthDateEstimated", json!("yes"), 400, "/birthDateEstimated", true),
        Case("birthDateEstimated", Value::Null, 400, "/birthDateEstimated", true),
        Case("unidentified", json!(true), 422, "/unidentified", false),
        Case("unidentified", json!("yes"), 400, "/unidentified", true),
        Case("temporaryName", json!("Unknown Amber River 12"), 400, "/temporaryName", true),
        Case("displayName", json!("Zoë Müller"), 400, "/displayName", true),
        Case("gender", json!("Female"), 422, "/gender", true),
        Case("gender", json!(""), 422, "/gender", true),
        Case("gender", Value::Null, 400, "/gender", true),
    ]
}

fn contact_points() -> Vec<Case> {
    vec![
        Case("phone", json!("617-CALL-ME"), 422, "/phone", true),
        Case("phone", json!("+1 617 555 O1OO"), 422, "/phone", true),
        Case("phone", json!("555 0100"), 422, "/phone", true),
        Case("phone", json!("+1"), 422, "/phone", true),
        Case("phone", json!("+12345678901234567"), 422, "/phone", true),
        Case("phone", json!("+1617555\u{0}0100"), 422, "/phone", true),
        Case("phone", json!("+1 617 555 0100 or 617 555 0101"), 422, "/phone", true),
        Case("phone", json!(""), 422, "/phone", true),
        Case("phone", json!(16_175_550_100_u64), 400, "/phone", true),
        Case("phone", Value::Null, 400, "/phone", false),
        Case("email", json!("zoe"), 422, "/email", true),
        Case("email", json!("zoe@example.org\nBcc: all@example.org"), 422, "/email", true),
        Case("email", json!("zoe@example.org\r\n"), 422, "/email", true),
        Case("email", json!("z\u{0}oe@example.org"), 422, "/email", true),
        Case("email", json!("a@b@example.org"), 422, "/email", true),
        Case("email", json!(format!("zoe@{}.org", "a.".repeat(130))), 422, "/email", true),
        Case("email", json!("<script>@example.org"), 422, "/email", true),
        Case("email", Value::Null, 400, "/email", false),
        Case("language", json!("a language"), 422, "/language", true),
        Case("language", json!("x".repeat(40)), 422, "/language", true),
        Case("language", Value::Null, 400, "/language", false),
        Case("address", json!("1 Main Street"), 400, "/address", true),
        Case("address", json!({"street": "1 Main Street"}), 400, "/address/street", true),
        Case("address", json!({"city": 7}), 400, "/address/city", true),
        Case("address", json!({"city": ""}), 422, "/address/city", true),
        Case("address", json!({"line": "a".repeat(201)}), 422, "/address/line", true),
        Case("address", json!({"postalCode": "\u{0}"}), 422, "/address/postalCode", true),
        Case("address", Value::Null, 400, "/address", false),
    ]
}

fn identifiers_and_others() -> Vec<Case> {
    let twenty_one: Vec<_> =
        (0..21).map(|i| json!({"system": "urn:x", "value": i.to_string()})).collect();
    let identifier = |system: &str, value: &str| json!([{"system": system, "value": value}]);
    vec![
        Case("identifiers", identifier("", "1"), 422, "/identifiers/0/system", true),
        Case("identifiers", identifier("a|b", "1"), 422, "/identifiers/0/system", true),
        Case("identifiers", identifier("a", ""), 422, "/identifiers/0/value", true),
        Case("identifiers", identifier("a", "\u{0}"), 422, "/identifiers/0/value", true),
        Case("identifiers", identifier("a", &"1".repeat(201)), 422, "/identifiers/0/value", true),
        Case("identifiers", json!(twenty_one), 422, "/identifiers", true),
        Case(
            "identifiers",
            json!([{"system": "a", "value": "1"}, {"system": "a", "value": "1"}]),
            422,
            "/identifiers",
            true,
        ),
        Case("identifiers", json!([{"system": "a"}]), 400, "/identifiers/0", true),
        Case(
            "identifiers",
            json!([{"system": "a", "value": null}]),
            400,
            "/identifiers/0/value",
            true,
        ),
        Case(
            "identifiers",
            json!([{"system": "a", "value": "1", "use": "x"}]),
            400,
            "/identifiers/0/use",
            true,
        ),
        Case("identifiers", json!({}), 400, "/identifiers", true),
        Case("identifiers", Value::Null, 400, "/identifiers", false),
        Case("acceptDuplicate", json!("yes"), 400, "/acceptDuplicate", false),
        Case("acceptDuplicate", Value::Null, 400, "/acceptDuplicate", false),
        Case("acceptDuplicates", json!(true), 400, "/acceptDuplicates", true),
        Case("id", json!("018f3c5e-8c7a-7d0e-9b8e-4e2b6a1c2d3e"), 400, "/id", true),
        Case("status", json!("inactive"), 400, "/status", true),
        Case("version", json!(7), 400, "/version", true),
        Case("createdAt", json!("2020-01-01T00:00:00Z"), 400, "/createdAt", true),
    ]
}

#[tokio::test]
async fn a_bad_registration_or_change_is_refused_and_leaves_nothing() {
    let desk = Desk::open().await;
    let id = desk.registered(&person("Ann", "Lee", "1980-05-06")).await;
    let (before, rows) = (desk.show(id).await, desk.rows_of_all().await);
    for Case(member, value, status, pointer, change) in
        [who(), contact_points(), identifiers_and_others()].into_iter().flatten()
    {
        let mut replies = vec![desk.register(&with(zoe(), member, value.clone())).await];
        if change {
            replies.push(desk.change(id, &json!({ member: value })).await);
        }
        for reply in replies {
            let code = if status == 400 { "invalid-body" } else { "invalid" };
            let case = format!("{member}, {pointer}: {}", reply.text);
            assert_eq!((reply.status, reply.code()), (status, code), "{case}");
            assert_eq!(reply.body["errors"][0]["pointer"], pointer, "{case}");
            assert_eq!(reply.headers["content-type"], "application/problem+json");
            assert!(reply.body["traceId"].is_string());
        }
    }
    assert_eq!(desk.rows_of_all().await, rows, "no row and no event");
    assert_eq!(desk.show(id).await, before);
    desk.registered(&zoe()).await;
}

#[tokio::test]
async fn a_missing_member_is_a_400() {
    let desk = Desk::open().await;
    let mut body = zoe();
    body.as_object_mut().unwrap().remove("gender");
    let reply = desk.register(&body).await;
    assert_eq!((reply.status, reply.code()), (400, "invalid-body"));
    let id = desk.registered(&zoe()).await;
    for body in [json!({}), json!({"reason": null}), json!({"reason": "x", "by": "y"}), json!([])] {
        let reply = desk.post(&format!("/patients/{id}/deactivate"), &desk.token, &body).await;
        assert_eq!(reply.status, 400, "{body}");
    }
    for reason in ["", " ", "a\u{0}", &"a".repeat(201)] {
        let body = json!({ "reason": reason });
        let reply = desk.post(&format!("/patients/{id}/deactivate"), &desk.token, &body).await;
        assert_eq!((reply.status, &reply.body["errors"][0]["pointer"]), (422, &json!("/reason")));
    }
    assert_eq!(desk.show(id).await["version"], 1);
}

#[tokio::test]
async fn all_faults_are_told_at_once_and_no_value_is_repeated() {
    let desk = Desk::open().await;
    let body = json!({
        "givenName": "", "familyName": "secret\u{0}", "birthDate": "1990-02-31", "gender": "secret",
        "phone": "secret", "email": "secret", "language": "a secret",
        "address": {"city": "secret\u{0}", "line": "secret\u{0}"},
        "identifiers": [{"system": "secret|", "value": ""}],
    });
    let reply = desk.register(&body).await;
    let errors = reply.body["errors"].as_array().unwrap();
    let pointers: Vec<_> = errors.iter().map(|e| e["pointer"].as_str().unwrap()).collect();
    assert_eq!(
        pointers,
        [
            "/givenName",
            "/familyName",
            "/birthDate",
            "/gender",
            "/phone",
            "/email",
            "/language",
            "/address/line",
            "/address/city",
            "/identifiers/0/value",
            "/identifiers/0/system",
        ]
    );
    assert!(!reply.text.contains("secret"), "{}", reply.text);
    let typed = desk.register(&with(zoe(), "phone", json!({"secret": "secret"}))).await;
    assert!(typed.status == 400 && !typed.text.contains("secret"), "{}", typed.text);
}

#[tokio::test]
async fn bodies_that_are_no_registration_are_refused() {
    let desk = Desk::open().await;
    let good = zoe().to_string();
    let twice = good.replacen('{', r#"{"gender":"male","#, 1);
    let twice_inside = good.replacen(r#""city":"#, r#""city":"Rome","city":"#, 1);
    let truncated = &good[..good.len() - 1];
    let trailing = format!("{good} x");
    let deep = "[".repeat(60_000);
    let deep_member = good.replacen('{', &format!(r#"{{"x":{},"#, "[".repeat(30_000)), 1);
    let large = format!("{}{good}", " ".repeat(65_537 - good.len()));
    let not_utf8 = [&good.as_bytes()[..good.len() - 1], b",\"x\":\"\xff\"}"].concat();
    for (body, status) in [
        (b"".as_slice(), 400),
        (b"null", 400),
        (b"[]", 400),
        (b"\"x\"", 400),
        (b"{}", 400),
        (b"\0", 400),
        (truncated.as_bytes(), 400),
        (trailing.as_bytes(), 400),
        (twice.as_bytes(), 400),
        (twice_inside.as_bytes(), 400),
        (deep.as_bytes(), 400),
        (deep_member.as_bytes(), 400),
        (&not_utf8, 400),
        (large.as_bytes(), 413),
    ] {
        let reply =
            desk.post_raw("/patients", &desk.token, "application/json", body.to_vec()).await;
        let start = String::from_utf8_lossy(&body[..body.len().min(80)]).into_owned();
        assert_eq!(reply.status, status, "{start}: {}", reply.text);
    }
    for kind in ["text/plain", "application/xml", "application/x-www-form-urlencoded"] {
        let reply = desk.post_raw("/patients", &desk.token, kind, good.clone()).await;
        assert_eq!(reply.status, 415, "{kind}");
    }
    assert_eq!(desk.rows_of_all().await, 0);
    let largest = format!("{}{good}", " ".repeat(65_536 - good.len()));
    let reply = desk.post_raw("/patients", &desk.token, "application/json", largest).await;
    assert_eq!(reply.status, 201, "{}", reply.text);
}

#[tokio::test]
async fn a_patch_comes_as_merge_patch_or_json() {
    let desk = Desk::open().await;
    let id = desk.registered(&zoe()).await;
    for (kind, status) in [
        ("application/merge-patch+json", 200),
        ("application/json; charset=utf-8", 200),
        ("application/json-patch+json", 415),
        ("text/plain", 415),
    ] {
        let request = desk.request(reqwest::Method::PATCH, &format!("/patients/{id}"));
        let request = request.bearer_auth(&desk.token).header("content-type", kind);
        assert_eq!(hospital_testkit::read(request.body("{}")).await.status, status, "{kind}");
    }
}

#[tokio::test]
async fn other_methods_are_told_which_there_are() {
    let desk = Desk::open().await;
    let reply = desk.put("/patients", &desk.token, &json!({})).await;
    assert_eq!((reply.status, reply.code()), (405, "method-not-allowed"));
    assert!(reply.headers.contains_key("allow"));
}
