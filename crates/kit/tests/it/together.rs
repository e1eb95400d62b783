//! Commands that are done together: none pays for another's refusal, repetition or crash.

use std::collections::BTreeMap;

use futures_util::future::join_all;
use hospital_contracts::patient::{PatientFacts, PatientRegistered, PatientStatus};
use hospital_kit::{
    cause::Cause,
    db::{Db, Tx},
    exactly,
    http::Answer,
    idempotency::{Explain, Joint, Member, Request, Together},
    outbox,
    outcome::Outcome,
    sql,
};
use hospital_types::{Actor, PatientId, Refusal, RefusalKind};
use jiff::Timestamp;
use uuid::Uuid;

use crate::support::{schema, schema_with_slow_commits, until_blocked};

#[derive(Debug, PartialEq, Eq)]
enum PayRefused {
    Overpaid,
    BillUnknown,
    NothingToPay,
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
            Self::NothingToPay => "nothing-to-pay",
            Self::Touched => "bill-touched",
        }
    }
    fn detail(&self) -> String {
        String::new()
    }
}
impl Explain for PayRefused {}

struct Pay {
    bill: Uuid,
    amount: i64,
}

struct Paying;

impl Joint for Paying {
    type Cmd = Pay;
    type Done = i64;
    type Refused = PayRefused;

    const NAME: &'static str = "test.pay";

    fn check(cmd: &Pay, _: Timestamp) -> Result<(), PayRefused> {
        if cmd.amount == 0 { Err(PayRefused::NothingToPay) } else { Ok(()) }
    }

    fn clash(_: &Pay, _: &Pay) -> bool {
        false
    }

    fn work(tx: &mut Tx<PayRefused>, members: &[Member<Pay>]) -> Outcome<Vec<i64>, PayRefused> {
        let mut sums: BTreeMap<Uuid, i64> = BTreeMap::new();
        for member in members {
            *sums.entry(member.cmd.bill).or_default() += member.cmd.amount;
        }
        let (bills, amounts): (Vec<Uuid>, Vec<i64>) = sums.into_iter().unzip();
        let paid: Vec<Uuid> = members.iter().map(|member| member.cmd.bill).collect();
        tx.write(sql!(
            "INSERT INTO payment (id, bill_id) SELECT gen_random_uuid(), bill FROM unnest($1::uuid[]) AS p (bill)",
            paid
        ))
        .refuse_on("payment_bill_exists", PayRefused::BillUnknown);
        tx.write(sql!(
            "SELECT count(*) FROM (SELECT 1 FROM bill WHERE id = ANY ($1::uuid[]) ORDER BY id FOR NO KEY UPDATE) AS locked",
            bills.clone()
        ));
        tx.write(sql!(
            "UPDATE bill SET paid = paid + ($2::bigint[])[array_position($1, id)] WHERE id = ANY ($1::uuid[])",
            bills,
            amounts
        ))
        .refuse_on("bill_not_overpaid", PayRefused::Overpaid);
        let events: Vec<_> = members.iter().map(|one| (event(), &one.request.cause)).collect();
        outbox::append_all(tx, &events);
        Ok(members.iter().map(|member| member.cmd.amount).collect())
    }

    fn answer(amount: &i64) -> Answer {
        Answer::created("/payments/1", 1, amount)
    }
}

fn event() -> PatientRegistered {
    PatientRegistered(PatientFacts {
        patient_id: PatientId::new(),
        version: 1,
        status: PatientStatus::Active,
    })
}

fn request(key: Option<&str>) -> Request {
    Request {
        name: "test.pay",
        cause: Cause::system("test"),
        key: key.map(ToOwned::to_owned),
        route: "POST /payments".to_owned(),
        fingerprint: [1; 32],
    }
}

async fn bill(db: &Db, n: u128) -> Uuid {
    let id = Uuid::from_u128(n);
    db.write_alone("test", sql!("INSERT INTO bill (id) VALUES ($1)", id)).await.unwrap();
    id
}

async fn count(db: &Db, from: &str) -> i64 {
    let sql: &'static str = format!("SELECT count(*) FROM {from}").leak();
    db.reader(&Cause::system("test")).read(sql!(sql)).await.unwrap()[0].get(0)
}

/// In how many transactions the payments were written.
async fn transactions(db: &Db) -> i64 {
    count(db, "(SELECT DISTINCT xmin::text FROM payment) AS transactions").await
}

