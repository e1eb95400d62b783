//! Among many patients. `HOSPITAL_TEST_PATIENTS=1000000` says how many; the figures are printed.

use std::time::{Duration, Instant};

use hospital_kit::http::Cursor;
use hospital_testkit::{TestApp, eventually_within};

use crate::desk::Desk;

#[expect(clippy::disallowed_methods, reason = "a test has no settings")]
fn many() -> u64 {
    std::env::var("HOSPITAL_TEST_PATIENTS").map_or(20_000, |n| n.parse().unwrap())
}

/// What is searched for, and which share of all patients is found at least: so that what should be
/// common is.
const SEARCHES: [(&str, f64); 93] = [
    ("", 1.0),
    ("status=active", 0.85),
    ("status=inactive", 0.001),
    // One word: common, rare, not there, beginnings.
    ("name=lukasz", 0.01),
    ("name=nowak", 0.015),
    ("name=garcia", 0.03),
    ("name=anna", 0.05),
    ("name=lee", 0.005),
    ("name=li", 0.02),
    ("name=l", 0.05),
    ("name=n", 0.02),
    ("name=lu", 0.01),
    ("name=no", 0.015),
    ("name=zy", 0.0),
    ("name=lukaszn", 0.002),
    ("name=annagarcia", 0.0),
    ("name=zzyzx", 0.0),
    // Two, of which either, both or neither is common, and who has both is or is not.
    ("name=lukasz%20nowak", 0.002),
    ("name=nowak%20lukasz", 0.002),
    ("name=luka%20nowa", 0.002),
    ("name=lu%20no", 0.002),
    ("name=l%20n", 0.002),
    ("name=m%20garcia", 0.0),
    ("name=li%20li", 0.01),
    ("name=an%20sm", 0.0),
    ("name=anna%20garcia", 0.0),
    ("name=lukasz%20zzyzx", 0.0),
    ("name=zzyzx%20nowak", 0.0),
    ("name=luka%20nq", 0.0),
    ("name=lq%20nowak", 0.0),
    ("name=li%20zz", 0.0),
    ("name=anna%20maria", 0.0),
    ("name=lukasz%20nowak%20x", 0.0),
    ("name=maria%20garcia", 0.0),
    ("name=peter%20maria", 0.0),
    ("name=anna%20maria%20garcia", 0.0),
    ("name=li%20kim%20lee", 0.0),
    ("name=anna%20nowak%20lukasz", 0.0),
    // A birth date.
    ("birthDate=1950", 0.008),
    ("birthDate=1950-06", 0.0005),
    ("birthDate=1950-06-05", 0.0),
    ("birthDate=1900-01-01", 0.01),
    ("birthDate=1890", 0.0),
    ("birthDate=1950&status=active", 0.007),
    ("birthDate=1950&status=inactive", 0.0),
    ("birthDate=1950-06&status=inactive", 0.0),
    ("birthDate=1925&status=active", 0.0),
    ("birthDate=1925-06&status=active", 0.0),
    ("birthDate=1950&name=lukasz", 0.0),
    ("birthDate=1950&name=nowak", 0.0),
    ("birthDate=1890&name=nowak", 0.0),
    ("birthDate=1950&name=l", 0.0),
    ("birthDate=1950&name=zzyzx", 0.0),
    ("birthDate=1950&name=lukasz%20nowak", 0.0),
    ("birthDate=1950&name=li%20zz", 0.0),
    ("birthDate=1950-06&name=nowak", 0.0),
    ("birthDate=1950-06&name=li", 0.0),
    ("birthDate=1950-06&name=l", 0.0),
    ("birthDate=1950-06&name=anna", 0.0),
    ("birthDate=1950-06&name=zzyzx", 0.0),
    ("birthDate=1950-06-05&name=l", 0.0),
    ("birthDate=1950-06-05&name=li%20zz", 0.0),
    ("birthDate=1900-01-01&name=garcia", 0.0002),
    ("birthDate=1900-01-01&name=lukasz", 0.0),
    ("birthDate=1900-01-01&name=zzyzx", 0.0),
    ("birthDate=1950&name=nowak&status=inactive", 0.0),
    ("birthDate=1925&name=ewa&status=active", 0.0),
    // A name and a status.
    ("name=lukasz&status=active", 0.0085),
    ("name=lukasz&status=inactive", 0.001),
    ("name=nowak&status=inactive", 0.0),
    ("name=l&status=inactive", 0.0),
    ("name=lukasz%20nowak&status=inactive", 0.0),
    ("name=li%20zz&status=inactive", 0.0),
    ("name=ewa&status=inactive", 0.009),
    ("name=ewa&status=active", 0.0001),
    ("name=garcia%20ewa&status=active", 0.0),
    // What many have.
    ("phone=%2B16179999999", 0.002),
    ("phone=%2B16179999999&name=garcia", 0.0),
    ("phone=%2B16179999999&name=lukasz", 0.0),
    ("phone=%2B16179999999&name=zzyzx", 0.0),
    ("phone=%2B16179999999&name=anna%20garcia", 0.0),
    ("phone=%2B16179999999&birthDate=1950", 0.0),
    ("phone=%2B16179999999&birthDate=1890", 0.0),
    ("phone=%2B16179999999&status=active", 0.0015),
    ("phone=%2B16179999999&status=inactive", 0.0),
    // What few have.
    ("phone=%2B16171000100", 0.0),
    ("phone=%2B16170000000", 0.0),
    ("phone=%2B16171000100&name=lukasz", 0.0),
    ("phone=%2B16171000100&birthDate=1950", 0.0),
    ("phone=%2B16171000100&status=inactive", 0.0),
    ("identifier=urn:x|%2B16171000100", 0.0),
    ("identifier=urn:x|nobody&name=lukasz", 0.0),
    ("identifier=urn:x|%2B16171000100&birthDate=1950", 0.0),
];

