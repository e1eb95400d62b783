//! Bills, their lines, and payments. Bills are made from events, so the importer waits for each by asking.

use std::{collections::HashSet, time::Duration};

use anyhow::{Context, bail};
use futures_util::{StreamExt, TryStreamExt, stream};
use serde_json::{Value, json};

use super::{
    Import, key,
    report::End,
    synthea::{Encounter, Folder, Payment},
};
use crate::client::Answer;

/// How many lines one request may carry.
const LINES_MAX: usize = 200;
/// How often a card is tried before its payment counts as refused.
const CHARGES_MAX: u32 = 5;
/// How long an unanswered charge is waited for.
const SETTLED_WITHIN: Duration = Duration::from_secs(600);

impl Import {
    pub(super) async fn bills(
        &self,
        folder: &Folder,
        booked: &[Option<String>],
    ) -> anyhow::Result<()> {
        let accepted: Vec<(&Encounter, &String)> = folder
            .encounters
            .iter()
            .zip(booked)
            .filter_map(|(e, id)| Some((e, id.as_ref()?)))
            .collect();
        let bills = self.bar("bills", accepted.len());
        let payments = self
            .bar("payments", accepted.iter().map(|(encounter, _)| encounter.payments.len()).sum());
        stream::iter(accepted)
            .map(|(encounter, appointment)| {
                let (bills, payments) = (&bills, &payments);
                async move {
                    let bill = self.bill_of(appointment).await?;
                    let id = bill["id"].as_str().context("a bill has no id")?.to_owned();
                    self.price(encounter, &id, bill).await?;
                    bills.inc(1);
                    self.pay(encounter, &id).await?;
                    payments.inc(encounter.payments.len() as u64);
                    anyhow::Ok(())
                }
            })
            .buffer_unordered(self.workers)
            .try_collect::<()>()
            .await?;
        bills.finish();
        payments.finish();
        Ok(())
    }

    /// Waits for the bill that the booking's event makes.
    async fn bill_of(&self, appointment: &str) -> anyhow::Result<Value> {
        let started = std::time::Instant::now();
        let mut pause = Duration::from_millis(10);
        loop {
            let mut found =
                self.client.list("billing", &format!("/bills?appointmentId={appointment}")).await?;
            if let Some(bill) = found.pop() {
                return Ok(bill);
            }
            if started.elapsed() > Duration::from_secs(120) {
                bail!(
                    "appointment {appointment} has no bill after two minutes: does the billing service consume?"
                );
            }
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(Duration::from_millis(500));
        }
    }

    /// Adds the lines that are not there yet, and issues the bill.
    async fn price(&self, encounter: &Encounter, id: &str, bill: Value) -> anyhow::Result<()> {
        if bill["status"] != "draft" {
            self.report.count("bills", End::Unchanged);
            return Ok(());
        }
        let there = bill["lines"].as_array().map_or(0, Vec::len);
        let lines: Vec<Value> = encounter
            .lines
            .iter()
            .skip(there)
            .map(|line| {
                json!({
                    "code": line.code,
                    "description": line.description,
                    "quantity": 1,
                    "unitPrice": { "amount": line.amount, "currency": self.currency },
                })
            })
            .collect();
        for (chunk, lines) in lines.chunks(LINES_MAX).enumerate() {
            let body = Value::from(lines);
            let key = key(
                "lines",
                &format!("{}-{}", encounter.place.id, there + chunk * LINES_MAX),
                &body,
            );
            let answer = self
                .client
                .post("billing", &format!("/bills/{id}/lines"), &key, Some(&body))
                .await?;
            if !answer.is_success() {
                self.report.refuse_answer("bills", &encounter.place, &answer);
                return Ok(());
            }
        }
        let key = format!("synthea-issue-{}", encounter.place.id);
        let answer = self.client.post("billing", &format!("/bills/{id}/issue"), &key, None).await?;
        if answer.is_success() {
            self.report.count("bills", End::Created);
        } else {
            self.report.refuse_answer("bills", &encounter.place, &answer);
        }
        Ok(())
    }

    /// Makes the payments that were not made before, in the folder's order: an earlier one may leave nothing for a later one.
    async fn pay(&self, encounter: &Encounter, bill: &str) -> anyhow::Result<()> {
        if encounter.payments.is_empty() {
            return Ok(());
        }
        let made: HashSet<String> = self
            .client
            .list("billing", &format!("/payments?billId={bill}"))
            .await?
            .iter()
            .filter(|payment| payment["status"] == "succeeded")
            .filter_map(|payment| payment["reference"].as_str().map(ToOwned::to_owned))
            .collect();
        for payment in &encounter.payments {
            if made.contains(&reference(payment)) {
                self.report.count("payments", End::Unchanged);
                continue;
            }
            self.pay_one(payment, bill).await?;
        }
        Ok(())
    }

    /// Makes one payment. A card payment that a crash or a silent gateway ended without a charge is tried again under a new key, as a
    /// cashier would: it says nothing about the row.
    async fn pay_one(&self, payment: &Payment, bill: &str) -> anyhow::Result<()> {
        let mut body = json!({
            "billId": bill,
            "amount": { "amount": payment.amount, "currency": self.currency },
            "method": payment.method.as_str(),
            "reference": reference(payment),
        });
        if payment.method.as_str() == "card" {
            // The sandbox gateway's token for a card that pays.
            body["cardToken"] = "tok_ok".into();
        }
        let key = key("payment", &payment.place.id, &body);
        for attempt in 1..=CHARGES_MAX {
            let key = if attempt == 1 { key.clone() } else { format!("{key}-{attempt}") };
            let mut answer = self.client.post("billing", "/payments", &key, Some(&body)).await?;
            if answer.status.as_u16() == 202 {
                answer = self.settled(answer).await?;
            }
            let failed = answer.code() == "payment-declined" || answer.body["status"] == "failed";
            if failed && attempt < CHARGES_MAX {
                continue;
            }
            match answer.body["status"].as_str() {
                Some("succeeded") => {
                    let end = if answer.replayed { End::Unchanged } else { End::Created };
                    self.report.count("payments", end);
                }
                _ if !answer.is_success() => {
                    self.report.refuse_answer("payments", &payment.place, &answer);
                }
                Some("failed") => {
                    self.report.refuse(
                        "payments",
                        &payment.place,
                        "payment-declined",
                        "the card was not charged",
                    );
                }
                _ => {
                    let reason = "the gateway has not said yet whether the card was charged";
                    self.report.refuse("payments", &payment.place, "payment-unknown", reason);
                }
            }
            return Ok(());
        }
        Ok(())
    }

    /// The payment once the reconciler has settled it, or as it is after ten minutes.
    async fn settled(&self, payment: Answer) -> anyhow::Result<Answer> {
        let path = format!("/payments/{}", payment.text("id")?);
        let started = std::time::Instant::now();
        loop {
            let now = self.client.get("billing", &path).await?.succeed("reading a payment")?;
            if now.text("status")? != "unknown" || started.elapsed() > SETTLED_WITHIN {
                return Ok(now);
            }
            tokio::time::sleep(Duration::from_millis(500)).await;
        }
    }
}

/// What ties a payment to its row.
fn reference(payment: &Payment) -> String {
    format!("synthea:{}", payment.place.id)
}
