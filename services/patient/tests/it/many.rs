//! Among many patients. `HOSPITAL_TEST_PATIENTS=1000000` says how many; the figures are printed.

use std::time::{Duration, Instant};

use hospital_testkit::{TestApp, eventually_within};

use crate::desk::Desk;

/// Names of which some are common, as names are: of a million, tens of thousands begin with `li`.
const MANY: &str = "
    SET session_replication_role = replica;
    CREATE FUNCTION pick(text[], bigint) RETURNS text LANGUAGE sql IMMUTABLE AS
    $$ SELECT CASE WHEN $2 % 10 < 6 THEN $1[1 + ($2 / 10) % cardinality($1)] ELSE 'N' || substr(md5($2::text), 1, 6) END $$;
    INSERT INTO patient.patient (id, version, status, given_name, family_name, birth_date, gender, phone, created_at, updated_at)
    SELECT md5(i::text)::uuid, 1, CASE WHEN i % 1000 = 0 THEN 'inactive' ELSE 'active' END,
           pick('{Anna,Maria,Li,John,Wei,Lukasz,Amina,Olga,Juan,Kim,Lisa,Lina,Jose,Ann,Peter,Mohamed,Fatima,Ivan,Zoe,Liam}',
                hashint8(i) & 2147483647),
           pick('{Lee,Li,Garcia,Smith,Wang,Müller,Nowak,Singh,Ivanov,Kim,Ling,Silva,Ali,Cohen,Rossi,Nguyen,Jones,Sato,Lin,Weiß}',
                hashint8(i + 1000000007) & 2147483647),
           date '1920-01-01' + (hashint4(i::int) & 2147483647) % 36500, 'female', '+1617' || 1000000 + i, now(), now()
    FROM generate_series(1, $many) AS i;
    INSERT INTO patient.patient_identifier SELECT id, 'urn:x', phone FROM patient.patient;
    ANALYZE";

#[expect(clippy::disallowed_methods, reason = "a test has no settings")]
fn many() -> u64 {
    std::env::var("HOSPITAL_TEST_PATIENTS").map_or(20_000, |n| n.parse().unwrap())
}

async fn timed(app: &TestApp, path: &str, token: &str) -> Duration {
    let start = Instant::now();
    let reply = app.get(path, token).await;
    assert_eq!(reply.status, 200, "{path}: {}", reply.text);
    start.elapsed()
}

#[tokio::test]
async fn a_search_takes_at_most_five_times_what_a_read_takes() {
    let desk = Desk::open().await;
    let start = Instant::now();
    desk.db.execute(&MANY.replace("$many", &many().to_string())).await.unwrap();
    let made = start.elapsed();
    eventually_within(Duration::from_secs(3600), "all names to be folded", async || {
        let left = "SELECT count(*) FROM (SELECT 1 FROM patient.patient
                    WHERE folded IS DISTINCT FROM '1/' || given_name || '/' || family_name LIMIT 1) AS any_left";
        (desk.db.value::<i64>(left).await.unwrap() == 0).then_some(())
    })
    .await;
    eprintln!("{} patients: made in {made:?}, folded after {:?}", many(), start.elapsed());
    desk.db.execute("VACUUM ANALYZE").await.unwrap();
    let one: String = desk.db.value("SELECT md5('77')::uuid::text").await.unwrap();
    let read = format!("/patients/{one}");
    let searches = [
        "name=li",
        "name=l",
        "name=n",
        "name=lukasz%20nowak",
        "name=li%20li",
        "name=an%20sm",
        "name=m%20garcia",
        "name=annagarcia",
        "name=nobody%20li",
        "name=li%20zz",
        "name=wei%20muller%20x",
        "name=anna%20maria",
        "phone=%2B16171000077",
        "birthDate=1950-01-01",
        "birthDate=1950",
        "birthDate=1950-06&name=li",
        "birthDate=1950-01-01&name=li%20zz",
        "identifier=urn:x|%2B16171000077",
        "status=inactive",
        "",
    ];
    let mut slow = Vec::new();
    for search in searches {
        let path = format!("/patients?limit=20&{search}");
        let page = desk.get(path.trim_end_matches('&'), &desk.token).await;
        let next = page.body["nextCursor"].as_str().map(|c| format!("{path}&cursor={c}"));
        for path in [Some(path), next].into_iter().flatten() {
            let (mut reads, mut finds) = (Vec::new(), Vec::new());
            for _ in 0..31 {
                reads.push(timed(&desk, &read, &desk.token).await);
                finds.push(timed(&desk, path.trim_end_matches('&'), &desk.token).await);
            }
            reads.sort();
            finds.sort();
            let times = finds[15].as_secs_f64() / reads[15].as_secs_f64();
            let path = path.split("&cursor").next().unwrap_or_default();
            eprintln!("{path}: {:?}, a read {:?}: {times:.1} times", finds[15], reads[15]);
            if times > 5.0 {
                slow.push(format!("{path}: {times:.1} times"));
            }
        }
    }
    assert!(slow.is_empty(), "{slow:#?}");
}
