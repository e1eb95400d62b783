use hospital_appointment::{
    advance::{Advance, Visit, advance},
    book::{Book, book},
    cancel::{Cancel, cancel},
    own::Limits,
    patient_check::Standing,
    refused::{BookingRefused, StepRefused},
    reschedule::{Reschedule, reschedule},
    slot::Slot,
};
use hospital_contracts::appointment::CancelledBy;
use hospital_kit::{cause::Cause, db::Tx, exactly, outcome::Failure};
use hospital_types::{AppointmentId, PatientId, PractitionerId, Sensitive};
use jiff::{ToSpan, tz::TimeZone};

use crate::desk::{Desk, at};

/// How many round trips a use case has taken before the one that commits.
const BOOKING: u32 = 0;
const STEP: u32 = 1;

async fn booking(desk: &Desk, own: Option<Limits>) -> Book {
    Book {
        patient: desk.patients.active(),
        standing: Standing::Active,
        practitioner: desk.practitioner().await,
        slot: Slot::stored(at("10:00"), at("10:30")),
        service_type: "visit".to_owned(),
        reason: None,
        back_dated: false,
        identifiers: Vec::new(),
        own,
    }
}

#[tokio::test]
async fn a_booking_is_one_flight_and_every_other_step_two() {
    let desk = Desk::open().await;
    let limits = Limits { bookings_max: 20, hours_max: 24 };
    let cmd = booking(&desk, Some(limits)).await;
    let cause = Cause::system("test");
    let (booked, flights) = desk
        .db
        .write("test", async |tx: &mut Tx<BookingRefused>| {
            let booked = book(tx, &[(&cmd, &cause)]).pop().unwrap();
            Ok((booked, tx.flights()))
        })
        .await
        .unwrap();
    assert_eq!(flights, BOOKING);
    let id = booked.id;

    let (_, flights) = desk
        .db
        .write("test", async |tx: &mut Tx<StepRefused>| {
            let slot = Slot::stored(at("11:00"), at("12:00"));
            let cmd = Reschedule { id, seen_version: None, slot, own: cmd.own };
            let moved = reschedule(tx, &cause, &cmd).await?;
            Ok((moved, tx.flights()))
        })
        .await
        .unwrap();
    assert_eq!(flights, STEP);

    let (_, flights) = desk
        .db
        .write("test", async |tx: &mut Tx<StepRefused>| {
            let zone = TimeZone::UTC;
            let cmd = Advance { id, seen_version: None, visit: Visit::Arrive, zone };
            Ok((advance(tx, &cause, &cmd).await?, tx.flights()))
        })
        .await
        .unwrap();
    assert_eq!(flights, STEP);

    let (cancelled, flights) = desk
        .db
        .write("test", async |tx: &mut Tx<StepRefused>| {
            let reason = Sensitive::new("left".to_owned());
            let cmd = Cancel { id, seen_version: None, by: CancelledBy::Patient, reason };
            Ok((cancel(tx, &cause, &cmd).await?, tx.flights()))
        })
        .await
        .unwrap();
    assert_eq!((flights, cancelled.version), (STEP, 4));
}

#[tokio::test]
async fn what_is_refused_without_looking_is_refused_before_anything_is_sent() {
    let now = at("10:00");
    let cmd = |standing, start| Book {
        patient: PatientId::new(),
        standing,
        practitioner: PractitionerId::new(),
        slot: Slot::stored(start, start + 30.minutes()),
        service_type: "visit".to_owned(),
        reason: None,
        back_dated: false,
        identifiers: Vec::new(),
        own: None,
    };
    for (standing, start, expected) in [
        (Standing::Active, now, Ok(())),
        (Standing::Active, now - 1.second(), Err(BookingRefused::StartInThePast)),
        (Standing::Inactive, now, Err(BookingRefused::PatientInactive)),
        (Standing::Unknown, now, Err(BookingRefused::PatientUnknown)),
    ] {
        assert_eq!(cmd(standing, start).check(now), expected);
    }
}

/// Why a hold does not become a booking: a refusal that a booking's is a part of.
#[derive(Debug)]
enum ConfirmRefused {
    HoldGone,
    Booking(BookingRefused),
}

impl From<BookingRefused> for ConfirmRefused {
    fn from(refused: BookingRefused) -> Self {
        Self::Booking(refused)
    }
}

#[tokio::test]
async fn a_booking_within_another_command_is_refused_in_the_words_of_that_command() {
    let desk = Desk::open().await;
    let cmd = booking(&desk, None).await;
    let cause = Cause::system("test");
    let confirm = |hold: Option<AppointmentId>| {
        let (desk, cmd, cause) = (&desk, &cmd, &cause);
        desk.db.write("test", async move |tx: &mut Tx<ConfirmRefused>| {
            if let Some(hold) = hold {
                tx.write(exactly!(
                    1,
                    "hold_is_open",
                    "UPDATE appointment SET version = version + 1 WHERE id = $1 AND status = 'held'",
                    hold
                ))
                .refuse_on("hold_is_open", ConfirmRefused::HoldGone);
            }
            let booked = book(tx, &[(cmd, cause)]).pop().unwrap();
            Ok((booked.id, tx.flights()))
        })
    };
    let gone = confirm(Some(AppointmentId::new())).await;
    assert!(matches!(gone, Err(Failure::Refused(ConfirmRefused::HoldGone))), "{gone:?}");
    let (_, flights) = confirm(None).await.unwrap();
    assert_eq!(flights, BOOKING);
    let taken = confirm(None).await;
    let Err(Failure::Refused(ConfirmRefused::Booking(refused))) = taken else {
        panic!("{taken:?}")
    };
    assert!(matches!(refused, BookingRefused::SlotUnavailable(_)), "{refused:?}");
}
