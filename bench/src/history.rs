//! Ten years of appointments, written straight into the appointment service's tables.
//!
//! No booking, no event and no bill stands behind them: they are there to make tables and indexes as large as they will be, and `hospital
//! verify` would rightly complain.

use std::time::{Duration, Instant};

use anyhow::Context;

use crate::{database, runs::note};

/// How many statements the filling is cut into.
const STEPS: i64 = 20;
const OVERLAP: &str = "reservation_no_overlap";

/// Half an hour each. The k-th appointments of all practitioners are at one time, with as many different patients, so nobody is in two
/// places at once. The seeded patients are among the million.
const APPOINTMENTS: &str = "
    CREATE TEMPORARY TABLE filling AS
    SELECT md5('appointment' || n)::uuid AS id, d.ids[n % d.size + 1] AS practitioner,
        CASE WHEN p.n < k.size THEN k.ids[p.n + 1] ELSE md5('patient' || p.n)::uuid END AS patient,
        t.starts_at, t.starts_at + interval '30 minutes' AS ends_at
    FROM generate_series($1::bigint, $2::bigint - 1) n,
        (SELECT array_agg(id ORDER BY id) AS ids, count(*) AS size FROM appointment.practitioner) d,
        (SELECT array_agg(id ORDER BY id) AS ids, count(*) AS size FROM patient.patient) k,
        LATERAL (SELECT (n * 7919 % 1000003)::int AS n) p,
        LATERAL (SELECT now() - interval '10 years' + (n / d.size) * (interval '3650 days' / ($3::bigint / d.size + 1)) AS starts_at) t";
const ROWS: &str = "
    INSERT INTO appointment.appointment (id, version, patient_id, practitioner_id, starts_at, ends_at, status, service_type, back_dated,
                                         created_at, updated_at)
    SELECT id, 4, patient, practitioner, starts_at, ends_at, 'completed', 'visit', false, starts_at - interval '14 days', ends_at FROM filling;
    INSERT INTO appointment.reservation (appointment_id, resource_id, during)
    SELECT id, resource, tstzrange(starts_at, ends_at) FROM filling, LATERAL (VALUES (practitioner), (patient)) AS both_of (resource);
    INSERT INTO appointment.history (appointment_id, version, at, actor, from_status, to_status, starts_at, ends_at)
    SELECT id, 1, starts_at - interval '14 days', 'filler', NULL, 'booked', starts_at, ends_at FROM filling;
    DROP TABLE filling";

/// Fills. The exclusion constraint is made anew behind the rows, which checks them all.
pub(crate) async fn fill(url: &str, appointments: u64) -> anyhow::Result<Duration> {
    let started = Instant::now();
    let client = database::connect(url).await?;
    let definition: String = client
        .query_one(
            "SELECT pg_get_constraintdef(oid) FROM pg_constraint WHERE conname = $1",
            &[&OVERLAP],
        )
        .await
        .context("looking for the exclusion constraint")?
        .get(0);
    client
        .batch_execute(&format!(
            "SET synchronous_commit = off; SET maintenance_work_mem = '1GB'; SET work_mem = '256MB'; SET jit = off;
             ALTER TABLE appointment.reservation DROP CONSTRAINT {OVERLAP}"
        ))
        .await?;
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
    note("making the exclusion constraint");
    client
        .batch_execute(&format!(
            "SET search_path = appointment, public; ALTER TABLE reservation ADD CONSTRAINT {OVERLAP} {definition}"
        ))
        .await
        .context("making the exclusion constraint")?;
    client.batch_execute("VACUUM ANALYZE appointment.appointment").await?;
    client.batch_execute("VACUUM ANALYZE appointment.reservation").await?;
    client.batch_execute("CHECKPOINT").await?;
    Ok(started.elapsed())
}

/// The statement with its numbers in it: a utility statement takes no parameters.
fn filling(from: i64, to: i64, all: i64) -> String {
    APPOINTMENTS
        .replace("$1", &from.to_string())
        .replace("$2", &to.to_string())
        .replace("$3", &all.to_string())
}
