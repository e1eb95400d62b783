//! Every event as it has ever been published, to the byte. A file here is never changed and never removed: consumers replay the past.
//! An addition to an event is a new file, `<topic>.<n>.json`.

#![cfg(test)]

use std::{collections::BTreeSet, path::PathBuf};

use hospital_contracts::{
    CloudEvent, DomainEvent, EventError, PUBLISHERS, TOPICS,
    appointment::{
        AppointmentArrived, AppointmentBooked, AppointmentCancelled, AppointmentCheckedIn,
        AppointmentCompleted, AppointmentFacts, AppointmentNoShow, AppointmentRescheduled,
        CancelledBy,
    },
    billing::{
        BillCancelled, BillFacts, BillGenerated, PaymentCompleted, PaymentFacts, PaymentFailed,
        PaymentMethod,
    },
    patient::{PatientFacts, PatientRegistered, PatientStatus, PatientUpdated},
};
use hospital_types::{Currency, Money};
use serde_json::Value;

fn id<K>(last: u8) -> hospital_types::Id<K> {
    format!("018f4c5e-0000-7000-8000-0000000000{last:02x}").parse().unwrap()
}

fn appointment(version: i32) -> AppointmentFacts {
    AppointmentFacts {
        appointment_id: id(1),
        version,
        patient_id: id(2),
        practitioner_id: id(3),
        start: "2030-05-17T13:30:00Z".parse().unwrap(),
        end: "2030-05-17T14:00:00Z".parse().unwrap(),
        service_type: "general-consultation".to_owned(),
        back_dated: false,
    }
}

fn bill(number: Option<&str>) -> BillFacts {
    BillFacts {
        bill_id: id(4),
        version: 2,
        number: number.map(ToOwned::to_owned),
        appointment_id: id(1),
        patient_id: id(2),
        total: Money::from_minor(12_550, Currency::USD),
        back_dated: false,
    }
}

fn payment(method: PaymentMethod) -> PaymentFacts {
    PaymentFacts {
        payment_id: id(5),
        bill_id: id(4),
        version: 3,
        appointment_id: id(1),
        patient_id: id(2),
        amount: Money::from_minor(5_000, Currency::USD),
        method,
        outstanding: Money::from_minor(7_550, Currency::USD),
        back_dated: true,
    }
}

const fn patient(
    version: i32,
    status: PatientStatus,
    patient_id: hospital_types::PatientId,
) -> PatientFacts {
    PatientFacts { patient_id, version, status }
}

fn golden_dir() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("golden")
}

