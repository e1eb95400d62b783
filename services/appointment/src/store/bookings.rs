//! What bookings write: each statement takes all that are booked together.

use hospital_contracts::appointment::AppointmentStatus;
use hospital_contracts::patient::Identifier;
use hospital_kit::{cause::Cause, db::Tx, sql};
use hospital_types::{AppointmentId, PatientId, Sensitive};
use uuid::Uuid;

use crate::{
    appointment::Appointment,
    own::{Limits, TooMuch},
    refused::{BookingRefused, Taken},
    slot::Slot,
};

/// Locks the time of those who would meet, a day at a time and all in one order, so that a race ends in the exclusion constraint and
/// never in a deadlock. The locks are numbers: should two of them be the same, somebody waits who need not, and no more.
///
/// `own` are the patients whose own bookings are counted: whoever counts them waits for whoever did before.
pub fn lock_times<R>(
    tx: &mut Tx<R>,
    appointments: &[Appointment],
    own: impl Iterator<Item = PatientId>,
) {
    // The complement is the lock of no day that there will be.
    let counts = own.map(|patient| !folded(patient.uuid()));
    let mut locks: Vec<i64> = appointments.iter().flat_map(lock_numbers).chain(counts).collect();
    locks.sort_unstable();
    locks.dedup();
    tx.write(sql!(
        "SELECT count(pg_advisory_xact_lock(l.lock)) FROM unnest($1::bigint[]) AS l (lock)",
        locks
    ));
}

/// Of a record that lasted longer only so many days are locked; the constraint decides about the others as well.
const DAYS_LOCKED_MAX: i64 = 32;
const DAY_S: i64 = 86_400;

/// Folds a resource's id and each day of the slot into one number.
fn lock_numbers(appointment: &Appointment) -> impl Iterator<Item = i64> + use<> {
    let slot = appointment.slot;
    let first = slot.start().as_second().div_euclid(DAY_S);
    let last = (slot.end().as_second() - 1).div_euclid(DAY_S).min(first + DAYS_LOCKED_MAX);
    let resources = [appointment.patient.uuid(), appointment.practitioner.uuid()];
    resources.into_iter().flat_map(move |resource| {
        let folded = folded(resource);
        // An odd factor spreads neighbouring days over the whole range.
        (first..=last)
            .map(move |day| folded ^ day.wrapping_mul(0x9E37_79B9_7F4A_7C15_u64.cast_signed()))
    })
}

fn folded(id: Uuid) -> i64 {
    let (high, low) = id.as_u64_pair();
    (high ^ low).cast_signed()
}

/// Queues new appointments, all of them in one statement. Who is refused is for one alone to say: several are tried again one by one.
pub fn insert_appointments<R: From<BookingRefused>>(tx: &mut Tx<R>, appointments: &[Appointment]) {
    let now = tx.now();
    tx.write(sql!(
        "INSERT INTO appointment (id, version, patient_id, practitioner_id, starts_at, ends_at, status, service_type, reason,
                                  back_dated, created_at, updated_at)
         SELECT a.id, a.version, a.patient_id, a.practitioner_id, a.starts_at, a.ends_at, a.status, a.service_type, a.reason,
                a.back_dated, $11::timestamptz, $11::timestamptz
         FROM unnest($1::uuid[], $2::integer[], $3::uuid[], $4::uuid[], $5::timestamptz[], $6::timestamptz[], $7::text[], $8::text[],
                     $9::text[], $10::boolean[])
              AS a (id, version, patient_id, practitioner_id, starts_at, ends_at, status, service_type, reason, back_dated)",
        each(appointments, |a| a.id),
        each(appointments, |a| a.version),
        each(appointments, |a| a.patient),
        each(appointments, |a| a.practitioner),
        each(appointments, |a| a.slot.start()),
        each(appointments, |a| a.slot.end()),
        each(appointments, |a| a.status.as_str()),
        each(appointments, |a| a.service_type.clone()),
        each(appointments, |a| a.reason.clone().map(Sensitive::into_exposed)),
        each(appointments, |a| a.back_dated),
        now,
    ))
    .refuse_on("appointment_practitioner_known", BookingRefused::PractitionerUnknown.into());
}

