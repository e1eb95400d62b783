//! The three doors: one flight, done once, refused by constraints.

use hospital_contracts::patient::{PatientFacts, PatientRegistered, PatientStatus};
use hospital_kit::{
    cause::Cause,
    db::{Db, Tx},
    exactly,
    http::{Answer, Problem},
    idempotency::{self, Explain, Request},
    outbox,
    outcome::{BrokenKind, Failure, Outcome},
    sql,
};
use hospital_types::{PatientId, Refusal, RefusalKind};
use uuid::Uuid;

use crate::support::schema;

#[derive(Debug, PartialEq, Eq)]
enum PayRefused {
    Overpaid,
    BillUnknown,
    Touched,
}

impl Refusal for PayRefused {
    fn kind(&self) -> RefusalKind {
        RefusalKind::Conflict
    }
    fn code(&self) -> &'static str {
        match self {
            Self::Overpaid => "overpayment",
            Self::BillUnknown => "bill-unknown",
            Self::Touched => "bill-touched",
        }
    }
    fn detail(&self) -> String {
        String::new()
    }
}
impl Explain for PayRefused {}

fn event() -> PatientRegistered {
    PatientRegistered(PatientFacts {
        patient_id: PatientId::new(),
        version: 1,
        status: PatientStatus::Active,
    })
}

async fn pay(tx: &mut Tx<PayRefused>, bill: Uuid, amount: i64) -> Outcome<i64, PayRefused> {
    tx.write(sql!("INSERT INTO payment (id, bill_id) VALUES (gen_random_uuid(), $1)", bill))
        .refuse_on("payment_bill_exists", PayRefused::BillUnknown);
    tx.write(sql!(
        "UPDATE bill SET paid = paid + $2, version = version + 1 WHERE id = $1",
        bill,
        amount
    ))
    .refuse_on("bill_not_overpaid", PayRefused::Overpaid);
    outbox::append(tx, &Cause::system("test"), &event());
    Ok(amount)
}

async fn bill(db: &Db) -> Uuid {
    let id = Uuid::from_u128(5);
    db.write_alone("test", sql!("INSERT INTO bill (id) VALUES ($1)", id)).await.unwrap();
    id
}

fn request(key: &str, body: u8) -> Request {
    Request {
        name: "test.pay",
        cause: Cause::system("test"),
        key: Some(key.to_owned()),
        route: "POST /payments".to_owned(),
        fingerprint: [body; 32],
    }
}

async fn keyed(db: &Db, request: Request, bill: Uuid, amount: i64) -> Answer {
    let answer = |amount: &i64| Answer::created("/payments/1", 1, amount);
    idempotency::once(db, request, answer, async move |tx| pay(tx, bill, amount).await).await
}

async fn count(db: &Db, table: &'static str) -> i64 {
    let sql = match table {
        "payment" => "SELECT count(*) FROM payment",
        "outbox" => "SELECT count(*) FROM outbox",
        _ => "SELECT sum(paid)::bigint FROM bill",
    };
    db.reader(&Cause::system("test")).read(sql!(sql)).await.unwrap()[0].get(0)
}

#[tokio::test]
async fn work_that_reads_nothing_is_one_flight_and_a_read_adds_one() {
    let (_database, db) = schema().await;
    let bill = bill(&db).await;
    let mut flights = 0;
    let done = db
        .write("test.pay", async |tx| {
            pay(tx, bill, 10).await?;
            flights = tx.flights();
            Ok(())
        })
        .await;
    assert!(matches!(done, Ok(())));
    assert_eq!(flights, 0, "nothing was sent before the end, so all of it went in one");

    let done: Outcome<(), PayRefused> = db
        .write("test.pay", async |tx| {
            tx.read(sql!("SELECT paid FROM bill WHERE id = $1 FOR UPDATE", bill)).await?;
            pay(tx, bill, 10).await?;
            flights = tx.flights();
            Ok(())
        })
        .await;
    assert!(done.is_ok());
    assert_eq!(flights, 1, "the lock and the read were one, the rest is the second");
}

