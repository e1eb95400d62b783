//! Registers a patient.

use hospital_contracts::patient::{PatientFacts, PatientRegistered, PatientStatus};
use hospital_kit::{cause::Cause, db::Tx, outbox, outcome::Outcome};
use hospital_types::{PatientId, Sensitive};

use crate::{
    duplicate::{Candidate, likelihood},
    patient::{Demographics, Patient},
    refused::{RegisterRefused, Taken},
    store,
    unidentified::temporary_name,
};

pub(crate) struct Register {
    pub(crate) demographics: Demographics,
    /// The caller has looked and says that it is somebody else.
    pub(crate) accept_duplicate: bool,
}

/// Registers a patient, unless somebody much like it is here already. Accepting duplicates reads
/// nothing and is one round trip. Whoever has no name is called by a temporary one, and is like
/// nobody.
pub(crate) async fn register(
    tx: &mut Tx<RegisterRefused>,
    cause: &Cause,
    mut cmd: Register,
) -> Outcome<Patient, RegisterRefused> {
    if cmd.demographics.unidentified() {
        cmd.demographics.temporary_name = Some(Sensitive::new(free_name(tx).await?));
    } else if !cmd.accept_duplicate {
        refuse_duplicate(tx, &cmd.demographics).await?;
    }
    let patient = Patient {
        id: PatientId::new(),
        version: 1,
        status: PatientStatus::Active,
        demographics: cmd.demographics,
        created_at: tx.now(),
        updated_at: tx.now(),
    };
    store::insert(tx, &patient);
    store::insert_history(tx, cause, &patient, "registered", None);
    let facts = PatientFacts { patient_id: patient.id, version: 1, status: patient.status };
    outbox::append(tx, cause, &PatientRegistered(facts));
    Ok(patient)
}

/// A name that nobody has who is not identified. All names are given before one is given again, so
/// the first is free unless somebody stays unidentified for tens of thousands of others.
async fn free_name(tx: &mut Tx<RegisterRefused>) -> Outcome<String, RegisterRefused> {
    loop {
        let name = temporary_name(store::next_temporary(tx).await?);
        if !store::is_called(tx, &name).await? {
            return Ok(name);
        }
    }
}

async fn refuse_duplicate(
    tx: &mut Tx<RegisterRefused>,
    demographics: &Demographics,
) -> Outcome<(), RegisterRefused> {
    let own = demographics.likeness();
    let alike = store::alike(tx, demographics).await?;
    // Who has the identifier is who is meant, however alike others are.
    if let Some(same) = alike.iter().find(|other| other.has_identifier) {
        let taken = Taken::of(&demographics.identifiers, None);
        let taken = Taken { owner: Some(same.id), ..taken };
        return Err(RegisterRefused::IdentifierTaken(taken).into());
    }
    let mut candidates: Vec<Candidate> = alike
        .iter()
        .filter_map(|other| {
            Some(Candidate { id: other.id, score: likelihood(&own, &other.likeness)? })
        })
        .collect();
    candidates.sort_by_key(|c| std::cmp::Reverse(c.score));
    candidates.truncate(5);
    if candidates.is_empty() {
        Ok(())
    } else {
        Err(RegisterRefused::PossibleDuplicate(candidates).into())
    }
}