fn statuses(answers: &[Answer]) -> BTreeMap<u16, usize> {
    answers.iter().fold(BTreeMap::new(), |mut all, answer| {
        *all.entry(answer.status()).or_default() += 1;
        all
    })
}

#[tokio::test]
async fn those_that_come_at_once_are_done_together_and_each_gets_its_own_answer() {
    let (_database, db) = schema().await;
    let (a, b) = (bill(&db, 1).await, bill(&db, 2).await);
    let paying = Together::<Paying>::new(&db);
    let calls = (1..=10_i64).map(|n| {
        let key = n.to_string();
        let cmd = Pay { bill: if n % 2 == 0 { a } else { b }, amount: n };
        let paying = &paying;
        async move { paying.once(request(Some(&key)), cmd).await }
    });
    let answers = join_all(calls).await;
    for (n, answer) in (1..=10).zip(&answers) {
        assert_eq!((answer.status(), answer.body()), (201, n.to_string().as_bytes()));
    }
    assert_eq!((count(&db, "payment").await, count(&db, "idempotency").await), (10, 10));
    assert_eq!(count(&db, "bill WHERE paid = 30 OR paid = 25").await, 2);
    assert_eq!(transactions(&db).await, 1, "they came at one moment");
    let again = paying.once(request(Some("7")), Pay { bill: b, amount: 7 }).await;
    assert_eq!((again.status(), again.body()), (201, answers[6].body()));
    assert_eq!(count(&db, "payment").await, 10);
}

#[tokio::test]
async fn a_refusal_is_for_the_one_it_is_for() {
    let (_database, db) = schema().await;
    let bill = bill(&db, 1).await;
    let paying = Together::<Paying>::new(&db);
    let calls = (0..12_i64).map(|n| {
        let key = n.to_string();
        let cmd = match n {
            4 => Pay { bill, amount: 101 },
            6 => Pay { bill: Uuid::from_u128(404), amount: 1 },
            8 => Pay { bill, amount: 0 },
            _ => Pay { bill, amount: 1 },
        };
        let paying = &paying;
        async move { paying.once(request(Some(&key)), cmd).await }
    });
    let answers = join_all(calls).await;
    assert_eq!(statuses(&answers), BTreeMap::from([(201, 9), (409, 3)]));
    for (n, code) in [(4, "overpayment"), (6, "bill-unknown"), (8, "nothing-to-pay")] {
        let text = String::from_utf8(answers[n].body().to_vec()).unwrap();
        assert!(text.contains(code), "{n}: {text}");
    }
    assert_eq!(count(&db, "payment").await, 9);
    assert_eq!(count(&db, "bill WHERE paid = 9").await, 1);
    assert_eq!(count(&db, "idempotency WHERE status = 409").await, 3, "refusals are remembered");
}

#[tokio::test(flavor = "multi_thread")]
async fn one_key_a_hundred_times_among_others_does_it_once() {
    let (_database, db) = schema().await;
    let bill = bill(&db, 1).await;
    let paying = Together::<Paying>::new(&db);
    let calls = (0..150).map(|n| {
        let key = if n % 3 == 0 { n.to_string() } else { "storm".to_owned() };
        let (paying, cmd) = (paying.clone(), Pay { bill, amount: 1 });
        tokio::spawn(async move { paying.once(request(Some(&key)), cmd).await })
    });
    let answers: Vec<Answer> = join_all(calls).await.into_iter().map(Result::unwrap).collect();
    assert_eq!(statuses(&answers), BTreeMap::from([(201, 150)]));
    assert_eq!(count(&db, "payment").await, 51);
    assert_eq!(count(&db, "bill WHERE paid = 51").await, 1);
}

