//! What was seen in a public system of this very shape, and cannot happen here; `docs/reliability-seen.md` has the whole list.

use crate::desk::{Desk, person, with};

#[tokio::test]
async fn no_list_of_patients_is_longer_than_a_page() {
    let desk = Desk::open().await;
    for n in 0..60 {
        let mut body = person("Ann", &format!("Lee {n}"), "1980-05-06");
        body = with(body, "acceptDuplicate", true.into());
        desk.registered(&body).await;
    }
    let page = desk.get("/patients", &desk.token).await;
    assert_eq!(page.body["items"].as_array().unwrap().len(), 50);
    assert!(page.body["nextCursor"].is_string());
    for limit in ["0", "-1", "201", "1e9", "1000000000", ""] {
        let reply = desk.get(&format!("/patients?limit={limit}"), &desk.token).await;
        assert_eq!((reply.status, reply.code()), (400, "invalid-query"), "{limit}");
    }
    let mut tampered = page.body["nextCursor"].as_str().unwrap().to_owned();
    tampered.replace_range(3..4, if &tampered[3..4] == "A" { "B" } else { "A" });
    let reply = desk.get(&format!("/patients?cursor={tampered}"), &desk.token).await;
    assert_eq!((reply.status, reply.code()), (400, "invalid-query"), "a tampered cursor");
}