/// Asserts that the event is published as its file says, and that the file reads back as the event. `HOSPITAL_WRITE_GOLDEN=1` writes files
/// that are not there yet.
fn check<E: DomainEvent + PartialEq + std::fmt::Debug>(event: &E, seen: &mut BTreeSet<&str>) {
    let path = golden_dir().join(format!("{}.1.json", E::TOPIC));
    let text = format!("{}\n", serde_json::to_string_pretty(event).unwrap());
    if !path.exists() && std::env::var_os("HOSPITAL_WRITE_GOLDEN").is_some() {
        std::fs::write(&path, &text).unwrap();
    }
    let golden =
        std::fs::read_to_string(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    assert_eq!(text, golden, "{}", E::TOPIC);
    let read: E = serde_json::from_str(&golden).unwrap();
    assert_eq!(&read, event, "{}", E::TOPIC);
    let value: Value = serde_json::from_str(&golden).unwrap();
    assert_eq!(value["version"], event.version(), "every event carries its aggregate's version");
    assert!(seen.insert(E::TOPIC), "{} twice", E::TOPIC);
    assert!(TOPICS.contains(&E::TOPIC), "{}", E::TOPIC);
}

#[test]
fn every_event_is_published_as_its_golden_file_says() {
    let mut seen = BTreeSet::new();
    check(&AppointmentBooked(appointment(1)), &mut seen);
    let moved = AppointmentRescheduled {
        facts: appointment(2),
        previous_start: "2030-05-16T08:00:00Z".parse().unwrap(),
        previous_end: "2030-05-16T08:30:00Z".parse().unwrap(),
    };
    check(&moved, &mut seen);
    check(&AppointmentCancelled { facts: appointment(2), by: CancelledBy::Patient }, &mut seen);
    check(&AppointmentArrived(appointment(2)), &mut seen);
    check(&AppointmentCheckedIn(appointment(3)), &mut seen);
    check(&AppointmentCompleted(appointment(4)), &mut seen);
    check(&AppointmentNoShow(appointment(2)), &mut seen);
    check(&BillGenerated(bill(Some("2030-000007"))), &mut seen);
    check(&BillCancelled(bill(None)), &mut seen);
    check(&PaymentCompleted(payment(PaymentMethod::Cash)), &mut seen);
    let failed =
        PaymentFailed { facts: payment(PaymentMethod::Card), code: "card-declined".to_owned() };
    check(&failed, &mut seen);
    check(&PatientRegistered(patient(1, PatientStatus::Active, id(2))), &mut seen);
    check(&PatientUpdated(patient(2, PatientStatus::Inactive, id(2))), &mut seen);

    // Refunds are not made yet; their topic is reserved.
    let unpublished: Vec<&str> = TOPICS.into_iter().filter(|topic| !seen.contains(topic)).collect();
    assert_eq!(unpublished, ["payment.refunded"]);
    let files = std::fs::read_dir(golden_dir()).unwrap().count();
    assert_eq!(files, seen.len(), "every file is an event's");
}

#[test]
fn a_reader_accepts_what_it_does_not_know_and_misses_what_it_needs() {
    let golden = std::fs::read_to_string(golden_dir().join("bill.generated.1.json")).unwrap();
    let whole: Value = serde_json::from_str(&golden).unwrap();
    let read = |value: &Value| serde_json::from_value::<BillGenerated>(value.clone());
    let mut more = whole.clone();
    more["aFieldOfNextYear"] = serde_json::json!({ "deep": [1, 2] });
    assert_eq!(read(&more).unwrap(), read(&whole).unwrap());
    for needed in ["billId", "version", "appointmentId", "patientId", "total"] {
        let mut less = whole.clone();
        less.as_object_mut().unwrap().remove(needed);
        assert!(read(&less).is_err(), "without {needed}");
    }
    for optional in ["number", "backDated"] {
        let mut less = whole.clone();
        less.as_object_mut().unwrap().remove(optional);
        assert!(read(&less).is_ok(), "without {optional}, as it was published before it existed");
    }
}

#[test]
fn only_the_service_that_a_topic_belongs_to_may_be_an_event_s_source() {
    let from = |topic: &str, source: &str| {
        let headers = [
            ("ce_id", "018f4c5e-0000-7000-8000-000000000009"),
            ("ce_type", &format!("{topic}.v1")),
            ("ce_source", source),
        ]
        .map(|(name, value)| (name.to_owned(), value.to_owned()));
        CloudEvent::from_record(topic, &headers, Vec::new())
    };
    for (topic, own) in PUBLISHERS {
        assert!(from(topic, &format!("urn:hospital:{own}")).is_ok(), "{topic}");
        for other in ["patient", "appointment", "billing", "notification", "", "Billing"] {
            let refused = from(topic, &format!("urn:hospital:{other}"));
            let told = matches!(refused, Err(EventError::Source { .. }));
            assert_eq!(told, other != *own, "{topic} from {other}");
        }
        assert!(matches!(from(topic, own), Err(EventError::Source { .. })), "{topic}");
    }
    let why = from("bill.generated", "urn:hospital:notification").unwrap_err().to_string();
    assert!(why.contains("urn:hospital:notification") && why.contains("urn:hospital:billing"));
}

#[test]
fn an_event_of_another_shape_is_told_apart_by_its_type() {
    let headers = |kind: &str| {
        [
            ("ce_id", "018f4c5e-0000-7000-8000-000000000009"),
            ("ce_type", kind),
            ("ce_source", "urn:hospital:billing"),
        ]
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
    };
    let value = serde_json::to_vec(&BillGenerated(bill(None))).unwrap();
    let good =
        CloudEvent::from_record("bill.generated", &headers("bill.generated.v1"), value.clone())
            .unwrap();
    assert_eq!(good.payload::<BillGenerated>().unwrap(), BillGenerated(bill(None)));
    let other =
        CloudEvent::from_record("bill.generated", &headers("bill.generated.v2"), value.clone())
            .unwrap();
    assert!(matches!(other.payload::<BillGenerated>(), Err(EventError::Type { .. })));
    assert!(matches!(
        CloudEvent::from_record("bill.generated", &[], value),
        Err(EventError::Header("ce_id"))
    ));
}