#[tokio::test]
async fn those_without_a_key_ride_along() {
    let (_database, db) = schema().await;
    let bill = bill(&db, 1).await;
    let paying = Together::<Paying>::new(&db);
    let calls = (0..6).map(|n| {
        let key = (n % 2 == 0).then(|| n.to_string());
        let paying = &paying;
        async move { paying.once(request(key.as_deref()), Pay { bill, amount: 1 }).await }
    });
    assert_eq!(statuses(&join_all(calls).await), BTreeMap::from([(201, 6)]));
    assert_eq!((count(&db, "payment").await, count(&db, "idempotency").await), (6, 3));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connection_that_is_lost_in_the_middle_leaves_nothing_and_each_key_can_be_sent_again() {
    let (database, db) = schema().await;
    let (bill, owner) = (bill(&db, 1).await, database.owner_url());
    let paying = Together::<Paying>::new(&db);
    // Somebody else holds the bill, so that the flights wait in the middle of their work.
    let (holder, connection) =
        tokio_postgres::connect(&owner, tokio_postgres::NoTls).await.unwrap();
    tokio::spawn(connection);
    holder.batch_execute("BEGIN; UPDATE kit.bill SET version = version").await.unwrap();
    let pay = |n: u32| {
        let paying = paying.clone();
        let cmd = Pay { bill, amount: 1 };
        tokio::spawn(async move { paying.once(request(Some(&n.to_string())), cmd).await })
    };
    let calls: Vec<_> = (0..10).map(pay).collect();
    until_blocked(&database).await;
    // Whoever waits for the bill is cut off, until all have been told.
    let mut calls = join_all(calls);
    let answers: Vec<Answer> = loop {
        let cut = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity
                   WHERE datname = current_database() AND usename = 'hospital_kit' AND wait_event_type = 'Lock'";
        holder.query(cut, &[]).await.unwrap();
        let pause = std::time::Duration::from_millis(20);
        if let Ok(done) = tokio::time::timeout(pause, &mut calls).await {
            break done.into_iter().map(Result::unwrap).collect();
        }
    };
    assert_eq!(statuses(&answers), BTreeMap::from([(503, 10)]));
    holder.batch_execute("ROLLBACK").await.unwrap();
    assert_eq!((count(&db, "payment").await, count(&db, "idempotency").await), (0, 0));
    let again: Vec<Answer> =
        join_all((0..10).map(pay)).await.into_iter().map(Result::unwrap).collect();
    assert_eq!(statuses(&again), BTreeMap::from([(201, 10)]));
    assert_eq!(count(&db, "bill WHERE paid = 10").await, 1);
}

/// Pays one, and comes again while it is not known whether that was done, if there is a key to come with.
async fn pay_surely(paying: &Together<Paying>, bill: Uuid, key: Option<&str>) -> Answer {
    loop {
        let answer = paying.once(request(key), Pay { bill, amount: 1 }).await;
        if key.is_none() || !matches!(answer.status(), 409 | 503) {
            return answer;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_may_have_been_committed_is_looked_up_by_its_key_and_never_done_twice() {
    let (database, db) = schema_with_slow_commits().await;
    let bill = bill(&db, 1).await;
    let paying = Together::<Paying>::new(&db);
    let waves = async {
        let mut answers = Vec::new();
        for wave in 0..8 {
            let keys = (0..12).map(|n| (n % 2 == 0).then(|| format!("{wave}-{n}")));
            let calls: Vec<_> = keys.collect();
            let calls = calls.iter().map(|key| pay_surely(&paying, bill, key.as_deref()));
            answers.extend(join_all(calls).await);
        }
        answers
    };
    let (owner, connection) =
        tokio_postgres::connect(&database.owner_url(), tokio_postgres::NoTls).await.unwrap();
    tokio::spawn(connection);
    let mut ended = 0;
    let mut waves = std::pin::pin!(waves);
    let answers = loop {
        let end = "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity
                   WHERE datname = current_database() AND usename = 'hospital_kit'
                     AND state = 'active' AND query = 'COMMIT'";
        ended += owner.query_one(end, &[]).await.unwrap().get::<_, i64>(0);
        // Others get through.
        let pause = std::time::Duration::from_millis(35);
        if let Ok(answers) = tokio::time::timeout(pause, &mut waves).await {
            break answers;
        }
    };
    assert!(ended > 3, "only {ended} sessions were met at their commit");
    let keyed: Vec<Answer> = answers.iter().step_by(2).cloned().collect();
    assert_eq!(statuses(&keyed), BTreeMap::from([(201, 48)]));
    let keyless: Vec<Answer> = answers.into_iter().skip(1).step_by(2).collect();
    let said = statuses(&keyless);
    assert!(said.keys().all(|status| matches!(status, 201 | 503)), "{said:?}");
    let told = |status| i64::try_from(said.get(&status).copied().unwrap_or(0)).unwrap();
    let (sure, open) = (48 + told(201), told(503));
    let there = count(&db, "payment").await;
    assert!((sure..=sure + open).contains(&there), "{there} there, and {sure} to {open} more told");
    assert_eq!(count(&db, &format!("bill WHERE paid = {there}")).await, 1);
}

#[tokio::test]
async fn a_refusal_that_is_found_out_together_has_the_trace_of_its_request_and_is_repeated_with_it()
{
    let (_database, db) = schema().await;
    let (bill, together) = (bill(&db, 1).await, Together::<Paying>::new(&db));
    let trace = "4bf92f3577b34da6a3ce929d0e0e4736";
    let mut request = request(Some("k"));
    request.cause.trace = Some(format!("00-{trace}-00f067aa0ba902b7-01"));
    let first = together.once(request.clone(), Pay { bill, amount: 101 }).await;
    let told: serde_json::Value = serde_json::from_slice(first.body()).unwrap();
    assert_eq!((first.status(), &told["traceId"]), (409, &trace.into()), "{told}");
    let again = together.once(request, Pay { bill, amount: 101 }).await;
    assert_eq!((again.status(), again.body()), (409, first.body()));
}

#[tokio::test]
async fn what_commands_of_several_callers_write_together_names_the_caller_and_the_trace_of_each() {
    let (_database, db) = schema().await;
    let (bill, together) = (bill(&db, 1).await, Together::<Paying>::new(&db));
    let callers: Vec<Cause> = ["anna", "ben", "anna", "cleo"]
        .into_iter()
        .zip(1..)
        .map(|(name, n)| Cause {
            actor: Actor { subject: name.to_owned(), ..Actor::system("test") },
            on_behalf_of: None,
            trace: Some(format!("00-{n:032x}-00f067aa0ba902b7-01")),
        })
        .collect();
    let calls = callers.iter().zip(1..).map(|(cause, n)| {
        let key = format!("key-{n}");
        let request = Request { cause: cause.clone(), ..request(Some(&key)) };
        together.once(request, Pay { bill, amount: n })
    });
    assert_eq!(statuses(&join_all(calls).await), BTreeMap::from([(201, 4)]));
    assert_eq!(transactions(&db).await, 1);
    let cause = Cause::system("test");
    let told = db
        .reader(&cause)
        .read(sql!("SELECT actor, traceparent, unit FROM outbox ORDER BY traceparent"));
    let kept = db.reader(&cause).read(sql!("SELECT caller FROM idempotency ORDER BY key"));
    let (told, kept) = (told.await.unwrap(), kept.await.unwrap());
    assert_eq!((told.len(), kept.len()), (4, 4));
    for ((told, kept), cause) in told.iter().zip(&kept).zip(&callers) {
        let name = cause.actor.subject.as_str();
        assert_eq!((told.get::<_, &str>(0), kept.get::<_, &str>(0)), (name, name));
        assert_eq!(told.get::<_, Option<String>>(1), cause.trace);
        assert_eq!(told.get::<_, &str>(2), "test.pay", "the transaction's name is apart");
    }
}

/// Takes bills that nobody has touched.
struct Taking;

impl Joint for Taking {
    type Cmd = Uuid;
    type Done = Uuid;
    type Refused = PayRefused;

    const NAME: &'static str = "test.take";

    fn check(_: &Uuid, _: Timestamp) -> Result<(), PayRefused> {
        Ok(())
    }

    fn clash(_: &Uuid, _: &Uuid) -> bool {
        false
    }

    fn work(tx: &mut Tx<PayRefused>, members: &[Member<Uuid>]) -> Outcome<Vec<Uuid>, PayRefused> {
        let bills: Vec<Uuid> = members.iter().map(|member| member.cmd).collect();
        tx.write(exactly!(
            "cardinality($1)",
            "bill_untouched",
            "UPDATE bill SET version = version + 1 WHERE id = ANY ($1::uuid[]) AND version = 1",
            bills.clone()
        ))
        .refuse_on("bill_untouched", PayRefused::Touched);
        Ok(bills)
    }

    fn answer(taken: &Uuid) -> Answer {
        Answer::created("/bills/1", 1, taken)
    }
}

#[tokio::test]
async fn of_several_only_the_one_whose_rows_are_not_there_is_refused() {
    let (_database, db) = schema().await;
    let mut bills = Vec::new();
    for n in 1..=6 {
        bills.push(bill(&db, n).await);
    }
    let touched = sql!("UPDATE bill SET version = 2 WHERE id = $1", bills[3]);
    db.write_alone("test", touched).await.unwrap();
    let taking = Together::<Taking>::new(&db);
    let calls = bills.iter().map(|bill| taking.once(request(None), *bill));
    let said: Vec<u16> = join_all(calls).await.iter().map(Answer::status).collect();
    assert_eq!(said, [201, 201, 201, 409, 201, 201]);
    assert_eq!(count(&db, "bill WHERE version = 2").await, 6, "each of them once");
}
