//! The event edge: what happened becomes messages, and news of patients become contact points to fetch.

use std::{collections::BTreeSet, sync::Arc};

use async_trait::async_trait;
use hospital_contracts::{
    CloudEvent, DomainEvent,
    appointment::{
        AppointmentBooked, AppointmentCancelled, AppointmentFacts, AppointmentRescheduled,
    },
    billing::{BillGenerated, PaymentCompleted, PaymentFacts, PaymentFailed},
    notification::NotificationKind,
    patient::{PatientRegistered, PatientUpdated},
};
use hospital_kit::{
    db::Tx,
    inbox::{Consume, Poison},
    outcome::{Broken, Outcome},
    service::Context,
};
use hospital_types::{AppointmentId, BillId, NotificationId, PatientId, PractitionerId};

use crate::{
    message::Message,
    names::Names,
    store,
    text::{Text, Writer},
    tray::Tray,
};

pub(crate) struct Notifications {
    writer: Writer,
    names: Names,
    tray: Arc<Tray>,
}

impl Notifications {
    pub(crate) fn new(context: &Context, tray: &Arc<Tray>) -> Result<Self, Broken> {
        Ok(Self {
            writer: Writer::new(&context.config.facility),
            names: Names::new(context)?,
            tray: Arc::clone(tray),
        })
    }

    /// The message that an event asks for; none for back-dated records.
    fn message(&self, event: &CloudEvent) -> Result<Option<Message>, Poison> {
        use NotificationKind as Kind;
        let of = |facts: &AppointmentFacts, kind, text: Text| {
            let about = About {
                patient: facts.patient_id,
                appointment: Some(facts.appointment_id),
                bill: None,
            };
            (!facts.back_dated).then(|| message(event, kind, about, text))
        };
        let paid = |facts: &PaymentFacts, kind, text: Text| {
            let about = About {
                patient: facts.patient_id,
                appointment: Some(facts.appointment_id),
                bill: Some(facts.bill_id),
            };
            (!facts.back_dated).then(|| message(event, kind, about, text))
        };
        let w = &self.writer;
        let with = |facts: &AppointmentFacts| self.names.of(facts.practitioner_id);
        Ok(match event.topic.as_str() {
            AppointmentBooked::TOPIC => {
                let AppointmentBooked(facts) = read(event)?;
                of(&facts, Kind::AppointmentBooked, w.booked(&facts, with(&facts)))
            }
            AppointmentRescheduled::TOPIC => {
                let moved: AppointmentRescheduled = read(event)?;
                of(
                    &moved.facts,
                    Kind::AppointmentRescheduled,
                    w.rescheduled(&moved, with(&moved.facts)),
                )
            }
            AppointmentCancelled::TOPIC => {
                let AppointmentCancelled { facts, by } = read(event)?;
                of(&facts, Kind::AppointmentCancelled, w.cancelled(&facts, with(&facts), by))
            }
            BillGenerated::TOPIC => {
                let BillGenerated(facts) = read(event)?;
                let about = About {
                    patient: facts.patient_id,
                    appointment: Some(facts.appointment_id),
                    bill: Some(facts.bill_id),
                };
                (!facts.back_dated)
                    .then(|| message(event, Kind::BillIssued, about, w.bill_issued(&facts)))
            }
            PaymentCompleted::TOPIC => {
                let PaymentCompleted(facts) = read(event)?;
                paid(&facts, Kind::PaymentCompleted, w.payment_completed(&facts))
            }
            _ => {
                let PaymentFailed { facts, code } = read(event)?;
                paid(&facts, Kind::PaymentFailed, w.payment_failed(&facts, &code))
            }
        })
    }
}

#[derive(Clone, Copy)]
struct About {
    patient: PatientId,
    appointment: Option<AppointmentId>,
    bill: Option<BillId>,
}

fn message(
    event: &CloudEvent,
    kind: NotificationKind,
    about: About,
    (subject, body): Text,
) -> Message {
    Message {
        id: NotificationId::new(),
        event: event.id,
        kind,
        patient: about.patient,
        appointment: about.appointment,
        bill: about.bill,
        subject,
        body,
    }
}

/// Whom a patient has an appointment with, where somebody is to be told about it.
fn practitioner_of(event: &CloudEvent) -> Option<PractitionerId> {
    let facts = match event.topic.as_str() {
        AppointmentBooked::TOPIC => read::<AppointmentBooked>(event).ok()?.0,
        AppointmentRescheduled::TOPIC => read::<AppointmentRescheduled>(event).ok()?.facts,
        AppointmentCancelled::TOPIC => read::<AppointmentCancelled>(event).ok()?.facts,
        _ => return None,
    };
    (!facts.back_dated).then_some(facts.practitioner_id)
}

fn read<E: DomainEvent>(event: &CloudEvent) -> Result<E, Poison> {
    event.payload().map_err(Poison::because)
}

#[async_trait]
impl Consume for Notifications {
    fn group(&self) -> &'static str {
        "notification"
    }

    fn topics(&self) -> &'static [&'static str] {
        &[
            PatientRegistered::TOPIC,
            PatientUpdated::TOPIC,
            AppointmentBooked::TOPIC,
            AppointmentRescheduled::TOPIC,
            AppointmentCancelled::TOPIC,
            BillGenerated::TOPIC,
            PaymentCompleted::TOPIC,
            PaymentFailed::TOPIC,
        ]
    }

    async fn prepare(&self, events: &[&CloudEvent]) {
        let practitioners: BTreeSet<PractitionerId> =
            events.iter().filter_map(|event| practitioner_of(event)).collect();
        self.names.learn(practitioners).await;
    }

    async fn apply(&self, tx: &mut Tx<Poison>, events: &[&CloudEvent]) -> Outcome<(), Poison> {
        let (mut messages, mut wanted) = (Vec::new(), Vec::new());
        for event in events {
            match event.topic.as_str() {
                PatientRegistered::TOPIC => {
                    let PatientRegistered(facts) = read(event)?;
                    wanted.push((facts.patient_id, facts.version));
                }
                PatientUpdated::TOPIC => {
                    let PatientUpdated(facts) = read(event)?;
                    wanted.push((facts.patient_id, facts.version));
                }
                _ => messages.extend(self.message(event)?),
            }
        }
        store::request_contacts(tx, &wanted);
        let place = self.tray.promise();
        let dispatches = store::insert_deliveries(tx, messages, place.room).await?;
        tx.on_commit(move || place.keep(dispatches));
        Ok(())
    }
}
