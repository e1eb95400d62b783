//! The appointments of a day: whatever takes place on it, in the facility's time zone.

use hospital_kit::{cause::Cause, sql};
use hospital_testkit::eventually;
use hospital_types::Role;
use jiff::{Timestamp, civil, tz::TimeZone};
use serde_json::json;

use crate::desk::Desk;

const ZONE: &str = "Europe/Berlin";

async fn open() -> Desk {
    Desk::open_with(|config| config.facility.zone = ZONE.to_owned()).await
}

/// An instant of the facility's wall clock.
fn local(text: &str) -> Timestamp {
    let time: civil::DateTime = text.parse().unwrap();
    time.to_zoned(TimeZone::get(ZONE).unwrap()).unwrap().timestamp()
}

impl Desk {
    /// An appointment between two times of the wall clock, of people whom nobody else meets.
    async fn between(&self, start: &str, end: &str) -> String {
        let (start, end) = (local(start), local(end));
        let minutes = end.duration_since(start).as_mins();
        self.booked(self.patients.active(), self.practitioner().await, start, minutes).await
    }

    /// The same, moved in from elsewhere, where it may last for days.
    async fn stay(&self, start: &str, end: &str) -> String {
        let (patient, practitioner) = (self.patients.active(), self.practitioner().await);
        let mut body = self.booking(patient, practitioner, local(start), 1);
        body["end"] = json!(local(end));
        body["backDated"] = json!(true);
        let reply = self.post("/appointments").role(Role::Admin).body(&body).send().await;
        assert_eq!(reply.status, 201, "{}", reply.body);
        reply.id()
    }

    /// How many pages of the appointments' indexes were looked at so far.
    async fn pages_of_indexes(&self) -> i64 {
        let sql = "SELECT sum(idx_blks_read + idx_blks_hit)::bigint FROM pg_statio_user_indexes
                   WHERE schemaname = 'appointment' AND relname = 'appointment'";
        self.db.reader(&Cause::system("test")).read(sql!(sql)).await.unwrap()[0].get(0)
    }

    /// All pages of a list.
    async fn listed(&self, query: &str) -> Vec<String> {
        let (mut seen, mut cursor) = (Vec::new(), String::new());
        loop {
            let reply = self.get(&format!("/appointments?{query}{cursor}")).send().await;
            assert_eq!(reply.status, 200, "{query}: {}", reply.body);
            seen.extend(reply.ids());
            match reply.body["nextCursor"].as_str() {
                Some(next) => cursor = format!("&cursor={next}"),
                None => return seen,
            }
        }
    }
}

#[tokio::test]
async fn an_appointment_is_on_the_list_of_every_day_that_it_touches() {
    let desk = open().await;
    let stay = desk.stay("2035-05-10T12:00", "2035-05-20T12:00").await;
    let whole_day = desk.between("2035-05-17T00:30", "2035-05-18T00:30").await;
    let long = desk.between("2035-05-17T10:00", "2035-05-18T06:00").await;
    let evening = desk.between("2035-05-17T19:00", "2035-05-18T00:00").await;
    let four_hours = desk.between("2035-05-17T20:00", "2035-05-18T00:01").await;
    let night = desk.between("2035-05-17T23:30", "2035-05-18T00:30").await;
    let midnight = desk.between("2035-05-18T00:00", "2035-05-18T00:30").await;
    let morning = desk.between("2035-05-18T09:00", "2035-05-18T09:30").await;
    let late = desk.between("2035-05-18T23:45", "2035-05-19T00:15").await;
    let next = desk.between("2035-05-19T00:00", "2035-05-19T00:30").await;

    let first = [&stay, &whole_day, &long, &evening, &four_hours, &night];
    let second = [&stay, &whole_day, &long, &four_hours, &night, &midnight, &morning, &late];
    let days = [
        ("2035-05-09", &[] as &[&String]),
        ("2035-05-10", &[&stay]),
        ("2035-05-16", &[&stay]),
        ("2035-05-17", &first),
        ("2035-05-18", &second),
        ("2035-05-19", &[&stay, &late, &next]),
        ("2035-05-20", &[&stay]),
        ("2035-05-21", &[]),
    ];
    for (day, expected) in days {
        for limit in [1, 2, 3, 5, 50] {
            let listed = desk.listed(&format!("date={day}&limit={limit}")).await;
            assert_eq!(listed.iter().collect::<Vec<_>>(), expected, "{day}, {limit} at a time");
        }
    }
    for id in second {
        let shown = desk.get(&format!("/appointments/{id}")).send().await.body;
        let (patient, practitioner) = (&shown["patientId"], &shown["practitionerId"]);
        for (who, it) in [("patientId", patient), ("practitionerId", practitioner)] {
            let query = format!("date=2035-05-18&{who}={}", it.as_str().unwrap());
            assert_eq!(desk.listed(&query).await, [id.as_str()], "{query}");
            let after = format!("date=2035-05-21&{who}={}", it.as_str().unwrap());
            assert_eq!(desk.listed(&after).await, [""; 0], "{after}");
        }
    }
    assert_eq!(desk.cancel(&night).await.status, 200);
    assert_eq!(desk.listed("date=2035-05-18&status=cancelled").await, [night.as_str()]);
    let all = desk.listed("limit=3").await;
    assert_eq!(all.len(), 10, "without a day each is listed once");
}

