//! Reservations lie in partitions, one for each year, and each has a constraint of its own.

use hospital_appointment::schema;
use hospital_testkit::{empty_database, eventually};
use jiff::Timestamp;

use crate::desk::{Desk, at};

fn instant(text: &str) -> Timestamp {
    text.parse().unwrap()
}

#[tokio::test]
async fn a_visit_through_a_new_year_takes_up_the_time_on_both_sides_of_it() {
    let desk = Desk::open().await;
    let (patient, practitioner) = (desk.patients.active(), desk.practitioner().await);
    let visit = desk.booked(patient, practitioner, instant("2035-12-31T23:30:00Z"), 60).await;
    assert_eq!(desk.count("reservation").await, 4, "two for each year");
    for start in ["2035-12-31T23:15:00Z", "2035-12-31T23:45:00Z", "2036-01-01T00:15:00Z"] {
        let reply = desk.book(desk.patients.active(), practitioner, instant(start), 30).await;
        assert_eq!((reply.status, reply.code()), (409, "slot-unavailable"), "{start}");
        assert_eq!(reply.body["alternatives"][0]["start"], "2036-01-01T00:30:00Z", "{start}");
        let elsewhere = desk.practitioner().await;
        let reply = desk.book(patient, elsewhere, instant(start), 30).await;
        assert_eq!((reply.status, reply.code()), (409, "slot-unavailable"), "{start}");
    }
    desk.booked(desk.patients.active(), practitioner, instant("2035-12-31T23:00:00Z"), 30).await;
    desk.booked(desk.patients.active(), practitioner, instant("2036-01-01T00:45:00Z"), 30).await;

    // Its own time is not in its way, the others' is.
    let moved = desk.reschedule(&visit, instant("2035-12-31T23:45:00Z"), 60).await;
    assert_eq!(moved.status, 200, "{}", moved.body);
    let onto = desk.reschedule(&visit, instant("2035-12-31T23:50:00Z"), 60).await;
    assert_eq!((onto.status, onto.code()), (409, "slot-unavailable"));
    assert_eq!(desk.reschedule(&visit, at("10:00"), 60).await.status, 200);
    let of_visit = format!("reservation WHERE appointment_id = '{visit}'");
    assert_eq!(desk.count(&of_visit).await, 2, "what lay beyond the New Year is gone");
    assert_eq!(desk.reschedule(&visit, instant("2036-12-31T23:30:00Z"), 60).await.status, 200);
    assert_eq!(desk.cancel(&visit).await.status, 200);
    assert_eq!(desk.count(&of_visit).await, 0);
}

#[tokio::test]
async fn only_the_year_of_a_booking_is_looked_at() {
    let desk = Desk::open().await;
    let (patient, practitioner) = (desk.patients.active(), desk.practitioner().await);
    let visit = desk.booked(patient, practitioner, at("10:00"), 30).await;
    assert_eq!(desk.book(patient, practitioner, at("10:00"), 30).await.status, 409);
    assert_eq!(desk.reschedule(&visit, at("10:15"), 30).await.status, 200);
    assert_eq!(desk.cancel(&visit).await.status, 200);
    // Sessions tell what they searched within about a second of it.
    let searched = "pg_stat_user_indexes WHERE schemaname = 'appointment' AND relname ^@ 'reservation_' AND idx_scan > 0 AND relname";
    eventually("both indexes of the year to be searched", async || {
        (desk.count(&format!("{searched} = 'reservation_2035'")).await == 2).then_some(())
    })
    .await;
    assert_eq!(desk.count(&format!("{searched} <> 'reservation_2035'")).await, 0);
}

#[tokio::test]
async fn postgresql_refuses_what_reaches_beyond_a_year() {
    let db = empty_database().await.unwrap();
    schema().migrate(&db.owner_url(), None).await.unwrap();
    let insert = |from: &str, until: &str| {
        format!(
            "INSERT INTO appointment.reservation VALUES (gen_random_uuid(), gen_random_uuid(), tstzrange('{from}', '{until}'))"
        )
    };
    for year in ["1999", "2026", "2059", "2150"] {
        let within = insert(&format!("{year}-01-01T00:00:00Z"), &format!("{year}-12-31T24:00:00Z"));
        db.execute(&within).await.unwrap();
    }
    for (from, until) in [
        ("2025-12-31T23:30:00Z", "2026-01-01T00:00:00.000001Z"),
        ("2026-01-01T00:00:00Z", "2027-01-01T00:01:00Z"),
        ("2059-12-31T00:00:00Z", "2060-02-01T00:00:00Z"),
    ] {
        let refused = db.execute(&insert(from, until)).await.unwrap_err();
        assert!(format!("{refused:?}").contains("reservation_within__"), "{from}: {refused:?}");
    }
}

#[tokio::test]
async fn what_was_reserved_before_there_were_years_stays_reserved() {
    let db = empty_database().await.unwrap();
    let mut first = schema();
    first.migrations.retain(|migration| migration.version() == 1);
    first.migrate(&db.owner_url(), None).await.unwrap();
    db.execute(
        "INSERT INTO appointment.reservation
         SELECT gen_random_uuid(), gen_random_uuid(), tstzrange(at, at + length)
         FROM unnest(ARRAY['1950-06-01 10:00Z', '2025-12-31 23:30Z', '2026-07-01 09:00Z', '2026-12-31 23:00Z', '2031-12-31 23:59:59.999999Z',
                           '2065-12-31 12:00Z']::timestamptz[],
                     ARRAY['31 minutes', '5 years', '1 hour', '1 hour', '2 microseconds', '1 day']::interval[]) AS r (at, length);
         CREATE TABLE was AS TABLE appointment.reservation",
    )
    .await
    .unwrap();

    schema().migrate(&db.owner_url(), None).await.unwrap();

    let parts: i64 = db.value("SELECT count(*) FROM appointment.reservation").await.unwrap();
    assert_eq!(parts, 1 + 6 + 1 + 1 + 2 + 2, "one for each year that it touches");
    let kept: i64 = db
        .value(
            "SELECT count(*) FROM was JOIN (SELECT appointment_id, resource_id, range_agg(during) AS during FROM appointment.reservation
                                            GROUP BY 1, 2) r USING (appointment_id, resource_id)
             WHERE r.during = tstzmultirange(was.during)",
        )
        .await
        .unwrap();
    assert_eq!(kept, 6, "the parts make up the whole");
    let again = "INSERT INTO appointment.reservation
        SELECT gen_random_uuid(), resource_id, during FROM appointment.reservation WHERE during @> '2028-02-29 12:00Z'::timestamptz";
    let refused = db.execute(again).await.unwrap_err();
    assert!(format!("{refused:?}").contains("reservation_no_overlap__2028"), "{refused:?}");
}