/// Notes of appointments that patients booked themselves, or made longer, how many such ones each patient now has ahead and how long those
/// last. Whether that is too much is for the constraints to say.
pub fn count_own<R>(
    tx: &mut Tx<R>,
    own: &[(&Appointment, Limits)],
    too_much: impl Fn(TooMuch) -> R,
) {
    // The limits are the settings' and so the same for all.
    let Some((_, limits)) = own.first() else { return };
    let (bookings, hours) = (limits.bookings_max, limits.hours_max);
    let now = tx.now();
    tx.write(sql!(
        "INSERT INTO own_booking (appointment_id, bookings, bookings_max, booked, booked_max)
         SELECT o.id, ahead.bookings, $4::integer, ahead.booked, make_interval(hours => $5::integer)
         FROM unnest($1::uuid[], $2::uuid[]) AS o (id, patient_id) CROSS JOIN LATERAL (
             SELECT count(*) AS bookings, sum(a.ends_at - a.starts_at) AS booked
             FROM appointment a
             WHERE a.patient_id = o.patient_id AND a.ends_at > $3
               AND a.status IN ('waitlisted', 'held', 'booked', 'arrived', 'checked-in')
               AND (a.id = ANY ($1) OR EXISTS (SELECT FROM own_booking b WHERE b.appointment_id = a.id))
         ) AS ahead
         ON CONFLICT (appointment_id) DO UPDATE
         SET bookings = excluded.bookings, bookings_max = excluded.bookings_max, booked = excluded.booked,
             booked_max = excluded.booked_max",
        each(own, |(a, _)| a.id),
        each(own, |(a, _)| a.patient),
        now,
        i32::from(bookings),
        i32::from(hours),
    ))
    .refuse_on("own_booking_few", too_much(TooMuch::Bookings { max: bookings }))
    .refuse_on("own_booking_short", too_much(TooMuch::Hours { max: hours }));
}

fn each<T, V>(of: &[T], value: impl Fn(&T) -> V) -> Vec<V> {
    of.iter().map(value).collect()
}

pub fn insert_appointment_identifiers<R: From<BookingRefused>>(
    tx: &mut Tx<R>,
    appointments: &[Appointment],
) {
    let wanted: Vec<(AppointmentId, &Identifier)> = appointments
        .iter()
        .flat_map(|a| a.identifiers.iter().map(|identifier| (a.id, identifier)))
        .collect();
    if wanted.is_empty() {
        return;
    }
    // In one order for everybody: an identifier that another transaction has just inserted is waited for.
    tx.write(sql!(
        "INSERT INTO appointment_identifier (system, value, appointment_id)
         SELECT i.system, i.value, i.appointment_id FROM unnest($1::text[], $2::text[], $3::uuid[]) AS i (system, value, appointment_id)
         ORDER BY 1, 2",
        each(&wanted, |(_, i)| i.system.clone()),
        each(&wanted, |(_, i)| i.value.clone()),
        each(&wanted, |(id, _)| *id),
    ))
    .refuse_on(
        "appointment_identifier_once",
        BookingRefused::IdentifierTaken {
            wanted: wanted.iter().map(|(_, identifier)| (*identifier).clone()).collect(),
            holder: None,
        }
        .into(),
    );
}

/// Takes up the time of those who meet, a row for each of them in each year. `taken` is the refusal of the first whose time is not free.
pub fn insert_reservations<R>(
    tx: &mut Tx<R>,
    appointments: &[Appointment],
    taken: impl Fn(Box<Taken>) -> R,
) {
    let Some(first) = appointments.first() else { return };
    let rows: Vec<(&Appointment, Uuid, Slot)> = appointments
        .iter()
        .flat_map(|a| a.slot.by_year().map(move |part| (a, part)))
        .flat_map(|(a, part)| [(a, a.practitioner.uuid(), part), (a, a.patient.uuid(), part)])
        .collect();
    tx.write(sql!(
        "INSERT INTO reservation (appointment_id, resource_id, during)
         SELECT r.appointment_id, r.resource_id, tstzrange(r.starts_at, r.ends_at)
         FROM unnest($1::uuid[], $2::uuid[], $3::timestamptz[], $4::timestamptz[])
              AS r (appointment_id, resource_id, starts_at, ends_at)",
        each(&rows, |(a, ..)| a.id),
        each(&rows, |(_, resource, _)| *resource),
        each(&rows, |(.., part)| part.start()),
        each(&rows, |(.., part)| part.end()),
    ))
    .refuse_on("reservation_no_overlap", taken(first.taken()));
}

/// The first step of the history of appointments, each with who booked it.
pub fn insert_first_steps<R>(tx: &mut Tx<R>, booked: &[(&Appointment, &Cause)]) {
    let now = tx.now();
    tx.write(sql!(
        "INSERT INTO history (appointment_id, version, at, actor, to_status, starts_at, ends_at)
         SELECT b.id, b.version, $6::timestamptz, b.actor, $7::text, b.starts_at, b.ends_at
         FROM unnest($1::uuid[], $2::integer[], $3::text[], $4::timestamptz[], $5::timestamptz[])
              AS b (id, version, actor, starts_at, ends_at)",
        each(booked, |(a, _)| a.id),
        each(booked, |(a, _)| a.version),
        each(booked, |(_, cause)| cause.actor.subject.clone()),
        each(booked, |(a, _)| a.slot.start()),
        each(booked, |(a, _)| a.slot.end()),
        now,
        AppointmentStatus::Booked.as_str(),
    ));
}
