use hospital_testkit::eventually;
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
        ("phone=617-555-0100", &[zoe]),
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
async fn names_are_found_as_people_type_them() {
    let desk = Desk::open().await;
    for (given, family, typed) in [
        (
            "Łukasz",
            "Żółć",
            &["lukasz zolc", "zolc, lukasz", "LUKASZ", "lukaszzolc", "zolclukasz", "luk zol"][..],
        ),
        ("Søren", "Ægidius", &["soren", "søren", "aegidius", "sor aeg"]),
        ("Anna", "Weiß", &["weiss", "WEISS", "weiß", "weis", "annaweiss"]),
        ("Ömer", "Yıldız", &["yildiz", "YILDIZ", "yıldız", "omer yil"]),
        ("İpek", "IŞIK", &["ipek", "İPEK", "isik", "ışık"]),
        ("Thị", "Đặng", &["dang", "đặng", "dang thi", "thidang"]),
        (
            "Sinéad",
            "O'Brien-D’Arcy",
            &[
                "obrien",
                "o'brien",
                "o’brien",
                "o brien",
                "darcy",
                "d'arcy",
                "obrien-darcy",
                "obriendarcy",
                "sinead obrien",
                "sinead o brien",
                "obrien darcy sinead",
                "brien",
                "arcy",
            ],
        ),
        ("小明", "王", &["王小明", "小明王", "王 小明", "小明", "王", "王小"]),
        (
            "Anna Maria",
            "Rossi",
            &["annamaria", "anna maria", "maria rossi", "annamaria rossi", "rossi annam"],
        ),
        (
            "Marieanne",
            "Dupont",
            &["marieanne", "marie anne", "marie anne dupont", "dupont marie anne"],
        ),
        ("Jean-Luc", "Picard", &["jeanluc", "jean luc", "jean-luc picard", "luc"]),
        ("Inés", "de la Cruz", &["delacruz", "lacruz", "de la cruz ines"]),
        ("Þóra", "Guðmundsdóttir", &["thora gudmundsdottir"]),
        ("Σωκράτης", "Παπαδόπουλος", &["παπαδοπουλος", "ΣΩΚΡΑΤΗΣ"]),
    ] {
        let id = desk.registered(&person(given, family, "1980-01-01")).await;
        for typed in typed {
            let request = desk.request(reqwest::Method::GET, "/patients").query(&[("name", typed)]);
            let reply = hospital_testkit::read(request.bearer_auth(&desk.token)).await;
            assert!(ids(&reply.body).contains(&id), "{typed} for {given} {family}: {}", reply.text);
        }
        for other in ["wang", "xiaoming", "zolcx", "xlukasz", "lukasz weiss"] {
            assert!(desk.found(&format!("name={other}")).await.is_empty(), "{other}");
        }
    }
}

#[tokio::test]
async fn who_is_found_by_several_words_comes_once() {
    let desk = Desk::open().await;
    let twice = desk.registered(&person("Li", "Liang Lin", "1980-01-01")).await;
    let once = desk.registered(&person("Lisa", "Ray", "1981-01-01")).await;
    for query in ["name=li", "name=l", "name=l%20li", "name=li%20lin"] {
        let found = desk.found(query).await;
        assert_eq!(found.iter().filter(|id| **id == twice).count(), 1, "{query}");
    }
    let first = desk.get("/patients?name=li&limit=1", &desk.token).await;
    let cursor = first.body["nextCursor"].as_str().unwrap().to_owned();
    assert_eq!(ids(&first.body), [twice]);
    assert_eq!(desk.found(&format!("name=li&limit=1&cursor={cursor}")).await, [once]);
}

/// All that a search finds, one a page.
async fn one_by_one(desk: &Desk, query: &str) -> Vec<PatientId> {
    let (mut seen, mut cursor) = (Vec::new(), String::new());
    loop {
        let page = desk.get(&format!("/patients?{query}&limit=1{cursor}"), &desk.token).await;
        assert_eq!(page.status, 200, "{query}: {}", page.text);
        seen.extend(ids(&page.body));
        let Some(next) = page.body["nextCursor"].as_str() else { return seen };
        cursor = format!("&cursor={next}");
    }
}