async fn timed(app: &TestApp, path: &str, token: &str) -> Duration {
    let start = Instant::now();
    let reply = app.get(path, token).await;
    assert_eq!(reply.status, 200, "{path}: {}", reply.text);
    start.elapsed()
}

/// How many times as long as reading one patient a page takes, by the medians of both.
async fn times(desk: &Desk, read: &str, page: &str) -> f64 {
    let (mut reads, mut pages) = (Vec::new(), Vec::new());
    for _ in 0..31 {
        reads.push(timed(desk, read, &desk.token).await);
        pages.push(timed(desk, page, &desk.token).await);
    }
    reads.sort();
    pages.sort();
    pages[15].as_secs_f64() / reads[15].as_secs_f64()
}

/// The first page of a search, the second, and the last half of one, if there are less than `most`.
async fn pages(desk: &Desk, search: &str, most: usize) -> (Vec<(&'static str, String)>, usize) {
    let page = |limit: usize, cursor: &str| {
        let cursor = if cursor.is_empty() { String::new() } else { format!("&cursor={cursor}") };
        let and = if search.is_empty() { "" } else { "&" };
        format!("/patients?limit={limit}{and}{search}{cursor}")
    };
    let mut pages = vec![("first", page(20, ""))];
    let (mut cursor, mut found, mut limit) = (String::new(), 0, 20);
    while found < most {
        let reply = desk.get(&page(limit, &cursor), &desk.token).await;
        assert_eq!(reply.status, 200, "{search}: {}", reply.text);
        let items = reply.body["items"].as_array().unwrap().len();
        found += items;
        let Some(next) = reply.body["nextCursor"].as_str() else {
            let before = items.saturating_sub(10);
            if before > 0 {
                let reply = desk.get(&page(before, &cursor), &desk.token).await;
                cursor = reply.body["nextCursor"].as_str().unwrap().to_owned();
            }
            pages.push(("last", page(20, &cursor)));
            break;
        };
        cursor = next.to_owned();
        if limit == 20 {
            pages.push(("second", page(20, &cursor)));
        }
        limit = 200;
    }
    for (which, last) in ends(desk, search).await {
        pages.push((which, page(20, &Cursor::encode(&last))));
    }
    (pages, found)
}

/// The last patient who is called by the only word of a search, and the last of whom a word begins
/// so, however many there are.
async fn ends(desk: &Desk, search: &str) -> Vec<(&'static str, String)> {
    let Some(word) = search.strip_prefix("name=") else { return Vec::new() };
    if !word.chars().all(char::is_alphabetic) {
        return Vec::new();
    }
    let mut ends = Vec::new();
    for (which, called) in [
        ("behind who is called so", format!("word = '{word}'")),
        ("very last", format!("word >= '{word}' AND word < '{word}~' AND words IS NULL")),
    ] {
        let last = format!(
            "SELECT coalesce((SELECT patient_id::text FROM patient.patient_name WHERE {called}
                              ORDER BY word DESC, patient_id DESC LIMIT 1), '')"
        );
        let last: String = desk.db.value(&last).await.unwrap();
        if !last.is_empty() {
            ends.push((which, last));
        }
    }
    ends
}

