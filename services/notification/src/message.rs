//! The model of a message to a patient.

use hospital_contracts::notification::{NotificationKind, NotificationStatus, NotificationView};
use hospital_types::{AppointmentId, BillId, EventId, NotificationId, PatientId, Sensitive};
use jiff::Timestamp;

/// A message that an event asks for, before it is known where it goes.
#[derive(Clone, Debug)]
pub(crate) struct Message {
    pub(crate) id: NotificationId,
    pub(crate) event: EventId,
    pub(crate) kind: NotificationKind,
    pub(crate) patient: PatientId,
    pub(crate) appointment: Option<AppointmentId>,
    pub(crate) bill: Option<BillId>,
    pub(crate) subject: String,
    pub(crate) body: String,
}

/// A message as it stands.
#[derive(Clone, Debug)]
pub(crate) struct Delivery {
    pub(crate) message: Message,
    pub(crate) version: i32,
    pub(crate) channel: String,
    pub(crate) recipient: Option<Sensitive<String>>,
    pub(crate) status: NotificationStatus,
    pub(crate) attempts: i32,
    pub(crate) created_at: Timestamp,
    pub(crate) sent_at: Option<Timestamp>,
}

impl Delivery {
    pub(crate) fn view(&self) -> NotificationView {
        let message = &self.message;
        NotificationView {
            id: message.id,
            version: self.version,
            patient_id: message.patient,
            appointment_id: message.appointment,
            bill_id: message.bill,
            kind: message.kind,
            channel: self.channel.clone(),
            recipient: self.recipient.as_ref().map(|r| mask(r.expose())),
            subject: message.subject.clone(),
            body: message.body.clone(),
            status: self.status,
            attempts: self.attempts,
            event_id: message.event,
            created_at: self.created_at,
            sent_at: self.sent_at,
        }
    }
}

/// An address that its owner recognises and nobody else learns: `zoe@mail.example.org` as `z***@m***.org`.
fn mask(address: &str) -> String {
    let first = |text: &str| text.chars().next().map(String::from).unwrap_or_default();
    let (local, domain) = address.rsplit_once('@').unwrap_or((address, ""));
    let end = domain.rsplit('.').next().unwrap_or_default();
    format!("{}***@{}***.{end}", first(local), first(domain))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_masked_address_gives_nothing_away() {
        assert_eq!(mask("zoe.mueller@mail.example.org"), "z***@m***.org");
        assert_eq!(mask("x@y.z"), "x***@y***.z");
    }
}
