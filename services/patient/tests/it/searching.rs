use hospital_types::PatientId;
use serde_json::{Value, json};

use crate::desk::{Desk, ids, person, with, zoe};

/// Three patients: Zoë Müller with everything, José-María de la Cruz, and Anna 100% Lee, who is inactive.
async fn three(desk: &Desk) -> [PatientId; 3] {
    let zoe = desk.registered(&zoe()).await;
    let jose = desk.registered(&person("José-María", "de la Cruz", "1970-03-04")).await;
    let anna = desk.registered(&person("Anna 100%", "Lee_", "1990-01-02")).await;
    assert_eq!(desk.step(anna, "deactivate").await.status, 200);
    [zoe, jose, anna]
}

#[tokio::test]
async fn every_filter_finds_whom_it_should() {
    let desk = Desk::open().await;
    let [zoe, jose, anna] = three(&desk).await;
    let nobody: [PatientId; 0] = [];
    for (query, found) in [
        ("", &[zoe, jose, anna][..]),
        ("name=zoe", &[zoe]),
        ("name=ZO%C3%8B", &[zoe]),
        ("name=mull", &[zoe]),
        ("name=Mu%CC%88ll%20Z", &[zoe]),
        ("name=maria%20cruz", &[jose]),
        ("name=jose-mar", &[jose]),
        ("name=de%20la", &[jose]),
        ("name=l", &[jose, anna]),
        ("name=ruz", &nobody),
        ("name=zoe%20lee", &nobody),
        ("name=%25", &nobody),
        ("name=_", &nobody),
        ("name=100%25", &[anna]),
        ("name=z%25r", &nobody),
        ("name=%27%20OR%20%271%27=%271", &nobody),
        ("phone=%2B16175550100", &[zoe]),
        ("phone=+16175550100", &[zoe]),
        ("phone=%2B1%20(617)%20555-0100", &[zoe]),
        ("phone=%2B16175550101", &nobody),
        ("birthDate=1990-01-02", &[zoe, anna]),
        ("birthDate=1990-01-02&status=active", &[zoe]),
        ("birthDate=1990-01-02&name=lee", &[anna]),
        ("birthDate=1990-01-02&phone=%2B16175550100&name=zoe&status=active", &[zoe]),
        ("identifier=urn:example:mrn%7C12345", &[zoe]),
        ("identifier=urn:example:mrn|12345&name=lee", &nobody),
        ("identifier=urn:example:mrn|1234", &nobody),
        ("status=inactive", &[anna]),
        ("status=active", &[zoe, jose]),
        ("status=active&name=l", &[jose]),
    ] {
        assert_eq!(desk.found(query).await, found, "{query}");
    }
}

#[tokio::test]
async fn items_of_a_list_are_whole() {
    let desk = Desk::open().await;
    let id = desk.registered(&zoe()).await;
    let reply = desk.get("/patients?name=zoe", &desk.token).await;
    assert_eq!(reply.body["items"], json!([desk.show(id).await]));
    assert_eq!(reply.body["nextCursor"], Value::Null);
}

#[tokio::test]
async fn pages_follow_one_another_without_a_gap() {
    let desk = Desk::open().await;
    let mut all = Vec::new();
    for year in 1950..1957 {
        all.push(desk.registered(&person("Ann", "Lee", &format!("{year}-01-01"))).await);
    }
    for query in ["limit=3", "limit=3&name=ann", "limit=3&status=active"] {
        let (mut seen, mut cursor) = (Vec::new(), String::new());
        loop {
            let page = desk.get(&format!("/patients?{query}{cursor}"), &desk.token).await;
            assert_eq!(page.status, 200, "{}", page.text);
            seen.extend(ids(&page.body));
            let Some(next) = page.body["nextCursor"].as_str() else { break };
            assert_eq!(ids(&page.body).len(), 3);
            cursor = format!("&cursor={next}");
        }
        assert_eq!(seen, all, "{query}");
    }
}

#[tokio::test]
async fn what_is_no_search_is_a_400() {
    let desk = Desk::open().await;
    for id in 0..3 {
        desk.registered(&person("Ann", "Lee", &format!("195{id}-01-01"))).await;
    }
    let page = desk.get("/patients?limit=1", &desk.token).await;
    let cursor = page.body["nextCursor"].as_str().unwrap().to_owned();
    let tampered = format!("cursor={}{}", &cursor[1..], &cursor[..1]);
    for query in [
        "limit=0",
        "limit=-1",
        "limit=1e9",
        "limit=1000000000",
        "limit=201",
        "limit=",
        "limit=1&limit=2",
        "cursor=",
        "cursor=x",
        &tampered,
        "page=2",
        "givenName=Ann",
        "name=",
        "name=%20",
        "name=%00",
        "name=a%00b",
        "name=a+b+c+d+e+f+g+h+i",
        &format!("name={}", "a".repeat(201)),
        "phone=617-CALL-ME",
        "phone=",
        "phone=5550100",
        "birthDate=1990-02-31",
        "birthDate=02/03/1990",
        "identifier=12345",
        "identifier=|12345",
        "identifier=urn:x|",
        "identifier=urn:x|%00",
        "status=dead",
        "status=ACTIVE",
    ] {
        let reply = desk.get(&format!("/patients?{query}"), &desk.token).await;
        assert_eq!((reply.status, reply.code()), (400, "invalid-query"), "{query}: {}", reply.text);
    }
    assert_eq!(desk.get(&format!("/patients?cursor={cursor}"), &desk.token).await.status, 200);
}

#[tokio::test]
async fn a_name_of_one_sign_is_found_by_it() {
    let desk = Desk::open().await;
    let id =
        desk.registered(&with(person("👩", "👩", "1950-01-01"), "gender", json!("female"))).await;
    assert_eq!(desk.found("name=%F0%9F%91%A9").await, [id]);
}
