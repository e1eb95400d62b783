//! Sessions that end while they commit.

use std::{
    collections::BTreeMap,
    sync::atomic::{AtomicBool, AtomicI64, Ordering},
    time::Duration,
};

use futures_util::future::join_all;
use hospital_types::PractitionerId;
use jiff::ToSpan;

use crate::desk::{Desk, Reply, at};

/// How many sessions are to be met at their commit, and how often people try until then.
const ENOUGH: i64 = 6;
const BOOKINGS_MAX: u32 = 80;

/// Ends whoever commits, again and again, until told to stop; counts them.
async fn end_commits(desk: &Desk, stop: &AtomicBool, ended: &AtomicI64) {
    let (client, connection) =
        tokio_postgres::connect(&desk.database().owner_url(), tokio_postgres::NoTls).await.unwrap();
    #[expect(clippy::disallowed_methods, reason = "ends with the client")]
    tokio::spawn(connection);
    while !stop.load(Ordering::Relaxed) {
        let sql = "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity
                   WHERE datname = current_database() AND usename = 'hospital_appointment'
                     AND state = 'active' AND query = 'COMMIT'";
        let met = client.query_one(sql, &[]).await.unwrap().get::<_, i64>(0);
        ended.fetch_add(met, Ordering::Relaxed);
        // Not a wait for anything: whoever commits for longer than this is met.
        tokio::time::sleep(Duration::from_millis(15)).await;
    }
}

/// One person's bookings after each other, each of a time of its own, every other with a key, until enough sessions were met.
async fn book_on(
    desk: &Desk,
    practitioner: PractitionerId,
    person: u32,
    ended: &AtomicI64,
) -> Vec<(bool, Reply)> {
    let patient = desk.patients.active();
    let mut replies = Vec::new();
    for n in 0..BOOKINGS_MAX {
        if n >= 6 && ended.load(Ordering::Relaxed) >= ENOUGH {
            break;
        }
        let start = at("00:00") + (i64::from(n) * 10).minutes();
        let body = desk.booking(patient, practitioner, start, 10);
        let keyed = (n + person).is_multiple_of(2);
        let mut request = desk.post("/appointments").body(&body);
        if keyed {
            request = request.key(&format!("{person}-{n}"));
        }
        replies.push((keyed, request.send().await));
    }
    replies
}

#[tokio::test(flavor = "multi_thread")]
async fn no_booking_is_refused_because_of_itself_when_its_session_ends_at_the_commit() {
    let desk = Desk::open_with_slow_commits().await;
    let mut practitioners = Vec::new();
    for _ in 0..16 {
        practitioners.push(desk.practitioner().await);
    }
    let (stop, ended) = (AtomicBool::new(false), AtomicI64::new(0));
    let people = (0..).zip(&practitioners);
    let work = async {
        let all = people.map(|(person, of)| book_on(&desk, *of, person, &ended));
        let replies = join_all(all).await;
        stop.store(true, Ordering::Relaxed);
        replies
    };
    let (replies, ()) = tokio::join!(work, end_commits(&desk, &stop, &ended));
    let ended = ended.into_inner();
    assert!(ended >= ENOUGH, "only {ended} sessions were met at their commit");
    let mut said: BTreeMap<(bool, u16, String), u32> = BTreeMap::new();
    let mut booked = 0;
    for (keyed, reply) in replies.iter().flatten() {
        *said.entry((*keyed, reply.status, reply.code().to_owned())).or_default() += 1;
        if reply.status == 201 {
            booked += 1;
            assert_eq!(desk.count(&format!("appointment WHERE id = '{}'", reply.id())).await, 1);
        }
    }
    // Every time was wanted once, so nobody's can be taken.
    assert!(said.keys().all(|(_, status, _)| matches!(status, 201 | 503)), "{said:?}");
    let there = desk.count("appointment").await;
    let unknown: u32 = said
        .iter()
        .filter(|((_, _, code), _)| code == "outcome-unknown")
        .map(|(_, count)| *count)
        .sum();
    assert!((booked..=booked + i64::from(unknown)).contains(&there), "{there} there: {said:?}");
}
