//! What patients read: when, where, with whom, and how to cancel. Short, calm, and without anything
//! that somebody who reads along should not know.

use hospital_contracts::{
    appointment::{AppointmentFacts, AppointmentRescheduled, CancelledBy},
    billing::{BillFacts, PaymentFacts},
};
use hospital_kit::config::Facility;
use jiff::{Timestamp, tz::TimeZone};

/// Subject and body.
pub(crate) type Text = (String, String);

/// Writes messages in the facility's name and time.
#[derive(Clone)]
pub(crate) struct Writer {
    facility: String,
    zone: TimeZone,
    address: Option<String>,
    phone: Option<String>,
}

impl Writer {
    pub(crate) fn new(facility: &Facility) -> Self {
        let address = facility.address.as_deref().map(|address| {
            let lines = address.lines().map(one_line).filter(|line| !line.is_empty());
            lines.collect::<Vec<_>>().join(", ")
        });
        Self {
            facility: one_line(&facility.name),
            zone: facility.time_zone(),
            address: address.filter(|address| !address.is_empty()),
            phone: facility.phone.as_deref().map(one_line).filter(|phone| !phone.is_empty()),
        }
    }

    fn day_and_time(&self, at: Timestamp) -> String {
        at.to_zoned(self.zone.clone()).strftime("%A %-d %B %Y at %H:%M (%Z)").to_string()
    }

    fn letter(&self, subject: &str, paragraphs: &[&str]) -> Text {
        let phone =
            self.phone.as_ref().map(|phone| format!("\nPhone: {phone}")).unwrap_or_default();
        let said = paragraphs.join("\n\n");
        let body = format!("Hello,\n\n{said}\n\n{}{phone}\n", self.facility);
        (format!("{subject} - {}", self.facility), body)
    }

    /// When, with whom as far as it is known, and where.
    fn details(&self, facts: &AppointmentFacts, practitioner: Option<String>) -> String {
        let with =
            practitioner.map(|name| format!("With: {}\n", one_line(&name))).unwrap_or_default();
        let at = self.address.as_ref().map(|at| format!(", {at}")).unwrap_or_default();
        let when = self.day_and_time(facts.start);
        format!("When: {when}\n{with}Where: {}{at}", self.facility)
    }

    fn how_to_cancel(&self) -> String {
        let call = match &self.phone {
            Some(phone) => format!("call {phone}"),
            None => "call us".to_owned(),
        };
        format!(
            "If you cannot come, please cancel as early as you can, at the latest before it \
             begins: {call}, or cancel it yourself with your patient access."
        )
    }

    pub(crate) fn booked(&self, facts: &AppointmentFacts, practitioner: Option<String>) -> Text {
        self.letter(
            "Your appointment",
            &[
                "Your appointment is booked.",
                &self.details(facts, practitioner),
                &self.how_to_cancel(),
            ],
        )
    }

    pub(crate) fn rescheduled(
        &self,
        event: &AppointmentRescheduled,
        practitioner: Option<String>,
    ) -> Text {
        let before = self.day_and_time(event.previous_start);
        self.letter(
            "Your appointment has been moved",
            &[
                &format!("Your appointment of {before} has been moved. This is the new time:"),
                &self.details(&event.facts, practitioner),
                &self.how_to_cancel(),
            ],
        )
    }

    pub(crate) fn cancelled(
        &self,
        facts: &AppointmentFacts,
        practitioner: Option<String>,
        by: CancelledBy,
    ) -> Text {
        let with =
            practitioner.map(|name| format!(" with {}", one_line(&name))).unwrap_or_default();
        let which = format!("your appointment of {}{with}", self.day_and_time(facts.start));
        let said = match by {
            CancelledBy::Patient => {
                format!("As you asked, {which} is cancelled. You need do nothing more.")
            }
            CancelledBy::Hospital => {
                let call =
                    self.phone.as_ref().map(|phone| format!(": {phone}")).unwrap_or_default();
                format!(
                    "We are sorry: we had to cancel {which}. Please call us for another one{call}."
                )
            }
        };
        self.letter("Your appointment is cancelled", &[&said])
    }

