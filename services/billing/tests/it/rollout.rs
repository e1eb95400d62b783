//! What the version before has left behind, or writes while both run, is reconciled by this one.

use hospital_testkit::empty_database;

use crate::till::{Till, card, id};

/// Payments as the version before writes them, by their status.
fn payments(of: &[(&str, &str)], bill: &str) -> String {
    let rows: Vec<String> = of
        .iter()
        .map(|(status, next_check_at)| {
            format!(
                "(gen_random_uuid(), 1, '{bill}', 10000, 'USD', 'card', '{status}', 'cashier',
                  'POST /payments', gen_random_uuid(), now(), {next_check_at}, 2)"
            )
        })
        .collect();
    format!(
        "INSERT INTO billing.payment (id, version, bill_id, amount, currency, method, status,
                                      caller, route, key, created_at, next_check_at, checks)
         VALUES {}",
        rows.join(", ")
    )
}

#[tokio::test]
async fn payments_that_are_open_become_jobs_by_the_migration() {
    let db = empty_database().await.unwrap();
    let mut before = hospital_billing::schema();
    before.migrations.retain(|migration| migration.version() < 5);
    before.migrate(&db.owner_url(), Some("secret")).await.unwrap();
    let rows = payments(
        &[
            ("pending", "now() - interval '1 minute'"),
            ("unknown", "now() + interval '1 hour'"),
            ("succeeded", "NULL"),
        ],
        "018f0000-0000-7000-8000-000000000000",
    );
    // Without the bill, which is not what this is about.
    let open = format!("SET session_replication_role = replica; {rows}");
    db.execute(&open).await.unwrap();
    hospital_billing::schema().migrate(&db.owner_url(), Some("secret")).await.unwrap();
    let jobs = "SELECT string_agg(concat_ws(' ', p.status, j.kind, j.attempts, j.held_until = p.next_check_at,
                                           j.payload = jsonb_build_object('payment', p.id)), ', ' ORDER BY p.status)
                FROM billing.job j JOIN billing.payment p ON p.id::text = j.key";
    let jobs: String = db.value(jobs).await.unwrap();
    assert_eq!(jobs, "pending payment.reconcile 2 t t, unknown payment.reconcile 2 t t");
}

#[tokio::test]
async fn a_payment_that_the_version_before_left_open_is_reconciled() {
    let till = Till::open().await;
    let bill = till.booked("consultation").await;
    let left = format!(
        "BEGIN; UPDATE billing.bill SET reserved = 10000; {};
         INSERT INTO billing.sandbox_charge (payment_id, amount, currency, outcome)
         SELECT id, amount, currency, 'charged' FROM billing.payment; COMMIT",
        payments(&[("pending", "now()")], id(&bill))
    );
    till.app.db.execute(&left).await.unwrap();
    let payment: String = till.app.db.value("SELECT id::text FROM billing.payment").await.unwrap();
    till.settled(&payment, "succeeded").await;
    till.assert_bill(&bill, "partially-paid", 10_000, 0).await;
}

#[tokio::test]
async fn a_payment_of_this_version_is_left_alone_by_the_version_before() {
    let till = Till::with(|config| config.billing.reconcile_after_s = [3600; 3]).await;
    let bill = till.booked("consultation").await;
    let unknown = till.pay("k", &card(&bill, "100.00", "tok_timeout")).await;
    assert_eq!(unknown.status, 202, "{}", unknown.text);
    let due = "SELECT count(*) FROM billing.payment WHERE next_check_at IS NOT NULL";
    assert_eq!(till.app.db.value::<i64>(due).await.unwrap(), 0);
    let job =
        "SELECT held_until > now() + interval '50 minutes' AND lease IS NULL FROM billing.job";
    assert!(till.app.db.value::<bool>(job).await.unwrap());
    // Nothing is left to do for what has its answer.
    let settled = till.pay("ok", &card(&bill, "20.00", "tok_ok")).await;
    assert_eq!(settled.status, 201, "{}", settled.text);
    assert_eq!(till.app.rows("job").await, 1);
}
