//! What patients read. Short, calm, and without anything that somebody who reads along should not know.

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
}

impl Writer {
    pub(crate) fn new(facility: &Facility) -> Self {
        // A line break in the name would end a subject's line.
        let name = facility.name.split_whitespace().collect::<Vec<_>>().join(" ");
        Self { facility: name, zone: facility.time_zone() }
    }

    fn day_and_time(&self, at: Timestamp) -> String {
        at.to_zoned(self.zone.clone()).strftime("%A %-d %B %Y at %H:%M (%Z)").to_string()
    }

    fn letter(&self, subject: &str, paragraphs: &[&str]) -> Text {
        let body = format!("Hello,\n\n{}\n\n{}\n", paragraphs.join("\n\n"), self.facility);
        (format!("{subject} - {}", self.facility), body)
    }

    pub(crate) fn booked(&self, facts: &AppointmentFacts) -> Text {
        let when = format!("Your appointment is booked for {}.", self.day_and_time(facts.start));
        self.letter(
            "Your appointment",
            &[&when, "If you cannot come, please tell us in good time."],
        )
    }

    pub(crate) fn rescheduled(&self, event: &AppointmentRescheduled) -> Text {
        let when = format!(
            "Your appointment of {} has been moved to {}.",
            self.day_and_time(event.previous_start),
            self.day_and_time(event.facts.start)
        );
        self.letter("Your appointment has been moved", &[&when])
    }

    pub(crate) fn cancelled(&self, facts: &AppointmentFacts, by: CancelledBy) -> Text {
        let when = self.day_and_time(facts.start);
        let said = match by {
            CancelledBy::Patient => {
                format!("As you asked, your appointment of {when} is cancelled.")
            }
            CancelledBy::Hospital => {
                format!(
                    "We are sorry: we had to cancel your appointment of {when}. Please call us for another one."
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
        self.letter(
            "Your payment did not go through",
            &[&said, "Please try again, or pay at our desk."],
        )
    }
}

#[cfg(test)]
mod tests {
    use hospital_types::{AppointmentId, PatientId, PractitionerId};

    use super::*;

    #[test]
    fn times_are_the_facilitys_and_nothing_clinical_is_said() {
        let facility = Facility {
            name: "Sturdy\nMemorial".into(),
            zone: "America/New_York".into(),
            ..Facility::default()
        };
        let facts = AppointmentFacts {
            appointment_id: AppointmentId::new(),
            version: 1,
            patient_id: PatientId::new(),
            practitioner_id: PractitionerId::new(),
            start: "2030-05-17T13:30:00Z".parse().unwrap(),
            end: "2030-05-17T14:00:00Z".parse().unwrap(),
            service_type: "oncology".into(),
            back_dated: false,
        };
        let (subject, body) = Writer::new(&facility).booked(&facts);
        assert_eq!(subject, "Your appointment - Sturdy Memorial");
        assert!(body.contains("Friday 17 May 2030 at 09:30 (EDT)"), "{body}");
        assert!(!body.contains("oncology"));
    }
}
