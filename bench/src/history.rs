//! Ten years of appointments, written straight into the appointment service's tables.
//!
//! No booking, no event and no bill stands behind them: they are there to make tables and indexes as large as they will be, and `hospital
//! verify` would rightly complain.

use std::time::{Duration, Instant};

use anyhow::Context;

use crate::{database, runs::note};

/// How many statements the filling is cut into.
const STEPS: i64 = 20;

/// Half an hour each. The k-th appointments of all practitioners are at one time, with as many different patients, so nobody is in two
/// places at once. The seeded patients are among the million.
const APPOINTMENTS: &str = "
    CREATE TEMPORARY TABLE filling AS
    SELECT md5('appointment' || n)::uuid AS id, doctors.ids[n % doctors.size + 1] AS practitioner,
        CASE WHEN person.place < seeded.size THEN seeded.ids[person.place + 1] ELSE md5('patient' || person.place)::uuid END AS patient,
        slot.starts_at, slot.starts_at + interval '30 minutes' AS ends_at
    FROM generate_series(FROM_N::bigint, TO_N::bigint - 1) AS n,
        (SELECT array_agg(id ORDER BY id) AS ids, count(*) AS size FROM appointment.practitioner) AS doctors,
        (SELECT array_agg(id ORDER BY id) AS ids, count(*) AS size FROM patient.patient) AS seeded,
        LATERAL (SELECT (n * 7919 % 1000003)::int AS place) AS person,
        LATERAL (SELECT now() - interval '10 years'
            + (n / doctors.size) * (interval '3650 days' / (ALL_N::bigint / doctors.size + 1)) AS starts_at) AS slot";
const ROWS: &str = "
    INSERT INTO appointment.appointment (id, version, patient_id, practitioner_id, starts_at, ends_at, status, service_type, back_dated,
                                         created_at, updated_at)
    SELECT id, 4, patient, practitioner, starts_at, ends_at, 'completed', 'visit', false, starts_at - interval '14 days', ends_at FROM filling;
    INSERT INTO appointment.reservation (appointment_id, resource_id, during)
    SELECT id, resource, tstzrange(starts_at, ends_at) * tstzrange(year, year + interval '1 year')
    FROM filling, LATERAL (VALUES (practitioner), (patient)) AS both_of (resource),
        generate_series(date_trunc('year', starts_at), ends_at - interval '1 microsecond', '1 year') AS year;
    INSERT INTO appointment.history (appointment_id, version, at, actor, from_status, to_status, starts_at, ends_at)
    SELECT id, 1, starts_at - interval '14 days', 'filler', NULL, 'booked', starts_at, ends_at FROM filling;
    DROP TABLE filling";

/// The exclusion constraints, one for each year: what drops them all and what makes them all again.
const CONSTRAINTS: &str = "
    SELECT string_agg(format('ALTER TABLE %s DROP CONSTRAINT %I', conrelid::regclass, conname), ';'),
           string_agg(format('ALTER TABLE %s ADD CONSTRAINT %I %s', conrelid::regclass, conname, pg_get_constraintdef(oid)), ';')
    FROM pg_constraint WHERE contype = 'x' AND conrelid IN (SELECT relid FROM pg_partition_tree('appointment.reservation'))";

/// Fills. The exclusion constraints are made anew behind the rows, which checks them all.
pub(crate) async fn fill(url: &str, appointments: u64) -> anyhow::Result<Duration> {
    let started = Instant::now();
    let client = database::connect(url).await?;
    client
        .batch_execute(
            "SET synchronous_commit = off; SET maintenance_work_mem = '1GB'; SET work_mem = '256MB'; SET jit = off; SET timezone = 'UTC'",
        )
        .await?;
    let constraints =
        client.query_one(CONSTRAINTS, &[]).await.context("looking for constraints")?;
    let (drop_all, make_all): (String, String) = (constraints.get(0), constraints.get(1));
    client.batch_execute(&drop_all).await?;
    let all = i64::try_from(appointments)?;
    for step in 0..STEPS {
        let (from, to) = (all * step / STEPS, all * (step + 1) / STEPS);
        client.execute(&filling(from, to, all), &[]).await.context("making appointments")?;
        client.batch_execute(ROWS).await.context("writing appointments")?;
        if step % 5 == 4 {
            note(&format!(
                "{} of {all} appointments written, {:.0} s",
                to,
                started.elapsed().as_secs_f64()
            ));
        }
    }
    note("making the exclusion constraints");
    client.batch_execute(&make_all).await.context("making the exclusion constraints")?;
    client.batch_execute("VACUUM ANALYZE appointment.appointment").await?;
    client.batch_execute("VACUUM ANALYZE appointment.reservation").await?;
    client.batch_execute("CHECKPOINT").await?;
    Ok(started.elapsed())
}

/// The statement with its numbers in it: a utility statement takes no parameters.
fn filling(from: i64, to: i64, all: i64) -> String {
    APPOINTMENTS
        .replace("FROM_N", &from.to_string())
        .replace("TO_N", &to.to_string())
        .replace("ALL_N", &all.to_string())
}
