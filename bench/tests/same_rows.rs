//! The baseline of the same rows writes what a booking writes: as many rows into the same tables, of about the same size.

#![cfg(test)]

use std::{collections::BTreeMap, fs, path::PathBuf, process::Command};

use axum::{Json, Router, extract::Path, routing::get};
use hospital_testkit::{TestApp, TestDb};
use hospital_types::Role;
use serde_json::json;

const FILL: &str = include_str!("../baseline/same-rows-fill.sql");
const BOOKING: &str = include_str!("../baseline/same-rows-booking.sql");

/// Rows and their bytes, by table.
type Rows = BTreeMap<String, (i64, i64)>;

async fn rows(db: &TestDb) -> Rows {
    let tables: Vec<String> = db
        .value(
            "SELECT array_agg(relname::text ORDER BY relname) FROM pg_class
             WHERE relnamespace = 'appointment'::regnamespace AND relkind IN ('r', 'p') AND NOT relispartition",
        )
        .await
        .unwrap();
    let mut all = Rows::new();
    for table in tables {
        let sql = format!(
            "SELECT ARRAY[count(*), coalesce(sum(pg_column_size(t.*)), 0)] FROM appointment.{table} t"
        );
        let counted: Vec<i64> = db.value(&sql).await.unwrap();
        all.insert(table, (counted[0], counted[1]));
    }
    all
}

fn written(before: &Rows, after: &Rows) -> Rows {
    let differences = after.iter().map(|(table, (rows, bytes))| {
        let (rows_before, bytes_before) = before[table];
        (table.clone(), (rows - rows_before, bytes - bytes_before))
    });
    differences.filter(|(_, difference)| *difference != (0, 0)).collect()
}

/// A patient service to whom everybody is an active patient.
async fn patients() -> String {
    let show = async |Path(id): Path<String>| Json(json!({ "id": id, "status": "active" }));
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let base = format!("http://{}", listener.local_addr().unwrap());
    #[expect(clippy::disallowed_methods, reason = "ends with the test")]
    tokio::spawn(async move {
        axum::serve(listener, Router::new().route("/patients/{id}", get(show))).await
    });
    base
}

#[tokio::test(flavor = "multi_thread")]
async fn the_baseline_writes_the_rows_of_a_booking() {
    let patient_url = patients().await;
    let app =
        TestApp::start(hospital_appointment::schema(), hospital_appointment::service, |config| {
            config.appointment.patient_url = patient_url;
        })
        .await;
    let admin = app.sign("desk-1", &[Role::Admin], None);
    let doctor = app.post("/practitioners", &admin, &json!({ "name": "Dr. Bench" })).await;

    let before = rows(&app.db).await;
    let body = json!({
        "patientId": "00000000-0000-4000-a000-000000000001", "practitionerId": doctor.id(),
        "start": "2040-05-17T09:30:00Z", "end": "2040-05-17T09:31:00Z", "serviceType": "visit",
    });
    let answer = app.post_keyed("/appointments", &admin, "bench-0123abcd-0000000001", &body).await;
    assert_eq!(answer.status, 201, "{}", answer.text);
    let booking = written(&before, &rows(&app.db).await);

    psql(&app.db, FILL);
    let before = rows(&app.db).await;
    pgbench(&app.db, BOOKING);
    let baseline = written(&before, &rows(&app.db).await);

    let counts = |rows: &Rows| {
        rows.iter().map(|(table, (n, _))| (table.clone(), *n)).collect::<BTreeMap<_, _>>()
    };
    assert_eq!(counts(&booking), counts(&baseline));
    assert!(booking.len() >= 5, "a booking writes more than that: {booking:?}");
    for (table, (_, bytes)) in &booking {
        let of_baseline = baseline[table].1;
        let ratio = of_baseline as f64 / *bytes as f64;
        assert!(
            (0.85..1.15).contains(&ratio),
            "{table}: a booking {bytes} bytes, the baseline {of_baseline}"
        );
    }
}

fn psql(db: &TestDb, sql: &str) {
    run(Command::new(program("psql")).args(["-X", "-q", "-v", "ON_ERROR_STOP=1", "-f"]), sql, db);
}

fn pgbench(db: &TestDb, sql: &str) {
    run(Command::new(program("pgbench")).args(["-n", "-M", "prepared", "-t", "1", "-f"]), sql, db);
}

fn run(command: &mut Command, sql: &str, db: &TestDb) {
    let file = tempfile::NamedTempFile::new().unwrap();
    fs::write(file.path(), sql).unwrap();
    let output = command.arg(file.path()).arg(db.owner_url()).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

/// Installed with the server.
fn program(name: &str) -> PathBuf {
    hospital_cluster::Installation::find().expect("PostgreSQL is installed").bin().join(name)
}
