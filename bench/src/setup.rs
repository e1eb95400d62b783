//! Sets a platform up through its public APIs: patients, practitioners, prices, and bills to pay.

use std::{cell::RefCell, net::SocketAddr, rc::Rc, time::Duration};

use anyhow::{Context, bail};
use futures_util::future::try_join_all;
use jiff::{SignedDuration, Timestamp, Unit};

use crate::{
    database,
    http::Connection,
    platform::Program,
    workload::{Pen, SLOTS, Service, World},
};

/// How much there is.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Size {
    pub(crate) patients: usize,
    pub(crate) practitioners: usize,
    pub(crate) bills: usize,
}

impl Size {
    pub(crate) const FULL: Self = Self { patients: 10_000, practitioners: 500, bills: 10_000 };
    pub(crate) const QUICK: Self = Self { patients: 2_000, practitioners: 500, bills: 1_000 };
}

/// How many callers there are.
const CALLERS: usize = 16;
const PATIENCE: Duration = Duration::from_secs(60);

/// Requests that are sent once each, in any order.
type Requests = Vec<(Service, Vec<u8>)>;

pub(crate) async fn fill(program: &Program, url: &str, size: Size) -> anyhow::Result<()> {
    let world = Rc::new(world(program, url).await?);
    let mut pen = Pen::new(&world);
    let mut requests = Requests::new();
    let mut post = |pen: &mut Pen, service, path: &str| {
        let mut request = Vec::new();
        let key = pen.next_key();
        pen.post(&mut request, path, key);
        requests.push((service, request));
    };
    for n in 0..size.practitioners {
        pen.say(format_args!(r#"{{"name":"Dr. Bench {n}","specialty":"General practice"}}"#));
        post(&mut pen, Service::Appointment, "/practitioners");
    }
    for n in 0..size.patients {
        let name = spelled(n);
        pen.say(format_args!(
            r#"{{"givenName":"Bench","familyName":"{name}","birthDate":"19{:02}-0{}-1{}","gender":"other","email":"{name}@example.org","acceptDuplicate":true}}"#,
            n % 100, n % 9 + 1, n % 10
        ));
        post(&mut pen, Service::Patient, "/patients");
    }
    for (code, price) in [("visit", "120.00"), ("endless", "10000000.00")] {
        let mut request = Vec::new();
        pen.say(format_args!(
            r#"{{"name":"{code}","price":{{"amount":"{price}","currency":"USD"}}}}"#
        ));
        pen.put(&mut request, &format!("/service-types/{code}"));
        requests.push((Service::Billing, request));
    }
    send_all(program.addresses(), requests).await?;
    book_bills(program, url, size).await
}

/// Books appointments, at times that no scenario books, and waits for their bills.
async fn book_bills(program: &Program, url: &str, size: Size) -> anyhow::Result<()> {
    let world = Rc::new(world(program, url).await?);
    let mut pen = Pen::new(&world);
    let mut requests = Requests::new();
    for minute in (SLOTS..).take(size.bills) {
        let mut request = Vec::new();
        let key = pen.next_key();
        pen.say_booking(minute, "endless");
        pen.post(&mut request, "/appointments", key);
        requests.push((Service::Appointment, request));
    }
    send_all(program.addresses(), requests).await?;
    let client = database::connect(url).await?;
    let deadline = tokio::time::Instant::now() + PATIENCE;
    loop {
        let made: i64 = client.query_one("SELECT count(*) FROM billing.bill", &[]).await?.get(0);
        if made >= i64::try_from(size.bills)? {
            return Ok(());
        }
        if tokio::time::Instant::now() > deadline {
            bail!("{made} bills were made in {PATIENCE:?}, not {}", size.bills);
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// A name of letters only.
fn spelled(n: usize) -> String {
    format!("{n:05}").bytes().map(|digit| char::from(digit - b'0' + b'a')).collect()
}

async fn send_all(addresses: [SocketAddr; 4], requests: Requests) -> anyhow::Result<()> {
    let requests = RefCell::new(requests);
    let worker = async || -> anyhow::Result<()> {
        let mut connections = addresses.map(Connection::new);
        loop {
            let Some((service, request)) = requests.borrow_mut().pop() else { return Ok(()) };
            let connection = &mut connections[service.place()];
            for attempt in 0.. {
                let answer = connection.exchange(&request).await?;
                match answer.status {
                    200..300 => break,
                    // Sent away for a moment; the key makes it safe to ask again.
                    429 | 503 if attempt < 20 => {
                        tokio::time::sleep(Duration::from_millis(100)).await;
                    }
                    status => {
                        bail!(
                            "set-up: {status}: {}",
                            String::from_utf8_lossy(connection.body(&answer))
                        );
                    }
                }
            }
        }
    };
    try_join_all((0..24).map(|_| worker())).await.map(|_| ())
}

/// Reads what there is.
pub(crate) async fn world(program: &Program, url: &str) -> anyhow::Result<World> {
    let roles = ["front-desk", "admin", "cashier", "billing-manager"];
    let mut tokens = Vec::new();
    for caller in 0..CALLERS {
        let subject = format!("desk-{caller}");
        let mut args = vec!["token", "--subject", &subject, "--ttl", "7d"];
        args.extend(roles.iter().flat_map(|role| ["--role", role]));
        tokens.push(program.must(&args)?.trim().to_owned());
    }
    let client = database::connect(url).await?;
    let tomorrow = now() + SignedDuration::from_hours(24);
    Ok(World {
        tokens,
        patients: database::texts(&client, "SELECT id::text FROM patient.patient ORDER BY id")
            .await?,
        practitioners: database::texts(
            &client,
            "SELECT id::text FROM appointment.practitioner ORDER BY id",
        )
        .await?,
        bills: database::texts(
            &client,
            "SELECT id::text FROM billing.bill WHERE total > 100000000 ORDER BY id",
        )
        .await?,
        start: tomorrow.round(Unit::Minute).context("rounding tomorrow")?,
        run: format!("{:08x}", fastrand::u32(..)),
    })
}

#[expect(
    clippy::disallowed_methods,
    reason = "the bench is no service: its clock is the machine's"
)]
pub(crate) fn now() -> Timestamp {
    Timestamp::now()
}