/// Of whom the service makes the entries that SQL made.
const SOME: &str = "CREATE TABLE sampled AS SELECT n.* FROM patient.patient_name n
                    WHERE patient_id IN (SELECT md5((i * 50 + i % 7)::text)::uuid FROM generate_series(1, 199) AS i);
                    CREATE TABLE sampled_words AS SELECT id, words FROM patient.patient
                    WHERE id IN (SELECT patient_id FROM sampled);
                    UPDATE patient.patient SET entries = NULL, words = NULL WHERE id IN (SELECT patient_id FROM sampled)";
const OTHERS: &str = "SELECT count(*) FROM (
                          (TABLE sampled EXCEPT SELECT * FROM patient.patient_name)
                          UNION ALL (SELECT n.* FROM patient.patient_name n WHERE patient_id IN (SELECT patient_id FROM sampled)
                                     EXCEPT TABLE sampled)
                          UNION ALL (SELECT id, words, NULL, NULL, NULL, NULL, NULL FROM
                                     (TABLE sampled_words EXCEPT SELECT id, words FROM patient.patient) AS words)) AS others";

/// Makes the patients by SQL, and compares what SQL made with what the service makes.
async fn fill(desk: &Desk) {
    let start = Instant::now();
    desk.db.execute(&include_str!("many.sql").replace("$many", &many().to_string())).await.unwrap();
    desk.db.execute(SOME).await.unwrap();
    eventually_within(Duration::from_secs(60), "the service to make entries", async || {
        let left = "SELECT count(*) FROM patient.patient WHERE entries IS NULL";
        (desk.db.value::<i64>(left).await.unwrap() == 0).then_some(())
    })
    .await;
    assert_eq!(desk.db.value::<i64>(OTHERS).await.unwrap(), 0, "entries of SQL");
    desk.db.execute("VACUUM ANALYZE").await.unwrap();
    eprintln!("{} patients made in {:?}", many(), start.elapsed());
}

#[tokio::test]
async fn a_search_takes_at_most_five_times_what_a_read_takes() {
    let desk = Desk::open().await;
    fill(&desk).await;
    let one: String = desk.db.value("SELECT md5('77')::uuid::text").await.unwrap();
    let read = format!("/patients/{one}");
    let mut slow = Vec::new();
    for (search, share) in SEARCHES {
        let (pages, found) = pages(&desk, search, 5000).await;
        let least = share * f64::from(u32::try_from(many()).unwrap());
        let enough = found >= 5000 || f64::from(u32::try_from(found).unwrap()) >= least.floor();
        assert!(enough, "{search}: {found} of {least}");
        for (which, page) in pages {
            let times = times(&desk, &read, &page).await;
            eprintln!("{times:5.1} {search} ({which} page, {found} found)");
            if times > 5.0 {
                slow.push(format!("{search}, {which} page: {times:.1} times"));
            }
        }
    }
    assert!(slow.is_empty(), "{slow:#?}");
}