    pub(crate) fn bill_issued(&self, facts: &BillFacts) -> Text {
        let number = facts.number.as_deref().unwrap_or("without number");
        let said = format!("Your bill {number} has been issued. It comes to {}.", facts.total);
        self.letter("Your bill", &[&said])
    }

    pub(crate) fn payment_completed(&self, facts: &PaymentFacts) -> Text {
        let said = format!("Thank you. We have received your payment of {}.", facts.amount);
        let rest = if facts.outstanding.is_zero() {
            "Your bill is paid.".to_owned()
        } else {
            format!("{} remains to be paid.", facts.outstanding)
        };
        self.letter("Your payment", &[&said, &rest])
    }

    pub(crate) fn payment_failed(&self, facts: &PaymentFacts, code: &str) -> Text {
        // One that a person settled was charged with another amount.
        let charged = match code {
            "settled-as-failed" => "What was charged is given back.",
            _ => "Nothing was charged.",
        };
        let said = format!("Your payment of {} did not go through. {charged}", facts.amount);
        let at = self.address.as_ref().map(|at| format!(": {at}")).unwrap_or_default();
        let instead = format!("Please try again, or pay at our desk{at}.");
        self.letter("Your payment did not go through", &[&said, &instead])
    }
}

/// A line break in a name would end a subject's line, or begin another of the letter's own.
fn one_line(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use hospital_types::{AppointmentId, PatientId, PractitionerId};

    use super::*;

    fn facility() -> Facility {
        Facility {
            name: "Sturdy\nMemorial".into(),
            zone: "America/New_York".into(),
            address: Some("211 Park Street\nAttleboro, MA 02703\n".into()),
            phone: Some("+1 508-555-0100".into()),
            ..Facility::default()
        }
    }

    fn facts() -> AppointmentFacts {
        AppointmentFacts {
            appointment_id: AppointmentId::new(),
            version: 1,
            patient_id: PatientId::new(),
            practitioner_id: PractitionerId::new(),
            start: "2030-05-17T13:30:00Z".parse().unwrap(),
            end: "2030-05-17T14:00:00Z".parse().unwrap(),
            service_type: "oncology".into(),
            back_dated: false,
        }
    }

    #[test]
    fn a_booking_says_when_with_whom_where_and_how_to_cancel() {
        let (subject, body) =
            Writer::new(&facility()).booked(&facts(), Some("Grace\r\nHopper".to_owned()));
        assert_eq!(subject, "Your appointment - Sturdy Memorial");
        assert_eq!(
            body,
            "Hello,\n\nYour appointment is booked.\n\n\
             When: Friday 17 May 2030 at 09:30 (EDT)\nWith: Grace Hopper\n\
             Where: Sturdy Memorial, 211 Park Street, Attleboro, MA 02703\n\n\
             If you cannot come, please cancel as early as you can, at the latest before it \
             begins: call +1 508-555-0100, or cancel it yourself with your patient access.\n\nSturdy Memorial\nPhone: +1 508-555-0100\n"
        );
    }

    #[test]
    fn what_is_not_known_is_left_out() {
        let facility = Facility { address: None, phone: Some(" ".into()), ..facility() };
        let (_, body) = Writer::new(&facility).booked(&facts(), None);
        assert_eq!(
            body,
            "Hello,\n\nYour appointment is booked.\n\n\
             When: Friday 17 May 2030 at 09:30 (EDT)\nWhere: Sturdy Memorial\n\n\
             If you cannot come, please cancel as early as you can, at the latest before it \
             begins: call us, or cancel it yourself with your patient access.\n\nSturdy Memorial\n"
        );
    }
}
