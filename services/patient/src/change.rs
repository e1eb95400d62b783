//! Changes a patient: what is known of it, or whether it can be booked.

use hospital_contracts::patient::{PatientFacts, PatientStatus, PatientUpdated};
use hospital_kit::{cause::Cause, db::Tx, http::IfMatch, outbox, outcome::Outcome};
use hospital_types::{PatientId, Sensitive};

use crate::{
    patient::{Demographics, Patient},
    refused::ChangeRefused,
    store,
};

/// Replaces what is known of a patient by what `change` makes of it: whoever gets a name is no
/// longer unidentified. Changing nothing changes nothing: no version, no event.
pub(crate) async fn update(
    tx: &mut Tx<ChangeRefused>,
    cause: &Cause,
    id: PatientId,
    seen: IfMatch,
    change: impl FnOnce(Demographics) -> Demographics,
) -> Outcome<Patient, ChangeRefused> {
    let mut patient = locked(tx, id, seen).await?;
    let before = patient.demographics.clone();
    patient.demographics = change(before.clone());
    let after = &patient.demographics;
    if *after == before {
        return Ok(patient);
    }
    if after.unidentified() && after.temporary_name.is_none() {
        return Err(ChangeRefused::NameMissing.into());
    }
    store::update_demographics(tx, &patient);
    let entered = after.names() != before.names() || after.birth != before.birth;
    if entered {
        store::replace_names(tx, &patient);
    }
    if after.identifiers != before.identifiers {
        store::replace_identifiers(tx, &patient);
    }
    changed(tx, cause, &mut patient, "demographics", None, entered);
    Ok(patient)
}

/// Makes a patient bookable or not.
pub(crate) async fn set_status(
    tx: &mut Tx<ChangeRefused>,
    cause: &Cause,
    id: PatientId,
    seen: IfMatch,
    to: PatientStatus,
    reason: &Sensitive<String>,
) -> Outcome<Patient, ChangeRefused> {
    let mut patient = locked(tx, id, seen).await?;
    if patient.status == to {
        return Err(ChangeRefused::InvalidTransition { from: patient.status, to }.into());
    }
    patient.status = to;
    let change = match to {
        PatientStatus::Active => "reactivated",
        PatientStatus::Inactive => "deactivated",
    };
    store::replace_names(tx, &patient);
    changed(tx, cause, &mut patient, change, Some(reason), true);
    Ok(patient)
}

async fn locked(
    tx: &mut Tx<ChangeRefused>,
    id: PatientId,
    seen: IfMatch,
) -> Outcome<Patient, ChangeRefused> {
    let patient = store::for_update(tx, id).await?.ok_or(ChangeRefused::Unknown)?;
    if !seen.allows(patient.version) {
        return Err(ChangeRefused::Stale { version: patient.version }.into());
    }
    Ok(patient)
}

fn changed(
    tx: &mut Tx<ChangeRefused>,
    cause: &Cause,
    patient: &mut Patient,
    change: &'static str,
    reason: Option<&Sensitive<String>>,
    entered: bool,
) {
    patient.version += 1;
    patient.updated_at = tx.now();
    store::update_version(tx, patient, entered);
    store::insert_history(tx, cause, patient, change, reason);
    let facts =
        PatientFacts { patient_id: patient.id, version: patient.version, status: patient.status };
    outbox::append(tx, cause, &PatientUpdated(facts));
}