#[tokio::test]
async fn a_night_through_new_year_or_a_change_of_the_clocks_is_on_both_days() {
    let desk = open().await;
    for (evening, morning) in [
        ("2035-12-31", "2036-01-01"),
        // 23 hours, and 25.
        ("2035-03-24", "2035-03-25"),
        ("2035-03-25", "2035-03-26"),
        ("2035-10-27", "2035-10-28"),
        ("2035-10-28", "2035-10-29"),
    ] {
        let (starts, ends) = (format!("{evening}T23:30"), format!("{morning}T00:30"));
        let before = desk.between(&format!("{evening}T23:00"), &format!("{morning}T00:00")).await;
        let night = desk.between(&starts, &ends).await;
        let after = desk.between(&format!("{morning}T00:00"), &ends).await;
        let on =
            async |day: &str, id: &String| desk.listed(&format!("date={day}")).await.contains(id);
        assert!(on(evening, &before).await && !on(morning, &before).await, "{morning}");
        assert!(on(evening, &night).await && on(morning, &night).await, "{morning}");
        assert!(!on(evening, &after).await && on(morning, &after).await, "{morning}");
    }
}

#[tokio::test]
async fn ten_years_of_history_are_not_read_for_the_list_of_a_day() {
    let desk = open().await;
    let practitioner = desk.practitioner().await;
    // Three each hour for ten years, one in a hundred of them a long stay.
    desk.execute(&format!(
        "INSERT INTO appointment.appointment (id, version, patient_id, practitioner_id, starts_at, ends_at, status, service_type,
                                              back_dated, created_at, updated_at)
         SELECT gen_random_uuid(), 1, gen_random_uuid(), '{practitioner}', at, at + CASE WHEN n % 100 = 0 THEN interval '60 hours' ELSE
                interval '20 minutes' END, 'completed', 'visit', true, at, at
         FROM generate_series(timestamptz '2016-01-01 00:00Z', '2025-12-31 00:00Z', '20 minutes') WITH ORDINALITY AS s (at, n);
         ANALYZE appointment.appointment"
    ))
    .await;
    let stats = "pg_stat_user_tables WHERE schemaname = 'appointment' AND relname = 'appointment'";
    eventually("what the session above did to be counted", async || {
        (desk.count(&format!("{stats} AND n_tup_ins > 200000")).await == 1).then_some(())
    })
    .await;
    let before = desk.pages_of_indexes().await;

    let listed = desk.listed("date=2020-06-15&limit=200").await;

    assert_eq!(listed.len(), 72 + 2, "those of the day, and who was there already");
    // Sessions tell what they searched within about a second of it.
    let searched =
        "pg_stat_user_indexes WHERE schemaname = 'appointment' AND idx_scan > 0 AND indexrelname";
    eventually("both indexes to be counted", async || {
        let both = format!("{searched} IN ('appointment_by_start', 'appointment_long')");
        (desk.count(&both).await == 2).then_some(())
    })
    .await;
    let pages = desk.pages_of_indexes().await - before;
    assert!(pages < 200, "{pages} of some thousand pages were read");
    assert_eq!(desk.count(&format!("{stats} AND seq_scan > 0")).await, 0);
}
