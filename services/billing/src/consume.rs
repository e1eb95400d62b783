//! The event edge: bookings become bills, cancellations close them.

use async_trait::async_trait;
use hospital_contracts::{
    CloudEvent, DomainEvent,
    appointment::{AppointmentBooked, AppointmentCancelled},
};
use hospital_kit::{
    cause::Cause,
    db::Tx,
    inbox::{Consume, Poison},
    outcome::Outcome,
    service::Context,
};
use hospital_types::Currency;
use jiff::tz::TimeZone;

use crate::{
    cancel::cancel,
    generate::{Booked, generate},
};

pub(crate) struct Billing {
    currency: Currency,
    zone: TimeZone,
}

impl Billing {
    pub(crate) fn new(context: &Context) -> Self {
        let facility = &context.config.facility;
        Self { currency: facility.currency, zone: facility.time_zone() }
    }
}

#[async_trait]
impl Consume for Billing {
    fn group(&self) -> &'static str {
        "billing"
    }

    fn topics(&self) -> &'static [&'static str] {
        &[AppointmentBooked::TOPIC, AppointmentCancelled::TOPIC]
    }

    async fn apply(&self, tx: &mut Tx<Poison>, events: &[&CloudEvent]) -> Outcome<(), Poison> {
        let (mut booked, mut cancelled) = (Vec::new(), Vec::new());
        for event in events {
            if event.topic == AppointmentBooked::TOPIC {
                let AppointmentBooked(facts) = event.payload().map_err(Poison::because)?;
                if !crate::price::is_code(&facts.service_type) {
                    return Err(Poison::because("its service type is no code").into());
                }
                let at = event.time.unwrap_or_else(|| tx.now());
                booked.push(Booked { facts, at, cause: Cause::event(self.group(), event) });
            } else {
                let told: AppointmentCancelled = event.payload().map_err(Poison::because)?;
                let cause = Cause::event(self.group(), event);
                cancelled.push((told.facts.appointment_id, cause));
            }
        }
        if !booked.is_empty() {
            generate(tx, &booked, self.currency, &self.zone).await?;
        }
        if !cancelled.is_empty() {
            cancel(tx, &cancelled).await?;
        }
        Ok(())
    }
}