#[tokio::test]
async fn who_has_the_words_apart_comes_before_who_has_them_together_and_once() {
    let desk = Desk::open().await;
    let mut found = Vec::new();
    for (day, (given, family)) in [
        ("Annamaria", "Rossi"),
        ("Anna Maria", "Rossi"),
        ("Maria Anna", "Lee"),
        ("Annamarie", "Maria Ann"),
        ("Anna Mariana", "Anna Marie"),
        ("Maria", "Hanna"),
        ("%Anna", "_Maria"),
    ]
    .into_iter()
    .enumerate()
    {
        let birth = format!("1980-01-1{day}");
        found.push(desk.registered(&person(given, family, &birth)).await);
    }
    let [together, apart, swapped, both, several, _, signs] = *found else { unreachable!() };
    // By the entry of `maria`, then by id; together by `annamaria`.
    let all = vec![apart, swapped, both, signs, several, together];
    eventually("all names to be folded", async || {
        (one_by_one(&desk, "name=anna%20maria").await == all).then_some(())
    })
    .await;
    assert_eq!(desk.found("name=anna%20maria").await, all);
    assert_eq!(
        one_by_one(&desk, "name=maria%20anna").await,
        [apart, swapped, both, signs, several]
    );
    assert_eq!(one_by_one(&desk, "name=annamaria%20rossi").await, [together, apart]);
    for query in ["birthDate=1980", "birthDate=1980-01", "status=active"] {
        assert_eq!(one_by_one(&desk, &format!("name=anna%20maria&{query}")).await, all, "{query}");
    }
}

/// Registers these, whoever else is alike: born in 1980, with one phone number.
async fn family(desk: &Desk, names: &[(&str, &str)]) -> Vec<PatientId> {
    let mut registered = Vec::new();
    for (given, family) in names {
        let body = with(person(given, family, "1980-06-05"), "phone", json!("+16175550100"));
        registered.push(desk.registered(&with(body, "acceptDuplicate", json!(true))).await);
    }
    registered
}

#[tokio::test]
async fn who_has_one_word_comes_before_who_has_it_in_several_and_once() {
    let desk = Desk::open().await;
    let names = [("Garcia", "Lee"), ("Gar", "Cia"), ("Anna", "Garcia"), ("Ga", "Rcia Gar")];
    let found = family(&desk, &names).await;
    let [lee, gar, anna, ga] = *found else { unreachable!() };
    let both = family(&desk, &[("Gar Cia", "Garcia")]).await[0];
    eventually("all names to be folded", async || {
        (desk.found("name=garcia").await == [lee, anna, both, ga, gar]).then_some(())
    })
    .await;
    for query in ["birthDate=1980", "birthDate=1980-06", "birthDate=1980-06-05", "status=active"] {
        let found = one_by_one(&desk, &format!("name=garcia&{query}")).await;
        assert_eq!(found, [lee, anna, both, ga, gar], "{query}");
    }
    assert_eq!(one_by_one(&desk, "name=garcia").await, [lee, anna, both, ga, gar]);
    assert_eq!(one_by_one(&desk, "name=garciag").await, [ga, both]);
    assert_eq!(one_by_one(&desk, "name=gar%20cia").await, [gar, both, ga, lee, anna]);
    let by_phone = "phone=%2B16175550100&name=garcia";
    assert_eq!(one_by_one(&desk, by_phone).await, [lee, gar, anna, ga, both]);
    assert_eq!(desk.change(gar, &json!({"familyName": "Lee"})).await.status, 200);
    assert_eq!(one_by_one(&desk, by_phone).await, [lee, anna, ga, both]);
    assert_eq!(one_by_one(&desk, "name=garcia").await, [lee, anna, both, ga]);
}

#[tokio::test]
async fn who_has_three_words_is_found_by_them_in_any_order_and_by_their_beginnings() {
    let desk = Desk::open().await;
    let names = [
        ("Anna Maria", "Garcia"),
        ("Maria", "Garcia"),
        ("Anna Garcia", "Maria Lopez"),
        ("Annamaria", "Garcia"),
    ];
    let found = family(&desk, &names).await;
    let [three, _, four, together] = *found else { unreachable!() };
    eventually("all names to be folded", async || {
        (desk.found("name=ann%20mar%20gar").await == [three, four]).then_some(())
    })
    .await;
    for (typed, found) in [
        ("anna%20maria%20garcia", &[three, four, together][..]),
        ("garcia%20anna%20maria", &[three, four, together]),
        ("garcia%20maria%20anna", &[three, four]),
        ("garcia%20annamaria", &[together, three]),
        ("m%20a%20g", &[three, four]),
        ("a%20m%20garcia", &[three, four]),
        ("g%20l%20maria", &[four]),
        ("maria%20lopez%20garcia%20anna", &[four]),
        ("maria%20lopez%20garcia%20x", &[]),
        ("maria%20lopez%20garcia", &[four]),
    ] {
        assert_eq!(one_by_one(&desk, &format!("name={typed}")).await, found, "{typed}");
        let with_phone = one_by_one(&desk, &format!("name={typed}&phone=%2B16175550100")).await;
        let mut found = found.to_vec();
        found.sort_by_key(|id| id.uuid());
        assert_eq!(with_phone, found, "{typed} by the phone number");
    }
}