/// Counts the real thing: how often the client waits for the server, by a proxy that sees the bytes go by.
#[tokio::test]
async fn a_flight_is_one_round_trip_on_the_wire() {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let (database, warm) = schema().await;
    let bill = bill(&warm).await;
    let url: tokio_postgres::Config = database.owner_url().parse().unwrap();
    let server = url.get_ports()[0];
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let turns = std::sync::Arc::new(std::sync::atomic::AtomicU32::new(0));
    let counted = std::sync::Arc::clone(&turns);
    tokio::spawn(async move {
        let (mut client, _) = listener.accept().await.unwrap();
        let mut server = tokio::net::TcpStream::connect(("127.0.0.1", server)).await.unwrap();
        let (mut up, mut down) = (vec![0; 65536], vec![0; 65536]);
        let mut from_client = false;
        loop {
            tokio::select! {
                n = client.read(&mut up) => match n {
                    Ok(0) | Err(_) => return,
                    Ok(n) => { from_client = true; server.write_all(&up[..n]).await.unwrap(); }
                },
                n = server.read(&mut down) => match n {
                    Ok(0) | Err(_) => return,
                    Ok(n) => {
                        // The server's first bytes after the client's: one turn of the conversation.
                        if std::mem::take(&mut from_client) {
                            counted.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
                        }
                        client.write_all(&down[..n]).await.unwrap();
                    }
                },
            }
        }
    });
    let through = database
        .url_as("hospital_kit", "secret")
        .replace(&format!(":{server}/"), &format!(":{port}/"));
    let mut settings = hospital_kit::db::DbSettings::new(through, "kit");
    settings.pool_size = 1;
    let db = Db::new(&settings, hospital_kit::clock::Clock::system()).unwrap();
    // The first one connects and prepares.
    assert_eq!(keyed(&db, request("a", 1), bill, 1).await.status(), 201);
    let before = turns.load(std::sync::atomic::Ordering::Relaxed);
    assert_eq!(keyed(&db, request("b", 1), bill, 1).await.status(), 201);
    assert_eq!(turns.load(std::sync::atomic::Ordering::Relaxed) - before, 1);
}

#[tokio::test]
async fn constraints_refuse_at_once_or_at_the_commit_and_leave_nothing() {
    let (_database, db) = schema().await;
    let bill = bill(&db).await;
    let over = db.write("test.pay", async |tx| pay(tx, bill, 101).await).await;
    assert!(matches!(over, Err(Failure::Refused(PayRefused::Overpaid))));
    let unknown = db.write("test.pay", async |tx| pay(tx, Uuid::from_u128(404), 1).await).await;
    assert!(matches!(unknown, Err(Failure::Refused(PayRefused::BillUnknown))));
    assert_eq!((count(&db, "payment").await, count(&db, "outbox").await), (0, 0));
}

#[tokio::test]
async fn a_repeated_key_gets_the_first_answer_and_changes_nothing() {
    let (_database, db) = schema().await;
    let bill = bill(&db).await;
    let first = keyed(&db, request("k", 1), bill, 10).await;
    let again = keyed(&db, request("k", 1), bill, 10).await;
    assert_eq!((first.status(), first.body()), (201, again.body()));
    assert_eq!(again.status(), 201);
    assert_eq!(count(&db, "paid").await, 10);

    let other_body = keyed(&db, request("k", 2), bill, 20).await;
    assert_eq!(other_body.status(), 422);
    let text = String::from_utf8(other_body.body().to_vec()).unwrap();
    assert!(text.contains("idempotency-key-reused"), "{text}");
    assert_eq!(count(&db, "paid").await, 10);
}

#[tokio::test]
async fn a_refusal_is_remembered_too() {
    let (_database, db) = schema().await;
    let bill = bill(&db).await;
    let refused = keyed(&db, request("k", 1), bill, 101).await;
    assert_eq!(refused.status(), 409);
    db.write_alone("test", sql!("UPDATE bill SET paid = -50")).await.unwrap();
    let again = keyed(&db, request("k", 1), bill, 101).await;
    assert_eq!((again.status(), again.body()), (409, refused.body()));
    assert_eq!(count(&db, "payment").await, 0);
}

#[tokio::test]
async fn a_hundred_with_one_key_do_it_once_and_hear_the_same() {
    let (_database, db) = schema().await;
    let bill = bill(&db).await;
    let all = (0..100).map(|_| keyed(&db, request("k", 1), bill, 1));
    let answers = futures_util::future::join_all(all).await;
    for answer in &answers {
        assert_eq!((answer.status(), answer.body()), (201, answers[0].body()));
    }
    assert_eq!((count(&db, "paid").await, count(&db, "payment").await), (1, 1));
}

