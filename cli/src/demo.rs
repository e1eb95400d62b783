//! `hospital demo`: one patient's journey through the four services, told as it happens.

use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use console::style;
use hospital_types::Role;
use jiff::{ToSpan, Unit};
use serde_json::{Value, json};
use uuid::Uuid;

use crate::{client::Client, platform::PlatformArgs, token};

/// Tells one patient's whole journey on a running platform, step by step
#[derive(clap::Args)]
pub(crate) struct DemoArgs {
    /// Pause between steps, in milliseconds, for telling it live
    #[arg(long, default_value_t = 600)]
    pause_ms: u64,
}

struct Story {
    client: Client,
    pause: Duration,
    step: u32,
    run: String,
}

pub(crate) async fn run(args: &DemoArgs, platform: &PlatformArgs) -> anyhow::Result<()> {
    let platform = platform.find_serving().await?;
    let roles = [Role::Admin, Role::FrontDesk, Role::BillingManager, Role::Cashier];
    let token = token::sign(&platform.signing_key, "demo", &roles, None)?;
    #[expect(clippy::disallowed_methods, reason = "keys of this run, not an id of anything")]
    let run = Uuid::new_v4().simple().to_string()[..8].to_owned();
    let pause = Duration::from_millis(args.pause_ms);
    let mut story = Story { client: Client::new(&platform, token)?, pause, step: 0, run };
    story.tell().await
}

#[expect(clippy::print_stdout, reason = "the story is the command's result")]
fn say(line: &str) {
    println!("{line}");
}

impl Story {
    async fn tell(&mut self) -> anyhow::Result<()> {
        let patient = self.register().await?;
        let practitioner = self.practitioner().await?;
        self.price().await?;
        let appointment = self.book(&patient, &practitioner).await?;
        let bill = self.bill(&appointment).await?;
        self.pay(&bill).await?;
        self.messages(&patient).await?;
        say("");
        say(&format!(
            "{}",
            style("Booked, billed, paid and told: once each, whatever dies in between.").green()
        ));
        say(&style("hospital verify proves it.").dim().to_string());
        Ok(())
    }

    /// Announces a step.
    async fn next(&mut self, what: &str) {
        self.step += 1;
        tokio::time::sleep(self.pause).await;
        say("");
        say(&format!("{} {}", style(format!("{}.", self.step)).cyan().bold(), style(what).bold()));
    }

    /// Sends a request and shows it with its answer.
    async fn ask(
        &self,
        service: &str,
        path: &str,
        name: &str,
        body: Value,
    ) -> anyhow::Result<crate::client::Answer> {
        let started = Instant::now();
        let key = format!("demo-{}-{name}", self.run);
        let answer = self.client.post(service, path, &key, Some(&body)).await?;
        let status = style(answer.status.as_u16());
        let status = if answer.is_success() { status.green() } else { status.yellow() };
        say(&format!(
            "   {} POST {path}  →  {status} {}  {}",
            style(format!("{service:<12}")).dim(),
            if answer.is_success() { "" } else { answer.code() },
            style(format!("{} ms", started.elapsed().as_millis())).dim()
        ));
        Ok(answer)
    }

    async fn register(&mut self) -> anyhow::Result<String> {
        self.next("The front desk registers a patient").await;
        let body = json!({
            "givenName": "Demo", "familyName": format!("Patient {}", self.run), "birthDate": "1990-05-17", "gender": "other",
            "email": format!("demo-{}@example.org", self.run), "acceptDuplicate": true,
        });
        let answer =
            self.ask("patient", "/patients", "patient", body).await?.succeed("registering")?;
        event("patient.registered", "ids only: no name, no address ever travels on the bus");
        Ok(answer.text("id")?.to_owned())
    }

    async fn practitioner(&mut self) -> anyhow::Result<String> {
        self.next("A practitioner opens her calendar").await;
        let body =
            json!({ "name": format!("Dr. Demo {}", self.run), "specialty": "General practice" });
        let answer = self
            .ask("appointment", "/practitioners", "practitioner", body)
            .await?
            .succeed("opening")?;
        Ok(answer.text("id")?.to_owned())
    }

    async fn price(&mut self) -> anyhow::Result<()> {
        self.next("The price list says what a consultation costs").await;
        let body = json!({ "name": "Demo consultation", "price": { "amount": "125.00", "currency": "USD" } });
        self.client
            .put("billing", "/service-types/demo-consultation", &body)
            .await?
            .succeed("pricing")?;
        say(&format!(
            "   {} PUT /service-types/demo-consultation  →  125.00 USD",
            style("billing     ").dim()
        ));
        Ok(())
    }