#[tokio::test]
async fn a_name_is_found_with_the_year_and_the_status_of_now() {
    let desk = Desk::open().await;
    let nobody: [PatientId; 0] = [];
    let ann = desk.registered(&person("Ann", "Lee", "1980-06-05")).await;
    let bob = desk.registered(&person("Bob", "Lee", "1980")).await;
    let both = |query: &'static str| desk.found(query);
    assert_eq!(both("name=lee&birthDate=1980").await, [ann, bob]);
    assert_eq!(both("name=lee&birthDate=1980-06").await, [ann, bob]);
    assert_eq!(both("name=lee&birthDate=1980-07").await, [bob]);
    assert_eq!(both("name=lee&status=inactive").await, nobody);

    assert_eq!(desk.step(ann, "deactivate").await.status, 200);
    assert_eq!(desk.change(bob, &json!({"birthDate": "1981-06"})).await.status, 200);
    assert_eq!(both("name=lee&birthDate=1980").await, [ann]);
    assert_eq!(both("name=lee&birthDate=1981").await, [bob]);
    assert_eq!(both("name=lee&status=inactive").await, [ann]);
    assert_eq!(both("name=ann%20lee&status=inactive&birthDate=1980").await, [ann]);
    assert_eq!(both("name=lee&birthDate=1981-06").await, [bob]);
    assert_eq!(both("name=lee&birthDate=1981-07").await, nobody);
    assert_eq!(desk.change(bob, &json!({"birthDate": "1981-07"})).await.status, 200);
    assert_eq!(both("name=lee&birthDate=1981-07").await, [bob]);
    assert_eq!(both("birthDate=1980&status=inactive").await, [ann]);
    assert_eq!(both("birthDate=1980&status=active").await, nobody);

    assert_eq!(desk.step(ann, "reactivate").await.status, 200);
    assert_eq!(both("name=lee&status=inactive").await, nobody);
    assert_eq!(both("name=lee&birthDate=1980&status=active").await, [ann]);
    let left = "SELECT count(*) FROM patient.patient WHERE entries IS DISTINCT FROM
                '2/' || given_name || '/' || family_name || '/' || (birth_date - date '0001-01-01')::text || birth_precision || '/' || status";
    assert_eq!(desk.db.value::<i64>(left).await.unwrap(), 0, "nothing is left to the background");
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

/// Twenty thousand patients, whose rows lie in no order of their ids: the hardest case for reading by id.
const MANY: &str = "
    SET session_replication_role = replica;
    INSERT INTO patient.patient
    SELECT md5(i::text)::uuid, 1, CASE WHEN i % 1000 = 0 THEN 'inactive' ELSE 'active' END,
           'Given' || i % 500, 'Family' || i % 7919, date '1920-01-01' + i % 36500, 'female', '+1555' || 1000000 + i,
           NULL, NULL, NULL, now(), now()
    FROM generate_series(1, 20000) AS i;
    INSERT INTO patient.patient_name SELECT id, lower(given_name) FROM patient.patient;
    INSERT INTO patient.patient_name SELECT id, lower(family_name) FROM patient.patient;
    INSERT INTO patient.patient_identifier SELECT id, 'urn:x', phone FROM patient.patient;
    ANALYZE";

#[tokio::test]
async fn no_search_and_no_registration_reads_a_whole_table() {
    let mut desk = Desk::open().await;
    desk.db.execute(MANY).await.unwrap();
    let scans = "SELECT format('%s %s', sum(seq_scan), sum(idx_scan)) FROM pg_stat_user_tables
                 WHERE relid::regclass::text LIKE 'patient.patient%'";
    let before = counts(&desk.db.value::<String>(scans).await.unwrap());
    for query in [
        "",
        "name=family77",
        "name=given1%20family77",
        "phone=%2B15551000077",
        "birthDate=1950-01-01",
        "status=inactive",
        "status=active",
        "identifier=urn:x|%2B15551000077",
        "identifier=urn:x|nobody",
        "name=family77&status=active&birthDate=1950-01-01",
    ] {
        let page = desk.get(&format!("/patients?limit=2&{query}"), &desk.token).await;
        assert_eq!(page.status, 200, "{query}: {}", page.text);
        if let Some(cursor) = page.body["nextCursor"].as_str() {
            desk.found(&format!("limit=2&{query}&cursor={cursor}")).await;
        }
    }
    let id = desk.registered(&zoe()).await;
    desk.show(id).await;
    // A backend's counts are complete once it has ended.
    desk.app.stop().await;
    eventually("the service's backends to end", async || {
        let left = "SELECT count(*) FROM pg_stat_activity
                    WHERE datname = current_database() AND application_name = 'hospital-patient'";
        (desk.db.value::<i64>(left).await.unwrap() == 0).then_some(())
    })
    .await;
    let after = counts(&desk.db.value::<String>(scans).await.unwrap());
    assert_eq!(after[0] - before[0], 0, "sequential scans");
    assert!(after[1] - before[1] > 20, "index scans are counted: {before:?}, {after:?}");
}

fn counts(text: &str) -> Vec<i64> {
    text.split(' ').map(|n| n.parse().unwrap()).collect()
}