#[tokio::test]
async fn while_the_first_runs_a_repetition_is_told_to_come_again() {
    let (_database, db) = schema().await;
    let claimed = idempotency::claim(
        &db,
        request("k", 1),
        |(): &()| None,
        async |_tx: &mut Tx<PayRefused>| Ok(()),
    )
    .await;
    assert!(matches!(claimed, idempotency::Once::Fresh((), None)));
    let bill = bill(&db).await;
    let early = keyed(&db, request("k", 1), bill, 1).await;
    assert_eq!(early.status(), 409);
    assert_eq!(count(&db, "payment").await, 0);

    let answer = Answer::problem(Problem::new(402, "payment-declined", "No."));
    let stored: Outcome<(), PayRefused> = db
        .write("test.settle", async |tx| {
            idempotency::remember(tx, "system:test", "POST /payments", "k", &answer);
            Ok(())
        })
        .await;
    assert!(stored.is_ok());
    assert_eq!(keyed(&db, request("k", 1), bill, 1).await.status(), 402);
}

#[tokio::test]
async fn a_unit_of_work_that_is_dropped_half_way_leaves_no_open_transaction() {
    let (database, db) = schema().await;
    let bill = bill(&db).await;
    let work = db.write("test.pay", async |tx: &mut Tx<PayRefused>| {
        tx.read(sql!("SELECT 1 FROM bill WHERE id = $1 FOR UPDATE", bill)).await?;
        std::future::pending::<()>().await;
        Ok(())
    });
    let dropped = tokio::time::timeout(std::time::Duration::from_millis(200), work).await;
    assert!(dropped.is_err());
    hospital_testkit::eventually("no idle transaction", async || {
        let open: i64 = database
            .value("SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND state LIKE 'idle in transaction%'")
            .await
            .unwrap();
        (open == 0).then_some(())
    })
    .await;
    assert_eq!(keyed(&db, request("k", 1), bill, 1).await.status(), 201);
}

async fn one(db: &Db, query: &'static str) -> i64 {
    db.reader(&Cause::system("test")).read(sql!(query)).await.unwrap()[0].get(0)
}

#[tokio::test]
async fn postgresql_refuses_a_reading_that_writes() {
    let (_database, db) = schema().await;
    let bill = bill(&db).await;
    let cause = Cause::system("test");
    for writes in [
        "INSERT INTO bill (id) VALUES (gen_random_uuid())",
        "UPDATE bill SET paid = 1 RETURNING paid",
        "WITH gone AS (DELETE FROM bill RETURNING 1) SELECT count(*) FROM gone",
        "SELECT id FROM bill FOR UPDATE",
    ] {
        let refused = db.reader(&cause).read(sql!(writes)).await.unwrap_err();
        assert_eq!(refused.kind(), BrokenKind::Defect, "{writes}");
        assert!(refused.to_string().contains("in a read-only transaction"), "{refused}");
    }
    assert_eq!(one(&db, "SELECT count(*) FROM bill WHERE paid = 0").await, 1);
    let written = db.write_alone(
        "test.alone",
        sql!("UPDATE bill SET paid = paid + 7 WHERE id = $1 RETURNING paid", bill),
    );
    assert_eq!(written.await.unwrap()[0].get::<_, i64>(0), 7, "and a write by itself is one");
    assert_eq!(one(&db, "SELECT paid FROM bill").await, 7);
}

/// Takes what is left of a bill, if nobody has touched it.
fn take_untouched(tx: &mut Tx<PayRefused>, bill: Uuid) {
    tx.write(exactly!(
        1,
        "bill_untouched",
        "UPDATE bill SET version = version + 1 WHERE id = $1 AND version = 1",
        bill
    ))
    .refuse_on("bill_untouched", PayRefused::Touched);
}

#[tokio::test]
async fn other_rows_than_expected_are_a_refusal_within_the_one_round_trip() {
    let (_database, db) = schema().await;
    let bill = bill(&db).await;
    let take = || {
        db.write("test.take", async |tx: &mut Tx<PayRefused>| {
            take_untouched(tx, bill);
            outbox::append(tx, &Cause::system("test"), &event());
            Ok(tx.flights())
        })
    };
    assert_eq!(take().await.unwrap(), 0, "nothing is sent before the commit");
    let again = take().await.unwrap_err();
    assert!(matches!(again, Failure::Refused(PayRefused::Touched)), "{again:?}");
    assert_eq!(one(&db, "SELECT count(*) FROM outbox").await, 1, "nothing of it stays");
    // A rule that nobody explains is a defect, and named in the log.
    let unexplained = db.write("test.take", async |tx: &mut Tx<PayRefused>| {
        tx.write(exactly!(2, "two_bills", "UPDATE bill SET paid = 1 WHERE id = $1", bill));
        Ok(())
    });
    let Err(Failure::Broken(broken)) = unexplained.await else { panic!("it was no refusal") };
    assert_eq!(broken.kind(), BrokenKind::Defect);
    assert!(broken.to_string().contains("two_bills: 1 rows, not 2"), "{broken}");
}