    async fn book(&mut self, patient: &str, practitioner: &str) -> anyhow::Result<String> {
        self.next(
            "She is booked; the patient is checked by REST, the slot is decided by the database",
        )
        .await;
        let clock = hospital_kit::clock::Clock::system();
        let start = clock.now().checked_add(72.hours())?.round(Unit::Hour)?;
        let at = |minutes: i64| start.checked_add(minutes.minutes()).map(|t| t.to_string());
        let booking = |from: i64, to: i64| -> anyhow::Result<Value> {
            Ok(
                json!({ "patientId": patient, "practitionerId": practitioner, "start": at(from)?, "end": at(to)?,
                       "serviceType": "demo-consultation" }),
            )
        };
        let answer = self
            .ask("appointment", "/appointments", "book", booking(0, 30)?)
            .await?
            .succeed("booking")?;
        event("appointment.booked", "committed with the appointment, published by the relay");
        let taken = self.ask("appointment", "/appointments", "overlap", booking(5, 35)?).await?;
        if taken.code() != "slot-unavailable" {
            bail!("five minutes later was not refused: {} {}", taken.status, taken.code());
        }
        let free = taken.body["alternatives"].as_array().map_or(0, Vec::len);
        say(&format!(
            "   {} five minutes later is taken; {free} free times are offered",
            style("             ").dim()
        ));
        Ok(answer.text("id")?.to_owned())
    }

    async fn bill(&mut self, appointment: &str) -> anyhow::Result<Value> {
        self.next("Billing hears of it and makes exactly one bill").await;
        let started = Instant::now();
        let bill =
            self.await_one("billing", &format!("/bills?appointmentId={appointment}")).await?;
        let number = bill["number"].as_str().unwrap_or("?");
        let total = bill["total"]["amount"].as_str().unwrap_or("?");
        say(&format!(
            "   {} bill {} of {total} USD is {}  {}",
            style("billing     ").dim(),
            style(number).bold(),
            bill["status"].as_str().unwrap_or("?"),
            style(format!("seen after {} ms", started.elapsed().as_millis())).dim()
        ));
        event("bill.generated", "");
        Ok(bill)
    }

    async fn pay(&mut self, bill: &Value) -> anyhow::Result<()> {
        let id = bill["id"].as_str().context("a bill has an id")?;
        let body = |amount: &str, method: &str| {
            let mut body = json!({ "billId": id, "amount": { "amount": amount, "currency": "USD" }, "method": method });
            if method == "card" {
                body["cardToken"] = "tok_ok".into();
            }
            body
        };
        self.next("The cashier takes part of it in cash, and sends it twice by mistake").await;
        self.ask("billing", "/payments", "cash", body("25.00", "cash")).await?.succeed("paying")?;
        let again = self
            .ask("billing", "/payments", "cash", body("25.00", "cash"))
            .await?
            .succeed("repeating")?;
        say(&format!(
            "   {} same key, same answer, charged once: {}",
            style("             ").dim(),
            again.replayed
        ));
        event("payment.completed", "");
        self.next("A card is declined: the money is not taken, and everybody hears of it").await;
        let mut declined = body("100.00", "card");
        declined["cardToken"] = "tok_declined".into();
        self.ask("billing", "/payments", "declined", declined).await?;
        event("payment.failed", "");
        self.next("One cent too much is refused; the rest is paid by card").await;
        self.ask("billing", "/payments", "over", body("100.01", "cash")).await?;
        self.ask("billing", "/payments", "card", body("100.00", "card"))
            .await?
            .succeed("paying")?;
        event("payment.completed", "");
        let bill = self
            .client
            .get("billing", &format!("/bills/{id}"))
            .await?
            .succeed("reading the bill")?;
        say(&format!(
            "   {} the bill is {}",
            style("             ").dim(),
            style(bill.text("status")?).green()
        ));
        Ok(())
    }

    async fn messages(&mut self, patient: &str) -> anyhow::Result<()> {
        self.next("The patient is told, once each").await;
        let path = format!("/notifications?patientId={patient}");
        let started = Instant::now();
        let messages = loop {
            let all = self.client.list("notification", &path).await?;
            let sent = all.iter().filter(|m| m["status"] == "sent").count();
            if sent >= 5 {
                break all;
            }
            if started.elapsed() > Duration::from_secs(30) {
                bail!("only {sent} of 5 messages were sent within 30 s");
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        };
        for message in &messages {
            say(&format!(
                "   {} {:<18} to {}  {}",
                style("notification").dim(),
                message["kind"].as_str().unwrap_or("?"),
                message["recipient"].as_str().unwrap_or("?"),
                style(message["subject"].as_str().unwrap_or("?")).italic()
            ));
        }
        Ok(())
    }

    async fn await_one(&self, service: &str, path: &str) -> anyhow::Result<Value> {
        let started = Instant::now();
        loop {
            if let Some(found) = self.client.list(service, path).await?.pop() {
                return Ok(found);
            }
            if started.elapsed() > Duration::from_secs(30) {
                bail!("nothing at {path} of the {service} service after 30 s");
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }
}

fn event(topic: &str, note: &str) {
    let note = if note.is_empty() { String::new() } else { format!("  {note}") };
    say(&format!("   {} {topic}{}", style("event       ").magenta().dim(), style(note).dim()));
}
